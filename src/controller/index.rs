//! What was made for grants, and which namespaces let the operator in: kept small, and never behind our own writes.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::lock;
use crate::api::names::{ANNOTATION_GRANT_UID, FIELD_MANAGER};
use crate::api::v1alpha1::{ChildKind, ChildRef};
use crate::domain::names::{grant_key, grant_key_of};
use crate::plan::Child;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Index(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    entries: HashMap<(ChildKind, String, String), Entry>,
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
        inner
            .entries
            .retain(|_, entry| entry.source != source || entry.stamp >= begun);
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
        let mut inner = lock(&self.0);
        if inner.gone.contains(&child.uid) {
            return;
        }
        inner.stamp += 1;
        let grant_uid = metadata
            .annotations
            .as_ref()
            .and_then(|all| all.get(ANNOTATION_GRANT_UID))
            .cloned();
        let key = (kind, child.namespace.clone(), child.name.clone());
        let entry = Entry {
            child,
            grant_uid,
            source: source.to_owned(),
            stamp: inner.stamp,
        };
        inner.entries.insert(key, entry);
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
                inner.entries.remove(&key);
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
            inner.entries.remove(&key);
            inner.gone.insert(child.uid.clone());
        }
    }

    /// Every object of a grant: by reserved name or as its delivery Secret, and by recorded UID or our annotation.
    pub(crate) fn of_grant(&self, uid: &str, recorded: &[ChildRef]) -> Vec<Child> {
        let key = grant_key(uid);
        let inner = lock(&self.0);
        let is_ours = |entry: &&Entry| {
            let annotated = entry.grant_uid.as_deref() == Some(uid);
            let named =
                entry.child.kind == ChildKind::DeliverySecret || grant_key_of(&entry.child.name) == Some(key.as_str());
            named && (annotated || recorded.iter().any(|known| known.uid == entry.child.uid))
        };
        inner
            .entries
            .values()
            .filter(is_ours)
            .map(|entry| entry.child.clone())
            .collect()
    }
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
