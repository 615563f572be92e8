//! What an export changes about the AccessOwners of its source.

use std::collections::{BTreeMap, BTreeSet};

use kube::api::ObjectMeta;
use serde_json::{Value, json};

use super::{NAME_LENGTH, Person, Problem};
use crate::api::names::{LABEL_OWNER_PERSON, LABEL_OWNER_SOURCE};
use crate::api::v1alpha1::{AccessOwner, AccessOwnerSpec, Instant, Line, Principal};
use crate::cli::handover::unfit;

/// One thing to do.
#[derive(Clone, Debug)]
pub enum Change {
    /// Somebody new; `instead_of` names the object of somebody who returns.
    Create {
        /// The object.
        owner: Box<AccessOwner>,
        /// The inactive object that stays as it is.
        instead_of: Option<String>,
    },
    /// Fields of somebody who is there.
    Change {
        /// The object as it is.
        owner: Box<AccessOwner>,
        /// Field, value before and value after.
        fields: Vec<(&'static str, Value, Value)>,
    },
    /// Somebody who is gone.
    Deactivate {
        /// The object as it is.
        owner: Box<AccessOwner>,
        /// Why.
        because: &'static str,
    },
}

impl Change {
    /// Name of the object.
    #[must_use]
    pub fn name(&self) -> &str {
        let (Self::Create { owner, .. } | Self::Change { owner, .. } | Self::Deactivate { owner, .. }) = self;
        owner.metadata.name.as_deref().unwrap_or_default()
    }

    /// Whether what rests on this owner ends with it.
    #[must_use]
    pub fn is_removal(&self, now: Instant) -> bool {
        match self {
            Self::Create { .. } => false,
            Self::Deactivate { .. } => true,
            Self::Change { fields, .. } => fields.iter().any(|(field, _, after)| {
                let until = serde_json::from_value::<Instant>(after.clone());
                *field == UNTIL && until.is_ok_and(|until| now >= until)
            }),
        }
    }

    /// The merge patch of an object that is there; of one that is not, none.
    #[must_use]
    pub fn patch(&self) -> Option<Value> {
        let (owner, spec) = match self {
            Self::Create { .. } => return None,
            Self::Deactivate { owner, .. } => (owner, json!({"active": false})),
            Self::Change { owner, fields } => {
                let fields = fields
                    .iter()
                    .map(|(field, _, after)| ((*field).to_owned(), after.clone()));
                (owner, Value::Object(fields.collect()))
            }
        };
        Some(json!({"metadata": {"resourceVersion": owner.metadata.resource_version}, "spec": spec}))
    }

    /// A line of the diff.
    #[must_use]
    pub fn describe(&self) -> String {
        let name = self.name();
        match self {
            Self::Create { owner, instead_of } => {
                let spec = &owner.spec;
                let users: Vec<&str> = spec.usernames.iter().map(AsRef::as_ref).collect();
                let until = spec.until.map_or_else(String::new, |until| format!(", until {until}"));
                let back = instead_of.as_ref().map_or_else(String::new, |old| {
                    format!("; is back as another object: {old} stays inactive, and what rested on it must name {name} and be approved again")
                });
                format!(
                    "+ {name}: {} <{}>, users {}{until}{back}",
                    spec.display_name,
                    spec.email,
                    users.join(", ")
                )
            }
            Self::Change { fields, .. } => {
                let each: Vec<String> = fields
                    .iter()
                    .map(|(field, before, after)| format!("{field} {before} -> {after}"))
                    .collect();
                format!("~ {name}: {}", each.join(", "))
            }
            Self::Deactivate { because, .. } => format!("- {name}: active true -> false ({because})"),
        }
    }

    /// For programs.
    #[must_use]
    pub fn as_json(&self) -> Value {
        match self {
            Self::Create { owner, instead_of } => {
                json!({"change": "Create", "name": self.name(), "spec": owner.spec, "insteadOf": instead_of})
            }
            Self::Change { fields, .. } => {
                let each = fields
                    .iter()
                    .map(|(field, before, after)| json!({"field": field, "before": before, "after": after}));
                json!({"change": "Change", "name": self.name(), "fields": each.collect::<Vec<_>>()})
            }
            Self::Deactivate { because, .. } => {
                json!({"change": "Deactivate", "name": self.name(), "because": because})
            }
        }
    }
}

/// All that there is to do.
#[derive(Clone, Debug, Default)]
pub struct Diff {
    /// What to do: who comes, who changes, and last who goes.
    pub changes: Vec<Change>,
    /// How many stay as they are.
    pub unchanged: usize,
    /// Objects of this source whose people are not in the export, and are left alone.
    pub missing: Vec<String>,
}

const UNTIL: &str = "until";

/// Compares an export with what is there. Of objects that have another source, or none, nothing is touched.
///
/// # Errors
///
/// People whose object is another source's.
pub fn compare(
    people: &[Person],
    owners: &[AccessOwner],
    source: &str,
    deactivate_missing: bool,
    now: Instant,
) -> Result<Diff, Vec<Problem>> {
    let by_name: BTreeMap<&str, &AccessOwner> = owners.iter().map(|it| (name_of(it), it)).collect();
    let mut of_person: BTreeMap<&str, Vec<&AccessOwner>> = BTreeMap::new();
    for owner in owners.iter().filter(|it| label(it, LABEL_OWNER_SOURCE) == Some(source)) {
        let person = label(owner, LABEL_OWNER_PERSON).unwrap_or(name_of(owner));
        of_person.entry(person).or_default().push(owner);
    }
    let mut taken: BTreeSet<String> = by_name.keys().map(|it| (*it).to_owned()).collect();
    taken.extend(people.iter().map(|it| it.name.clone()));
    let (mut diff, mut problems, mut going) = (Diff::default(), Vec::new(), Vec::new());
    for person in people {
        let own = of_person.remove(person.name.as_str()).unwrap_or_default();
        let current = own.iter().copied().find(|it| unfit(it, now).is_none());
        let is_there = person.active && person.until.flatten().is_none_or(|until| now < until);
        match current {
            Some(owner) if !person.active => going.push(deactivate(owner, "inactive in the export")),
            Some(owner) => match changed(owner, person) {
                fields if fields.is_empty() => diff.unchanged += 1,
                fields => diff.changes.push(Change::Change {
                    owner: Box::new(owner.clone()),
                    fields,
                }),
            },
            None if !is_there => diff.unchanged += 1,
            None => {
                if let Some(other) = by_name.get(person.name.as_str())
                    && own.is_empty()
                {
                    problems.push(of_another(person, other, source));
                    continue;
                }
                let last = own.iter().map(|it| name_of(it)).max_by_key(|it| (it.len(), *it));
                let name = last.map_or_else(|| person.name.clone(), |_| free_name(&person.name, &mut taken));
                diff.changes.push(Change::Create {
                    owner: Box::new(make(person, name, source)),
                    instead_of: last.map(str::to_owned),
                });
            }
        }
    }
    let left = of_person.into_values().flatten().filter(|it| unfit(it, now).is_none());
    for owner in left {
        if deactivate_missing {
            going.push(deactivate(owner, "not in the export"));
        } else {
            diff.missing.push(name_of(owner).to_owned());
        }
    }
    diff.changes.extend(going);
    if problems.is_empty() { Ok(diff) } else { Err(problems) }
}

fn deactivate(owner: &AccessOwner, because: &'static str) -> Change {
    Change::Deactivate {
        owner: Box::new(owner.clone()),
        because,
    }
}

fn of_another(person: &Person, other: &AccessOwner, source: &str) -> Problem {
    let whose = label(other, LABEL_OWNER_SOURCE).map_or("made by hand".to_owned(), |it| format!("of the source {it}"));
    let allowed = format!(
        "a name that is free: AccessOwner {0} is {whose}. To hand it over to this source: \
         kubectl label accessowner {0} {LABEL_OWNER_SOURCE}={source} --overwrite",
        person.name
    );
    Problem::new(&person.place, "name", &person.name, allowed)
}

/// The first of `name-2`, `name-3` and so on that nobody has.
fn free_name(name: &str, taken: &mut BTreeSet<String>) -> String {
    let mut number = 2;
    loop {
        let end = format!("-{number}");
        let start: String = name.chars().take(NAME_LENGTH - end.len()).collect();
        let free = format!("{}{end}", start.trim_end_matches('-'));
        if taken.insert(free.clone()) {
            return free;
        }
        number += 1;
    }
}

fn make(person: &Person, name: String, source: &str) -> AccessOwner {
    let labels = [(LABEL_OWNER_SOURCE, source), (LABEL_OWNER_PERSON, &person.name)];
    let labels = labels.map(|(label, value)| (label.to_owned(), value.to_owned()));
    AccessOwner {
        metadata: ObjectMeta {
            name: Some(name),
            labels: Some(labels.into()),
            ..ObjectMeta::default()
        },
        spec: AccessOwnerSpec {
            display_name: Line(person.display_name.clone()),
            email: person.email.as_str().into(),
            usernames: person.usernames.iter().map(|it| Principal(it.clone())).collect(),
            active: true,
            until: person.until.flatten(),
        },
    }
}

/// The fields that differ.
fn changed(owner: &AccessOwner, person: &Person) -> Vec<(&'static str, Value, Value)> {
    let spec = &owner.spec;
    let mut usernames: Vec<Principal> = person.usernames.iter().map(|it| Principal(it.clone())).collect();
    if !person.usernames_complete {
        // A user name that somebody added by hand says that two users are one person: it is not for us to part them.
        usernames.retain(|it| !spec.usernames.contains(it));
        usernames = spec.usernames.iter().cloned().chain(usernames).collect();
    }
    let mut fields = vec![
        ("displayName", json!(spec.display_name), json!(person.display_name)),
        ("email", json!(spec.email), json!(person.email)),
        ("usernames", json!(spec.usernames), json!(usernames)),
    ];
    if let Some(until) = person.until {
        fields.push((UNTIL, json!(spec.until), json!(until)));
    }
    fields.retain(|(_, before, after)| before != after);
    fields
}

fn name_of(owner: &AccessOwner) -> &str {
    owner.metadata.name.as_deref().unwrap_or_default()
}

fn label<'a>(owner: &'a AccessOwner, label: &str) -> Option<&'a str> {
    owner.metadata.labels.as_ref()?.get(label).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::fixtures::at;

    const NOW: &str = "2026-12-02T00:00:00Z";

    fn person(name: &str) -> Person {
        Person {
            place: "line 2".to_owned(),
            name: name.to_owned(),
            display_name: name.to_uppercase(),
            email: format!("{name}@corp.example"),
            usernames: vec![format!("{name}@corp.example")],
            usernames_complete: true,
            active: true,
            until: Some(None),
        }
    }

    fn owner(name: &str) -> AccessOwner {
        make(&person(name), name.to_owned(), "hr")
    }

    fn ask(people: &[Person], owners: &[AccessOwner], deactivate_missing: bool) -> Vec<String> {
        let diff = compare(people, owners, "hr", deactivate_missing, at(NOW)).unwrap();
        diff.changes.iter().map(Change::describe).collect()
    }

    #[test]
    fn who_is_new_is_made_and_a_second_run_finds_nothing() {
        let people = [person("alice"), person("bob")];
        let diff = compare(&people, &[], "hr", true, at(NOW)).unwrap();
        let made: Vec<AccessOwner> = diff
            .changes
            .iter()
            .map(|change| match change {
                Change::Create { owner, .. } => owner.as_ref().clone(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(
            diff.changes[0].describe(),
            "+ alice: ALICE <alice@corp.example>, users alice@corp.example"
        );
        let again = compare(&people, &made, "hr", true, at(NOW)).unwrap();
        assert_eq!((again.changes.len(), again.unchanged), (0, 2));
    }

    #[test]
    fn changed_fields_are_shown_and_patched_alone() {
        let mut moved = person("alice");
        moved.email = "alice@new.example".to_owned();
        moved.until = Some(Some(at("2027-01-31T00:00:00Z")));
        let diff = compare(&[moved], &[owner("alice")], "hr", false, at(NOW)).unwrap();
        assert_eq!(
            diff.changes[0].describe(),
            "~ alice: email \"alice@corp.example\" -> \"alice@new.example\", until null -> \"2027-01-31T00:00:00Z\""
        );
        assert_eq!(
            diff.changes[0].patch().unwrap()["spec"],
            json!({"email": "alice@new.example", "until": "2027-01-31T00:00:00Z"})
        );
        assert!(!diff.changes[0].is_removal(at(NOW)));
        assert!(diff.changes[0].is_removal(at("2027-01-31T00:00:00Z")));
    }

    #[test]
    fn who_is_inactive_goes_and_who_is_missing_only_when_told_so() {
        let mut gone = person("alice");
        gone.active = false;
        assert_eq!(
            ask(&[gone.clone()], &[owner("alice")], false),
            ["- alice: active true -> false (inactive in the export)"]
        );
        assert!(ask(&[gone], &[], false).is_empty(), "nobody is made to be inactive");
        let people = [person("alice")];
        let owners = [owner("alice"), owner("bob")];
        let diff = compare(&people, &owners, "hr", false, at(NOW)).unwrap();
        assert_eq!((diff.changes.len(), diff.missing), (0, vec!["bob".to_owned()]));
        assert_eq!(
            ask(&people, &owners, true),
            ["- bob: active true -> false (not in the export)"]
        );
    }

    #[test]
    fn what_another_source_or_a_hand_made_is_not_touched() {
        let mut by_hand = owner("bob");
        by_hand.metadata.labels = None;
        let mut other = owner("carol");
        other
            .metadata
            .labels
            .as_mut()
            .unwrap()
            .insert(LABEL_OWNER_SOURCE.to_owned(), "crm".to_owned());
        let owners = [owner("alice"), by_hand, other];
        assert!(ask(&[person("alice")], &owners, true).is_empty());
        let people = [person("alice"), person("bob"), person("carol")];
        let said = compare(&people, &owners, "hr", true, at(NOW)).unwrap_err();
        assert_eq!(said.len(), 2);
        assert!(
            said[0].to_string().contains("AccessOwner bob is made by hand"),
            "{}",
            said[0]
        );
        assert!(
            said[1].to_string().contains("AccessOwner carol is of the source crm"),
            "{}",
            said[1]
        );
    }

    #[test]
    fn who_returns_is_another_object_each_time() {
        let mut first = owner("alice");
        first.spec.active = false;
        let people = [person("alice")];
        let diff = compare(&people, &[first.clone()], "hr", true, at(NOW)).unwrap();
        let said = diff.changes[0].describe();
        assert!(
            said.starts_with("+ alice-2: ") && said.contains("alice stays inactive"),
            "{said}"
        );
        let Change::Create { owner: second, .. } = &diff.changes[0] else {
            panic!("{said}")
        };
        let mut second = second.as_ref().clone();
        assert!(
            ask(&people, &[first.clone(), second.clone()], true).is_empty(),
            "is there now"
        );
        second.spec.until = Some(at(NOW));
        assert!(
            ask(&people, &[first.clone(), second.clone()], true)[0].starts_with("+ alice-3: "),
            "left, and returns"
        );
        let mut away = person("alice");
        away.until = Some(Some(at(NOW)));
        assert!(
            ask(&[away], &[first.clone(), second], true).is_empty(),
            "left, and stays away"
        );
        // Somebody else is called so already.
        let others = [person("alice"), person("alice-2")];
        assert!(ask(&others, &[first, owner("alice-2")], true)[0].starts_with("+ alice-3: "));
    }

    #[test]
    fn user_names_that_an_export_does_not_know_of_are_kept() {
        let mut known = owner("alice");
        known.spec.usernames.push("adm-alice".into());
        let mut user = person("alice");
        (user.usernames_complete, user.until) = (false, None);
        assert!(ask(&[user.clone()], &[known.clone()], true).is_empty());
        user.usernames = vec!["alice@new.example".to_owned()];
        let diff = compare(&[user.clone()], &[known.clone()], "hr", true, at(NOW)).unwrap();
        assert_eq!(
            diff.changes[0].patch().unwrap()["spec"]["usernames"],
            json!(["alice@corp.example", "adm-alice", "alice@new.example"])
        );
        user.usernames_complete = true;
        let diff = compare(&[user], &[known], "hr", true, at(NOW)).unwrap();
        assert_eq!(
            diff.changes[0].patch().unwrap()["spec"]["usernames"],
            json!(["alice@new.example"])
        );
    }
}
