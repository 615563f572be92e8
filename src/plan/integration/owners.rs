//! Owners who leave are told of ahead of time: 30, 14, 7 and 1 days before. Pure: no I/O, no clock, no randomness.

use crate::api::conditions::{Reason, owners_stay as words, types};
use crate::api::v1alpha1::{Instant, LeavingOwner, PartnerIntegration, PartnerIntegrationStatus};
use crate::domain::conditions::Desired;
use crate::domain::ownership::{self, Owners};
use crate::domain::text::escape;
use crate::plan::announcement::Announcement;

const DAY: i64 = 86_400;
/// So many days ahead it is told, with the reason of the condition: the nearest first.
const STEPS: [(i64, &str); 4] = [
    (1, words::WITHIN_1_DAY),
    (7, words::WITHIN_7_DAYS),
    (14, words::WITHIN_14_DAYS),
    (30, words::WITHIN_30_DAYS),
];
/// The reason of the event.
const LEAVES: &str = "OwnerLeaves";

/// The owners of an integration who leave within 30 days, and are there yet.
#[must_use]
pub fn leaving(
    integration: &PartnerIntegration,
    owners: &Owners<'_>,
    departed: &[String],
    now: Instant,
) -> Vec<LeavingOwner> {
    let found = ownership::found(integration, owners);
    let there = found.filter(|(_, owner)| owner.spec.active && !ownership::is_departed(owner, departed));
    there
        .filter_map(|(name, owner)| {
            let until = owner.spec.until?;
            let left = until.seconds_since(now);
            let (within_days, _) = STEPS.into_iter().find(|(days, _)| left <= days * DAY)?;
            (left > 0).then(|| LeavingOwner {
                owner: name.to_owned(),
                until,
                within_days,
            })
        })
        .collect()
}

/// In how many seconds there is something new to tell of an owner who leaves.
#[must_use]
pub fn next(integration: &PartnerIntegration, owners: &Owners<'_>, now: Instant) -> Option<i64> {
    let ends = ownership::found(integration, owners).filter_map(|(_, owner)| owner.spec.until);
    let instants = ends.flat_map(|until| {
        let left = until.seconds_since(now);
        STEPS.into_iter().map(move |(days, _)| left - days * DAY).chain([left])
    });
    instants.filter(|left| *left > 0).min()
}

/// The condition that says whether the owners stay. `missing` is what is wrong with them now, `leaving` who leaves.
#[must_use]
pub fn stay(integration: &PartnerIntegration, missing: &[String], leaving: &[LeavingOwner]) -> Desired {
    if !missing.is_empty() {
        let message = missing.join(" and ");
        return Desired::new(types::OWNERS_STAY, "False", Reason::OwnerRemoved.as_str(), message);
    }
    let nearest = leaving.iter().map(|it| it.within_days).min();
    let Some((_, reason)) = STEPS.into_iter().find(|(days, _)| Some(*days) == nearest) else {
        let message = "nothing says that an owner leaves within 30 days";
        return Desired::new(types::OWNERS_STAY, "True", words::CURRENT, message);
    };
    let each: Vec<String> = leaving.iter().map(|it| describe(integration, it)).collect();
    Desired::new(types::OWNERS_STAY, "False", reason, each.join("; "))
}

/// One event for each owner and step.
#[must_use]
pub fn announce(
    integration: &PartnerIntegration,
    before: Option<&PartnerIntegrationStatus>,
    after: &PartnerIntegrationStatus,
) -> Vec<Announcement> {
    let told = before.map_or(&[][..], |before| &before.leaving);
    let news = after.leaving.iter().filter(|it| !told.contains(it));
    news.map(|it| Announcement {
        warning: true,
        reason: LEAVES.to_owned(),
        // Both owners may leave, and a date may move: neither is to be folded into what was told before.
        action: format!("Warn{}DaysBefore{}Of{}", it.within_days, it.until.as_second(), it.owner),
        note: escape(&describe(integration, it)),
    })
    .collect()
}

fn describe(integration: &PartnerIntegration, leaving: &LeavingOwner) -> String {
    let namespace = integration.metadata.namespace.as_deref().unwrap_or_default();
    let LeavingOwner {
        owner,
        until,
        within_days,
    } = leaving;
    let days = if *within_days == 1 {
        "a day"
    } else {
        &format!("{within_days} days")
    };
    format!(
        "AccessOwner {owner} leaves at {until}, within {days}, and every grant ends then: \
         kubectl wayleave owner handover {owner} NEW-OWNER -n {namespace}, and have the grants approved again"
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::api::v1alpha1::AccessOwner;
    use crate::domain::conditions::{self, find};
    use crate::domain::fixtures::{at, integration, owner};
    use crate::plan::integration::{Plan, plan};

    const LEAVE: &str = "2027-03-01T00:00:00Z";

    fn who_leaves(until: &str) -> Vec<AccessOwner> {
        let mut all = vec![owner("alice"), owner("bob")];
        all[0].spec.until = Some(at(until));
        all
    }

    fn planned(integration: &PartnerIntegration, owners: &[AccessOwner], now: Instant) -> Plan {
        let owners: Owners<'_> = owners
            .iter()
            .map(|owner| (owner.metadata.name.as_deref().unwrap(), owner))
            .collect();
        plan(integration, &owners, &[], now)
    }

    fn reason(plan: &Plan) -> (&str, &str) {
        let stay = find(&plan.status.conditions, types::OWNERS_STAY).unwrap();
        (&stay.status, &stay.reason)
    }

    /// Lives through the days before the leave, waking as the plan says; gives what was told, and when before the leave.
    fn live(owners: &[AccessOwner], from: Instant, to: Instant) -> Vec<(i64, String, String)> {
        let mut found = integration();
        found.spec.agreement.ends_at = None;
        let (mut now, mut told) = (from, Vec::new());
        while now <= to {
            let plan = planned(&found, owners, now);
            for said in announce(&found, found.status.as_ref(), &plan.status) {
                told.push((at(LEAVE).seconds_since(now), said.action, said.note));
            }
            found.status = Some(plan.status.clone());
            assert!(plan.again_in >= 1);
            now = now.plus(plan.again_in);
        }
        told
    }

    #[test]
    fn what_is_told_now_is_not_told_again() {
        let owners = who_leaves(LEAVE);
        let owners: Owners<'_> = owners
            .iter()
            .map(|it| (it.metadata.name.as_deref().unwrap(), it))
            .collect();
        let next = |before: i64| next(&integration(), &owners, at(LEAVE).plus(-before));
        assert_eq!(
            [next(7 * DAY), next(DAY), next(1), next(0)],
            [Some(6 * DAY), Some(DAY), Some(1), None]
        );
    }

    #[test]
    fn who_is_inactive_or_has_left_is_not_about_to() {
        let mut owners = who_leaves(LEAVE);
        let count = |owners: &[AccessOwner], departed: &[String], before: i64| {
            let owners: Owners<'_> = owners
                .iter()
                .map(|it| (it.metadata.name.as_deref().unwrap(), it))
                .collect();
            leaving(&integration(), &owners, departed, at(LEAVE).plus(-before)).len()
        };
        assert_eq!(
            [
                count(&owners, &[], 5 * DAY),
                count(&owners, &[], 1),
                count(&owners, &[], 0)
            ],
            [1, 1, 0]
        );
        assert_eq!(count(&owners, &["uid-of-alice".to_owned()], 5 * DAY), 0);
        owners[0].spec.active = false;
        assert_eq!(count(&owners, &[], 5 * DAY), 0);
    }

    #[test]
    fn each_step_is_told_once_at_its_instant_with_the_remedy() {
        let told = live(&who_leaves(LEAVE), at("2027-01-01T00:00:07Z"), at(LEAVE));
        let when: Vec<i64> = told.iter().map(|(before, ..)| before / DAY).collect();
        assert_eq!(when, [30, 14, 7, 1]);
        let within = [
            "within 30 days, and",
            "within 14 days, and",
            "within 7 days, and",
            "within a day, and",
        ];
        assert!(
            told.iter()
                .zip(within)
                .all(|((.., note), within)| note.contains(within)),
            "{told:?}"
        );
        assert!(told.iter().all(|(before, ..)| before % DAY == 0), "{told:?}");
        for (_, _, note) in &told {
            assert!(
                note.contains("AccessOwner alice leaves at 2027-03-01T00:00:00Z")
                    && note.contains("kubectl wayleave owner handover alice NEW-OWNER -n payments"),
                "{note}"
            );
        }
        let actions: std::collections::BTreeSet<&str> = told.iter().map(|(_, action, _)| action.as_str()).collect();
        assert_eq!(actions.len(), told.len(), "none is folded into another");
        assert!(actions.iter().all(|action| action.len() <= 128 - 63 + "alice".len()));
    }

    #[test]
    fn the_condition_goes_with_the_steps_and_back_when_the_date_moves() {
        let mut found = integration();
        for (now, status, reason_) in [
            ("2027-01-01T00:00:00Z", "True", "Current"),
            ("2027-01-30T00:00:00Z", "False", "LeavesWithin30Days"),
            ("2027-02-15T00:00:00Z", "False", "LeavesWithin14Days"),
            ("2027-02-22T00:00:00Z", "False", "LeavesWithin7Days"),
            ("2027-02-28T00:00:00Z", "False", "LeavesWithin1Day"),
            (LEAVE, "False", "OwnerRemoved"),
        ] {
            let plan = planned(&found, &who_leaves(LEAVE), at(now));
            assert_eq!(reason(&plan), (status, reason_), "at {now}");
            found.status = Some(plan.status);
        }
        let ready = |plan: &Plan| find(&plan.status.conditions, types::READY).unwrap().reason.clone();
        let moved = planned(&found, &who_leaves("2028-03-01T00:00:00Z"), at(LEAVE));
        assert_eq!(ready(&moved), "OwnerRemoved", "what has passed is for good");
        found.status = None;
        let moved = planned(&found, &who_leaves("2028-03-01T00:00:00Z"), at(LEAVE));
        assert_eq!((ready(&moved).as_str(), reason(&moved).1), ("InForce", "Current"));
    }

    #[test]
    fn both_owners_are_told_of_and_the_nearer_names_the_step() {
        let mut owners = who_leaves(LEAVE);
        owners[1].spec.until = Some(at("2027-02-20T00:00:00Z"));
        let now = at("2027-02-16T00:00:00Z");
        let plan = planned(&integration(), &owners, now);
        assert_eq!(reason(&plan).1, "LeavesWithin7Days");
        let told = announce(&integration(), None, &plan.status);
        assert_eq!(told.len(), 2);
        assert_ne!(told[0].action, told[1].action);
        assert!(announce(&integration(), Some(&plan.status), &plan.status).is_empty());
        assert!(
            conditions::find(&plan.status.conditions, types::STALLED).is_none(),
            "not yet broken"
        );
    }

    proptest! {
        // Each case lives through two months, an hour at a time.
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// Whatever the two dates and the start: nothing is told early, nothing twice, and the plan wakes at each step.
        #[test]
        fn every_step_ahead_is_told_once_and_in_time(
            start in 0i64..60 * DAY, one in 0i64..60 * DAY, other in prop::option::of(0i64..60 * DAY),
        ) {
            let begin = at("2027-01-01T00:00:00Z");
            let mut owners = who_leaves(&begin.plus(one).to_string());
            owners[1].spec.until = other.map(|other| begin.plus(other));
            let told = live(&owners, begin.plus(start), begin.plus(61 * DAY));
            let expected = [Some(one), other].into_iter().flatten().map(|until| {
                let left = until - start;
                // One for each step that is ahead, and one for the step that it is within already.
                let ahead = STEPS.iter().filter(|(days, _)| left > days * DAY).count();
                let within = usize::from(left > 0 && left <= 30 * DAY);
                ahead + within
            });
            prop_assert_eq!(told.len(), expected.sum::<usize>(), "{:?}", told);
        }
    }
}
