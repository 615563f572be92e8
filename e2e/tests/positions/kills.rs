//! The matrix: each scenario, each write of it, each single fault.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use wayleave_e2e::faults::{Call, Lasting};
use wayleave_e2e::tenant::{LIMIT, api};
use wayleave_e2e::{Fault, Moment, eventually};

use crate::oracle::{AT_ONCE, Tally, Tried, look_back, wait_end};
use crate::picture::Picture;
use crate::scenario::{Prepared, Scenario};
use crate::stand::{Stand, is_long};

/// Names one scenario: only that is tried, by whoever looks for what broke it.
const SCENARIO_VARIABLE: &str = "WAYLEAVE_TEST_SCENARIO";
/// So many runs without a fault show what every run writes.
const RUNS: usize = 3;
/// A position that is not there in every run gets so many tries.
const TRIES: usize = 6;
/// An end that comes by itself comes so long after the one before, in seconds.
const APART: i64 = 3;
/// Nothing is issued in the last minute of a grant; in seconds.
const LAST_MINUTE: i64 = 64;

/// The single faults.
const FAULTS: [(&str, Fault); 4] = [
    ("killed before", Fault::Killed(Moment::Before)),
    ("killed between", Fault::Killed(Moment::Between)),
    ("killed after", Fault::Killed(Moment::After)),
    ("answer lost", Fault::AnswerLost),
];

/// A write of a run: the so-manieth of those that are told the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Position {
    label: String,
    nth: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.nth {
            0 => write!(f, "{}", self.label),
            nth => write!(f, "{} #{}", self.label, nth + 1),
        }
    }
}

/// The writes among calls, in their order.
fn positions(calls: &[(Instant, Call)]) -> Vec<Position> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let writes = calls.iter().filter(|(_, call)| call.is_write());
    writes
        .map(|(_, call)| {
            let label = call.label();
            let count = counts.entry(label.clone()).or_default();
            *count += 1;
            Position { label, nth: *count - 1 }
        })
        .collect()
}

/// A fault that is met once.
struct Shot {
    hit: Arc<AtomicBool>,
    lasting: Lasting,
}

impl Shot {
    fn arm(stand: &Stand, tenant: &str, position: &Position, fault: Fault) -> Self {
        let hit = Arc::new(AtomicBool::new(false));
        let (seen, is_hit, tenant, position) = (
            AtomicUsize::new(0),
            Arc::clone(&hit),
            tenant.to_owned(),
            position.clone(),
        );
        let lasting = stand.faults.break_calls(fault, move |call| {
            if call.tenant != tenant || !call.is_write() || call.label() != position.label {
                return false;
            }
            let is_it = seen.fetch_add(1, Ordering::SeqCst) == position.nth;
            if is_it {
                is_hit.store(true, Ordering::SeqCst);
            }
            is_it
        });
        Self { hit, lasting }
    }

    fn is_hit(&self) -> bool {
        self.hit.load(Ordering::SeqCst)
    }
}

/// What runs without a fault show.
struct Sample<'a> {
    runs: Vec<Prepared<'a>>,
    positions: Vec<Position>,
    /// Writes that not every run has.
    sometimes: BTreeSet<Position>,
    end: Picture,
}

/// One position and one fault.
#[derive(Clone)]
struct Case {
    position: Position,
    name: &'static str,
    fault: Fault,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.name, self.position)
    }
}

/// One scenario on one stand.
struct Trial<'a> {
    stand: &'a Stand,
    scenario: Scenario,
    tenants: AtomicUsize,
}

impl<'a> Trial<'a> {
    fn name(&self) -> String {
        let number = self.tenants.fetch_add(1, Ordering::Relaxed);
        format!("{}-{number}x", self.scenario.as_str())
    }

    async fn prepare(&self, ends_in: i64) -> Result<Prepared<'a>> {
        let name = self.name();
        let prepared = self.scenario.prepare(self.stand.cp, &name, ends_in).await;
        prepared.with_context(|| format!("preparing {name}"))
    }

    /// Runs without a fault: they come to the same end by the same writes.
    async fn sample(&self) -> Result<Sample<'a>> {
        let runs = (0..RUNS).map(|_| self.prepare(LAST_MINUTE + 4));
        let runs = futures::future::try_join_all(runs).await?;
        for Prepared { tenant, .. } in &runs {
            self.stand.quiet(&tenant.ns, 0).await?;
        }
        // What comes late of before is no part of it.
        let since = self.stand.faults.count();
        for Prepared { tenant, .. } in &runs {
            self.scenario.cause(tenant).await?;
        }
        for Prepared { tenant, .. } in &runs {
            let limit = self.scenario.limit();
            eventually("it to happen", limit, || async {
                self.scenario.happened(tenant).await.map(Some)
            })
            .await?;
        }
        let mut samples = Vec::new();
        for Prepared { tenant, .. } in &runs {
            self.stand.quiet(&tenant.ns, since).await?;
            let calls = self.stand.faults.calls_of(&tenant.ns, since);
            samples.push((positions(&calls), Picture::of(tenant).await?));
        }
        let mut samples = samples.into_iter();
        let (one, end) = samples.next().context("no run")?;
        let is_live = self.scenario.ends_live();
        ensure!(
            end.has_children() == is_live,
            "without a fault it does not end as it should: {end:#?}"
        );
        let (mut always, mut all) = (one.clone(), BTreeSet::from_iter(one));
        for (positions, other) in samples {
            let differences = other.differences(&end);
            ensure!(
                differences.is_empty(),
                "two runs without a fault differ: {differences:#?}"
            );
            always.retain(|position| positions.contains(position));
            all.extend(positions);
        }
        all.retain(|position| !always.contains(position));
        Ok(Sample {
            runs,
            sometimes: all,
            positions: always,
            end,
        })
    }

    /// Runs one case; false where the position was not met.
    async fn run(&self, case: &Case, prepared: &Prepared<'a>, armed: Option<Shot>, end: &Picture) -> Result<bool> {
        let tenant = &prepared.tenant;
        let shot = armed.unwrap_or_else(|| Shot::arm(self.stand, &tenant.ns, &case.position, case.fault));
        self.scenario.cause(tenant).await.context("its cause")?;
        wait_end(tenant, end, self.scenario.limit()).await?;
        if !shot.is_hit() {
            return Ok(false);
        }
        if matches!(case.fault, Fault::Killed(_)) {
            eventually("the operator to be killed", LIMIT, || async {
                Ok(shot.lasting.has_killed().then_some(()))
            })
            .await?;
        }
        Ok(true)
    }
}

/// Tries every case of a scenario; what fails is told at the end.
async fn try_scenario(stand: &Stand, scenario: Scenario, faults: &[(&'static str, Fault)]) -> Result<Tally> {
    let begun = Instant::now();
    let trial = Trial {
        stand,
        scenario,
        tenants: AtomicUsize::new(0),
    };
    let sample = trial
        .sample()
        .await
        .with_context(|| format!("{} without a fault", scenario.as_str()))?;
    let told: Vec<String> = sample.positions.iter().map(ToString::to_string).collect();
    wayleave_e2e::progress(&format!("{}: {} positions: {told:#?}", scenario.as_str(), told.len()));
    for position in &sample.sometimes {
        wayleave_e2e::progress(&format!("{}: not in every run: {position}", scenario.as_str()));
    }
    let mut tally = Tally::of_scenario();
    let without = |prepared| Tried {
        case: "without a fault".to_owned(),
        prepared,
    };
    let mut tried: Vec<Tried<'_>> = sample.runs.into_iter().map(without).collect();
    let mut hit: BTreeSet<Position> = BTreeSet::new();
    let cases = sample.positions.iter().flat_map(|position| {
        faults.iter().map(|(name, fault)| Case {
            position: position.clone(),
            name,
            fault: *fault,
        })
    });
    let mut open: Vec<Case> = cases.collect();
    for _ in 0..TRIES {
        if open.is_empty() {
            break;
        }
        let first = LAST_MINUTE + i64::try_from(open.len())?;
        let ends = (0..).map(|number: i64| first + APART * number);
        // Ends are counted from now, whenever a tenant is made.
        let now = Instant::now();
        let prepared: Vec<(Case, Prepared<'_>, Option<Shot>)> = futures::stream::iter(open.drain(..).zip(ends))
            .map(|(case, end)| {
                let trial = &trial;
                async move {
                    let passed = i64::try_from(now.elapsed().as_secs())?;
                    let prepared = trial.prepare(end - passed).await?;
                    stand.quiet(&prepared.tenant.ns, 0).await?;
                    // An end that comes by itself does not wait to be broken.
                    let comes = scenario == Scenario::Expire;
                    let shot = comes.then(|| Shot::arm(stand, &prepared.tenant.ns, &case.position, case.fault));
                    anyhow::Ok((case, prepared, shot))
                }
            })
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        for (case, prepared, shot) in prepared {
            let started = Instant::now();
            let outcome = trial.run(&case, &prepared, shot, &sample.end).await;
            wayleave_e2e::progress(&format!("{}: {case}: {:?}", prepared.tenant.ns, started.elapsed()));
            match outcome {
                Ok(true) => {
                    hit.insert(case.position.clone());
                    tally.faults += 1;
                }
                Ok(false) => open.push(case.clone()),
                Err(error) => {
                    let line = format!("{} ({}): {case}: {error:#}", scenario.as_str(), prepared.tenant.ns);
                    tally.fail(line);
                }
            }
            tried.push(Tried {
                case: case.to_string(),
                prepared,
            });
        }
    }
    for case in &open {
        let line = format!("{}: {case}: was never met", scenario.as_str());
        match case.position.nth {
            0 => tally.fail(line),
            // Said in two writes or in one, as the calls of a run fall: what several runs at once have in common need not come
            // again in one by itself.
            _ => {
                tally.missed += 1;
                wayleave_e2e::progress(&line);
            }
        }
    }
    tally.positions = hit.len();
    look_back(stand, scenario, &tried, &sample.end, &mut tally).await?;
    wayleave_e2e::progress(&format!(
        "{}: {} positions, {} faults, {} tokens in {:?}",
        scenario.as_str(),
        tally.positions,
        tally.faults,
        tally.tokens,
        begun.elapsed()
    ));
    Ok(tally)
}

#[tokio::test]
async fn whatever_write_is_cut_off_the_end_is_the_same_and_no_token_survives() -> Result<()> {
    let begun = Instant::now();
    let stand = Stand::start().await?;
    let chosen = std::env::var(SCENARIO_VARIABLE).unwrap_or_default();
    let mut total = Tally::default();
    for scenario in Scenario::ALL {
        let is_chosen = match chosen.as_str() {
            "" => is_long() || matches!(scenario, Scenario::Issue | Scenario::Revoke),
            name => name == scenario.as_str(),
        };
        if !is_chosen {
            continue;
        }
        // What was written, and nobody knows: of all single faults the one that leaves most to be found.
        let faults = if is_long() { &FAULTS[..] } else { &FAULTS[1..2] };
        match try_scenario(&stand, scenario, faults).await {
            Ok(tally) => total.add(tally),
            Err(error) => total.fail(format!("{}: {error:#}", scenario.as_str())),
        }
    }
    // No token is in the log, those that nobody got least of all.
    let logs = stand.operator.logs()?;
    for minted in stand.faults.minted() {
        let mut parts = minted.token.split('.').skip(1);
        ensure!(
            !parts.any(|part| logs.contains(part)),
            "a token, or a part of one, is in the log"
        );
    }
    let left = api(&stand.cp.admin().await?, "RoleBinding", "")
        .list(&Default::default())
        .await?;
    let left = left
        .iter()
        .filter(|it| kube::ResourceExt::name_any(*it).starts_with("wlg-"))
        .count();
    wayleave_e2e::progress(&format!(
        "tried {} scenarios, {} positions, {} faults, {} repeated writes did not come again; {} tokens were presented; {:?}",
        total.scenarios,
        total.positions,
        total.faults,
        total.missed,
        total.tokens,
        begun.elapsed()
    ));
    // The one that is none of ours.
    let outcome = total.outcome();
    ensure!(left == 1 || outcome.is_err(), "{left} bindings are left");
    outcome
}
