//! Accountability: both owners of an integration exist and are active, and who is one person under several names.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::v1alpha1::{AccessOwner, Instant, PartnerIntegration};

/// Every AccessOwner that can be read, by name.
pub type Owners<'a> = BTreeMap<&'a str, &'a AccessOwner>;

/// The names of both owners of an integration: business first.
#[must_use]
pub fn names(integration: &PartnerIntegration) -> [&str; 2] {
    let owners = &integration.spec.owners;
    [&owners.business_ref.name.0, &owners.technical_ref.name.0]
}

/// What is wrong with an integration's owners, in words; empty when both are there and active.
#[must_use]
pub fn missing(integration: &PartnerIntegration, owners: &Owners<'_>) -> Vec<String> {
    names(integration)
        .into_iter()
        .filter_map(|name| match owners.get(name) {
            None => Some(format!("AccessOwner {name} does not exist or can't be read")),
            Some(owner) if owner.metadata.deletion_timestamp.is_some() => {
                Some(format!("AccessOwner {name} is being deleted"))
            }
            Some(owner) if !owner.spec.active => Some(format!("AccessOwner {name} is inactive")),
            Some(_) => None,
        })
        .collect()
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

/// The person behind a user name: the AccessOwner that lists it (the first by name), else the user name itself.
#[must_use]
pub fn person<'a>(user: &'a str, owners: &Owners<'a>) -> Person<'a> {
    let owner = owners
        .iter()
        .find(|(_, owner)| owner.spec.usernames.iter().any(|name| name.0 == user));
    owner.map_or(Person::User(user), |(name, _)| Person::Owner(name))
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
    use crate::domain::fixtures::{integration, owner};

    #[test]
    fn an_absent_inactive_or_leaving_owner_is_missing() {
        let (alice, mut bob) = (owner("alice"), owner("bob"));
        let integration = integration();
        assert!(missing(&integration, &[("alice", &alice), ("bob", &bob)].into()).is_empty());
        assert_eq!(
            missing(&integration, &[("alice", &alice)].into()),
            ["AccessOwner bob does not exist or can't be read"]
        );
        bob.spec.active = false;
        assert_eq!(
            missing(&integration, &[("alice", &alice), ("bob", &bob)].into()),
            ["AccessOwner bob is inactive"]
        );
        bob.spec.active = true;
        bob.metadata.deletion_timestamp = bob.metadata.creation_timestamp.clone();
        assert_eq!(
            missing(&integration, &[("alice", &alice), ("bob", &bob)].into()),
            ["AccessOwner bob is being deleted"]
        );
    }

    #[test]
    fn two_user_names_of_one_owner_are_one_person() {
        let mut alice = owner("alice");
        alice.spec.usernames = vec!["alice@corp.example".into(), "adm-alice".into()];
        let owners: Owners<'_> = [("alice", &alice)].into();
        assert_eq!(person("alice@corp.example", &owners), person("adm-alice", &owners));
        assert_ne!(person("alice", &owners), person("adm-alice", &owners));
    }
}
