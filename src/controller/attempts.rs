//! How attempts that failed are paced: the pause grows with each, and a change of the object ends it. No object costs more than
//! 20 calls a minute, however long a failure lasts.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::lock;

/// The first pause after a failure.
pub(crate) const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// So many times as long is the next pause.
const GROWTH: u32 = 4;
/// The longest pause after a failure: a rotation, or what is left of a closing, takes up to five calls, and no minute has more
/// than four of these in it.
const LONGEST_PAUSE: Duration = Duration::from_secs(16);
/// The longest where access was to be made: that takes up to 16 calls, with those that take it away again.
const LONGEST_AT_ISSUING: Duration = Duration::from_mins(1);

/// Failures in a row, by the object's UID.
#[derive(Debug, Default)]
pub(crate) struct Attempts(Mutex<HashMap<String, Failures>>);

#[derive(Debug)]
struct Failures {
    count: u32,
    /// Nothing is attempted before.
    until: Instant,
    longest: Duration,
}

impl Attempts {
    /// An attempt failed; says how long to pause.
    pub(crate) fn failed(&self, uid: &str) -> Duration {
        let mut all = lock(&self.0);
        let failures = all.entry(uid.to_owned()).or_insert_with(Failures::none);
        let growth = GROWTH.saturating_pow(failures.count);
        let pause = FIRST_PAUSE.saturating_mul(growth).min(failures.longest);
        failures.count = failures.count.saturating_add(1);
        failures.until = Instant::now() + pause;
        failures.longest = LONGEST_PAUSE;
        pause
    }

    /// The failure that is told next was one of issuing.
    pub(crate) fn at_issuing(&self, uid: &str) {
        let mut all = lock(&self.0);
        all.entry(uid.to_owned()).or_insert_with(Failures::none).longest = LONGEST_AT_ISSUING;
    }

    /// For how much longer nothing is attempted: the traces of a failure would have the next follow at once.
    pub(crate) fn left(&self, uid: &str) -> Option<Duration> {
        let until = lock(&self.0).get(uid)?.until;
        let left = until.checked_duration_since(Instant::now());
        left.filter(|left| !left.is_zero())
    }

    /// The object changed: another attempt may follow at once.
    pub(crate) fn lift(&self, uid: &str) {
        if let Some(failures) = lock(&self.0).get_mut(uid) {
            failures.until = Instant::now();
        }
    }

    /// Nothing failed this time; a pause that is not over counts as the failure's.
    pub(crate) fn went_well(&self, uid: &str) {
        if self.left(uid).is_none() {
            lock(&self.0).remove(uid);
        }
    }

    /// Forgets all but objects of these UIDs.
    pub(crate) fn retain(&self, uids: &HashSet<String>) {
        lock(&self.0).retain(|uid, _| uids.contains(uid));
    }
}

impl Failures {
    fn none() -> Self {
        Self {
            count: 0,
            until: Instant::now(),
            longest: LONGEST_PAUSE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_grows_up_to_its_bound_and_ends_with_a_change() {
        let attempts = Attempts::default();
        let pauses: Vec<Duration> = (0..9).map(|_| attempts.failed("a")).collect();
        assert_eq!(pauses[..3], [FIRST_PAUSE, FIRST_PAUSE * 4, FIRST_PAUSE * 16]);
        assert_eq!(pauses[8], LONGEST_PAUSE);
        attempts.at_issuing("a");
        assert_eq!(attempts.failed("a"), LONGEST_AT_ISSUING);
        attempts.went_well("a");
        assert!(attempts.left("a").is_some(), "the pause stands until it is over");
        attempts.lift("a");
        assert_eq!(attempts.left("a"), None);
        assert_eq!(attempts.failed("a"), LONGEST_PAUSE, "a change is not yet a success");
        attempts.lift("a");
        attempts.went_well("a");
        assert_eq!(attempts.failed("a"), FIRST_PAUSE);
    }
}
