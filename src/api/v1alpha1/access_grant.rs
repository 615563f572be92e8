//! `AccessGrant`: one identity of an integration, what it may do, and until when.

use std::collections::BTreeSet;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    AccessGrantStatus, ClusterRoleRef, Instant, Line, LocalRef, Name, ObjectName, Principal, Rule as AccessRule,
    TokenLifetime,
    scalar::{is_after, is_distinct},
};

/// One partner identity: its access, its credential, its term.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "wayleave.dev",
    version = "v1alpha1",
    kind = "AccessGrant",
    namespaced,
    status = "AccessGrantStatus",
    shortname = "wlg",
    category = "wayleave",
    doc = "One identity of a PartnerIntegration: what it may do, by which credential, from when until when. Access exists only while owners, policy and approval stand behind it.",
    selectable = ".spec.integrationRef.name",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Active", type_ = "string", json_path = ".status.conditions[?(@.type==\"Active\")].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Active\")].reason"),
    printcolumn(name = "Partner", type_ = "string", json_path = ".status.summary.partner"),
    printcolumn(name = "Ends", type_ = "string", json_path = ".status.activeUntil"),
    printcolumn(name = "Owners", type_ = "string", json_path = ".status.summary.owners", priority = 1),
    printcolumn(name = "Policy", type_ = "string", json_path = ".status.summary.policies", priority = 1),
    printcolumn(name = "Approver", type_ = "string", json_path = ".status.summary.approvedBy", priority = 1),
    printcolumn(name = "Credential", type_ = "string", json_path = ".spec.credential.type", priority = 1),
    printcolumn(name = "Secret", type_ = "string", json_path = ".status.credential.secretName", priority = 1),
    printcolumn(name = "Subject", type_ = "string", json_path = ".status.summary.subject", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("self.metadata.name.size() <= 63 && !self.metadata.name.contains('.') && !self.metadata.name.startsWith('wlg-')").message("metadata.name must be a DNS label of at most 63 characters that does not begin with the reserved prefix 'wlg-'")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = is_after("expiresAt", "startsAt"))]
pub struct AccessGrantSpec {
    /// The PartnerIntegration it belongs to, in the same namespace; can't be changed.
    #[x_kube(validation = Rule::new("self == oldSelf").message("integrationRef can't be changed: create another AccessGrant"))]
    pub integration_ref: LocalRef,
    /// The change or request ticket behind it, one line of at most 256 characters; a policy may require it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<Line>,
    /// The user who asks for it, as `kubectl auth whoami` shows it: you. Stamped when left out on Kubernetes 1.36 and newer; checked everywhere. Never counts as an approver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested_by: Option<Principal>,
    /// Everybody else who changed what an approval covers, at most 20. Leave it out of a new object; a delegate, who writes for somebody else, names itself there, and nobody else (on Kubernetes 1.36 and newer that is stamped when left out). None of them counts as an approver.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub contributors: Vec<Principal>,
    /// What the identity may do, 1 to 8 entries; each holds exactly one of rules and clusterRoleRef.
    #[schemars(length(min = 1, max = 8))]
    pub access: Vec<AccessEntry>,
    /// By which credential the partner uses it.
    pub credential: CredentialSpec,
    /// When access begins, RFC 3339 such as 2026-12-01T00:00:00Z; as soon as it is approved when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts_at: Option<Instant>,
    /// When access ends, for good: RFC 3339 such as 2027-03-01T00:00:00Z, after startsAt. Access ends earlier with the agreement, an owner, a review or an approval.
    pub expires_at: Instant,
    /// Ends access while true; false when left out.
    #[serde(default)]
    pub suspend: bool,
}

/// A part of the access: rules written here, or a ClusterRole by name; and where it holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.rules) != has(self.clusterRoleRef)").message("exactly one of rules and clusterRoleRef must be set"))]
pub struct AccessEntry {
    /// Rules as in a Role, 1 to 16, without wildcards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    pub rules: Option<Vec<AccessRule>>,
    /// A ClusterRole, bound in namespaces only. Its rules at approval are kept; growth past them ends the grant, unless the policy says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_role_ref: Option<ClusterRoleRef>,
    /// Where it holds, at most 8 namespaces: the grant's own when left out. Others only if a policy says so, and with delivery Private.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(validation = is_distinct("namespaces"))]
    pub namespaces: Vec<Name>,
}

/// The kind of credential, and its particulars.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.token) == (self.type == 'Token')").message("token must be set where type is Token, and nowhere else"))]
#[x_kube(validation = Rule::new("has(self.static) == (self.type == 'Static')").message("static must be set where type is Static, and nowhere else"))]
pub struct CredentialSpec {
    /// The kind of credential. Token: a short-lived ServiceAccount token that is rotated. Static: a hand-made ServiceAccount and its token Secret, which Wayleave neither makes, rotates nor removes; a policy must allow it and say how it is compensated.
    #[serde(rename = "type")]
    pub type_: CredentialType,
    /// Particulars of a Token; required where type is Token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenSpec>,
    /// Particulars of a Static credential; required where type is Static.
    #[serde(default, rename = "static", skip_serializing_if = "Option::is_none")]
    pub static_: Option<StaticSpec>,
}

/// Kinds of credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum CredentialType {
    /// A short-lived ServiceAccount token, bound to an object of its own and rotated.
    Token,
    /// The static token of a ServiceAccount that somebody made by hand, for software that can't take a new one.
    Static,
}

/// A ServiceAccount token, and where it is delivered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenSpec {
    /// How long one token lives at most before it is replaced, in hours and minutes: 15m to 24h, such as 1h30m; 1h when left out. A Revoke that a dead operator doesn't see leaves access for little longer than this.
    #[serde(default)]
    pub lifetime: TokenLifetime,
    /// Audiences of the token, at most 4; the API server's own when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    #[x_kube(validation = is_distinct("audiences"))]
    pub audiences: Vec<Line>,
    /// Name of the Secret that the credential is delivered in; the grant's name with `-credential` when left out. An existing Secret is never taken over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("!self.startsWith('wlg-')").message("secretName must not begin with the reserved prefix 'wlg-'"))]
    pub secret_name: Option<ObjectName>,
    /// Where that Secret lies. Namespace (when left out): in the grant's namespace, for whoever may read Secrets there. Private: in the namespace of the identities, where no tenant may read; required where access goes beyond the grant's own namespace.
    #[serde(default)]
    pub delivery: Delivery,
}

/// A partner's identity from before: a ServiceAccount and its static token, both in the grant's namespace. They stay whose they
/// are: what is granted is bound to the ServiceAccount, and at the end the binding goes and they stay.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct StaticSpec {
    /// Name of the ServiceAccount, in the grant's namespace. Not `default`, which every pod there runs as unless it says otherwise.
    #[x_kube(validation = Rule::new("self != 'default' && !self.startsWith('wlg-')").message("serviceAccountName must be a ServiceAccount of the partner alone: not 'default', and not one with the reserved prefix 'wlg-'"))]
    pub service_account_name: ObjectName,
    /// Name of the Secret with its static token (type kubernetes.io/service-account-token), in the grant's namespace.
    #[x_kube(validation = Rule::new("!self.startsWith('wlg-')").message("secretName must not begin with the reserved prefix 'wlg-'"))]
    pub secret_name: ObjectName,
    /// Why the partner can't use a token that is rotated, one line of at most 256 characters.
    pub reason: Line,
    /// What replaces it, one line of at most 256 characters, such as the AccessGrant or the release that will; a policy requires it unless it says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replacement: Option<Line>,
}

/// Where a credential is delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Delivery {
    /// A Secret in the grant's namespace.
    #[default]
    Namespace,
    /// A Secret in the namespace of the identities, where no tenant may read.
    Private,
}

impl AccessGrant {
    /// The name of the Secret that holds the credential: the delivery Secret, or that of a static token.
    #[must_use]
    pub fn secret_name(&self) -> String {
        if let Some(found) = self.static_credential() {
            return found.secret_name.0.clone();
        }
        let chosen = self
            .spec
            .credential
            .token
            .as_ref()
            .and_then(|token| token.secret_name.as_ref());
        chosen.map_or_else(
            || format!("{}-credential", self.metadata.name.as_deref().unwrap_or_default()),
            |name| name.0.clone(),
        )
    }

    /// Particulars of the token; the defaults where none are given.
    #[must_use]
    pub fn token(&self) -> TokenSpec {
        self.spec.credential.token.clone().unwrap_or_default()
    }

    /// Particulars of a static credential, where it is of that kind.
    #[must_use]
    pub fn static_credential(&self) -> Option<&StaticSpec> {
        let credential = &self.spec.credential;
        credential
            .static_
            .as_ref()
            .filter(|_| credential.type_ == CredentialType::Static)
    }

    /// Every ClusterRole that it refers to.
    #[must_use]
    pub fn cluster_roles(&self) -> BTreeSet<String> {
        let roles = self
            .spec
            .access
            .iter()
            .filter_map(|entry| entry.cluster_role_ref.as_ref());
        roles.map(|role| role.name.0.clone()).collect()
    }

    /// Every namespace that the access reaches, sorted, without repeats.
    #[must_use]
    pub fn target_namespaces(&self) -> Vec<String> {
        let own = self.metadata.namespace.clone().unwrap_or_default();
        let mut targets: Vec<String> = Vec::new();
        for entry in &self.spec.access {
            if entry.namespaces.is_empty() {
                targets.push(own.clone());
            }
            targets.extend(entry.namespaces.iter().map(|name| name.0.clone()));
        }
        targets.sort();
        targets.dedup();
        targets
    }
}
