//! Numbers from outside of the operator: the API server's audit log, the operator's metrics, and `/proc`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use k8s_openapi::jiff::Timestamp;

use crate::audit::{AuditEvent, Mark};
use crate::control_plane::ControlPlane;
use crate::eventually::eventually;
use crate::operator::{NAMESPACE, Operator, SERVICE_ACCOUNT};

/// Nothing was called for this long: what was under way is through. An integration counts its grants at most once a second.
const QUIET: Duration = Duration::from_millis(1_500);

/// One call of the operator.
#[derive(Debug, Clone)]
pub(super) struct Call {
    /// `verb resource/subresource`
    pub(super) what: String,
    pub(super) code: u16,
    /// When its answer was complete, by the API server's clock: this machine's.
    pub(super) at: Timestamp,
    pub(super) is_write: bool,
}

/// Calls of the operator, in the order of the audit log.
#[derive(Debug, Clone, Default)]
pub(super) struct Calls(pub(super) Vec<Call>);

impl Calls {
    /// Those since a mark, apart from the lease, the proofs of admission and watches that end.
    pub(super) fn since(cp: &ControlPlane, mark: Mark) -> Result<Self> {
        let user = format!("system:serviceaccount:{NAMESPACE}:{SERVICE_ACCOUNT}");
        let mut calls = Vec::new();
        cp.audit()?.each_since(mark, |event| {
            if event.user.username == user && !is_beside(&event) {
                calls.push(Call {
                    what: what(&event),
                    code: event.code(),
                    at: event.stage_timestamp.0,
                    is_write: event.is_write(),
                });
            }
        })?;
        Ok(Self(calls))
    }

    /// Those up to an instant.
    pub(super) fn until(&self, at: Timestamp) -> Self {
        Self(self.0.iter().filter(|call| call.at <= at).cloned().collect())
    }

    /// When each call of this kind succeeded, in order.
    pub(super) fn times(&self, what: &str) -> Vec<Timestamp> {
        let done = |call: &&Call| call.what == what && (200..300).contains(&call.code);
        let mut times: Vec<Timestamp> = self.0.iter().filter(done).map(|call| call.at).collect();
        times.sort();
        times
    }

    pub(super) fn writes(&self) -> usize {
        self.0.iter().filter(|call| call.is_write).count()
    }

    /// How many calls of each kind, with their codes.
    pub(super) fn kinds(&self) -> BTreeMap<String, usize> {
        let mut kinds = BTreeMap::new();
        for call in &self.0 {
            *kinds.entry(format!("{} {}", call.what, call.code)).or_default() += 1;
        }
        kinds
    }
}

fn what(event: &AuditEvent) -> String {
    let object = event.object_ref.clone().unwrap_or_default();
    let slash = if object.subresource.is_empty() { "" } else { "/" };
    format!("{} {}{slash}{}", event.verb, object.resource, object.subresource)
}

/// What is no grant's: the lease, the proofs of admission with their record, and watches.
fn is_beside(event: &AuditEvent) -> bool {
    let is_forged = event.is_resource("accessdecisions") || event.is_resource("accessgrants");
    let is_proof = is_forged && event.request_uri.contains("dryRun=All");
    event.is_resource("leases") || event.is_resource("configmaps") || event.verb == "watch" || is_proof
}

/// Waits until the operator has called nothing for a while.
pub(super) async fn quiet(cp: &ControlPlane, limit: Duration) -> Result<()> {
    let audit = cp.audit()?;
    let mut mark = audit.mark()?;
    let mut since = Instant::now();
    eventually("the operator to have nothing to do", limit, || {
        let looked = || -> Result<Option<()>> {
            let now = audit.mark()?;
            let calls = Calls::since(cp, mark)?.0.len();
            if calls > 0 {
                (mark, since) = (now, Instant::now());
            }
            Ok((since.elapsed() >= QUIET).then_some(()))
        };
        let mut looked = looked;
        std::future::ready(looked())
    })
    .await
}

/// The sum of a metric over all labels; with `label`, over those that hold it.
pub(super) fn metric(text: &str, name: &str, label: &str) -> f64 {
    let of_name = |line: &&str| {
        line.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with(['{', ' ']) && rest.contains(label))
    };
    let values = text.lines().filter(of_name);
    let values = values.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    values.sum()
}

/// How many grants have a reason, as the operator sees them.
pub(super) async fn grants_with(operator: &Operator, reason: &str) -> Result<usize> {
    let text = operator.metrics().await?;
    let count = metric(&text, "wayleave_grants", &format!("reason=\"{reason}\""));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
    Ok(count as usize)
}

/// Waits until so many grants have a reason.
pub(super) async fn wait_grants(operator: &Operator, reason: &str, count: usize, limit: Duration) -> Result<()> {
    eventually(&format!("{count} grants to be {reason}"), limit, || async {
        if !operator.process().is_running() {
            return Ok(Some(Err(anyhow::anyhow!(
                "the operator is gone; {}",
                operator.process().log_tail(20)
            ))));
        }
        match grants_with(operator, reason).await? {
            found if found == count => Ok(Some(Ok(()))),
            found => bail!("{found} are"),
        }
    })
    .await?
}

/// Seconds of processor time that a process has used.
pub(super) fn cpu_seconds(operator: &Operator) -> Result<f64> {
    let pid = operator.process().pid().context("the operator does not run")?;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in brackets, may hold blanks. Then: state first, user and system time as 12th and 13th.
    let after = stat.rsplit(')').next().context("no name in /proc/PID/stat")?;
    let fields: Vec<&str> = after.split_whitespace().collect();
    let ticks = |index: usize| -> Result<f64> {
        let field = fields.get(index).context("a field of /proc/PID/stat is missing")?;
        Ok(field.parse::<f64>()?)
    };
    #[expect(clippy::cast_precision_loss, reason = "a hundred")]
    let per_second = rustix::param::clock_ticks_per_second() as f64;
    Ok((ticks(11)? + ticks(12)?) / per_second)
}

/// MiB of memory that a process holds, and the most that it ever held.
pub(super) fn memory(operator: &Operator) -> Result<(f64, f64)> {
    let pid = operator.process().pid().context("the operator does not run")?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field = |name: &str| -> Result<f64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|rest| rest.split_whitespace().next());
        Ok(kib
            .with_context(|| format!("no {name} in /proc/PID/status"))?
            .parse::<f64>()?
            / 1024.0)
    };
    Ok((field("VmRSS:")?, field("VmHWM:")?))
}

/// A count as a number that can be divided.
pub(super) fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// Milliseconds from one instant to another; negative where the other came first.
pub(super) fn millis(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64() * 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_summed_over_its_labels_and_no_other_name() {
        let text = "# HELP wayleave_grants x\nwayleave_grants{reason=\"Issued\"} 7\nwayleave_grants{reason=\"Expired\"} 2\n\
                    wayleave_grants_more 100\nwayleave_leader 1\n";
        assert!((metric(text, "wayleave_grants", "") - 9.0).abs() < f64::EPSILON);
        assert!((metric(text, "wayleave_grants", "reason=\"Issued\"") - 7.0).abs() < f64::EPSILON);
        assert!((metric(text, "wayleave_leader", "") - 1.0).abs() < f64::EPSILON);
    }
}
