//! The API: the kinds of group `wayleave.dev`, their schema and the words of their conditions. No behaviour, no I/O.

pub mod conditions;
pub mod names;
pub mod v1alpha1;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

/// The API group of every kind here.
pub const GROUP: &str = "wayleave.dev";
/// The one served and stored version.
pub const VERSION: &str = "v1alpha1";

/// Every CustomResourceDefinition, sorted by name: what `crds/` holds and `/ready` asks for.
#[must_use]
pub fn all_crds() -> Vec<CustomResourceDefinition> {
    vec![
        v1alpha1::AccessDecision::crd(),
        v1alpha1::AccessGrant::crd(),
        v1alpha1::AccessOwner::crd(),
        v1alpha1::AccessPolicy::crd(),
        v1alpha1::AccessRecord::crd(),
        v1alpha1::PartnerIntegration::crd(),
    ]
}
