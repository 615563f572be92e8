//! Ten thousand live grants: the operator's memory, a restart, listings anew, churn.

use std::time::Instant;

use anyhow::{Result, ensure};
use kube::api::DeleteParams;
use serde_json::json;

use super::field::{Field, Place, Set, namespaces_for, patience};
use super::meter::{Calls, memory, metric, number, quiet};
use super::ours;
use super::report::{Measured, Report, Target};
use super::run::wait_leads;
use crate::control_plane::Part;
use crate::eventually::eventually;
use crate::install::wait_installed;
use crate::operator::{Operator, READY_TIMEOUT};
use crate::tenant::api;

/// The load is made in so many parts; one of them is exchanged for another as churn.
const PARTS: usize = 10;
/// How the API server says that it does not know a policy's parameters yet.
const NOT_CONFIGURED: &str = "failed to configure policy";
/// MiB that the operator may hold.
const MEMORY: f64 = 64.0;

/// How many namespaces the load lies in.
pub(super) fn namespaces(grants: usize) -> usize {
    PARTS * namespaces_for(grants.div_ceil(PARTS))
}

/// Makes the load, and measures what it costs to hold it.
pub(super) async fn load(field: &Field<'_>, operator: &Operator, grants: usize, report: &mut Report) -> Result<()> {
    let per_part = grants.div_ceil(PARTS);
    let mut sets = Vec::new();
    for part in 0..PARTS {
        sets.push(live(field, operator, part, part, per_part).await?);
        crate::progress(&format!("{} grants are live", (part + 1) * per_part));
    }
    let grants = per_part * PARTS;
    let mut held = Held { report, grants };
    held.memory(operator, "memory after issuing", None)?;

    // A restart: everything is read and decided anew, and nothing is written.
    operator.stop().await?;
    let mark = field.cp.audit()?.mark()?;
    let begun = Instant::now();
    operator.start_again()?;
    wait_leads(operator).await?;
    eventually("every grant to be looked at", patience(grants), || async {
        let text = operator.metrics().await?;
        let looked = metric(&text, "wayleave_reconciles_total", "kind=\"AccessGrant\"");
        ensure!(looked >= number(grants), "{looked} were");
        Ok(Some(()))
    })
    .await?;
    let settled = begun.elapsed().as_secs_f64();
    quiet(field.cp, patience(grants)).await?;
    let calls = Calls::since(field.cp, mark)?;
    held.report.facts.insert("callsAfterRestart", json!(calls.kinds()));
    held.put("restart", "restart until all is decided anew", "s", None, settled);
    let none = Some(Target::AtMost(0.0));
    held.put(
        "restart-writes",
        "writes after a restart",
        "calls",
        none,
        number(calls.writes()),
    );
    let gets = calls.0.iter().filter(|call| call.what.starts_with("get ")).count();
    held.put(
        "restart-gets",
        "reads of single objects after a restart",
        "calls",
        none,
        number(gets),
    );
    held.memory(operator, "memory after a restart", Some(Target::AtMost(MEMORY)))?;

    relist(field, &sets[1], grants).await?;
    held.memory(operator, "memory after listing anew", Some(Target::AtMost(MEMORY)))?;

    field.remove(&sets[0]).await?;
    sets[0] = live(field, operator, PARTS, 0, per_part).await?;
    held.memory(operator, "memory after 10 % churn", Some(Target::AtMost(MEMORY)))?;
    relist(field, &sets[1], grants).await?;
    held.memory(
        operator,
        "memory after churn and listing anew",
        Some(Target::AtMost(MEMORY)),
    )?;
    let (_, most) = memory(operator)?;
    held.put("memory-peak", "memory at its peak since the restart", "MiB", None, most);
    Ok(())
}

async fn live(field: &Field<'_>, operator: &Operator, part: usize, place: usize, count: usize) -> Result<Set> {
    let first = place * namespaces_for(count);
    let set = field.approved(&format!("load-{part}"), count, first).await?;
    ours::issue(field, operator, &set).await?;
    Ok(set)
}

/// The API server starts anew: what was watched is too old for it, and is listed again.
async fn relist(field: &Field<'_>, set: &Set, grants: usize) -> Result<()> {
    let mark = field.cp.audit()?.mark()?;
    field.cp.restart(Part::ApiServer).await?;
    eventually("the operator to list anew", patience(grants), || async {
        let calls = Calls::since(field.cp, mark)?;
        Ok(calls
            .0
            .iter()
            .any(|call| call.what == "list accessgrants")
            .then_some(()))
    })
    .await?;
    admission_is_back(field, &set.grants[0]).await?;
    quiet(field.cp, patience(grants)).await
}

/// An API server that has just started refuses what a policy with parameters judges, until it has found their kind.
async fn admission_is_back(field: &Field<'_>, place: &Place) -> Result<()> {
    wait_installed(field.cp).await?;
    let decisions = api(&field.root, "AccessDecision", &place.namespace);
    let dry = DeleteParams {
        dry_run: true,
        ..DeleteParams::default()
    };
    eventually("the policies on decisions to hold", READY_TIMEOUT, || async {
        match decisions.delete(&place.name, &dry).await {
            Err(kube::Error::Api(status)) if !status.message.contains(NOT_CONFIGURED) => Ok(Some(())),
            Ok(_) => Ok(Some(())),
            Err(error) => Err(error.into()),
        }
    })
    .await
}

struct Held<'r> {
    report: &'r mut Report,
    grants: usize,
}

impl Held<'_> {
    fn put(&mut self, key: &str, what: &str, unit: &str, target: Option<Target>, value: f64) {
        let of = Measured {
            key,
            what,
            grants: self.grants,
            unit,
            target,
        };
        self.report.put(of, None, value);
    }

    fn memory(&mut self, operator: &Operator, what: &str, target: Option<Target>) -> Result<()> {
        let (now, _) = memory(operator)?;
        self.put(&what.replace(' ', "-"), what, "MiB", target, now);
        Ok(())
    }
}
