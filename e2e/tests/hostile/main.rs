//! Hostile tenants and partners (invariant F18): every mutating verb on every kind that the API server serves, against what
//! is made for partners. Each attempt is refused, or stands on a short list with the reason why it does no harm.
#![expect(clippy::disallowed_types, reason = "tests drive a real cluster")]

mod allowed;
mod attempt;
mod attempts;
mod catalog;
mod cluster;
mod deeds;
mod enrolment;
mod forgeries;
mod ours;
mod rights;
mod table;
mod workloads;

use std::time::Instant;

use anyhow::{Result, ensure};
use wayleave_e2e::progress;

#[tokio::test]
async fn what_was_approved_is_all_that_anybody_gets() -> Result<()> {
    let begun = Instant::now();
    let world = cluster::World::new().await?;
    let targets = ours::targets(&world.root, &world.catalog).await?;
    let attempts = attempts::all(&world, &targets);
    progress(&format!(
        "{} targets, {} attempts each, after {:?}",
        targets.len(),
        attempts.len(),
        begun.elapsed()
    ));
    let rights = rights::are_as_approved(&world).await?;
    let before = ours::by_place(&ours::settled(&world.root, &world.catalog).await?);
    let outcomes = table::play(&world, &attempts).await?;
    table::show(&outcomes, begun);
    table::explained(&world, &outcomes)?;
    table::every_policy_refused(&world, &outcomes).await?;
    let after = ours::by_place(&ours::settled(&world.root, &world.catalog).await?);
    let changed: Vec<&String> = before
        .keys()
        .chain(after.keys())
        .filter(|key| before.get(*key) != after.get(*key))
        .collect();
    ensure!(changed.is_empty(), "changed: {changed:?}");
    ensure!(rights::are_as_approved(&world).await? == rights);
    let unread = rights::nothing_of_others_is_read(&world, &targets).await?;
    progress(&format!(
        "{} objects unchanged, {rights} rights as approved, {unread} reads refused",
        after.len()
    ));
    deeds::bring_nothing(&world, &outcomes).await?;
    progress(&format!("deeds done after {:?}", begun.elapsed()));
    enrolment::is_no_way_around(&world).await?;
    progress(&format!("enrolments after {:?}", begun.elapsed()));
    workloads::make_no_pods(&world).await?;
    for (tenant, grant) in [
        (&world.shop, cluster::NEAR),
        (&world.shop, cluster::WIDE),
        (&world.vault, "reader"),
    ] {
        ensure!(
            tenant.partner(grant).await?.read().await? == 200,
            "{grant} lost its access"
        );
    }
    let logs = world.operator.logs()?;
    let signatures = world
        .partners
        .iter()
        .filter_map(|(_, partner)| partner.token.rsplit('.').next());
    ensure!(
        signatures.into_iter().all(|it| !logs.contains(it)),
        "a token stands in the operator's log"
    );
    progress(&format!("after {:?}", begun.elapsed()));
    Ok(())
}
