//! Objects that the API server lets through and the operator can't read: they count as absent, and others go on.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use wayleave_e2e::tenant::{END, LIMIT, api, condition, next_second, text};
use wayleave_e2e::{Tenant, eventually};

use super::cluster::{Turn, made, of_server, reads, uid};

const READER: &str = "reader";
/// A kind that changes loses its watches, and the next one waits for no longer than this.
const SEEN: Duration = Duration::from_secs(3);

/// Takes what the schema says of one field away; gives the definition as it was.
async fn loosen(tenant: &Tenant<'_>, plural: &str, field: &[&str]) -> Result<Value> {
    let definitions = api(&tenant.root, "CustomResourceDefinition", "");
    let name = format!("{plural}.wayleave.dev");
    let before = serde_json::to_value(definitions.get(&name).await?)?;
    let mut after = before.clone();
    let mut schema = &mut after["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    for step in field {
        schema = &mut schema["properties"][step];
    }
    ensure!(schema.is_object(), "there is no field {field:?}");
    // Bounded: rules that compare the field have a cost.
    *schema = json!({"type": "string", "maxLength": 64, "description": "anything short, for a test"});
    replace(tenant, after).await?;
    Ok(before)
}

async fn replace(tenant: &Tenant<'_>, mut definition: Value) -> Result<()> {
    let definitions = api(&tenant.root, "CustomResourceDefinition", "");
    let name = text(&definition["metadata"]["name"]);
    definition["metadata"]["resourceVersion"] = json!(definitions.get(&name).await?.metadata.resource_version);
    definition["metadata"]["managedFields"] = Value::Null;
    let object = serde_json::from_value(definition)?;
    definitions
        .replace(&name, &Default::default(), &object)
        .await
        .with_context(|| format!("replacing the definition of {plural}", plural = name))?;
    Ok(())
}

/// Writes what no schema would let through, as soon as the API server goes by the loosened one.
async fn spoil(tenant: &Tenant<'_>, kind: &str, name: &str, patch: &Value) -> Result<Instant> {
    eventually("the spoilt object to be let through", LIMIT, || async {
        let cause = Instant::now();
        tenant
            .patch_as(&tenant.carol, kind, &tenant.ns, name, patch.clone())
            .await?;
        Ok(Some(cause))
    })
    .await
}

/// Others are issued as ever, and what was there is as it was.
async fn others_go_on(cluster: &Turn, other: &Tenant<'_>, before: &Value, fresh: &str) -> Result<()> {
    ensure!(
        made(&other.get_grant(READER).await?) == made(before),
        "another grant was touched"
    );
    reads(&other.partner(READER).await?).await?;
    let fresh = cluster.tenant(fresh).await?;
    fresh.live(READER, json!({})).await?;
    Ok(())
}

#[tokio::test]
async fn a_live_grant_that_can_not_be_read_ends_and_others_go_on() -> Result<()> {
    let cluster = of_server().await?;
    let other = cluster.tenant("unreadable-other").await?;
    other.live(READER, json!({})).await?;
    let before = other.get_grant(READER).await?;
    let tenant = cluster.tenant("unreadable-grant").await?;
    let partner = tenant.live(READER, json!({})).await?;
    let uid = uid(&tenant.get_grant(READER).await?);

    let definition = loosen(&tenant, "accessgrants", &["spec", "credential", "token", "lifetime"]).await?;
    let lifetime = |value: &str| json!({"spec": {"credential": {"token": {"lifetime": value}}}});
    let cause = spoil(&tenant, "AccessGrant", READER, &lifetime("as long as it takes")).await?;
    partner.refused_within(cause, SEEN + END).await?;
    tenant.wait_nothing_left(&uid).await?;
    partner.wait_unauthorized().await?;
    others_go_on(&cluster, &other, &before, "unreadable-fresh").await?;

    // It is read again, and has to be approved anew: what was approved is not what stands there.
    tenant
        .patch_as(&tenant.carol, "AccessGrant", &tenant.ns, READER, lifetime("2h"))
        .await?;
    replace(&tenant, definition).await?;
    tenant.wait_reason(READER, "AwaitingApproval").await?;
    tenant.approve(READER, json!({})).await?;
    tenant.wait_reason(READER, "Issued").await?;
    Ok(())
}

#[tokio::test]
async fn an_unreadable_integration_and_policy_end_what_rests_on_them() -> Result<()> {
    let cluster = of_server().await?;
    let other = cluster.tenant("unreadable-beside").await?;
    other.live(READER, json!({})).await?;
    let before = other.get_grant(READER).await?;

    let tenant = cluster.tenant("unreadable-integration").await?;
    let partner = tenant.live(READER, json!({})).await?;
    let definition = loosen(&tenant, "partnerintegrations", &["spec", "review", "interval"]).await?;
    let interval = |value: &str| json!({"spec": {"review": {"interval": value}}});
    let cause = spoil(&tenant, "PartnerIntegration", "acme", &interval("now and then")).await?;
    partner.refused_within(cause, SEEN + END).await?;
    let grant = tenant.wait_reason(READER, "IntegrationMissing").await?;
    let said = text(&condition(&grant, "Ready")["message"]);
    ensure!(said.contains("can't be read"), "{said}");
    tenant.wait_nothing_left(&uid(&grant)).await?;
    others_go_on(&cluster, &other, &before, "unreadable-fresh-two").await?;
    tenant.patch("PartnerIntegration", "acme", interval("90d")).await?;
    replace(&tenant, definition).await?;
    tenant.wait_reason(READER, "Issued").await?;

    let tenant = cluster.tenant("unreadable-policy").await?;
    let partner = tenant.live(READER, json!({})).await?;
    let definition = loosen(&tenant, "accesspolicies", &["spec", "limits", "duration"]).await?;
    let duration = |value: &str| json!({"spec": {"limits": {"duration": value}}});
    let cause = eventually("the spoilt policy to be let through", LIMIT, || async {
        let cause = Instant::now();
        let patch = duration("a while");
        tenant
            .patch_as(&tenant.root, "AccessPolicy", "", &tenant.ns, patch)
            .await?;
        Ok(Some(cause))
    })
    .await?;
    partner.refused_within(cause, SEEN + END).await?;
    let grant = tenant.wait_reason(READER, "NotPermitted").await?;
    tenant.wait_nothing_left(&uid(&grant)).await?;
    others_go_on(&cluster, &other, &before, "unreadable-fresh-three").await?;
    tenant
        .patch_as(&tenant.root, "AccessPolicy", "", &tenant.ns, duration("90d"))
        .await?;
    replace(&tenant, definition).await?;
    tenant.wait_reason(READER, "Issued").await?;
    Ok(())
}

#[tokio::test]
async fn an_unreadable_owner_is_a_removed_one_and_an_unreadable_approval_is_none() -> Result<()> {
    let cluster = of_server().await?;
    let other = cluster.tenant("unreadable-third").await?;
    other.live(READER, json!({})).await?;
    let before = other.get_grant(READER).await?;

    let tenant = cluster.tenant("unreadable-owner").await?;
    let partner = tenant.live(READER, json!({})).await?;
    let definition = loosen(&tenant, "accessowners", &["spec", "usernames"]).await?;
    let bob = tenant.owner_name("bob");
    let usernames = |value: Value| json!({"spec": {"usernames": value}});
    let owner = async |value: Value| {
        tenant
            .patch_as(&tenant.root, "AccessOwner", "", &bob, usernames(value))
            .await
    };
    let cause = eventually("the spoilt owner to be let through", LIMIT, || async {
        let cause = Instant::now();
        owner(json!("bob, or somebody else")).await?;
        Ok(Some(cause))
    })
    .await?;
    partner.refused_within(cause, SEEN + END).await?;
    let grant = tenant.wait_reason(READER, "OwnerRemoved").await?;
    let said = text(&condition(&grant, "Ready")["message"]);
    ensure!(said.contains(&bob) && said.contains("can't be read"), "{said}");
    tenant.wait_nothing_left(&uid(&grant)).await?;
    others_go_on(&cluster, &other, &before, "unreadable-fresh-four").await?;
    // Read again, the owner is there; what rested on it has to be approved anew.
    replace(&tenant, definition).await?;
    eventually("the owner to be mended", LIMIT, || async {
        owner(json!(["bob"])).await?;
        Ok(Some(()))
    })
    .await?;
    tenant.wait_reason(READER, "AwaitingApproval").await?;
    next_second().await;
    tenant.approve(READER, json!({})).await?;
    tenant.wait_reason(READER, "Issued").await?;

    let tenant = cluster.tenant("unreadable-approval").await?;
    tenant.grant(READER, json!({})).await?;
    let definition = loosen(&tenant, "accessdecisions", &["spec", "validUntil"]).await?;
    eventually("the spoilt approval to be let through", LIMIT, || async {
        tenant
            .approve(READER, json!({"validUntil": "the cows come home"}))
            .await?;
        Ok(Some(()))
    })
    .await?;
    // By the time that others were issued it was seen.
    others_go_on(&cluster, &other, &before, "unreadable-fresh-five").await?;
    tenant.wait_reason(READER, "AwaitingApproval").await?;
    replace(&tenant, definition).await?;
    tenant.approve(READER, json!({})).await?;
    tenant.wait_reason(READER, "Issued").await?;
    Ok(())
}
