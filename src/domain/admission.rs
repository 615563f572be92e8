//! When the admission policies were seen to hold. What was decided at any other time was checked by nobody, and does not count.
//!
//! Policies are proved now and then. Between two proofs they held if they were the same ones: their UIDs and generations, of
//! which the fingerprint is made, never come back once something was written to them. So a time when the operator was down
//! counts too.

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
    /// Which policies held in the last period; empty before the first.
    fingerprint: String,
    periods: Vec<Period>,
    /// They were seen not to hold, or nobody knows what was seen: what holds from now on says nothing of before.
    #[serde(default)]
    broken: bool,
}

/// A time in which the same policies held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Period {
    since: Instant,
    /// The first second that no longer counts; absent while they hold. Dates are whole seconds: in the one of the last proof they
    /// may have been taken away, and something decided, after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<Instant>,
}

/// What a proof showed, and what is known of the policies that were proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof<'a> {
    /// When, by the API server's clock.
    pub at: Instant,
    /// The forged decision was refused.
    pub refused: bool,
    /// Which policies there were.
    pub fingerprint: &'a str,
    /// The latest date on one of them.
    pub dated: Instant,
    /// When this process saw them as they are now for the first time: a write can leave no date.
    pub seen: Instant,
    /// Until when this process saw the policies of a fingerprint hold.
    pub before: Option<(&'a str, Instant)>,
}

impl Proofs {
    /// Policies that hold since an instant.
    #[must_use]
    pub fn since(at: Instant) -> Self {
        let mut proofs = Self::default();
        proofs.open(at);
        proofs
    }

    /// A record that can't be read: whatever held is not known.
    #[must_use]
    pub fn unknown() -> Self {
        Self {
            broken: true,
            ..Self::default()
        }
    }

    /// The policies held at this instant.
    #[must_use]
    pub fn held_at(&self, at: Instant) -> bool {
        let holds = |period: &Period| period.since <= at && period.until.is_none_or(|until| at < until);
        self.periods.iter().any(holds)
    }

    /// Takes a proof in. One that comes soon after a change shows nothing yet; it ends what held before.
    pub fn take(&mut self, proof: &Proof<'_>) {
        if !proof.refused {
            self.lapse(proof);
            self.broken = true;
            return;
        }
        if self.is_open() && self.fingerprint == proof.fingerprint {
            return;
        }
        self.lapse(proof);
        if proof.at < proof.dated.max(proof.seen).plus(SETTLING) {
            return;
        }
        // The first policies of all held since they were written. Of later ones nobody saw what was there before them.
        let is_first = self.fingerprint.is_empty() && !self.broken;
        proof.fingerprint.clone_into(&mut self.fingerprint);
        self.broken = false;
        self.open(if is_first { proof.dated.plus(SETTLING) } else { proof.at });
    }

    /// The policies of before are no longer those. Where nobody saw until when they held, nothing of the period counts.
    fn lapse(&mut self, proof: &Proof<'_>) {
        let Some(open) = self.periods.last_mut().filter(|period| period.until.is_none()) else {
            return;
        };
        match proof.before.filter(|(fingerprint, _)| *fingerprint == self.fingerprint) {
            Some((_, last)) => open.until = Some(last),
            _ => drop(self.periods.pop()),
        }
    }

    fn open(&mut self, since: Instant) {
        self.periods.push(Period { since, until: None });
        let surplus = self.periods.len().saturating_sub(MOST);
        self.periods.drain(..surplus);
    }

    /// The policies hold now, as far as is known.
    #[must_use]
    pub fn is_open(&self) -> bool {
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

    /// A proof of policies that were written and first seen at `written`; an empty fingerprint is refuted.
    fn proof<'a>(fingerprint: &'a str, written: i64, made: i64, before: Option<(&'a str, i64)>) -> Proof<'a> {
        Proof {
            at: at(made),
            refused: !fingerprint.is_empty(),
            fingerprint,
            dated: at(written),
            seen: at(written),
            before: before.map(|(fingerprint, last)| (fingerprint, at(last))),
        }
    }

    #[test]
    fn the_first_policies_held_since_they_were_written() {
        let mut proofs = Proofs::default();
        assert!(!proofs.held_at(at(10)));
        proofs.take(&proof("a", 10, 12, None));
        assert!(!proofs.held_at(at(12)), "nobody knows yet what the API server goes by");
        proofs.take(&proof("a", 10, 100, None));
        assert!(!proofs.held_at(at(12)) && proofs.held_at(at(13)) && proofs.held_at(at(1_000)));
        proofs.take(&proof("a", 10, 500, None));
        assert!(proofs.held_at(at(400)), "a process that was down in between");
    }

    #[test]
    fn a_change_ends_what_held_and_what_follows_begins_with_its_own_proof() {
        let mut proofs = Proofs::default();
        proofs.take(&proof("a", 10, 20, None));
        proofs.take(&proof("b", 100, 101, Some(("a", 90))));
        assert!(
            proofs.held_at(at(89)) && !proofs.held_at(at(90)) && !proofs.held_at(at(101)),
            "the second of the last proof is not known whole, and what follows is not yet settled"
        );
        proofs.take(&proof("b", 100, 300, None));
        assert!(
            !proofs.held_at(at(299)) && proofs.held_at(at(300)),
            "a date can be missing"
        );
        proofs.take(&proof("", 100, 400, Some(("b", 390))));
        assert!(proofs.held_at(at(389)) && !proofs.held_at(at(390)));
        proofs.take(&proof("b", 100, 500, None));
        assert!(
            !proofs.held_at(at(450)) && proofs.held_at(at(500)),
            "they were seen not to hold"
        );
    }

    #[test]
    fn what_was_seen_of_other_policies_prolongs_nothing() {
        // The record is of policies a. While nobody led they were taken away and others came, which a second process saw.
        let mut proofs = Proofs::default();
        proofs.take(&proof("a", 10, 20, None));
        proofs.take(&proof("b", 200, 300, Some(("b", 290))));
        assert!(!proofs.held_at(at(150)) && !proofs.held_at(at(20)) && proofs.held_at(at(300)));
    }

    #[test]
    fn a_record_that_can_not_be_read_says_nothing_of_before() {
        let mut proofs = Proofs::unknown();
        proofs.take(&proof("a", 10, 100, None));
        assert!(!proofs.held_at(at(99)) && proofs.held_at(at(100)));
    }

    #[test]
    fn what_goes_on_is_no_news() {
        let mut proofs = Proofs::default();
        proofs.take(&proof("", 10, 20, None));
        let refuted = proofs.clone();
        proofs.take(&proof("", 10, 50, None));
        assert_eq!(proofs, refuted);
        proofs.take(&proof("a", 10, 60, None));
        let held = proofs.clone();
        proofs.take(&proof("a", 10, 90, Some(("a", 60))));
        assert_eq!(proofs, held);
    }

    proptest! {
        /// However policies change and processes come and go: no instant counts at which a forged decision would have been let
        /// through.
        #[test]
        fn nothing_counts_at_which_nobody_checked(
            history in proptest::collection::vec((0_u8..3, 0_i64..20, any::<bool>(), any::<bool>()), 1..80),
        ) {
            let mut proofs = Proofs::default();
            let (mut clock, mut written, mut generation) = (0_i64, 0_i64, 0);
            let mut policies = u8::MAX;
            let mut last: Option<(String, i64)> = None;
            let mut open = Vec::new();
            for (next, later, restarted, looks) in history {
                let begun = clock;
                clock += later;
                if next != policies {
                    if policies == 0 {
                        open.push(begun..clock);
                    }
                    (policies, written) = (next, clock);
                    generation += 1;
                } else if policies == 0 {
                    open.push(begun..clock);
                }
                if restarted {
                    last = None;
                }
                if !looks {
                    continue;
                }
                let name = if policies == 0 { String::new() } else { format!("{policies} {generation}") };
                let before = last.as_ref().map(|(name, last)| (name.as_str(), *last));
                proofs.take(&proof(&name, written, clock, before));
                last = (policies != 0).then_some((name, clock));
                for hole in &open {
                    for second in hole.clone() {
                        prop_assert!(!proofs.held_at(at(second)), "{second} {:?} {:?}", &open, &proofs);
                    }
                }
                prop_assert!(proofs.periods.len() <= MOST);
                let text = serde_json::to_string(&proofs).unwrap();
                prop_assert_eq!(serde_json::from_str::<Proofs>(&text).unwrap(), proofs.clone());
            }
        }
    }
}
