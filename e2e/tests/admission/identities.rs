//! Partners' identities: nobody else makes, alters, uses or binds them.

use anyhow::Result;
use serde_json::{Value, json};
use wayleave_e2e::operator::IDENTITY_NAMESPACE;

use crate::world::{BEFORE, bound, child, group, merged, object, refused, user, world};

const TOKEN_SECRET: &str = "kubernetes.io/service-account-token";

fn token_secret(namespace: &str, name: &str, account: &str) -> Value {
    let annotations = json!({"kubernetes.io/service-account.name": account});
    object(
        "Secret",
        namespace,
        name,
        json!({"type": TOKEN_SECRET, "metadata": {"annotations": annotations}}),
    )
}

fn pod(namespace: &str, account: &str) -> Value {
    let spec = json!({
        "serviceAccountName": account,
        "automountServiceAccountToken": false,
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "c", "image": "busybox", "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}]
    });
    object("Pod", namespace, "intruder", json!({ "spec": spec }))
}

#[tokio::test]
async fn nobody_else_makes_objects_of_a_reserved_name() -> Result<()> {
    let world = world("names-made").await?;
    let says = "metadata.name: names that begin with wlg- are reserved for the operator of Wayleave";
    let adam = world.adam().await?;
    for who in [&adam, &world.root] {
        for (kind, body) in [
            ("ServiceAccount", json!({})),
            ("Secret", json!({"stringData": {"token": "x"}})),
            ("Role", json!({"rules": []})),
            ("RoleBinding", bound("ClusterRole", "view", json!([user("eve")]))),
        ] {
            let made = world.object(kind, "wlg-forged", body.clone());
            refused("reserved-names", says, who.create(made.clone()).await)?;
            refused("reserved-names", says, who.apply("eve", &made).await)?;
            let mut generated = world.object(kind, "", body);
            generated["metadata"] = json!({"generateName": "wlg-", "namespace": world.ns});
            refused("reserved-names", says, who.create(generated).await)?;
        }
    }
    refused(
        "reserved-names",
        says,
        world
            .root
            .create(object("ServiceAccount", IDENTITY_NAMESPACE, "wlg-x", json!({})))
            .await,
    )
}

#[tokio::test]
async fn nobody_else_alters_what_the_operator_made() -> Result<()> {
    let world = world("names-altered").await?;
    let name = world.identity().await?;
    let adam = world.adam().await?;
    let policy = "reserved-names";
    let says = "reserved for the operator of Wayleave";
    let owner = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": crate::world::UID}]);
    for (kind, body) in [
        (
            "Role",
            json!({"rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]}]}),
        ),
        ("RoleBinding", json!({"subjects": [user("eve")]})),
        ("RoleBinding", json!({"subjects": null})),
    ] {
        for patch in [
            body,
            json!({"metadata": {"labels": null}}),
            json!({"metadata": {"labels": {"wayleave.dev/managed": "false"}}}),
            json!({"metadata": {"annotations": {"wayleave.dev/expires-at": "2999-01-01T00:00:00Z"}}}),
            json!({"metadata": {"finalizers": ["corp.example/keep"]}}),
            json!({"metadata": {"ownerReferences": owner}}),
        ] {
            for who in [&adam, &world.root] {
                refused(policy, says, who.merge(kind, &world.ns, &name, patch.clone()).await)?;
            }
        }
    }
    for (kind, patch) in [
        ("ServiceAccount", json!({"automountServiceAccountToken": true})),
        ("ServiceAccount", json!({"secrets": [{"name": "other"}]})),
        (
            "ServiceAccount",
            json!({"metadata": {"finalizers": ["corp.example/keep"]}}),
        ),
        ("Secret", json!({"stringData": {"token": "forged"}})),
        ("Secret", json!({"immutable": true})),
        ("Secret", json!({"metadata": {"finalizers": ["corp.example/keep"]}})),
    ] {
        refused(
            policy,
            says,
            world.root.merge(kind, IDENTITY_NAMESPACE, &name, patch).await,
        )?;
    }
    // Written as it is, as a migration of the storage does; and deleted, which only ends access.
    for kind in ["Role", "RoleBinding"] {
        let same = world.root.get(kind, &world.ns, &name).await?;
        world.root.replace(same).await?;
        adam.delete(kind, &world.ns, &name).await?;
    }
    Ok(())
}

#[tokio::test]
async fn nobody_else_has_tokens_of_an_identity() -> Result<()> {
    let world = world("tokens").await?;
    let name = world.identity().await?;
    let says = "tokens of ServiceAccounts named wlg- are issued by the operator of Wayleave alone";
    refused(
        "tokens",
        says,
        world.root.token(IDENTITY_NAMESPACE, &name, json!({})).await,
    )?;
    refused("tokens", says, world.root.token(BEFORE, "wlg-before", json!({})).await)?;

    let policy = "token-secrets";
    let says = "no token Secret is made for a ServiceAccount named wlg-";
    refused(
        policy,
        says,
        world
            .root
            .create(token_secret(IDENTITY_NAMESPACE, "forged", &name))
            .await,
    )?;
    refused(
        policy,
        says,
        world.root.create(token_secret(BEFORE, "forged", "wlg-before")).await,
    )?;
    // Of a ServiceAccount that is not there yet, too.
    let erin = world.erin().await?;
    refused(
        policy,
        says,
        erin.create(token_secret(&world.ns, "forged", "wlg-later")).await,
    )?;
    erin.create(token_secret(&world.ns, "robots", "robot")).await?;
    world
        .root
        .create(token_secret(IDENTITY_NAMESPACE, "defaults", "default"))
        .await?;
    for (namespace, secret) in [(world.ns.as_str(), "robots"), (IDENTITY_NAMESPACE, "defaults")] {
        let patch = json!({"metadata": {"annotations": {"kubernetes.io/service-account.name": name}}});
        refused(
            policy,
            says,
            world.root.merge("Secret", namespace, secret, patch.clone()).await,
        )?;
        refused(
            policy,
            says,
            world.root.replace(token_secret(namespace, secret, &name)).await,
        )?;
    }
    world.root.delete("Secret", IDENTITY_NAMESPACE, "defaults").await?;
    Ok(())
}

#[tokio::test]
async fn no_pod_runs_as_an_identity_or_beside_them() -> Result<()> {
    let world = world("pods").await?;
    let name = world.identity().await?;
    for account in [name.as_str(), "default"] {
        let says = "metadata.namespace: no pod runs in wayleave-identities";
        refused("pods", says, world.root.create(pod(IDENTITY_NAMESPACE, account)).await)?;
    }
    let says = "spec.serviceAccountName: no pod runs as a ServiceAccount named wlg-";
    refused("pods", says, world.root.create(pod(BEFORE, "wlg-before")).await)?;
    // The field's old name.
    let mut old = pod(BEFORE, "wlg-before");
    old["spec"]["serviceAccount"] = old["spec"]["serviceAccountName"].take();
    refused("pods", says, world.root.create(old).await)?;
    world.erin().await?.create(pod(&world.ns, "robot")).await?;
    Ok(())
}

#[tokio::test]
async fn nobody_else_binds_an_identity() -> Result<()> {
    let world = world("bindings").await?;
    let name = world.identity().await?;
    let adam = world.adam().await?;
    let policy = "identity-bindings";
    let says = "subjects: partners' identities are bound by the operator of Wayleave alone";
    let account = json!({"kind": "ServiceAccount", "name": name, "namespace": IDENTITY_NAMESPACE});
    let as_user = user(&format!("system:serviceaccount:{IDENTITY_NAMESPACE}:{name}"));
    let as_group = group(&format!("system:serviceaccounts:{IDENTITY_NAMESPACE}"));
    for subject in [account, as_user, as_group] {
        for who in [&adam, &world.root] {
            // The second subject, too.
            let subjects = json!([user("erin"), subject]);
            refused(
                policy,
                says,
                who.create(world.binding("forged", "view", subjects.clone())).await,
            )?;
            refused(
                policy,
                says,
                who.merge("RoleBinding", &world.ns, "editors", json!({ "subjects": subjects }))
                    .await,
            )?;
        }
        let cluster_wide = object(
            "ClusterRoleBinding",
            "",
            "forged",
            bound("ClusterRole", "view", json!([subject])),
        );
        refused(policy, says, world.root.create(cluster_wide).await)?;
    }
    // Without a namespace it is of the binding's.
    let bare = bound("ClusterRole", "view", json!([{"kind": "ServiceAccount", "name": name}]));
    let bare = object("RoleBinding", IDENTITY_NAMESPACE, "forged", bare);
    refused(policy, says, world.root.create(bare).await)?;
    // Others of that name are others.
    let subjects =
        json!([{"kind": "ServiceAccount", "name": "wlg-before", "namespace": BEFORE}, user(&name), group(&name)]);
    adam.create(world.binding("others", "view", subjects)).await?;
    Ok(())
}

#[tokio::test]
async fn nobody_else_binds_a_partners_role() -> Result<()> {
    let world = world("roles-bound").await?;
    let name = world.identity().await?;
    let adam = world.adam().await?;
    let policy = "identity-bindings";
    let says = format!("roleRef: {name} is what a partner was given, and is bound by the operator of Wayleave alone");
    let forged = world.object("RoleBinding", "forged", bound("Role", &name, json!([user("eve")])));
    for who in [&adam, &world.root] {
        refused(policy, &says, who.create(forged.clone()).await)?;
        refused(policy, &says, who.apply("forger", &forged).await)?;
    }
    // Nor one that is yet to come, nor in two steps.
    let coming = bound("Role", "wlg-0123456789abcdef-1", json!([user("eve")]));
    let answer = world.root.create(world.object("RoleBinding", "forged", coming)).await;
    refused(
        policy,
        "roleRef: wlg-0123456789abcdef-1 is what a partner was given",
        answer,
    )?;
    let mut empty = forged.clone();
    empty.as_object_mut().expect("an object").remove("subjects");
    adam.create(empty).await?;
    let answer = adam
        .merge("RoleBinding", &world.ns, "forged", json!({"subjects": [user("eve")]}))
        .await;
    refused(policy, &says, answer)?;
    adam.delete("RoleBinding", &world.ns, "forged").await?;
    // A Role of one's own that holds the same.
    let rules = world.root.get("Role", &world.ns, &name).await?["rules"].clone();
    adam.create(world.object("Role", "own", json!({ "rules": rules })))
        .await?;
    adam.create(world.object("RoleBinding", "own", bound("Role", "own", json!([user("eve")]))))
        .await?;
    Ok(())
}

#[tokio::test]
async fn nobody_else_puts_our_label_on() -> Result<()> {
    let world = world("labelled").await?;
    let (adam, erin) = (world.adam().await?, world.erin().await?);
    let policy = "reserved-label";
    let says = "metadata.labels: wayleave.dev/managed marks what the operator of Wayleave makes for partners";
    let marked = |value: &str| json!({"metadata": {"labels": {"wayleave.dev/managed": value}}});
    for (kind, body) in [
        ("ServiceAccount", json!({})),
        ("Secret", json!({})),
        ("Role", json!({"rules": []})),
        ("RoleBinding", bound("ClusterRole", "view", json!([user("erin")]))),
    ] {
        adam.create(world.object(kind, "own", body.clone())).await?;
        for who in [&adam, &world.root] {
            for value in ["true", "false", ""] {
                let forged = merged(world.object(kind, "forged", body.clone()), marked(value));
                refused(policy, says, who.create(forged.clone()).await)?;
                refused(policy, says, who.apply("forger", &forged).await)?;
                refused(policy, says, who.merge(kind, &world.ns, "own", marked(value)).await)?;
            }
        }
        let labelled = json!({"metadata": {"labels": {"app": "own"}}});
        adam.merge(kind, &world.ns, "own", labelled).await?;
    }
    // What is delivered in a namespace has the label, and a name that people chose. Whoever may alter Secrets there goes on as
    // before, but does not copy the label.
    let credential = json!({"type": "wayleave.dev/credential"});
    let operator = world.operator().await?;
    operator
        .create(child("Secret", &world.ns, "acme-credential", credential.clone()))
        .await?;
    let copy = child("Secret", &world.ns, "copy", credential.clone());
    refused(policy, says, erin.create(copy).await)?;
    erin.create(world.object("Secret", "copy", credential)).await?;
    let delivered = async |patch: Value| erin.merge("Secret", &world.ns, "acme-credential", patch).await;
    for patch in [
        json!({"metadata": {"annotations": {"reflector.example/allowed": "true"}}}),
        json!({"metadata": {"labels": {"app": "acme"}}}),
        json!({"stringData": {"more": "data"}}),
    ] {
        delivered(patch).await?;
    }
    let same = erin.get("Secret", &world.ns, "acme-credential").await?;
    erin.replace(same).await?;
    refused(policy, says, delivered(marked("false")).await)?;
    delivered(json!({"metadata": {"labels": null}})).await?;
    refused(policy, says, delivered(marked("true")).await)?;
    operator
        .merge("Secret", &world.ns, "acme-credential", marked("true"))
        .await?;
    operator
        .delete("Secret", &world.ns, "acme-credential")
        .await
        .map_err(Into::into)
}
