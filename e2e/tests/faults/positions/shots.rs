//! Single faults at positions: the writes of a run, told by what they do.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use wayleave_e2e::faults::{Call, Lasting};
use wayleave_e2e::{Fault, Moment, is_long};

use super::scenario::MARKER;
use super::shape::Shape;
use super::stand::Stand;

/// Of the positions of other shapes than the plain one every so-manieth is tried in a selection.
const SOME: usize = 3;
/// The single faults.
const FAULTS: [(&str, Fault); 4] = [
    ("killed before", Fault::Killed(Moment::Before)),
    ("killed between", Fault::Killed(Moment::Between)),
    ("killed after", Fault::Killed(Moment::After)),
    ("answer lost", Fault::AnswerLost),
];

/// A write of a run: the so-manieth of those that are told the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub label: String,
    pub nth: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.nth {
            0 => write!(f, "{}", self.label),
            nth => write!(f, "{} #{}", self.label, nth + 1),
        }
    }
}

/// Whether a call is a write about a tenant; or about all of them, as where everything is to end.
fn is_write_about(call: &Call, tenant: &str) -> bool {
    call.is_write() && (call.tenant == tenant || call.name == MARKER)
}

/// The writes about a tenant since there were so many calls in all, in their order.
pub fn positions(stand: &Stand, tenant: &str, since: usize) -> Vec<Position> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let calls = stand.faults.calls(since);
    let writes = calls.iter().filter(|(_, call)| is_write_about(call, tenant));
    writes
        .map(|(_, call)| {
            let label = call.label();
            let count = counts.entry(label.clone()).or_default();
            *count += 1;
            Position { label, nth: *count - 1 }
        })
        .collect()
}

/// The writes that several runs have in common, in the order of the first, and those that only some have.
pub fn common(runs: Vec<Vec<Position>>) -> (Vec<Position>, BTreeSet<Position>) {
    let mut always = runs.first().cloned().unwrap_or_default();
    always.retain(|position| runs.iter().all(|run| run.contains(position)));
    let mut sometimes: BTreeSet<Position> = runs.into_iter().flatten().collect();
    sometimes.retain(|position| !always.contains(position));
    (always, sometimes)
}

/// A fault that is met once.
pub struct Shot {
    fault: Fault,
    hit: Arc<AtomicBool>,
    lasting: Lasting,
}

impl Shot {
    /// To be met at this position of a tenant.
    pub fn arm(stand: &Stand, tenant: &str, Case { position, fault, .. }: &Case) -> Self {
        let fault = *fault;
        let hit = Arc::new(AtomicBool::new(false));
        let (seen, is_hit, tenant, position) = (
            AtomicUsize::new(0),
            Arc::clone(&hit),
            tenant.to_owned(),
            position.clone(),
        );
        let lasting = stand.faults.break_calls(fault, move |call| {
            if !is_write_about(call, &tenant) || call.label() != position.label {
                return false;
            }
            let is_it = seen.fetch_add(1, Ordering::SeqCst) == position.nth;
            if is_it {
                is_hit.store(true, Ordering::SeqCst);
            }
            is_it
        });
        Self { fault, hit, lasting }
    }

    /// Whether it was met.
    pub fn is_hit(&self) -> bool {
        self.hit.load(Ordering::SeqCst)
    }

    /// Whether nothing more comes of it: whoever was to be killed is dead, or it was not met.
    pub fn is_over(&self) -> bool {
        !self.is_hit() || !matches!(self.fault, Fault::Killed(_)) || self.lasting.has_killed()
    }
}

/// One position and one fault.
#[derive(Clone)]
pub struct Case {
    pub position: Position,
    pub name: &'static str,
    pub fault: Fault,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.name, self.position)
    }
}

/// Every position with every fault.
fn cases(positions: &[Position], faults: &[(&'static str, Fault)]) -> Vec<Case> {
    let cases = positions.iter().flat_map(|position| {
        faults.iter().map(|(name, fault)| Case {
            position: position.clone(),
            name,
            fault: *fault,
        })
    });
    cases.collect()
}

/// The cases that are tried: all, or a selection.
pub fn selected(shape: Shape, positions: &[Position]) -> Vec<Case> {
    if is_long() {
        return cases(positions, &FAULTS);
    }
    // What was written, and nobody knows: of all single faults the one that leaves most to be found.
    let all = cases(positions, &FAULTS[1..2]);
    match shape {
        Shape::Plain => all,
        // Mostly the same code writes: the other positions are for a long run.
        Shape::Wide | Shape::Static => all.into_iter().skip(1).step_by(SOME).collect(),
    }
}
