//! What a person sees with the real kubectl: tables and refusals.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::World;

/// Short name, kind, the columns of its table, and those that `-o wide` adds.
const TABLES: [(&str, &str, &str, &str); 6] = [
    (
        "wlp",
        "PartnerIntegration",
        "NAME READY REASON PARTNER OWNERS GRANTS REVIEW ENDS AGE",
        "CLASS AGREEMENT PURPOSE",
    ),
    (
        "wlg",
        "AccessGrant",
        "NAME READY ACTIVE REASON PARTNER ENDS AGE",
        "OWNERS POLICY APPROVER CREDENTIAL SECRET SUBJECT",
    ),
    (
        "wld",
        "AccessDecision",
        "NAME DECISION KIND SUBJECT COUNTED REASON BY UNTIL AGE",
        "WORDS",
    ),
    ("wlpol", "AccessPolicy", "NAME CLASSIFICATIONS ROLES DURATION AGE", ""),
    ("wlo", "AccessOwner", "NAME ACTIVE UNTIL DISPLAYNAME AGE", "EMAIL"),
    ("wlr", "AccessRecord", "NAME PARTNER NAMESPACE GRANT AGE", ""),
];

/// Words with single blanks between them, since kubectl folds lines.
fn unfolded(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

async fn kubectl(world: &World, args: &[&str]) -> Result<String> {
    let tool = world.cp.kubectl(&world.cp.admin_kubeconfig()).await?;
    tool.args(["-n", "default"]).args(args).run().await?.ok()
}

/// Tables by short name, by category, and by field.
pub async fn tables(world: &World) -> Result<()> {
    let titles = |page: &str| unfolded(page.lines().next().unwrap_or_default());
    for (short, kind, plain, wide) in TABLES {
        let page = kubectl(world, &["get", short]).await?;
        ensure!(titles(&page) == plain, "kubectl get {short} ({kind}): {page}");
        let page = kubectl(world, &["get", short, "-o", "wide"]).await?;
        let all: BTreeMap<&str, usize> = count(plain.split(' ').chain(wide.split(' ').filter(|word| !word.is_empty())));
        let shown = titles(&page);
        ensure!(
            count(shown.split(' ')) == all,
            "kubectl get {short} -o wide ({kind}): {page}"
        );
        ensure!(shown.ends_with(" AGE"), "the age is last: {page}");
    }
    let together = kubectl(world, &["get", "wlp,wlg,wld,wlpol,wlo,wlr", "-o", "name"]).await?;
    let category = kubectl(world, &["get", "wayleave", "-o", "name"]).await?;
    let sorted = |page: &str| {
        let mut lines: Vec<String> = page.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    ensure!(sorted(&together) == sorted(&category), "{together} is not {category}");
    for crd in &world.crds {
        let of_kind = format!(
            "{}.{}/",
            crd.spec.names.singular.as_deref().unwrap_or_default(),
            crd.spec.group
        );
        ensure!(
            category.contains(&of_kind),
            "kubectl get wayleave has no {of_kind}: {category}"
        );
    }
    let page = kubectl(world, &["get", "wlg"]).await?;
    ensure!(!page.contains("<invalid>"), "a future instant is no age: {page}");
    for (short, selector, names) in [
        ("wlg", "spec.integrationRef.name=ledgerly", "role rules static"),
        ("wlg", "spec.integrationRef.name=other", ""),
        ("wlp", "spec.partner.id=ledgerly", "ledgerly"),
        ("wlp", "spec.owners.businessRef.name=payments-business", "ledgerly"),
        ("wlp", "spec.owners.technicalRef.name=payments-technical", "ledgerly"),
        ("wlp", "spec.dataClassification=Public", ""),
        ("wld", "spec.subject.kind=PartnerIntegration", "review"),
        ("wld", "spec.subject.name=rules,spec.decision=Deny", "deny"),
        ("wlo", "spec.active=false", "payments-business"),
        (
            "wlr",
            "spec.partner=ledgerly,spec.grant.namespace=payments,spec.grant.name=other",
            "",
        ),
    ] {
        let args = [
            "get",
            short,
            "--field-selector",
            selector,
            "-o",
            "jsonpath={.items[*].metadata.name}",
        ];
        let found = kubectl(world, &args).await?;
        ensure!(
            found.trim() == names,
            "{short} where {selector}: wanted '{names}', got '{found}'"
        );
    }
    Ok(())
}

fn count<'a>(words: impl Iterator<Item = &'a str>) -> BTreeMap<&'a str, usize> {
    words.fold(BTreeMap::new(), |mut all, word| {
        *all.entry(word).or_default() += 1;
        all
    })
}

/// What `kubectl apply` prints: the field and what is allowed, and nothing that does something to the terminal.
pub async fn refusals(world: &World, sound: &[Value]) -> Result<()> {
    for (kind, pointer, value, wanted) in [
        (
            "AccessGrant",
            "/spec/expiresAt",
            json!("tomorrow"),
            "spec.expiresAt: Invalid value: \"tomorrow\": must be an instant in RFC 3339 with its offset, such as 2027-03-01T00:00:00Z, that exists, in the years 1970 to 8999 (UTC)",
        ),
        (
            "AccessGrant",
            "/spec/access/0/rules/0/verbs/0",
            json!("*"),
            "spec.access[0].rules[0].verbs[0]: Invalid value: \"*\": must be a verb by name, such as get or list; wildcards are not allowed",
        ),
        (
            "AccessGrant",
            "/spec/credential/token/delivery",
            json!("Private "),
            "spec.credential.token.delivery: Unsupported value: \"Private \": supported values: \"Namespace\", \"Private\"",
        ),
        (
            "PartnerIntegration",
            "/spec/partner/name",
            json!("Acme\u{1b}[2J\u{202e}Corp"),
            "spec.partner.name: Invalid value: \"Acme\\x1b[2J\\u202eCorp\": must be one line of text without control characters",
        ),
        (
            "PartnerIntegration",
            "/spec/owners/technicalRef/name",
            json!("payments-business"),
            "spec.owners: Invalid value: owners: businessRef and technicalRef must name two different AccessOwners",
        ),
    ] {
        let mut object = sound
            .iter()
            .find(|object| object["kind"] == kind)
            .with_context(|| format!("no sound {kind}"))?
            .clone();
        object["metadata"]["name"] = json!("refused");
        *object
            .pointer_mut(pointer)
            .with_context(|| format!("{kind} has no {pointer}"))? = value;
        let tool = world.cp.kubectl(&world.cp.admin_kubeconfig()).await?;
        let tool = tool.args(["apply", "-n", "default", "-f", "-"]);
        let output = tool.stdin(object.to_string()).run().await?;
        wayleave_e2e::progress(&format!("kubectl apply: {}", output.stderr.trim()));
        ensure!(!output.status.success(), "{kind} {pointer} should be refused");
        ensure!(
            output.stderr.contains(wanted),
            "wanted '{wanted}', got '{}'",
            output.stderr
        );
        let quiet = |char: char| char == '\n' || char == '*' || !(char.is_control() || char == '\u{202e}');
        ensure!(
            output.stderr.chars().all(quiet),
            "raw control characters: {:?}",
            output.stderr
        );
    }
    Ok(())
}
