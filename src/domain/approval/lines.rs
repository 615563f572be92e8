//! Requirement lines: so many distinct people, of these groups.

use std::collections::BTreeMap;

use crate::api::v1alpha1::{ApprovalRequirement, CountedApproval, Instant};
use crate::domain::ownership::{Owners, person};

/// Until when every line is met, if all are now, where an approval is good until `until`: each by distinct people, though
/// one person may meet several lines.
#[must_use]
pub(super) fn met_until(
    lines: &[ApprovalRequirement],
    approvals: &[&CountedApproval],
    owners: &Owners<'_>,
    until: impl Fn(&CountedApproval) -> Instant,
) -> Option<Instant> {
    lines
        .iter()
        .map(|line| line_met_until(line, approvals, owners, &until))
        .try_fold(None, |earliest: Option<Instant>, met| {
            let met = met?;
            Some(Some(earliest.map_or(met, |instant| instant.min(met))))
        })
        .flatten()
}

/// The line's count-th latest end, one for each person.
fn line_met_until(
    line: &ApprovalRequirement,
    approvals: &[&CountedApproval],
    owners: &Owners<'_>,
    until: impl Fn(&CountedApproval) -> Instant,
) -> Option<Instant> {
    let mut ends = BTreeMap::new();
    for approval in approvals.iter().filter(|approval| is_of_a_group(line, approval)) {
        let until = until(approval);
        let end = ends.entry(person(&approval.by, owners)).or_insert(until);
        *end = (*end).max(until);
    }
    let mut ends: Vec<Instant> = ends.into_values().collect();
    ends.sort_by(|one, other| other.cmp(one));
    let count = usize::try_from(line.count.max(1)).unwrap_or(usize::MAX);
    ends.get(count - 1).copied()
}

/// Whether an approval can be one of those that any line asks for.
#[must_use]
pub(super) fn is_asked_for(lines: &[ApprovalRequirement], approval: &CountedApproval) -> bool {
    lines.is_empty() || lines.iter().any(|line| is_of_a_group(line, approval))
}

/// The places of the lines that an approval can be one for; where none is asked for, as of one line for everybody.
#[must_use]
pub(super) fn fitting(lines: &[ApprovalRequirement], approval: &CountedApproval) -> Vec<usize> {
    if lines.is_empty() {
        return vec![0];
    }
    let fitting = lines
        .iter()
        .enumerate()
        .filter(|(_, line)| is_of_a_group(line, approval));
    fitting.map(|(place, _)| place).collect()
}

fn is_of_a_group(line: &ApprovalRequirement, approval: &CountedApproval) -> bool {
    line.groups.is_empty() || line.groups.iter().any(|group| approval.groups.contains(&group.0))
}

/// What is asked for, in words: `2 approvals`, `1 approval of security or platform`.
#[must_use]
pub(super) fn describe(lines: &[ApprovalRequirement]) -> String {
    let words: Vec<String> = lines
        .iter()
        .map(|line| {
            let plural = if line.count == 1 { "" } else { "s" };
            let groups: Vec<&str> = line.groups.iter().map(AsRef::as_ref).collect();
            let of = if groups.is_empty() {
                String::new()
            } else {
                format!(" of {}", groups.join(" or "))
            };
            format!("{} approval{plural}{of}", line.count)
        })
        .collect();
    words.join(" and ")
}
