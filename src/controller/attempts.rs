//! How attempts that failed are paced: the pause doubles with each, and a change of the object ends it.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::lock;

/// The first pause after a failure.
pub(crate) const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause after a failure: at most 20 calls a minute for one object.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// Failures in a row, by the object's UID, and until when nothing is attempted again.
#[derive(Debug, Default)]
pub(crate) struct Attempts(Mutex<HashMap<String, (u32, Instant)>>);

impl Attempts {
    /// An attempt failed; says how long to pause.
    pub(crate) fn failed(&self, uid: &str) -> Duration {
        let mut failures = lock(&self.0);
        let count = failures.get(uid).map_or(0, |(count, _)| *count);
        let pause = FIRST_PAUSE
            .saturating_mul(2_u32.saturating_pow(count))
            .min(LONGEST_PAUSE);
        failures.insert(uid.to_owned(), (count.saturating_add(1), Instant::now() + pause));
        pause
    }

    /// For how much longer nothing is attempted: the traces of a failure would have the next follow at once.
    pub(crate) fn left(&self, uid: &str) -> Option<Duration> {
        let (_, until) = lock(&self.0).get(uid).copied()?;
        let left = until.checked_duration_since(Instant::now());
        left.filter(|left| !left.is_zero())
    }

    /// The object changed: another attempt may follow at once.
    pub(crate) fn lift(&self, uid: &str) {
        if let Some((_, until)) = lock(&self.0).get_mut(uid) {
            *until = Instant::now();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_up_to_its_bound_and_ends_with_a_change() {
        let attempts = Attempts::default();
        let pauses: Vec<Duration> = (0..9).map(|_| attempts.failed("a")).collect();
        assert_eq!(pauses[..3], [FIRST_PAUSE, FIRST_PAUSE * 2, FIRST_PAUSE * 4]);
        assert_eq!(pauses[8], LONGEST_PAUSE);
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
