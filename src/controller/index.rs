//! What was made for grants: kept small, and never behind our own writes.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::lock;
use crate::api::names::{ANNOTATION_GRANT_UID, ANNOTATION_LAST_NO, FIELD_MANAGER};
use crate::api::v1alpha1::{ChildKind, ChildRef, Instant};
use crate::domain::names::{grant_key, grant_key_of};
use crate::plan::Child;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Index(Mutex<Inner>);

/// Kind, namespace and name.
type Place = (ChildKind, String, String);

#[derive(Debug, Default)]
struct Inner {
    entries: HashMap<Place, Entry>,
    /// Where the objects of a grant are, by the grant's part of every reserved name.
    of_grant: HashMap<String, HashSet<Place>>,
    /// UIDs that we saw go: a watch that lags may still tell of them.
    gone: HashSet<String>,
    stamp: u64,
    known: HashSet<String>,
}

#[derive(Debug)]
struct Entry {
    child: Child,
    grant_uid: Option<String>,
    source: String,
    stamp: u64,
    /// Of a binding: the latest Deny or Revoke that was known when it was made.
    last_no: Option<Instant>,
    /// Of a delivery Secret: its resourceVersion.
    version: Option<String>,
}

impl Index {
    /// Where a new listing begins: what isn't told of by its end is gone, unless we made it since.
    pub(crate) fn begin(&self) -> u64 {
        let mut inner = lock(&self.0);
        inner.stamp += 1;
        inner.stamp
    }

    pub(crate) fn complete(&self, source: &str, begun: u64) {
        let mut inner = lock(&self.0);
        let stale = inner
            .entries
            .iter()
            .filter(|(_, entry)| entry.source == source && entry.stamp < begun);
        let stale: Vec<Place> = stale.map(|(place, _)| place.clone()).collect();
        for place in stale {
            inner.take(&place);
        }
        inner.known.insert(source.to_owned());
    }

    pub(crate) fn is_known(&self, source: &str) -> bool {
        lock(&self.0).known.contains(source)
    }

    pub(crate) fn put(&self, source: &str, kind: ChildKind, metadata: &ObjectMeta, content: String) {
        let child = Child {
            kind,
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
            uid: metadata.uid.clone().unwrap_or_default(),
            content,
            foreign_writer: (kind == ChildKind::DeliverySecret)
                .then(|| foreign_writer(metadata))
                .flatten(),
        };
        let annotation = |key: &str| metadata.annotations.as_ref().and_then(|all| all.get(key));
        let last_no = annotation(ANNOTATION_LAST_NO).and_then(|text| text.parse().ok());
        let mut inner = lock(&self.0);
        if inner.gone.contains(&child.uid) {
            return;
        }
        inner.stamp += 1;
        let grant_uid = annotation(ANNOTATION_GRANT_UID).cloned();
        let key = (kind, child.namespace.clone(), child.name.clone());
        let entry = Entry {
            child,
            grant_uid,
            source: source.to_owned(),
            stamp: inner.stamp,
            last_no,
            version: metadata
                .resource_version
                .clone()
                .filter(|_| kind == ChildKind::DeliverySecret),
        };
        inner.insert(key, entry);
    }

    pub(crate) fn remove(&self, kind: ChildKind, metadata: &ObjectMeta) {
        let key = (
            kind,
            metadata.namespace.clone().unwrap_or_default(),
            metadata.name.clone().unwrap_or_default(),
        );
        let mut inner = lock(&self.0);
        if let Some(uid) = &metadata.uid {
            inner.gone.remove(uid);
            if inner.entries.get(&key).is_some_and(|entry| &entry.child.uid == uid) {
                inner.take(&key);
            }
        }
    }

    /// We saw it go.
    pub(crate) fn gone(&self, child: &Child) {
        let mut inner = lock(&self.0);
        let key = (child.kind, child.namespace.clone(), child.name.clone());
        if inner
            .entries
            .get(&key)
            .is_some_and(|entry| entry.child.uid == child.uid)
        {
            inner.take(&key);
            inner.gone.insert(child.uid.clone());
        }
    }

    /// Every object of a grant: by reserved name or as its delivery Secret, and by recorded UID or our annotation.
    pub(crate) fn of_grant(&self, uid: &str, recorded: &[ChildRef]) -> Vec<Child> {
        let key = grant_key(uid);
        let inner = lock(&self.0);
        let by_key = inner.of_grant.get(&key).into_iter().flatten().cloned();
        let by_record = recorded
            .iter()
            .map(|known| (known.kind, known.namespace.clone(), known.name.clone()));
        let places: HashSet<Place> = by_key.chain(by_record).collect();
        let is_ours = |entry: &&Entry| {
            let annotated = entry.grant_uid.as_deref() == Some(uid);
            let named =
                entry.child.kind == ChildKind::DeliverySecret || grant_key_of(&entry.child.name) == Some(key.as_str());
            named && (annotated || recorded.iter().any(|known| known.uid == entry.child.uid))
        };
        let found = places.iter().filter_map(|place| inner.entries.get(place));
        found.filter(is_ours).map(|entry| entry.child.clone()).collect()
    }

    /// The bindings of a grant, each with the latest Deny or Revoke that was known when it was made.
    pub(crate) fn bindings_of(&self, uid: &str) -> Vec<(Child, Option<Instant>)> {
        let inner = lock(&self.0);
        let places = inner.of_grant.get(&grant_key(uid)).into_iter().flatten();
        let entries = places.filter_map(|place| inner.entries.get(place));
        let bindings = entries
            .filter(|entry| entry.child.kind == ChildKind::RoleBinding && entry.grant_uid.as_deref() == Some(uid));
        let mut found: Vec<(Child, Option<Instant>)> =
            bindings.map(|entry| (entry.child.clone(), entry.last_no)).collect();
        found.sort();
        found
    }

    /// The resourceVersion of a delivery Secret, if it still is that one.
    pub(crate) fn version_of(&self, secret: &ChildRef) -> Option<String> {
        let place = (secret.kind, secret.namespace.clone(), secret.name.clone());
        let inner = lock(&self.0);
        let entry = inner.entries.get(&place)?;
        (entry.child.uid == secret.uid).then(|| entry.version.clone()).flatten()
    }

    /// The objects whose name and annotation both speak of a grant that is not known, by that grant's UID. Delivery Secrets
    /// of other names are not among them: their owner reference is their end.
    pub(crate) fn orphans(&self, is_known: impl Fn(&str) -> bool) -> HashMap<String, Vec<Child>> {
        let inner = lock(&self.0);
        let mut orphans: HashMap<String, Vec<Child>> = HashMap::new();
        for entry in inner.entries.values() {
            let Some(uid) = entry.grant_uid.as_deref().filter(|uid| !is_known(uid)) else {
                continue;
            };
            if grant_key_of(&entry.child.name) == Some(grant_key(uid).as_str()) {
                orphans.entry(uid.to_owned()).or_default().push(entry.child.clone());
            }
        }
        for children in orphans.values_mut() {
            children.sort();
        }
        orphans
    }

    /// Whether anything of ours is in a namespace.
    pub(crate) fn is_in_use(&self, namespace: &str) -> bool {
        lock(&self.0).entries.keys().any(|(_, at, _)| at == namespace)
    }
}

impl Inner {
    fn insert(&mut self, place: Place, entry: Entry) {
        self.take(&place);
        if let Some(key) = key_of(&entry) {
            self.of_grant.entry(key).or_default().insert(place.clone());
        }
        self.entries.insert(place, entry);
    }

    fn take(&mut self, place: &Place) {
        let Some(entry) = self.entries.remove(place) else {
            return;
        };
        if let Some(key) = key_of(&entry)
            && let Some(all) = self.of_grant.get_mut(&key)
        {
            all.remove(place);
            if all.is_empty() {
                self.of_grant.remove(&key);
            }
        }
    }
}

/// The grant's part of reserved names, by the object's own name or its annotation.
fn key_of(entry: &Entry) -> Option<String> {
    let by_name = grant_key_of(&entry.child.name).map(str::to_owned);
    by_name.or_else(|| entry.grant_uid.as_deref().map(grant_key))
}

/// A field manager other than ours that owns a Secret's data.
fn foreign_writer(metadata: &ObjectMeta) -> Option<String> {
    let managers = metadata.managed_fields.iter().flatten();
    let foreign = managers.filter(|entry| entry.manager.as_deref() != Some(FIELD_MANAGER));
    let mut writers = foreign.filter(|entry| {
        entry
            .fields_v1
            .as_ref()
            .is_some_and(|fields| fields.0.get("f:data").is_some())
    });
    writers.next().map(|entry| entry.manager.clone().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_told_by_its_version_and_another_of_its_name_is_not() {
        let secret = |uid: &str, version: &str| ObjectMeta {
            namespace: Some("payments".to_owned()),
            name: Some("credential".to_owned()),
            uid: Some(uid.to_owned()),
            resource_version: Some(version.to_owned()),
            ..ObjectMeta::default()
        };
        let known = ChildRef {
            kind: ChildKind::DeliverySecret,
            namespace: "payments".to_owned(),
            name: "credential".to_owned(),
            uid: "one".to_owned(),
        };
        let index = Index::default();
        for version in ["7", "8"] {
            index.put(
                "secrets",
                ChildKind::DeliverySecret,
                &secret("one", version),
                String::new(),
            );
            assert_eq!(index.version_of(&known).as_deref(), Some(version));
        }
        index.put(
            "secrets",
            ChildKind::DeliverySecret,
            &secret("another", "9"),
            String::new(),
        );
        assert_eq!(index.version_of(&known), None);
    }
}
