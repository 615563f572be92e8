//! A no stays, whatever lies in Git: a GitOps controller that applies again, puts `suspend` back, or makes what was deleted
//! anew, brings no access back.

use std::time::Instant;

use anyhow::{Result, ensure};
use kube::Client;
use serde_json::{Value, json};
use wayleave_e2e::tenant::{DAVE, LIMIT, api, condition, text};
use wayleave_e2e::{Tenant, eventually};

use crate::cluster::{REQUESTS, cluster};
use crate::delegates::{allow, apply, in_git, may_write};

const READER: &str = "reader";

/// A tenant whose integration and grant a GitOps controller keeps as they lie in Git; dave approved.
struct Kept {
    tenant: Tenant<'static>,
    gitops: Client,
    integration: Value,
    grant: Value,
}

impl Kept {
    async fn live(ns: &str) -> Result<Self> {
        let tenant = Tenant::without_integration(cluster().await?.cp, ns).await?;
        let gitops = may_write(&tenant, REQUESTS).await?;
        allow(&tenant).await?;
        let (integration, grant) = in_git(&tenant, REQUESTS).await?;
        let kept = Self {
            tenant,
            gitops,
            integration,
            grant,
        };
        eventually("the controller to have the right", LIMIT, || async {
            kept.apply(json!({})).await.map(Some)
        })
        .await?;
        kept.tenant.approve(READER, json!({})).await?;
        kept.tenant.wait_reason(READER, "Issued").await?;
        Ok(kept)
    }

    /// Applies both, with `more` in the spec of each.
    async fn apply(&self, more: Value) -> Result<()> {
        for (kind, manifest) in [("PartnerIntegration", &self.integration), ("AccessGrant", &self.grant)] {
            let mut manifest = manifest.clone();
            wayleave_e2e::tenant::merge(&mut manifest["spec"], more.clone());
            apply(&self.tenant, &self.gitops, kind, &manifest).await?;
        }
        Ok(())
    }

    /// Deletes both, and applies them anew once they are gone: other objects of those names.
    async fn recreate(&self) -> Result<()> {
        for (kind, name) in [("AccessGrant", READER), ("PartnerIntegration", "acme")] {
            self.tenant.delete(kind, &self.tenant.ns, name).await?;
            eventually("it to be gone", LIMIT, || async {
                let left = api(&self.tenant.root, kind, &self.tenant.ns).get_opt(name).await?;
                Ok(left.is_none().then_some(()))
            })
            .await?;
        }
        self.apply(json!({})).await
    }

    /// Dave says no to the integration or the grant: access ends, and stays away whatever is applied.
    async fn ends_for_good(&self, kind: &str, name: &str, decision: &str, reason: &str) -> Result<()> {
        let tenant = &self.tenant;
        let partner = tenant.partner(READER).await?;
        let cause = Instant::now();
        let no = tenant.decide(kind, name, decision, json!({})).await?;
        partner.refused_since(cause).await?;
        let at = text(&no["metadata"]["creationTimestamp"]);
        let words = format!("{} at {at} ({DAVE}: a test)", reason.to_lowercase());
        let before = self.stays_away(reason, &words).await?;

        // As it lies in Git, and with what a patch of somebody's hand would be put back to.
        self.apply(json!({})).await?;
        self.stays_away(reason, &words).await?;
        for suspended in [true, false] {
            self.apply(json!({"suspend": suspended})).await?;
        }
        self.stays_away(reason, &words).await?;
        self.recreate().await?;
        let anew = self.stays_away(reason, &words).await?;
        ensure!(anew != before, "the grant was not made anew");
        Ok(())
    }

    /// The grant as it stands has this reason in these words, and nothing of it is there; gives its UID.
    async fn stays_away(&self, reason: &str, words: &str) -> Result<String> {
        let grant = self.tenant.wait_reason(READER, reason).await?;
        let said = text(&condition(&grant, "Active")["message"]);
        ensure!(
            said == words || said.starts_with(&format!("{words}; ")),
            "{said}\n  is not: {words}"
        );
        let uid = text(&grant["metadata"]["uid"]);
        self.tenant.wait_nothing_left(&uid).await?;
        Ok(uid)
    }
}

#[tokio::test]
async fn a_revoke_of_the_integration_stays_whatever_is_applied() -> Result<()> {
    let kept = Kept::live("gitops-revoked").await?;
    kept.ends_for_good("PartnerIntegration", "acme", "Revoke", "Revoked")
        .await
}

#[tokio::test]
async fn a_deny_of_the_integration_stays_whatever_is_applied() -> Result<()> {
    let kept = Kept::live("gitops-denied-all").await?;
    kept.ends_for_good("PartnerIntegration", "acme", "Deny", "Denied").await
}

#[tokio::test]
async fn a_deny_of_the_grant_stays_whatever_is_applied() -> Result<()> {
    let kept = Kept::live("gitops-denied").await?;
    kept.ends_for_good("AccessGrant", READER, "Deny", "Denied").await
}
