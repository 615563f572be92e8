//! Arithmetic on the lives of tokens: how long one may be, when it is replaced, how long the old one stays.
//!
//! The API server accepts a token for 60 s after its `exp` and up to 10 s more from its cache, grants none shorter than
//! 600 s and counts from its own clock. So a token that must not outlive `until` expires 70 s before it, and is asked for
//! in time for that.

use crate::api::v1alpha1::Instant;

/// How long before the end of access every token has expired: leeway of 60 s and cache of 10 s.
pub const FADE: i64 = 70;
/// The shortest token that the API server grants, in seconds.
pub const SHORTEST: i64 = 600;
/// Nothing is issued in the last seconds before the end.
pub const NO_ISSUE: i64 = 60;
/// The last token asks for an end this long before the end of access: [`FADE`], and two seconds for the server's clock.
const LAST: i64 = FADE + 2;
/// The last token is due this long before the end of access: the shortest token, its [`FADE`], and a margin of 60 s.
const LAST_DUE: i64 = SHORTEST + FADE + 60;
/// A token that expires at most this long before the end of access needs no successor.
const TAIL: i64 = FADE + 5;
/// The shortest overlap of two tokens, in seconds.
const SHORTEST_OVERLAP: i64 = 120;
/// A life that falls short of what was asked for by no more than this is put down to the clocks, which may differ by 30 s, and to
/// the time that an answer takes.
const EXPLAINED: i64 = 60;
/// Asked for exactly this, the API server may answer with a token of a year (`--service-account-extend-token-expiration`).
const NEVER_ASK: i64 = 3_607;

/// What to ask the API server for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenAsk {
    /// `expirationSeconds` of the TokenRequest.
    pub seconds: i64,
    /// The token expires by itself before access ends.
    pub hard: bool,
}

/// Whether anything may be issued at `now`: not within the last minute.
#[must_use]
pub fn may_issue(now: Instant, until: Instant) -> bool {
    until.seconds_since(now) > NO_ISSUE
}

/// The token to ask for at `now`, or none where too little time is left: within the last minute, and, where a hard expiry
/// is required, once the shortest token would outlive the access.
#[must_use]
pub fn ask(now: Instant, until: Instant, lifetime: i64, hard_expiry_required: bool) -> Option<TokenAsk> {
    let left = until.seconds_since(now);
    if !may_issue(now, until) {
        return None;
    }
    let longest = left - LAST;
    if longest >= SHORTEST {
        let seconds = lifetime.max(SHORTEST).min(longest);
        return Some(TokenAsk {
            seconds: if seconds == NEVER_ASK { NEVER_ASK - 1 } else { seconds },
            hard: true,
        });
    }
    (!hard_expiry_required).then_some(TokenAsk {
        seconds: SHORTEST,
        hard: false,
    })
}

/// Whether a token that expires at `expires` is gone, leeway and cache included, when access ends.
#[must_use]
pub fn is_hard(expires: Instant, until: Instant) -> bool {
    until.seconds_since(expires) >= FADE
}

/// Whether the API server granted clearly less than the seconds that were asked for: by more than two clocks and a slow answer
/// explain.
#[must_use]
pub fn is_shortened(asked: i64, issued: Instant, expires: Instant) -> bool {
    asked - expires.seconds_since(issued) > EXPLAINED
}

/// When a token is due to be replaced: after two thirds of its life, and in time for the last one; never, where it
/// reaches the end of access or no token after it could end in time.
#[must_use]
pub fn rotates_at(issued: Instant, expires: Instant, until: Instant) -> Option<Instant> {
    if until.seconds_since(expires) <= TAIL {
        return None;
    }
    let share = issued.plus(expires.seconds_since(issued) * 2 / 3);
    let last = until.plus(-LAST_DUE);
    // A server that grants less than was asked for can make the last token fall short: then the share counts alone.
    let due = if last > issued { share.min(last) } else { share };
    (until.seconds_since(due) >= SHORTEST + LAST).then_some(due)
}

/// When the token before stops working: a sixth of its life after its replacement, at least two minutes.
#[must_use]
pub fn retires_at(now: Instant, issued: Instant, expires: Instant) -> Instant {
    now.plus((expires.seconds_since(issued) / 6).max(SHORTEST_OVERLAP))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(second: i64) -> Instant {
        Instant::new(jiff::Timestamp::from_second(second).unwrap())
    }

    #[test]
    fn a_year_long_token_is_never_asked_for() {
        assert_eq!(
            ask(at(0), at(1_000_000), NEVER_ASK, true),
            Some(TokenAsk {
                seconds: 3_606,
                hard: true
            })
        );
    }

    #[test]
    fn a_grant_too_short_for_a_hard_end_is_refused_or_ends_softly() {
        assert_eq!(ask(at(0), at(671), 900, true), None);
        assert_eq!(
            ask(at(0), at(671), 900, false),
            Some(TokenAsk {
                seconds: 600,
                hard: false
            })
        );
        assert_eq!(
            ask(at(0), at(672), 900, true),
            Some(TokenAsk {
                seconds: 600,
                hard: true
            })
        );
        assert_eq!(ask(at(0), at(60), 900, false), None);
        assert_eq!(
            ask(at(0), at(61), 900, false),
            Some(TokenAsk {
                seconds: 600,
                hard: false
            })
        );
    }

    #[test]
    fn a_token_is_shortened_where_clocks_do_not_explain_what_is_missing() {
        assert!(!is_shortened(3_600, at(0), at(3_600)));
        assert!(!is_shortened(3_600, at(40), at(3_580)), "a slow answer and two clocks");
        assert!(is_shortened(3_600, at(0), at(3_539)));
        assert!(!is_shortened(600, at(0), at(3_600)), "more than was asked for");
    }

    #[test]
    fn the_last_token_is_asked_for_in_time() {
        assert_eq!(rotates_at(at(0), at(900), at(2_000)), Some(at(600)));
        assert_eq!(rotates_at(at(600), at(1_500), at(2_000)), Some(at(1_200)));
        assert_eq!(rotates_at(at(1_200), at(1_928), at(2_000)), None);
        assert_eq!(
            rotates_at(at(1_290), at(1_890), at(2_000)),
            None,
            "too late for another"
        );
    }

    #[test]
    fn each_margin_is_kept_to_the_second() {
        assert_eq!(
            rotates_at(at(0), at(925), at(1_000)),
            None,
            "gone soon enough before the end"
        );
        assert_eq!(
            rotates_at(at(0), at(924), at(1_000)),
            Some(at(270)),
            "730 s before the end, sooner than after two thirds"
        );
        assert_eq!(
            rotates_at(at(270), at(900), at(1_000)),
            None,
            "asked for when the last one is due, and cut short by the server: not due at once"
        );
        assert_eq!(
            rotates_at(at(0), at(42), at(700)),
            Some(at(28)),
            "another still fits, 672 s before the end"
        );
        assert_eq!(rotates_at(at(0), at(44), at(700)), None, "671 s before");
        assert_eq!(
            retires_at(at(5_000), at(0), at(3_600)),
            at(5_600),
            "a sixth of its life"
        );
        assert_eq!(retires_at(at(5_000), at(0), at(720)), at(5_120));
        assert_eq!(retires_at(at(5_000), at(0), at(60)), at(5_120), "two minutes at least");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        /// The tail rule: with lifetimes of 15 minutes and more, and an operator never away for longer than the margin,
        /// a valid token is there until 75 s before the end, and none lives beyond 70 s before it.
        #[test]
        fn a_hard_expiring_grant_always_holds_a_valid_token_until_the_end(
            lifetime in 900i64..86_400,
            length in 672i64..400_000,
            start in 0i64..4_000_000_000,
            outages in prop::collection::vec(0i64..59, 1..40),
        ) {
            let (until, mut now) = (at(start + length), at(start));
            let mut outages = outages.into_iter().cycle();
            let mut tokens = 0;
            loop {
                let token = ask(now, until, lifetime, true);
                prop_assert!(token.is_some(), "none to be had {} s before the end", until.seconds_since(now));
                let token = token.unwrap();
                prop_assert!(token.hard && token.seconds >= SHORTEST && token.seconds != NEVER_ASK);
                prop_assert!(token.seconds <= lifetime.max(SHORTEST));
                let expires = now.plus(token.seconds);
                prop_assert!(is_hard(expires, until));
                tokens += 1;
                prop_assert!(tokens <= 2 + 2 * length / 600, "rotation in a loop");
                match rotates_at(now, expires, until) {
                    None => {
                        prop_assert!(until.seconds_since(expires) <= TAIL, "gone {} s before the end", until.seconds_since(expires));
                        break;
                    }
                    Some(due) => {
                        prop_assert!(due > now, "due at once");
                        now = due.plus(outages.next().unwrap());
                        prop_assert!(now < expires, "the token lapsed before its successor was due");
                    }
                }
            }
        }

        /// Whatever a server grants instead of what was asked: no loop, no panic.
        #[test]
        fn a_server_that_grants_less_or_more_makes_no_loop(
            granted in 1i64..200_000, length in 61i64..400_000, lifetime in 900i64..86_400,
        ) {
            let until = at(length);
            if let Some(due) = rotates_at(at(0), at(granted), until) {
                prop_assert!(due >= at(granted * 2 / 3).min(until.plus(-LAST_DUE)));
                prop_assert!(ask(due, until, lifetime, true).is_some());
            }
        }
    }
}
