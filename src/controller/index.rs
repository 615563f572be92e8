//! What was made for grants: kept small, and never behind our own writes.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::lock;
use crate::api::names::{ANNOTATION_GRANT_UID, ANNOTATION_LAST_NO, FIELD_MANAGER};
use crate::api::v1alpha1::{ChildKind, ChildRef, Instant};
use crate::domain::names::{grant_key, grant_key_of, is_of_grant};
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
    /// UIDs that we saw go, and when: a watch that lags may still tell of them, a listing that began later is believed.
    gone: HashMap<String, u64>,
    /// UIDs of what no watch tells of, and is not there.
    gone_unseen: HashSet<String>,
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

    pub(crate) fn forget(&self, source: &str) {
        lock(&self.0).known.remove(source);
    }

    pub(crate) fn is_known(&self, source: &str) -> bool {
        lock(&self.0).known.contains(source)
    }

    /// An object of a listing that began at `begun`. What is there after we saw it go was brought back, as by a restore of etcd.
    pub(crate) fn listed(&self, source: &str, kind: ChildKind, metadata: &ObjectMeta, content: String, begun: u64) {
        if let Some(uid) = &metadata.uid {
            let mut inner = lock(&self.0);
            if inner.gone.get(uid).is_some_and(|gone| *gone < begun) {
                inner.gone.remove(uid);
            }
        }
        self.put(source, kind, metadata, content);
    }

    /// An object as a watch tells of it, or as it was made.
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
        if inner.gone.contains_key(&child.uid) {
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
            if inner.entry(&key, uid).is_some() {
                inner.take(&key);
            }
        }
    }

    /// Whether an object is seen now: neither a watch nor we saw it go.
    pub(crate) fn holds(&self, child: &Child) -> bool {
        let place = (child.kind, child.namespace.clone(), child.name.clone());
        lock(&self.0).entry(&place, &child.uid).is_some()
    }

    /// We saw it go.
    pub(crate) fn gone(&self, child: &Child) {
        let mut inner = lock(&self.0);
        let key = (child.kind, child.namespace.clone(), child.name.clone());
        if inner.entry(&key, &child.uid).is_some() {
            inner.take(&key);
            inner.stamp += 1;
            let stamp = inner.stamp;
            inner.gone.insert(child.uid.clone(), stamp);
        } else {
            inner.gone_unseen.insert(child.uid.clone());
        }
    }

    /// We saw go what no watch tells of: it need not be looked for again.
    pub(crate) fn is_gone_unseen(&self, uid: &str) -> bool {
        lock(&self.0).gone_unseen.contains(uid)
    }

    /// Forgets what only saves calls.
    pub(crate) fn forget_gone_unseen(&self) {
        lock(&self.0).gone_unseen.clear();
    }

    /// Every object of a grant: by reserved name or as its delivery Secret, and by recorded UID or our annotation. Delivery
    /// Secrets have names that users chose: `is_delivery` says of namespace and name whether one is to be there. A copy that
    /// somebody made of one, with everything that is written on it, is none of ours.
    pub(crate) fn of_grant(
        &self,
        uid: &str,
        recorded: &[ChildRef],
        is_delivery: impl Fn(&str, &str) -> bool,
    ) -> Vec<Child> {
        let key = grant_key(uid);
        let inner = lock(&self.0);
        let by_key = inner.of_grant.get(&key).into_iter().flatten().cloned();
        let by_record = recorded
            .iter()
            .map(|known| (known.kind, known.namespace.clone(), known.name.clone()));
        let places: HashSet<Place> = by_key.chain(by_record).collect();
        let is_ours = |entry: &&Entry| {
            let child = &entry.child;
            let is_recorded = recorded.iter().any(|known| known.uid == child.uid);
            let is_annotated = entry.grant_uid.as_deref() == Some(uid);
            let is_reserved = grant_key_of(&child.name) == Some(key.as_str());
            match child.kind {
                ChildKind::DeliverySecret => {
                    is_recorded || (is_annotated && (is_reserved || is_delivery(&child.namespace, &child.name)))
                }
                _ => is_reserved && (is_annotated || is_recorded),
            }
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
        lock(&self.0).entry(&place, &secret.uid)?.version.clone()
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
            if is_of_grant(&entry.child.name, uid) {
                orphans.entry(uid.to_owned()).or_default().push(entry.child.clone());
            }
        }
        for children in orphans.values_mut() {
            children.sort();
        }
        orphans
    }

    /// Whether anything is in a namespace that is ours by name and annotation, so that it can be told whose it is.
    pub(crate) fn holds_ours(&self, namespace: &str) -> bool {
        let inner = lock(&self.0);
        let mut here = inner.entries.iter().filter(|((_, at, _), _)| at == namespace);
        here.any(|(_, entry)| {
            let uid = entry.grant_uid.as_deref();
            uid.is_some_and(|uid| entry.child.kind == ChildKind::DeliverySecret || is_of_grant(&entry.child.name, uid))
        })
    }

    /// Whether anything of ours is in a namespace.
    pub(crate) fn is_in_use(&self, namespace: &str) -> bool {
        lock(&self.0).entries.keys().any(|(_, at, _)| at == namespace)
    }
}

impl Inner {
    /// What is at a place, if it is that object.
    fn entry(&self, place: &Place, uid: &str) -> Option<&Entry> {
        self.entries.get(place).filter(|entry| entry.child.uid == uid)
    }

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

    const UID: &str = "5d0c6a7e-0000-4000-8000-000000000001";

    fn seen(index: &Index, kind: ChildKind, name: &str, uid: &str) {
        let annotations = [(ANNOTATION_GRANT_UID.to_owned(), UID.to_owned())];
        let metadata = ObjectMeta {
            namespace: Some("payments".to_owned()),
            name: Some(name.to_owned()),
            uid: Some(uid.to_owned()),
            annotations: Some(annotations.into()),
            ..ObjectMeta::default()
        };
        index.put("source", kind, &metadata, String::new());
    }

    #[test]
    fn a_copy_of_a_delivery_secret_is_none_of_ours_whatever_is_written_on_it() {
        let index = Index::default();
        seen(&index, ChildKind::DeliverySecret, "reader-credential", "a");
        seen(&index, ChildKind::DeliverySecret, "reader-credential-copy", "b");
        seen(&index, ChildKind::DeliverySecret, "before", "c");
        let names = |recorded: &[ChildRef]| {
            let is_delivery = |namespace: &str, name: &str| (namespace, name) == ("payments", "reader-credential");
            let found = index.of_grant(UID, recorded, is_delivery);
            let mut names: Vec<String> = found.into_iter().map(|child| child.name).collect();
            names.sort();
            names
        };
        assert_eq!(names(&[]), ["reader-credential"]);
        let recorded = ChildRef {
            kind: ChildKind::DeliverySecret,
            namespace: "payments".to_owned(),
            name: "before".to_owned(),
            uid: "c".to_owned(),
        };
        assert_eq!(names(&[recorded]), ["before", "reader-credential"]);
    }

    #[test]
    fn what_is_gone_is_not_seen_and_what_nobody_saw_is_looked_for_once() {
        let index = Index::default();
        seen(&index, ChildKind::DeliverySecret, "reader-credential", "a");
        let child = |uid: &str| Child {
            kind: ChildKind::DeliverySecret,
            namespace: "payments".to_owned(),
            name: "reader-credential".to_owned(),
            uid: uid.to_owned(),
            content: String::new(),
            foreign_writer: None,
        };
        assert!(index.holds(&child("a")) && !index.holds(&child("another")));
        let before = index.begin();
        index.gone(&child("a"));
        assert!(!index.holds(&child("a")) && !index.is_gone_unseen("a"));
        seen(&index, ChildKind::DeliverySecret, "reader-credential", "a");
        assert!(!index.holds(&child("a")), "a watch that lags brings nothing back");
        let brought_back = |begun: u64| {
            let metadata = ObjectMeta {
                namespace: Some("payments".to_owned()),
                name: Some("reader-credential".to_owned()),
                uid: Some("a".to_owned()),
                ..ObjectMeta::default()
            };
            index.listed("source", ChildKind::DeliverySecret, &metadata, String::new(), begun);
            index.holds(&child("a"))
        };
        assert!(!brought_back(before), "a listing that began before we saw it go");
        assert!(brought_back(index.begin()), "a listing that began later");
        index.gone(&child("a"));
        index.gone(&child("unlabelled"));
        assert!(index.is_gone_unseen("unlabelled"));
        index.forget_gone_unseen();
        assert!(!index.is_gone_unseen("unlabelled"));
    }

    #[test]
    fn other_kinds_are_ours_by_their_reserved_name_only() {
        let index = Index::default();
        seen(&index, ChildKind::RoleBinding, "copy", "a");
        seen(
            &index,
            ChildKind::RoleBinding,
            &crate::domain::names::access(UID, 1, 0),
            "b",
        );
        let found = index.of_grant(UID, &[], |_, _| true);
        assert_eq!(found.iter().map(|child| child.uid.as_str()).collect::<Vec<_>>(), ["b"]);
    }

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
