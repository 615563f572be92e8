//! What the operator observed of an AccessGrant, and what it must not forget between two runs.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Instant,
    common::{conditions, words},
};

/// The longest word of a ClusterRole that a status holds; nothing bounds those in the ClusterRole.
pub const LONGEST_WORD: usize = 1_024;
/// The longest request for a rotation that a status holds; the annotation itself can be long.
pub const MOST_ASKED: usize = 256;
/// The longest `jti` that a status holds; the API server's own has 36 characters.
pub const LONGEST_CREDENTIAL_ID: usize = 128;
/// As many of the people who had a hand in it as a status names: a grant and its integration name 42 at a time.
pub const MOST_INVOLVED: usize = 64;
/// As many policies as a status names.
pub const MOST_POLICIES: usize = 64;

/// What the operator observed, decided and made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessGrantStatus {
    /// The generation that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Active, Approved; Reconciling and Stalled only while true.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
    /// SHA-256 of exactly what is to be approved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71))]
    pub digest: Option<String>,
    /// The hashes that the digest is made of, by name of the section.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "words")]
    pub digest_sections: BTreeMap<String, String>,
    /// Since when this digest has been the current one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest_since: Option<Instant>,
    /// Digests that were current once; approvals of them from before their replacement are dead.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub replaced_digests: Vec<ReplacedDigest>,
    /// Replaced digests from before this instant are forgotten, and no approval from before it counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced_before: Option<Instant>,
    /// The approvals that count, with their dates frozen when first counted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub approvals: Vec<CountedApproval>,
    /// Approvals of the current digest from before this instant, and of it, count only as they are kept above: one that stopped to count is
    /// forgotten for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approvals_forgotten: Option<Instant>,
    /// The latest Deny; only approvals made after it count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub denied_at: Option<Instant>,
    /// The latest Revoke; only approvals made after it count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Instant>,
    /// When an owner was last found removed; only approvals made after it count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_removed_at: Option<Instant>,
    /// When access that was in use ended for want of an owner; under self-service, too, only an approval made after it brings it back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_without_owner_at: Option<Instant>,
    /// User names of whoever asked for it, or had a hand in it or its integration, and was ever seen there: none of them can approve.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MOST_INVOLVED), inner(length(max = 253)))]
    pub involved: Vec<String>,
    /// UIDs of AccessOwners whose `until` was seen to have passed: they count no more, whatever it says later.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 36)))]
    pub departed_owners: Vec<String>,
    /// The ServiceAccount of a static credential, as it was first seen under this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub static_account: Option<StaticAccount>,
    /// When another ServiceAccount was found under that name; only approvals made after it count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_replaced_at: Option<Instant>,
    /// The policies under which the grant is permitted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MOST_POLICIES), inner(length(max = 63)))]
    pub policies: Vec<String>,
    /// What the ClusterRoles held when they were approved.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub resolved_rules: Vec<ResolvedClusterRole>,
    /// The identity in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
    /// How often the grant has been activated; names carry it and are never reused.
    #[serde(default)]
    pub activations: i64,
    /// After somebody altered what was made: not activated again before this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Instant>,
    /// The objects that make up the access, by name and UID.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 160))]
    pub children: Vec<ChildRef>,
    /// The credential in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<CredentialStatus>,
    /// The last request for rotation that was answered: the annotation's value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MOST_ASKED))]
    pub last_handled_rotate_at: Option<String>,
    /// When the approvals that the access rests on are to be reviewed (after the integration's grace they lapse), or the date that an approval set itself: then endsBecause is ApprovalEnded, and only a new approval helps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_review_at: Option<Instant>,
    /// The earliest known end of the access.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_until: Option<Instant>,
    /// Which end that is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub ends_because: Option<String>,
    /// For tables: partner, owners, approver, policies and subject in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<Summary>,
}

/// A digest that was current until `at`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplacedDigest {
    /// The digest.
    #[schemars(length(max = 71))]
    pub digest: String,
    /// When another took its place.
    pub at: Instant,
    /// The sections in which the one that took its place differs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 64)))]
    pub changed: Vec<String>,
}

/// An approval that counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CountedApproval {
    /// Name of the AccessDecision.
    #[schemars(length(max = 253))]
    pub decision_ref: String,
    /// Its UID.
    #[schemars(length(max = 64))]
    pub uid: String,
    /// Who approved.
    #[schemars(length(max = 253))]
    pub by: String,
    /// As a member of which groups.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 253)))]
    pub groups: Vec<String>,
    /// When.
    pub at: Instant,
    /// Until when it is good; later edits can only shorten it.
    pub valid_until: Instant,
    /// What was approved.
    #[schemars(length(max = 71))]
    pub digest: String,
    /// Of the rules that its ClusterRoles held when it was first counted: what they come to hold beyond that it doesn't cover. Empty
    /// where the grant refers to none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 71))]
    pub roles_digest: String,
    /// UIDs of the owners of that day.
    #[serde(rename = "ownerUIDs")]
    #[schemars(length(max = 2), inner(length(max = 64)))]
    pub owner_uids: Vec<String>,
    /// When its next review is due, at the latest the date that it set itself; later edits can only shorten it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub review_due: Option<Instant>,
    /// The Reviews that renewed it, the latest 8 by time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub renewed_by: Vec<Renewal>,
    /// Of an approval that was renewed: the dates that it has without any Review.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unrenewed: Option<Term>,
    /// Reviews made at this instant or before it are forgotten, and renew nothing any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reviews_forgotten: Option<Instant>,
}

/// A Review that renewed an approval, with the dates that it gave it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Renewal {
    /// Name of the AccessDecision.
    #[schemars(length(max = 253))]
    pub decision_ref: String,
    /// Its UID.
    #[schemars(length(max = 64))]
    pub uid: String,
    /// Who reviewed.
    #[schemars(length(max = 253))]
    pub by: String,
    /// When.
    pub at: Instant,
    /// Until when the approval is good by it, and when its next review is due.
    #[serde(flatten)]
    pub term: Term,
}

/// How long an approval is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Term {
    /// When its next review is due.
    pub review_due: Instant,
    /// Until when it is good: the grace after that, or an earlier end that was set.
    pub valid_until: Instant,
}

/// A ClusterRole's rules on the day of approval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResolvedClusterRole {
    /// Name of the ClusterRole.
    #[schemars(length(max = 253))]
    pub cluster_role: String,
    /// Its rules, normalised.
    #[schemars(length(max = 128))]
    pub rules: Vec<ResolvedRule>,
}

/// A rule as a ClusterRole holds it, wildcards and all, in sorted order.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResolvedRule {
    /// API groups.
    #[schemars(length(max = 64), inner(length(max = LONGEST_WORD)))]
    pub api_groups: Vec<String>,
    /// Resources.
    #[schemars(length(max = 128), inner(length(max = LONGEST_WORD)))]
    pub resources: Vec<String>,
    /// Verbs.
    #[schemars(length(max = 64), inner(length(max = LONGEST_WORD)))]
    pub verbs: Vec<String>,
    /// Names of objects; empty means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128), inner(length(max = LONGEST_WORD)))]
    pub resource_names: Vec<String>,
}

/// The partner's identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// Namespace of the ServiceAccount.
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// Name of the ServiceAccount.
    #[schemars(length(max = 253))]
    pub service_account: String,
    /// Which activation of the grant this is.
    pub activation: i64,
    /// What was approved when it was activated.
    #[schemars(length(max = 71))]
    pub digest: String,
    /// The AccessOwners of that day, by UID: with one of them it ends.
    #[serde(default, rename = "ownerUIDs", skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2), inner(length(max = 64)))]
    pub owner_uids: Vec<String>,
    /// When the activation was claimed.
    pub claimed_at: Instant,
    /// When everything of it was in place; absent while it is being made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activated_at: Option<Instant>,
}

/// A ServiceAccount that somebody made by hand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StaticAccount {
    /// Its name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Its UID.
    #[schemars(length(max = 64))]
    pub uid: String,
}

/// An object made for a grant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChildRef {
    /// Its kind.
    pub kind: ChildKind,
    /// Its namespace.
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// Its name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Its UID.
    #[schemars(length(max = 64))]
    pub uid: String,
}

/// Kinds of objects made for a grant, in the order in which they are taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ChildKind {
    /// Gives the access.
    RoleBinding,
    /// The Secret that one generation's token is bound to.
    Anchor,
    /// The identity.
    ServiceAccount,
    /// Rules written in the grant.
    Role,
    /// The Secret that the partner's credential is delivered in.
    DeliverySecret,
}

impl std::fmt::Display for ChildKind {
    /// The kind as the API server knows it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::RoleBinding => "RoleBinding",
            Self::Anchor | Self::DeliverySecret => "Secret",
            Self::ServiceAccount => "ServiceAccount",
            Self::Role => "Role",
        })
    }
}

/// The credential in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CredentialStatus {
    /// The newest generation that was claimed; each is issued at most once.
    pub generation: i64,
    /// The generation that the delivery Secret holds; 0 before the first, and of a static credential, which is not delivered.
    pub delivered_generation: i64,
    /// Namespace of the delivery Secret, or of the Secret of a static token.
    #[schemars(length(max = 63))]
    pub secret_namespace: String,
    /// Name of the delivery Secret.
    #[schemars(length(max = 253))]
    pub secret_name: String,
    /// When the delivered token was issued, by the API server's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issued_at: Option<Instant>,
    /// When the delivered token expires, as the API server said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Instant>,
    /// When it is due to be replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotates_at: Option<Instant>,
    /// The token's `jti`: not secret, and the key to audit events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = LONGEST_CREDENTIAL_ID))]
    pub credential_id: Option<String>,
    /// Hash of the credential's specification that it was issued by.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 128))]
    pub spec_hash: String,
    /// Whether the token ends by itself, with 70 seconds to spare, before `activeUntil`.
    pub hard_expiry: bool,
    /// The generation before, and until when its token worked or works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<PreviousCredential>,
}

/// The generation that was replaced last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PreviousCredential {
    /// Its number.
    pub generation: i64,
    /// When its token stops working, or did.
    pub retire_at: Instant,
}

/// Words for tables.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Summary {
    /// The partner's id.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 63))]
    pub partner: String,
    /// Both owners.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 256))]
    pub owners: String,
    /// Who approved.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 2048))]
    pub approved_by: String,
    /// Under which policies.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 2048))]
    pub policies: String,
    /// The identity as the API server knows it.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    pub subject: String,
}
