//! What happens to a grant: each begins with what is there before, has a cause, and comes to an end state.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use kube::ResourceExt as _;
use kube::api::DeleteParams;
use serde_json::{Value, json};
use wayleave_e2e::operator::NAMESPACE;
use wayleave_e2e::tenant::{END, LIMIT, api, create, in_seconds, merge};
use wayleave_e2e::{Tenant, eventually};

use super::bystanders::{self, Bystander};
use super::shape::Shape;
use super::stand::Stand;
use super::tokens;

/// The grant of every tenant.
pub const READER: &str = "reader";
/// The ConfigMap that says that Wayleave is being uninstalled.
pub const MARKER: &str = "wayleave-drain";

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
    /// Everything is, since Wayleave is uninstalled.
    Uninstall,
}

/// A tenant to which it has not happened yet.
pub struct Prepared<'a> {
    pub tenant: Tenant<'a>,
    pub shape: Shape,
    /// The static token, where there is one; never to be printed.
    pub static_token: Option<String>,
    pub bystanders: Vec<Bystander>,
}

impl Prepared<'_> {
    /// Every namespace that its grant lies in or reaches.
    pub fn namespaces(&self) -> Vec<String> {
        self.shape.namespaces(&self.tenant.ns)
    }

    /// The grant is asked for; `more` is merged into its spec.
    async fn ask(&self, more: Value) -> Result<()> {
        let mut spec = self.shape.grant(&self.tenant);
        merge(&mut spec, more);
        self.tenant.grant(READER, spec).await.map(drop)
    }

    async fn approve(&self) -> Result<()> {
        let everywhere = json!({"targetNamespaces": self.namespaces()});
        self.tenant.approve(READER, everywhere).await.map(drop)
    }

    /// Somebody says revoke.
    pub async fn revoke(&self) -> Result<()> {
        let everywhere = json!({"targetNamespaces": self.namespaces()});
        let revoked = self.tenant.decide("AccessGrant", READER, "Revoke", everywhere).await;
        revoked.map(drop)
    }

    /// The credential that is delivered now works everywhere; gives its token.
    pub async fn working(&self) -> Result<String> {
        let token = self.tenant.partner(READER).await?.token;
        let anybody = self.tenant.cp.anonymous().await?;
        // What authorises hears of a binding a moment after it was made.
        eventually("what is delivered to work", END, || async {
            let (_, reads) = tokens::answers(&anybody, &token, &self.readable()).await?;
            ensure!(reads.iter().all(|code| *code == 200), "answered with {reads:?}");
            Ok(Some(()))
        })
        .await?;
        Ok(token)
    }

    /// What its partner may read.
    pub fn readable(&self) -> Vec<String> {
        self.shape.readable(&self.tenant.ns)
    }
}

impl Scenario {
    /// Those that happen to one grant, and whose every write is tried.
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
            Self::Uninstall => "uninstall",
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
    pub async fn prepare(self, stand: &Stand, shape: Shape, ns: &str, ends_in: i64) -> Result<Prepared<'static>> {
        let tenant = Tenant::new(stand.cp, ns).await?;
        let static_token = shape.settle(stand, &tenant).await?;
        let mut prepared = Prepared {
            tenant,
            shape,
            static_token,
            bystanders: Vec::new(),
        };
        wait_held(&prepared).await?;
        let tenant = &prepared.tenant;
        if self == Self::Approve {
            prepared.ask(json!({})).await?;
            tenant.wait_reason(READER, "AwaitingApproval").await?;
        } else if self != Self::Issue {
            let more = match self {
                Self::Expire => json!({"expiresAt": in_seconds(ends_in)}),
                _ => json!({}),
            };
            prepared.ask(more).await?;
            prepared.approve().await?;
            tenant.wait_reason(READER, "Issued").await?;
            prepared.working().await?;
            wait_told(tenant).await?;
        }
        let uid = bystanders::uid_of_grant(tenant).await?;
        prepared.bystanders = bystanders::around(&prepared, &uid).await?;
        Ok(prepared)
    }

    /// Makes it happen; returns when the cause is there, or for an end that comes by itself, at once.
    pub async fn cause(self, prepared: &Prepared<'_>) -> Result<()> {
        let tenant = &prepared.tenant;
        match self {
            Self::Issue => {
                prepared.ask(json!({})).await?;
                prepared.approve().await?;
            }
            Self::Approve => prepared.approve().await?,
            Self::Rotate => {
                let ask = json!({"metadata": {"annotations": {"wayleave.dev/rotateRequestedAt": "now"}}});
                tenant
                    .patch_as(&tenant.carol, "AccessGrant", &tenant.ns, READER, ask)
                    .await?;
            }
            Self::Expire => {}
            Self::Revoke => prepared.revoke().await?,
            Self::OwnerRemoved => tenant.delete("AccessOwner", "", &tenant.owner_name("bob")).await?,
            Self::GrantDeleted => tenant.delete("AccessGrant", &tenant.ns, READER).await?,
            Self::NamespaceDeleted => {
                let namespaces = api(&tenant.root, "Namespace", "");
                namespaces
                    .delete(&tenant.ns, &DeleteParams::default())
                    .await
                    .context("deleting the namespace")?;
            }
            Self::Uninstall => {
                create(&tenant.root, "ConfigMap", NAMESPACE, MARKER, json!({})).await?;
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
            Self::Uninstall => "Uninstalling",
        };
        tenant.wait_reason(READER, reason).await.map(drop)
    }
}

/// The enrolment of each namespace is held: that is written once for all grants there.
async fn wait_held(prepared: &Prepared<'_>) -> Result<()> {
    let tenant = &prepared.tenant;
    eventually("the enrolments to be held", LIMIT, || async {
        let integration = api(&tenant.root, "PartnerIntegration", &tenant.ns).get("acme").await?;
        ensure!(
            integration.data["status"]["conditions"].is_array(),
            "the integration has no status"
        );
        for namespace in prepared.namespaces() {
            let binding = api(&tenant.root, "RoleBinding", &namespace).get("enrolment").await?;
            ensure!(!binding.finalizers().is_empty(), "{namespace} is not held");
        }
        Ok(Some(()))
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
        Ok(tenant.all_decisions_count().await?.then_some(()))
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
