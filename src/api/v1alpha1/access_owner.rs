//! `AccessOwner`: a person or team who can be accountable.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::{Email, Instant, Line, Principal, scalar::is_distinct};

/// A person or team who can be accountable for partner access.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "wayleave.dev",
    version = "v1alpha1",
    kind = "AccessOwner",
    shortname = "wlo",
    category = "wayleave",
    doc = "A person or team who can be accountable for partner access. Deleting it, setting active to false, or the day it names in until, is owner removal: every grant that rests on it ends.",
    selectable = ".spec.active",
    printcolumn(name = "Active", type_ = "boolean", json_path = ".spec.active"),
    printcolumn(name = "Until", type_ = "string", json_path = ".spec.until"),
    printcolumn(name = "DisplayName", type_ = "string", json_path = ".spec.displayName"),
    printcolumn(name = "Email", type_ = "string", json_path = ".spec.email", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 63 && !self.metadata.name.contains('.')").message("metadata.name must be a DNS label of at most 63 characters")
)]
#[serde(rename_all = "camelCase")]
pub struct AccessOwnerSpec {
    /// The name as people know it, one line of at most 256 characters.
    pub display_name: Line,
    /// The e-mail address to write to.
    pub email: Email,
    /// The names by which the API server knows this person, at most 16; whoever has several never counts as several approvers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = is_distinct("usernames"))]
    pub usernames: Vec<Principal>,
    /// Whether the owner can be accountable. False is owner removal: all access that rests on the owner ends. It is for good: somebody who returns is a new object.
    #[x_kube(validation = Rule::new("oldSelf || !self").message("active can't go from false back to true: create another AccessOwner"))]
    pub active: bool,
    /// When this person leaves: from then on as if active were false. It may be moved or taken back before; what was seen
    /// to pass is for good, and somebody who returns is a new object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Instant>,
}
