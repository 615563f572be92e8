//! The objects of an activation as values: identity, roles, bindings and the shells of Secrets. No token is in them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding, RoleRef, Subject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource as _;

use crate::api::names;
use crate::api::v1alpha1::{AccessGrant, AccessGrantStatus, ChildKind, Delivery, Instant, PartnerIntegration};
use crate::domain::digest::hash_of;
use crate::domain::names as reserved;

/// The API group of roles and bindings.
const RBAC: &str = "rbac.authorization.k8s.io";

/// A child as it should be: where it is, and the hash of what it grants.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Expected {
    /// Its kind.
    pub kind: ChildKind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Hash of what it grants; empty where only its being there counts.
    pub content: String,
}

/// Where an activation's objects lie and what they are called.
#[derive(Clone, Copy, Debug)]
pub struct Site<'a> {
    /// The grant.
    pub grant: &'a AccessGrant,
    /// Which activation.
    pub activation: i64,
    /// The namespace of the identities.
    pub identities: &'a str,
}

impl Site<'_> {
    fn uid(&self) -> &str {
        self.grant.metadata.uid.as_deref().unwrap_or_default()
    }

    fn own_namespace(&self) -> &str {
        self.grant.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// Whether nothing but roles and bindings is made: the identity and its credential are somebody else's.
    fn is_static(&self) -> bool {
        self.grant.static_credential().is_some()
    }

    /// Namespace and name of the ServiceAccount that is given access.
    #[must_use]
    pub fn identity(&self) -> (String, String) {
        match self.grant.static_credential() {
            Some(found) => (self.own_namespace().to_owned(), found.service_account_name.0.clone()),
            None => (
                self.identities.to_owned(),
                reserved::identity(self.uid(), self.activation),
            ),
        }
    }

    /// The name of a generation's anchor.
    #[must_use]
    pub fn anchor(&self, generation: i64) -> String {
        reserved::anchor(self.uid(), self.activation, generation)
    }

    /// Namespace and name of the Secret that holds the credential: the delivery Secret, or that of a static token.
    #[must_use]
    pub fn delivery(&self) -> (String, String) {
        if self.is_static() {
            return (self.own_namespace().to_owned(), self.grant.secret_name());
        }
        match self.grant.token().delivery {
            Delivery::Namespace => (self.own_namespace().to_owned(), self.grant.secret_name()),
            Delivery::Private => (self.identities.to_owned(), reserved::private_delivery(self.uid())),
        }
    }

    /// The ServiceAccount that is made: no pod gets its token.
    #[must_use]
    pub fn service_account(&self, annotations: &BTreeMap<String, String>) -> ServiceAccount {
        let name = reserved::identity(self.uid(), self.activation);
        ServiceAccount {
            metadata: self.meta(self.identities, name, annotations),
            automount_service_account_token: Some(false),
            ..ServiceAccount::default()
        }
    }

    /// The name of the Role and the RoleBinding of an entry.
    fn access(&self, index: usize) -> String {
        if self.is_static() {
            reserved::static_access(self.uid(), self.activation, index)
        } else {
            reserved::access(self.uid(), self.activation, index)
        }
    }

    /// A Role for each entry of rules in each namespace that it reaches.
    #[must_use]
    pub fn roles(&self, annotations: &BTreeMap<String, String>) -> Vec<Role> {
        let mut roles = Vec::new();
        for (index, entry) in self.grant.spec.access.iter().enumerate() {
            let Some(rules) = &entry.rules else { continue };
            let rules: Vec<_> = rules.iter().map(crate::api::v1alpha1::Rule::to_policy_rule).collect();
            for namespace in self.namespaces_of(index) {
                let metadata = self.meta(&namespace, self.access(index), annotations);
                roles.push(Role {
                    metadata,
                    rules: Some(rules.clone()),
                });
            }
        }
        roles
    }

    /// A RoleBinding for each entry in each namespace that it reaches.
    #[must_use]
    pub fn bindings(&self, annotations: &BTreeMap<String, String>) -> Vec<RoleBinding> {
        let mut bindings = Vec::new();
        let (namespace_of_identity, identity) = self.identity();
        for (index, entry) in self.grant.spec.access.iter().enumerate() {
            let name = self.access(index);
            let (kind, role) = match &entry.cluster_role_ref {
                Some(reference) => ("ClusterRole", reference.name.0.clone()),
                None => ("Role", name.clone()),
            };
            for namespace in self.namespaces_of(index) {
                bindings.push(RoleBinding {
                    metadata: self.meta(&namespace, name.clone(), annotations),
                    role_ref: RoleRef {
                        api_group: RBAC.to_owned(),
                        kind: kind.to_owned(),
                        name: role.clone(),
                    },
                    subjects: Some(vec![Subject {
                        api_group: None,
                        kind: "ServiceAccount".to_owned(),
                        name: identity.clone(),
                        namespace: Some(namespace_of_identity.clone()),
                    }]),
                });
            }
        }
        bindings
    }

    /// The empty Secret that the token of a generation is bound to.
    #[must_use]
    pub fn anchor_secret(&self, generation: i64, annotations: &BTreeMap<String, String>) -> Secret {
        Secret {
            metadata: self.meta(self.identities, self.anchor(generation), annotations),
            type_: Some("wayleave.dev/anchor".to_owned()),
            ..Secret::default()
        }
    }

    /// The delivery Secret, without its data.
    #[must_use]
    pub fn delivery_secret(&self, annotations: &BTreeMap<String, String>) -> Secret {
        let (namespace, name) = self.delivery();
        Secret {
            metadata: self.meta(&namespace, name, annotations),
            type_: Some("wayleave.dev/credential".to_owned()),
            ..Secret::default()
        }
    }

    /// Everything that should be there while these generations work, sorted.
    #[must_use]
    pub fn expected(&self, generations: &[i64]) -> Vec<Expected> {
        let none = BTreeMap::new();
        let at = |kind, metadata: &ObjectMeta, content| Expected {
            kind,
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
            content,
        };
        let mut all: Vec<Expected> = Vec::new();
        all.extend(
            self.bindings(&none)
                .iter()
                .map(|it| at(ChildKind::RoleBinding, &it.metadata, binding_content(it))),
        );
        all.extend(
            self.roles(&none)
                .iter()
                .map(|it| at(ChildKind::Role, &it.metadata, role_content(it))),
        );
        if self.is_static() {
            all.sort();
            return all;
        }
        all.push(at(
            ChildKind::ServiceAccount,
            &self.service_account(&none).metadata,
            String::new(),
        ));
        all.push(at(
            ChildKind::DeliverySecret,
            &self.delivery_secret(&none).metadata,
            String::new(),
        ));
        let anchors = generations
            .iter()
            .map(|generation| self.anchor_secret(*generation, &none).metadata);
        all.extend(anchors.map(|metadata| at(ChildKind::Anchor, &metadata, String::new())));
        all.sort();
        all
    }

    /// In the grant's own namespace the owner reference is the backstop: the garbage collector takes what we left.
    fn meta(&self, namespace: &str, name: String, annotations: &BTreeMap<String, String>) -> ObjectMeta {
        let owner = OwnerReference {
            api_version: AccessGrant::api_version(&()).into_owned(),
            kind: AccessGrant::kind(&()).into_owned(),
            name: self.grant.metadata.name.clone().unwrap_or_default(),
            uid: self.uid().to_owned(),
            controller: Some(true),
            block_owner_deletion: None,
        };
        ObjectMeta {
            namespace: Some(namespace.to_owned()),
            name: Some(name),
            labels: Some([(names::LABEL_MANAGED.to_owned(), "true".to_owned())].into()),
            annotations: (!annotations.is_empty()).then(|| annotations.clone()),
            owner_references: (namespace == self.own_namespace()).then(|| vec![owner]),
            ..ObjectMeta::default()
        }
    }

    fn namespaces_of(&self, index: usize) -> Vec<String> {
        let named = &self.grant.spec.access[index].namespaces;
        if named.is_empty() {
            return vec![self.own_namespace().to_owned()];
        }
        named.iter().map(|name| name.0.clone()).collect()
    }
}

/// Hash of what a Role grants.
#[must_use]
pub fn role_content(role: &Role) -> String {
    hash_of(&role.rules)
}

/// Hash of what a RoleBinding grants, and to whom. The API server fills in the subject's API group: it is left out.
#[must_use]
pub fn binding_content(binding: &RoleBinding) -> String {
    let subjects = binding.subjects.iter().flatten();
    let subjects: Vec<_> = subjects
        .map(|it| (&it.kind, it.namespace.as_deref(), &it.name))
        .collect();
    hash_of(&(&binding.role_ref.kind, &binding.role_ref.name, subjects))
}

/// The evidence on every child: on whose word, why, until when. A mirror, for who reads the object alone.
#[must_use]
pub fn evidence(
    grant: &AccessGrant,
    integration: &PartnerIntegration,
    status: &AccessGrantStatus,
) -> BTreeMap<String, String> {
    let meta = &grant.metadata;
    let (namespace, name) = (
        meta.namespace.as_deref().unwrap_or_default(),
        meta.name.as_deref().unwrap_or_default(),
    );
    let joined = |words: Vec<&str>| words.join(",");
    let approvals = &status.approvals;
    let mut all: BTreeMap<String, String> = [
        (names::ANNOTATION_GRANT_UID, meta.uid.clone().unwrap_or_default()),
        (names::ANNOTATION_GRANT, format!("{namespace}/{name}")),
        (names::ANNOTATION_INTEGRATION, grant.spec.integration_ref.name.0.clone()),
        (names::ANNOTATION_PARTNER, integration.spec.partner.id.0.clone()),
        (names::ANNOTATION_PURPOSE, integration.spec.purpose.0.clone()),
        (
            names::ANNOTATION_AGREEMENT,
            integration.spec.agreement.reference.0.clone(),
        ),
        (
            names::ANNOTATION_APPROVED_BY,
            joined(approvals.iter().map(|it| it.by.as_str()).collect()),
        ),
        (
            names::ANNOTATION_DECISIONS,
            joined(approvals.iter().map(|it| it.decision_ref.as_str()).collect()),
        ),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    let mut add = |key: &str, value: Option<String>| all.extend(value.map(|value| (key.to_owned(), value)));
    add(
        names::ANNOTATION_TICKET,
        grant.spec.ticket.as_ref().map(|ticket| ticket.0.clone()),
    );
    add(
        names::ANNOTATION_APPROVED_AT,
        approvals.iter().map(|it| it.at).max().map(|at| at.to_string()),
    );
    add(names::ANNOTATION_LAST_NO, last_no(status).map(|at| at.to_string()));
    add(
        names::ANNOTATION_EXPIRES_AT,
        status.active_until.map(|until| until.to_string()),
    );
    all
}

/// The latest Deny or Revoke that an activation was made in spite of.
#[must_use]
pub fn last_no(status: &AccessGrantStatus) -> Option<Instant> {
    status.denied_at.max(status.revoked_at)
}

#[cfg(test)]
mod tests;
