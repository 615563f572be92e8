//! One grant's life on a real API server: requested, approved, used, revoked.
#![expect(clippy::disallowed_types, reason = "tests drive a real cluster")]

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use wayleave_e2e::{ControlPlane, Operator, OperatorOptions, eventually, install};

const LIMIT: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_partner_gets_what_was_approved_and_loses_it() -> Result<()> {
    let cp = ControlPlane::start().await?;
    install(&cp).await?;
    let admin = cp.admin_kubeconfig();
    cp.kubectl(&admin)
        .await?
        .args(["apply", "-f", "-"])
        .stdin(WORLD)
        .run()
        .await?
        .ok()?;
    let operator = Operator::start(&cp, OperatorOptions::default()).await?;
    operator.wait_ready().await?;
    let carol = cp.user_kubeconfig("carol@corp.example", &["system:masters"]).await?;
    cp.kubectl(&carol)
        .await?
        .args(["apply", "-f", "-"])
        .stdin(REQUEST)
        .run()
        .await?
        .ok()?;

    let get = |path: &'static str| {
        let (cp, admin) = (&cp, admin.clone());
        async move {
            let out = cp.kubectl(&admin).await?;
            let path = format!("jsonpath={{{path}}}");
            anyhow::Ok(
                out.args(["get", "wlg", "reader", "-n", "payments", "-o", &path])
                    .run()
                    .await?
                    .stdout,
            )
        }
    };
    let reason = ".status.conditions[?(@.type==\"Active\")].reason";
    eventually("the grant waits for approval", LIMIT, || async {
        Ok((get(reason).await? == "AwaitingApproval").then_some(()))
    })
    .await?;

    let (uid, digest) = (get(".metadata.uid").await?, get(".status.digest").await?);
    let decision = DECISION.replace("UID", &uid).replace("DIGEST", &digest);
    let dave = cp.user_kubeconfig("dave@corp.example", &["security"]).await?;
    cp.kubectl(&dave)
        .await?
        .args(["create", "-f", "-"])
        .stdin(decision)
        .run()
        .await?
        .ok()?;
    eventually("the grant is active", LIMIT, || async {
        Ok((get(reason).await? == "Issued").then_some(()))
    })
    .await?;

    let secret = cp.kubectl(&admin).await?;
    let secret = secret.args([
        "get",
        "secret",
        "reader-credential",
        "-n",
        "payments",
        "-o",
        "go-template={{.data.kubeconfig | base64decode}}",
    ]);
    let partner = tempfile::NamedTempFile::new()?;
    std::fs::write(partner.path(), secret.run().await?.ok()?)?;
    let read = |name: &'static str| {
        let (cp, partner) = (&cp, partner.path());
        async move {
            anyhow::Ok(
                cp.kubectl(partner)
                    .await?
                    .args(["get", "configmap", name])
                    .run()
                    .await?,
            )
        }
    };
    read("invoice-feed")
        .await?
        .ok()
        .context("the partner reads the one ConfigMap")?;
    let other = read("kube-root-ca.crt").await?;
    ensure!(
        other.stderr.contains("forbidden"),
        "anything else is refused: {}",
        other.stderr
    );

    let revoke = REVOKE;
    cp.kubectl(&dave)
        .await?
        .args(["create", "-f", "-"])
        .stdin(revoke)
        .run()
        .await?
        .ok()?;
    let revoked = Instant::now();
    eventually("the partner is refused", LIMIT, || async {
        let out = read("invoice-feed").await?;
        Ok((out.stderr.contains("forbidden") || out.stderr.contains("Unauthorized")).then_some(()))
    })
    .await?;
    ensure!(
        revoked.elapsed() < Duration::from_secs(5),
        "refused after {:?}",
        revoked.elapsed()
    );
    eventually("nothing of it is left", LIMIT, || async {
        let left = cp.kubectl(&admin).await?;
        let left = left.args([
            "get",
            "rolebindings,roles,serviceaccounts,secrets",
            "-A",
            "-l",
            "wayleave.dev/managed=true",
            "-o",
            "name",
        ]);
        Ok((left.run().await?.ok()?.trim().is_empty() && get(reason).await? == "Revoked").then_some(()))
    })
    .await?;
    Ok(())
}

const WORLD: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: payments, labels: {partners.example/allowed: "true"}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: invoice-feed, namespace: payments}
data: {feed: "1"}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: partners, namespace: payments}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: wayleave-enrolment}
subjects: [{kind: ServiceAccount, name: wayleave, namespace: wayleave-system}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: approvers, namespace: payments}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: wayleave-approver}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: security}]
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
  agreement: {reference: CTR-2026-114}
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
  access: [{rules: [{apiGroups: [""], resources: [configmaps], verbs: [get], resourceNames: [invoice-feed]}]}]
  credential: {type: Token, token: {lifetime: 15m}}
  expiresAt: "2999-01-01T00:00:00Z"
"#;

const DECISION: &str = r#"
apiVersion: wayleave.dev/v1alpha1
kind: AccessDecision
metadata: {name: reader-yes, namespace: payments}
spec:
  subject: {kind: AccessGrant, name: reader, uid: UID}
  decision: Approve
  digest: DIGEST
  decidedBy: dave@corp.example
  submittedBy: dave@corp.example
  decidedByGroups: [security]
  reason: one object, read only
"#;

const REVOKE: &str = r#"
apiVersion: wayleave.dev/v1alpha1
kind: AccessDecision
metadata: {name: reader-no, namespace: payments}
spec:
  subject: {kind: AccessGrant, name: reader}
  decision: Revoke
  decidedBy: dave@corp.example
  submittedBy: dave@corp.example
  decidedByGroups: [security]
  reason: the contract was ended early
"#;
