//! Hands integrations over from one owner to another: what changes, what must not, and what follows. Pure.

use serde_json::{Value, json};

use crate::api::v1alpha1::{AccessGrant, AccessOwner, Instant, PartnerIntegration, Principal};
use crate::domain::digest::{self, GrantDigest, TARGETS};

/// Written by kubectl about itself: no part of a manifest.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Which of the two owners.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Role {
    /// Accountable for the business need.
    Business,
    /// Accountable for the technical side.
    Technical,
}

impl Role {
    /// Both, in the order in which they are named.
    pub const BOTH: [Self; 2] = [Self::Business, Self::Technical];

    /// In a word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Business => "business",
            Self::Technical => "technical",
        }
    }

    /// The field of `spec.owners`.
    fn field(self) -> &'static str {
        match self {
            Self::Business => "businessRef",
            Self::Technical => "technicalRef",
        }
    }

    /// The owner in this role.
    #[must_use]
    pub fn of(self, integration: &PartnerIntegration) -> &str {
        let owners = &integration.spec.owners;
        match self {
            Self::Business => &owners.business_ref.name.0,
            Self::Technical => &owners.technical_ref.name.0,
        }
    }

    fn other(self) -> Self {
        match self {
            Self::Business => Self::Technical,
            Self::Technical => Self::Business,
        }
    }
}

/// One integration as it is and as it will be.
#[derive(Clone, Debug)]
pub struct Change {
    /// As it is.
    pub before: PartnerIntegration,
    /// As it will be.
    pub after: PartnerIntegration,
    /// The role that goes over.
    pub role: Role,
}

impl Change {
    /// The one who stays.
    #[must_use]
    pub fn stays(&self) -> &str {
        self.role.other().of(&self.after)
    }

    /// `namespace/name`.
    #[must_use]
    pub fn place(&self) -> String {
        let metadata = &self.after.metadata;
        format!(
            "{}/{}",
            metadata.namespace.as_deref().unwrap_or_default(),
            metadata.name.as_deref().unwrap_or_default()
        )
    }

    /// The patch as `caller` makes it: who changes what an approval covers is on the list of contributors.
    #[must_use]
    pub fn patch(&self, caller: &str) -> Value {
        let spec = &self.before.spec;
        let mut patch = json!({
            "metadata": {"resourceVersion": self.before.metadata.resource_version},
            "spec": {"owners": {self.role.field(): {"name": self.role.of(&self.after)}}},
        });
        let caller = Principal(caller.to_owned());
        if spec.requested_by.as_ref() != Some(&caller) && !spec.contributors.contains(&caller) {
            let contributors: Vec<&Principal> = spec.contributors.iter().chain([&caller]).collect();
            patch["spec"]["contributors"] = json!(contributors);
        }
        patch
    }

    /// As a file for Git: without status and what the API server sets.
    #[must_use]
    pub fn manifest(&self) -> Value {
        let metadata = &self.after.metadata;
        let mut annotations = metadata.annotations.clone().unwrap_or_default();
        annotations.remove(LAST_APPLIED);
        let mut named = json!({"name": metadata.name, "namespace": metadata.namespace});
        if let Some(labels) = metadata.labels.as_ref().filter(|labels| !labels.is_empty()) {
            named["labels"] = json!(labels);
        }
        if !annotations.is_empty() {
            named["annotations"] = json!(annotations);
        }
        json!({
            "apiVersion": "wayleave.dev/v1alpha1",
            "kind": "PartnerIntegration",
            "metadata": named,
            "spec": self.after.spec,
        })
    }
}

/// The integrations that `from` owns, in `role` or any, with `to` instead.
#[must_use]
pub fn changes(integrations: Vec<PartnerIntegration>, from: &str, to: &str, role: Option<Role>) -> Vec<Change> {
    let mut found = Vec::new();
    for before in integrations {
        let wanted = Role::BOTH.into_iter().filter(|it| role.is_none_or(|role| role == *it));
        // The two are never the same, so that one role at most goes over.
        let Some(role) = wanted.into_iter().find(|it| it.of(&before) == from) else {
            continue;
        };
        let mut after = before.clone();
        let owners = &mut after.spec.owners;
        match role {
            Role::Business => owners.business_ref.name = to.into(),
            Role::Technical => owners.technical_ref.name = to.into(),
        }
        found.push(Change { before, after, role });
    }
    found.sort_by_key(Change::place);
    found
}

/// Why a change would make both owners one person; `owner` finds an AccessOwner by name, where it can be read.
#[must_use]
pub fn one_person(change: &Change, owner: impl Fn(&str) -> Option<AccessOwner>) -> Option<String> {
    let (to, stays) = (change.role.of(&change.after), change.stays());
    let other = change.role.other().as_str();
    if to == stays {
        return Some(format!("{}: {to} is its {other} owner already", change.place()));
    }
    let (new, old) = (owner(to)?.spec, owner(stays)?.spec);
    let shared = new.usernames.iter().find(|name| old.usernames.contains(name));
    let shared = shared.map(|name| name.0.as_str()).or_else(|| {
        new.email
            .0
            .eq_ignore_ascii_case(&old.email.0)
            .then_some(new.email.0.as_str())
    })?;
    Some(format!(
        "{}: {to} and its {other} owner {stays} are one person ({shared})",
        change.place()
    ))
}

/// Why an owner can't take over; none where nothing speaks against it.
#[must_use]
pub fn unfit(owner: &AccessOwner, now: Instant) -> Option<String> {
    let name = owner.metadata.name.as_deref().unwrap_or_default();
    if owner.metadata.deletion_timestamp.is_some() {
        return Some(format!("AccessOwner {name} is being deleted"));
    }
    if !owner.spec.active {
        return Some(format!("AccessOwner {name} is inactive"));
    }
    let until = owner.spec.until.filter(|until| now >= *until)?;
    Some(format!("AccessOwner {name} left at {until}"))
}

/// A grant's digest after a change. Of what the operator wrote, its word for the namespaces' UIDs alone is taken.
#[must_use]
pub fn digest_after(change: &Change, grant: &AccessGrant) -> Option<String> {
    let known = grant.status.as_ref()?.digest_sections.get(TARGETS)?;
    let GrantDigest { mut sections, .. } = digest::digest(&change.after, grant, &Default::default());
    sections.insert(TARGETS.to_owned(), known.clone());
    let whole = json!({"version": digest::VERSION, "sections": sections});
    Some(format!("sha256:{}", digest::hash(&whole)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::v1alpha1::AccessGrantStatus;
    use crate::domain::fixtures::{at, grant, integration, owner};

    fn change(from: &str, to: &str, role: Option<Role>) -> Option<Change> {
        changes(vec![integration()], from, to, role).pop()
    }

    #[test]
    fn one_role_goes_over_and_nothing_else() {
        let found = change("alice", "dora", None).unwrap();
        assert_eq!((found.role, found.stays()), (Role::Business, "bob"));
        assert_eq!(found.after.spec.owners.business_ref.name, "dora".into());
        let mut back = found.after.spec.clone();
        back.owners.business_ref.name = "alice".into();
        assert_eq!(back, found.before.spec);
        assert!(change("alice", "dora", Some(Role::Technical)).is_none());
        assert_eq!(change("bob", "dora", None).unwrap().role, Role::Technical);
        assert!(change("eve", "dora", None).is_none());
    }

    #[test]
    fn both_owners_are_never_made_one_person() {
        let nobody = |_: &str| None;
        let same = change("alice", "bob", None).unwrap();
        assert_eq!(
            one_person(&same, nobody),
            Some("payments/acme-billing: bob is its technical owner already".to_owned())
        );
        let to_dora = change("alice", "dora", None).unwrap();
        assert_eq!(one_person(&to_dora, nobody), None);
        assert_eq!(one_person(&to_dora, |name| Some(owner(name))), None);
        let by_name = |name: &str| {
            let mut found = owner(name);
            found.spec.usernames.push("bob@corp.example".into());
            Some(found)
        };
        let said = one_person(&to_dora, by_name).unwrap();
        assert!(
            said.contains("dora and its technical owner bob are one person (bob@corp.example)"),
            "{said}"
        );
        let by_email = |name: &str| {
            let mut found = owner(name);
            found.spec.usernames.clear();
            found.spec.email = if name == "dora" {
                "Bob@corp.example".into()
            } else {
                "bob@corp.example".into()
            };
            Some(found)
        };
        assert!(one_person(&to_dora, by_email).is_some());
    }

    #[test]
    fn who_is_gone_takes_nothing_over() {
        let now = at("2026-12-02T00:00:00Z");
        let mut dora = owner("dora");
        assert_eq!(unfit(&dora, now), None);
        dora.spec.until = Some(now.plus(1));
        assert_eq!(unfit(&dora, now), None);
        dora.spec.until = Some(now);
        assert!(unfit(&dora, now).unwrap().contains("dora left at"));
        dora.spec.active = false;
        assert!(unfit(&dora, now).unwrap().contains("inactive"));
    }

    #[test]
    fn the_patch_states_its_writer_once_and_the_manifest_holds_nothing_of_the_server() {
        let mut found = change("alice", "dora", None).unwrap();
        let patch = found.patch("ivan@corp.example");
        assert_eq!(
            patch["spec"],
            json!({"owners": {"businessRef": {"name": "dora"}}, "contributors": ["ivan@corp.example"]})
        );
        assert_eq!(found.patch("carol@corp.example")["spec"]["contributors"], Value::Null);
        found.before.spec.contributors = vec!["ivan@corp.example".into()];
        assert_eq!(found.patch("ivan@corp.example")["spec"]["contributors"], Value::Null);
        found.after.metadata.annotations = Some([(LAST_APPLIED.to_owned(), "{}".to_owned())].into());
        let manifest = found.manifest();
        assert_eq!(
            manifest["metadata"],
            json!({"name": "acme-billing", "namespace": "payments"})
        );
        assert_eq!(manifest["spec"]["owners"]["businessRef"]["name"], "dora");
        assert!(manifest.get("status").is_none());
    }

    #[test]
    fn the_digest_is_the_one_that_the_grant_will_have() {
        let targets = [("payments".to_owned(), "uid-of-payments".to_owned())].into();
        let found = change("alice", "dora", None).unwrap();
        let mut grant = grant();
        assert_eq!(digest_after(&found, &grant), None, "not seen by the operator yet");
        grant.status = Some(AccessGrantStatus {
            digest_sections: digest::digest(&found.before, &grant, &targets).sections,
            ..AccessGrantStatus::default()
        });
        let expected = digest::digest(&found.after, &grant, &targets).digest;
        assert_eq!(digest_after(&found, &grant), Some(expected));
    }
}
