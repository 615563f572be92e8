//! `AccessRecord`: the evidence of one grant, which outlives it. Schema only as yet: nothing writes it.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Digest, Instant, Line, Name, Uid};

/// The evidence of one grant, named by its UID: append-only and hash-chained.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "wayleave.dev",
    version = "v1alpha1",
    kind = "AccessRecord",
    shortname = "wlr",
    category = "wayleave",
    doc = "The evidence of one AccessGrant: purpose, approval, issue, rotation, review and revocation. Cluster-scoped, so that it outlives grant, integration and namespace; written by the operator alone.",
    selectable = ".spec.partner",
    printcolumn(name = "Partner", type_ = "string", json_path = ".spec.partner"),
    printcolumn(name = "Namespace", type_ = "string", json_path = ".spec.grant.namespace"),
    printcolumn(name = "Grant", type_ = "string", json_path = ".spec.grant.name"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name == self.spec.grant.uid").message("metadata.name must be the grant's UID"),
    validation = Rule::new("self.spec.grant == oldSelf.spec.grant && self.spec.partner == oldSelf.spec.partner").message("grant and partner of a record can't be changed")
)]
#[serde(rename_all = "camelCase")]
pub struct AccessRecordSpec {
    /// The grant that this is the evidence of.
    pub grant: RecordedGrant,
    /// The partner's id.
    pub partner: Name,
    /// What happened, oldest first.
    #[serde(default)]
    #[schemars(length(max = 512))]
    #[x_kube(validation = Rule::new("self.size() >= oldSelf.size() && oldSelf.all(i, entry, self[i] == entry)").message("entries can only be added: those that are there stay as they are"))]
    pub entries: Vec<RecordEntry>,
}

/// A grant by namespace, name and UID.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecordedGrant {
    /// Its namespace.
    pub namespace: Name,
    /// Its name.
    pub name: Name,
    /// Its UID.
    pub uid: Uid,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecordEntry {
    /// When.
    pub at: Instant,
    /// What, as a stable word.
    pub event: Name,
    /// In a sentence.
    pub summary: Line,
    /// Hash of this entry and the one before it.
    pub hash: Digest,
}
