//! What somebody may do, asked of the API server; and that a partner may do what was approved and nothing else.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use kube::{Client, Error};
use serde_json::{Value, json};
use wayleave_e2e::operator::{IDENTITY_NAMESPACE, NAMESPACE};

use crate::cluster::{ATTACKED, DEPOT, FAR, PLAIN, SHOP, VAULT, WIDE, World};
use crate::ours::Target;

/// One right: group, resource, verb, and the names that it is for.
pub type Right = (String, String, String, Vec<String>);

/// What a client may do in a namespace.
pub async fn of(client: &Client, namespace: &str) -> Result<BTreeSet<Right>> {
    let body = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview", "spec": {"namespace": namespace},
    });
    let request = http::Request::post("/apis/authorization.k8s.io/v1/selfsubjectrulesreviews");
    let request = request
        .header("content-type", "application/json")
        .body(body.to_string().into_bytes())?;
    let review: Value = client.request(request).await?;
    let rules = review["status"]["resourceRules"].as_array().context("no rules")?;
    Ok(expanded(rules))
}

/// Rules, one right each.
pub fn expanded(rules: &[Value]) -> BTreeSet<Right> {
    let words = |value: &Value| -> Vec<String> {
        let words = value.as_array().into_iter().flatten();
        words.filter_map(Value::as_str).map(ToOwned::to_owned).collect()
    };
    let mut all = BTreeSet::new();
    for rule in rules {
        for group in words(&rule["apiGroups"]) {
            for resource in words(&rule["resources"]) {
                for verb in words(&rule["verbs"]) {
                    all.insert((group.clone(), resource.clone(), verb, words(&rule["resourceNames"])));
                }
            }
        }
    }
    all
}

/// Every partner may do what its grant says, where it says so, and besides what any ServiceAccount may.
pub async fn are_as_approved(world: &World) -> Result<usize> {
    let anybody = world.cp.service_account(VAULT, "default").await?;
    let mut rights = 0;
    for attacker in world.attackers.iter().filter(|it| it.is_partner) {
        let rules = if attacker.name == WIDE {
            world.widest.clone()
        } else {
            world.shop.grant_spec()["access"][0]["rules"]
                .as_array()
                .cloned()
                .context("no rules")?
        };
        for namespace in ATTACKED
            .into_iter()
            .chain([VAULT, IDENTITY_NAMESPACE, NAMESPACE, "default", "kube-system"])
        {
            let mut wanted = of(&anybody, namespace).await?;
            let reaches = namespace == SHOP || (namespace == DEPOT && attacker.name == FAR);
            if reaches {
                wanted.extend(expanded(&rules));
            }
            let found = of(&attacker.client, namespace).await?;
            let more: Vec<&Right> = found.difference(&wanted).collect();
            let less: Vec<&Right> = wanted.difference(&found).collect();
            ensure!(
                more.is_empty() && less.is_empty(),
                "{} in {namespace}: more {more:?}, less {less:?}",
                attacker.name
            );
            rights += found.len();
        }
    }
    Ok(rights)
}

/// No partner reads what is ours, another partner's or another tenant's.
pub async fn nothing_of_others_is_read(world: &World, targets: &[Target]) -> Result<usize> {
    let mut refused = 0;
    for attacker in world.attackers.iter().filter(|it| it.is_partner) {
        let mut paths: Vec<String> = Vec::new();
        for target in targets {
            // The widest reads all of the shop but Secrets that it doesn't name.
            let is_given =
                attacker.name == WIDE && target.namespace == SHOP && target.name != PLAIN && !target.resource.is_ours();
            if !is_given || target.resource.name == "secrets" {
                paths.push(target.resource.path(&target.namespace, Some(&target.name)));
            }
        }
        for namespace in ATTACKED.into_iter().chain([VAULT, IDENTITY_NAMESPACE, NAMESPACE]) {
            paths.push(format!("/api/v1/namespaces/{namespace}/secrets"));
            if namespace != SHOP {
                paths.push(format!("/api/v1/namespaces/{namespace}/configmaps"));
            }
        }
        paths.extend([
            "/api/v1/secrets".to_owned(),
            format!("/api/v1/namespaces/{VAULT}/configmaps/feed"),
        ]);
        for path in paths {
            let answer = attacker
                .client
                .request_text(http::Request::get(&path).body(Vec::new())?)
                .await;
            ensure!(
                matches!(&answer, Err(Error::Api(status)) if status.code == 403),
                "{} reads {path}",
                attacker.name
            );
            refused += 1;
        }
    }
    Ok(refused)
}
