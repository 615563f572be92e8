//! Authority flows from the policy; owners come back as others.

use anyhow::Result;
use serde_json::{Value, json};
use wayleave_e2e::eventually;

use crate::world::{bound, object, refused, refused_with, user, world};

const POLICY: &str = "policy-authority";
const KIND: &str = "AccessPolicy";

fn policy(name: &str, access: Value) -> Value {
    let spec = json!({
        "namespaceSelector": {"matchLabels": {"policy": "none"}},
        "dataClassifications": ["Public"],
        "environments": ["NonProduction"],
        "limits": {"duration": "90d"},
        "access": access,
        "credentials": ["Token"],
        "requires": {}
    });
    object(KIND, "", name, json!({ "spec": spec }))
}

#[tokio::test]
async fn nobody_allows_partners_what_he_may_not_hand_out() -> Result<()> {
    let world = world("policies-authority").await?;
    let pat = world.user("pat", &[]).await?;
    let mut his = vec!["view".to_owned(), "wayleave-read".to_owned()];
    his.extend((2..15).map(|index| format!("his-{index}")));
    let rules = json!([{"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"],
        "resourceNames": his, "verbs": ["bind"]}]);
    world
        .root
        .create(object("ClusterRole", "", "binds-view", json!({ "rules": rules })))
        .await?;
    for role in ["wayleave-policy-admin", "binds-view"] {
        let binding = object(
            "ClusterRoleBinding",
            "",
            &format!("pat-{role}"),
            bound("ClusterRole", role, json!([user("pat")])),
        );
        world.root.create(binding).await?;
    }
    eventually("pat to write a policy", crate::ordinary::LIMIT, || async {
        Ok(Some(
            pat.create(policy("pats", json!({"clusterRoles": ["view", "wayleave-read"]})))
                .await?,
        ))
    })
    .await?;

    let says = "you lack the verb bind on the ClusterRole cluster-admin";
    for at in [0, 1, 15] {
        let mut roles = his[..at].to_vec();
        roles.push("cluster-admin".to_owned());
        refused(
            POLICY,
            says,
            pat.create(policy("forged", json!({ "clusterRoles": roles }))).await,
        )?;
        refused(
            POLICY,
            says,
            pat.merge(KIND, "", "pats", json!({"spec": {"access": {"clusterRoles": roles}}}))
                .await,
        )?;
    }
    let rules = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]);
    let says = "spec.access.rules: you lack the verb escalate on roles";
    refused(
        POLICY,
        says,
        pat.create(policy("forged", json!({ "rules": rules }))).await,
    )?;
    refused(
        POLICY,
        says,
        pat.merge(KIND, "", "pats", json!({"spec": {"access": {"rules": rules}}}))
            .await,
    )?;

    // Someone with more authority writes it; the other one may still label it, and narrow it to what is his.
    world
        .root
        .create(policy(
            "roots",
            json!({"clusterRoles": ["cluster-admin", "view"], "rules": rules}),
        ))
        .await?;
    pat.merge(KIND, "", "roots", json!({"metadata": {"labels": {"seen": "yes"}}}))
        .await?;
    refused(
        POLICY,
        "lack",
        pat.merge(KIND, "", "roots", json!({"spec": {"selfService": true}}))
            .await,
    )?;
    pat.merge(
        KIND,
        "",
        "roots",
        json!({"spec": {"access": {"clusterRoles": ["view"], "rules": null}}}),
    )
    .await?;
    Ok(())
}

#[tokio::test]
async fn an_owner_who_left_comes_back_as_another() -> Result<()> {
    let world = world("policies-owners").await?;
    let owner = |active: bool| {
        let spec = json!({"displayName": "Olga", "email": "olga@corp.example", "active": active});
        object("AccessOwner", "", "olga", json!({ "spec": spec }))
    };
    world.root.create(owner(true)).await?;
    let patch = |active: bool| json!({"spec": {"active": active}});
    let left = world.root.merge("AccessOwner", "", "olga", patch(false)).await?;
    refused_with(
        "active can't go from false back to true",
        world.root.merge("AccessOwner", "", "olga", patch(true)).await,
    )?;
    refused_with(
        "active",
        world
            .root
            .merge("AccessOwner", "", "olga", json!({"spec": {"active": null}}))
            .await,
    )?;
    world.root.delete("AccessOwner", "", "olga").await?;
    let back = world.root.create(owner(true)).await?;
    anyhow::ensure!(left["metadata"]["uid"] != back["metadata"]["uid"], "another object");
    Ok(())
}
