//! When the admission policies were seen to hold. What was decided at any other time was checked by nobody, and does not count.
//!
//! Policies are proved now and then. Around a proof they held for as long as they were the same ones: their UIDs and
//! generations, of which the fingerprint is made, change with everything that is written to them, and that has a date. So a time
//! when the operator was down counts too.

use serde::{Deserialize, Serialize};

use crate::api::v1alpha1::Instant;

/// The most periods that are remembered; the earliest are forgotten, and nothing that was decided in them counts anew.
const MOST: usize = 32;
/// The API server reads policies anew each second: it goes by one only some time after it was written, and by one that was deleted
/// for as long. In seconds.
pub const SETTLING: i64 = 3;

/// The periods in which the policies held.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Proofs {
    /// Which policies held in the last period.
    fingerprint: String,
    periods: Vec<Period>,
    /// When they were last seen not to hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refuted: Option<Instant>,
}

/// A time in which the same policies held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Period {
    since: Instant,
    /// Absent while they hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<Instant>,
}

/// What a proof showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof<'a> {
    /// When, by the API server's clock.
    pub at: Instant,
    /// The forged decision was refused.
    pub refused: bool,
    /// Which policies there were.
    pub fingerprint: &'a str,
    /// When one of them was last written or deleted, as far as that was seen.
    pub written: Instant,
    /// The proof before, where this process made it and it held.
    pub before: Option<Instant>,
}

impl Proofs {
    /// Policies that hold since an instant.
    #[must_use]
    pub fn since(at: Instant) -> Self {
        let mut proofs = Self::default();
        proofs.open(at);
        proofs
    }

    /// The policies held at this instant.
    #[must_use]
    pub fn held_at(&self, at: Instant) -> bool {
        let holds = |period: &Period| period.since <= at && period.until.is_none_or(|until| at <= until);
        self.periods.iter().any(holds)
    }

    /// Takes a proof in. One that comes soon after a change shows nothing yet; it ends what held before.
    pub fn take(&mut self, proof: &Proof<'_>) {
        if !proof.refused {
            self.lapse(proof.before);
            self.refuted = Some(proof.at);
            return;
        }
        if self.is_open() && self.fingerprint == proof.fingerprint {
            return;
        }
        self.lapse(proof.before);
        let settled = proof.written.plus(SETTLING);
        if proof.at >= settled {
            proof.fingerprint.clone_into(&mut self.fingerprint);
            // They may be as they were when they were seen not to hold.
            let since = self.refuted.map_or(settled, |refuted| settled.max(refuted.plus(1)));
            self.open(since);
        }
    }

    /// The policies of before are no longer those. Where nobody saw until when they held, nothing of the period counts.
    fn lapse(&mut self, last: Option<Instant>) {
        let Some(open) = self.periods.last_mut().filter(|period| period.until.is_none()) else {
            return;
        };
        match last {
            Some(last) if last >= open.since => open.until = Some(last),
            _ => drop(self.periods.pop()),
        }
    }

    fn open(&mut self, since: Instant) {
        self.periods.push(Period { since, until: None });
        let surplus = self.periods.len().saturating_sub(MOST);
        self.periods.drain(..surplus);
    }

    fn is_open(&self) -> bool {
        self.periods.last().is_some_and(|period| period.until.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(second: i64) -> Instant {
        Instant::new(jiff::Timestamp::from_second(second).unwrap())
    }

    fn proof(fingerprint: &str, written: i64, seen: i64, before: Option<i64>) -> Proof<'_> {
        Proof {
            at: at(seen),
            refused: !fingerprint.is_empty(),
            fingerprint,
            written: at(written),
            before: before.map(at),
        }
    }

    #[test]
    fn the_same_policies_held_since_they_were_written() {
        let mut proofs = Proofs::default();
        assert!(!proofs.held_at(at(10)));
        proofs.take(&proof("a", 10, 12, None));
        assert!(!proofs.held_at(at(12)), "nobody knows yet what the API server goes by");
        proofs.take(&proof("a", 10, 13, Some(12)));
        assert!(!proofs.held_at(at(12)) && proofs.held_at(at(13)) && proofs.held_at(at(1_000)));
        proofs.take(&proof("a", 10, 500, None));
        assert!(proofs.held_at(at(400)), "a process that was down in between");
    }

    #[test]
    fn a_change_ends_what_held_and_what_follows_begins_when_it_is_settled() {
        let mut proofs = Proofs::since(at(10));
        proofs.take(&proof("", 100, 101, Some(90)));
        assert!(proofs.held_at(at(90)) && !proofs.held_at(at(91)));
        proofs.take(&proof("b", 200, 201, None));
        assert!(!proofs.held_at(at(201)));
        proofs.take(&proof("b", 200, 300, Some(201)));
        assert!(!proofs.held_at(at(202)) && proofs.held_at(at(203)));
        proofs.take(&proof("c", 400, 401, Some(350)));
        assert!(
            proofs.held_at(at(350)) && !proofs.held_at(at(401)),
            "other policies, not yet settled"
        );
    }

    #[test]
    fn what_was_seen_not_to_hold_did_not_hold_whatever_follows() {
        let mut proofs = Proofs::default();
        proofs.take(&proof("a", 10, 20, None));
        proofs.take(&proof("", 10, 50, Some(20)));
        proofs.take(&proof("a", 10, 90, None));
        assert!(proofs.held_at(at(20)) && !proofs.held_at(at(21)) && !proofs.held_at(at(50)));
        assert!(proofs.held_at(at(51)), "as far as anybody saw");
    }

    #[test]
    fn a_period_whose_end_nobody_saw_does_not_count() {
        let mut proofs = Proofs::since(at(10));
        proofs.take(&proof("other", 90, 100, None));
        assert!(!proofs.held_at(at(50)) && proofs.held_at(at(96)));
    }

    proptest! {
        /// However the policies change, what counts lies in a time that ends with a proof that held, or has not ended; and no
        /// instant counts at which a forged decision was let through.
        #[test]
        fn nothing_counts_that_was_seen_not_to_hold(
            history in proptest::collection::vec((0_u8..3, 1_i64..20, any::<bool>()), 1..80),
        ) {
            let mut proofs = Proofs::default();
            let (mut clock, mut written, mut last, mut policies) = (0_i64, 0_i64, None, u8::MAX);
            let mut refuted = Vec::new();
            for (next, later, restarted) in history {
                clock += later;
                if next != policies {
                    (policies, written) = (next, clock);
                }
                if restarted {
                    last = None;
                }
                let name = if next == 0 { String::new() } else { next.to_string() };
                proofs.take(&proof(&name, written, clock, last));
                if next == 0 {
                    refuted.push(clock);
                    last = None;
                } else {
                    last = Some(clock);
                }
                prop_assert!(refuted.iter().all(|second| !proofs.held_at(at(*second))), "{:?}", proofs);
                prop_assert!((written..written + SETTLING).all(|second| !proofs.held_at(at(second))), "{:?}", proofs);
                prop_assert!(proofs.periods.len() <= MOST);
                let text = serde_json::to_string(&proofs).unwrap();
                prop_assert_eq!(serde_json::from_str::<Proofs>(&text).unwrap(), proofs.clone());
            }
        }
    }
}
