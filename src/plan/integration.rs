//! The status of a PartnerIntegration: whether it can carry grants, how many it does, and when they are to be reviewed.
//! Pure: no I/O, no clock, no randomness.

pub mod owners;

use super::{LOOK_AGAIN, recertification};
use crate::api::conditions::{Reason, integration as words, types};
use crate::api::v1alpha1::{
    AccessGrant, GrantCount, Instant, IntegrationSummary, PartnerIntegration, PartnerIntegrationStatus,
};
use crate::domain::conditions::{self, Desired};
use crate::domain::ownership::{self, Owners};
use crate::domain::verdict::is_active;

/// What to write, and when to look again.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The status as it should be.
    pub status: PartnerIntegrationStatus,
    /// In how many seconds the answer changes by itself or is to be looked at anyway, at least 1.
    pub again_in: i64,
}

/// The status that an integration should have. The order of grants doesn't matter; those of other integrations are
/// passed over.
#[must_use]
pub fn plan(integration: &PartnerIntegration, owners: &Owners<'_>, grants: &[&AccessGrant], now: Instant) -> Plan {
    let before = integration.status.clone().unwrap_or_default();
    let generation = integration.metadata.generation;
    let own: Vec<&AccessGrant> = grants.iter().copied().filter(|it| is_of(integration, it)).collect();
    let grants = count(&own);
    let review = recertification::of(integration, &own, now);
    let departed_owners = ownership::departed(integration, owners, &before.departed_owners, now);
    let missing = ownership::missing(integration, owners, &departed_owners, now);
    let leaving = owners::leaving(integration, owners, &departed_owners, now);
    let one_person = ownership::one_person(integration, owners);
    let mut desired = desired(integration, &missing, one_person.as_deref(), now);
    desired.push(review.condition);
    let wrong: Vec<String> = missing.into_iter().chain(one_person).collect();
    desired.push(owners::stay(integration, &wrong, &leaving));
    let status = PartnerIntegrationStatus {
        observed_generation: generation,
        conditions: conditions::merge(&before.conditions, desired, generation, now),
        grants,
        leaving,
        departed_owners,
        next_review_at: review.next_review_at,
        summary: Some(IntegrationSummary {
            owners: ownership::names(integration).join(","),
            grants: format!("{}/{}", grants.active, grants.total),
        }),
    };
    let next = [integration.spec.agreement.ends_at, review.next_change];
    let left = next.into_iter().flatten().map(|at| at.seconds_since(now));
    let longest = LOOK_AGAIN * 60;
    let again_in = left
        .chain(owners::next(integration, owners, now))
        .filter(|left| *left > 0)
        .fold(longest, i64::min);
    Plan { status, again_in }
}

/// Whether two statuses differ in nothing but how many grants there are and which of them are to be reviewed when: no news
/// that anybody waits for.
#[must_use]
pub fn is_count_alone(before: Option<&PartnerIntegrationStatus>, after: &PartnerIntegrationStatus) -> bool {
    before.is_some_and(|before| {
        let mut counted = PartnerIntegrationStatus {
            grants: after.grants,
            summary: after.summary.clone(),
            next_review_at: after.next_review_at,
            ..before.clone()
        };
        if let Some(review) = conditions::find(&after.conditions, types::REVIEW_CURRENT) {
            for kept in counted.conditions.iter_mut().filter(|it| it.type_ == review.type_) {
                if !recertification::is_news(Some(&kept.reason), &review.reason) {
                    *kept = review.clone();
                }
            }
        }
        let owners = |status: &PartnerIntegrationStatus| status.summary.as_ref().map(|it| it.owners.clone());
        counted == *after && owners(before) == owners(after)
    })
}

fn is_of(integration: &PartnerIntegration, grant: &AccessGrant) -> bool {
    grant.metadata.namespace == integration.metadata.namespace
        && Some(&grant.spec.integration_ref.name.0) == integration.metadata.name.as_ref()
}

fn count(own: &[&AccessGrant]) -> GrantCount {
    own.iter().fold(GrantCount::default(), |count, grant| GrantCount {
        active: count.active + i64::from(is_active(grant)),
        total: count.total + 1,
    })
}

/// The first reason that applies is the primary one; all are in the message.
fn desired(
    integration: &PartnerIntegration,
    missing: &[String],
    one_person: Option<&str>,
    now: Instant,
) -> Vec<Desired> {
    let agreement = &integration.spec.agreement;
    let mut found: Vec<(&'static str, &'static str, String)> = Vec::new();
    if integration.metadata.deletion_timestamp.is_some() {
        let message = "it is being deleted, and its grants end".to_owned();
        found.push(("Unknown", Reason::Deleting.as_str(), message));
    }
    if !missing.is_empty() {
        let message = format!(
            "{}: its grants have no accountable owner and end; name active AccessOwners in spec.owners, and have the grants approved again",
            missing.join(" and ")
        );
        found.push(("False", Reason::OwnerRemoved.as_str(), message));
    }
    if let Some(words) = one_person {
        let message = format!("{words}; no grant is active until then");
        found.push(("False", Reason::OwnerRemoved.as_str(), message));
    }
    if let Some(end) = agreement.ends_at.filter(|end| now >= *end) {
        let message = format!(
            "agreement {} ended at {end}, and with it every grant; a prolonged one (spec.agreement.endsAt) must be approved again",
            agreement.reference
        );
        found.push(("True", Reason::AgreementEnded.as_str(), message));
    }
    if integration.spec.suspend {
        let message = "spec.suspend is true: no grant is active".to_owned();
        found.push(("True", words::SUSPENDED, message));
    }
    if found.is_empty() {
        let message = agreement.ends_at.map_or_else(
            || "it can carry grants".to_owned(),
            |end| format!("it can carry grants until its agreement ends at {end}"),
        );
        found.push(("True", words::IN_FORCE, message));
    }
    let message = found
        .iter()
        .map(|(_, _, message)| message.as_str())
        .collect::<Vec<_>>()
        .join("; ");
    let (ready, reason, _) = found[0];
    let mut all = vec![Desired::new(types::READY, ready, reason, message.clone())];
    let extra = match ready {
        "False" => Some(types::STALLED),
        "Unknown" => Some(types::RECONCILING),
        _ => None,
    };
    all.extend(extra.map(|type_| Desired::new(type_, "True", reason, message)));
    all
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::api::v1alpha1::{AccessGrantStatus, AccessOwner};
    use crate::domain::fixtures::{at, grant, integration, owner};

    const NOW: &str = "2026-12-02T00:00:00Z";
    const END: &str = "2027-06-30T00:00:00Z";

    fn planned(integration: &PartnerIntegration, owners: &[AccessOwner], grants: &[&AccessGrant], now: &str) -> Plan {
        let owners: Owners<'_> = owners
            .iter()
            .map(|owner| (owner.metadata.name.as_deref().unwrap(), owner))
            .collect();
        plan(integration, &owners, grants, at(now))
    }

    fn both() -> Vec<AccessOwner> {
        vec![owner("alice"), owner("bob")]
    }

    fn ready(plan: &Plan) -> (&str, &str) {
        let ready = conditions::find(&plan.status.conditions, types::READY).unwrap();
        (&ready.status, &ready.reason)
    }

    fn message(plan: &Plan) -> &str {
        &conditions::find(&plan.status.conditions, types::READY).unwrap().message
    }

    #[test]
    fn a_sound_integration_is_in_force_until_its_agreement_ends() {
        let found = planned(&integration(), &both(), &[], NOW);
        assert_eq!(ready(&found), ("True", "InForce"));
        assert_eq!(found.status.observed_generation, Some(1));
        let types: Vec<&str> = found.status.conditions.iter().map(|it| it.type_.as_str()).collect();
        assert_eq!(types, ["Ready", "ReviewCurrent", "OwnersStay"]);
        assert_eq!(found.status.summary.as_ref().unwrap().owners, "alice,bob");
        assert_eq!(found.again_in, 3_600);
        let last = planned(&integration(), &both(), &[], "2027-06-29T23:59:50Z");
        assert_eq!(
            (ready(&last).1, last.again_in),
            ("InForce", 10),
            "looked at exactly at its end"
        );
        let ended = planned(&integration(), &both(), &[], END);
        assert_eq!(ready(&ended), ("True", "AgreementEnded"));
        assert_eq!(ended.again_in, 3_600);
    }

    #[rstest]
    #[case::gone(vec![owner("alice")], "AccessOwner bob does not exist or can't be read")]
    #[case::inactive({ let mut all = both(); all[1].spec.active = false; all }, "AccessOwner bob is inactive")]
    fn without_an_owner_it_is_stalled_and_says_who_is_missing(#[case] owners: Vec<AccessOwner>, #[case] who: &str) {
        let found = planned(&integration(), &owners, &[], NOW);
        assert_eq!(ready(&found), ("False", "OwnerRemoved"));
        assert!(
            message(&found).starts_with(who) && message(&found).contains("spec.owners"),
            "{}",
            message(&found)
        );
        let stalled = conditions::find(&found.status.conditions, types::STALLED).unwrap();
        assert_eq!(
            (stalled.status.as_str(), stalled.reason.as_str()),
            ("True", "OwnerRemoved")
        );
        let mended = {
            let mut mended = integration();
            mended.status = Some(found.status);
            planned(&mended, &both(), &[], NOW)
        };
        assert_eq!(ready(&mended), ("True", "InForce"));
        assert!(conditions::find(&mended.status.conditions, types::STALLED).is_none());
    }

    #[test]
    fn owners_who_are_one_person_are_told_as_such() {
        let mut owners = both();
        let shared = owners[0].spec.usernames.clone();
        owners[1].spec.usernames.extend(shared);
        let found = planned(&integration(), &owners, &[], NOW);
        assert_eq!(ready(&found), ("False", "OwnerRemoved"));
        assert!(
            message(&found).contains("alice and bob are one person") && message(&found).contains("no grant is active"),
            "{}",
            message(&found)
        );
        let stay = conditions::find(&found.status.conditions, types::OWNERS_STAY).unwrap();
        assert_eq!((stay.status.as_str(), stay.reason.as_str()), ("False", "OwnerRemoved"));
    }

    #[test]
    fn suspension_is_settled_and_every_reason_is_told() {
        let mut suspended = integration();
        suspended.spec.suspend = true;
        assert_eq!(ready(&planned(&suspended, &both(), &[], NOW)), ("True", "Suspended"));
        let all = planned(&suspended, &[owner("alice")], &[], END);
        assert_eq!(ready(&all), ("False", "OwnerRemoved"));
        for words in ["AccessOwner bob", "CTR-2026-114 ended", "spec.suspend"] {
            assert!(message(&all).contains(words), "{}", message(&all));
        }
        suspended.metadata.deletion_timestamp = suspended.metadata.creation_timestamp.clone();
        let deleting = planned(&suspended, &both(), &[], NOW);
        assert_eq!(ready(&deleting), ("Unknown", "Deleting"));
        let reconciling = conditions::find(&deleting.status.conditions, types::RECONCILING).unwrap();
        assert_eq!(
            (reconciling.status.as_str(), reconciling.reason.as_str()),
            ("True", "Deleting")
        );
    }

    #[test]
    fn it_counts_its_own_grants_and_those_in_use() {
        let (waiting, mut active, mut other) = (grant(), grant(), grant());
        other.spec.integration_ref.name = "another".into();
        let desired = conditions::of_grant(Reason::Issued, "");
        active.status = Some(AccessGrantStatus {
            conditions: conditions::merge(&[], desired, Some(1), at(NOW)),
            ..AccessGrantStatus::default()
        });
        let mut elsewhere = active.clone();
        elsewhere.metadata.namespace = Some("elsewhere".to_owned());
        let found = planned(&integration(), &both(), &[&waiting, &other, &active, &elsewhere], NOW);
        assert_eq!(found.status.grants, GrantCount { active: 1, total: 2 });
        assert_eq!(found.status.summary.unwrap().grants, "1/2");
    }

    #[test]
    fn a_count_alone_is_told_from_other_news() {
        let before = planned(&integration(), &both(), &[], NOW).status;
        let one = grant();
        let counted = planned(&integration(), &both(), &[&one], NOW).status;
        assert!(is_count_alone(Some(&before), &counted));
        assert!(!is_count_alone(None, &counted), "the first status is news");
        let due = PartnerIntegrationStatus {
            next_review_at: Some(at(NOW)),
            ..counted.clone()
        };
        assert!(is_count_alone(Some(&counted), &due));
        let reviewed = |reason: &str, message: &str| {
            let mut status = counted.clone();
            let kept = status
                .conditions
                .iter_mut()
                .find(|it| it.type_ == types::REVIEW_CURRENT)
                .unwrap();
            (kept.reason, kept.message) = (reason.to_owned(), message.to_owned());
            status
        };
        let (now, soon) = ("DueIn14Days", "DueIn7Days");
        assert!(is_count_alone(Some(&reviewed(now, "a")), &reviewed(now, "a, b")));
        assert!(!is_count_alone(Some(&reviewed(now, "a")), &reviewed(soon, "a")));
        let gone = planned(&integration(), &[owner("alice")], &[&one], NOW).status;
        assert!(!is_count_alone(Some(&before), &gone));
        let mut handed_over = integration();
        handed_over.spec.owners.business_ref.name = "dora".into();
        let owners = [owner("dora"), owner("bob")];
        assert!(!is_count_alone(
            Some(&before),
            &planned(&handed_over, &owners, &[], NOW).status
        ));
    }

    #[test]
    fn planning_twice_changes_nothing() {
        let mut found = integration();
        let first = planned(&found, &both(), &[], NOW).status;
        found.status = Some(first.clone());
        assert_eq!(planned(&found, &both(), &[], "2026-12-05T00:00:00Z").status, first);
    }
}
