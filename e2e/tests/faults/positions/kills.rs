//! The matrix: each scenario, each write of it, each single fault.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use wayleave_e2e::tenant::{LIMIT, api};
use wayleave_e2e::{eventually, is_long};

use super::oracle::{AT_ONCE, Tally, Tried, holds_no_token, look_back, wait_end};
use super::picture::Picture;
use super::scenario::{Prepared, Scenario};
use super::shape::Shape;
use super::shots::{Case, Position, Shot, common, positions, selected};
use super::stand::Stand;

/// Names one scenario: only that is tried, by whoever looks for what broke it.
const SCENARIO_VARIABLE: &str = "WAYLEAVE_TEST_SCENARIO";
/// Names one shape, likewise.
const SHAPE_VARIABLE: &str = "WAYLEAVE_TEST_SHAPE";
/// So many runs without a fault show what every run writes.
const RUNS: usize = 3;
/// A position that is not there in every run gets so many tries.
const TRIES: usize = 6;
/// An end that comes by itself comes so long after the one before, in seconds.
const APART: i64 = 3;
/// Nothing is issued in the last minute of a grant; in seconds.
pub const LAST_MINUTE: i64 = 64;

/// What runs without a fault show.
struct Sample<'a> {
    runs: Vec<Prepared<'a>>,
    positions: Vec<Position>,
    /// Writes that not every run has.
    sometimes: BTreeSet<Position>,
    end: Picture,
}

/// One scenario on one stand.
struct Trial<'a> {
    stand: &'a Stand,
    shape: Shape,
    scenario: Scenario,
    tenants: AtomicUsize,
}

impl<'a> Trial<'a> {
    fn name(&self) -> String {
        let number = self.tenants.fetch_add(1, Ordering::Relaxed);
        format!("{}-{}-{number}x", self.shape.as_str(), self.scenario.as_str())
    }

    async fn prepare(&self, ends_in: i64) -> Result<Prepared<'a>> {
        let name = self.name();
        let prepared = self.scenario.prepare(self.stand, self.shape, &name, ends_in).await;
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
        for prepared in &runs {
            self.scenario.cause(prepared).await?;
        }
        for Prepared { tenant, .. } in &runs {
            let limit = self.scenario.limit();
            eventually("it to happen", limit, || async {
                self.scenario.happened(tenant).await.map(Some)
            })
            .await?;
        }
        let (mut written, mut ends) = (Vec::new(), Vec::new());
        for prepared in &runs {
            self.stand.quiet(&prepared.tenant.ns, since).await?;
            written.push(positions(self.stand, &prepared.tenant.ns, since));
            ends.push(Picture::of(prepared).await?);
        }
        let end = ends.pop().context("no run")?;
        let is_live = self.scenario.ends_live();
        ensure!(
            end.has_children() == is_live,
            "without a fault it does not end as it should: {end:#?}"
        );
        for other in ends {
            let differences = other.differences(&end);
            ensure!(
                differences.is_empty(),
                "two runs without a fault differ: {differences:#?}"
            );
        }
        let (positions, sometimes) = common(written);
        Ok(Sample {
            runs,
            positions,
            sometimes,
            end,
        })
    }

    /// Runs one case; false where the position was not met.
    async fn run(&self, case: &Case, prepared: &Prepared<'a>, armed: Option<Shot>, end: &Picture) -> Result<bool> {
        let shot = armed.unwrap_or_else(|| Shot::arm(self.stand, &prepared.tenant.ns, case));
        self.scenario.cause(prepared).await.context("its cause")?;
        wait_end(prepared, end, self.scenario.limit()).await?;
        eventually("the operator to be killed", LIMIT, || async {
            Ok(shot.is_over().then_some(()))
        })
        .await?;
        Ok(shot.is_hit())
    }
}

/// Whether a scenario is tried with this shape.
fn is_chosen(shape: Shape, scenario: Scenario) -> bool {
    let named = |variable: &str| std::env::var(variable).ok().filter(|name| !name.is_empty());
    let (one_shape, one_scenario) = (named(SHAPE_VARIABLE), named(SCENARIO_VARIABLE));
    let is_in_all = is_long()
        || match shape {
            Shape::Plain => matches!(scenario, Scenario::Issue | Scenario::Revoke),
            Shape::Wide => scenario == Scenario::Issue,
            Shape::Static => scenario == Scenario::Revoke,
        };
    shape.meets(scenario)
        && one_shape.as_deref().is_none_or(|name| name == shape.as_str())
        && one_scenario
            .as_deref()
            .map_or(is_in_all, |name| name == scenario.as_str())
}

/// Tries every case of a scenario; what fails is told at the end.
async fn try_scenario(stand: &Stand, shape: Shape, scenario: Scenario) -> Result<Tally> {
    let begun = Instant::now();
    let name = &format!("{} {}", shape.as_str(), scenario.as_str());
    let trial = Trial {
        stand,
        shape,
        scenario,
        tenants: AtomicUsize::new(0),
    };
    let sample = trial
        .sample()
        .await
        .with_context(|| format!("{name} without a fault"))?;
    let told: Vec<String> = sample.positions.iter().map(ToString::to_string).collect();
    wayleave_e2e::progress(&format!("{name}: {} positions: {told:#?}", told.len()));
    for position in &sample.sometimes {
        wayleave_e2e::progress(&format!("{name}: not in every run: {position}"));
    }
    let mut tally = Tally::of_scenario();
    let without = |prepared| Tried {
        case: "without a fault".to_owned(),
        prepared,
    };
    let mut tried: Vec<Tried<'_>> = sample.runs.into_iter().map(without).collect();
    let mut hit: BTreeSet<Position> = BTreeSet::new();
    let mut open = selected(shape, &sample.positions);
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
                    let shot = comes.then(|| Shot::arm(stand, &prepared.tenant.ns, &case));
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
                    let line = format!("{name} ({}): {case}: {error:#}", prepared.tenant.ns);
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
        let line = format!("{name}: {case}: was never met");
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
        "{name}: {} positions, {} faults, {} tokens in {:?}",
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
    let mut total = Tally::default();
    for shape in Shape::ALL {
        for scenario in Scenario::ALL {
            if !is_chosen(shape, scenario) {
                continue;
            }
            match try_scenario(&stand, shape, scenario).await {
                Ok(tally) => total.add(tally),
                Err(error) => total.fail(format!("{} {}: {error:#}", shape.as_str(), scenario.as_str())),
            }
        }
    }
    // No token is in the log, those that nobody got least of all.
    holds_no_token(&stand, &stand.operator.logs()?)?;
    let left = api(&stand.cp.admin().await?, "RoleBinding", "")
        .list(&Default::default())
        .await?;
    let left = left
        .iter()
        .filter(|it| kube::ResourceExt::name_any(*it).starts_with("wlg-"))
        .count();
    wayleave_e2e::progress(&format!("tried {}; {:?}", total.of("scenarios"), begun.elapsed()));
    // The one that is none of ours.
    let outcome = total.outcome();
    ensure!(left == 1 || outcome.is_err(), "{left} bindings are left");
    outcome
}
