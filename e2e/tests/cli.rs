//! Every command of the kubectl plugin against the real API server, by named users who hold the chart's roles for people and
//! nothing else.
#![expect(clippy::disallowed_types, reason = "tests drive a real cluster")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tokio::sync::{OnceCell, RwLock};
use wayleave_e2e::plugin::{Plugin, has};
use wayleave_e2e::tenant::{self, CAROL, DAVE, LIMIT, create, text};
use wayleave_e2e::{ControlPlane, InstallOptions, Operator, Tenant, eventually, install_with};

#[path = "cli/auditor.rs"]
mod auditor;
#[path = "cli/certify.rs"]
mod certify;
#[path = "cli/roles.rs"]
mod roles;

const EVE: &str = "eve@corp.example";
const RBAC: &str = "rbac.authorization.k8s.io";
/// What a debugger's form of an answer holds.
const CODE_FORMS: [&str; 4] = ["Status {", "ApiError", "Some(", "StatusDetails"];

struct Cluster {
    cp: ControlPlane,
    operator: Operator,
    /// Held by whoever needs the operator at work; by one alone who stops it for a while.
    at_work: RwLock<()>,
}

async fn cluster() -> Result<&'static Cluster> {
    static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
    let start = || async {
        let cp = ControlPlane::start().await?;
        let ceiling = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]}]);
        let options = InstallOptions {
            values: json!({"replicas": 0, "ceiling": {"rules": ceiling, "clusterRoles": [roles::READER]}}),
            ..InstallOptions::default()
        };
        install_with(&cp, options).await?;
        let operator = Operator::ready(&cp).await?;
        Ok(Cluster {
            cp,
            operator,
            at_work: RwLock::new(()),
        })
    };
    CLUSTER.get_or_try_init(start).await
}

/// Somebody with the plugin, whose complaints are looked at.
struct User(Plugin<'static>);

impl std::ops::Deref for User {
    type Target = Plugin<'static>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl User {
    async fn new(name: &str, groups: &[&str]) -> Result<Self> {
        Ok(Self(Plugin::of(&cluster().await?.cp, name, groups).await?))
    }

    /// Runs a command that fails; gives what it complains about, which holds no form of code and tells nothing twice.
    async fn fails(&self, words: &[&str], code: i32) -> Result<String> {
        let output = self.run(words).await?;
        let said = output.stderr;
        ensure!(
            output.status.code() == Some(code),
            "{}: {:?}",
            output.command,
            output.status
        );
        ensure!(output.stdout.is_empty(), "a result of what failed: {}", output.stdout);
        for form in CODE_FORMS {
            ensure!(!said.contains(form), "{form} in {said}");
        }
        for words in ["is forbidden", "not found", "reading grant"] {
            ensure!(said.matches(words).count() <= 1, "{words} more than once in {said}");
        }
        Ok(said)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }
}

async fn carol() -> Result<User> {
    User::new(CAROL, &[]).await
}

async fn dave() -> Result<User> {
    User::new(DAVE, &["security"]).await
}

async fn eve() -> Result<User> {
    User::new(EVE, &[]).await
}

/// A tenant with one grant that waits for approval.
async fn asked(ns: &str) -> Result<Tenant<'static>> {
    let tenant = Tenant::new(&cluster().await?.cp, ns).await?;
    tenant.grant("reader", json!({"ticket": "CHG-4711"})).await?;
    tenant.wait_reason("reader", "AwaitingApproval").await?;
    Ok(tenant)
}

async fn approve(ns: &str) -> Result<()> {
    let words = ["approve", "reader", "-n", ns, "--reason", "one object", "--yes"];
    dave().await?.works(&words).await.map(drop)
}

/// carol may fetch the credential of the grant, and nothing else.
async fn may_fetch(tenant: &Tenant<'_>, secret: &str) -> Result<()> {
    let rules = json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"], "resourceNames": [secret]}]);
    create(&tenant.root, "Role", &tenant.ns, "receiver", json!({"rules": rules})).await?;
    let binding = json!({
        "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": "receiver"},
        "subjects": [{"apiGroup": RBAC, "kind": "User", "name": CAROL}],
    });
    create(&tenant.root, "RoleBinding", &tenant.ns, "receiver", binding).await?;
    Ok(())
}

fn mode(path: &Path) -> Result<u32> {
    Ok(std::fs::metadata(path)?.permissions().mode() & 0o777)
}

#[tokio::test]
async fn the_version_needs_no_cluster_and_asks_one_when_told_to() -> Result<()> {
    let eve = eve().await?;
    let plain = eve.works(&["version", "--kubeconfig", "/nowhere"]).await?.stdout;
    ensure!(plain == format!("client: {}\n", env!("CARGO_PKG_VERSION")), "{plain}");
    let both = eve.works(&["version", "--server"]).await?.stdout;
    has(&both, &["client: ", "server: v1."])?;
    let json: Value = serde_json::from_str(&eve.works(&["version", "--server", "-o", "json"]).await?.stdout)?;
    ensure!(
        json["server"].as_str().is_some_and(|it| it.starts_with("v1.")),
        "{json}"
    );
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_reached_is_told_in_a_sentence() -> Result<()> {
    let eve = eve().await?;
    let said = eve.fails(&["list", "--kubeconfig", "/nowhere/config"], 1).await?;
    has(&said, &["error: ", "/nowhere/config"])?;
    let said = eve.fails(&["list", "--context", "nowhere"], 1).await?;
    has(&said, &["nowhere"])?;
    let away =
        std::fs::read_to_string(eve.kubeconfig())?.replace(cluster().await?.cp.server_url(), "https://127.0.0.1:1");
    std::fs::write(eve.file("away"), away)?;
    let said = eve.fails(&["list", "--kubeconfig", "away"], 1).await?;
    has(
        &said,
        &["listing grants", "onnection refused", "hint: ", "kubectl cluster-info"],
    )?;
    ensure!(said.matches("onnection refused").count() == 1, "{said}");
    eve.fails(&["approve", "reader"], 2).await?;
    Ok(())
}

#[tokio::test]
async fn an_approval_shows_all_that_is_approved_and_is_pinned_to_it() -> Result<()> {
    let _working = cluster().await?.at_work.read().await;
    let tenant = asked("cli-approve").await?;
    let ns = tenant.ns.as_str();
    let dave = dave().await?;
    let grant = tenant.get_grant("reader").await?;
    let approve = ["approve", "reader", "-n", ns, "--reason", "one object"];

    let said = dave.fails(&approve, 1).await?;
    has(&said, &["not approved: there is no terminal to ask on; give --yes"])?;
    let with_group = [&approve[..], &["--yes", "--group", "board"]].concat();
    has(&dave.fails(&with_group, 1).await?, &["--group board", DAVE, "security"])?;
    let late = [&approve[..], &["--yes", "--valid-until", "2020-01-01T00:00:00Z"]].concat();
    has(
        &dave.fails(&late, 1).await?,
        &["--valid-until 2020-01-01T00:00:00Z has passed"],
    )?;
    let missing = ["approve", "writer", "-n", ns, "--reason", "one object", "--yes"];
    has(
        &dave.fails(&missing, 1).await?,
        &["no grant writer in namespace cli-approve", "kubectl wayleave list"],
    )?;
    ensure!(tenant.get_grant("reader").await?["status"]["approvals"].is_null());

    let done = dave.works(&[&approve[..], &["--yes"]].concat()).await?;
    let owner = |name: &str| tenant.owner_name(name);
    let (alice, bob) = (owner("alice"), owner("bob"));
    let (digest, ends) = (text(&grant["status"]["digest"]), text(&grant["spec"]["expiresAt"]));
    let shown = [
        format!("approving as {DAVE}:"),
        format!("  grant       {ns}/reader"),
        "  partner     Acme Corp (acme)".to_owned(),
        "  purpose     Reconcile invoices nightly".to_owned(),
        format!("  owners      {alice} (business), {bob} (technical)"),
        "  agreement   CTR-2026-114".to_owned(),
        "  data        Confidential, Production".to_owned(),
        format!("  asked by    {CAROL}"),
        "  ticket      CHG-4711".to_owned(),
        format!("  access      get configmaps (core) named feed in {ns}"),
        "  credential  Token, delivered in the grant's namespace, replaced within 1h".to_owned(),
        format!("  term        now to {ends}"),
        format!("  digest      {digest}"),
    ];
    // Nothing is taken on the operator's word: whoever may approve reads the namespace for himself.
    let seen: Vec<&str> = done.stderr.lines().collect();
    ensure!(seen == shown, "{}", done.stderr);
    let name = done
        .stdout
        .strip_prefix("accessdecision/")
        .context("no decision named")?;
    let name = name
        .strip_suffix(&format!(" created in {ns}\n"))
        .context("no place named")?;
    let decision = tenant::api(&tenant.root, "AccessDecision", ns).get(name).await?;
    let spec = &serde_json::to_value(decision)?["spec"];
    ensure!(
        spec["decidedBy"] == DAVE && spec["submittedBy"] == DAVE && spec["decidedByGroups"] == json!(["security"]),
        "{spec}"
    );
    ensure!(
        spec["digest"] == grant["status"]["digest"] && spec["subject"]["uid"] == grant["metadata"]["uid"],
        "{spec}"
    );
    tenant.wait_reason("reader", "Issued").await?;
    Ok(())
}

#[tokio::test]
async fn who_asked_and_who_has_no_right_are_refused_in_words() -> Result<()> {
    let _working = cluster().await?.at_work.read().await;
    let tenant = asked("cli-refused").await?;
    let ns = tenant.ns.as_str();
    let carol = User::new(CAROL, &["security"]).await?;
    let said = carol
        .fails(&["approve", "reader", "-n", ns, "--reason", "mine", "--yes"], 1)
        .await?;
    has(
        &said,
        &[
            "error: not approved: ",
            CAROL,
            "requested this grant",
            "nobody approves their own request",
        ],
    )?;
    // A member of nothing, who reads and may not decide: the API server says so.
    let carol = self::carol().await?;
    let said = carol.fails(&["deny", "reader", "-n", ns, "--reason", "no"], 1).await?;
    has(
        &said,
        &[
            "did not take the decision to deny cli-refused/reader",
            "is forbidden",
            "hint: ",
            "kubectl auth whoami",
        ],
    )?;
    let eve = eve().await?;
    for words in [
        vec!["approve", "reader", "-n", ns, "--reason", "why not", "--yes"],
        vec!["deny", "reader", "-n", ns, "--reason", "why not"],
        vec!["rotate", "reader", "-n", ns],
        vec!["kubeconfig", "reader", "-n", ns],
        vec!["list", "-n", ns],
        vec!["list", "-A"],
    ] {
        let said = eve.fails(&words, 1).await?;
        has(&said, &["is forbidden", EVE, "hint: ", "kubectl auth whoami"])?;
    }
    // What can't be read can be revoked by its name, by those who may.
    let said = eve.run(&["revoke", "reader", "-n", ns, "--reason", "why not"]).await?;
    ensure!(said.status.code() == Some(1), "{said:?}");
    has(
        &said.stderr,
        &[
            "warning: the grant can't be read",
            "did not take the decision to revoke",
        ],
    )?;
    let decisions = tenant::api(&tenant.root, "AccessDecision", ns);
    ensure!(
        decisions
            .list(&kube::api::ListParams::default())
            .await?
            .items
            .is_empty()
    );
    ensure!(std::fs::read_dir(eve.folder())?.next().is_none(), "a file was made");
    Ok(())
}

#[tokio::test]
async fn what_the_operator_has_not_seen_is_not_approved() -> Result<()> {
    let cluster = cluster().await?;
    let _alone = cluster.at_work.write().await;
    let tenant = asked("cli-digest").await?;
    let dave = dave().await?;
    let approve = ["approve", "reader", "-n", &tenant.ns, "--reason", "one object", "--yes"];
    cluster.operator.pause()?;
    let changed = json!({"spec": {"ticket": "CHG-4712"}});
    let outcome = async {
        tenant
            .patch_as(&tenant.carol, "AccessGrant", &tenant.ns, "reader", changed)
            .await?;
        dave.fails(&approve, 1).await
    }
    .await;
    cluster.operator.resume()?;
    has(
        &outcome?,
        &["not approved: ", "the status says sha256:", "changed sections: ticket"],
    )?;
    eventually("the change to be seen", LIMIT, || async {
        dave.works(&approve).await.map(Some)
    })
    .await?;
    tenant.wait_reason("reader", "Issued").await?;
    Ok(())
}

#[tokio::test]
async fn a_list_answers_who_why_on_whose_word_until_when() -> Result<()> {
    let _working = cluster().await?.at_work.read().await;
    let tenant = asked("cli-list").await?;
    let ns = tenant.ns.as_str();
    approve(ns).await?;
    let grant = tenant.wait_reason("reader", "Issued").await?;
    let dave = dave().await?;
    let listed = dave.works(&["list", "-n", ns]).await?.stdout;
    let lines: Vec<&str> = listed.lines().collect();
    let [header, row] = lines.as_slice() else {
        bail!("not a header and a row: {listed}");
    };
    let columns = |line: &str| {
        line.split("   ")
            .map(str::trim)
            .filter(|it| !it.is_empty())
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    ensure!(
        columns(header)
            == [
                "NAMESPACE",
                "NAME",
                "PARTNER",
                "OWNERS",
                "PURPOSE",
                "APPROVER",
                "STATE",
                "ENDS"
            ],
        "{header}"
    );
    let owners = format!("{}, {}", tenant.owner_name("alice"), tenant.owner_name("bob"));
    let expected = [
        ns,
        "reader",
        "acme",
        &owners,
        "Reconcile invoices nightly",
        DAVE,
        "Issued",
        &text(&grant["spec"]["expiresAt"]),
    ];
    ensure!(columns(row) == expected, "{row}");

    let json: Value = serde_json::from_str(&dave.works(&["list", "-n", ns, "-o", "json"]).await?.stdout)?;
    ensure!(
        json["kind"] == "List" && json["items"][0]["metadata"]["name"] == "reader",
        "{json}"
    );
    ensure!(
        json["items"][0]["kind"] == "AccessGrant",
        "items say their kind: {json}"
    );
    ensure!(json["items"][0]["metadata"]["managedFields"].is_null(), "{json}");
    let yaml = dave.works(&["list", "-n", ns, "-o", "yaml"]).await?.stdout;
    let yaml: Value = serde_saphyr::from_str(&yaml)?;
    ensure!(yaml == json, "the same in YAML");

    has(&dave.fails(&["list", "-A"], 1).await?, &["at the cluster scope"])?;
    let subjects = json!([{"apiGroup": RBAC, "kind": "User", "name": "audrey@corp.example"}]);
    let role = json!({"apiGroup": RBAC, "kind": "ClusterRole", "name": "wayleave-viewer"});
    let viewer = json!({"roleRef": role, "subjects": subjects});
    let viewers = cluster()
        .await?
        .cp
        .kubectl(&cluster().await?.cp.admin_kubeconfig())
        .await?;
    let mut binding = viewer;
    tenant::merge(
        &mut binding,
        json!({"apiVersion": format!("{RBAC}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": "cli-viewers"}}),
    );
    viewers
        .args(["create", "-f", "-"])
        .stdin(binding.to_string())
        .run()
        .await?
        .ok()?;
    let audrey = User::new("audrey@corp.example", &[]).await?;
    let all = eventually("what she is let see", LIMIT, || async {
        audrey.works(&["ls", "-A"]).await.map(Some)
    });
    let all = all.await?.stdout;
    ensure!(all.lines().any(|line| line.starts_with("cli-list ")), "{all}");
    let none = audrey.works(&["list", "-n", "default"]).await?;
    ensure!(
        none.stdout.is_empty() && none.stderr == "no grants in namespace default\n",
        "{none:?}"
    );
    let none: Value = serde_json::from_str(&audrey.works(&["list", "-n", "default", "-o", "json"]).await?.stdout)?;
    ensure!(none["items"] == json!([]), "{none}");
    Ok(())
}

#[tokio::test]
async fn a_no_ends_access_and_says_whose_word_it_was() -> Result<()> {
    let _working = cluster().await?.at_work.read().await;
    let tenant = asked("cli-no").await?;
    let ns = tenant.ns.as_str();
    let dave = dave().await?;
    dave.works(&["deny", "reader", "-n", ns, "--reason", "too broad"])
        .await?;
    let denied = tenant.wait_reason("reader", "Denied").await?;
    has(&denied["status"].to_string(), &["too broad", DAVE])?;
    has(&dave.works(&["list", "-n", ns]).await?.stdout, &["Denied"])?;

    // An approval of the same second does not outdo a no.
    let at = text(&denied["status"]["deniedAt"]);
    eventually("the next second", LIMIT, || async {
        Ok((tenant::in_seconds(0) > at).then_some(()))
    })
    .await?;
    approve(ns).await?;
    tenant.wait_reason("reader", "Issued").await?;
    let partner = tenant.partner("reader").await?;
    let revoke = ["revoke", "reader", "-n", ns, "--reason", "incident 42", "-o", "json"];
    let decision: Value = serde_json::from_str(&dave.works(&revoke).await?.stdout)?;
    partner.refused_since(std::time::Instant::now()).await?;
    ensure!(
        decision["kind"] == "AccessDecision"
            && decision["spec"]["decision"] == "Revoke"
            && decision["spec"]["decidedBy"] == DAVE,
        "{decision}"
    );
    let revoked = tenant.wait_reason("reader", "Revoked").await?;
    let since = text(&tenant::condition(&revoked, "Active")["lastTransitionTime"]);
    let listed = dave.works(&["list", "-n", ns]).await?.stdout;
    has(&listed, &["Revoked", &format!("ended {since}")])?;
    let missing = ["revoke", "writer", "-n", ns, "--reason", "incident 42"];
    has(
        &dave.fails(&missing, 1).await?,
        &["no grant writer in namespace cli-no"],
    )
}

#[tokio::test]
async fn a_kubeconfig_is_saved_for_its_reader_alone_and_never_printed() -> Result<()> {
    let _working = cluster().await?.at_work.read().await;
    let tenant = asked("cli-kubeconfig").await?;
    let ns = tenant.ns.as_str();
    let carol = carol().await?;
    let fetch = ["kubeconfig", "reader", "-n", ns, "-f", "acme.kubeconfig"];
    has(
        &carol.fails(&fetch, 1).await?,
        &[
            "no credential of cli-kubeconfig/reader was delivered",
            "kubectl wayleave list",
        ],
    )?;
    approve(ns).await?;
    let grant = tenant.wait_reason("reader", "Issued").await?;
    let credential = &grant["status"]["credential"];
    let secret = text(&credential["secretName"]);
    has(
        &carol.fails(&fetch, 1).await?,
        &["reading Secret cli-kubeconfig/", "is forbidden", "hint: "],
    )?;
    ensure!(!carol.file("acme.kubeconfig").exists());
    may_fetch(&tenant, &secret).await?;

    let done = eventually("what she is let fetch", LIMIT, || async {
        carol.works(&fetch).await.map(Some)
    });
    let done = done.await?;
    let until = text(&credential["expiresAt"]);
    ensure!(
        done.stdout == format!("saved acme.kubeconfig, good until {until}\n"),
        "{done:?}"
    );
    ensure!(done.stderr.is_empty(), "{done:?}");
    let path = carol.file("acme.kubeconfig");
    ensure!(mode(&path)? == 0o600, "mode {:o}", mode(&path)?);
    let kubectl = cluster().await?.cp.kubectl(&path).await?;
    let read = kubectl.args(["get", "configmap", "feed", "-o", "jsonpath={.data.latest}"]);
    ensure!(read.run().await?.ok()? == "INV-2041");

    std::fs::write(&path, "mine")?;
    has(&carol.fails(&fetch, 1).await?, &["acme.kubeconfig exists", "--force"])?;
    ensure!(std::fs::read_to_string(&path)? == "mine");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644))?;
    let json = carol.works(&[&fetch[..], &["--force", "-o", "json"]].concat()).await?;
    let json: Value = serde_json::from_str(&json.stdout)?;
    ensure!(json == json!({"file": "acme.kubeconfig", "expiresAt": until}), "{json}");
    ensure!(mode(&path)? == 0o600 && std::fs::read_to_string(&path)?.contains("clusters"));
    let printed = ["kubeconfig", "reader", "-n", ns, "-f", "-"];
    has(&carol.fails(&printed, 1).await?, &["never printed"])?;
    carol.works(&["kubeconfig", "reader", "-n", ns]).await?;
    ensure!(mode(&carol.file("reader.kubeconfig"))? == 0o600);
    Ok(())
}

#[tokio::test]
async fn a_rotation_is_asked_for_and_answered() -> Result<()> {
    let _working = cluster().await?.at_work.read().await;
    let tenant = asked("cli-rotate").await?;
    let ns = tenant.ns.as_str();
    approve(ns).await?;
    tenant.wait_reason("reader", "Issued").await?;
    let old = tenant.partner("reader").await?;
    let said = dave().await?.fails(&["rotate", "reader", "-n", ns], 1).await?;
    has(
        &said,
        &["asking for a rotation of cli-rotate/reader", "is forbidden", "hint: "],
    )?;
    let done = carol().await?.works(&["rotate", "reader", "-n", ns]).await?.stdout;
    let at = done.strip_prefix("rotation of cli-rotate/reader requested at ");
    let at = at.with_context(|| done.clone())?.trim();
    eventually("the answer to the request", LIMIT, || async {
        let grant = tenant.get_grant("reader").await?;
        Ok((grant["status"]["lastHandledRotateAt"] == at).then_some(()))
    })
    .await?;
    old.wait_unauthorized().await?;
    ensure!(tenant.partner("reader").await?.read().await? == 200);
    let missing = carol().await?.fails(&["rotate", "writer", "-n", ns], 1).await?;
    has(&missing, &["no grant writer in namespace cli-rotate"])
}
