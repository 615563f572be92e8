//! When grants are looked at again.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use crate::api::v1alpha1::Instant;
use crate::controller::mapping::Key;
use crate::controller::until;

/// The longest time between two looks at the clock.
const TICK: Duration = Duration::from_secs(1);

/// The instants at which grants are looked at again: each grant has one.
#[derive(Default)]
pub(super) struct Deadlines {
    ordered: BTreeSet<(Instant, Key)>,
    of: HashMap<Key, Instant>,
}

impl Deadlines {
    pub(super) fn set(&mut self, grant: Key, due: Option<Instant>) {
        if let Some(before) = self.of.remove(&grant) {
            self.ordered.remove(&(before, grant.clone()));
        }
        if let Some(due) = due {
            self.of.insert(grant.clone(), due);
            self.ordered.insert((due, grant));
        }
    }

    pub(super) fn take_due(&mut self, now: Instant) -> Vec<Key> {
        let mut due = Vec::new();
        while let Some((at, grant)) = self.ordered.first().cloned()
            && at <= now
        {
            self.set(grant.clone(), None);
            due.push(grant);
        }
        due
    }

    /// How long to wait: until the next deadline, at most a tick.
    pub(super) fn pause(&self) -> Duration {
        self.ordered.first().map_or(TICK, |(at, _)| until(*at).min(TICK))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::fixtures::at;

    #[test]
    fn deadlines_come_in_order_and_each_grant_has_one() {
        let key = |name: &str| ("payments".to_owned(), name.to_owned());
        let mut deadlines = Deadlines::default();
        deadlines.set(key("a"), Some(at("2026-12-01T00:00:02Z")));
        deadlines.set(key("b"), Some(at("2026-12-01T00:00:01Z")));
        deadlines.set(key("c"), Some(at("2026-12-01T00:00:03Z")));
        deadlines.set(key("a"), Some(at("2026-12-01T00:00:00Z")));
        deadlines.set(key("c"), None);
        assert!(deadlines.take_due(at("2026-11-30T23:59:59Z")).is_empty());
        assert_eq!(deadlines.take_due(at("2026-12-01T00:00:05Z")), [key("a"), key("b")]);
        assert!(deadlines.ordered.is_empty() && deadlines.of.is_empty());
    }
}
