//! What several kinds share: references, rules, classification, conditions.

use k8s_openapi::api::rbac::v1::PolicyRule;
use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::{ApiGroup, Name, RoleName, RuleName, RuleResource, Verb};

/// RBAC compares a name only where the request has one. That to delete a collection never has, and that to create has it
/// in its path only where an apply (patch) or an update makes the object, or where a subresource is what is created.
const NAMED: &str = "!has(self.resourceNames) || self.resourceNames.size() == 0 || \
    (!('deletecollection' in self.verbs) && (!('create' in self.verbs) || 'patch' in self.verbs || 'update' in self.verbs || \
    self.resources.all(resource, resource.contains('/'))))";

/// A reference to an object by name; where the kind is namespaced, in the same namespace, always.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocalRef {
    /// Name of the object referred to: a DNS label of at most 63 characters.
    pub name: Name,
}

/// How sensitive the data within reach is. Ordered: a higher class is more sensitive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum DataClassification {
    /// Meant for everybody.
    Public,
    /// Meant for the organisation.
    Internal,
    /// Harmful when it leaks.
    Confidential,
    /// Gravely harmful when it leaks.
    Restricted,
}

impl DataClassification {
    /// The word that stands for it in objects and labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Public => "Public",
            Self::Internal => "Internal",
            Self::Confidential => "Confidential",
            Self::Restricted => "Restricted",
        }
    }

    /// Reads a label's value; a word that is not a class counts as the most sensitive one.
    #[must_use]
    pub fn from_label(value: &str) -> Self {
        match value {
            "Public" => Self::Public,
            "Internal" => Self::Internal,
            "Confidential" => Self::Confidential,
            _ => Self::Restricted,
        }
    }
}

/// Whether an integration serves production.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Environment {
    /// It does.
    Production,
    /// It does not.
    NonProduction,
}

/// A rule in RBAC's sense, without wildcards and without non-resource URLs.
// Its lists are sets so that nothing is in them twice: a rule in CEL would cost too much here. Nothing is ever merged, since
// the lists that hold rules are atomic.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(NAMED).message("resourceNames can't be combined with deletecollection, nor with create unless patch or update is beside it (kubectl apply --server-side then creates) or only subresources are meant: RBAC allows no request that has no name to compare"))]
pub struct Rule {
    /// API groups by name, 1 to 16; `""` is the core group. No wildcards.
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub api_groups: Vec<ApiGroup>,
    /// Resources by plural name, or `resource/subresource`, 1 to 16. No wildcards.
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub resources: Vec<RuleResource>,
    /// Verbs by name, such as get or list, 1 to 16. No wildcards.
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub verbs: Vec<Verb>,
    /// Only objects of these names, at most 32; all when left out. No wildcards.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub resource_names: Vec<RuleName>,
}

impl Rule {
    /// The same as Kubernetes' own type.
    #[must_use]
    pub fn to_policy_rule(&self) -> PolicyRule {
        fn words<T: AsRef<str>>(items: &[T]) -> Vec<String> {
            items.iter().map(|item| item.as_ref().to_owned()).collect()
        }
        PolicyRule {
            api_groups: Some(words(&self.api_groups)),
            resources: Some(words(&self.resources)),
            verbs: words(&self.verbs),
            resource_names: (!self.resource_names.is_empty()).then(|| words(&self.resource_names)),
            non_resource_urls: None,
        }
    }
}

/// A reference to a ClusterRole.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterRoleRef {
    /// Name of the ClusterRole.
    pub name: RoleName,
}

/// Labels that must all be there with these values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct LabelMatch {
    /// Labels with their values, at most 16, that must all be there; `{}` matches every object. Required, so that a selector with a misspelt field doesn't match everything.
    #[schemars(schema_with = "labels")]
    pub match_labels: std::collections::BTreeMap<String, String>,
}

/// Written out, since the derive has no way to bound a map and the values in it.
fn labels(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object", "maxProperties": 16,
        "additionalProperties": {
            "type": "string", "maxLength": 63,
            "x-kubernetes-validations": [{
                "rule": "self.matches('^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$')",
                "message": "must be the value of a label: letters, digits, '-', '_' and '.', beginning and ending with a letter or digit, at most 63 characters",
            }],
        },
        "x-kubernetes-validations": [{
            "rule": "self.all(k, k.size() <= 317 && k.matches('^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$'))",
            "message": "must be labels by name, such as team or corp.example/team, at most 317 characters",
        }],
    })
}

impl LabelMatch {
    /// Whether `labels` has every label asked for.
    #[must_use]
    pub fn matches(&self, labels: &std::collections::BTreeMap<String, String>) -> bool {
        self.match_labels
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value))
    }
}

/// The conditions of a status, by type. Written out, since Kubernetes' own type leaves its bounds to comments.
pub(super) fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array", "maxItems": 16, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object", "description": "One thing that can be said of the object.",
            "required": ["type", "status", "lastTransitionTime", "reason", "message"],
            "properties": {
                "type": {"type": "string", "maxLength": 316, "description": "What is said, such as Ready."},
                "status": {"type": "string", "enum": ["True", "False", "Unknown"], "description": "Whether it holds: True, False or Unknown."},
                "observedGeneration": {"type": "integer", "format": "int64", "minimum": 0, "description": "The metadata.generation that this speaks of."},
                "lastTransitionTime": {"type": "string", "format": "date-time", "description": "When status last changed."},
                "reason": {"type": "string", "minLength": 1, "maxLength": 1024, "description": "Why, as a stable word."},
                "message": {"type": "string", "maxLength": 32768, "description": "Why, in words, with the remedy where there is one."},
            },
        },
    })
}

/// A map of a status from words to words, both bounded.
pub(super) fn words(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object", "maxProperties": 32, "additionalProperties": {"type": "string", "maxLength": 128},
    })
}
