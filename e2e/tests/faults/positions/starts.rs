//! The calls that every grant hangs on: lists, watches, the proof of admission and its record. A process that starts gets each of them
//! refused at first, or not answered; when that is over all is as it should be.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use http::Method;
use wayleave_e2e::faults::Call;
use wayleave_e2e::tenant::api;
use wayleave_e2e::{Fault, eventually, is_long};

use super::picture::Picture;
use super::scenario::{Prepared, READER, Scenario};
use super::shape::Shape;
use super::stand::Stand;

/// Each call is broken so many times.
const TIMES: usize = 2;
/// Watches pause for up to three seconds after an error, and proofs too.
const SOON: Duration = Duration::from_secs(45);
/// A call that is not answered is given up after a minute, and some calls follow others.
const GIVEN_UP: Duration = Duration::from_secs(400);

/// What all grants share.
fn is_shared(call: &Call) -> bool {
    call.method == Method::GET || call.path.contains("dryRun=") || call.parts().resource == "configmaps"
}

/// What was there before, and what is to come of it.
struct World<'a> {
    stays: Prepared<'a>,
    ends: Prepared<'a>,
    begins: Prepared<'a>,
}

async fn prepare<'a>(stand: &'a Stand, number: usize) -> Result<World<'a>> {
    let name = |what: &str| format!("starts-{what}-{number}x");
    let world = World {
        stays: Scenario::Revoke.prepare(stand, Shape::Plain, &name("stays"), 0).await?,
        ends: Scenario::Revoke.prepare(stand, Shape::Plain, &name("ends"), 0).await?,
        begins: Scenario::Approve
            .prepare(stand, Shape::Plain, &name("begins"), 0)
            .await?,
    };
    for prepared in [&world.stays, &world.ends, &world.begins] {
        stand.quiet(&prepared.tenant.ns, 0).await?;
    }
    Ok(world)
}

/// Starts the operator while each shared call is broken at first; gives what was broken, with the number of times.
async fn start(stand: &Stand, world: &World<'_>, fault: Fault) -> Result<BTreeMap<String, usize>> {
    let World { stays, ends, begins } = world;
    let before = Picture::of(stays).await?;
    let partner = ends.tenant.partner(READER).await?;
    stand.operator.stop().await?;
    let met: Arc<Mutex<BTreeMap<String, usize>>> = Arc::default();
    let counted = Arc::clone(&met);
    let lasting = stand.faults.break_calls(fault, move |call| {
        if !is_shared(call) {
            return false;
        }
        let mut counted = counted.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counted.entry(call.label()).or_default();
        *count += 1;
        *count <= TIMES
    });
    Scenario::Revoke.cause(ends).await?;
    Scenario::Approve.cause(begins).await?;
    stand.operator.start_again()?;
    let limit = if fault == Fault::Hangs { GIVEN_UP } else { SOON };
    let started = Instant::now();
    eventually("what came due while it was down", limit, || async {
        ensure!(partner.read().await? == 401, "the partner is not refused");
        ends.tenant.wait_reason(READER, "Revoked").await?;
        begins.tenant.wait_reason(READER, "Issued").await?;
        Ok(Some(()))
    })
    .await?;
    drop(lasting);
    wayleave_e2e::progress(&format!(
        "{fault:?} at every shared call: right after {:?}",
        started.elapsed()
    ));
    ensure!(begins.tenant.partner(READER).await?.read().await? == 200);
    ensure!(stays.tenant.partner(READER).await?.read().await? == 200);
    stand.quiet(&stays.tenant.ns, 0).await?;
    let differences = Picture::of(stays).await?.differences(&before);
    ensure!(
        differences.is_empty(),
        "what was in order was written to: {differences:#?}"
    );
    for prepared in [stays, begins] {
        prepared.revoke().await?;
        prepared.tenant.wait_reason(READER, "Revoked").await?;
    }
    let met = met.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok(met)
}

#[tokio::test]
async fn a_start_outlives_whatever_its_first_calls_are_answered_with() -> Result<()> {
    let stand = Stand::start().await?;
    let codes = [403, 404, 409, 410, 422, 429, 500, 503, 504].map(Fault::Refused);
    let faults = if is_long() {
        [codes.as_slice(), &[Fault::Hangs]].concat()
    } else {
        vec![Fault::Refused(410)]
    };
    let (mut pairs, mut calls) = (0, 0);
    for (number, fault) in faults.into_iter().enumerate() {
        let world = prepare(&stand, number).await?;
        let met = start(&stand, &world, fault)
            .await
            .with_context(|| format!("{fault:?}"))?;
        pairs += met.len();
        calls = calls.max(met.len());
        ensure!(met.len() >= 12, "only these were called: {met:#?}");
    }
    let left = api(&stand.cp.admin().await?, "ConfigMap", "wayleave-system")
        .list(&Default::default())
        .await?;
    ensure!(!left.items.is_empty(), "there is no record of proofs");
    wayleave_e2e::progress(&format!(
        "{calls} shared calls, {pairs} pairs of call and answer at a start"
    ));
    Ok(())
}
