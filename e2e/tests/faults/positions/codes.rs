//! Every answer that an API server may give, at every call of a grant's life: whatever is refused, and for however long, no object
//! costs more than twenty calls a minute, and when the fault is gone the end is that of a run without it.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use wayleave_e2e::faults::Lasting;
use wayleave_e2e::tenant::LIMIT;
use wayleave_e2e::{Fault, eventually, is_long};

use super::kills::LAST_MINUTE;
use super::oracle::{AT_ONCE, Tally, Tried, look_back, wait_end};
use super::picture::Picture;
use super::scenario::{Prepared, Scenario};
use super::shape::Shape;
use super::stand::Stand;

/// What calls are answered with.
const CODES: [Fault; 11] = [
    Fault::Refused(403),
    Fault::Refused(404),
    Fault::Refused(409),
    Fault::Refused(410),
    Fault::Refused(422),
    Fault::Refused(429),
    Fault::Refused(500),
    Fault::Refused(503),
    Fault::Refused(504),
    Fault::Unreached,
    Fault::Hangs,
];
/// What the selection tries: where an answer could be taken for what it is not.
const SELECTION: [(Scenario, &str, Fault); 10] = [
    (Scenario::Revoke, "DELETE rolebindings entry 0", Fault::Refused(404)),
    (Scenario::Revoke, "DELETE rolebindings entry 0", Fault::Refused(409)),
    (Scenario::Revoke, "DELETE rolebindings entry 0", Fault::Unreached),
    (
        Scenario::Revoke,
        "DELETE secrets anchor of identities",
        Fault::Refused(404),
    ),
    (
        Scenario::Revoke,
        "DELETE serviceaccounts of identities",
        Fault::Refused(403),
    ),
    (
        Scenario::Revoke,
        "PATCH accessgrants/status reader",
        Fault::Refused(404),
    ),
    (Scenario::GrantDeleted, "PATCH accessgrants reader", Fault::Refused(404)),
    (
        Scenario::Approve,
        "POST serviceaccounts/token of identities",
        Fault::Refused(429),
    ),
    (
        Scenario::Approve,
        "PATCH accessgrants/status reader",
        Fault::Refused(409),
    ),
    (Scenario::Approve, "POST rolebindings entry 0", Fault::Refused(503)),
];
/// The life of a grant, part by part, to the ends that the selection looks at.
const LIFE: [Scenario; 4] = [
    Scenario::Approve,
    Scenario::Rotate,
    Scenario::Revoke,
    Scenario::GrantDeleted,
];
/// The other ends.
const OTHER_ENDS: [Scenario; 3] = [Scenario::Expire, Scenario::OwnerRemoved, Scenario::NamespaceDeleted];
/// Preparing a tenant takes no longer, beside others: an end that comes by itself comes after all of them.
const PREPARING: Duration = Duration::from_secs(1);
/// A passing fault is met so many times.
const PASSING: usize = 2;
/// The first attempts follow soon, for what passes: what lasts is counted after them.
const FIRST_ATTEMPTS: Duration = Duration::from_secs(30);
const MINUTE: Duration = Duration::from_secs(60);
/// No object costs more calls a minute, whatever fails.
const MOST_CALLS: usize = 20;
/// What is refused for good is tried again after a minute.
const AGAIN: Duration = Duration::from_secs(90);

/// A part of a life, a call of it, and its answer.
#[derive(Clone)]
struct Pair {
    scenario: Scenario,
    label: String,
    fault: Fault,
}

impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {:?}", self.scenario.as_str(), self.label, self.fault)
    }
}

/// A pair that is broken for one tenant.
struct Trial<'a> {
    pair: Pair,
    prepared: Prepared<'a>,
    met: Arc<AtomicUsize>,
    lasting: Lasting,
}

/// What a part of a life calls, and to what end it comes.
struct Sample<'a> {
    scenario: Scenario,
    labels: BTreeSet<String>,
    end: Picture,
    prepared: Prepared<'a>,
}

async fn sample<'a>(stand: &Stand, scenario: Scenario) -> Result<Sample<'a>> {
    let name = format!("codes-{}", scenario.as_str());
    let prepared = scenario.prepare(stand, Shape::Plain, &name, LAST_MINUTE + 4).await?;
    let tenant = &prepared.tenant;
    stand.quiet(&tenant.ns, 0).await?;
    let since = stand.faults.count();
    scenario.cause(&prepared).await?;
    eventually("it to happen", scenario.limit(), || async {
        scenario.happened(tenant).await.map(Some)
    })
    .await?;
    stand.quiet(&tenant.ns, since).await?;
    let calls = stand.faults.calls_of(&tenant.ns, since);
    let labels = calls.iter().map(|(_, call)| call.label()).collect();
    let end = Picture::of(&prepared).await?;
    ensure!(
        end.has_children() == scenario.ends_live(),
        "without a fault it does not end as it should: {end:#?}"
    );
    Ok(Sample {
        scenario,
        labels,
        end,
        prepared,
    })
}

/// Breaks a call of a tenant: `times` times, or until it is mended.
fn break_pair<'a>(stand: &Stand, pair: Pair, prepared: Prepared<'a>, times: usize) -> Trial<'a> {
    let met = Arc::new(AtomicUsize::new(0));
    let (tenant, label, count) = (prepared.tenant.ns.clone(), pair.label.clone(), Arc::clone(&met));
    let lasting = stand.faults.break_calls(pair.fault, move |call| {
        let is_it = call.tenant == tenant && call.label() == label;
        is_it && count.fetch_add(1, Ordering::SeqCst) < times
    });
    Trial {
        pair,
        prepared,
        met,
        lasting,
    }
}

/// Tries pairs, all at once: with faults that last for more than a minute, or pass.
async fn try_pairs(stand: &Stand, samples: Vec<Sample<'_>>, pairs: Vec<Pair>, lasts: bool) -> Result<Tally> {
    let begun = Instant::now();
    let mut tally = Tally::default();
    let count = pairs.len();
    let times = if lasts { usize::MAX } else { PASSING };
    // An end that comes by itself comes when all the others are brought about.
    let comes = PREPARING * u32::try_from(count)? + Duration::from_secs(LAST_MINUTE.unsigned_abs()) + LIMIT;
    let is_awaited = pairs.iter().any(|pair| pair.scenario == Scenario::Expire);
    let trials: Vec<Trial<'_>> = futures::stream::iter(pairs.into_iter().enumerate())
        .map(|(number, pair)| async move {
            let name = format!("codes-{}-{number}x", pair.scenario.as_str());
            let left = comes.saturating_sub(begun.elapsed()).as_secs();
            let prepared = pair
                .scenario
                .prepare(stand, Shape::Plain, &name, i64::try_from(left)?)
                .await;
            let prepared = prepared.with_context(|| format!("preparing {name}"))?;
            stand.quiet(&prepared.tenant.ns, 0).await?;
            anyhow::Ok(break_pair(stand, pair, prepared, times))
        })
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    wayleave_e2e::progress(&format!("{count} pairs are prepared after {:?}", begun.elapsed()));
    if is_awaited {
        eventually("the ends that come by themselves", comes + LIMIT, || async {
            Ok((begun.elapsed() >= comes).then_some(()))
        })
        .await?;
    }
    for trial in &trials {
        trial.pair.scenario.cause(&trial.prepared).await?;
    }
    let mut marks = Vec::new();
    if lasts {
        let caused = Instant::now();
        eventually("the first attempts", FIRST_ATTEMPTS + LIMIT, || async {
            Ok((caused.elapsed() >= FIRST_ATTEMPTS).then_some(()))
        })
        .await?;
        let (mark, counted) = (stand.faults.count(), Instant::now());
        eventually("a minute to pass", MINUTE + LIMIT, || async {
            Ok((counted.elapsed() >= MINUTE).then_some(()))
        })
        .await?;
        for trial in &trials {
            let calls = stand.faults.calls_of(&trial.prepared.tenant.ns, mark);
            let calls: Vec<String> = calls
                .into_iter()
                .filter(|(at, call)| *at < counted + MINUTE && !call.is_watch())
                .map(|(at, call)| format!("{:?} {}", at.duration_since(counted), call.label()))
                .collect();
            marks.push(calls.len());
            if calls.len() > MOST_CALLS {
                tally.fail(format!("{}: {} calls in a minute: {calls:#?}", trial.pair, calls.len()));
            }
        }
    }
    let most = marks.iter().max().copied().unwrap_or_default();
    wayleave_e2e::progress(&format!(
        "at most {most} calls a minute; the faults end after {:?}",
        begun.elapsed()
    ));
    // A fault that passes is over when it was met as often as it is to be.
    let mut passing = Vec::new();
    let mut tried: Vec<(Pair, Arc<AtomicUsize>, Prepared<'_>)> = Vec::new();
    for Trial {
        pair,
        prepared,
        met,
        lasting,
    } in trials
    {
        if lasts {
            drop(lasting);
        } else {
            let all_met = eventually("the fault to be met", AGAIN, || async {
                Ok((met.load(Ordering::SeqCst) > 0).then_some(()))
            });
            all_met.await.with_context(|| pair.to_string())?;
            passing.push(lasting);
        }
        tried.push((pair, met, prepared));
    }
    let mended = Instant::now();
    let end_of = |scenario: Scenario| {
        samples
            .iter()
            .find(|sample| sample.scenario == scenario)
            .map(|it| &it.end)
    };
    let looks = futures::stream::iter(&tried).map(|(pair, met, prepared)| async {
        let end = end_of(pair.scenario).context("no sample")?;
        // At least one whole look.
        let left = AGAIN.saturating_sub(mended.elapsed()).max(LIMIT);
        wait_end(prepared, end, left).await?;
        ensure!(met.load(Ordering::SeqCst) > 0, "was never met");
        anyhow::Ok(())
    });
    let looks: Vec<Result<()>> = looks.buffered(AT_ONCE).collect().await;
    for ((pair, _, prepared), looked) in tried.iter().zip(looks) {
        match looked {
            Ok(()) => tally.faults += 1,
            Err(error) => tally.fail(format!("{pair} ({}): {error:#}", prepared.tenant.ns)),
        }
    }
    wayleave_e2e::progress(&format!("all ends are there {:?} after the faults", mended.elapsed()));
    for Sample { scenario, end, .. } in &samples {
        let scenario = *scenario;
        let (these, others): (Vec<_>, Vec<_>) = tried.into_iter().partition(|(pair, ..)| pair.scenario == scenario);
        tried = others;
        let these: Vec<Tried<'_>> = these
            .into_iter()
            .map(|(pair, _, prepared)| Tried {
                case: pair.to_string(),
                prepared,
            })
            .collect();
        look_back(stand, scenario, &these, end, &mut tally).await?;
    }
    wayleave_e2e::progress(&format!("{count} pairs of call and answer took {:?}", begun.elapsed()));
    Ok(tally)
}

#[tokio::test]
async fn whatever_is_answered_the_end_is_the_same_and_nothing_runs_hot() -> Result<()> {
    let stand = &Stand::start().await?;
    let others = OTHER_ENDS.into_iter().filter(|_| is_long());
    let samples = LIFE.into_iter().chain(others).map(|scenario| async move {
        let sample = sample(stand, scenario).await;
        sample.with_context(|| format!("{} without a fault", scenario.as_str()))
    });
    let samples = futures::future::try_join_all(samples).await?;
    let mut pairs = Vec::new();
    for Sample { scenario, labels, .. } in &samples {
        for label in labels {
            for fault in CODES {
                // A watch that says nothing is one on which nothing happens.
                let is_nothing = fault == Fault::Hangs && label.starts_with("WATCH");
                let is_selected = SELECTION.contains(&(*scenario, label.as_str(), fault));
                if !is_nothing && (is_long() || is_selected) {
                    pairs.push(Pair {
                        scenario: *scenario,
                        label: label.clone(),
                        fault,
                    });
                }
            }
        }
    }
    let calls: BTreeSet<&str> = pairs.iter().map(|pair| pair.label.as_str()).collect();
    wayleave_e2e::progress(&format!("{} pairs of {} calls: {calls:#?}", pairs.len(), calls.len()));
    ensure!(
        is_long() || pairs.len() == SELECTION.len(),
        "something of the selection is called no more"
    );
    for sample in samples.iter().filter(|sample| sample.scenario.ends_live()) {
        sample.prepared.revoke().await?;
    }
    let tally = try_pairs(stand, samples, pairs, is_long()).await?;
    wayleave_e2e::progress(&format!(
        "tried {} pairs of call and answer; {} tokens were presented",
        tally.faults, tally.tokens
    ));
    tally.outcome()
}
