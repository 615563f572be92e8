//! Accountability: both owners of an integration exist and are active, and who is one person under several names.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::v1alpha1::{AccessOwner, Instant, PartnerIntegration, Principal};

/// Every AccessOwner that can be read, by name.
pub type Owners<'a> = BTreeMap<&'a str, &'a AccessOwner>;

/// So many of those who left are remembered.
const MOST_DEPARTED: usize = 16;

/// The names of both owners of an integration: business first.
#[must_use]
pub fn names(integration: &PartnerIntegration) -> [&str; 2] {
    let owners = &integration.spec.owners;
    [&owners.business_ref.name.0, &owners.technical_ref.name.0]
}

/// What is wrong with an integration's owners, in words; empty when both are there and active. `departed` holds the UIDs of
/// those who were seen to have left: who returns is a new object, whatever becomes of the old one's date.
#[must_use]
pub fn missing(
    integration: &PartnerIntegration,
    owners: &Owners<'_>,
    departed: &[String],
    now: Instant,
) -> Vec<String> {
    let wrong = |name: &str| match owners.get(name) {
        None => Some(format!("AccessOwner {name} does not exist or can't be read")),
        Some(owner) if owner.metadata.deletion_timestamp.is_some() => {
            Some(format!("AccessOwner {name} is being deleted"))
        }
        Some(owner) if !owner.spec.active => Some(format!("AccessOwner {name} is inactive")),
        Some(owner) => match owner.spec.until {
            Some(until) if now >= until => Some(format!("AccessOwner {name} left at {until}")),
            _ if is_departed(owner, departed) => Some(format!(
                "AccessOwner {name} had left: somebody who returns is a new object"
            )),
            _ => None,
        },
    };
    names(integration).into_iter().filter_map(wrong).collect()
}

/// Whether an owner who is there yet counts no more: a positive fact.
#[must_use]
pub fn is_gone(owner: &AccessOwner, departed: &[String], now: Instant) -> bool {
    !owner.spec.active
        || owner.metadata.deletion_timestamp.is_some()
        || owner.spec.until.is_some_and(|until| now >= until)
        || is_departed(owner, departed)
}

/// Whether an owner was seen to have left, by UID.
#[must_use]
pub fn is_departed(owner: &AccessOwner, departed: &[String]) -> bool {
    let uid = owner.metadata.uid.as_ref();
    uid.is_some_and(|uid| departed.contains(uid))
}

/// Those who were seen to have left, with those of an integration's owners who have by `now`; the latest 16 of them.
#[must_use]
pub fn departed(integration: &PartnerIntegration, owners: &Owners<'_>, before: &[String], now: Instant) -> Vec<String> {
    let mut all = before.to_vec();
    let gone = found(integration, owners).filter(|(_, owner)| owner.spec.until.is_some_and(|until| now >= until));
    for uid in gone.filter_map(|(_, owner)| owner.metadata.uid.clone()) {
        if !all.contains(&uid) {
            all.push(uid);
        }
    }
    all.drain(..all.len().saturating_sub(MOST_DEPARTED));
    all
}

/// When the first of an integration's owners leaves; none where nothing says so.
#[must_use]
pub fn end(integration: &PartnerIntegration, owners: &Owners<'_>) -> Option<Instant> {
    found(integration, owners)
        .filter_map(|(_, owner)| owner.spec.until)
        .min()
}

/// When the next of an integration's owners leaves after `now`.
#[must_use]
pub fn next_leave(integration: &PartnerIntegration, owners: &Owners<'_>, now: Instant) -> Option<Instant> {
    let ends = found(integration, owners).filter_map(|(_, owner)| owner.spec.until);
    ends.filter(|until| *until > now).min()
}

/// The owners of an integration that were found, with their names.
pub(crate) fn found<'a>(
    integration: &'a PartnerIntegration,
    owners: &'a Owners<'a>,
) -> impl Iterator<Item = (&'a str, &'a AccessOwner)> {
    let names = names(integration).into_iter();
    names.filter_map(|name| owners.get(name).map(|owner| (name, *owner)))
}

/// The UIDs of the owners of today, in the order of [`names`].
#[must_use]
pub fn uids(integration: &PartnerIntegration, owners: &Owners<'_>) -> Vec<String> {
    let found = names(integration).into_iter().filter_map(|name| owners.get(name));
    found
        .map(|owner| owner.metadata.uid.clone().unwrap_or_default())
        .collect()
}

/// The names of owners who were not there yet at an instant: somebody who left and came back is a new object.
#[must_use]
pub fn newer_than<'a>(integration: &'a PartnerIntegration, owners: &Owners<'_>, at: Instant) -> Vec<&'a str> {
    let created = |name: &str| {
        owners
            .get(name)
            .and_then(|owner| owner.metadata.creation_timestamp.as_ref())
    };
    names(integration)
        .into_iter()
        .filter(|name| created(name).is_some_and(|time| Instant::new(time.0) > at))
        .collect()
}

/// The person behind a user name: the AccessOwner that lists it, and all that share a name with that one, told by the first of
/// their names; else the user name itself.
#[must_use]
pub fn person<'a>(user: &'a str, owners: &Owners<'a>) -> Person<'a> {
    let mut names: BTreeSet<&str> = [user].into();
    let mut found = BTreeSet::new();
    loop {
        let before = found.len();
        for (owner, spec) in owners.iter().map(|(name, owner)| (*name, &owner.spec)) {
            let is_it = !found.contains(owner) && spec.usernames.iter().any(|name| names.contains(name.0.as_str()));
            if is_it {
                found.insert(owner);
                names.extend(spec.usernames.iter().map(|name| name.0.as_str()));
            }
        }
        if found.len() == before {
            break;
        }
    }
    found.first().map_or(Person::User(user), |owner| Person::Owner(owner))
}

/// That both owners of an integration are one person, in words; none where they are two.
#[must_use]
pub fn one_person(integration: &PartnerIntegration, owners: &Owners<'_>) -> Option<String> {
    let [business, technical] = names(integration);
    let usernames = &owners.get(business)?.spec.usernames;
    let theirs = &owners.get(technical)?.spec.usernames;
    let of = |usernames: &'_ [Principal]| usernames.first().map(|name| name.0.clone());
    let (one, other) = (of(usernames)?, of(theirs)?);
    (business != technical && person(&one, owners) == person(&other, owners)).then(|| {
        format!(
            "AccessOwners {business} and {technical} are one person, by the user names that they list: name two people"
        )
    })
}

/// One person, under however many user names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Person<'a> {
    /// Known by an AccessOwner's name.
    Owner(&'a str),
    /// Known by a user name alone.
    User(&'a str),
}

/// Everybody who asked for what is to be approved, or had a hand in it.
#[must_use]
pub fn people<'a>(users: impl IntoIterator<Item = &'a str>, owners: &Owners<'a>) -> BTreeSet<Person<'a>> {
    users.into_iter().map(|user| person(user, owners)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::fixtures::{at, integration, owner};

    const NOW: &str = "2026-12-02T00:00:00Z";

    fn wrong(alice: Option<&AccessOwner>, bob: Option<&AccessOwner>, departed: &[String], now: &str) -> Vec<String> {
        let named = [alice.map(|it| ("alice", it)), bob.map(|it| ("bob", it))];
        missing(
            &integration(),
            &named.into_iter().flatten().collect(),
            departed,
            at(now),
        )
    }

    #[test]
    fn an_absent_inactive_or_leaving_owner_is_missing() {
        let (alice, mut bob) = (owner("alice"), owner("bob"));
        assert!(wrong(Some(&alice), Some(&bob), &[], NOW).is_empty());
        assert_eq!(
            wrong(Some(&alice), None, &[], NOW),
            ["AccessOwner bob does not exist or can't be read"]
        );
        bob.spec.active = false;
        assert_eq!(
            wrong(Some(&alice), Some(&bob), &[], NOW),
            ["AccessOwner bob is inactive"]
        );
        bob.spec.active = true;
        bob.metadata.deletion_timestamp = bob.metadata.creation_timestamp.clone();
        assert_eq!(
            wrong(Some(&alice), Some(&bob), &[], NOW),
            ["AccessOwner bob is being deleted"]
        );
    }

    #[test]
    fn who_leaves_is_missing_from_that_instant_on_and_for_good() {
        let (alice, mut bob) = (owner("alice"), owner("bob"));
        bob.spec.until = Some(at(NOW));
        assert!(wrong(Some(&alice), Some(&bob), &[], "2026-12-01T23:59:59Z").is_empty());
        assert_eq!(
            wrong(Some(&alice), Some(&bob), &[], NOW),
            ["AccessOwner bob left at 2026-12-02T00:00:00Z"]
        );
        let seen = {
            let owners: Owners<'_> = [("alice", &alice), ("bob", &bob)].into();
            assert_eq!(
                departed(&integration(), &owners, &[], at("2026-12-01T23:59:59Z")),
                [""; 0]
            );
            departed(&integration(), &owners, &[], at(NOW))
        };
        assert_eq!(seen, ["uid-of-bob"]);
        for until in [None, Some(at("2027-12-02T00:00:00Z"))] {
            bob.spec.until = until;
            assert_eq!(
                wrong(Some(&alice), Some(&bob), &seen, NOW),
                ["AccessOwner bob had left: somebody who returns is a new object"]
            );
        }
        bob.metadata.uid = Some("uid-of-another".to_owned());
        assert!(wrong(Some(&alice), Some(&bob), &seen, NOW).is_empty());
    }

    #[test]
    fn an_owner_is_newer_than_what_was_before_it_was_made() {
        let (alice, bob) = (owner("alice"), owner("bob"));
        let newer = |at: Instant| newer_than(&integration(), &[("alice", &alice), ("bob", &bob)].into(), at).len();
        let made = at("2026-11-01T00:00:00Z");
        assert_eq!([newer(made.plus(-1)), newer(made), newer(made.plus(1))], [2, 0, 0]);
    }

    #[test]
    fn the_next_who_leaves_is_the_first_that_has_not() {
        let (mut alice, mut bob) = (owner("alice"), owner("bob"));
        let next = |alice: &AccessOwner, bob: &AccessOwner, now: &str| {
            next_leave(&integration(), &[("alice", alice), ("bob", bob)].into(), at(now))
        };
        assert_eq!(next(&alice, &bob, NOW), None);
        (alice.spec.until, bob.spec.until) = (Some(at("2026-12-02T00:00:05Z")), Some(at("2026-12-02T00:00:09Z")));
        assert_eq!(next(&alice, &bob, "2026-12-02T00:00:04Z"), alice.spec.until);
        assert_eq!(
            next(&alice, &bob, "2026-12-02T00:00:05Z"),
            bob.spec.until,
            "alice has left by then"
        );
        assert_eq!(next(&alice, &bob, "2026-12-02T00:00:09Z"), None);
    }

    #[test]
    fn two_user_names_of_one_owner_are_one_person() {
        let mut alice = owner("alice");
        alice.spec.usernames = vec!["alice@corp.example".into(), "adm-alice".into()];
        let owners: Owners<'_> = [("alice", &alice)].into();
        assert_eq!(person("alice@corp.example", &owners), person("adm-alice", &owners));
        assert_ne!(person("alice", &owners), person("adm-alice", &owners));
    }

    #[test]
    fn owners_that_share_a_user_name_are_one_person_however_far_apart() {
        let named = |name: &str, usernames: &[&str]| {
            let mut owner = owner(name);
            owner.spec.usernames = usernames.iter().map(|name| (*name).into()).collect();
            owner
        };
        let (alice, again) = (
            named("alice", &["alice", "a.doe"]),
            named("alice-2", &["adm-alice", "a.doe"]),
        );
        let (third, bob) = (named("aaron", &["adm-alice", "root"]), named("bob", &["bob"]));
        let mut owners: Owners<'_> = [("alice", &alice), ("alice-2", &again), ("aaron", &third), ("bob", &bob)].into();
        for name in ["alice", "a.doe", "adm-alice", "root"] {
            assert_eq!(person(name, &owners), Person::Owner("aaron"), "{name}");
        }
        assert_eq!(person("bob", &owners), Person::Owner("bob"));
        assert_eq!(one_person(&integration(), &owners), None);
        let linked = named("bob", &["bob", "root"]);
        owners.insert("bob", &linked);
        let words = one_person(&integration(), &owners).unwrap();
        assert!(
            words.starts_with("AccessOwners alice and bob are one person"),
            "{words}"
        );
    }
}
