//! The order of everything that is measured. Ruler and Wayleave take turns; what has no ruler follows.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::field::{Field, Set, namespaces_for, patience};
use super::meter::{Calls, metric, number, quiet};
use super::ours::{self, Ended, Partners, until};
use super::report::{Measured, Report, Target, quantile};
use super::ruler::Ruler;
use super::{load, single};
use crate::control_plane::ControlPlane;
use crate::eventually::eventually;
use crate::install::install;
use crate::operator::{Operator, OperatorOptions, READY_TIMEOUT};
use crate::progress;

/// The share of the ruler's rate that is to be kept.
const SHARE: f64 = 0.85;
/// So many times as long as the ruler's one grant of ours may take.
const TIMES: f64 = 2.0;
/// Milliseconds from the end of one grant to its denial.
const ALONE: f64 = 50.0;
/// Milliseconds from the end of a thousand to the denial of all but the last hundredth.
const TOGETHER: f64 = 5_000.0;
/// Calls that a grant may take, as `docs/benchmark.md` explains.
const CALLS_TO_ISSUE: f64 = 11.0;
const CALLS_TO_ROTATE: f64 = 7.0;
const CALLS_TO_REVOKE: f64 = 10.0;
/// How long before an end the storm breaks out, or the leader is killed.
const JUST_BEFORE: SignedDuration = SignedDuration::from_millis(1_000);

/// A part of the benchmark that can be run without the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// Ruler and Wayleave in turns.
    Turns,
    /// An end within a storm of issues.
    Storm,
    /// An end after the leader was killed.
    Killed,
    /// An owner is removed.
    Owner,
    /// Memory and a restart with many live grants.
    Load,
}

impl Part {
    /// All of them, in their order.
    pub const ALL: [Self; 5] = [Self::Turns, Self::Storm, Self::Killed, Self::Owner, Self::Load];
}

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Grants that are issued and ended together: few.
    pub grants: usize,
    /// The same: many.
    pub many: usize,
    /// Grants that are held at last.
    pub load: usize,
    /// Grants that are measured alone, in each round.
    pub singles: usize,
    /// How often ruler and Wayleave take turns.
    pub rounds: usize,
    /// For how long nothing happens, to see that nothing is called.
    pub idle: Duration,
}

/// Measures these parts, in their order.
pub async fn run(sizes: Sizes, parts: &[Part]) -> Result<Report> {
    let mut report = Report::default();
    facts(&mut report, sizes);
    let cp = ControlPlane::start().await?;
    install(&cp).await?;
    let namespaces = load::namespaces(sizes.load).max(namespaces_for(sizes.many));
    let field = Field::new(&cp, namespaces).await?;
    let version = field.root.apiserver_version().await?;
    report.facts.insert("kubernetes", json!(version.git_version));
    let operator = Operator::start(&cp, OperatorOptions::default()).await?;
    wait_leads(&operator).await?;

    let sample = field.approved("sample", 1, 0).await?;
    ours::issue(&field, &operator, &sample).await?;
    let ruler = Ruler::like(&field, &sample.grants[0]).await?;
    field.remove(&sample).await?;

    let bench = Bench {
        field: &field,
        operator: &operator,
        ruler,
        sizes,
    };
    for part in Part::ALL.into_iter().filter(|part| parts.contains(part)) {
        match part {
            Part::Turns => {
                for round in 0..sizes.rounds {
                    bench.round(round, &mut report).await?;
                }
            }
            Part::Storm => bench.storm(&mut report).await?,
            Part::Killed => bench.leader_killed(&mut report).await?,
            Part::Owner => bench.owner_removed(&mut report).await?,
            Part::Load => load::load(&field, &operator, sizes.load, &mut report).await?,
        }
    }
    cp.remove();
    Ok(report)
}

/// Waits until an operator may issue, and what is decided meanwhile counts.
pub(super) async fn wait_leads(operator: &Operator) -> Result<()> {
    operator.wait_ready().await?;
    eventually("the operator to lead", READY_TIMEOUT, || async {
        let text = operator.metrics().await?;
        let holds = |name| metric(&text, name, "") > 0.0;
        Ok((holds("wayleave_leader") && holds("wayleave_admission_proved")).then_some(()))
    })
    .await
}

/// What whoever reads the numbers must know.
fn facts(report: &mut Report, sizes: Sizes) {
    let facts = &mut report.facts;
    facts.insert("at", json!(Timestamp::now().to_string()));
    facts.insert("version", json!(env!("CARGO_PKG_VERSION")));
    let cpus = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    facts.insert("processors", json!(cpus));
    // The load before anything is measured: a busy machine's numbers say little.
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Vec<&str> = load.split_whitespace().take(3).collect();
    facts.insert("loadBefore", json!(load.join(" ")));
    facts.insert("optimised", json!(!cfg!(debug_assertions)));
    facts.insert(
        "sizes",
        json!({
            "grants": sizes.grants, "many": sizes.many, "load": sizes.load,
            "singles": sizes.singles, "rounds": sizes.rounds,
        }),
    );
}

struct Bench<'a> {
    field: &'a Field<'a>,
    operator: &'a Operator,
    ruler: Ruler,
    sizes: Sizes,
}

/// What the ruler did in a round.
struct Turn {
    usable: Vec<f64>,
    refused: Vec<f64>,
    /// By the number of grants: issues/s whole, issues/s bare, denials/s, and milliseconds to each denial.
    laid: Vec<(usize, f64, f64, f64, Vec<f64>)>,
}

impl Bench<'_> {
    async fn round(&self, round: usize, report: &mut Report) -> Result<()> {
        progress(&format!("round {} of {}: the ruler", round + 1, self.sizes.rounds));
        self.operator.stop().await?;
        let turn = self.ruler(round).await?;
        self.operator.start_again()?;
        wait_leads(self.operator).await?;
        quiet(self.field.cp, patience(1)).await?;

        progress(&format!("round {} of {}: Wayleave", round + 1, self.sizes.rounds));
        let alone = single::singles(self.field, round, self.sizes.singles).await?;
        for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
            let of = |key, what, target| Measured {
                key,
                what,
                grants: 1,
                unit: "ms",
                target,
            };
            let (usable, refused) = (format!("usable-{name}"), format!("refused-{name}"));
            let what = format!("one grant: approval to first use, {name}");
            let at_most = Some(Target::RatioAtMost(TIMES));
            let ours = quantile(&alone.usable, share).context("no single grant")?;
            report.put(of(&usable, &what, at_most), quantile(&turn.usable, share), ours);
            let what = format!("one grant: end to first refusal, {name}");
            let at_most = (name == "p99").then_some(Target::AtMost(ALONE));
            let ours = quantile(&alone.refused, share).context("no single grant")?;
            report.put(of(&refused, &what, at_most), quantile(&turn.refused, share), ours);
        }
        for (index, (count, whole, bare, denials, denied_after)) in turn.laid.into_iter().enumerate() {
            let name = format!("set-{round}-{index}");
            let set = self.field.approved(&name, count, 0).await?;
            let issued = ours::issue(self.field, self.operator, &set).await?;
            let is_many = count == self.sizes.many;
            let of = |key, what, unit, target| Measured {
                key,
                what,
                grants: count,
                unit,
                target,
            };
            let least = |target| is_many.then_some(Target::RatioAtLeast(target));
            let rate = of("issue", "issued together, all calls of a grant", "1/s", least(SHARE));
            report.put(rate, Some(whole), issued.per_second);
            let rate = of("issue-bare", "usable together, the ruler makes six calls", "1/s", None);
            report.put(rate, Some(bare), issued.usable_per_second);
            let cpu = of("cpu-issue", "processor time to issue one", "ms", None);
            report.put(cpu, None, issued.cpu_per_grant * 1_000.0);
            let per_grant = |calls: &Calls| number(calls.0.len()) / number(count);
            let calls = of(
                "calls-issue",
                "calls to issue one",
                "calls",
                Some(Target::AtMost(CALLS_TO_ISSUE)),
            );
            report.put(calls, None, per_grant(&issued.calls));
            report.facts.insert("callsToIssue", json!(issued.calls.kinds()));
            if is_many {
                self.idle(count, report).await?;
                let rotated = ours::rotate(self.field, &set).await?;
                let calls = of(
                    "calls-rotate",
                    "calls to rotate one",
                    "calls",
                    Some(Target::AtMost(CALLS_TO_ROTATE)),
                );
                report.put(calls, None, per_grant(&rotated));
                report.facts.insert("callsToRotate", json!(rotated.kinds()));
            }
            let ended = self.end(&set).await?;
            let rate = of("deny", "ended in one instant, bindings gone", "1/s", least(SHARE));
            report.put(rate, Some(denials), ended.per_second());
            for (key, what, share) in [
                ("deny-p50", "ended in one instant: binding gone after, p50", 0.5),
                ("deny-p99", "ended in one instant: binding gone after, p99", 0.99),
            ] {
                let most = (is_many && share > 0.9).then_some(Target::AtMost(TOGETHER));
                let row = of(key, what, "ms", most);
                report.put(row, quantile(&denied_after, share), ended.quantile(share)?);
            }
            let row = of(
                "deny-refused",
                "ended in one instant: last of the partners asked is refused",
                "ms",
                None,
            );
            report.put(row, None, ended.last_refused()?);
            let calls = of(
                "calls-revoke",
                "calls to revoke one",
                "calls",
                Some(Target::AtMost(CALLS_TO_REVOKE)),
            );
            report.put(calls, None, per_grant(&ended.calls));
            report.facts.insert("callsToRevoke", json!(ended.calls.kinds()));
            report
                .facts
                .insert("callsUntilAllWereDenied", json!(ended.meanwhile.kinds()));
            self.field.remove(&set).await?;
        }
        Ok(())
    }

    /// The ruler alone on the machine. What it makes is gone before the operator is back.
    async fn ruler(&self, round: usize) -> Result<Turn> {
        let (field, ruler) = (self.field, &self.ruler);
        let mut turn = Turn {
            usable: Vec::new(),
            refused: Vec::new(),
            laid: Vec::new(),
        };
        let set = field.ask(&format!("ruler-{round}-one"), self.sizes.singles, 0).await?;
        for (index, grant) in ruler.grants_of(field, &set).await?.iter().enumerate() {
            let (usable, refused) = ruler.single(field, index, grant).await?;
            turn.usable.push(usable);
            turn.refused.push(refused);
        }
        field.remove(&set).await?;
        for count in [self.sizes.grants, self.sizes.many] {
            let set = field.ask(&format!("ruler-{round}-{count}"), count, 0).await?;
            let bare = ruler.lay(field, &set, false).await?;
            let whole = ruler.lay(field, &set, true).await?;
            field.remove(&set).await?;
            let laid = (
                count,
                whole.issues_per_second,
                bare.issues_per_second,
                whole.denials_per_second,
                whole.denied_after,
            );
            turn.laid.push(laid);
        }
        Ok(turn)
    }

    /// A time in which nothing happens.
    async fn idle(&self, count: usize, report: &mut Report) -> Result<()> {
        let mark = self.field.cp.audit()?.mark()?;
        until(Timestamp::now().checked_add(SignedDuration::try_from(self.sizes.idle)?)?).await;
        let calls = Calls::since(self.field.cp, mark)?;
        let what = format!("calls in {} idle seconds", self.sizes.idle.as_secs());
        let row = Measured {
            key: "calls-idle",
            what: &what,
            grants: count,
            unit: "calls",
            target: Some(Target::AtMost(0.0)),
        };
        report.put(row, None, number(calls.0.len()));
        report.facts.insert("callsIdle", json!(calls.kinds()));
        Ok(())
    }

    /// Ends a set in one instant, with nothing else going on.
    async fn end(&self, set: &Set) -> Result<Ended> {
        let partners = Partners::of(self.field, set).await?;
        let at = ours::doom(self.field, set).await?;
        let mark = self.field.cp.audit()?.mark()?;
        ours::ended(self.field, self.operator, set, at, mark, &partners).await
    }

    fn told(&self, report: &mut Report, key: &str, what: &str, ended: &Ended) -> Result<()> {
        for (name, share, target) in [("p50", 0.5, None), ("p99", 0.99, Some(Target::AtMost(TOGETHER)))] {
            let row = Measured {
                key: &format!("{key}-{name}"),
                what: &format!("{what}: binding gone after, {name}"),
                grants: self.sizes.many,
                unit: "ms",
                target,
            };
            report.put(row, None, ended.quantile(share)?);
        }
        let row = Measured {
            key: &format!("{key}-refused"),
            what: &format!("{what}: last of the partners asked is refused"),
            grants: self.sizes.many,
            unit: "ms",
            target: None,
        };
        report.put(row, None, ended.last_refused()?);
        Ok(())
    }

    /// Many end while as many others are being issued.
    async fn storm(&self, report: &mut Report) -> Result<()> {
        progress("an end within a storm of issues");
        let (field, count) = (self.field, self.sizes.many);
        let others = field.approved("others", count, 0).await?;
        let set = field.approved("storm", count, 0).await?;
        ours::issue(field, self.operator, &set).await?;
        let partners = Partners::of(field, &set).await?;
        let at = ours::doom(field, &set).await?;
        let mark = field.cp.audit()?.mark()?;
        until(at.checked_sub(JUST_BEFORE)?).await;
        field.suspend(&others, false).await?;
        let ended = ours::ended(field, self.operator, &set, at, mark, &partners).await?;
        self.told(report, "storm", "ended while others are issued", &ended)?;
        field.remove(&set).await?;
        field.remove(&others).await
    }

    /// Many end just after the leader was killed, long before another may lead.
    async fn leader_killed(&self, report: &mut Report) -> Result<()> {
        progress("an end after the leader was killed");
        let (field, count) = (self.field, self.sizes.many);
        let second = Operator::start(field.cp, OperatorOptions::default()).await?;
        second.wait_ready().await?;
        let set = field.approved("killed", count, 0).await?;
        ours::issue(field, self.operator, &set).await?;
        let partners = Partners::of(field, &set).await?;
        let at = ours::doom(field, &set).await?;
        if metric(&second.metrics().await?, "wayleave_leader", "") > 0.0 {
            bail!("the second replica leads while the first runs");
        }
        let mark = field.cp.audit()?.mark()?;
        until(at.checked_sub(JUST_BEFORE)?).await;
        self.operator.kill()?;
        let ended = ours::ended(field, &second, &set, at, mark, &partners).await?;
        self.told(report, "killed", "ended after the leader was killed", &ended)?;
        field.remove(&set).await?;
        second.stop().await?;
        self.operator.start_again()?;
        wait_leads(self.operator).await
    }

    /// The owner of many is removed.
    async fn owner_removed(&self, report: &mut Report) -> Result<()> {
        progress("an owner is removed");
        let (field, count) = (self.field, self.sizes.many);
        let set = field.approved("owned", count, 0).await?;
        ours::issue(field, self.operator, &set).await?;
        let partners = Partners::of(field, &set).await?;
        let mark = field.cp.audit()?.mark()?;
        let at = Timestamp::now();
        field.delete("AccessOwner", "", &Field::boss(&set.name)).await?;
        let ended = ours::ended(field, self.operator, &set, at, mark, &partners).await?;
        self.told(report, "owner", "owner removed", &ended)?;
        let row = Measured {
            key: "owner-all",
            what: "owner removed: the last binding gone after",
            grants: count,
            unit: "ms",
            target: None,
        };
        report.put(row, None, ended.quantile(1.0)?);
        field.remove(&set).await
    }
}
