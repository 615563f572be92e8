//! Each rule of what a Review renews, one at a time from a sound one; and the laws, over whole histories.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::{Confirmation, Covered, Question, ReviewOutcome, Standing, consider};
use super::MOST_RENEWALS;
use crate::api::v1alpha1::{
    AccessDecision, AccessGrant, AccessGrantStatus, AccessOwner, ApprovalRequirement, Instant, PartnerIntegration,
    ReplacedDigest, ReviewedGrant, SubjectKind,
};
use crate::domain::admission::Proofs;
use crate::domain::fixtures::{GRANT_UID, at, decision, grant, integration, owner};
use crate::domain::ownership::Owners;

const DIGEST: &str = "sha256:dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd";
const OTHER: &str = "sha256:eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee";
/// The day on which dave approved: good for 90 days and 7 of grace, until 8 March.
const START: &str = "2026-12-01T00:00:00Z";
const DAVE: &str = "dave@corp.example";
const ERIN: &str = "erin@corp.example";

fn day(number: i64) -> Instant {
    at(START).plus(number * 86_400)
}

/// A review by somebody, so many days after the approval.
fn review(name: &str, by: &str, made: i64) -> AccessDecision {
    let mut review = decision(name, "Review", by, DIGEST, &day(made).to_string());
    review.spec.digest = None;
    review.spec.subject.kind = SubjectKind::PartnerIntegration;
    review.spec.subject.name = "acme-billing".into();
    review.spec.subject.uid = Some("5d0c6a7e-0000-4000-8000-000000000002".into());
    review.spec.grants = Some(vec![ReviewedGrant {
        name: "acme-billing-reader".into(),
        uid: GRANT_UID.into(),
        digest: DIGEST.into(),
    }]);
    review
}

fn approve(name: &str, made: i64) -> AccessDecision {
    decision(name, "Approve", DAVE, DIGEST, &day(made).to_string())
}

/// A sound case: dave approved, erin reviewed on day 60, asked on day 61.
struct Case {
    now: Instant,
    grant: AccessGrant,
    integration: PartnerIntegration,
    owners: Vec<AccessOwner>,
    decisions: Vec<AccessDecision>,
    answers: BTreeMap<String, Option<Confirmation>>,
    replaced: Vec<ReplacedDigest>,
    previous: AccessGrantStatus,
    proofs: Proofs,
}

impl Case {
    fn sound() -> Self {
        Self {
            now: day(61),
            grant: grant(),
            integration: integration(),
            owners: vec![owner("alice"), owner("bob")],
            decisions: vec![approve("one", 0), review("two", ERIN, 60)],
            answers: BTreeMap::new(),
            replaced: Vec::new(),
            previous: AccessGrantStatus::default(),
            proofs: Proofs::since(at("2020-01-01T00:00:00Z")),
        }
    }

    fn ask(&self) -> Standing {
        let owners: Owners<'_> = self
            .owners
            .iter()
            .map(|owner| (owner.metadata.name.as_deref().unwrap(), owner))
            .collect();
        let uids = self.decisions.iter().filter_map(|it| it.metadata.uid.clone());
        let confirmations = uids
            .filter_map(|uid| match self.answers.get(&uid) {
                Some(answer) => answer.clone().map(|answer| (uid, answer)),
                None => Some((uid, Confirmation::Allowed)),
            })
            .collect();
        let decisions: Vec<&AccessDecision> = self.decisions.iter().collect();
        consider(&Question {
            now: self.now,
            grant: &self.grant,
            integration: &self.integration,
            digest: DIGEST,
            replaced: &self.replaced,
            owners: &owners,
            decisions: &decisions,
            proofs: Some(&self.proofs),
            confirmations: &confirmations,
            lines: &[vec![ApprovalRequirement {
                count: 1,
                groups: Vec::new(),
            }]],
            covered: &Covered::default(),
            previous: &self.previous,
        })
    }

    /// Keeps what was counted, as status does.
    fn keep(&mut self) {
        let standing = self.ask();
        self.previous.approvals = standing.counted;
        self.previous.denied_at = standing.denied_at;
        self.previous.revoked_at = standing.revoked_at;
    }

    /// Why the review `two` renewed nothing.
    fn why(&self) -> &'static str {
        let standing = self.ask();
        match &standing.reviews["two"] {
            ReviewOutcome::Nothing(objection) => objection.reason,
            other => panic!("{other:?}"),
        }
    }

    fn changed(change: impl FnOnce(&mut Self)) -> Self {
        let mut case = Self::sound();
        change(&mut case);
        case
    }
}

#[test]
fn a_review_renews_an_approval_from_its_own_day_on() {
    let standing = Case::sound().ask();
    assert_eq!(standing.in_force_until, Some(day(60 + 97)), "90 days and 7 of grace");
    assert_eq!(standing.review_due, Some(day(60 + 90)));
    assert_eq!(standing.reviews["two"], ReviewOutcome::Renewed(day(157)));
    let counted = &standing.counted[0];
    assert_eq!(
        (counted.at, counted.by.as_str()),
        (day(0), DAVE),
        "dave's approval still"
    );
    assert_eq!(counted.renewed_by[0].by, ERIN);
    assert!(standing.conditions["one"].message.ends_with("last renewed by two"));
    assert!(!standing.conditions.contains_key("two"), "told by all of its grants");
}

#[test]
fn in_the_grace_it_renews_and_after_it_no_more() {
    let renewed = |made: i64| {
        let mut case = Case::sound();
        case.decisions = vec![approve("one", 0), review("two", ERIN, made)];
        case.now = day(made);
        case.ask()
    };
    assert_eq!(renewed(96).in_force_until, Some(day(96 + 97)));
    assert_eq!(
        renewed(0).reviews["two"],
        ReviewOutcome::Renewed(day(97)),
        "in the second of the approval it comes after it"
    );
    let late = renewed(97);
    assert_eq!((late.in_force_until, late.lapsed), (None, true));
    let case = Case::changed(|case| case.decisions[1] = review("two", ERIN, 97));
    assert_eq!(case.why(), "Lapsed");
    let mut backdated = Case::changed(|case| case.decisions[1] = review("two", ERIN, 120));
    backdated.decisions[1].spec.decided_at = Some(day(60));
    backdated.now = day(121);
    assert_eq!(backdated.why(), "Lapsed", "what it says of its day revives nothing");
}

#[test]
fn reviews_one_after_the_other_go_on_renewing() {
    let mut case = Case::sound();
    case.decisions.push(review("three", ERIN, 140));
    case.now = day(141);
    assert_eq!(case.ask().in_force_until, Some(day(237)));
    case.decisions.remove(1);
    assert!(case.ask().lapsed, "the last one came when nothing was in force");
}

#[test]
fn one_that_is_withdrawn_takes_its_renewal_along_and_leaves_the_others() {
    let mut case = Case::sound();
    case.keep();
    case.decisions.push(review("three", ERIN, 140));
    case.now = day(141);
    case.keep();
    assert_eq!(case.ask().in_force_until, Some(day(237)));
    let third = case.decisions.pop().unwrap();
    assert_eq!(case.ask().in_force_until, Some(day(157)), "back to the review before");
    case.decisions[1] = third;
    assert_eq!(case.ask().in_force_until, Some(day(237)), "each stands by itself");
    case.decisions.pop();
    assert!(case.ask().lapsed, "back to the approval");
    case.now = day(96);
    case.keep();
    assert_eq!(case.ask().in_force_until, Some(day(97)));
    assert_eq!(case.previous.approvals[0].unrenewed, None);
    let mut withdrawn = Case::sound();
    withdrawn.decisions[1].metadata.deletion_timestamp = withdrawn.decisions[1].metadata.creation_timestamp.clone();
    assert_eq!(withdrawn.why(), "Withdrawn");
}

#[test]
fn without_an_approval_it_gives_nothing() {
    let mut case = Case::sound();
    case.decisions.remove(0);
    assert_eq!(case.why(), "NothingToRenew");
    assert_eq!((case.ask().in_force_until, case.ask().lapsed), (None, false));
    let late = Case::changed(|case| case.decisions[0] = approve("one", 61));
    assert_eq!(late.why(), "NothingToRenew", "made before the approval");
    assert_eq!(late.ask().in_force_until, Some(day(61 + 97)));
}

#[test]
fn dates_that_were_set_bound_it() {
    let approved = Case::changed(|case| case.decisions[0].spec.valid_until = Some(day(80)));
    let standing = approved.ask();
    assert_eq!(standing.in_force_until, Some(day(80)), "never past the approval's own");
    assert_eq!(standing.review_due, Some(day(80)), "and spoken of ahead of it");
    assert_eq!(standing.own_end, Some(day(80)));
    let reviewed = Case::changed(|case| case.decisions[1].spec.valid_until = Some(day(120)));
    let standing = reviewed.ask();
    assert_eq!(
        (standing.in_force_until, standing.review_due),
        (Some(day(120)), Some(day(120)))
    );
    assert_eq!(standing.own_end, None, "another review goes past it");
    let shorter = Case::changed(|case| case.decisions[1].spec.valid_until = Some(day(70)));
    assert_eq!(shorter.ask().in_force_until, Some(day(97)), "it takes nothing away");
}

#[test]
fn it_is_of_what_stands_there_now() {
    let listed = |change: fn(&mut ReviewedGrant)| {
        Case::changed(|case| change(&mut case.decisions[1].spec.grants.as_mut().unwrap()[0])).why()
    };
    assert_eq!(listed(|entry| entry.digest = OTHER.into()), "DigestNotCurrent");
    assert_eq!(listed(|entry| entry.uid = "another".into()), "AnotherUID");
    let another = Case::changed(|case| case.decisions[1].spec.subject.uid = Some("another".into()));
    assert_eq!(another.why(), "AnotherUID");
    let replaced = Case::changed(|case| {
        case.replaced = vec![ReplacedDigest {
            digest: OTHER.to_owned(),
            at: day(60),
            changed: vec!["ticket".to_owned()],
        }];
        case.decisions[1].spec.grants.as_mut().unwrap()[0].digest = OTHER.into();
    });
    assert_eq!(replaced.why(), "DigestReplaced");
    let unlisted = Case::changed(|case| {
        case.decisions[1].spec.grants.as_mut().unwrap()[0].name = "another".into();
    });
    assert!(unlisted.ask().reviews.is_empty());
    assert_eq!(unlisted.ask().in_force_until, Some(day(97)));
    let elsewhere = Case::changed(|case| case.decisions[1].metadata.namespace = Some("elsewhere".to_owned()));
    assert!(elsewhere.ask().reviews.is_empty());
}

#[test]
fn nobody_reviews_what_they_asked_for_under_any_of_their_names() {
    for by in ["carol@corp.example", ERIN, "adm-erin", "frank@corp.example"] {
        let case = Case::changed(|case| {
            case.decisions[1] = review("two", by, 60);
            case.grant.spec.contributors = vec![ERIN.into()];
            case.integration.spec.contributors = vec!["frank@corp.example".into()];
            let mut erin = owner("erin");
            erin.spec.usernames = vec!["adm-erin".into(), ERIN.into()];
            case.owners.push(erin);
        });
        assert_eq!(case.why(), "OwnRequest", "{by}");
        let ReviewOutcome::Nothing(objection) = &case.ask().reviews["two"] else {
            panic!("{by}");
        };
        assert!(
            objection.words.ends_with("somebody else must review"),
            "{}",
            objection.words
        );
    }
    let bot = Case::changed(|case| case.decisions[1] = review("two", "system:serviceaccount:ci:bot", 60));
    assert_eq!(bot.why(), "ServiceAccount");
    let nobody = Case::changed(|case| case.decisions[1].spec.decided_by = None);
    assert_eq!(nobody.why(), "DeciderMissing");
    let same = Case::changed(|case| case.decisions[1] = review("two", DAVE, 60));
    assert_eq!(same.ask().in_force_until, Some(day(157)), "who approved may review");
}

#[test]
fn a_no_or_an_owner_who_went_voids_it() {
    for word in ["Deny", "Revoke"] {
        let case = Case::changed(|case| {
            case.decisions[0] = approve("one", 61);
            let no = decision("no", word, DAVE, OTHER, &day(60).to_string());
            case.decisions.push(no);
        });
        assert_eq!(case.why(), "Voided", "{word}");
    }
    let gone = Case::changed(|case| case.previous.owner_removed_at = Some(day(60)));
    assert_eq!(gone.why(), "Voided");
    let mut returned = Case::sound();
    returned.keep();
    returned.owners[1].metadata.uid = Some("another".to_owned());
    assert_eq!(
        returned.ask().in_force_until,
        None,
        "the approval was with other owners"
    );
}

#[test]
fn a_reviewer_is_confirmed_once() {
    let mut case = Case::sound();
    case.answers.insert("uid-of-two".to_owned(), None);
    let standing = case.ask();
    assert_eq!(standing.to_confirm, ["uid-of-two".to_owned()].into());
    assert_eq!(standing.reviews["two"], ReviewOutcome::Unconfirmed);
    assert_eq!(standing.in_force_until, Some(day(97)), "nothing yet");
    let no = Confirmation::Refused("erin may not review in payments".to_owned());
    case.answers.insert("uid-of-two".to_owned(), Some(no));
    assert_eq!(case.why(), "NotAllowed");
    case.answers.clear();
    case.keep();
    case.answers.insert("uid-of-two".to_owned(), None);
    assert!(case.ask().to_confirm.is_empty());
    assert_eq!(case.ask().in_force_until, Some(day(157)), "what was counted stays so");
}

#[test]
fn several_are_asked_about_at_once_and_none_is_told_a_lie_meanwhile() {
    let mut case = Case::sound();
    case.decisions.push(review("three", ERIN, 140));
    case.now = day(141);
    case.answers = [("uid-of-two".to_owned(), None), ("uid-of-three".to_owned(), None)].into();
    let standing = case.ask();
    assert_eq!(standing.to_confirm.len(), 2);
    case.answers.remove("uid-of-three");
    let standing = case.ask();
    assert_eq!(standing.reviews["three"], ReviewOutcome::Unconfirmed);
    assert!(standing.in_force_until.is_none());
    case.answers.clear();
    assert_eq!(case.ask().in_force_until, Some(day(237)));
}

#[test]
fn one_that_comes_when_the_approval_lapses_waits_for_an_earlier_one_to_be_confirmed() {
    let mut case = Case::sound();
    case.decisions.push(review("three", ERIN, 97));
    case.now = day(96);
    case.answers = [("uid-of-two".to_owned(), None)].into();
    let standing = case.ask();
    assert_eq!(standing.reviews["three"], ReviewOutcome::Unconfirmed);
    assert_eq!(standing.in_force_until, Some(day(97)));
    case.answers.clear();
    assert_eq!(case.ask().in_force_until, Some(day(97 + 97)));
}

#[test]
fn of_several_approvals_the_best_that_it_did_is_told_and_its_reviewer_is_asked_about_once() {
    // The first was there when erin reviewed, the second came after; by name and by time either may be weighed first.
    for (early, late) in [("one", "zero"), ("zero", "one")] {
        let mut case = Case::sound();
        case.decisions = vec![approve(early, 0), review("two", ERIN, 60), approve(late, 61)];
        case.now = day(62);
        assert_eq!(case.ask().reviews["two"], ReviewOutcome::Renewed(day(157)), "{early}");
        case.decisions[2] = approve(late, 10);
        case.decisions[2].spec.valid_until = Some(day(100));
        assert_eq!(case.ask().reviews["two"], ReviewOutcome::Renewed(day(157)), "{early}");
        case.decisions[2].spec.valid_until = None;
        case.decisions[0].spec.valid_until = Some(day(100));
        assert_eq!(case.ask().reviews["two"], ReviewOutcome::Renewed(day(157)), "{early}");
    }
    let mut case = Case::sound();
    case.keep();
    case.decisions.push(approve("later", 10));
    case.answers.insert("uid-of-two".to_owned(), None);
    let standing = case.ask();
    assert!(standing.to_confirm.is_empty(), "{:?}", standing.to_confirm);
    let renewed = standing.counted.iter().filter(|it| !it.renewed_by.is_empty()).count();
    assert_eq!(renewed, 2);
}

#[test]
fn where_it_lists_a_grant_twice_what_stands_there_now_counts() {
    let case = Case::changed(|case| {
        let grants = case.decisions[1].spec.grants.as_mut().unwrap();
        let mut old = grants[0].clone();
        old.digest = OTHER.into();
        grants.insert(0, old);
    });
    assert_eq!(case.ask().reviews["two"], ReviewOutcome::Renewed(day(157)));
}

#[test]
fn one_that_nobody_checked_renews_nothing_unless_it_did_before() {
    let mut case = Case::sound();
    let renewed = case.ask().in_force_until;
    case.keep();
    case.proofs = Proofs::since(day(60).plus(1));
    assert_eq!(case.ask().in_force_until, renewed, "it was checked in its time");
    // The approval counted before; the review comes in a time when nobody checked.
    let mut approved = Case::sound();
    let two = approved.decisions.pop().unwrap();
    approved.keep();
    approved.decisions.push(two);
    approved.proofs = Proofs::since(day(60).plus(1));
    let standing = approved.ask();
    assert_ne!(standing.in_force_until, renewed);
    let Some(ReviewOutcome::Nothing(objection)) = standing.reviews.get("two") else {
        panic!("{:?}", standing.reviews);
    };
    assert!(objection.words.contains("nobody checked"), "{}", objection.words);
    approved.proofs = Proofs::since(day(60));
    assert_eq!(approved.ask().in_force_until, renewed);
}

#[test]
fn frozen_dates_can_only_be_shortened() {
    let mut case = Case::sound();
    case.keep();
    case.integration.spec.review.interval = "9000d".parse().unwrap();
    case.integration.spec.review.grace = Some("900d".parse().unwrap());
    assert_eq!(case.ask().in_force_until, Some(day(157)));
    case.keep();
    case.decisions.pop();
    assert_eq!(case.ask().in_force_until, Some(day(97)), "those of the approval, too");
    let mut case = Case::sound();
    case.keep();
    case.integration.spec.review.interval = "10d".parse().unwrap();
    let standing = case.ask();
    assert_eq!(
        (standing.review_due, standing.in_force_until),
        (Some(day(70)), Some(day(77)))
    );
}

#[test]
fn what_lapsed_stays_so_whatever_is_edited_or_reviewed() {
    let mut case = Case::sound();
    case.keep();
    case.now = day(157);
    case.keep();
    assert!(case.ask().lapsed);
    case.integration.spec.review.interval = "9000d".parse().unwrap();
    case.decisions.push(review("three", ERIN, 157));
    assert!(case.ask().lapsed);
    case.decisions.push(approve("four", 158));
    case.now = day(158);
    assert!(case.ask().in_force_until.is_some());
}

#[test]
fn old_reviews_are_forgotten_for_good() {
    let mut case = Case::sound();
    let all = i64::try_from(MOST_RENEWALS).unwrap() + 3;
    case.decisions.truncate(1);
    for number in 1..=all {
        case.decisions.push(review(&format!("r{number:02}"), ERIN, number));
    }
    case.keep();
    let kept = &case.previous.approvals[0];
    assert_eq!(kept.renewed_by.len(), MOST_RENEWALS);
    assert_eq!(kept.reviews_forgotten, Some(day(3)));
    let told = |case: &Case, name: &str| match &case.ask().reviews[name] {
        ReviewOutcome::Nothing(objection) => objection.reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(told(&case, "r01"), "Surplus");
    case.decisions.truncate(4);
    case.integration.spec.review.interval = "9000d".parse().unwrap();
    for _ in 0..2 {
        case.keep();
        assert_eq!(case.ask().in_force_until, Some(day(97)), "back to the approval alone");
    }
    assert_eq!(told(&case, "r01"), "Surplus");
}

/// Decisions of three weeks: who, what, the day, whether of the current digest, and until when.
type Made = Vec<(usize, usize, i64, bool, Option<i64>)>;

fn made() -> impl Strategy<Value = Made> {
    let one = (
        0usize..4,
        0usize..6,
        0i64..30,
        prop::bool::weighted(0.8),
        prop::option::weighted(0.2, 0i64..40),
    );
    prop::collection::vec(one, 0..12)
}

/// A case of these decisions, with an interval of 5 days and 2 of grace.
fn history(made: &Made, now: i64) -> Case {
    let mut case = Case::sound();
    case.now = day(now);
    case.integration.spec.review.interval = "5d".parse().unwrap();
    case.integration.spec.review.grace = Some("2d".parse().unwrap());
    case.decisions = made
        .iter()
        .enumerate()
        .map(|(index, &(who, word, made, current, until))| {
            let by = ["carol@corp.example", DAVE, ERIN, "frank@corp.example"][who];
            let name = format!("d{index}");
            let digest = if current { DIGEST } else { OTHER };
            let mut made = match ["Approve", "Approve", "Review", "Review", "Review", "Revoke"][word] {
                "Review" => review(&name, by, made),
                word => decision(&name, word, by, digest, &day(made).to_string()),
            };
            if let Some(entries) = &mut made.spec.grants {
                entries[0].digest = digest.into();
            }
            made.spec.valid_until = until.map(day);
            made
        })
        .collect();
    case
}

fn is_review(decision: &AccessDecision) -> bool {
    decision.spec.decision == crate::api::v1alpha1::Decision::Review
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// A Review never gives access that no Approve gave, never past the Approve's own date, and never by somebody involved.
    #[test]
    fn a_review_only_prolongs_what_an_approve_gave(made in made(), now in 0i64..40) {
        let case = history(&made, now);
        let with = case.ask();
        let mut without = history(&made, now);
        without.decisions.retain(|it| !is_review(it));
        let bare = without.ask();
        let uids = |standing: &Standing| standing.counted.iter().map(|it| it.uid.clone()).collect::<Vec<_>>();
        prop_assert_eq!(uids(&with), uids(&bare));
        prop_assert_eq!((with.denied_at, with.revoked_at), (bare.denied_at, bare.revoked_at));
        prop_assert!(with.in_force_until >= bare.in_force_until);
        for approval in &with.counted {
            let own = case.decisions.iter().find(|it| it.metadata.uid.as_deref() == Some(&approval.uid)).unwrap();
            prop_assert!(own.spec.valid_until.is_none_or(|until| approval.valid_until <= until));
            prop_assert!(approval.renewed_by.iter().all(|it| it.by != "carol@corp.example" && it.at >= approval.at));
            // In force without a gap: each renewal came before the end that was there.
            let mut end = approval.unrenewed.map_or(approval.valid_until, |term| term.valid_until);
            for renewal in &approval.renewed_by {
                prop_assert!(renewal.at < end, "{:?}", approval);
                end = end.max(renewal.term.valid_until);
            }
            prop_assert_eq!(end, approval.valid_until);
        }
    }

    /// A Review that is taken away never prolongs, whether it was counted already or not; and the order doesn't matter.
    #[test]
    fn to_take_a_review_away_never_prolongs(
        made in made(), now in 0i64..40, taken in 0usize..12, turned in 0usize..12, kept in any::<bool>(),
    ) {
        let mut case = history(&made, now);
        if kept {
            case.keep();
        }
        let before = case.ask();
        if !case.decisions.is_empty() {
            let by = turned % case.decisions.len();
            case.decisions.rotate_left(by);
            prop_assert_eq!(&case.ask(), &before);
            let taken = taken % case.decisions.len();
            if is_review(&case.decisions[taken]) {
                case.decisions.remove(taken);
                let after = case.ask();
                prop_assert!(after.in_force_until <= before.in_force_until);
                prop_assert!(after.review_due <= before.review_due);
            }
        }
    }

    /// Whatever is edited, what was counted is never prolonged by it; what lapsed stays so until there is a new Approve.
    #[test]
    fn edits_never_prolong_what_was_counted(
        made in made(), now in 0i64..40, later in 0i64..40, interval in 1i64..90, grace in 0i64..90,
    ) {
        let mut case = history(&made, now);
        case.decisions.retain(|it| Instant::new(it.metadata.creation_timestamp.as_ref().unwrap().0) <= day(now));
        case.keep();
        let before = case.previous.approvals.clone();
        case.integration.spec.review.interval = format!("{interval}d").parse().unwrap();
        case.integration.spec.review.grace = Some(format!("{grace}d").parse().unwrap());
        case.now = day(now + later);
        for step in 0..2 {
            for after in &case.ask().counted {
                if let Some(known) = before.iter().find(|it| it.uid == after.uid) {
                    prop_assert!(after.valid_until <= known.valid_until, "step {}", step);
                    prop_assert!(after.review_due <= known.review_due, "step {}", step);
                }
            }
            case.keep();
        }
        let lapsed = case.ask().lapsed;
        case.decisions.push(review("late", ERIN, now + later));
        if lapsed {
            prop_assert!(case.ask().lapsed);
        }
    }
}
