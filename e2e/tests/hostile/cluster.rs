//! The cluster of this test: tenants with live grants, another tenant, and those who attack them.

use anyhow::{Context as _, Result, ensure};
use kube::Client;
use serde_json::{Value, json};
use wayleave_e2e::operator::{IDENTITY_NAMESPACE, NAMESPACE};
use wayleave_e2e::tenant::{LIMIT, Partner, api, binding, condition, create, enrolment, text};
use wayleave_e2e::{ControlPlane, InstallOptions, Operator, Tenant, eventually, install_with, progress};

use crate::catalog::{self, Resource};

/// Where grants lie that the attackers' rights reach, where such grants reach to, and another tenant.
pub const SHOP: &str = "shop";
pub const DEPOT: &str = "depot";
pub const VAULT: &str = "vault";
/// Where there was a ServiceAccount of a reserved name before there was a chart.
pub const EARLY: &str = "early";
pub const EARLY_IDENTITY: &str = "wlg-early-1";
/// Where the tenants among the attackers have their rights.
pub const ATTACKED: [&str; 3] = [SHOP, DEPOT, EARLY];
/// Every namespace in which something of ours lies.
pub const NAMESPACES: [&str; 6] = [SHOP, DEPOT, EARLY, VAULT, IDENTITY_NAMESPACE, NAMESPACE];
/// Grants in the shop: of its own namespace, of the depot too, and of all that a policy can give.
pub const NEAR: &str = "near";
pub const FAR: &str = "far";
pub const WIDE: &str = "wide";

const RBAC: &str = "rbac.authorization.k8s.io";
/// The Secret of the shop that the widest grant names: Secrets are granted by name only. And a Role of a tenant's own.
pub const PLAIN: &str = "plain";

/// Who attacks.
pub struct Attacker {
    pub name: &'static str,
    pub client: Client,
    /// Whether it is a partner, by its credential.
    pub is_partner: bool,
}

pub struct World {
    pub cp: &'static ControlPlane,
    pub operator: Operator,
    pub shop: Tenant<'static>,
    pub vault: Tenant<'static>,
    pub root: Client,
    pub catalog: Vec<Resource>,
    pub attackers: Vec<Attacker>,
    /// The grants of the shop as they are when the attack begins.
    pub grants: Vec<Value>,
    pub partners: Vec<(&'static str, Partner)>,
    /// What the widest grant lets its partner do.
    pub widest: Vec<Value>,
}

impl World {
    pub async fn new() -> Result<Self> {
        // For the life of the process, whose end ends it.
        let cp: &'static ControlPlane = Box::leak(Box::new(ControlPlane::start().await?));
        let root = cp.user("root@corp.example", &["system:masters"]).await?;
        create(&root, "Namespace", "", EARLY, json!({})).await?;
        create(&root, "ServiceAccount", EARLY, EARLY_IDENTITY, json!({})).await?;
        let ceiling = catalog::widest_ceiling(&catalog::discover(&root).await?);
        let values = json!({"replicas": 0, "ceiling": {"rules": ceiling}});
        install_with(
            cp,
            InstallOptions {
                values,
                ..InstallOptions::default()
            },
        )
        .await?;
        let operator = Operator::ready(cp).await?;
        let catalog = catalog::discover(&root).await?;
        let shop = Tenant::new(cp, SHOP).await?;
        let vault = Tenant::new(cp, VAULT).await?;
        depot(&root).await?;
        let insiders = people(&root).await?;
        let widest = widest(&shop, &catalog).await?;
        progress(&format!("the widest grant has {} rules", widest.len()));
        open(&shop, &widest).await?;
        let mut partners = vec![(NEAR, shop.live(NEAR, json!({})).await?)];
        for (name, spec) in [(FAR, far(&shop)), (WIDE, json!({"access": entries(&widest)}))] {
            partners.push((name, live(&shop, name, spec).await?));
        }
        let reader = vault.live("reader", json!({})).await?;
        ensure!(reader.read().await? == 200);
        shop.grant("denied", json!({})).await?;
        shop.decide("AccessGrant", "denied", "Deny", json!({})).await?;
        shop.wait_reason("denied", "Denied").await?;
        certificate_request(&root).await?;
        eventually("the integration to count its grants", LIMIT, || async {
            let integration = api(&root, "PartnerIntegration", SHOP).get("acme").await?;
            let summary = &integration.data["status"]["summary"]["grants"];
            ensure!(summary == "3/4", "{summary}");
            Ok(Some(()))
        })
        .await?;
        let mut world = Self {
            cp,
            operator,
            shop,
            vault,
            root,
            catalog,
            attackers: Vec::new(),
            grants: Vec::new(),
            partners,
            widest,
        };
        for name in [NEAR, FAR, WIDE] {
            let grant = world.shop.get_grant(name).await?;
            world.grants.push(grant);
        }
        world.attackers = world.attackers(insiders).await?;
        Ok(world)
    }

    async fn attackers(&self, people: Vec<(&'static str, &'static str)>) -> Result<Vec<Attacker>> {
        let mut all = Vec::new();
        for (name, user) in people {
            let client = self.cp.user(user, &[]).await?;
            all.push(Attacker {
                name,
                client,
                is_partner: false,
            });
        }
        for (name, partner) in &self.partners {
            let client = self.cp.with_token(&partner.token).await?;
            all.push(Attacker {
                name,
                client,
                is_partner: true,
            });
        }
        Ok(all)
    }

    /// The name of an identity, as it can be named in a namespace.
    pub fn identity_in(&self, namespace: &str) -> String {
        if namespace == EARLY {
            EARLY_IDENTITY.to_owned()
        } else {
            self.identity(0)
        }
    }

    /// The ServiceAccount of the near, the far or the widest grant.
    pub fn identity(&self, index: usize) -> String {
        text(&self.grants[index]["status"]["identity"]["serviceAccount"])
    }
}

/// A grant of the shop, approved in both namespaces, and its partner.
pub async fn live(shop: &Tenant<'_>, name: &str, spec: Value) -> Result<Partner> {
    shop.grant(name, spec).await?;
    shop.approve(name, json!({"targetNamespaces": [SHOP, DEPOT]})).await?;
    shop.wait_reason(name, "Issued").await?;
    shop.partner(name).await
}

/// Access to both namespaces.
pub fn far(shop: &Tenant<'_>) -> Value {
    let mut access = shop.grant_spec()["access"].clone();
    access[0]["namespaces"] = json!([SHOP, DEPOT]);
    json!({"access": access, "credential": {"token": {"delivery": "Private"}}})
}

async fn depot(root: &Client) -> Result<()> {
    create(
        root,
        "Namespace",
        "",
        DEPOT,
        json!({"metadata": {"labels": {"tenant": SHOP}}}),
    )
    .await?;
    create(root, "RoleBinding", DEPOT, "enrolment", enrolment("wayleave-enrolment")).await?;
    create(root, "ConfigMap", DEPOT, "feed", json!({"data": {}})).await?;
    let approvers = binding(
        "wayleave-approver",
        json!([{"apiGroup": RBAC, "kind": "Group", "name": "security"}]),
    );
    create(root, "RoleBinding", DEPOT, "approvers", approvers).await?;
    Ok(())
}

/// Tenants with the rights that Kubernetes has for them, one with all that the chart has for people beside, and one who may do
/// everything there: admission alone stands in its way.
async fn people(root: &Client) -> Result<Vec<(&'static str, &'static str)>> {
    let all = ["wayleave-requester", "wayleave-approver", "wayleave-enroller", "admin"];
    for namespace in ATTACKED {
        for (user, roles) in [
            ("erin", &["edit"][..]),
            ("adam", &["admin"]),
            ("ivan", &all),
            ("oona", &["cluster-admin"]),
        ] {
            for role in roles {
                let subject = json!([{"apiGroup": RBAC, "kind": "User", "name": user}]);
                create(
                    root,
                    "RoleBinding",
                    namespace,
                    &format!("{role}-{user}"),
                    binding(role, subject),
                )
                .await?;
            }
        }
        create(root, "Secret", namespace, PLAIN, json!({"stringData": {"a": "b"}})).await?;
        let rules = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]);
        create(root, "Role", namespace, PLAIN, json!({ "rules": rules })).await?;
    }
    Ok(vec![
        ("editor", "erin"),
        ("admin", "adam"),
        ("insider", "ivan"),
        ("owner", "oona"),
    ])
}

/// Somebody's request for a certificate in the name of an identity, which waits to be approved.
async fn certificate_request(root: &Client) -> Result<()> {
    let key = rcgen::KeyPair::generate()?;
    let mut params = rcgen::CertificateParams::default();
    let name = format!("system:serviceaccount:{IDENTITY_NAMESPACE}:wlg-forged");
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    let pem = params.serialize_request(&key)?.pem()?;
    let body = json!({
        "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": "wlg-forged"},
        "spec": {
            "request": wayleave_e2e::pki::base64(pem.as_bytes()), "signerName": "kubernetes.io/kube-apiserver-client",
            "usages": ["client auth"],
        },
    });
    let request = http::Request::post("/apis/certificates.k8s.io/v1/certificatesigningrequests");
    let request = request
        .header("content-type", "application/json")
        .body(body.to_string().into_bytes())?;
    root.request::<Value>(request)
        .await
        .map(drop)
        .context("asking for a certificate")
}

/// The policy of the shop gives these rules, in the depot too.
async fn open(shop: &Tenant<'_>, rules: &[Value]) -> Result<()> {
    let access = json!({
        "rules": rules, "longRunning": true, "targetNamespaces": {"matchLabels": {"tenant": SHOP}},
    });
    shop.patch_as(
        &shop.root,
        "AccessPolicy",
        "",
        SHOP,
        json!({"spec": {"access": access}}),
    )
    .await?;
    Ok(())
}

fn entries(rules: &[Value]) -> Value {
    rules.chunks(16).map(|rules| json!({"rules": rules})).collect()
}

/// The widest rules that a policy may give: every verb on everything is asked for, one rule for a grant, and of what is refused
/// each verb by itself.
async fn widest(shop: &Tenant<'_>, catalog: &[Resource]) -> Result<Vec<Value>> {
    let mut asked: Vec<(String, String, Vec<String>)> = Vec::new();
    for it in catalog.iter().filter(|it| it.namespaced) {
        let one = (it.group.clone(), it.name.clone(), it.verbs.iter().cloned().collect());
        if !asked.contains(&one) {
            asked.push(one);
        }
    }
    let mut given = Vec::new();
    let refused = judge(shop, "all", asked, &mut given).await?;
    ensure!(!given.is_empty() && !refused.is_empty(), "{given:?}");
    let each = refused.into_iter().flat_map(|(group, name, verbs)| {
        let one = move |verb| (group.clone(), name.clone(), vec![verb]);
        verbs.into_iter().map(one).collect::<Vec<_>>()
    });
    judge(shop, "each", each.collect(), &mut given).await?;
    // Of one group and the same verbs in one rule: there is no room for one rule each.
    let mut rules: Vec<Value> = Vec::new();
    for rule in given {
        let same = |it: &&mut Value| {
            ["apiGroups", "verbs", "resourceNames"]
                .iter()
                .all(|key| it[*key] == rule[*key])
                && it["resources"].as_array().is_some_and(|all| all.len() < 16)
        };
        match rules.iter_mut().find(same) {
            Some(into) => into["resources"]
                .as_array_mut()
                .context("no list")?
                .push(rule["resources"][0].clone()),
            None => rules.push(rule),
        }
    }
    Ok(rules)
}

/// Asks for each of these by a grant of its own, under a policy that lists them; gives those that no policy can give.
async fn judge(
    shop: &Tenant<'_>,
    what: &str,
    asked: Vec<(String, String, Vec<String>)>,
    given: &mut Vec<Value>,
) -> Result<Vec<(String, String, Vec<String>)>> {
    let rule = |(group, name, verbs): &(String, String, Vec<String>)| {
        let mut rule = json!({"apiGroups": [group], "resources": [name], "verbs": verbs});
        let is_secret = group.is_empty() && name == "secrets";
        if is_secret && !verbs.iter().any(|it| it == "create" || it == "deletecollection") {
            rule["resourceNames"] = json!([PLAIN]);
        }
        rule
    };
    let mut refused = Vec::new();
    // A policy has room for so many.
    for (round, asked) in asked.chunks(32).enumerate() {
        let rules: Vec<Value> = asked.iter().map(rule).collect();
        open(shop, &rules).await?;
        for (index, rule) in rules.iter().enumerate() {
            let grant = format!("{what}-{round}-{index}");
            shop.grant(&grant, json!({"access": [{"rules": [rule]}]})).await?;
        }
        for (index, rule) in rules.iter().enumerate() {
            let grant = format!("{what}-{round}-{index}");
            let is_given = eventually("the rule to be judged under this policy", LIMIT, || async {
                let active = condition(&shop.get_grant(&grant).await?, "Active");
                let said = text(&active["message"]);
                let never = said.contains("never granted") || said.contains("granted by resourceNames only");
                ensure!(never || active["reason"] == "AwaitingApproval", "{rule}: {active}");
                Ok(Some(!never))
            })
            .await?;
            if is_given {
                given.push(rule.clone());
            } else {
                refused.push(asked[index].clone());
            }
            api(&shop.root, "AccessGrant", SHOP)
                .delete(&grant, &kube::api::DeleteParams::default())
                .await?;
        }
    }
    Ok(refused)
}
