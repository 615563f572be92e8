//! Which namespaces let the operator in: the RoleBindings that name it.

use std::collections::HashMap;
use std::sync::Mutex;

use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::ResourceExt as _;

use super::apply::is_held;
use super::{Settings, lock};

/// A RoleBinding that gives the operator a ClusterRole in a namespace, or did; whether it enrols depends on that ClusterRole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Enrolment {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) resource_version: String,
    pub(crate) cluster_role: String,
    /// It is being deleted, and still gives what it gives.
    pub(crate) is_ending: bool,
    /// Our finalizer is on it, and it doesn't name the operator any more.
    pub(crate) is_former: bool,
    pub(crate) finalizers: Vec<String>,
}

impl Enrolment {
    /// Reads a binding; none where it doesn't give the operator a ClusterRole.
    pub(crate) fn of(binding: &RoleBinding, settings: &Settings) -> Option<Self> {
        let is_ours = binding.subjects.iter().flatten().any(|subject| {
            subject.kind == "ServiceAccount"
                && subject.name == settings.service_account
                && subject.namespace.as_deref() == Some(settings.namespace.as_str())
        });
        let namespace = binding.namespace()?;
        // The operator's own bindings in these namespaces are the installation's.
        let is_installed = namespace == settings.namespace || namespace == settings.identities;
        let is_told = is_ours || is_held(binding.finalizers());
        (is_told && !is_installed && binding.role_ref.kind == "ClusterRole").then(|| Self {
            namespace,
            name: binding.name_any(),
            resource_version: binding.resource_version().unwrap_or_default(),
            cluster_role: binding.role_ref.name.clone(),
            is_ending: binding.metadata.deletion_timestamp.is_some(),
            is_former: !is_ours,
            finalizers: binding.finalizers().to_vec(),
        })
    }

    /// Our finalizer is on it.
    pub(crate) fn is_held(&self) -> bool {
        is_held(&self.finalizers)
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Enrolments(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    current: HashMap<String, HashMap<String, Enrolment>>,
    /// Filled by a new listing, until it is complete.
    listing: Option<HashMap<String, HashMap<String, Enrolment>>>,
}

impl Enrolments {
    pub(crate) fn begin(&self) {
        lock(&self.0).listing = Some(HashMap::new());
    }

    pub(crate) fn listed(&self, enrolment: Enrolment) {
        if let Some(listing) = &mut lock(&self.0).listing {
            let of_namespace = listing.entry(enrolment.namespace.clone()).or_default();
            of_namespace.insert(enrolment.name.clone(), enrolment);
        }
    }

    pub(crate) fn complete(&self) {
        let mut inner = lock(&self.0);
        if let Some(listing) = inner.listing.take() {
            inner.current = listing;
        }
    }

    /// Takes in a change of a binding; says whether an enrolment changed by it.
    pub(crate) fn put(&self, namespace: &str, name: &str, now: Option<Enrolment>) -> bool {
        let mut inner = lock(&self.0);
        let before = match &now {
            Some(enrolment) => {
                let of_namespace = inner.current.entry(namespace.to_owned()).or_default();
                of_namespace.insert(name.to_owned(), enrolment.clone())
            }
            None => inner.current.get_mut(namespace).and_then(|all| all.remove(name)),
        };
        before != now
    }

    /// The enrolments of a namespace that name the operator, sorted by name.
    pub(crate) fn of(&self, namespace: &str) -> Vec<Enrolment> {
        let inner = lock(&self.0);
        let mut found: Vec<Enrolment> = inner
            .current
            .get(namespace)
            .into_iter()
            .flat_map(HashMap::values)
            .filter(|enrolment| !enrolment.is_former)
            .cloned()
            .collect();
        found.sort_by(|one, other| one.name.cmp(&other.name));
        found
    }

    /// Every enrolment, former ones too, sorted.
    pub(crate) fn all(&self) -> Vec<Enrolment> {
        let inner = lock(&self.0);
        let mut found: Vec<Enrolment> = inner.current.values().flat_map(HashMap::values).cloned().collect();
        found.sort_by(|one, other| (&one.namespace, &one.name).cmp(&(&other.namespace, &other.name)));
        found
    }
}
