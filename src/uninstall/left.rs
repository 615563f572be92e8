//! What is left of Wayleave: as the caches have it, and as the API server has it. Does I/O.

use std::fmt::Debug;
use std::io::Write;

use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{ListParams, PartialObjectMeta};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::lines;
use crate::api::conditions::Reason;
use crate::api::names::{ANNOTATION_GRANT_UID, RESERVED_PREFIX};
use crate::api::v1alpha1::AccessGrant;
use crate::controller::apply::{Result, call, is_held};
use crate::controller::{Cache, Settings};
use crate::domain::conditions;
use crate::domain::names::is_of_grant;
use crate::domain::text::escape;
use crate::plan::Child;

/// What is left, as `Kind namespace/name`, each sorted.
#[derive(Debug, Default)]
pub(super) struct Left {
    /// Objects that our finalizer holds.
    pub(super) held: Vec<String>,
    /// What may still give access.
    open: Vec<String>,
    /// What gives none, and is out of reach or nobody's: it is told, and holds nothing up.
    residue: Vec<String>,
}

/// Grants that have access, as the caches have it.
fn open_grants(cache: &Cache) -> Vec<String> {
    let has_access = |grant: &AccessGrant| {
        let status = grant.status.as_ref();
        status.is_some_and(|status| status.identity.is_some() || !status.children.is_empty())
    };
    let grants = cache.grants.state();
    let open = grants.iter().filter(|grant| match &grant.0 {
        Ok(grant) => has_access(grant),
        // Of one that can't be read no delivery is known; its owner reference is the end of that.
        Err(_) => {
            let uid = grant.uid().unwrap_or_default();
            !cache.index.of_grant(&uid, &[], |_, _| false).is_empty()
        }
    });
    open.map(|grant| place(grant.as_ref())).collect()
}

/// What our finalizer holds, as the caches have it.
pub(super) fn held(cache: &Cache) -> Vec<String> {
    let grants = cache.grants.state();
    let grants = grants
        .iter()
        .filter(|grant| is_held(grant.finalizers()))
        .map(|grant| format!("AccessGrant {}", place(grant.as_ref())));
    let enrolments = cache.enrolments.all().into_iter().filter(|it| it.is_held());
    let enrolments = enrolments.map(|it| format!("RoleBinding {}/{}", it.namespace, it.name));
    grants.chain(enrolments).collect()
}

impl Left {
    /// How much there is to wait for, as the caches have it.
    pub(super) fn in_cache(cache: &Cache, settings: &Settings) -> usize {
        let known: std::collections::HashSet<String> =
            cache.grants.state().iter().filter_map(|grant| grant.uid()).collect();
        let orphans = cache.index.orphans(|uid| known.contains(uid));
        let in_reach = |child: &&Child| cache.is_within_reach(settings, &child.namespace);
        let orphans = orphans.values().flatten().filter(in_reach);
        held(cache).len() + open_grants(cache).len() + orphans.count()
    }

    /// What the API server says that there is.
    pub(super) async fn of(client: &Client, cache: &Cache, settings: &Settings) -> Result<Self> {
        let mut left = Self::default();
        let all = || client.clone();
        for grant in list::<AccessGrant>(Api::all(all()), cache).await? {
            left.note_held("AccessGrant", &grant);
        }
        for binding in list::<RoleBinding>(Api::all(all()), cache).await? {
            left.note_held("RoleBinding", &binding);
            left.note_child("RoleBinding", &binding, cache, settings);
        }
        for role in list::<Role>(Api::all(all()), cache).await? {
            left.note_child("Role", &role, cache, settings);
        }
        let identities = &settings.identities;
        for account in list::<ServiceAccount>(Api::namespaced(all(), identities), cache).await? {
            left.note_child("ServiceAccount", &account, cache, settings);
        }
        for secret in list::<Secret>(Api::namespaced(all(), identities), cache).await? {
            left.note_child("Secret", &secret, cache, settings);
        }
        for all in [&mut left.held, &mut left.open, &mut left.residue] {
            all.sort();
        }
        Ok(left)
    }

    fn note_held(&mut self, kind: &str, object: &impl ResourceExt) {
        if is_held(object.finalizers()) {
            self.held.push(format!("{kind} {}", place(object)));
        }
    }

    /// What can be told to be ours, where it can be taken away, is not closed yet.
    fn note_child(&mut self, kind: &str, object: &impl ResourceExt, cache: &Cache, settings: &Settings) {
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        if !name.starts_with(RESERVED_PREFIX) {
            return;
        }
        let uid = object.annotations().get(ANNOTATION_GRANT_UID);
        let is_ours = uid.is_some_and(|uid| is_of_grant(&name, uid));
        let into = if is_ours && cache.is_within_reach(settings, &namespace) {
            &mut self.open
        } else {
            &mut self.residue
        };
        into.push(format!("{kind} {namespace}/{name}"));
    }

    /// What grants say that could not be closed.
    pub(super) fn why(cache: &Cache) -> Vec<String> {
        let grants = cache.grants.state();
        let failed = grants.iter().filter_map(|grant| {
            let grant = grant.0.as_ref().ok()?;
            let active = conditions::active(grant)?;
            let is_failed = active.reason == Reason::RevocationFailed.as_str();
            is_failed.then(|| format!("{}: {}", place(grant), escape(&active.message)))
        });
        failed.collect()
    }

    /// Nothing holds anything up, and nothing gives access.
    pub(super) fn is_nothing(&self) -> bool {
        self.count() == 0
    }

    pub(super) fn count(&self) -> usize {
        self.held.len() + self.open.len()
    }

    pub(super) fn tell(&self, out: &mut impl Write) -> std::io::Result<()> {
        lines(out, "still held by our finalizer:", &self.held)?;
        lines(out, "still there, and may give access:", &self.open)?;
        let heading = "left where the operator has no rights, or not known to be ours; of no use without an identity:";
        lines(out, heading, &self.residue)
    }
}

fn place(object: &impl ResourceExt) -> String {
    format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any())
}

/// Lists metadata alone. A kind that is gone has no objects, nor has a namespace that is.
async fn list<K>(api: Api<PartialObjectMeta<K>>, cache: &Cache) -> Result<Vec<PartialObjectMeta<K>>>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let what = format!("listing {}", K::plural(&()));
    match call(what, api.list(&ListParams::default())).await {
        Ok(list) => Ok(list.items),
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        Err(error) if error.is_forbidden() && cache.are_identities_gone() && is_of_identities::<K>() => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Kinds that are looked for among the identities alone.
fn is_of_identities<K: Resource<DynamicType = ()>>() -> bool {
    ["serviceaccounts", "secrets"].contains(&K::plural(&()).as_ref())
}
