//! `PartnerIntegration`: the documented relationship with a partner.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Cidr, DataClassification, Email, Environment, HttpsUrl, Instant, Line, LocalRef, Name, Period, Principal,
    common::conditions, scalar::is_distinct,
};

/// A documented relationship with a partner: who, why, on which agreement, under whose ownership.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "wayleave.dev",
    version = "v1alpha1",
    kind = "PartnerIntegration",
    namespaced,
    status = "PartnerIntegrationStatus",
    shortname = "wlp",
    category = "wayleave",
    doc = "A documented relationship with a partner (vendor, SaaS connector, managed service provider, outside developer): who, why, on which agreement, owned by whom. AccessGrants hang on it.",
    selectable = ".spec.partner.id",
    selectable = ".spec.owners.businessRef.name",
    selectable = ".spec.owners.technicalRef.name",
    selectable = ".spec.dataClassification",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Partner", type_ = "string", json_path = ".spec.partner.id"),
    printcolumn(name = "Owners", type_ = "string", json_path = ".status.summary.owners"),
    printcolumn(name = "Grants", type_ = "string", json_path = ".status.summary.grants"),
    printcolumn(name = "Review", type_ = "string", json_path = ".status.nextReviewAt"),
    printcolumn(name = "Ends", type_ = "string", json_path = ".spec.agreement.endsAt"),
    printcolumn(name = "Class", type_ = "string", json_path = ".spec.dataClassification", priority = 1),
    printcolumn(name = "Agreement", type_ = "string", json_path = ".spec.agreement.reference", priority = 1),
    printcolumn(name = "Purpose", type_ = "string", json_path = ".spec.purpose", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 63 && !self.metadata.name.contains('.')").message("metadata.name must be a DNS label of at most 63 characters")
)]
#[serde(rename_all = "camelCase")]
pub struct PartnerIntegrationSpec {
    /// The partner: a vendor, SaaS connector, managed service provider or outside developer.
    pub partner: Partner,
    /// What the partner does here, in a sentence of at most 256 characters.
    pub purpose: Line,
    /// Who is accountable: two different AccessOwners. Where one is removed, all access ends.
    pub owners: Owners,
    /// The contract, order or ticket behind it.
    pub agreement: Agreement,
    /// How sensitive the data within reach is: Public, Internal, Confidential (harmful when it leaks) or Restricted (gravely harmful). A namespace's own label `wayleave.dev/classification` can only raise it.
    pub data_classification: DataClassification,
    /// Whether it serves production: Production or NonProduction.
    pub environment: Environment,
    /// Address blocks that the partner calls from, in CIDR notation such as 203.0.113.0/24, at most 32; a policy may require them. For the record and for reports: RBAC knows no addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(validation = is_distinct("allowedSources"))]
    pub allowed_sources: Vec<Cidr>,
    /// How often the integration is recertified.
    pub review: Review,
    /// The user who asks for it, as `kubectl auth whoami` shows it: you. Stamped when left out on Kubernetes 1.36 and newer; checked everywhere. Never counts as an approver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested_by: Option<Principal>,
    /// Everybody else who changed what an approval covers, at most 20. Leave it out of a new object; a delegate, who writes for somebody else, names itself there, and nobody else (on Kubernetes 1.36 and newer that is stamped when left out). None of them counts as an approver.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub contributors: Vec<Principal>,
    /// Ends the access of all its grants while true; false when left out.
    #[serde(default)]
    pub suspend: bool,
}

/// A partner.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Partner {
    /// Short and stable, a DNS label: what reports and a stop of the whole partner go by.
    pub id: Name,
    /// The partner's name as people know it, one line of at most 256 characters.
    pub name: Line,
    /// The e-mail address at which the partner can be reached about security.
    pub contact: Email,
}

/// The two accountable owners.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.businessRef.name != self.technicalRef.name").message("owners: businessRef and technicalRef must name two different AccessOwners"))]
pub struct Owners {
    /// The AccessOwner accountable for the business need.
    pub business_ref: LocalRef,
    /// The AccessOwner accountable for the technical side; not the same.
    pub technical_ref: LocalRef,
}

/// The contract, order or ticket that an integration rests on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Agreement {
    /// Its reference, such as a contract number, one line of at most 256 characters.
    pub reference: Line,
    /// Where to read it: an https URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<HttpsUrl>,
    /// When it ends, RFC 3339 such as 2027-06-30T00:00:00Z; all access ends with it. A policy may require it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<Instant>,
}

/// How often an integration is recertified.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Review {
    /// An approval or review is good for this long: in days, hours and minutes, such as 90d or 1d12h; a day is 24 hours.
    pub interval: Period,
    /// And for this much longer while a review is overdue, such as 7d; not at all when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace: Option<Period>,
}

/// What the operator observed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PartnerIntegrationStatus {
    /// The generation that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready and ReviewCurrent, and Stalled while something must be mended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
    /// Its AccessGrants.
    #[serde(default)]
    pub grants: GrantCount,
    /// Owners who leave within 30 days.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2))]
    pub leaving: Vec<LeavingOwner>,
    /// UIDs of AccessOwners whose `until` was seen to have passed: they count no more, whatever it says later.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 36)))]
    pub departed_owners: Vec<String>,
    /// The earliest review due of its active grants; absent where nothing is to be reviewed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_review_at: Option<Instant>,
    /// For tables: owners and grants in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<IntegrationSummary>,
}

/// An owner who leaves soon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LeavingOwner {
    /// Name of the AccessOwner.
    #[schemars(length(max = 63))]
    pub owner: String,
    /// When.
    pub until: Instant,
    /// Within how many days: 30, 14, 7 or 1.
    pub within_days: i64,
}

/// How many AccessGrants hang on an integration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct GrantCount {
    /// Those whose partner can use the access now.
    pub active: i64,
    /// All that there are.
    pub total: i64,
}

/// Words for tables.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct IntegrationSummary {
    /// Both owners: business, then technical.
    #[schemars(length(max = 256))]
    pub owners: String,
    /// Active grants, and all: `1/3`.
    #[schemars(length(max = 64))]
    pub grants: String,
}
