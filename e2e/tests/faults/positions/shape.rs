//! What the grant of a tenant is like: the same happens to grants of every shape.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use wayleave_e2e::Tenant;
use wayleave_e2e::legacy::{LEGACY, TOKEN, by_legacy, legacy, permit};
use wayleave_e2e::tenant::{binding, create, enrolment};

use super::scenario::Scenario;
use super::stand::{READING, Stand};

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One entry in the grant's own namespace, and a token that is delivered there.
    Plain,
    /// Rules and a ClusterRole, each in the grant's own namespace and in another, and a token that is delivered in private.
    Wide,
    /// One entry, and the static token of a ServiceAccount that somebody made by hand.
    Static,
}

impl Shape {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Plain, Self::Wide, Self::Static];

    /// Its name, as a part of names.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Wide => "wide",
            Self::Static => "static",
        }
    }

    /// Whether that can happen to it: nobody rotates a static token.
    pub fn meets(self, scenario: Scenario) -> bool {
        !(self.is_static() && scenario == Scenario::Rotate)
    }

    /// Whether its credential is none of ours.
    pub fn is_static(self) -> bool {
        self == Self::Static
    }

    /// Every namespace that the grant lies in or reaches, its own first.
    pub fn namespaces(self, ns: &str) -> Vec<String> {
        match self {
            Self::Wide => vec![ns.to_owned(), format!("{ns}-far")],
            Self::Plain | Self::Static => vec![ns.to_owned()],
        }
    }

    /// Makes what the grant needs in place beside a tenant's own; gives the static token, where there is one.
    pub async fn settle(self, stand: &Stand, tenant: &Tenant<'_>) -> Result<Option<String>> {
        match self {
            Self::Plain => Ok(None),
            Self::Wide => settle_far(stand, tenant).await.map(|()| None),
            Self::Static => {
                let controls = json!({"duration": "90d", "reviewInterval": "90d", "allowedSources": false});
                permit(tenant, controls).await?;
                Ok(Some(legacy(tenant).await?.token))
            }
        }
    }

    /// What of the grant's spec is not as every tenant has it.
    pub fn grant(self, tenant: &Tenant<'_>) -> Value {
        match self {
            Self::Plain => json!({}),
            Self::Wide => {
                let everywhere = json!(self.namespaces(&tenant.ns));
                let mut rules = tenant.grant_spec()["access"][0].clone();
                rules["namespaces"] = everywhere.clone();
                json!({
                    "access": [rules, {"clusterRoleRef": {"name": READING}, "namespaces": everywhere}],
                    "credential": {"token": {"delivery": "Private"}},
                })
            }
            Self::Static => by_legacy(),
        }
    }

    /// Paths that its partner may read.
    pub fn readable(self, ns: &str) -> Vec<String> {
        let namespaces = self.namespaces(ns);
        let in_each = |what: &str| {
            let path = |namespace: &String| format!("/api/v1/namespaces/{namespace}/{what}");
            namespaces.iter().map(path).collect::<Vec<_>>()
        };
        let mut paths = in_each("configmaps/feed");
        if self == Self::Wide {
            paths.extend(in_each("services"));
        }
        paths
    }

    /// Objects in the tenant's namespace that a grant of this shape names, and that are somebody else's.
    pub fn declared(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Plain | Self::Wide => &[],
            Self::Static => &[("ServiceAccount", LEGACY), ("Secret", TOKEN)],
        }
    }
}

/// Another namespace that is enrolled, where the same people decide and which the tenant's policy lets grants reach.
async fn settle_far(stand: &Stand, tenant: &Tenant<'_>) -> Result<()> {
    let (root, all) = (&tenant.root, Shape::Wide.namespaces(&tenant.ns));
    ensure!(all.len() == 2, "{all:?}");
    let far = all[1].as_str();
    stand.faults.belongs(far, &tenant.ns);
    let labels = json!({"metadata": {"labels": {"tenant": tenant.ns}}});
    create(root, "Namespace", "", far, labels).await?;
    create(root, "ConfigMap", far, "feed", json!({"data": {"latest": "INV-7"}})).await?;
    let security = json!([{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "security"}]);
    create(
        root,
        "RoleBinding",
        far,
        "approvers",
        binding("wayleave-approver", security),
    )
    .await?;
    create(root, "RoleBinding", far, "enrolment", enrolment("wayleave-enrolment")).await?;
    let reaches = json!({"clusterRoles": [READING], "targetNamespaces": {"matchLabels": {"tenant": tenant.ns}}});
    let policy = json!({"spec": {"access": reaches}});
    tenant.patch_as(root, "AccessPolicy", "", &tenant.ns, policy).await?;
    Ok(())
}
