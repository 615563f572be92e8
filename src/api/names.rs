//! Strings that leave the process: labels, annotations, finalizers, field managers and reserved names.

/// What every object made for a grant is called by; admission policies reserve it for the operator.
pub const RESERVED_PREFIX: &str = "wlg-";
/// The operator's field manager.
pub const FIELD_MANAGER: &str = "wayleave";
/// Our finalizer, on AccessGrants and on enrolment bindings only.
pub const FINALIZER: &str = "wayleave.dev/close-access";
/// Where partner identities live unless the chart says otherwise.
pub const IDENTITY_NAMESPACE: &str = "wayleave-identities";

/// The ConfigMap in the operator's namespace that holds when the admission policies were seen to hold.
pub const PROOFS: &str = "wayleave-admission-proofs";

/// The ConfigMap in the operator's namespace that says, by being there, that Wayleave is being uninstalled.
pub const DRAIN: &str = "wayleave-drain";

/// Marks ClusterRoles whose binding to the operator enrols a namespace.
pub const LABEL_ENROLMENT: &str = "wayleave.dev/enrolment";
/// On every child: `true`. An index only; ownership is the name and the recorded UID.
pub const LABEL_MANAGED: &str = "wayleave.dev/managed";
/// On namespaces: the least data classification that grants reaching them are judged by.
pub const LABEL_CLASSIFICATION: &str = "wayleave.dev/classification";

/// On AccessOwners that were filled from a directory: the name of that source.
pub const LABEL_OWNER_SOURCE: &str = "wayleave.dev/owner-source";
/// On AccessOwners that were filled from a directory: the person, who has one name however often they return.
pub const LABEL_OWNER_PERSON: &str = "wayleave.dev/owner-person";

/// On an AccessGrant: asks for a new credential at once; answered in `status.credential.lastHandledRotateAt`.
pub const ANNOTATION_ROTATE_REQUESTED_AT: &str = "wayleave.dev/rotateRequestedAt";

/// On children: the UID of the AccessGrant that they serve.
pub const ANNOTATION_GRANT_UID: &str = "wayleave.dev/grant-uid";
/// On children: `namespace/name` of the grant.
pub const ANNOTATION_GRANT: &str = "wayleave.dev/grant";
/// On children: the integration's name.
pub const ANNOTATION_INTEGRATION: &str = "wayleave.dev/integration";
/// On children: the partner's id.
pub const ANNOTATION_PARTNER: &str = "wayleave.dev/partner";
/// On children: the documented purpose.
pub const ANNOTATION_PURPOSE: &str = "wayleave.dev/purpose";
/// On children: the agreement's reference.
pub const ANNOTATION_AGREEMENT: &str = "wayleave.dev/agreement";
/// On children: the grant's ticket.
pub const ANNOTATION_TICKET: &str = "wayleave.dev/ticket";
/// On children: who approved, comma-separated.
pub const ANNOTATION_APPROVED_BY: &str = "wayleave.dev/approved-by";
/// On children: when the last needed approval was given.
pub const ANNOTATION_APPROVED_AT: &str = "wayleave.dev/approved-at";
/// On children: the AccessDecisions that count, comma-separated.
pub const ANNOTATION_DECISIONS: &str = "wayleave.dev/decisions";
/// On children: the latest Deny or Revoke that was known when they were made; a later one ends them, whoever sees it.
pub const ANNOTATION_LAST_NO: &str = "wayleave.dev/last-no";
/// On children: the instant at which access ends.
pub const ANNOTATION_EXPIRES_AT: &str = "wayleave.dev/expires-at";

/// The label by which an admission policy of the chart, and its binding, is known: one of [`ADMISSION_POLICIES`].
pub const LABEL_COMPONENT: &str = "app.kubernetes.io/component";

/// The admission policies that the chart always brings. Where one of them is missing, or not enforced, nobody can tell what it would
/// have refused.
pub const ADMISSION_POLICIES: [&str; 25] = [
    "decisions",
    "decisions-kept-grants",
    "decisions-kept-integrations",
    "decisions-stay",
    "enrolment-held",
    "enrolment-stays",
    "finalizers",
    "identity-bindings",
    "operator-bindings",
    "operator-limits",
    "operator-spec",
    "operator-tokens",
    "orphans",
    "own-records",
    "partner-bindings",
    "pods",
    "policy-authority",
    "records",
    "requests",
    "reserved-label",
    "reserved-names",
    "sizes",
    "status",
    "token-secrets",
    "tokens",
];
