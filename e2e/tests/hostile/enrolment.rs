//! The enrolment of a namespace in the hands of its admin: it goes once everything is closed, and not before. And what he gives
//! to everybody is told.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use kube::Client;
use kube::api::DeleteParams;
use serde_json::json;
use wayleave_e2e::tenant::{LIMIT, api, binding, condition, create, enrolment};
use wayleave_e2e::{Mark, eventually};

use crate::cluster::{DEPOT, FAR, NEAR, SHOP, World};

const ENROLMENT: &str = "enrolment";
const COLLECTOR: &str = "system:serviceaccount:kube-system:generic-garbage-collector";
/// The garbage collector takes its time to look for an owner.
const COLLECTED: Duration = Duration::from_secs(90);

/// What an admin of the shop and of the depot can do to the enrolments.
pub async fn is_no_way_around(world: &World) -> Result<()> {
    let admin = &world
        .attackers
        .iter()
        .find(|it| it.name == "admin")
        .context("no admin")?
        .client;
    stays_in_spite_of_the_garbage_collector(world, admin).await?;
    goes_when_all_is_closed(world, admin).await?;
    what_everybody_gets_is_told(world, admin).await
}

/// An owner that is not there has the garbage collector delete it: that is refused while a grant of the namespace is active.
async fn stays_in_spite_of_the_garbage_collector(world: &World, admin: &Client) -> Result<()> {
    let mark = world.cp.audit()?.mark()?;
    let owner = json!([{
        "apiVersion": "v1", "kind": "ConfigMap", "name": "nobody", "uid": "0b5e55ed-0000-4000-8000-00000000dead",
    }]);
    let shop = &world.shop;
    shop.patch_as(
        admin,
        "RoleBinding",
        SHOP,
        ENROLMENT,
        json!({"metadata": {"ownerReferences": owner}}),
    )
    .await?;
    eventually("the garbage collector to be refused", COLLECTED, || async {
        let tries = world
            .cp
            .audit()?
            .since(mark)?
            .by_user(COLLECTOR)
            .of("rolebindings")
            .writes();
        let refused = tries.iter().any(|it| it.code() == 403);
        ensure!(refused, "{} tries", tries.iter().count());
        Ok(Some(()))
    })
    .await?;
    let enrolled = api(&world.root, "RoleBinding", SHOP).get(ENROLMENT).await?;
    ensure!(enrolled.metadata.deletion_timestamp.is_none(), "it is going");
    shop.patch_as(
        admin,
        "RoleBinding",
        SHOP,
        ENROLMENT,
        json!({"metadata": {"ownerReferences": null}}),
    )
    .await?;
    ensure!(shop.partner(NEAR).await?.read().await? == 200);
    Ok(())
}

/// A grant of another namespace reaches the depot. Its admin takes the enrolment away: access ends, all of it is taken away,
/// and only then is the enrolment gone.
async fn goes_when_all_is_closed(world: &World, admin: &Client) -> Result<()> {
    let shop = &world.shop;
    let partner = shop.partner(FAR).await?;
    let there = api(&world.cp.with_token(&partner.token).await?, "ConfigMap", DEPOT);
    there.get("feed").await.context("the partner reads in the depot")?;
    let mark = world.cp.audit()?.mark()?;
    let begun = Instant::now();
    api(admin, "RoleBinding", DEPOT)
        .delete(ENROLMENT, &DeleteParams::default())
        .await?;
    partner.refused_since(begun).await?;
    shop.wait_reason(FAR, "NotEnrolled").await?;
    eventually("the enrolment to go", LIMIT, || async {
        let left = api(&world.root, "RoleBinding", DEPOT).get_opt(ENROLMENT).await?;
        Ok(left.is_none().then_some(()))
    })
    .await?;
    ensure!(there.get("feed").await.is_err(), "the depot still answers");
    let left: Vec<String> = api(&world.root, "RoleBinding", DEPOT)
        .list(&kube::api::ListParams::default())
        .await?
        .into_iter()
        .filter_map(|it| it.metadata.name.filter(|name| name.starts_with("wlg-")))
        .collect();
    ensure!(left.is_empty(), "left: {left:?}");
    refused_nothing(world, mark)?;
    create(
        &world.root,
        "RoleBinding",
        DEPOT,
        ENROLMENT,
        enrolment("wayleave-enrolment"),
    )
    .await?;
    shop.wait_reason(FAR, "Issued").await?;
    Ok(())
}

/// The operator never lacked a right: it closed what it had opened by the enrolment that was going.
fn refused_nothing(world: &World, mark: Mark) -> Result<()> {
    let user = format!(
        "system:serviceaccount:{}:{}",
        wayleave_e2e::operator::NAMESPACE,
        wayleave_e2e::operator::SERVICE_ACCOUNT
    );
    let refused: Vec<String> = world
        .cp
        .audit()?
        .since(mark)?
        .by_user(&user)
        .of("rolebindings")
        .writes()
        .iter()
        // Once it has let go of the enrolment it may try so again.
        .filter(|it| it.code() == 403 && it.object_ref.as_ref().is_none_or(|it| it.name != ENROLMENT))
        .map(ToString::to_string)
        .collect();
    ensure!(refused.is_empty(), "{refused:?}");
    Ok(())
}

/// A binding to every ServiceAccount is RBAC's to allow. It reaches partners too: their grants say so.
async fn what_everybody_gets_is_told(world: &World, admin: &Client) -> Result<()> {
    let everybody =
        json!([{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:serviceaccounts"}]);
    create(admin, "RoleBinding", SHOP, "everybody", binding("view", everybody)).await?;
    eventually("the grant to say so", LIMIT, || async {
        let told = condition(&world.shop.get_grant(NEAR).await?, "OtherRights");
        if told["status"] == "True" && told["message"].as_str().is_some_and(|it| it.contains("shop/everybody")) {
            return Ok(Some(()));
        }
        bail!("{told}")
    })
    .await?;
    api(admin, "RoleBinding", SHOP)
        .delete("everybody", &DeleteParams::default())
        .await?;
    eventually("the grant to say so no more", LIMIT, || async {
        let told = condition(&world.shop.get_grant(NEAR).await?, "OtherRights");
        Ok((told["status"] != "True").then_some(()))
    })
    .await
}
