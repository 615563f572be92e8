//! The words of a grant's table columns.

use crate::api::v1alpha1::{AccessGrantStatus, Summary};
use crate::domain::ownership;
use crate::domain::verdict::Facts;

/// The most names that a column shows.
const MOST_NAMES: usize = 4;

/// What the columns say; of an integration that is gone, what they said last.
pub(super) fn of(facts: &Facts<'_>, status: &AccessGrantStatus) -> Summary {
    let before = status.summary.clone().unwrap_or_default();
    let (partner, owners) = facts
        .integration
        .map_or((before.partner, before.owners), |integration| {
            let owners = ownership::names(integration);
            (integration.spec.partner.id.0.clone(), owners.join(", "))
        });
    let approvers: Vec<&str> = status.approvals.iter().map(|approval| approval.by.as_str()).collect();
    let policies: Vec<&str> = status.policies.iter().map(String::as_str).collect();
    let subject = status.identity.as_ref().map(|identity| {
        let (namespace, name) = (&identity.namespace, &identity.service_account);
        format!("system:serviceaccount:{namespace}:{name}")
    });
    Summary {
        partner,
        owners,
        approved_by: few(&approvers),
        policies: few(&policies),
        subject: subject.unwrap_or_default(),
    }
}

/// The first names, each once, and how many more there are.
fn few(names: &[&str]) -> String {
    let mut distinct: Vec<&str> = Vec::new();
    for name in names {
        if !distinct.contains(name) {
            distinct.push(name);
        }
    }
    let more = distinct.len().saturating_sub(MOST_NAMES);
    distinct.truncate(MOST_NAMES);
    let shown = distinct.join(", ");
    if more == 0 {
        shown
    } else {
        format!("{shown} and {more} more")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_shows_a_few_names_once() {
        assert_eq!(few(&[]), "");
        assert_eq!(few(&["a", "b", "a"]), "a, b");
        assert_eq!(few(&["a", "b", "c", "d", "e", "f"]), "a, b, c, d and 2 more");
    }
}
