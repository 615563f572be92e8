//! `explain`, `check` and `digest` of the plugin against the real API server and operator, by the people who need them.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use wayleave_e2e::plugin::{Plugin, has};
use wayleave_e2e::tenant::{CAROL, DAVE, LIMIT, Partner, condition, create, in_seconds, merge, text};
use wayleave_e2e::tools::Tool;
use wayleave_e2e::{ControlPlane, InstallOptions, Operator, Output, Tenant, eventually, install_with};

#[path = "explain/delegates.rs"]
mod delegates;

/// The namespace of the GitOps controller.
const GITOPS: &str = "gitops";
/// The user that writes for others.
const DELEGATE: &str = "system:serviceaccount:gitops:applier";
const RBAC: &str = "rbac.authorization.k8s.io";

struct Cluster {
    cp: ControlPlane,
    _operator: Operator,
}

async fn cluster() -> Result<&'static Cluster> {
    static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
    let start = || async {
        let cp = ControlPlane::start().await?;
        let ceiling = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]}]);
        let options = InstallOptions {
            values: json!({
                "replicas": 0, "ceiling": {"rules": ceiling}, "admission": {"delegates": {"requests": [DELEGATE]}},
            }),
            ..InstallOptions::default()
        };
        install_with(&cp, options).await?;
        let operator = Operator::ready(&cp).await?;
        Ok(Cluster {
            cp,
            _operator: operator,
        })
    };
    CLUSTER.get_or_try_init(start).await
}

/// Somebody with the plugin.
struct User(Plugin<'static>);

impl User {
    async fn new(name: &str, groups: &[&str]) -> Result<Self> {
        Ok(Self(Plugin::of(&cluster().await?.cp, name, groups).await?))
    }

    async fn run(&self, words: &[&str], code: i32) -> Result<Output> {
        self.0.exits(words, code).await
    }

    async fn json(&self, words: &[&str], code: i32) -> Result<Value> {
        let output = self.run(&[words, &["-o", "json"]].concat(), code).await?;
        serde_json::from_str(&output.stdout).with_context(|| output.stdout.clone())
    }

    fn file(&self, name: &str, objects: &[Value]) -> Result<()> {
        write(&self.0.folder().join(name), objects)
    }
}

/// Runs a tool that ends with a code.
async fn ended(tool: Tool, code: i32) -> Result<Output> {
    let output = tool.run().await?;
    ensure!(output.status.code() == Some(code), "not {code}: {output:?}");
    Ok(output)
}

/// A file of YAML documents: each is one of JSON, which is YAML too.
fn write(path: &Path, objects: &[Value]) -> Result<()> {
    let documents: Vec<String> = objects.iter().map(ToString::to_string).collect();
    Ok(std::fs::write(path, documents.join("\n---\n"))?)
}

fn grant(ns: &str, name: &str, spec: Value) -> Value {
    let metadata = json!({"name": name, "namespace": ns});
    json!({"apiVersion": "wayleave.dev/v1alpha1", "kind": "AccessGrant", "metadata": metadata, "spec": spec})
}

/// An object of the cluster as somebody keeps it in Git.
fn kept(object: &Value) -> Value {
    let metadata = &object["metadata"];
    json!({
        "apiVersion": object["apiVersion"], "kind": object["kind"], "spec": object["spec"],
        "metadata": {"name": metadata["name"], "namespace": metadata["namespace"], "labels": metadata["labels"]},
    })
}

/// Carol may read policies, owners, namespaces and ClusterRoles.
async fn carol_may_ask(tenant: &Tenant<'_>) -> Result<()> {
    let binding = json!({
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": "wayleave-explainer"},
        "subjects": [{"apiGroup": RBAC, "kind": "User", "name": CAROL}],
    });
    create(
        &tenant.root,
        "ClusterRoleBinding",
        "",
        &format!("{}-explainers", tenant.ns),
        binding,
    )
    .await?;
    Ok(())
}

async fn carol_may_not_ask(tenant: &Tenant<'_>) -> Result<()> {
    tenant
        .delete("ClusterRoleBinding", "", &format!("{}-explainers", tenant.ns))
        .await
}

/// What refuses a grant, of the points of its policies and of those asked always.
fn refusals(explanation: &Value) -> Vec<(String, String)> {
    let mut lists: Vec<&Value> = vec![&explanation["always"], &explanation["together"]["points"]];
    lists.extend(
        explanation["policies"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|it| &it["points"]),
    );
    let points = lists.into_iter().filter_map(Value::as_array).flatten();
    let refused = points.filter(|it| it["permitted"] == false && it["name"] != "namespaceSelector");
    let mut found: Vec<(String, String)> = refused.map(|it| (text(&it["refusal"]), text(&it["change"]))).collect();
    found.sort();
    found.dedup();
    found
}

// One test, since what carol may read of the cluster is carol's everywhere.
#[tokio::test]
async fn a_requester_is_told_what_to_change_and_then_it_is_permitted() -> Result<()> {
    let tenant = Tenant::new(&cluster().await?.cp, "explain-refused").await?;
    let ns = tenant.ns.as_str();
    let carol = User::new(CAROL, &[]).await?;
    let rules = json!([{"apiGroups": [""], "resources": ["services"], "verbs": ["get"]}]);
    let wrong = json!({"access": [{"rules": rules}], "expiresAt": in_seconds(100 * 86_400)});
    tenant.grant("reader", wrong).await?;
    let refused = tenant.wait_reason("reader", "NotPermitted").await?;
    let explain = ["explain", "reader", "-n", ns];

    // Without the right to read policies: that is said, and what the operator says.
    let partly = carol.run(&explain, 0).await?.stdout;
    has(
        &partly,
        &[
            "grant explain-refused/reader of integration acme (Acme Corp)",
            "now: can't be told",
            "status: NotPermitted",
            "spec.access[0].rules[0]: get services not within access.rules",
            "incomplete: listing policies: ",
            "is forbidden",
            "what the policies say is not known",
            "incomplete: listing owners: ",
        ],
    )?;

    carol_may_ask(&tenant).await?;
    let told = eventually("carol to be let in", LIMIT, || async {
        let told = carol.json(&explain, 0).await?;
        Ok((told["incomplete"] == json!([])).then_some(told))
    })
    .await?;
    ensure!(
        told["verdict"]["reason"] == "NotPermitted" && told["status"]["current"] == true,
        "{told}"
    );
    // What is decided now is what the operator decided, word for word.
    let reasons = told["verdict"]["reasons"].as_array().context("no reasons")?;
    let words: Vec<String> = reasons.iter().map(|it| text(&it["message"])).collect();
    let said = text(&condition(&refused, "Active")["message"]);
    ensure!(said == words.join("; "), "{said} is not {words:?}");
    let refusals = refusals(&told);
    ensure!(refusals.len() == 2, "{refusals:?}");
    let others: Vec<&Value> = told["policies"].as_array().into_iter().flatten().collect();
    ensure!(
        others
            .iter()
            .any(|it| it["name"] == ns && it["selects"] == true && it["met"] == false),
        "{told}"
    );

    // She does what it says.
    let change = |field: &str| {
        let found = refusals.iter().find(|(words, _)| words.starts_with(field));
        found
            .map(|(_, change)| change.clone())
            .with_context(|| format!("{field} in {refusals:?}"))
    };
    let end = change("spec.expiresAt")?;
    let end = end
        .strip_prefix("set spec.expiresAt to ")
        .and_then(|it| it.strip_suffix(" or earlier"));
    let end = end.context("no date is named")?;
    ensure!(change("spec.access[0].rules[0]")?.starts_with("take get services out of spec.access[0].rules[0]"));
    let access = tenant.grant_spec()["access"].clone();
    let mended = json!({"spec": {"expiresAt": end, "access": access}});
    tenant
        .patch_as(&tenant.carol, "AccessGrant", ns, "reader", mended)
        .await?;
    tenant.wait_reason("reader", "AwaitingApproval").await?;
    let text = carol.run(&explain, 0).await?.stdout;
    has(
        &text,
        &[
            "now: AwaitingApproval",
            "approvals: 1 approval of security asked for",
            "policy explain-refused: permits it",
            "ok  limits.duration ",
        ],
    )?;

    // What counts, and what doesn't, and why.
    tenant.approve("reader", json!({})).await?;
    let issued = tenant.wait_reason("reader", "Issued").await?;
    tenant
        .decide(
            "AccessGrant",
            "reader",
            "Approve",
            json!({
                "subject": {"uid": issued["metadata"]["uid"]}, "digest": format!("sha256:{}", "0".repeat(64)),
            }),
        )
        .await?;
    let told = carol.run(&explain, 0).await?.stdout;
    has(
        &told,
        &[
            "now: Issued, until ",
            "ok  reader-approve-",
            &format!(" by {DAVE}"),
            "does not count: it is of another digest",
        ],
    )?;

    checked_before_it_is_applied(&tenant, &carol).await?;
    carol_may_not_ask(&tenant).await
}

/// What `check` says is what the operator says afterwards; and the same without any cluster.
async fn checked_before_it_is_applied(tenant: &Tenant<'_>, carol: &User) -> Result<()> {
    let ns = tenant.ns.as_str();
    let good = grant(ns, "good", tenant.grant_spec());
    let mut spec = tenant.grant_spec();
    merge(
        &mut spec,
        json!({
            "access": [{"clusterRoleRef": {"name": "view"}}], "startsAt": in_seconds(3_600), "expiresAt": in_seconds(200 * 86_400),
        }),
    );
    spec["access"] = json!([
        {"clusterRoleRef": {"name": "view"}},
        {"rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}], "namespaces": ["default"]},
    ]);
    let bad = grant(ns, "bad", spec);
    carol.file("good.yaml", std::slice::from_ref(&good))?;
    carol.file("both.yaml", &[good.clone(), bad.clone()])?;

    let text_of = |value: &Value| text(&value["answer"]);
    let permitted = carol.json(&["check", "-f", "good.yaml", "-n", ns], 0).await?;
    ensure!(text_of(&permitted["grants"][0]) == "permitted", "{permitted}");
    ensure!(
        permitted["grants"][0]["asksFor"] == "1 approval of security",
        "{permitted}"
    );
    let checked = carol.json(&["check", "-f", "both.yaml", "-n", ns], 1).await?;
    let of = |name: &str| {
        let mut all = checked["grants"].as_array().into_iter().flatten();
        all.find(|it| it["grant"] == name).cloned().unwrap_or_default()
    };
    ensure!(
        text_of(&of("good")) == "permitted" && text_of(&of("bad")) == "refused",
        "{checked}"
    );
    let failing: Vec<String> = of("bad")["failing"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|it| text(&it["refusal"]))
        .collect();
    ensure!(failing.len() >= 4, "{failing:?}");

    // Who may see the bindings is told of enrolment too, but of a namespace that no policy opens nothing is said to anybody.
    let cp = &cluster().await?.cp;
    let root = User(Plugin::with(cp, cp.admin_kubeconfig()).await?);
    root.file("both.yaml", &[good.clone(), bad.clone()])?;
    let seen = root.run(&["check", "-f", "both.yaml", "-n", ns], 1).await?.stdout;
    has(
        &seen,
        &["no  access.targetNamespaces", &format!("{ns}/good: permitted by {ns}")],
    )?;
    ensure!(!seen.contains("enrolled"), "{seen}");
    let open = async |namespaces: Value| {
        let policy = json!({"spec": {"access": {"targetNamespaces": namespaces}}});
        tenant.patch_as(&tenant.root, "AccessPolicy", "", ns, policy).await
    };
    open(json!({"matchLabels": {"kubernetes.io/metadata.name": "default"}})).await?;
    let seen = root.run(&["check", "-f", "both.yaml", "-n", ns], 1).await?.stdout;
    has(&seen, &["no  NotEnrolled", "namespace default is not enrolled"])?;
    open(json!(null)).await?;
    ensure!(!seen.contains("incomplete"), "{seen}");

    // Bad input, and no cluster.
    carol.file("broken.yaml", &[grant(ns, "broken", json!({"expires": "soon"}))])?;
    let broken = carol.run(&["check", "-f", "broken.yaml", "-n", ns], 2).await?.stderr;
    has(
        &broken,
        &[
            "error: broken.yaml: document 1, line 1: AccessGrant broken: ",
            "spec.expires: unknown field",
        ],
    )?;
    carol
        .run(&["check", "-f", "good.yaml", "--kubeconfig", "/nowhere"], 2)
        .await?;

    for object in [&good, &bad] {
        let spec = json!({"spec": object["spec"]});
        create(
            &tenant.carol,
            "AccessGrant",
            ns,
            &text(&object["metadata"]["name"]),
            spec,
        )
        .await?;
    }
    tenant.wait_reason("good", "AwaitingApproval").await?;
    // Nobody let the operator into the namespace `default` either, but that is not said of a namespace that no policy opens.
    let bad = tenant.wait_reason("bad", "NotPermitted").await?;
    let said = text(&condition(&bad, "Active")["message"]);
    ensure!(!said.contains("enrolled"), "{said}");
    ensure!(said.contains(&failing.join("; ")), "{said} does not hold {failing:?}");
    without_any_cluster(tenant, carol, &failing).await
}

/// A CI job: the policies and ClusterRoles in files, and no kubeconfig.
async fn without_any_cluster(tenant: &Tenant<'_>, carol: &User, failing: &[String]) -> Result<()> {
    let ns = tenant.ns.as_str();
    let get = |kind: &'static str, namespace: &'static str, name: String| async move {
        let found = wayleave_e2e::tenant::api(&tenant.root, kind, namespace)
            .get(&name)
            .await?;
        anyhow::Ok(serde_json::to_value(found)?)
    };
    let policy = get("AccessPolicy", "", ns.to_owned()).await?;
    let role = get("ClusterRole", "", "view".to_owned()).await?;
    let integration = wayleave_e2e::tenant::api(&tenant.root, "PartnerIntegration", ns)
        .get("acme")
        .await?;
    let integration = kept(&serde_json::to_value(integration)?);
    let ci = tempfile::tempdir()?;
    std::fs::copy(carol.0.folder().join("both.yaml"), ci.path().join("both.yaml"))?;
    write(&ci.path().join("policies.yaml"), &[kept(&policy), role])?;
    write(&ci.path().join("acme.yaml"), &[integration])?;
    let words = [
        "check",
        "-f",
        "acme.yaml",
        "-f",
        "both.yaml",
        "--policies",
        "policies.yaml",
        "-n",
        ns,
        "--namespace-labels",
        &format!("{ns}=tenant={ns}"),
        "--namespace-labels",
        "default=kubernetes.io/metadata.name=default",
        "-o",
        "json",
    ];
    let job = Tool::new(carol.0.program())
        .args(words)
        .dir(ci.path())
        .env("KUBECONFIG", ci.path().join("none"))
        .env("HOME", ci.path());
    let output = ended(job, 1).await?;
    let checked: Value = serde_json::from_str(&output.stdout)?;
    let bad = &checked["grants"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|it| it["grant"] == "bad")
        .cloned()
        .unwrap_or_default();
    let told: Vec<String> = bad["failing"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|it| text(&it["refusal"]))
        .collect();
    ensure!(told == failing, "{told:?} is not {failing:?}");
    Ok(())
}

/// A partner who reads all the time.
struct Reading {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<Result<usize>>,
}

impl Reading {
    fn of(partner: Partner) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let mut answers = 0;
            let mut pace = tokio::time::interval(Duration::from_millis(10));
            while !stopped.load(Ordering::SeqCst) {
                let code = partner.read().await?;
                ensure!(code == 200, "answered with {code} after {answers} answers");
                answers += 1;
                pace.tick().await;
            }
            Ok(answers)
        });
        Self { stop, task }
    }

    async fn done(self) -> Result<usize> {
        self.stop.store(true, Ordering::SeqCst);
        self.task.await?
    }
}

/// What the digest has in place of a namespace that is not there is the operator's to know: its word is taken, and where there is
/// none the UID is asked for.
#[tokio::test]
async fn the_digest_of_a_namespace_that_is_not_there_is_taken_from_the_status() -> Result<()> {
    let tenant = Tenant::new(&cluster().await?.cp, "explain-absent").await?;
    let ns = tenant.ns.as_str();
    let root = User::new("root@corp.example", &["system:masters"]).await?;
    let mut access = tenant.grant_spec()["access"].clone();
    access[0]["namespaces"] = json!([ns, "nobody"]);
    let more = json!({"access": access, "credential": {"token": {"delivery": "Private"}}});
    tenant.grant("reader", more).await?;
    let grant = tenant.wait_reason("reader", "NotPermitted").await?;
    root.file("now.yaml", &[kept(&grant)])?;
    let same = root.run(&["digest", "-f", "now.yaml", "-n", ns], 0).await?.stdout;
    has(&same, &[&text(&grant["status"]["digest"]), "as in the cluster"])?;
    let mut coming = kept(&grant);
    coming["metadata"]["name"] = json!("another");
    root.file("new.yaml", &[coming])?;
    let said = root.run(&["digest", "-f", "new.yaml", "-n", ns], 1).await?.stderr;
    has(&said, &["there is no namespace nobody", "--namespace-uid nobody=UID"])?;
    let given = [
        "digest",
        "-f",
        "new.yaml",
        "-n",
        ns,
        "--namespace-uid",
        "nobody=0b5e55ed-0000-4000-8000-00000000dead",
    ];
    root.run(&given, 0).await?;
    Ok(())
}

#[tokio::test]
async fn a_change_approved_before_it_is_merged_leaves_no_gap() -> Result<()> {
    let tenant = Tenant::new(&cluster().await?.cp, "explain-digest").await?;
    let ns = tenant.ns.as_str();
    let dave = User::new(DAVE, &["security"]).await?;
    let partner = tenant.live("reader", json!({"ticket": "CHG-1"})).await?;
    let before = tenant.get_grant("reader").await?;
    let reading = Reading::of(partner);

    // As it stands.
    dave.file("now.yaml", &[kept(&before)])?;
    let now = dave.run(&["digest", "-f", "now.yaml", "-n", ns], 0).await?.stdout;
    has(
        &now,
        &[
            &format!("{ns}/reader {}", text(&before["status"]["digest"])),
            "as in the cluster",
        ],
    )?;

    // A later end and another ticket.
    let mut coming = kept(&before);
    coming["spec"]["ticket"] = json!("CHG-2");
    coming["spec"]["expiresAt"] = json!(in_seconds(10_800));
    coming["spec"]["requestedBy"] = Value::Null;
    dave.file("next.yaml", std::slice::from_ref(&coming))?;
    let next = dave
        .json(&["digest", "-f", "next.yaml", "-n", ns, "--sections"], 0)
        .await?;
    let digest = text(&next["grants"][0]["digest"]);
    ensure!(next["grants"][0]["changed"] == json!(["expiresAt", "ticket"]), "{next}");

    let zeros = format!("sha256:{}", "0".repeat(64));
    let approve = [
        "approve",
        "reader",
        "-n",
        ns,
        "--reason",
        "a longer term",
        "--yes",
        "-f",
        "next.yaml",
        "--digest",
    ];
    let said = dave.run(&[&approve[..], &[&zeros]].concat(), 1).await?.stderr;
    has(
        &said,
        &["not approved: what the files hold has the digest ", &digest, &zeros],
    )?;
    let said = dave.run(&[&approve[..], &[&digest]].concat(), 0).await?.stderr;
    has(
        &said,
        &[
            "what is PROPOSED, and not what stands in the cluster now",
            "ticket      CHG-2",
            &format!("asked by    {CAROL}"),
            "changes     expiresAt, ticket",
        ],
    )?;

    every_decision_is_told(&tenant).await?;
    // Merged by whoever asked for it.
    let merged = json!({"spec": {"ticket": "CHG-2", "expiresAt": coming["spec"]["expiresAt"]}});
    tenant
        .patch_as(&tenant.carol, "AccessGrant", ns, "reader", merged)
        .await?;
    let after = issued_with(&tenant, &digest).await?;
    ensure!(
        after["status"]["identity"]["activation"] == before["status"]["identity"]["activation"],
        "{after}"
    );

    // A handover of owners, by its digest alone: the content is not known where it is approved.
    tenant.owner("grace").await?;
    let integration = wayleave_e2e::tenant::api(&tenant.root, "PartnerIntegration", ns)
        .get("acme")
        .await?;
    let mut integration = kept(&serde_json::to_value(integration)?);
    integration["spec"]["owners"]["technicalRef"]["name"] = json!(tenant.owner_name("grace"));
    dave.file("owners.yaml", &[integration.clone(), kept(&after)])?;
    let next = dave.json(&["digest", "-f", "owners.yaml", "-n", ns], 0).await?;
    ensure!(next["grants"][0]["changed"] == json!(["owners"]), "{next}");
    let digest = text(&next["grants"][0]["digest"]);
    // What is decided within one second has no order.
    wayleave_e2e::tenant::next_second().await;
    let blind = [
        "approve", "reader", "-n", ns, "--reason", "handover", "--yes", "--digest", &digest,
    ];
    let said = dave.run(&blind, 0).await?.stderr;
    has(
        &said,
        &[
            "what is PROPOSED",
            "its content is not known here: give --file to see it",
            &digest,
        ],
    )?;
    every_decision_is_told(&tenant).await?;
    let owners = json!({"spec": {"owners": integration["spec"]["owners"]}});
    tenant
        .patch_as(&tenant.carol, "PartnerIntegration", ns, "acme", owners)
        .await?;
    let last = issued_with(&tenant, &digest).await?;
    ensure!(
        last["status"]["identity"]["activation"] == before["status"]["identity"]["activation"],
        "{last}"
    );

    let answers = reading.done().await?;
    // A few for each change: how many there could be says more about the machine.
    ensure!(answers > 10, "only {answers} answers");
    Ok(())
}

/// Waits until the grant is issued with a digest.
async fn issued_with(tenant: &Tenant<'_>, digest: &str) -> Result<Value> {
    eventually("the change to be taken in", LIMIT, || async {
        let grant = tenant.get_grant("reader").await?;
        let active = condition(&grant, "Active");
        ensure!(grant["status"]["digest"] == digest, "{}", grant["status"]["digest"]);
        ensure!(active["status"] == "True" && active["reason"] == "Issued", "{active}");
        Ok(Some(grant))
    })
    .await
}

/// The operator has read every decision: decisions and what they are about come to it by watches of their own.
async fn every_decision_is_told(tenant: &Tenant<'_>) -> Result<()> {
    eventually("every decision to be told", LIMIT, || async {
        let all = tenant.decisions().await?;
        let told = all.iter().all(|it| it["status"]["conditions"].is_array());
        Ok(told.then_some(()))
    })
    .await
}
