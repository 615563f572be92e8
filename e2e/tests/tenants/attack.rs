//! The attack, and what must not have come of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use kube::api::{DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, Error};
use serde_json::{Value, json};
use wayleave_e2e::operator::{IDENTITY_NAMESPACE, NAMESPACE, SERVICE_ACCOUNT};
use wayleave_e2e::tenant::{api, condition, create, text};
use wayleave_e2e::{ControlPlane, Mark, Operator, install, progress};

use crate::answers;
use crate::attacker::{ATTACKER, Attacker, KINDS, Outcome, Twin, rule};
use crate::hostile::{Hostile, texts};
use crate::victim::{self, CANARY, NAMESPACES, Victim, everything, list};

/// All that an attacker can read, and what is made for it.
const READ: [&str; 8] = [
    "AccessGrant",
    "PartnerIntegration",
    "AccessDecision",
    "Secret",
    "Role",
    "RoleBinding",
    "ServiceAccount",
    "Event",
];

/// What an attacker learns by an answer that depends on whether the victim has something of the name.
fn tellings(
    outcomes: &[Outcome],
    judged: &BTreeMap<(String, String), Value>,
    hostile: &[Hostile],
) -> Result<(usize, Vec<String>)> {
    let mut names: Vec<&str> = hostile.iter().map(|it| it.text.as_str()).collect();
    names.extend(hostile.iter().filter_map(|it| it.nothing.as_deref()));
    names.sort_unstable_by_key(|name| std::cmp::Reverse(name.len()));
    let mut by_twin: BTreeMap<Twin, [Option<Option<Value>>; 2]> = BTreeMap::new();
    for Outcome { attempt, name } in outcomes {
        let Some(twin) = attempt.twin() else { continue };
        let answer = match name {
            None if attempt.is_nothing => None,
            None => continue,
            // Whoever names it as an owner is asking the garbage collector.
            Some(name) => match judged.get(&(attempt.kind.to_owned(), name.clone())) {
                Some(object) => Some(answers::of(object, &names)),
                None if attempt.place.0.contains("ownerReferences") => continue,
                None => bail!("{} {name} is gone", attempt.kind),
            },
        };
        let [one, other] = by_twin.entry(twin).or_default();
        (if attempt.is_nothing { other } else { one }).get_or_insert(answer);
    }
    let mut compared = 0;
    let mut told = Vec::new();
    for ((kind, place, _, nothing), twins) in by_twin {
        let [Some(one), Some(other)] = twins else {
            // The garbage collector may have taken one of the two, and be about to take the other.
            ensure!(
                place.contains("ownerReferences"),
                "{kind} {place} = {nothing} has nothing to be compared with"
            );
            continue;
        };
        compared += 1;
        if one != other {
            let shown = |answer: Option<Value>| answer.map_or_else(|| "refused".to_owned(), |it| it.to_string());
            told.push(format!(
                "{kind} {place} ({nothing}):\n  {}\n  {}",
                shown(one),
                shown(other)
            ));
        }
    }
    Ok((compared, told))
}

/// By the digest no namespace that is named looks like another, whether it is there or not: were those that are not there left
/// out of it, they would all look alike. Gives how many were named.
fn digests_tell_nothing(outcomes: &[Outcome], judged: &BTreeMap<(String, String), Value>) -> Result<usize> {
    let mut by_namespace: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let reaching = outcomes
        .iter()
        .filter(|it| it.attempt.kind == "AccessGrant" && it.attempt.place.0 == "spec.access[].namespaces[]");
    for Outcome { attempt, name } in reaching {
        let Some(name) = name else { continue };
        let Some(grant) = judged.get(&(attempt.kind.to_owned(), name.clone())) else {
            bail!("{name} is gone");
        };
        let hash = text(&grant["status"]["digestSections"]["targetNamespaces"]);
        ensure!(!hash.is_empty(), "{}", grant["status"]);
        let named = text(&attempt.object["spec"]["access"][0]["namespaces"][0]);
        by_namespace.entry(named).or_default().insert(hash);
    }
    for named in [NAMESPACES[0], NAMESPACES[1], "nobody", "nobody-quiet"] {
        ensure!(
            by_namespace.contains_key(named),
            "nobody named {named}: {:?}",
            by_namespace.keys()
        );
    }
    let several: Vec<_> = by_namespace.iter().filter(|(_, hashes)| hashes.len() != 1).collect();
    ensure!(several.is_empty(), "one namespace looks like several: {several:?}");
    let looks: BTreeSet<&String> = by_namespace.values().flatten().collect();
    ensure!(looks.len() == by_namespace.len(), "some look alike: {by_namespace:?}");
    Ok(looks.len())
}

/// Where the victim's texts or tokens stand among what the attacker can read.
async fn leaks(root: &Client, victim: &Victim) -> Result<(usize, Vec<String>)> {
    let parts: Vec<&str> = victim
        .tokens
        .iter()
        .flat_map(|token| token.split('.').skip(1))
        .collect();
    let (mut read, mut found) = (0, Vec::new());
    for namespace in [ATTACKER, IDENTITY_NAMESPACE] {
        for kind in READ {
            for object in list(root, kind, namespace).await? {
                let of = text(&object["metadata"]["annotations"]["wayleave.dev/grant"]);
                if namespace != ATTACKER && !of.starts_with(&format!("{ATTACKER}/")) {
                    continue;
                }
                read += 1;
                let all = object.to_string();
                if all.contains(CANARY) || parts.iter().any(|part| all.contains(part)) {
                    found.push(format!("{kind} {namespace}/{}", text(&object["metadata"]["name"])));
                }
            }
        }
    }
    Ok((read, found))
}

/// The attacker has no right where it has none, whatever it names.
async fn has_no_way_in(attacker: &Attacker<'_>) -> Result<()> {
    for who in [&attacker.mallory, &attacker.marvin] {
        for (kind, _) in KINDS {
            let theirs = api(who, kind, NAMESPACES[0]);
            let object: DynamicObject = serde_json::from_value(json!({
                "apiVersion": "wayleave.dev/v1alpha1", "kind": kind, "metadata": {"name": "x"},
                "spec": attacker.baselines(kind).await?[0]["spec"],
            }))?;
            let answers = [
                theirs.create(&PostParams::default(), &object).await.err(),
                theirs.get(victim::GRANT).await.err(),
                theirs.list(&ListParams::default()).await.err(),
            ];
            for answer in answers {
                ensure!(
                    matches!(&answer, Some(Error::Api(status)) if status.code == 403),
                    "{kind}: {answer:?}"
                );
            }
        }
    }
    // What is written into a status is dropped, and so is who wrote it there: it says what is to be taken away.
    let children = [json!({"kind": "RoleBinding", "namespace": NAMESPACES[0], "name": "x", "uid": "x"})];
    let object = json!({"spec": attacker.grant(json!([rule("configmaps", "feed")])), "status": {"children": children}});
    let made = create(&attacker.mallory, "AccessGrant", ATTACKER, "with-status", object).await?;
    ensure!(made.get("status").is_none(), "{}", made["status"]);
    let status = json!({"status": {"children": children}});
    let patch = Patch::Merge(&status);
    let grants = api(&attacker.mallory, "AccessGrant", ATTACKER);
    let answer = grants
        .patch_status("with-status", &PatchParams::default(), &patch)
        .await
        .err();
    ensure!(
        matches!(&answer, Some(Error::Api(status)) if status.code == 403),
        "{answer:?}"
    );
    Ok(())
}

#[tokio::test]
async fn nothing_of_another_tenant_is_read_touched_or_told() -> Result<()> {
    let begun = Instant::now();
    let cp = ControlPlane::start().await?;
    install(&cp).await?;
    let operator = Operator::ready(&cp).await?;
    let victim = Victim::new(&cp).await?;
    let attacker = Attacker::new(&cp).await?;
    let root = &attacker.tenant.root;
    let hostile = texts(&victim);
    let attempts = attacker.attempts(&hostile).await?;
    let before = everything(root).await?;
    ensure!(
        before.values().any(|it| it.to_string().contains(CANARY)) && before.len() > 50,
        "{}",
        before.len()
    );
    let mark = cp.audit()?.mark()?;
    progress(&format!("{} attempts, after {:?}", attempts.len(), begun.elapsed()));

    has_no_way_in(&attacker).await?;
    // Namesakes of the victim's objects come last: what names these is to find nothing before.
    let (last, first): (Vec<_>, Vec<_>) = attempts.into_iter().partition(|it| it.place.0 == "metadata.name");
    let mut outcomes = attacker.write_all(first).await?;
    let hanging = attacker.hang_grants_on(&outcomes).await?;
    progress(&format!("written after {:?}", begun.elapsed()));
    let mut judged = attacker.wait_judged().await?;
    let changed = attacker.change(&outcomes).await?;
    ensure!(changed > 10, "{changed} changes were let through");
    outcomes.extend(attacker.write_all(last).await?);
    for (key, object) in attacker.wait_judged().await? {
        judged.entry(key).or_insert(object);
    }
    let issued = judged
        .values()
        .filter(|it| condition(it, "Active")["reason"] == "Issued")
        .count();
    let through = outcomes.iter().filter(|it| it.name.is_some()).count();
    let refused = outcomes.len() - through;
    let places: BTreeSet<_> = outcomes.iter().map(|it| (it.attempt.kind, &it.attempt.place)).collect();
    progress(&format!(
        "{} places, {} texts, {} attempts: {through} let through, {refused} refused; {} objects judged, {issued} grants \
         issued, {hanging} of them on hostile integrations; {changed} sound objects made hostile; after {:?}",
        places.len(),
        hostile.len(),
        outcomes.len(),
        judged.len(),
        begun.elapsed(),
    ));
    ensure!(through > 0 && refused > 0 && issued > 0);

    let (compared, told) = tellings(&outcomes, &judged, &hostile)?;
    ensure!(
        told.is_empty() && compared > 0,
        "{} of {compared} answers tell of the victim:\n{}",
        told.len(),
        told.join("\n")
    );
    let named = digests_tell_nothing(&outcomes, &judged)?;
    let (read, leaked) = leaks(root, &victim).await?;
    ensure!(
        leaked.is_empty() && read > judged.len(),
        "the victim's words stand in: {}",
        leaked.join(", ")
    );
    let after = everything(root).await?;
    let changed: Vec<&String> = before
        .keys()
        .chain(after.keys())
        .filter(|key| before.get(*key) != after.get(*key))
        .collect();
    ensure!(changed.is_empty(), "changed: {changed:?}");

    // A watch is recorded when it ends.
    operator.stop().await?;
    let user = format!("system:serviceaccount:{NAMESPACE}:{SERVICE_ACCOUNT}");
    let audit = cp.audit()?;
    let calls = audit.since(mark)?.by_user(&user);
    let own = calls
        .iter()
        .filter(|it| it.object_ref.as_ref().is_some_and(|it| it.namespace == ATTACKER))
        .count();
    let naming: Vec<String> = calls
        .iter()
        .filter(|it| victim.is_named_by(it))
        .map(ToString::to_string)
        .collect();
    ensure!(naming.is_empty(), "the operator called: {}", naming.join("; "));
    let earlier = audit.since(Mark::default())?.by_user(&user);
    let earlier = earlier.iter().filter(|it| victim.is_named_by(it)).count();
    ensure!(
        own > judged.len() / 2 && earlier > 10,
        "{own} and {earlier} calls: what was looked for can't be found"
    );
    progress(&format!(
        "{compared} answers compared, {named} namespaces look different, {read} objects read, {} of the victim unchanged, {} calls of the operator, after {:?}",
        after.len(),
        calls.len(),
        begun.elapsed(),
    ));
    Ok(())
}
