//! When the grants of an integration are to be reviewed, and how near that is. Pure: no I/O, no clock, no randomness.

use crate::api::conditions::{Reason, review, types};
use crate::api::v1alpha1::{AccessGrant, Instant, PartnerIntegration};
use crate::domain::conditions::{self, Desired};

/// In seconds.
const DAY: i64 = 86_400;
/// How long ahead a review is spoken of, nearest first. What is no shorter than the interval itself says nothing.
const STEPS: [(i64, &str); 3] = [
    (DAY, review::DUE_IN_1_DAY),
    (7 * DAY, review::DUE_IN_7_DAYS),
    (14 * DAY, review::DUE_IN_14_DAYS),
];
/// The most names of grants in one message.
const MOST_NAMES: usize = 10;

/// How it stands with the review of an integration.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Recertification {
    /// The condition.
    pub(super) condition: Desired,
    /// The earliest review due of active grants.
    pub(super) next_review_at: Option<Instant>,
    /// When the answer changes by itself.
    pub(super) next_change: Option<Instant>,
}

/// How it stands with the review of an integration that has these grants.
pub(super) fn of(integration: &PartnerIntegration, own: &[&AccessGrant], now: Instant) -> Recertification {
    let mut due: Vec<(Instant, &AccessGrant)> = own
        .iter()
        .filter(|grant| active(grant).is_some_and(|(status, _)| status == "True"))
        .filter_map(|grant| Some((grant.status.as_ref()?.next_review_at?, *grant)))
        .collect();
    due.sort_by_key(|(at, grant)| (*at, &grant.metadata.name));
    let ended = |because: Reason| {
        let is_it = |grant: &&&AccessGrant| active(grant).is_some_and(|(_, reason)| reason == because.as_str());
        let mut names: Vec<&str> = own.iter().filter(is_it).map(|grant| name(grant)).collect();
        names.sort_unstable();
        names
    };
    let (lapsed, ended) = (ended(Reason::ReviewLapsed), ended(Reason::ApprovalEnded));
    let next_review_at = due.first().map(|(at, _)| *at);
    let interval = integration.spec.review.interval.as_seconds();
    let steps = || STEPS.into_iter().filter(|(ahead, _)| *ahead < interval);

    let mut words = Vec::new();
    let mut found = None;
    if let Some(next) = next_review_at {
        let overdue = now >= next;
        let of_that_day = due
            .iter()
            .filter(|(at, _)| if overdue { now >= *at } else { *at == next });
        let of_that_day = of_that_day.map(|(_, grant)| *grant);
        let (ending, reviewed): (Vec<_>, Vec<_>) = of_that_day.partition(|grant| ends_by_itself(grant));
        let names = |grants: &[&AccessGrant]| few(&grants.iter().map(|grant| name(grant)).collect::<Vec<_>>());
        // What ends by itself is never overdue: at its end the grant says so next.
        found = steps()
            .find(|(ahead, _)| now >= next.plus(-ahead))
            .map(|(_, reason)| reason);
        if overdue && !reviewed.is_empty() {
            let ends = reviewed.iter().filter_map(|grant| grant.status.as_ref()?.active_until);
            let end = ends
                .min()
                .map_or_else(String::new, |end| format!(", and its access ends from {end} on"));
            words.push(format!(
                "the review was due at {next}{end}: review it (kubectl wayleave certify); overdue: {}",
                names(&reviewed)
            ));
            found = Some(review::OVERDUE);
        } else if !reviewed.is_empty() {
            words.push(format!("the next review is due at {next}: {}", names(&reviewed)));
        }
        if !ending.is_empty() {
            words.push(format!(
                "an approval ends at {next}, a date that it set itself and no review moves: approve again (kubectl wayleave approve): {}",
                names(&ending)
            ));
        }
    }
    for (names, why) in [
        (&lapsed, "lapsed for want of a review"),
        (&ended, "ended on a date that its approval set"),
    ] {
        if !names.is_empty() {
            words.push(format!("{why}, and to be approved again: {}", few(names)));
            found = found.or(Some(review::LAPSED));
        }
    }
    if words.is_empty() {
        words.push("no active grant rests on an approval: nothing is to be reviewed".to_owned());
    }
    let reason = found.unwrap_or(match next_review_at {
        Some(_) => review::CURRENT,
        None => review::NOTHING_DUE,
    });
    let status = match reason {
        review::OVERDUE | review::LAPSED => "False",
        _ => "True",
    };
    // Others than the next one are overdue by themselves, too.
    let instants = due.iter().map(|(at, _)| *at);
    let ahead = next_review_at
        .into_iter()
        .flat_map(|next| steps().map(move |(ahead, _)| next.plus(-ahead)));
    let next_change = instants.chain(ahead).filter(|at| *at > now).min();
    Recertification {
        condition: Desired::new(types::REVIEW_CURRENT, status, reason, words.join("; ")),
        next_review_at,
        next_change,
    }
}

/// Whether somebody should be told that the reason went from one to the next: each step ahead, and that it was taken back.
pub(super) fn is_news(was: Option<&str>, now: &str) -> bool {
    let is_calm = |reason: &str| [review::NOTHING_DUE, review::CURRENT].contains(&reason);
    was != Some(now) && (!is_calm(now) || was.is_some_and(|was| !is_calm(was)))
}

/// Whether what comes next is the date that an approval set itself.
fn ends_by_itself(grant: &AccessGrant) -> bool {
    grant.status.as_ref().is_some_and(|status| {
        status.ends_because.as_deref() == Some(Reason::ApprovalEnded.as_str())
            && status.next_review_at == status.active_until
    })
}

fn active(grant: &AccessGrant) -> Option<(&str, &str)> {
    let active = conditions::active(grant)?;
    Some((&active.status, &active.reason))
}

fn name(grant: &AccessGrant) -> &str {
    grant.metadata.name.as_deref().unwrap_or_default()
}

/// The first names, and how many more there are.
fn few(names: &[&str]) -> String {
    let shown = names.len().min(MOST_NAMES);
    let more = names.len() - shown;
    let first = names[..shown].join(", ");
    if more == 0 {
        first
    } else {
        format!("{first} and {more} more")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::api::v1alpha1::AccessGrantStatus;
    use crate::domain::fixtures::{at, grant, integration};

    const DUE: &str = "2027-03-01T00:00:00Z";

    /// A grant with a reason, whose review is due so many seconds after [`DUE`].
    fn with(name: &str, reason: Reason, due: Option<i64>) -> AccessGrant {
        let mut grant = grant();
        grant.metadata.name = Some(name.to_owned());
        grant.status = Some(AccessGrantStatus {
            conditions: conditions::merge(&[], conditions::of_grant(reason, ""), Some(1), at(DUE)),
            next_review_at: due.map(|seconds| at(DUE).plus(seconds)),
            active_until: due.map(|seconds| at(DUE).plus(seconds + 7 * DAY)),
            ..AccessGrantStatus::default()
        });
        grant
    }

    fn at_second(grants: &[AccessGrant], second: i64) -> Recertification {
        let grants: Vec<&AccessGrant> = grants.iter().collect();
        of(&integration(), &grants, at(DUE).plus(second))
    }

    #[test]
    fn every_step_comes_at_its_instant_and_the_next_is_waited_for() {
        let grants = [with("reader", Reason::Issued, Some(0))];
        let expected = [
            (-15 * DAY, "True", "Current", Some(-14 * DAY)),
            (-14 * DAY - 1, "True", "Current", Some(-14 * DAY)),
            (-14 * DAY, "True", "DueIn14Days", Some(-7 * DAY)),
            (-7 * DAY, "True", "DueIn7Days", Some(-DAY)),
            (-DAY, "True", "DueIn1Day", Some(0)),
            (-1, "True", "DueIn1Day", Some(0)),
            (0, "False", "Overdue", None),
        ];
        for (second, status, reason, next) in expected {
            let found = at_second(&grants, second);
            assert_eq!(
                (found.condition.status, found.condition.reason.as_str()),
                (status, reason)
            );
            assert_eq!(found.next_change, next.map(|next| at(DUE).plus(next)), "{reason}");
            assert_eq!(found.next_review_at, Some(at(DUE)));
        }
        let overdue = at_second(&grants, 0).condition.message;
        assert!(
            overdue.contains("2027-03-08T00:00:00Z") && overdue.ends_with("overdue: reader"),
            "{overdue}"
        );
    }

    #[test]
    fn a_step_no_shorter_than_the_interval_is_left_out() {
        let mut integration = integration();
        integration.spec.review.interval = "7d".parse().unwrap();
        let grant = with("reader", Reason::Issued, Some(0));
        let found = of(&integration, &[&grant], at(DUE).plus(-7 * DAY));
        assert_eq!(found.condition.reason, "Current");
        assert_eq!(found.next_change, Some(at(DUE).plus(-DAY)));
    }

    #[test]
    fn where_nothing_rests_on_an_approval_nothing_is_due() {
        let grants = [
            with("self-service", Reason::Issued, None),
            with("expired", Reason::Expired, Some(0)),
            with("waiting", Reason::AwaitingApproval, None),
        ];
        let found = at_second(&grants, 0);
        assert_eq!(
            (found.condition.status, found.condition.reason.as_str()),
            ("True", "NothingDue")
        );
        assert_eq!((found.next_review_at, found.next_change), (None, None));
    }

    #[test]
    fn what_lapsed_is_told_and_hides_nothing_that_can_still_be_done() {
        let mut grants = vec![
            with("gone", Reason::ReviewLapsed, None),
            with("reader", Reason::Issued, Some(0)),
        ];
        let found = at_second(&grants, -30 * DAY);
        assert_eq!(
            (found.condition.status, found.condition.reason.as_str()),
            ("False", "Lapsed")
        );
        let found = at_second(&grants, -7 * DAY);
        assert_eq!(found.condition.reason, "DueIn7Days");
        assert!(found.condition.message.ends_with("to be approved again: gone"));
        assert_eq!(at_second(&grants, 0).condition.reason, "Overdue");
        grants.push(with("writer", Reason::Issued, Some(60)));
        let both = at_second(&grants, 0);
        assert_eq!(both.next_change, Some(at(DUE).plus(60)), "the next to be overdue");
        assert!(
            at_second(&grants, 60)
                .condition
                .message
                .contains("overdue: reader, writer")
        );
    }

    #[test]
    fn an_approval_that_ends_by_itself_is_told_ahead_and_as_what_it_is() {
        let mut ending = with("brief", Reason::Issued, Some(0));
        let status = ending.status.as_mut().unwrap();
        status.active_until = status.next_review_at;
        status.ends_because = Some(Reason::ApprovalEnded.as_str().to_owned());
        let told = at_second(std::slice::from_ref(&ending), -7 * DAY).condition;
        assert_eq!((told.status, told.reason.as_str()), ("True", "DueIn7Days"));
        assert!(
            told.message
                .starts_with("an approval ends at 2027-03-01T00:00:00Z, a date that it set itself")
                && told
                    .message
                    .ends_with("approve again (kubectl wayleave approve): brief"),
            "{}",
            told.message
        );
        for (because, later) in [(Reason::ApprovalEnded, 5), (Reason::ReviewLapsed, 0)] {
            let mut reviewed = ending.clone();
            let status = reviewed.status.as_mut().unwrap();
            status.active_until = status.next_review_at.map(|due| due.plus(later));
            status.ends_because = Some(because.as_str().to_owned());
            let told = at_second(&[reviewed], -DAY).condition.message;
            assert_eq!(
                told, "the next review is due at 2027-03-01T00:00:00Z: brief",
                "{because}"
            );
        }
        let both = [ending, with("reader", Reason::Issued, Some(0))];
        let told = at_second(&both, -DAY).condition;
        assert!(
            told.message
                .starts_with("the next review is due at 2027-03-01T00:00:00Z: reader; an approval ends"),
            "{}",
            told.message
        );
        let told = at_second(&both, 0).condition;
        assert_eq!(told.reason, "Overdue");
        assert!(
            told.message.contains("overdue: reader; an approval ends at"),
            "{}",
            told.message
        );
        let told = at_second(&both[..1], 0).condition;
        assert_eq!(told.reason, "DueIn1Day", "no review is overdue");
        let gone = [
            with("brief", Reason::ApprovalEnded, None),
            with("old", Reason::ReviewLapsed, None),
        ];
        let told = at_second(&gone, 0).condition;
        assert_eq!((told.status, told.reason.as_str()), ("False", "Lapsed"));
        assert_eq!(
            told.message,
            "lapsed for want of a review, and to be approved again: old; ended on a date that its approval set, and to be approved again: brief"
        );
    }

    #[test]
    fn many_names_are_cut() {
        let grants: Vec<AccessGrant> = (0..12)
            .map(|number| with(&format!("g{number:02}"), Reason::Issued, Some(0)))
            .collect();
        assert!(at_second(&grants, -DAY).condition.message.ends_with("g09 and 2 more"));
    }

    proptest! {
        /// Between two instants that it names nothing changes, and the order of grants doesn't matter.
        #[test]
        fn the_answer_changes_only_when_it_says_so(
            dues in prop::collection::vec((-20i64..20, 0usize..3), 1..6), now in -40i64..30, share in 0i64..100, turn in 0usize..6,
        ) {
            let reasons = [Reason::Issued, Reason::ReviewLapsed, Reason::Expired];
            let mut grants: Vec<AccessGrant> = dues.iter().enumerate()
                .map(|(index, (day, reason))| with(&format!("g{index}"), reasons[*reason], Some(day * DAY)))
                .collect();
            let found = at_second(&grants, now * DAY);
            let until = found.next_change.map_or(100 * DAY, |next| next.seconds_since(at(DUE)));
            let between = now * DAY + (until - now * DAY - 1) * share / 100;
            let turned = turn % grants.len();
            grants.rotate_left(turned);
            prop_assert_eq!(at_second(&grants, between).condition, found.condition);
        }
    }
}
