//! What happens to a grant: each begins with what is there before, has a cause, and comes to an end state.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use kube::api::DeleteParams;
use serde_json::json;
use wayleave_e2e::tenant::{LIMIT, api, in_seconds, text};
use wayleave_e2e::{ControlPlane, Tenant, eventually};

use crate::bystanders::{self, Bystander};

/// The grant of every tenant.
pub const READER: &str = "reader";

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    /// A grant is asked for, approved and issued.
    Issue,
    /// The same of a grant that waits for its approval.
    Approve,
    /// Another credential is asked for.
    Rotate,
    /// The end comes.
    Expire,
    /// Somebody says revoke.
    Revoke,
    /// An owner is deleted.
    OwnerRemoved,
    /// The grant is deleted.
    GrantDeleted,
    /// Its namespace is deleted.
    NamespaceDeleted,
}

/// A tenant to which it has not happened yet.
pub struct Prepared<'a> {
    pub tenant: Tenant<'a>,
    pub bystanders: Vec<Bystander>,
}

impl Scenario {
    /// Those whose every write is tried.
    pub const ALL: [Self; 7] = [
        Self::Issue,
        Self::Rotate,
        Self::Expire,
        Self::Revoke,
        Self::OwnerRemoved,
        Self::GrantDeleted,
        Self::NamespaceDeleted,
    ];

    /// Its name, as a part of names.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Issue => "issue",
            Self::Approve => "approve",
            Self::Rotate => "rotate",
            Self::Expire => "expire",
            Self::Revoke => "revoke",
            Self::OwnerRemoved => "owner-removed",
            Self::GrantDeleted => "grant-deleted",
            Self::NamespaceDeleted => "namespace-deleted",
        }
    }

    /// Whether a credential works at the end.
    pub fn ends_live(self) -> bool {
        matches!(self, Self::Issue | Self::Approve | Self::Rotate)
    }

    /// Whether the tenant's namespace is gone at the end.
    pub fn ends_without_namespace(self) -> bool {
        self == Self::NamespaceDeleted
    }

    /// A tenant with what is there before; a grant that ends by itself does so after these seconds.
    pub async fn prepare<'a>(self, cp: &'a ControlPlane, ns: &str, ends_in: i64) -> Result<Prepared<'a>> {
        let tenant = Tenant::new(cp, ns).await?;
        wait_held(&tenant).await?;
        if self == Self::Approve {
            tenant.grant(READER, json!({})).await?;
            tenant.wait_reason(READER, "AwaitingApproval").await?;
        } else if self != Self::Issue {
            let more = match self {
                Self::Expire => json!({"expiresAt": in_seconds(ends_in)}),
                _ => json!({}),
            };
            tenant.live(READER, more).await?;
            wait_told(&tenant).await?;
        }
        let uid = bystanders::uid_of_grant(&tenant).await?;
        let bystanders = bystanders::around(&tenant, &uid).await?;
        Ok(Prepared { tenant, bystanders })
    }

    /// Makes it happen; returns when the cause is there, or for an end that comes by itself, at once.
    pub async fn cause(self, tenant: &Tenant<'_>) -> Result<()> {
        match self {
            Self::Issue => {
                tenant.grant(READER, json!({})).await?;
                tenant.approve(READER, json!({})).await?;
            }
            Self::Approve => drop(tenant.approve(READER, json!({})).await?),
            Self::Rotate => {
                let ask = json!({"metadata": {"annotations": {"wayleave.dev/rotateRequestedAt": "now"}}});
                tenant
                    .patch_as(&tenant.carol, "AccessGrant", &tenant.ns, READER, ask)
                    .await?;
            }
            Self::Expire => {}
            Self::Revoke => {
                tenant.decide("AccessGrant", READER, "Revoke", json!({})).await?;
            }
            Self::OwnerRemoved => tenant.delete("AccessOwner", "", &tenant.owner_name("bob")).await?,
            Self::GrantDeleted => tenant.delete("AccessGrant", &tenant.ns, READER).await?,
            Self::NamespaceDeleted => {
                let namespaces = api(&tenant.root, "Namespace", "");
                namespaces
                    .delete(&tenant.ns, &DeleteParams::default())
                    .await
                    .context("deleting the namespace")?;
            }
        }
        Ok(())
    }

    /// How long it may take until the end state is there.
    pub fn limit(self) -> Duration {
        match self {
            Self::NamespaceDeleted => LIMIT * 2,
            // It is waited for first, behind those that come before it.
            Self::Expire => LIMIT * 10,
            _ => LIMIT,
        }
    }

    /// Waits until it has happened, as far as the grant says.
    pub async fn happened(self, tenant: &Tenant<'_>) -> Result<()> {
        let reason = match self {
            Self::Issue | Self::Approve => "Issued",
            Self::Rotate => return wait_rotated(tenant).await,
            Self::Expire => "Expired",
            Self::Revoke => "Revoked",
            Self::OwnerRemoved => "OwnerRemoved",
            Self::GrantDeleted => return wait_gone(tenant, "AccessGrant", &tenant.ns, READER).await,
            Self::NamespaceDeleted => return wait_gone(tenant, "Namespace", "", &tenant.ns).await,
        };
        tenant.wait_reason(READER, reason).await.map(drop)
    }
}

/// The enrolment of the namespace is held: that is written once for all of its grants.
async fn wait_held(tenant: &Tenant<'_>) -> Result<()> {
    eventually("the enrolment to be held", LIMIT, || async {
        let binding = api(&tenant.root, "RoleBinding", &tenant.ns).get("enrolment").await?;
        let integration = api(&tenant.root, "PartnerIntegration", &tenant.ns).get("acme").await?;
        ensure!(
            integration.data["status"]["conditions"].is_array(),
            "the integration has no status"
        );
        Ok(binding
            .metadata
            .finalizers
            .is_some_and(|all| !all.is_empty())
            .then_some(()))
    })
    .await
}

/// What follows an issue is written: the approval knows that it counts, the integration counts its grant.
async fn wait_told(tenant: &Tenant<'_>) -> Result<()> {
    eventually("the issue to be told", LIMIT, || async {
        let integration = api(&tenant.root, "PartnerIntegration", &tenant.ns).get("acme").await?;
        ensure!(
            integration.data["status"]["grants"]["active"] == 1,
            "the integration does not count it"
        );
        let decisions = api(&tenant.root, "AccessDecision", &tenant.ns)
            .list(&Default::default())
            .await?;
        let told = decisions
            .iter()
            .all(|it| text(&it.data["status"]["conditions"][0]["status"]) == "True");
        Ok(told.then_some(()))
    })
    .await
}

async fn wait_rotated(tenant: &Tenant<'_>) -> Result<()> {
    eventually("the rotation", LIMIT, || async {
        let grant = tenant.get_grant(READER).await?;
        Ok((grant["status"]["lastHandledRotateAt"] == "now").then_some(()))
    })
    .await
}

async fn wait_gone(tenant: &Tenant<'_>, kind: &str, namespace: &str, name: &str) -> Result<()> {
    eventually(&format!("{kind} {name} to be gone"), LIMIT * 2, || async {
        let left = api(&tenant.root, kind, namespace).get_opt(name).await?;
        Ok(left.is_none().then_some(()))
    })
    .await
}
