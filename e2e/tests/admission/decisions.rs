//! Who decides is who is authenticated and holds the right; and a no stays.

use anyhow::{Result, ensure};
use kube::api::{DeleteParams, ListParams};
use serde_json::json;

use crate::world::{
    CAROL, CORA, DAVE, DECISION_DELEGATE, ROOT, World, bound, group, merged, object, refused, refused_with, user, world,
};

const POLICY: &str = "decisions";
const STAYS: &str = "decisions-stay";
const KIND: &str = "AccessDecision";
/// More than a directory usually puts into a token.
const GROUPS: usize = 1000;

#[tokio::test]
async fn a_decision_carries_its_writers_name_and_no_other() -> Result<()> {
    let world = world("decisions-named").await?;
    let dave = world.user(DAVE, &["security", "staff"]).await?;
    if world.stamps_or_says("decisions are stamped").await? {
        let made = dave.create(world.decision("yes", "Approve", json!({}))).await?;
        let spec = &made["spec"];
        ensure!(
            spec["decidedBy"] == DAVE && spec["submittedBy"] == DAVE,
            "stamped: {spec}"
        );
        ensure!(
            spec["decidedByGroups"] == json!(["security", "staff"]),
            "stamped: {spec}"
        );
    }
    for (forged, says) in [
        (
            json!({"decidedBy": CAROL}),
            "spec.decidedBy must be you: set it to dave@corp.example",
        ),
        (
            json!({"submittedBy": CAROL}),
            "spec.submittedBy must be you: set it to dave@corp.example",
        ),
        (
            json!({"decidedByGroups": ["security", "board"]}),
            "spec.decidedByGroups may hold only groups that you are in",
        ),
    ] {
        refused(
            POLICY,
            says,
            dave.create(world.decision("forged", "Approve", forged.clone())).await,
        )?;
        refused(
            POLICY,
            "spec.",
            world.root.create(world.decision("forged", "Approve", forged)).await,
        )?;
    }
    dave.create(world.decision("fewer", "Approve", json!({"decidedByGroups": ["staff"]})))
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_decision_may_have_a_generated_name() -> Result<()> {
    let world = world("decisions-generated").await?;
    let mut decision = world.decision("", "Approve", json!({}));
    decision["metadata"] = json!({"generateName": "reader-", "namespace": world.ns});
    let made = world.dave().await?.create(decision).await?;
    ensure!(made["spec"]["decidedBy"] == DAVE, "{made}");
    Ok(())
}

#[tokio::test]
async fn somebody_in_very_many_groups_decides_too() -> Result<()> {
    let world = world("decisions-groups").await?;
    let groups: Vec<String> = (0..GROUPS)
        .map(|n| format!("department-{n:04}-of-the-corporation"))
        .collect();
    let mut groups: Vec<&str> = groups.iter().map(String::as_str).collect();
    groups.push("security");
    let dave = world.user(DAVE, &groups).await?;
    if world.stamps_or_says("groups are stamped up to a number").await? {
        let made = dave.create(world.decision("yes", "Approve", json!({}))).await?;
        ensure!(
            made["spec"]["decidedByGroups"]
                .as_array()
                .is_some_and(|all| all.len() == 32),
            "{made}"
        );
    }
    let stated = json!({"decidedByGroups": ["security"]});
    dave.create(world.decision("stated", "Approve", stated)).await?;
    let all_of_them = json!({"decidedByGroups": groups[GROUPS - 31..]});
    dave.create(world.decision("many", "Approve", all_of_them)).await?;
    Ok(())
}

#[tokio::test]
async fn service_accounts_don_t_decide() -> Result<()> {
    let world = world("decisions-robot").await?;
    let robot = world.robot().await?;
    for decision in ["Approve", "Deny", "Revoke"] {
        let unnamed = json!({"decidedBy": null, "submittedBy": null});
        for more in [unnamed, json!({"decidedBy": DAVE, "submittedBy": DAVE})] {
            let answer = robot.create(world.decision("forged", decision, more)).await;
            refused(POLICY, "spec.decidedBy: people decide, ServiceAccounts don't", answer)?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_delegate_states_who_decided_and_when() -> Result<()> {
    let world = world("decisions-delegate").await?;
    let delegate = world.delegate(DECISION_DELEGATE).await?;
    let itself = format!("system:serviceaccount:gitops:{DECISION_DELEGATE}");
    let decision = |name: &str, more| world.decision_of(&itself, name, "Approve", more);
    let stated = json!({"decidedBy": DAVE, "decidedAt": "2026-11-01T00:00:00Z", "decidedByGroups": ["security"]});
    let made = delegate.create(decision("yes", stated)).await?;
    ensure!(made["spec"]["decidedBy"] == DAVE, "{made}");
    ensure!(made["spec"]["submittedBy"] == itself, "{made}");
    let at = "2026-11-01T00:00:00Z";
    for (more, says) in [
        (
            json!({"decidedAt": at, "decidedBy": null}),
            "spec.decidedBy must name the person who decided",
        ),
        (
            json!({"decidedAt": at, "decidedBy": "system:serviceaccount:x:y"}),
            "spec.decidedBy must name the person",
        ),
        (json!({"decidedBy": DAVE}), "spec.decidedAt must be set by a delegate"),
        (
            json!({"decidedBy": DAVE, "decidedAt": at, "submittedBy": DAVE}),
            "spec.submittedBy must be you",
        ),
    ] {
        refused(POLICY, says, delegate.create(decision("forged", more)).await)?;
    }
    let requests = world.delegate(crate::world::REQUEST_DELEGATE).await?;
    let more = json!({"decidedBy": DAVE, "decidedAt": at});
    refused(
        POLICY,
        "people decide",
        requests.create(world.decision("forged", "Approve", more)).await,
    )?;
    Ok(())
}

#[tokio::test]
async fn a_decision_needs_the_right_to_it() -> Result<()> {
    let world = world("decisions-right").await?;
    // All verbs on the kinds themselves: that is no right to decide.
    let will = world.user("will", &[]).await?;
    let of_will = |name: &str, decision: &str, more| world.decision_of("will", name, decision, more);
    for (decision, verb) in [("Approve", "approve"), ("Deny", "approve"), ("Revoke", "revoke")] {
        let says = format!("you lack the verb {verb} on accessgrants/approval reader in namespace decisions-right");
        refused(
            POLICY,
            &says,
            will.create(of_will("no-right", decision, json!({}))).await,
        )?;
    }
    let integration = json!({"subject": {"kind": "PartnerIntegration", "name": "acme"}});
    let says = "you lack the verb revoke on partnerintegrations/approval acme";
    refused(
        POLICY,
        says,
        will.create(of_will("no-right", "Revoke", integration.clone())).await,
    )?;
    let says = "you lack the verb review on partnerintegrations/approval acme";
    let approve = world.decision("no-right", "Approve", json!({}));
    let reviewed =
        json!({"name": "reader", "uid": approve["spec"]["subject"]["uid"], "digest": approve["spec"]["digest"]});
    let review = json!({"subject": integration["subject"], "grants": [reviewed]});
    refused(POLICY, says, will.create(of_will("no-right", "Review", review)).await)?;

    // By name.
    let rules = json!([{"apiGroups": ["wayleave.dev"], "resources": ["accessgrants/approval"],
        "resourceNames": ["reader"], "verbs": ["approve"]}]);
    world
        .root
        .create(world.object("Role", "approves-one", json!({ "rules": rules })))
        .await?;
    world
        .root
        .create(world.object(
            "RoleBinding",
            "approves-one",
            bound("Role", "approves-one", json!([user("will")])),
        ))
        .await?;
    let other = json!({"subject": {"name": "writer"}});
    refused(
        POLICY,
        "accessgrants/approval writer",
        will.create(of_will("other", "Approve", other)).await,
    )?;
    wayleave_e2e::eventually("will to approve one grant", crate::ordinary::LIMIT, || async {
        Ok(Some(will.create(of_will("right", "Approve", json!({}))).await?))
    })
    .await?;
    refused(
        POLICY,
        "you lack the verb revoke",
        will.create(of_will("end", "Revoke", json!({}))).await,
    )?;
    Ok(())
}

#[tokio::test]
async fn a_decision_needs_the_right_to_it_in_every_namespace_that_it_reaches() -> Result<()> {
    let world = world("decisions-reach").await?;
    let dave = world.dave().await?;
    let namespaces: Vec<String> = (0..8).map(|n| format!("decisions-reach-{n}")).collect();
    for name in &namespaces {
        world.root.create(object("Namespace", "", name, json!({}))).await?;
        let approvers = bound("ClusterRole", "wayleave-approver", json!([group("security")]));
        world
            .root
            .create(object("RoleBinding", name, "approvers", approvers))
            .await?;
    }
    let decision = world.decision("all", "Approve", json!({ "targetNamespaces": namespaces }));
    wayleave_e2e::eventually("dave to approve in all", crate::ordinary::LIMIT, || async {
        Ok(Some(dave.create(decision.clone()).await?))
    })
    .await?;
    for at in [0, 3, 7] {
        let mut targets = namespaces.clone();
        targets[at] = "default".to_owned();
        let decision = world.decision("one-lacks", "Approve", json!({ "targetNamespaces": targets }));
        let says =
            "spec.targetNamespaces: you lack the verb approve on accessgrants/approval reader in namespace default";
        refused(POLICY, says, dave.create(decision).await)?;
    }
    let mut nine = namespaces;
    nine.push("default".to_owned());
    refused_with(
        "targetNamespaces",
        dave.create(world.decision("nine", "Approve", json!({ "targetNamespaces": nine })))
            .await,
    )
}

async fn denied(world: &World<'_>) -> Result<()> {
    world
        .dave()
        .await?
        .create(world.decision("no", "Deny", json!({})))
        .await?;
    Ok(())
}

#[tokio::test]
async fn a_no_is_neither_changed_nor_deleted() -> Result<()> {
    let world = world("decisions-stay").await?;
    denied(&world).await?;
    let dave = world.dave().await?;
    dave.create(world.decision("end", "Revoke", json!({}))).await?;
    dave.create(world.decision("yes", "Approve", json!({}))).await?;
    for who in [&dave, &world.root] {
        for name in ["no", "end"] {
            let says = "spec.decision: a Deny or Revoke is not deleted; to allow again";
            refused(STAYS, says, who.delete(KIND, &world.ns, name).await)?;
            for patch in [
                json!({"spec": {"decision": "Approve", "digest": crate::world::DIGEST}}),
                json!({"spec": {"reason": "x"}}),
            ] {
                refused_with(
                    "a decision can't be changed",
                    who.merge(KIND, &world.ns, name, patch).await,
                )?;
            }
        }
    }
    let all = world.root.api(KIND, &world.ns);
    let answer = all
        .delete_collection(
            &DeleteParams::default(),
            &ListParams::default().fields("metadata.name=no"),
        )
        .await;
    refused(STAYS, "a Deny or Revoke is not deleted", answer)?;
    // What withdraws a yes, or says more about a no.
    dave.merge(KIND, &world.ns, "no", json!({"metadata": {"labels": {"seen": "yes"}}}))
        .await?;
    dave.delete(KIND, &world.ns, "yes").await?;
    Ok(())
}

#[tokio::test]
async fn who_asked_does_not_delete_what_was_decided_about_it() -> Result<()> {
    let world = world("decisions-kept").await?;
    let (carol, dave) = (world.carol().await?, world.dave().await?);
    let cora = world.user(CORA, &[]).await?;
    carol.create(world.integration("acme", json!({}))).await?;
    carol.create(world.grant("reader", json!({}))).await?;
    let more = merged(
        json!({"ticket": "CHG-1"}),
        world.stated(json!({"contributors": [CORA]})),
    );
    cora.merge("AccessGrant", &world.ns, "reader", json!({ "spec": more }))
        .await?;
    let writes = json!([user(CAROL), user(CORA)]);
    world
        .root
        .create(world.binding("too-many-rights", "wayleave-approver", writes))
        .await?;
    let of_grant = world.decision("of-grant", "Approve", json!({}));
    let subject = json!({"subject": {"kind": "PartnerIntegration", "name": "acme"}, "decision": "Review"});
    let reviewed = json!([{"name": "reader", "uid": crate::world::UID, "digest": crate::world::DIGEST}]);
    let of_integration = world.decision(
        "of-integration",
        "Review",
        merged(subject, json!({ "grants": reviewed })),
    );
    let of_another = world.decision("of-another", "Approve", json!({"subject": {"name": "writer"}}));
    for decision in [of_grant, of_integration, of_another] {
        dave.create(decision).await?;
    }
    let kept = "decisions-kept-grants";
    // The policy hears of grants a moment after they were made.
    let dry = DeleteParams {
        dry_run: true,
        ..DeleteParams::default()
    };
    for who in [&carol, &cora] {
        wayleave_e2e::eventually("the grant to be known", crate::ordinary::LIMIT, || async {
            let answer = who.api(KIND, &world.ns).delete("of-grant", &dry).await;
            refused(kept, "you asked for AccessGrant reader", answer).map(Some)
        })
        .await?;
    }
    refused(
        kept,
        "you asked for AccessGrant reader",
        carol.delete(KIND, &world.ns, "of-grant").await,
    )?;
    refused(
        kept,
        "you asked for AccessGrant reader",
        cora.delete(KIND, &world.ns, "of-grant").await,
    )?;
    // Nor among all that are there, by whoever may delete all at once: each is asked about by itself.
    let all_at_once = bound("ClusterRole", "writes-decisions", json!([user(CAROL)]));
    world
        .root
        .create(world.object("RoleBinding", "far-too-many-rights", all_at_once))
        .await?;
    wayleave_e2e::eventually(
        "carol to be refused for what she asked for",
        crate::ordinary::LIMIT,
        || async {
            let only = ListParams::default().fields("metadata.name=of-grant");
            let answer = carol.api(KIND, &world.ns);
            let answer = answer.delete_collection(&DeleteParams::default(), &only).await;
            refused(kept, "you asked for AccessGrant reader, or changed it", answer).map(Some)
        },
    )
    .await?;
    let all = carol.api(KIND, &world.ns);
    let whichever = ListParams::default().labels("decided-about=what-carol-asked-for");
    for name in ["of-grant", "of-integration"] {
        let label = json!({"metadata": {"labels": {"decided-about": "what-carol-asked-for"}}});
        world.root.merge(KIND, &world.ns, name, label).await?;
    }
    refused_with(
        "what was decided about it is deleted by somebody else. To end the access, suspend it",
        all.delete_collection(&DeleteParams::default(), &whichever).await,
    )?;
    let left = dave.api(KIND, &world.ns).list(&whichever).await?.items.len();
    ensure!(left == 2, "{left} of 2 are left");
    let kept = "decisions-kept-integrations";
    refused(
        kept,
        "you asked for PartnerIntegration acme",
        carol.delete(KIND, &world.ns, "of-integration").await,
    )?;
    // What is of others, or withdrawn by others.
    cora.delete(KIND, &world.ns, "of-integration").await?;
    carol.delete(KIND, &world.ns, "of-another").await?;
    dave.delete(KIND, &world.ns, "of-grant").await?;
    Ok(())
}

#[tokio::test]
async fn a_decision_has_no_owner_by_which_it_could_be_deleted() -> Result<()> {
    let world = world("decisions-owned").await?;
    denied(&world).await?;
    let owner = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": crate::world::UID}]);
    let says = "metadata.ownerReferences must be empty";
    for (who, name) in [(&world.dave().await?, DAVE), (&world.root, ROOT)] {
        let patch = json!({"metadata": {"ownerReferences": owner}});
        refused(STAYS, says, who.merge(KIND, &world.ns, "no", patch).await)?;
        let mut decision = world.decision_of(name, "owned", "Deny", json!({}));
        decision["metadata"]["ownerReferences"] = owner.clone();
        refused(STAYS, says, who.create(decision).await)?;
    }
    Ok(())
}
