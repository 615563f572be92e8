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
    selectable = ".spec.grant.namespace",
    selectable = ".spec.grant.name",
    printcolumn(name = "Partner", type_ = "string", json_path = ".spec.partner"),
    printcolumn(name = "Namespace", type_ = "string", json_path = ".spec.grant.namespace"),
    printcolumn(name = "Grant", type_ = "string", json_path = ".spec.grant.name"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name == self.spec.grant.uid").message("metadata.name must be the grant's UID"),
    validation = Rule::new("self.spec.grant == oldSelf.spec.grant && self.spec.partner == oldSelf.spec.partner").message("grant and partner of a record can't be changed")
)]
#[serde(rename_all = "camelCase")]
pub struct AccessRecordSpec {
    /// The grant that this is the evidence of; can't be changed.
    pub grant: RecordedGrant,
    /// The partner's id; can't be changed.
    pub partner: Name,
    /// What happened, oldest first, at most 512 entries; they are only ever added.
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
    /// Its metadata.uid: the record's name.
    pub uid: Uid,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecordEntry {
    /// When it happened, RFC 3339.
    pub at: Instant,
    /// What happened, as a stable word such as issued or revoked.
    pub event: Name,
    /// What happened, in a sentence.
    pub summary: Line,
    /// Hash of this entry and the one before it: `sha256:` and 64 hexadecimal digits.
    pub hash: Digest,
}
