//! `AccessDecision`: an Approve, Deny, Revoke or Review, as evidence.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Digest, Instant, Line, Name, Principal, Uid, common::conditions, scalar::is_after};

/// A decision about one grant or one integration; immutable.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "wayleave.dev",
    version = "v1alpha1",
    kind = "AccessDecision",
    namespaced,
    status = "AccessDecisionStatus",
    shortname = "wld",
    category = "wayleave",
    doc = "A decision about one AccessGrant (Approve, Deny, Revoke) or one PartnerIntegration (Deny, Revoke, Review), pinned to its UID and, where it approves, to the digest of what was approved. Immutable.",
    selectable = ".spec.subject.kind",
    selectable = ".spec.subject.name",
    selectable = ".spec.decision",
    printcolumn(name = "Decision", type_ = "string", json_path = ".spec.decision"),
    printcolumn(name = "Kind", type_ = "string", json_path = ".spec.subject.kind"),
    printcolumn(name = "Subject", type_ = "string", json_path = ".spec.subject.name"),
    printcolumn(name = "Counted", type_ = "string", json_path = ".status.conditions[?(@.type==\"Counted\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Counted\")].reason"),
    printcolumn(name = "By", type_ = "string", json_path = ".spec.decidedBy"),
    printcolumn(name = "Until", type_ = "string", json_path = ".spec.validUntil"),
    printcolumn(name = "Words", type_ = "string", json_path = ".spec.reason", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 63 && !self.metadata.name.contains('.')").message("metadata.name must be a DNS label of at most 63 characters"),
    validation = Rule::new("self.spec == oldSelf.spec").message("a decision can't be changed: write another one")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.decision != 'Approve' || self.subject.kind == 'AccessGrant'").message("decision: Approve is of an AccessGrant; of a PartnerIntegration: Deny, Revoke or Review"))]
#[x_kube(validation = Rule::new("self.decision != 'Review' || self.subject.kind == 'PartnerIntegration'").message("decision: Review is of a PartnerIntegration; of an AccessGrant: Approve, Deny or Revoke"))]
#[x_kube(validation = Rule::new("self.decision != 'Approve' || has(self.digest)").message("digest must be set to Approve: it says what was approved (status.digest of the grant)"))]
#[x_kube(validation = Rule::new("self.decision != 'Approve' || has(self.subject.uid)").message("subject.uid must be set to Approve: a re-created grant of the same name is another one"))]
#[x_kube(validation = Rule::new("self.decision == 'Review' || !has(self.grants)").message("grants is for a Review only"))]
#[x_kube(validation = Rule::new("self.decision != 'Review' || has(self.grants)").message("grants must be set to Review: it renews those that it names, and no other"))]
#[x_kube(validation = Rule::new("!has(self.validUntil) || self.decision in ['Approve', 'Review']").message("validUntil is for an Approve or a Review: a Deny or Revoke holds until an Approve is made after it"))]
#[x_kube(validation = is_after("validUntil", "decidedAt"))]
pub struct AccessDecisionSpec {
    /// What is decided on: one AccessGrant or one PartnerIntegration of this namespace.
    pub subject: DecisionSubject,
    /// The decision. Approve: yes to exactly what the digest covers. Deny: no. Revoke: takes away what was given. Review (of a PartnerIntegration): renews the approvals of the grants listed. Deny and Revoke hold until an Approve is made after them.
    pub decision: Decision,
    /// What the decider saw: `sha256:` and 64 hexadecimal digits, the grant's status.digest or that of a proposed change. Required to Approve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// Of a Review, and required there: the grants that it renews, each as the reviewer saw it, 1 to 64. What was never approved isn't approved by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = Rule::new("self.all(one, self.exists_one(other, one.name == other.name))").message("grants must name each AccessGrant once"))]
    pub grants: Option<Vec<ReviewedGrant>>,
    /// Every namespace that the grant reaches beyond its own, at most 8, so that the API server can check the right to decide in each. An Approve that leaves one out doesn't count.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub target_namespaces: Vec<Name>,
    /// The user who decided, as `kubectl auth whoami` shows it: you. Stamped when left out on Kubernetes 1.36 and newer; checked everywhere. A delegate, such as a GitOps controller, states who decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_by: Option<Principal>,
    /// Groups of the decider by which a policy may count the approval, at most 32; only groups that the decider is in. Stamped like decidedBy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub decided_by_groups: Vec<Principal>,
    /// The authenticated user who wrote this object: always the writer, so that a delegate's word is known as one. Stamped like decidedBy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submitted_by: Option<Principal>,
    /// When it was decided, RFC 3339; required of delegates. Of others the object's creation counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_at: Option<Instant>,
    /// Until when an Approve is good, RFC 3339. When left out, and at most, until the integration's review interval and its grace have passed since the decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<Instant>,
    /// Why, in a sentence of at most 256 characters; kept as evidence.
    pub reason: Line,
}

/// What a decision is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DecisionSubject {
    /// Its kind: AccessGrant, one grant; or PartnerIntegration, an integration with all its grants.
    pub kind: SubjectKind,
    /// Its name, in the decision's namespace.
    pub name: Name,
    /// Its metadata.uid; required to Approve, so that a re-created grant starts anew. Deny and Revoke hold for the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<Uid>,
}

/// Kinds that can be decided on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum SubjectKind {
    /// One grant.
    AccessGrant,
    /// One integration and all its grants.
    PartnerIntegration,
}

/// Decisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Decision {
    /// Says yes to what the digest covers.
    Approve,
    /// Says no.
    Deny,
    /// Takes away what was given.
    Revoke,
    /// Renews the approvals of the grants listed.
    Review,
}

/// A grant as a reviewer saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReviewedGrant {
    /// Its name.
    pub name: Name,
    /// Its metadata.uid.
    pub uid: Uid,
    /// Its status.digest, as approved before.
    pub digest: Digest,
}

/// Whether a decision counts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessDecisionStatus {
    /// Counted: True while the decision counts; else why it doesn't.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
}
