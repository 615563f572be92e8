//! The same of the end of everything, which is everybody's: one tenant at a time. `wayleave uninstall` does it where no operator
//! runs, and an operator where it finds the drain marker.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use kube::ResourceExt as _;
use kube::api::{DeleteParams, ListParams};
use wayleave_e2e::operator::{NAMESPACE, binary};
use wayleave_e2e::tenant::{LIMIT, api};
use wayleave_e2e::{Process, eventually, is_long};

use super::oracle::{Tally, holds_no_token, of_tenant};
use super::picture::Picture;
use super::scenario::{MARKER, Prepared, READER, Scenario};
use super::shape::Shape;
use super::shots::{Case, Position, Shot, common, positions, selected};
use super::stand::Stand;
use super::{bystanders, tokens};

/// So many runs without a fault show what every run writes.
const RUNS: usize = 3;
/// A position that is not there in every run gets so many tries.
const TRIES: usize = 3;
/// The command waits for the lease of one that was killed, and gives up after [`TIMEOUT`].
const DONE: Duration = Duration::from_secs(90);
const LEASE: &str = "--lease-duration=5";
const TIMEOUT: &str = "--timeout=60";
/// What the end of a grant is told to: the command may be done before.
const TOLD: [&str; 2] = ["AccessDecision", "PartnerIntegration"];
const TOLD_OF: [&str; 2] = ["accessdecisions/status", "partnerintegrations/status"];

/// Who ends everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    /// The command, while no operator runs.
    Command,
    /// An operator that finds the marker.
    Operator,
}

/// What one run came to.
struct Run {
    prepared: Prepared<'static>,
    positions: Vec<Position>,
    end: Picture,
    is_hit: bool,
}

struct Trial<'a> {
    stand: &'a Stand,
    by: By,
    shape: Shape,
    tenants: usize,
    /// How often the command had to be run again since it failed, not since it was killed.
    again: usize,
}

impl Trial<'_> {
    fn name(&self) -> String {
        format!("{:?} {}", self.by, self.shape.as_str()).to_lowercase()
    }

    /// Ends everything, with a fault or without; then has it begin anew.
    async fn run(&mut self, case: Option<&Case>) -> Result<Run> {
        let stand = self.stand;
        let ns = format!("{}-{}x", self.name().replace(' ', "-"), self.tenants);
        self.tenants += 1;
        let prepared = Scenario::Uninstall.prepare(stand, self.shape, &ns, 0).await;
        let prepared = prepared.with_context(|| format!("preparing {ns}"))?;
        stand.quiet(&ns, 0).await?;
        if self.by == By::Command {
            stand.operator.stop().await?;
        }
        let since = stand.faults.count();
        let shot = case.map(|case| Shot::arm(stand, &ns, case));
        let begun = match self.by {
            By::Command => self.command(&ns, shot.as_ref()).await,
            By::Operator => Scenario::Uninstall.cause(&prepared).await,
        };
        let outcome = match begun {
            Ok(()) => self.ended(&prepared, shot.as_ref(), since).await,
            Err(error) => Err(error),
        };
        self.begin_anew(&prepared)
            .await
            .with_context(|| format!("after {:?}", outcome.as_ref().err()))?;
        let (positions, end) = outcome.with_context(|| ns.clone())?;
        Ok(Run {
            prepared,
            positions,
            end,
            is_hit: shot.is_some_and(|shot| shot.is_hit()),
        })
    }

    /// Runs the command until it says that it is done: again when it was killed, and once when it failed.
    async fn command(&mut self, ns: &str, shot: Option<&Shot>) -> Result<()> {
        let (stand, cp) = (self.stand, self.stand.cp);
        let log = cp.dir().join(format!("uninstall-{ns}.log"));
        let command = Process::new("wayleave uninstall", binary().await?, log)
            .args(["uninstall", LEASE, TIMEOUT, "--log-level=warn"])
            .env("KUBECONFIG", stand.faults.kubeconfig());
        let command = Arc::new(command);
        let killed = Arc::clone(&command);
        stand.faults.kill_with(move || {
            let again = killed.kill().and_then(|()| killed.start());
            if let Err(error) = again {
                wayleave_e2e::progress(&format!("the command was not run again: {error:#}"));
            }
        });
        command.start()?;
        let mut failed = false;
        loop {
            let ended = eventually("the command to end", DONE, || async {
                let is_over = shot.is_none_or(Shot::is_over);
                Ok(command.exit_status().filter(|_| is_over))
            });
            let ended = ended.await.with_context(|| command.log_tail(20))?;
            if ended.success() {
                break;
            }
            if failed {
                bail!("{ended}: {}", command.log_tail(20));
            }
            failed = true;
            self.again += 1;
            command.kill()?;
            command.start()?;
        }
        let said = command.logs()?;
        ensure!(said.contains("done: no finalizer and no credential"), "{said}");
        holds_no_token(stand, &said)
    }

    /// What must hold as long as everything is ended.
    async fn ended(
        &self,
        prepared: &Prepared<'_>,
        shot: Option<&Shot>,
        since: usize,
    ) -> Result<(Vec<Position>, Picture)> {
        let (stand, ns) = (self.stand, prepared.tenant.ns.as_str());
        if self.by == By::Operator {
            eventually("nothing to be left", LIMIT, || async {
                nothing_is_left(prepared).await.map(Some)
            })
            .await?;
        }
        eventually("who was to be killed to be dead", LIMIT, || async {
            Ok(shot.is_none_or(Shot::is_over).then_some(()))
        })
        .await?;
        if self.by == By::Operator {
            stand.quiet(ns, since).await?;
        }
        Scenario::Uninstall.happened(&prepared.tenant).await?;
        nothing_is_left(prepared).await?;
        bystanders::unchanged(prepared, false).await?;
        let anybody = stand.cp.anonymous().await?;
        let all = of_tenant(&stand.faults.minted(), prepared);
        for token in all.iter().chain(&prepared.static_token) {
            tokens::is_of_no_use(&anybody, prepared, token).await?;
        }
        Ok((positions(stand, ns, since), Picture::of(prepared).await?.without(&TOLD)))
    }

    /// Removes the tenant, that its grant may not be issued again, and the marker.
    async fn begin_anew(&self, prepared: &Prepared<'_>) -> Result<()> {
        let Prepared { tenant, .. } = prepared;
        tenant.delete("AccessGrant", &tenant.ns, READER).await?;
        Scenario::GrantDeleted.happened(tenant).await?;
        let namespaces = api(&tenant.root, "Namespace", "");
        for namespace in prepared.namespaces() {
            namespaces.delete(&namespace, &DeleteParams::default()).await?;
        }
        tenant.delete("ConfigMap", NAMESPACE, MARKER).await?;
        if self.by == By::Command {
            self.stand.operator.start_again()?;
            self.stand.operator.wait_ready().await?;
        }
        Ok(())
    }

    /// Runs without a fault: they come to the same end, and have these writes in common.
    async fn sample(&mut self) -> Result<(Vec<Prepared<'static>>, Vec<Position>, Picture)> {
        let (mut tried, mut written, mut ends) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..RUNS {
            let run = self.run(None).await?;
            tried.push(run.prepared);
            written.push(run.positions);
            ends.push(run.end);
        }
        ensure!(self.again == 0, "the command fails");
        let end = ends.pop().context("no run")?;
        for other in ends {
            let differences = other.differences(&end);
            ensure!(differences.is_empty(), "two runs differ: {differences:#?}");
        }
        let (positions, sometimes) = common(written);
        let told: Vec<String> = positions.iter().map(ToString::to_string).collect();
        let name = self.name();
        wayleave_e2e::progress(&format!("{name}: {} positions: {told:#?}", told.len()));
        for position in &sometimes {
            wayleave_e2e::progress(&format!("{name}: not in every run: {position}"));
        }
        Ok((tried, positions, end))
    }

    /// Runs one case until its position is met; false where it never is. Gives the tenants, too.
    async fn meet(&mut self, case: &Case, end: &Picture, tried: &mut Vec<Prepared<'static>>) -> Result<bool> {
        for _ in 0..TRIES {
            let started = Instant::now();
            let run = self.run(Some(case)).await;
            wayleave_e2e::progress(&format!("{}: {case}: {:?}", self.name(), started.elapsed()));
            let run = run?;
            tried.push(run.prepared);
            let differences = run.end.differences(end);
            ensure!(differences.is_empty(), "{differences:#?}");
            if run.is_hit {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Nothing that we made, and no finalizer of ours, anywhere.
async fn nothing_is_left(prepared: &Prepared<'_>) -> Result<()> {
    let root = &prepared.tenant.root;
    for kind in ["AccessGrant", "RoleBinding", "Role", "ServiceAccount", "Secret"] {
        for object in api(root, kind, "").list(&ListParams::default()).await? {
            let place = format!(
                "{kind} {}/{}",
                object.namespace().unwrap_or_default(),
                object.name_any()
            );
            let is_held = object.finalizers().iter().any(|name| name.contains("wayleave.dev"));
            ensure!(!is_held, "{place} is held");
            let is_made = object.name_any().starts_with("wlg-") || object.data["type"] == "wayleave.dev/credential";
            ensure!(!is_made || bystanders::is_elder(&object), "{place} is left");
        }
    }
    Ok(())
}

/// Tries every case of one shape; what fails is told at the end.
async fn try_shape(stand: &Stand, by: By, shape: Shape) -> Result<Tally> {
    let begun = Instant::now();
    let mut trial = Trial {
        stand,
        by,
        shape,
        tenants: 0,
        again: 0,
    };
    let name = trial.name();
    let (mut tried, always, end) = trial.sample().await.context("without a fault")?;
    let mut tally = Tally::of_scenario();
    let mut hit = BTreeSet::new();
    for case in selected(shape, &always) {
        let line = format!("{name}: {case}: was never met");
        match trial.meet(&case, &end, &mut tried).await {
            Ok(true) => {
                hit.insert(case.position.clone());
                tally.faults += 1;
            }
            // The command ends when nothing is left, whether or not others were told of it; and what is said in two writes one
            // time is said in one another.
            Ok(false) if case.position.nth > 0 || TOLD_OF.iter().any(|of| case.position.label.contains(of)) => {
                tally.missed += 1;
                wayleave_e2e::progress(&line);
            }
            Ok(false) => tally.fail(line),
            Err(error) => tally.fail(format!("{name}: {case}: {error:#}")),
        }
    }
    tally.positions = hit.len();
    holds_no_token(stand, &stand.operator.logs()?)?;
    let anybody = stand.cp.anonymous().await?;
    for prepared in &tried {
        let minted = of_tenant(&stand.faults.minted(), prepared);
        ensure!(
            minted.is_empty() == shape.is_static(),
            "{} tokens were seen to be minted",
            minted.len()
        );
        tokens::wait_dead(&anybody, prepared, &minted).await?;
        tally.tokens += minted.len() + usize::from(prepared.static_token.is_some());
    }
    wayleave_e2e::progress(&format!(
        "{name}: {} positions, {} faults, {} tokens in {:?}; a command that failed was run again {} times",
        tally.positions,
        tally.faults,
        tally.tokens,
        begun.elapsed(),
        trial.again
    ));
    Ok(tally)
}

async fn try_all(by: By) -> Result<()> {
    let begun = Instant::now();
    if !is_long() && by == By::Operator {
        wayleave_e2e::progress("an operator that drains is cut off in long runs alone (WAYLEAVE_TEST_LONG=1)");
        return Ok(());
    }
    let stand = Stand::alone().await?;
    let mut total = Tally::default();
    for shape in [Shape::Wide, Shape::Static] {
        if !is_long() && shape == Shape::Static {
            continue;
        }
        match try_shape(&stand, by, shape).await {
            Ok(tally) => total.add(tally),
            Err(error) => total.fail(format!("{by:?} {}: {error:#}", shape.as_str())),
        }
    }
    wayleave_e2e::progress(&format!(
        "uninstalled by {by:?}: {}; {:?}",
        total.of("shapes"),
        begun.elapsed()
    ));
    total.outcome()
}

#[tokio::test]
async fn whatever_write_of_an_uninstallation_is_cut_off_another_run_ends_it() -> Result<()> {
    try_all(By::Command).await
}

#[tokio::test]
async fn whatever_write_of_an_operator_that_drains_is_cut_off_everything_ends() -> Result<()> {
    try_all(By::Operator).await
}
