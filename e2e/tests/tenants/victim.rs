//! The victim: a tenant with live grants, and everything of it, to be compared before and after.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use kube::Client;
use kube::api::ListParams;
use serde_json::{Value, json};
use wayleave_e2e::operator::IDENTITY_NAMESPACE;
use wayleave_e2e::tenant::{LIMIT, api, condition, text};
use wayleave_e2e::{AuditEvent, ControlPlane, Tenant, eventually, settled};

use crate::attacker::RESTS;

/// Stands in every text of the victim's that nobody else has any business to read.
pub const CANARY: &str = "zqcanary";
/// The victim's namespaces: one where access is live, and one where the operator has nothing to do.
pub const NAMESPACES: [&str; 2] = ["victim", "victim-quiet"];
pub const INTEGRATION: &str = "victim-ledger";
pub const GRANT: &str = "victim-reader";
pub const PRIVATE: &str = "victim-private";
pub const WAITING: &str = "victim-waiting";
pub const SECRET: &str = "victim-delivery";

/// Kinds that lie in namespaces.
const KINDS: [&str; 9] = [
    "AccessGrant",
    "PartnerIntegration",
    "AccessDecision",
    "Secret",
    "ConfigMap",
    "Role",
    "RoleBinding",
    "ServiceAccount",
    "Event",
];
/// Kinds of the whole cluster, which no tenant changes.
const CLUSTER_KINDS: [&str; 5] = [
    "AccessOwner",
    "AccessPolicy",
    "ClusterRole",
    "ClusterRoleBinding",
    "Namespace",
];

/// The victim, settled.
pub struct Victim {
    pub grant: Value,
    pub integration: Value,
    pub decision: Value,
    /// UIDs and names that the operator made, by what they are.
    pub children: BTreeMap<&'static str, (String, String)>,
    /// Its partner's tokens; never to be printed.
    pub tokens: Vec<String>,
}

impl Victim {
    pub async fn new(cp: &ControlPlane) -> Result<Self> {
        let tenant = Tenant::without_integration(cp, NAMESPACES[0]).await?;
        for owner in ["alice", "bob"] {
            let said = |what: &str| format!("{CANARY}-{owner}{what}");
            let spec = json!({
                "displayName": said(""), "email": said("@corp.example"), "usernames": [said("@idp.example")],
            });
            let name = tenant.owner_name(owner);
            tenant
                .patch_as(&tenant.root, "AccessOwner", "", &name, json!({"spec": spec}))
                .await?;
        }
        let labels = json!({"metadata": {
            "labels": {"wayleave.dev/classification": "Restricted", "team": CANARY},
            "annotations": {"note": CANARY},
        }});
        tenant
            .patch_as(&tenant.root, "Namespace", "", &tenant.ns, labels)
            .await?;
        let documented = json!({
            "partner": {"id": format!("{CANARY}-acme"), "name": format!("{CANARY} Corp"), "contact": format!("x@{CANARY}.example")},
            "purpose": format!("Read the {CANARY}"),
            "agreement": {"reference": format!("{CANARY}-1"), "url": format!("https://{CANARY}.example/1")},
        });
        tenant.integration(INTEGRATION, documented).await?;
        let asked = |delivery: Value| {
            let mut token = json!({"lifetime": "24h"});
            wayleave_e2e::tenant::merge(&mut token, delivery);
            json!({
                "integrationRef": {"name": INTEGRATION}, "ticket": format!("{CANARY}-4711"), "credential": {"token": token},
            })
        };
        for (name, delivery) in [
            (GRANT, json!({"secretName": SECRET})),
            (PRIVATE, json!({"delivery": "Private"})),
        ] {
            tenant.grant(name, asked(delivery)).await?;
            tenant
                .approve(name, json!({"reason": format!("{CANARY} is fine")}))
                .await?;
            tenant.wait_reason(name, "Issued").await?;
        }
        let quiet = Tenant::without_integration(cp, NAMESPACES[1]).await?;
        quiet.integration(INTEGRATION, json!({"purpose": CANARY})).await?;
        quiet
            .grant(WAITING, json!({"integrationRef": {"name": INTEGRATION}}))
            .await?;
        quiet.wait_reason(WAITING, "AwaitingApproval").await?;
        Self::settled(&tenant).await
    }

    /// All that the operator has to say of it is said, and read.
    async fn settled(tenant: &Tenant<'_>) -> Result<Self> {
        let integrations = api(&tenant.root, "PartnerIntegration", &tenant.ns);
        let decisions = api(&tenant.root, "AccessDecision", &tenant.ns);
        let (integration, decision) = eventually("the victim to be settled", LIMIT, || async {
            let integration = serde_json::to_value(integrations.get(INTEGRATION).await?)?;
            let all = serde_json::to_value(decisions.list(&ListParams::default()).await?.items)?;
            let all = all.as_array().cloned().unwrap_or_default();
            let counted = all.iter().all(|it| condition(it, "Counted")["status"] == "True");
            let summary = &integration["status"]["summary"]["grants"];
            let is_settled = summary == "2/2" && integration["status"]["nextReviewAt"].is_string() && counted;
            Ok(is_settled.then_some((integration, all.into_iter().next().context("no decision")?)))
        })
        .await?;
        let (grant, private) = (tenant.get_grant(GRANT).await?, tenant.get_grant(PRIVATE).await?);
        let mut children = BTreeMap::new();
        let mut keep = |grant: &Value, wanted: &str, what| -> Result<()> {
            let all = grant["status"]["children"].as_array().cloned().unwrap_or_default();
            let child = all.iter().find(|it| it["kind"] == wanted);
            let child = child.with_context(|| format!("no {wanted}: {}", grant["status"]["children"]))?;
            children.insert(what, (text(&child["name"]), text(&child["uid"])));
            Ok(())
        };
        keep(&grant, "ServiceAccount", "ServiceAccount")?;
        keep(&grant, "RoleBinding", "RoleBinding")?;
        keep(&grant, "Role", "Role")?;
        keep(&grant, "Anchor", "anchor")?;
        keep(&private, "DeliverySecret", "private delivery Secret")?;
        let mut tokens = Vec::new();
        for name in [GRANT, PRIVATE] {
            let partner = tenant.partner(name).await?;
            ensure!(partner.read().await? == 200);
            tokens.push(partner.token);
        }
        Ok(Self {
            grant,
            integration,
            decision,
            children,
            tokens,
        })
    }

    /// What a call names of the victim, beside the watch of its delivery Secrets.
    pub fn is_named_by(&self, event: &AuditEvent) -> bool {
        let Some(object) = &event.object_ref else {
            return false;
        };
        let follows = object.namespace == NAMESPACES[0] && object.resource == "secrets" && object.name.is_empty();
        if follows && ["list", "watch"].contains(&event.verb.as_str()) {
            return false;
        }
        let of_identities =
            object.namespace == IDENTITY_NAMESPACE && self.children.values().any(|(name, _)| *name == object.name);
        let of_cluster = object.resource == "namespaces" || object.namespace.is_empty();
        NAMESPACES.contains(&object.namespace.as_str())
            || of_identities
            || (of_cluster && object.name.starts_with(NAMESPACES[0]))
    }
}

/// Everything of the victim, and of the cluster's own objects, by kind, namespace and name: once it stays the same.
pub async fn everything(root: &Client) -> Result<BTreeMap<String, Value>> {
    settled("what is read to stay the same", LIMIT, RESTS, || read(root)).await
}

async fn read(root: &Client) -> Result<BTreeMap<String, Value>> {
    let mut all = BTreeMap::new();
    let mut keep = |kind: &str, objects: Vec<Value>| {
        for object in objects {
            let meta = &object["metadata"];
            let key = format!("{kind} {}/{}", text(&meta["namespace"]), text(&meta["name"]));
            all.insert(key, object);
        }
    };
    for namespace in NAMESPACES {
        for kind in KINDS {
            keep(kind, list(root, kind, namespace).await?);
        }
    }
    for kind in ["Secret", "ServiceAccount", "Role", "RoleBinding"] {
        let mut objects = list(root, kind, IDENTITY_NAMESPACE).await?;
        objects.retain(|object| {
            let grant = text(&object["metadata"]["annotations"]["wayleave.dev/grant"]);
            NAMESPACES.iter().any(|ns| grant.starts_with(&format!("{ns}/")))
        });
        keep(kind, objects);
    }
    for kind in CLUSTER_KINDS {
        keep(kind, list(root, kind, "").await?);
    }
    Ok(all)
}

/// The objects of a kind, as JSON.
pub async fn list(client: &Client, kind: &str, namespace: &str) -> Result<Vec<Value>> {
    let objects = api(client, kind, namespace).list(&ListParams::default()).await;
    let objects = objects.with_context(|| format!("listing {kind} in {namespace}"))?;
    objects
        .items
        .into_iter()
        .map(|it| Ok(serde_json::to_value(it)?))
        .collect()
}
