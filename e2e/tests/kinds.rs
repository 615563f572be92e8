//! What integrations, decisions and events say to whoever looks with kubectl.
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "tests drive a real cluster"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::ListParams;
use wayleave_e2e::{ControlPlane, Operator, eventually, install};

const LIMIT: Duration = Duration::from_secs(30);

/// A cluster with the operator, and the people in it.
struct Stage {
    cp: ControlPlane,
    operator: Operator,
    admin: PathBuf,
    carol: PathBuf,
    dave: PathBuf,
}

impl Stage {
    async fn set() -> Result<Self> {
        let cp = ControlPlane::start().await?;
        install(&cp).await?;
        let admin = cp.admin_kubeconfig();
        let (carol, dave) = (
            cp.user_kubeconfig("carol@corp.example", &[]).await?,
            cp.user_kubeconfig("dave@corp.example", &["security"]).await?,
        );
        let operator = Operator::ready(&cp).await?;
        let stage = Self {
            cp,
            operator,
            admin,
            carol,
            dave,
        };
        stage.apply(&stage.admin, WORLD).await?;
        eventually("carol to hold her rights", LIMIT, || stage.apply(&stage.carol, REQUEST)).await?;
        Ok(stage)
    }

    async fn apply(&self, user: &Path, manifest: &str) -> Result<Option<()>> {
        let kubectl = self.cp.kubectl(user).await?.args(["apply", "-f", "-"]);
        kubectl.stdin(manifest).run().await?.ok()?;
        Ok(Some(()))
    }

    async fn kubectl(&self, user: &Path, args: &[&str]) -> Result<String> {
        let kubectl = self.cp.kubectl(user).await?;
        let out = kubectl.args(["-n", "payments"]).args(args).run().await?.ok()?;
        Ok(out.trim().to_owned())
    }

    async fn field(&self, object: &str, path: &str) -> Result<String> {
        let path = format!("jsonpath={{{path}}}");
        self.kubectl(&self.admin, &["get", object, "-o", &path]).await
    }

    /// A condition of an object: status, reason, message.
    async fn condition(&self, object: &str, kind: &str) -> Result<(String, String, String)> {
        let part = |part: &'static str| format!(".status.conditions[?(@.type==\"{kind}\")].{part}");
        Ok((
            self.field(object, &part("status")).await?,
            self.field(object, &part("reason")).await?,
            self.field(object, &part("message")).await?,
        ))
    }

    /// Waits for a condition's status and reason, and gives its message.
    async fn says(&self, object: &str, kind: &str, status: &str, reason: &str) -> Result<String> {
        eventually(&format!("{object} to be {kind} {status} {reason}"), LIMIT, || async {
            let found = self.condition(object, kind).await?;
            ensure!(found.0 == status && found.1 == reason, "{found:?}");
            Ok(Some(found.2))
        })
        .await
    }

    /// The cells of an object's row, by the titles of the columns; empty where there is nothing to say.
    async fn row(&self, object: &str) -> Result<BTreeMap<String, String>> {
        let table = self.kubectl(&self.admin, &["get", object]).await?;
        let (titles, cells) = table.split_once('\n').context("a table with one row")?;
        let starts: Vec<usize> = titles
            .char_indices()
            .filter(|(at, it)| *it != ' ' && (*at == 0 || titles[..*at].ends_with(' ')))
            .map(|(at, _)| at)
            .collect();
        let ends = starts.iter().skip(1).copied().map(Some).chain([None]);
        let part = |line: &str, start: usize, end: Option<usize>| {
            let end = end.unwrap_or(line.len()).min(line.len());
            line.get(start..end).unwrap_or_default().trim().to_owned()
        };
        let row: BTreeMap<String, String> = starts
            .iter()
            .zip(ends)
            .map(|(start, end)| (part(titles, *start, end), part(cells, *start, end)))
            .collect();
        ensure!(
            row.values().all(|cell| !cell.contains(' ')),
            "a cell has blanks: {table}"
        );
        ensure!(titles.ends_with("AGE"), "{table}");
        Ok(row)
    }

    async fn decide(&self, user: &Path, name: &str, by: &str, spec: &str) -> Result<()> {
        let groups = if by.starts_with("dave") {
            "security"
        } else {
            "system:authenticated"
        };
        let manifest = format!(
            "apiVersion: wayleave.dev/v1alpha1
kind: AccessDecision
metadata: {{name: \"{name}\", namespace: payments}}
spec: {{decidedBy: {by}, submittedBy: {by}, decidedByGroups: [\"{groups}\"], reason: as agreed, {spec}}}
"
        );
        eventually(&format!("{by} to decide {name}"), LIMIT, || self.apply(user, &manifest)).await?;
        Ok(())
    }

    async fn approve(&self, name: &str) -> Result<()> {
        let (uid, digest) = (
            self.field("wlg/reader", ".metadata.uid").await?,
            self.field("wlg/reader", ".status.digest").await?,
        );
        let spec = approval(&uid, &digest);
        self.decide(&self.dave, name, "dave@corp.example", &spec).await
    }

    /// The events about an object, by reason: how many, their type and their note.
    async fn events(&self, kind: &str, name: &str) -> Result<BTreeMap<String, Vec<Event>>> {
        let api: Api<Event> = Api::namespaced(self.cp.admin().await?, "payments");
        let mut found: BTreeMap<String, Vec<Event>> = BTreeMap::new();
        for event in api.list(&ListParams::default()).await?.items {
            let regarding = event.regarding.clone().unwrap_or_default();
            if regarding.kind.as_deref() == Some(kind) && regarding.name.as_deref() == Some(name) {
                found
                    .entry(event.reason.clone().unwrap_or_default())
                    .or_default()
                    .push(event);
            }
        }
        Ok(found)
    }

    /// Waits for an event, which must be there once, and gives it.
    async fn told_once(&self, kind: &str, name: &str, reason: &str) -> Result<Event> {
        let events = eventually(&format!("an event {reason} of {kind} {name}"), LIMIT, || async {
            let mut found = self.events(kind, name).await?;
            let names: Vec<String> = found.keys().cloned().collect();
            Ok(Some(found.remove(reason).with_context(|| format!("only {names:?}"))?))
        })
        .await?;
        let [event] =
            <[Event; 1]>::try_from(events).map_err(|events| anyhow::anyhow!("told more than once: {events:?}"))?;
        ensure!(event.series.is_none(), "told more than once: {event:?}");
        Ok(event)
    }
}

fn approval(uid: &str, digest: &str) -> String {
    format!("decision: Approve, subject: {{kind: AccessGrant, name: reader, uid: {uid}}}, digest: \"{digest}\"")
}

/// Decisions of one second are not told apart: a no wins. So the next is made in another.
async fn next_second() -> Result<()> {
    let begun = jiff::Timestamp::now().as_second();
    eventually("the next second", LIMIT, || async {
        Ok((jiff::Timestamp::now().as_second() > begun).then_some(()))
    })
    .await
}

#[tokio::test]
async fn an_integration_says_whether_it_can_carry_grants() -> Result<()> {
    let stage = Stage::set().await?;
    let message = stage.says("wlp/acme", "Ready", "True", "InForce").await?;
    ensure!(message == "it can carry grants", "{message}");
    ensure!(stage.field("wlp/acme", ".status.observedGeneration").await? == "1");
    ensure!(
        stage.field("wlp/acme", ".metadata.finalizers").await?.is_empty(),
        "no finalizer of ours is on an integration"
    );

    stage.says("wlg/reader", "Active", "False", "AwaitingApproval").await?;
    stage.approve("reader-yes").await?;
    stage.says("wlg/reader", "Active", "True", "Issued").await?;
    eventually("the table to count the grant", LIMIT, || async {
        let table = stage.kubectl(&stage.admin, &["get", "wlp", "ending"]).await?;
        ensure!(table.starts_with("NAME "), "{table}");
        let row = stage.kubectl(&stage.admin, &["get", "wlp", "acme"]).await?;
        Ok(row.contains("1/1").then_some(()))
    })
    .await?;
    let next = stage.field("wlg/reader", ".status.nextReviewAt").await?;
    let row = stage.row("wlp/acme").await?;
    ensure!(!next.is_empty() && row["REVIEW"] == next, "{next} in {row:?}");

    // One with a date, which comes by itself.
    let ends = jiff::Timestamp::now().as_second() + 15;
    let ends = jiff::Timestamp::from_second(ends)?;
    let ending = format!("{{\"spec\":{{\"agreement\":{{\"endsAt\":\"{ends}\"}}}}}}");
    stage
        .kubectl(&stage.carol, &["patch", "wlp", "ending", "--type=merge", "-p", &ending])
        .await?;
    // It was in force before, without a date.
    eventually("the date to be told", LIMIT, || async {
        let message = stage.says("wlp/ending", "Ready", "True", "InForce").await?;
        ensure!(message.ends_with(&ends.to_string()), "{message}");
        Ok(Some(()))
    })
    .await?;
    let row = stage.row("wlp/ending").await?;
    let cell = |title: &str| row.get(title).map(String::as_str).unwrap_or_default();
    ensure!(
        (cell("READY"), cell("REASON"), cell("PARTNER")) == ("True", "InForce", "acme"),
        "{row:?}"
    );
    ensure!(
        (cell("OWNERS"), cell("GRANTS"), cell("ENDS")) == ("alice,bob", "0/0", &ends.to_string()),
        "{row:?}"
    );
    ensure!(cell("REVIEW").is_empty(), "nothing is to be reviewed: {row:?}");
    let message = stage.says("wlp/ending", "Ready", "True", "AgreementEnded").await?;
    ensure!(
        message.contains("CTR-2") && message.contains("spec.agreement.endsAt"),
        "{message}"
    );
    let late = jiff::Timestamp::now().as_second() - ends.as_second();
    ensure!(late <= 8, "said {late} s late");
    ensure!(
        stage.condition("wlp/ending", "Stalled").await?.0.is_empty(),
        "an end is no fault"
    );

    let suspend = [
        "patch",
        "wlp",
        "ending",
        "--type=merge",
        "-p",
        "{\"spec\":{\"suspend\":true,\"agreement\":{\"endsAt\":null}}}",
    ];
    stage.kubectl(&stage.carol, &suspend).await?;
    stage.says("wlp/ending", "Ready", "True", "Suspended").await?;

    // What changes in its spec reaches its grants; it is settled, and lets them begin again.
    let suspended = |suspend: bool| format!("{{\"spec\":{{\"suspend\":{suspend}}}}}");
    let acme = ["patch", "wlp", "acme", "--type=merge", "-p"];
    let kubectl = async |suspend: bool| {
        let patch = suspended(suspend);
        let args: Vec<&str> = acme.into_iter().chain([patch.as_str()]).collect();
        stage.kubectl(&stage.carol, &args).await
    };
    kubectl(true).await?;
    stage.says("wlp/acme", "Ready", "True", "Suspended").await?;
    stage
        .says("wlg/reader", "Active", "False", "IntegrationSuspended")
        .await?;
    kubectl(false).await?;
    stage.says("wlp/acme", "Ready", "True", "InForce").await?;
    stage.says("wlg/reader", "Active", "True", "Issued").await?;

    // An owner goes.
    let inactive = [
        "patch",
        "accessowner",
        "bob",
        "--type=merge",
        "-p",
        "{\"spec\":{\"active\":false}}",
    ];
    stage.kubectl(&stage.admin, &inactive).await?;
    let message = stage.says("wlp/acme", "Ready", "False", "OwnerRemoved").await?;
    ensure!(
        message.contains("AccessOwner bob is inactive") && message.contains("spec.owners"),
        "{message}"
    );
    stage.says("wlp/acme", "Stalled", "True", "OwnerRemoved").await?;
    stage.says("wlg/reader", "Active", "False", "OwnerRemoved").await?;
    eventually("the table to count no grant in use", LIMIT, || async {
        let row = stage.kubectl(&stage.admin, &["get", "wlp", "acme"]).await?;
        Ok(row.contains("0/1").then_some(()))
    })
    .await?;
    let told = stage.told_once("PartnerIntegration", "acme", "OwnerRemoved").await?;
    ensure!(told.type_.as_deref() == Some("Warning"), "{told:?}");
    let described = stage.kubectl(&stage.admin, &["describe", "wlp", "acme"]).await?;
    ensure!(
        described.contains("OwnerRemoved") && described.contains("AccessOwner bob is inactive"),
        "{described}"
    );

    // Nothing is written while nothing changes: the version stays over a look at everything.
    let version = stage.field("wlp/acme", ".metadata.resourceVersion").await?;
    let label = ["label", "namespace", "payments", "looked=at"];
    stage.kubectl(&stage.admin, &label).await?;
    stage.operator.stop().await?;
    stage.operator.start_again()?;
    stage.operator.wait_ready().await?;
    let again = [
        "patch",
        "wlp",
        "ending",
        "--type=merge",
        "-p",
        "{\"spec\":{\"suspend\":false}}",
    ];
    stage.kubectl(&stage.carol, &again).await?;
    stage.says("wlp/ending", "Ready", "False", "OwnerRemoved").await?;
    ensure!(stage.field("wlp/acme", ".metadata.resourceVersion").await? == version);
    Ok(())
}

#[tokio::test]
async fn a_decision_says_whether_it_counts_and_each_transition_is_told_once() -> Result<()> {
    let stage = Stage::set().await?;
    let (carol, dave) = ("carol@corp.example", "dave@corp.example");
    stage.says("wlg/reader", "Active", "False", "AwaitingApproval").await?;
    let told = stage.told_once("AccessGrant", "reader", "AwaitingApproval").await?;
    ensure!(told.type_.as_deref() == Some("Normal"), "{told:?}");
    let uid = stage.field("wlg/reader", ".metadata.uid").await?;
    let old = stage.field("wlg/reader", ".status.digest").await?;

    // Her own, one of what was changed since, one of another grant of this name, and one of none.
    stage.decide(&stage.carol, "own", carol, &approval(&uid, &old)).await?;
    let message = stage.says("wld/own", "Counted", "False", "OwnRequest").await?;
    ensure!(
        message.contains(carol) && message.contains("somebody else must approve"),
        "{message}"
    );

    let ticket = [
        "patch",
        "wlg",
        "reader",
        "--type=merge",
        "-p",
        "{\"spec\":{\"ticket\":\"CHG-2\"}}",
    ];
    stage.kubectl(&stage.carol, &ticket).await?;
    let digest = eventually("another digest", LIMIT, || async {
        let digest = stage.field("wlg/reader", ".status.digest").await?;
        Ok((digest != old).then_some(digest))
    })
    .await?;
    stage.decide(&stage.dave, "old", dave, &approval(&uid, &old)).await?;
    let message = stage.says("wld/old", "Counted", "False", "DigestReplaced").await?;
    ensure!(
        message.contains("changed since: ticket") && message.contains(&digest),
        "{message}"
    );
    let message = stage.says("wld/own", "Counted", "False", "DigestReplaced").await?;
    ensure!(message.contains("changed since: ticket"), "{message}");

    let another = "00000000-0000-4000-8000-000000000000";
    stage
        .decide(&stage.dave, "another", dave, &approval(another, &digest))
        .await?;
    let message = stage.says("wld/another", "Counted", "False", "AnotherUID").await?;
    ensure!(message.contains(&uid), "{message}");
    let nobody = approval(another, &digest).replace("name: reader", "name: nobody");
    stage.decide(&stage.dave, "nobody", dave, &nobody).await?;
    let message = stage.says("wld/nobody", "Counted", "False", "SubjectMissing").await?;
    ensure!(message.contains("AccessGrant nobody"), "{message}");
    let review = format!(
        "decision: Review, subject: {{kind: PartnerIntegration, name: acme}}, grants: [{{name: reader, uid: {uid}, digest: \"{digest}\"}}]"
    );
    stage.decide(&stage.dave, "review", dave, &review).await?;
    stage.says("wld/review", "Counted", "False", "NothingToRenew").await?;

    // One that counts.
    stage.approve("yes").await?;
    let message = stage.says("wld/yes", "Counted", "True", "Counted").await?;
    ensure!(message.starts_with("it counts until 2"), "{message}");
    let table = stage.kubectl(&stage.admin, &["get", "wld"]).await?;
    let row = |name: &str| table.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    let titles = row("NAME");
    ensure!(
        titles.contains("COUNTED") && titles.contains("REASON") && titles.ends_with("AGE"),
        "{table}"
    );
    ensure!(
        row("yes").contains("True") && row("old").contains("DigestReplaced"),
        "{table}"
    );
    stage.says("wlg/reader", "Active", "True", "Issued").await?;
    let told = stage.told_once("AccessGrant", "reader", "Issued").await?;
    ensure!(
        (told.type_.as_deref(), told.action.as_deref()) == (Some("Normal"), Some("Activate1")),
        "{told:?}"
    );
    let described = stage.kubectl(&stage.admin, &["describe", "wlg", "reader"]).await?;
    ensure!(described.contains("Issued"), "{described}");

    // A Revoke voids it, and stands until somebody approves anew.
    next_second().await?;
    let revoke = "decision: Revoke, subject: {kind: AccessGrant, name: reader}";
    stage.decide(&stage.dave, "no", dave, revoke).await?;
    stage.says("wld/no", "Counted", "True", "Stands").await?;
    stage.says("wld/yes", "Counted", "False", "Voided").await?;
    stage.says("wlg/reader", "Active", "False", "Revoked").await?;
    stage.told_once("AccessGrant", "reader", "Revoked").await?;
    next_second().await?;
    stage.approve("anew").await?;
    stage.says("wld/anew", "Counted", "True", "Counted").await?;
    let message = stage.says("wld/no", "Counted", "False", "Outdone").await?;
    ensure!(message.ends_with(": anew"), "{message}");
    stage.says("wlg/reader", "Active", "True", "Issued").await?;
    let again = eventually("the second activation to be told", LIMIT, || async {
        let issued = stage
            .events("AccessGrant", "reader")
            .await?
            .remove("Issued")
            .unwrap_or_default();
        Ok((issued.len() == 2).then_some(issued))
    })
    .await?;
    let actions: Vec<&str> = again.iter().filter_map(|event| event.action.as_deref()).collect();
    ensure!(
        actions.contains(&"Activate1") && actions.contains(&"Activate2"),
        "{actions:?}"
    );
    ensure!(again.iter().all(|event| event.series.is_none()), "{again:?}");

    // Of the integration, for all its grants.
    let revoke = "decision: Revoke, subject: {kind: PartnerIntegration, name: acme}";
    next_second().await?;
    stage.decide(&stage.dave, "all", dave, revoke).await?;
    let message = stage.says("wld/all", "Counted", "True", "Stands").await?;
    ensure!(message.contains("every AccessGrant"), "{message}");
    stage.says("wlg/reader", "Active", "False", "Revoked").await?;
    stage.says("wld/anew", "Counted", "False", "Voided").await?;

    // The grant goes: what was said of it stays true.
    stage
        .kubectl(&stage.carol, &["delete", "wlg", "reader", "--timeout=30s"])
        .await?;
    stage.says("wld/anew", "Counted", "False", "SubjectMissing").await?;
    stage.says("wld/no", "Counted", "Unknown", "SubjectMissing").await?;
    let told = stage.events("AccessGrant", "reader").await?;
    ensure!(
        told.values().flatten().all(|event| event
            .note
            .as_ref()
            .is_some_and(|note| !note.is_empty() && note.len() <= 1_024)),
        "{told:?}"
    );
    ensure!(
        !stage.operator.logs()?.contains("an event could not be published"),
        "every event was taken"
    );
    Ok(())
}

const WORLD: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: payments, labels: {partners.example/allowed: "true"}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: partners, namespace: payments}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: wayleave-enrolment}
subjects: [{kind: ServiceAccount, name: wayleave, namespace: wayleave-system}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: requesters, namespace: payments}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: wayleave-requester}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: carol@corp.example}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: approvers, namespace: payments}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: wayleave-approver}
subjects:
  - {apiGroup: rbac.authorization.k8s.io, kind: Group, name: security}
  - {apiGroup: rbac.authorization.k8s.io, kind: User, name: carol@corp.example}
---
apiVersion: wayleave.dev/v1alpha1
kind: AccessOwner
metadata: {name: alice}
spec: {displayName: Alice, email: alice@corp.example, active: true}
---
apiVersion: wayleave.dev/v1alpha1
kind: AccessOwner
metadata: {name: bob}
spec: {displayName: Bob, email: bob@corp.example, active: true}
---
apiVersion: wayleave.dev/v1alpha1
kind: AccessPolicy
metadata: {name: read-only-partners}
spec:
  namespaceSelector: {matchLabels: {partners.example/allowed: "true"}}
  dataClassifications: [Internal, Confidential]
  environments: [Production]
  limits: {credentialLifetime: 1h}
  access: {rules: [{apiGroups: [""], resources: [configmaps], verbs: [get, list]}]}
  credentials: [Token]
  requires: {approvals: [{count: 1, groups: [security]}]}
"#;

const REQUEST: &str = r#"
apiVersion: wayleave.dev/v1alpha1
kind: PartnerIntegration
metadata: {name: acme, namespace: payments}
spec:
  partner: {id: acme, name: Acme Corp, contact: security@acme.example}
  purpose: Reconcile invoices nightly
  owners: {businessRef: {name: alice}, technicalRef: {name: bob}}
  agreement: {reference: CTR-1}
  dataClassification: Confidential
  environment: Production
  review: {interval: 90d}
  requestedBy: carol@corp.example
---
apiVersion: wayleave.dev/v1alpha1
kind: PartnerIntegration
metadata: {name: ending, namespace: payments}
spec:
  partner: {id: acme, name: Acme Corp, contact: security@acme.example}
  purpose: Move the old invoices
  owners: {businessRef: {name: alice}, technicalRef: {name: bob}}
  agreement: {reference: CTR-2}
  dataClassification: Confidential
  environment: Production
  review: {interval: 90d}
  requestedBy: carol@corp.example
---
apiVersion: wayleave.dev/v1alpha1
kind: AccessGrant
metadata: {name: reader, namespace: payments}
spec:
  integrationRef: {name: acme}
  requestedBy: carol@corp.example
  ticket: CHG-1
  access: [{rules: [{apiGroups: [""], resources: [configmaps], verbs: [get], resourceNames: [invoice-feed]}]}]
  credential: {type: Token, token: {lifetime: 15m}}
  expiresAt: "2999-01-01T00:00:00Z"
"#;
