//! The operator: bound and enrolled as the chart says, held to its own, and alone with status, evidence and its finalizer.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use wayleave_e2e::eventually;
use wayleave_e2e::operator::{IDENTITY_NAMESPACE, NAMESPACE, SERVICE_ACCOUNT};

use crate::ordinary::LIMIT;
use crate::world::{
    BEFORE, CAROL, DIGEST, FINALIZER, PLANTED, ROOT, bound, child, group, merged, object, operator_subject, refused,
    refused_with, user, world,
};

const OTHERS_FINALIZER: &str = "corp.example/keep";

#[tokio::test]
async fn nobody_widens_the_operator() -> Result<()> {
    let world = world("operator-widened").await?;
    let adam = world.adam().await?;
    let policy = "operator-bindings";
    let says = "roleRef: the operator of Wayleave is bound only to a ClusterRole that enrols a namespace";
    let as_user = user(&format!("system:serviceaccount:{NAMESPACE}:wayleave"));
    let as_group = group(&format!("system:serviceaccounts:{NAMESPACE}"));
    for subject in [operator_subject(), as_user, as_group] {
        for who in [&adam, &world.root] {
            let subjects = json!([user("erin"), subject]);
            refused(
                policy,
                says,
                who.create(world.binding("forged", "edit", subjects.clone())).await,
            )?;
            refused(
                policy,
                says,
                who.merge("RoleBinding", &world.ns, "editors", json!({ "subjects": subjects }))
                    .await,
            )?;
        }
        for role in ["cluster-admin", "wayleave-enrolment"] {
            let binding = object(
                "ClusterRoleBinding",
                "",
                "forged",
                bound("ClusterRole", role, json!([subject])),
            );
            refused(policy, "", world.root.create(binding).await)?;
        }
    }
    // Without a namespace it is of the binding's.
    let bare = bound(
        "ClusterRole",
        "edit",
        json!([{"kind": "ServiceAccount", "name": "wayleave"}]),
    );
    let bare = object("RoleBinding", NAMESPACE, "forged", bare);
    refused(policy, says, world.root.create(bare).await)?;
    // A Role of the same name as the ClusterRole that enrols.
    world
        .root
        .create(world.object("Role", "wayleave-enrolment", json!({"rules": []})))
        .await?;
    let binding = world.object(
        "RoleBinding",
        "forged",
        bound("Role", "wayleave-enrolment", json!([operator_subject()])),
    );
    refused(policy, says, adam.create(binding).await)
}

#[tokio::test]
async fn only_who_may_enrols_and_only_the_operator() -> Result<()> {
    let world = world("enrolled").await?;
    let policy = "operator-bindings";
    let enrol = |namespace: &str| {
        let body = bound("ClusterRole", "wayleave-enrolment", json!([operator_subject()]));
        object("RoleBinding", namespace, "another-enrolment", body)
    };
    for namespace in ["kube-system", "kube-public", NAMESPACE, IDENTITY_NAMESPACE, "argocd"] {
        let says = format!("metadata.namespace: {namespace} is protected and can't be enrolled");
        refused(policy, &says, world.root.create(enrol(namespace)).await)?;
    }
    // RBAC's own check: who can't bind the role.
    refused_with(
        "attempting to grant",
        world.adam().await?.create(enrol(&world.ns)).await,
    )?;
    // Who can bind it, but not enrol.
    let rules = json!([{"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"], "verbs": ["bind"],
        "resourceNames": ["wayleave-enrolment"]}]);
    world
        .root
        .create(object("ClusterRole", "", "binds-enrolment", json!({ "rules": rules })))
        .await?;
    world
        .root
        .create(world.binding("binds-enrolment", "binds-enrolment", json!([user("adam")])))
        .await?;
    let adam = world.adam().await?;
    eventually("adam to be refused by the policy", LIMIT, || async {
        let says = "roleRef: you lack the verb enroll on enrolments.wayleave.dev wayleave-enrolment";
        refused(policy, says, adam.create(enrol(&world.ns)).await).map(Some)
    })
    .await?;
    // Who can enrol takes for nobody else what enrolling gives: the Secrets, for a start.
    world
        .root
        .create(world.binding("enrollers", "wayleave-enroller", json!([user("enzo")])))
        .await?;
    let enzo = world.user("enzo", &[]).await?;
    eventually("enzo to enrol", LIMIT, || async {
        Ok(Some(enzo.create(enrol(&world.ns)).await?))
    })
    .await?;
    let says = "subjects: wayleave-enrolment enrols a namespace, and is bound to the ServiceAccount wayleave in wayleave-system alone";
    for subjects in [
        json!([user("enzo")]),
        json!([operator_subject(), user("enzo")]),
        json!([group("system:authenticated")]),
    ] {
        refused(
            policy,
            says,
            enzo.create(world.binding("forged", "wayleave-enrolment", subjects.clone()))
                .await,
        )?;
        let patch = json!({ "subjects": subjects });
        refused(
            policy,
            says,
            enzo.merge("RoleBinding", &world.ns, "another-enrolment", patch).await,
        )?;
    }
    enzo.delete("RoleBinding", &world.ns, "another-enrolment").await?;
    Ok(())
}

#[tokio::test]
async fn an_enrolment_stays_while_a_grant_is_active() -> Result<()> {
    let world = world("enrolment-stays").await?;
    let carol = world.carol().await?;
    carol.create(world.grant("idle", json!({}))).await?;
    carol.create(world.grant("reader", json!({}))).await?;
    world.set_active("idle", false).await?;
    world.set_active("reader", true).await?;
    let policy = "enrolment-stays";
    let says = "the AccessGrant reader is active in this namespace";
    let adam = world.adam().await?;
    let delete = async || adam.delete("RoleBinding", &world.ns, "enrolment").await;
    // The API server reads grants as parameters from a cache. A dry run, since before that it would pass.
    let bindings = world.root.api("RoleBinding", &world.ns);
    let dry = PatchParams {
        dry_run: true,
        ..PatchParams::default()
    };
    eventually("the live grant to be seen", LIMIT, || async {
        let patch = Patch::Merge(json!({"subjects": []}));
        let answer = bindings.patch("enrolment", &dry, &patch).await;
        refused(policy, says, answer.map(drop)).map(Some)
    })
    .await?;
    let patch = json!({"subjects": []});
    let answer = world.root.merge("RoleBinding", &world.ns, "enrolment", patch).await;
    refused(policy, says, answer)?;
    refused(policy, says, delete().await)?;
    refused(
        policy,
        says,
        world.root.delete("RoleBinding", &world.ns, "enrolment").await,
    )?;
    let only = ListParams::default().fields("metadata.name=enrolment");
    let all = world.root.api("RoleBinding", &world.ns);
    refused(
        policy,
        says,
        all.delete_collection(&DeleteParams::default(), &only).await,
    )?;
    world
        .root
        .merge(
            "RoleBinding",
            &world.ns,
            "enrolment",
            json!({"metadata": {"labels": {"seen": "yes"}}}),
        )
        .await?;
    // By the label it would be taken for a partner's, and not be judged any more.
    let marked = json!({"metadata": {"labels": {"wayleave.dev/managed": "true"}}});
    let says = "wayleave.dev/managed marks what the operator of Wayleave makes for partners";
    let answer = world.root.merge("RoleBinding", &world.ns, "enrolment", marked).await;
    refused("reserved-label", says, answer)?;
    world.set_active("reader", false).await?;
    eventually("the enrolment to go", LIMIT, || async { Ok(Some(delete().await?)) }).await
}

#[tokio::test]
async fn an_enrolment_that_is_held_is_deleted_and_not_emptied() -> Result<()> {
    let world = world("enrolment-held").await?;
    let emptied = json!({"subjects": []});
    // One that the operator has not seen yet opened nothing.
    let other = world.binding("other", "wayleave-enrolment", json!([operator_subject()]));
    world.root.create(other).await?;
    world
        .root
        .merge("RoleBinding", &world.ns, "other", emptied.clone())
        .await?;
    let held = json!({"metadata": {"finalizers": ["wayleave.dev/close-access"]}});
    let operator = world.operator().await?;
    operator.merge("RoleBinding", &world.ns, "enrolment", held).await?;
    let says = "Delete the binding instead of emptying it";
    for patch in [emptied, json!({"subjects": null})] {
        let answer = world.root.merge("RoleBinding", &world.ns, "enrolment", patch).await;
        refused("enrolment-held", says, answer)?;
    }
    let labelled = json!({"metadata": {"labels": {"seen": "yes"}}});
    world
        .root
        .merge("RoleBinding", &world.ns, "enrolment", labelled)
        .await?;
    world
        .adam()
        .await?
        .delete("RoleBinding", &world.ns, "enrolment")
        .await?;
    let let_go = json!({"metadata": {"finalizers": null}});
    operator.merge("RoleBinding", &world.ns, "enrolment", let_go).await?;
    Ok(())
}

#[tokio::test]
async fn the_operator_writes_only_what_is_its_own() -> Result<()> {
    let world = world("operator-limits").await?;
    let name = world.identity().await?;
    let operator = world.operator().await?;
    let policy = "operator-limits";
    let says = "metadata.name: the operator of Wayleave may not write";
    world.root.create(world.object("Secret", "tenants", json!({}))).await?;
    world
        .root
        .create(world.object("Role", "tenants", json!({"rules": []})))
        .await?;
    for namespace in [world.ns.as_str(), IDENTITY_NAMESPACE] {
        refused(
            policy,
            says,
            operator.create(object("Secret", namespace, "forged", json!({}))).await,
        )?;
    }
    refused(
        policy,
        says,
        operator
            .create(object("ServiceAccount", IDENTITY_NAMESPACE, "forged", json!({})))
            .await,
    )?;
    refused(
        policy,
        says,
        operator
            .create(world.object("Role", "forged", json!({"rules": []})))
            .await,
    )?;
    // Of a Role without rules, so that RBAC has nothing against it.
    let binding = world.object(
        "RoleBinding",
        "tenants",
        bound("Role", "tenants", json!([user("erin")])),
    );
    world.root.create(binding).await?;
    let labelled = json!({"metadata": {"labels": {"wayleave.dev/managed": "true"}}});
    for (kind, name) in [("Secret", "tenants"), ("Role", "tenants"), ("RoleBinding", "tenants")] {
        refused(
            policy,
            says,
            operator.merge(kind, &world.ns, name, labelled.clone()).await,
        )?;
        refused(policy, says, operator.delete(kind, &world.ns, name).await)?;
    }
    refused(policy, "no use for token Secrets", {
        let annotations = json!({"kubernetes.io/service-account.name": "robot"});
        let body = json!({"type": "kubernetes.io/service-account-token", "metadata": {"annotations": annotations}});
        operator.create(child("Secret", &world.ns, "wlg-forged", body)).await
    })?;
    let says = "subjects: the operator of Wayleave binds partners' identities only";
    for subject in [
        user("eve"),
        user(&format!("system:serviceaccount:{IDENTITY_NAMESPACE}:{name}")),
        group("system:authenticated"),
        operator_subject(),
        json!({"kind": "ServiceAccount", "name": "robot", "namespace": world.ns}),
        json!({"kind": "ServiceAccount", "name": name, "namespace": world.ns}),
        json!({"kind": "ServiceAccount", "name": "default", "namespace": IDENTITY_NAMESPACE}),
    ] {
        let forged = child(
            "RoleBinding",
            &world.ns,
            "wlg-forged",
            bound("Role", &name, json!([subject])),
        );
        refused_with("Wayleave", operator.create(forged.clone()).await)?;
        let patch = json!({"subjects": [subject]});
        refused_with("Wayleave", operator.merge("RoleBinding", &world.ns, &name, patch).await)?;
        if subject["kind"] == "ServiceAccount" && subject["name"] != "wayleave" {
            refused(policy, says, operator.create(forged).await)?;
        }
    }
    // Its own: delivery Secrets have a name that people choose, and its finalizer lies on enrolments.
    operator
        .create(child(
            "Secret",
            &world.ns,
            "acme-credential",
            json!({"type": "wayleave.dev/credential"}),
        ))
        .await?;
    operator
        .merge(
            "Secret",
            &world.ns,
            "acme-credential",
            json!({"stringData": {"token": "new"}}),
        )
        .await?;
    operator.delete("Secret", &world.ns, "acme-credential").await?;
    let finalizers = json!({"metadata": {"finalizers": [FINALIZER]}});
    operator
        .merge("RoleBinding", &world.ns, "enrolment", finalizers)
        .await?;
    refused("finalizers", "is taken off by the operator of Wayleave", {
        let none = json!({"metadata": {"finalizers": null}});
        world
            .adam()
            .await?
            .merge("RoleBinding", &world.ns, "enrolment", none)
            .await
    })?;
    operator
        .merge(
            "RoleBinding",
            &world.ns,
            "enrolment",
            json!({"metadata": {"finalizers": null}}),
        )
        .await?;
    Ok(())
}

#[tokio::test]
async fn the_operator_asks_for_bound_tokens_of_identities_only() -> Result<()> {
    let world = world("operator-tokens").await?;
    let name = world.identity().await?;
    let operator = world.operator().await?;
    let anchor = world.root.get("Secret", IDENTITY_NAMESPACE, &name).await?["metadata"]["uid"].clone();
    let bound_to = |secret: &str| json!({"apiVersion": "v1", "kind": "Secret", "name": secret, "uid": anchor});
    let ask = |more: Value| {
        crate::world::merged(
            json!({"expirationSeconds": 900, "boundObjectRef": bound_to(&name)}),
            more,
        )
    };
    operator.token(IDENTITY_NAMESPACE, &name, ask(json!({}))).await?;
    let policy = "operator-tokens";
    for (spec, says) in [
        (
            ask(json!({"boundObjectRef": null})),
            "spec.boundObjectRef: a partner's token must be bound to a Secret",
        ),
        (ask(json!({"boundObjectRef": {"kind": "Pod"}})), "spec.boundObjectRef"),
        (
            ask(json!({"boundObjectRef": {"name": "tenants"}})),
            "spec.boundObjectRef",
        ),
        (ask(json!({"expirationSeconds": 31_536_000})), "spec.expirationSeconds"),
        // A token of a year, for who may extend.
        (ask(json!({"expirationSeconds": 3607})), "spec.expirationSeconds"),
    ] {
        refused(policy, says, operator.token(IDENTITY_NAMESPACE, &name, spec).await)?;
    }
    // Left out, it is an hour.
    let hour = ask(json!({"expirationSeconds": null}));
    operator.token(IDENTITY_NAMESPACE, &name, hour).await?;
    let says = "the operator of Wayleave asks for tokens of partners' identities only";
    refused(
        policy,
        says,
        operator.token(IDENTITY_NAMESPACE, "default", ask(json!({}))).await,
    )
}

#[tokio::test]
async fn nobody_forces_a_grant_away() -> Result<()> {
    let world = world("finalizers").await?;
    let carol = world.carol().await?;
    let operator = world.operator().await?;
    let kind = "AccessGrant";
    carol.create(world.grant("reader", json!({}))).await?;
    operator
        .merge(
            kind,
            &world.ns,
            "reader",
            json!({"metadata": {"finalizers": [FINALIZER]}}),
        )
        .await?;
    for (who, name) in [(&carol, CAROL), (&world.root, ROOT)] {
        for left in [json!(null), json!([]), json!(["corp.example/other"])] {
            let patch = json!({"metadata": {"finalizers": left}});
            let says = "wayleave.dev/close-access is taken off by the operator of Wayleave";
            refused("finalizers", says, who.merge(kind, &world.ns, "reader", patch).await)?;
        }
        let says = "propagationPolicy: Orphan is refused for an AccessGrant";
        let grants = who.api(kind, &world.ns);
        refused("orphans", says, grants.delete("reader", &DeleteParams::orphan()).await)?;
        let patch = json!({"metadata": {"finalizers": [FINALIZER, "orphan"]}});
        refused(
            "orphans",
            "metadata.finalizers: orphan is refused",
            who.merge(kind, &world.ns, "reader", patch).await,
        )?;
        let mut orphan = world.grant("orphan", world.stated(json!({ "requestedBy": name })));
        orphan["metadata"]["finalizers"] = json!(["orphan"]);
        refused(
            "orphans",
            "metadata.finalizers: orphan is refused",
            who.create(orphan).await,
        )?;
    }
    let body = json!({"apiVersion": "v1", "kind": "DeleteOptions", "orphanDependents": true});
    let path = format!(
        "/apis/wayleave.dev/v1alpha1/namespaces/{}/accessgrants/reader",
        world.ns
    );
    let request = http::Request::delete(path).header("content-type", "application/json");
    let answer = carol
        .client
        .request::<Value>(request.body(body.to_string().into_bytes())?)
        .await;
    refused("orphans", "Orphan is refused", answer)?;
    let all = world.root.api(kind, &world.ns);
    let answer = all
        .delete_collection(&DeleteParams::orphan(), &ListParams::default())
        .await;
    refused("orphans", "Orphan is refused", answer)?;
    carol.delete(kind, &world.ns, "reader").await?;
    for who in [&carol, &world.root] {
        let patch = json!({"metadata": {"finalizers": null}});
        refused(
            "finalizers",
            "delete the object and wait",
            who.merge(kind, &world.ns, "reader", patch).await,
        )?;
    }
    operator
        .merge(kind, &world.ns, "reader", json!({"metadata": {"finalizers": null}}))
        .await?;
    eventually("the grant to be gone", LIMIT, || async {
        Ok(carol.get(kind, &world.ns, "reader").await.is_err().then_some(()))
    })
    .await
}

#[tokio::test]
async fn nobody_else_plants_the_operators_finalizer() -> Result<()> {
    let world = world("planted").await?;
    let (adam, carol) = (world.adam().await?, world.carol().await?);
    let policy = "finalizers";
    let says = "metadata.finalizers: wayleave.dev/close-access is put there by the operator of Wayleave";
    let planted = json!({"metadata": {"finalizers": [OTHERS_FINALIZER, FINALIZER]}});
    carol.create(world.grant("reader", json!({}))).await?;
    for (who, name) in [(&carol, CAROL), (&world.root, ROOT)] {
        let grant = world.grant("forged", world.stated(json!({ "requestedBy": name })));
        let grant = merged(grant, planted.clone());
        refused(policy, says, who.create(grant.clone()).await)?;
        refused(policy, says, who.apply("forger", &grant).await)?;
        let answer = who.merge("AccessGrant", &world.ns, "reader", planted.clone()).await;
        refused(policy, says, answer)?;
    }
    for who in [&adam, &world.root] {
        let binding = merged(world.binding("forged", "view", json!([user("erin")])), planted.clone());
        refused(policy, says, who.create(binding.clone()).await)?;
        refused(policy, says, who.apply("forger", &binding).await)?;
        let answer = who.merge("RoleBinding", &world.ns, "editors", planted.clone()).await;
        refused(policy, says, answer)?;
    }
    // Not even where it belongs, as on a copy of an enrolment.
    let copy = world.binding("copy", "wayleave-enrolment", json!([operator_subject()]));
    refused(policy, says, world.root.create(merged(copy, planted.clone())).await)?;
    let answer = world
        .root
        .merge("RoleBinding", &world.ns, "enrolment", planted.clone())
        .await;
    refused(policy, says, answer)?;

    // Other finalizers are others' business, beside the operator's too.
    let operator = world.operator().await?;
    let (none, held) = (json!({"metadata": {"finalizers": null}}), json!([FINALIZER]));
    let other = json!({"metadata": {"finalizers": [OTHERS_FINALIZER]}});
    adam.merge("RoleBinding", &world.ns, "editors", other.clone()).await?;
    adam.merge("RoleBinding", &world.ns, "editors", none.clone()).await?;
    carol.merge("AccessGrant", &world.ns, "reader", other).await?;
    for (kind, name, who) in [("AccessGrant", "reader", &carol), ("RoleBinding", "enrolment", &adam)] {
        let held = json!({"metadata": {"finalizers": held}});
        operator.merge(kind, &world.ns, name, held.clone()).await?;
        who.merge(kind, &world.ns, name, planted.clone()).await?;
        let answer = who.merge(kind, &world.ns, name, none.clone()).await;
        refused(policy, "is taken off by the operator of Wayleave", answer)?;
        who.merge(kind, &world.ns, name, held).await?;
        operator.merge(kind, &world.ns, name, none.clone()).await?;
    }
    Ok(())
}

#[tokio::test]
async fn what_was_planted_before_is_taken_off_by_whoever_may_change_the_binding() -> Result<()> {
    let world = world("unplanted").await?;
    let admins = bound("ClusterRole", "admin", json!([user("adam")]));
    let admins = object("RoleBinding", BEFORE, "admins", admins);
    world.root.create(admins).await?;
    let adam = world.adam().await?;
    eventually("adam to have his rights there", LIMIT, || async {
        Ok(Some(adam.delete("RoleBinding", BEFORE, PLANTED).await?))
    })
    .await?;
    let left = adam.get("RoleBinding", BEFORE, PLANTED).await?;
    ensure!(left["metadata"]["deletionTimestamp"].is_string(), "{left}");
    let none = json!({"metadata": {"finalizers": null}});
    adam.merge("RoleBinding", BEFORE, PLANTED, none).await?;
    ensure!(
        adam.get("RoleBinding", BEFORE, PLANTED).await.is_err(),
        "it is still there"
    );
    Ok(())
}

#[tokio::test]
async fn the_operator_changes_nothing_that_people_wrote() -> Result<()> {
    let world = world("operator-spec").await?;
    world
        .carol()
        .await?
        .create(world.grant("reader", json!({"suspend": true})))
        .await?;
    let operator = world.operator().await?;
    for patch in [
        json!({"spec": {"suspend": false}}),
        json!({"metadata": {"labels": {"a": "b"}}}),
        json!({"metadata": {"annotations": {"a": "b"}}}),
    ] {
        let says = "the operator of Wayleave changes nothing that people wrote";
        refused(
            "operator-spec",
            says,
            operator.merge("AccessGrant", &world.ns, "reader", patch).await,
        )?;
    }
    let patch = json!({"spec": {"access": [{"clusterRoleRef": {"name": "edit"}}]}});
    refused_with(
        "wayleave-",
        operator.merge("AccessGrant", &world.ns, "reader", patch).await,
    )
}

#[tokio::test]
async fn status_and_evidence_are_the_operators() -> Result<()> {
    let world = world("status").await?;
    let carol = world.carol().await?;
    let dave = world.dave().await?;
    carol.create(world.integration("acme", json!({}))).await?;
    carol.create(world.grant("reader", json!({}))).await?;
    dave.create(world.decision("no", "Deny", json!({}))).await?;
    let says = "status is written by the operator of Wayleave alone";
    for (kind, name) in [
        ("PartnerIntegration", "acme"),
        ("AccessGrant", "reader"),
        ("AccessDecision", "no"),
    ] {
        let patch = json!({"status": {"conditions": []}});
        refused(
            "status",
            says,
            world.root.merge_status(kind, &world.ns, name, patch).await,
        )?;
    }
    // In the object itself status is left as it is.
    let forged = json!({"status": {"deniedAt": "2026-01-01T00:00:00Z"}});
    let answer = carol.merge("AccessGrant", &world.ns, "reader", forged).await?;
    ensure!(answer.get("status").is_none(), "status: {answer}");
    let record = json!({"spec": {"grant": {"namespace": world.ns, "name": "reader", "uid": crate::world::UID}, "partner": "acme", "entries": []}});
    let answer = world
        .root
        .create(object("AccessRecord", "", crate::world::UID, record))
        .await;
    refused(
        "records",
        "records are written by the operator of Wayleave alone",
        answer,
    )
}

/// Nothing writes records yet: a record is made here by somebody under the operator's name, who holds every right.
#[tokio::test]
async fn evidence_is_neither_changed_nor_taken_away() -> Result<()> {
    const RECORD: &str = "5d0c6a7e-0000-4000-8000-0000000000ec";
    const KIND: &str = "AccessRecord";
    let world = world("evidence").await?;
    let name = format!("system:serviceaccount:{NAMESPACE}:{SERVICE_ACCOUNT}");
    let operator = world.user(&name, &["system:masters"]).await?;
    let entry =
        |event: &str| json!({"at": "2026-01-01T00:00:00Z", "event": event, "summary": "a test", "hash": DIGEST});
    let grant = json!({"namespace": world.ns, "name": "reader", "uid": RECORD});
    let spec = json!({"grant": grant, "partner": "acme", "entries": [entry("issued")]});
    operator
        .create(object(KIND, "", RECORD, json!({ "spec": spec })))
        .await?;
    let entries = |all: &[Value]| json!({"spec": {"entries": all}});
    let added = entries(&[entry("issued"), entry("revoked")]);
    let (policy, says) = ("records", "records are written by the operator of Wayleave alone");
    for patch in [added.clone(), json!({"metadata": {"labels": {"seen": "yes"}}})] {
        refused(policy, says, world.root.merge(KIND, "", RECORD, patch).await)?;
    }
    refused(policy, says, world.root.delete(KIND, "", RECORD).await)?;
    let only = ListParams::default().fields(&format!("metadata.name={RECORD}"));
    for which in [only, ListParams::default()] {
        let all = world.root.api(KIND, "");
        refused(
            policy,
            says,
            all.delete_collection(&DeleteParams::default(), &which).await,
        )?;
    }
    // Nor by the operator: it only adds.
    operator.merge(KIND, "", RECORD, added).await?;
    for patch in [
        entries(&[]),
        entries(&[entry("revoked")]),
        entries(&[entry("revoked"), entry("issued")]),
        entries(&[entry("issued"), entry("expired")]),
    ] {
        let says = "entries can only be added: those that are there stay as they are";
        refused_with(says, operator.merge(KIND, "", RECORD, patch).await)?;
    }
    let kept = world.root.get(KIND, "", RECORD).await?;
    ensure!(
        kept["spec"]["entries"] == json!([entry("issued"), entry("revoked")]),
        "{kept}"
    );
    Ok(())
}

#[tokio::test]
async fn metadata_is_bounded() -> Result<()> {
    let world = world("sizes").await?;
    let carol = world.carol().await?;
    let many = |count: usize, size: usize| -> BTreeMap<String, String> {
        (0..count)
            .map(|n| (format!("corp.example/k{n:03}"), "x".repeat(size)))
            .collect()
    };
    let owner =
        |n: usize| json!({"apiVersion": "v1", "kind": "ConfigMap", "name": n.to_string(), "uid": crate::world::UID});
    let grant = |name: &str, metadata: Value| {
        crate::world::merged(world.grant(name, json!({})), json!({ "metadata": metadata }))
    };
    let finalizers: Vec<String> = (0..17).map(|n| format!("corp.example/f{n}")).collect();
    for (metadata, says) in [
        (json!({"annotations": many(65, 1)}), "metadata.annotations: at most 64"),
        (
            json!({"annotations": many(1, 33_000)}),
            "metadata.annotations: at most 32768 characters in all",
        ),
        (
            json!({"annotations": many(16, 16_000)}),
            "metadata.annotations: at most 32768 characters in all",
        ),
        (json!({"labels": many(65, 60)}), "metadata.labels: at most 64"),
        (json!({"finalizers": finalizers}), "metadata.finalizers: at most 16"),
        (
            json!({"ownerReferences": (0..17).map(owner).collect::<Vec<_>>()}),
            "metadata.ownerReferences: at most 16",
        ),
    ] {
        refused("sizes", says, carol.create(grant("large", metadata.clone())).await)?;
        let small = carol.create(grant("small", json!({}))).await?;
        ensure!(small["metadata"]["name"] == "small");
        refused(
            "sizes",
            says,
            carol
                .merge("AccessGrant", &world.ns, "small", json!({ "metadata": metadata }))
                .await,
        )?;
        carol.delete("AccessGrant", &world.ns, "small").await?;
    }
    carol
        .create(grant(
            "full",
            json!({"annotations": many(64, 400), "labels": many(64, 60)}),
        ))
        .await?;
    carol
        .merge("AccessGrant", &world.ns, "full", json!({"spec": {"suspend": true}}))
        .await?;
    Ok(())
}
