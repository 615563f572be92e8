//! Which of the approvals that count status keeps, and which of them cover what ClusterRoles hold by now.

use std::collections::BTreeSet;

use super::lines;
use super::standing::Question;
use crate::api::v1alpha1::CountedApproval;
use crate::domain::ownership::person;

/// The most approvals that status keeps.
pub(super) const MOST_COUNTED: usize = 16;

/// Which approvals cover what the grant's ClusterRoles hold now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Covered {
    /// The digest of what they hold now; empty where the grant refers to none.
    pub now: String,
    /// The digest of what was approved, where that is all that they hold now, or more.
    pub approved: Option<String>,
    /// Whatever they hold was permitted with them.
    pub any: bool,
}

impl Covered {
    pub(super) fn by(&self, approval: &CountedApproval) -> bool {
        self.any || self.is_of_now(approval) || self.approved.as_ref() == Some(&approval.roles_digest)
    }

    pub(super) fn is_of_now(&self, approval: &CountedApproval) -> bool {
        approval.roles_digest == self.now
    }
}

/// Keeps as many approvals as status holds: first those by which lines are met, then the latest of each person for each line, so that
/// nobody pushes them out, and with them the dates that were frozen; nor does somebody take away by a later word what he said for another
/// group.
pub(super) fn keep_most(question: &Question<'_>, counted: &mut Vec<CountedApproval>) {
    if counted.len() <= MOST_COUNTED {
        return;
    }
    let all: Vec<&CountedApproval> = counted.iter().collect();
    let covering: Vec<&CountedApproval> = all.iter().copied().filter(|it| question.covered.by(it)).collect();
    let mut used = lines::used(question.lines, &covering, question.owners);
    used.extend(lines::used(question.lines, &all, question.owners));
    let mut seen = BTreeSet::new();
    let mut ranked: Vec<(bool, bool, usize)> = (0..counted.len())
        .rev()
        .map(|index| {
            let approval = &counted[index];
            let person = person(&approval.by, question.owners);
            let first_for = lines::fitting(question.lines, approval).into_iter();
            // Counted, not sought: each is to be noted.
            let is_first = first_for.filter(|line| seen.insert((*line, person))).count() > 0;
            (used.contains(&approval.uid), is_first, index)
        })
        .collect();
    // Stable: within each part the latest come first.
    ranked.sort_by_key(|(is_used, is_first, _)| (!is_used, !is_first));
    let kept: BTreeSet<usize> = ranked.into_iter().take(MOST_COUNTED).map(|(.., index)| index).collect();
    let mut index = 0;
    counted.retain(|_| {
        index += 1;
        kept.contains(&(index - 1))
    });
}
