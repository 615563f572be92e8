//! `AccessPolicy`: what grants may be.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    CredentialType, DataClassification, Environment, LabelMatch, Period, Principal, RoleName, Rule as AccessRule,
    scalar::is_distinct,
};

/// What grants may be in the namespaces that it selects.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "wayleave.dev",
    version = "v1alpha1",
    kind = "AccessPolicy",
    shortname = "wlpol",
    category = "wayleave",
    doc = "What AccessGrants may be, in the namespaces and for the data classifications that it selects. A grant that no policy permits is refused. Whoever writes one must hold the authority that it hands on.",
    printcolumn(name = "Classifications", type_ = "string", json_path = ".spec.dataClassifications"),
    printcolumn(name = "Roles", type_ = "string", json_path = ".spec.access.clusterRoles"),
    printcolumn(name = "Duration", type_ = "string", json_path = ".spec.limits.duration"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 63 && !self.metadata.name.contains('.')").message("metadata.name must be a DNS label of at most 63 characters")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.staticCredentials) == ('Static' in self.credentials)").message("staticCredentials, the compensating controls, must be set where credentials has Static, and nowhere else"))]
pub struct AccessPolicySpec {
    /// The namespaces whose grants it is for, by label.
    pub namespace_selector: LabelMatch,
    /// The data classifications that it is for: Public, Internal, Confidential, Restricted. What counts is the highest of the integration's and the namespaces' own.
    #[schemars(length(min = 1, max = 4))]
    #[x_kube(validation = is_distinct("dataClassifications"))]
    pub data_classifications: Vec<DataClassification>,
    /// The environments that it is for: Production, NonProduction.
    #[schemars(length(min = 1, max = 2))]
    #[x_kube(validation = is_distinct("environments"))]
    pub environments: Vec<Environment>,
    /// Bounds in time and number; what is left out isn't limited. Of all policies that select a grant the strictest limit counts.
    pub limits: PolicyLimits,
    /// A ceiling on what may be granted: at least one of rules and clusterRoles.
    pub access: PolicyAccess,
    /// Kinds of credential that may be used: Token, Static. Of all policies that select a grant each must list its kind.
    #[schemars(length(min = 1, max = 8))]
    #[x_kube(validation = is_distinct("credentials"))]
    pub credentials: Vec<CredentialType>,
    /// By what a static credential, which never ends by itself and is never rotated, is compensated: required where credentials has Static. limits.credentialLifetime and limits.hardExpiry are for tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub static_credentials: Option<StaticControls>,
    /// What a grant must show. Of all policies that select a grant the strictest requirement counts.
    pub requires: PolicyRequirements,
    /// Is to end what nobody uses. Kept for later: use is not watched yet, and nothing ends by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle: Option<IdleLimit>,
    /// True: no approval is needed, for reading verbs, and in namespaces whose own label says Public or Internal. False when left out.
    #[serde(default)]
    pub self_service: bool,
}

/// Bounds in time and number.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyLimits {
    /// From a grant's startsAt (its creation, where none is given) to its expiresAt, at most: in days, hours and minutes, such as 90d or 1d12h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<Period>,
    /// The life of one credential, at most, such as 1h: at least 15m, the shortest life of a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("!self.matches('^([1-9]|1[0-4])m$')").message("credentialLifetime must be at least 15m, the shortest life of a token"))]
    pub credential_lifetime: Option<Period>,
    /// The integration's review interval, at most, such as 90d.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub review_interval: Option<Period>,
    /// How many grants of one integration may be active at a time, 1 to 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub active_grants_per_integration: Option<i32>,
    /// Whether a credential must end by itself before the grant does, so that access ends even while the operator is down. Required (when left out): a grant too short for that is refused. Preferred: it is ended by the operator alone, and its status says so.
    #[serde(default)]
    pub hard_expiry: HardExpiry,
}

/// By what a static credential is compensated. Its reason must always be stated, and self-service is never enough.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct StaticControls {
    /// From a grant's startsAt (its creation, where none is given) to its expiresAt, at most: in days, hours and minutes, such as 180d. limits.duration counts too.
    pub duration: Period,
    /// The integration's review interval, at most, such as 30d. limits.reviewInterval counts too.
    pub review_interval: Period,
    /// The integration must name the addresses that the partner calls from. True when left out.
    #[serde(default = "yes")]
    pub allowed_sources: bool,
    /// The grant must name what replaces the static credential. True when left out.
    #[serde(default = "yes")]
    pub replacement: bool,
}

/// Whether a credential must end by itself before the grant does, so that access ends even while the operator is down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum HardExpiry {
    /// A grant too short for that is refused.
    #[default]
    Required,
    /// A grant too short for that is ended by the operator alone, and its status says so.
    Preferred,
}

/// A ceiling on what may be granted, read as RBAC reads rules.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.rules) && self.rules.size() > 0) || (has(self.clusterRoles) && self.clusterRoles.size() > 0)").message("access: at least one of rules and clusterRoles must be set"))]
pub struct PolicyAccess {
    /// ClusterRoles that may be granted by name, at most 16. Whoever writes the policy must hold `bind` on each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = is_distinct("clusterRoles"))]
    pub cluster_roles: Vec<RoleName>,
    /// Rules that may be granted, or less than them, at most 32. Whoever writes the policy must hold `escalate` on roles.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub rules: Vec<AccessRule>,
    /// Namespaces beyond the grant's own that it may reach, by label; none when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_namespaces: Option<LabelMatch>,
    /// True permits requests that outlive a revocation while they are open: watch, exec, attach, port-forward, proxy, following logs. False when left out.
    #[serde(default)]
    pub long_running: bool,
    /// What happens when a ClusterRole grows past what was approved. End (when left out): the grant ends. Report: it is reported.
    #[serde(default)]
    pub on_role_growth: OnRoleGrowth,
    /// What happens where the identity has rights beside its grant, by bindings of others: Report (when left out), or Refuse to
    /// issue; what is live is kept.
    #[serde(default)]
    pub on_other_rights: OnOtherRights,
}

/// What happens when a ClusterRole grows past what was approved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum OnRoleGrowth {
    /// The grant ends.
    #[default]
    End,
    /// It is reported.
    Report,
}

/// What happens where an identity has rights beside its grant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum OnOtherRights {
    /// They are reported.
    #[default]
    Report,
    /// Nothing is issued.
    Refuse,
}

/// What a grant must show.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyRequirements {
    /// Lines, 1 to 8, all to be met by approvals, of at most 16 people in all; nobody counts twice, not in two lines either. One approval of anybody who may approve when left out.
    #[serde(default = "one_approval")]
    #[schemars(length(min = 1, max = 8))]
    #[x_kube(validation = Rule::new("self.map(line, line.count).sum() <= 16").message("the lines of approvals must ask for at most 16 people in all: nobody counts in two of them"))]
    pub approvals: Vec<ApprovalRequirement>,
    /// Whether approvals count of what a GitOps writer says somebody else requested: Forbid (when left out) or Allow.
    #[serde(default)]
    pub delegated_requests: DelegatedRequests,
    /// True: the grant must name a ticket. False when left out.
    #[serde(default)]
    pub ticket: bool,
    /// True: the integration's agreement must have an end. False when left out.
    #[serde(default)]
    pub agreement: bool,
    /// True: the integration must name the addresses that the partner calls from. False when left out.
    #[serde(default)]
    pub allowed_sources: bool,
}

/// So many approvals, from members of one of these groups.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApprovalRequirement {
    /// How many distinct people, 1 to 8.
    #[schemars(range(min = 1, max = 8))]
    pub count: i32,
    /// Of which groups, at most 16; anybody who may approve when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub groups: Vec<Principal>,
}

/// Whether approvals count of what a GitOps writer says somebody else requested.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum DelegatedRequests {
    /// They don't.
    #[default]
    Forbid,
    /// They do.
    Allow,
}

/// Ends what nobody uses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IdleLimit {
    /// Unused for this long, access is to end: in days, hours and minutes, such as 30d. Not watched yet.
    pub revoke_after: Period,
}

const fn yes() -> bool {
    true
}

fn one_approval() -> Vec<ApprovalRequirement> {
    vec![ApprovalRequirement {
        count: 1,
        groups: Vec::new(),
    }]
}
