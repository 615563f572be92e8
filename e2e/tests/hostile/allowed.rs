//! What is let through, or answered with neither a missing right nor a policy of ours, and why it does no harm. What is let
//! through against an object of ours is done for real besides: see `deeds`.

use crate::attempt::{Answer, Attempt};
use crate::catalog::Resource;
use crate::cluster::{ATTACKED, Attacker, EARLY, SHOP};
use crate::table::Outcome;

/// One explanation.
pub struct Allowed {
    is: fn(&Attempt, &Answer, &Attacker) -> bool,
    pub why: &'static str,
}

/// Where tenants may write what they like. Reviews of oneself lie in no namespace.
fn is_own(it: &Attempt) -> bool {
    ATTACKED.contains(&it.namespace.as_str())
}

fn is_new(it: &Attempt, resource: &str) -> bool {
    it.resource == resource && it.verb == "create" && it.target.is_none() && is_own(it)
}

fn is_change(it: &Attempt) -> bool {
    it.verb == "update" || it.verb.starts_with("patch")
}

fn is_deletion(it: &Attempt) -> bool {
    it.verb.starts_with("delete")
}

fn targets(it: &Attempt, role: &str) -> bool {
    it.target.as_deref() == Some(role)
}

/// Lets through, or says so with this code.
fn said(answer: &Answer, code: u16, words: &str) -> bool {
    matches!(answer, Answer::Other(is, said) if *is == code && said.contains(words))
}

fn through(answer: &Answer) -> bool {
    *answer == Answer::Accepted
}

const BINDINGS: &str = "rolebindings.rbac.authorization.k8s.io";

/// Not every API server serves it: from Kubernetes 1.37 on it is there by default.
const POD_CERTIFICATES: &str = "podcertificaterequests.certificates.k8s.io";
const OF_POD_CERTIFICATES: &Allowed = &Allowed {
    is: |it, answer, _| is_new(it, POD_CERTIFICATES) && said(answer, 422, "spec.podName"),
    why: "a certificate for a ServiceAccount of the same namespace, of a pod there: no identity is there, nor runs",
};

const ALLOWED: &[Allowed] = &[
    Allowed {
        is: |it, answer, _| {
            let malformed = matches!(answer, Answer::Other(400 | 422 | 500, _));
            it.target.is_none()
                && !it.names_identities
                && (is_own(it) || it.namespace.is_empty())
                && (through(answer) || malformed)
        },
        why: "a kind that names no identity: by its schema, where its body is not a sound one",
    },
    Allowed {
        is: |it, answer, _| {
            let kinds = [".apps", ".batch", "replicationcontrollers", "podtemplates"];
            let is_template = kinds.iter().any(|kind| it.resource.ends_with(kind));
            is_template && it.target.is_none() && is_own(it) && through(answer)
        },
        why: "a template of pods: the pods that it would have are refused, as is shown with the controllers that make them",
    },
    Allowed {
        is: |it, answer, _| is_new(it, "pods") && !it.what.starts_with("runs as") && through(answer),
        why: "a pod that runs as itself; what it mounts lies in its own namespace, where no anchor is",
    },
    Allowed {
        is: |it, answer, _| {
            is_new(it, "pods")
                && it.what.starts_with("runs as")
                && it.namespace != EARLY
                && said(answer, 403, "error looking up service account")
        },
        why: "no identity is in this namespace; where a ServiceAccount of such a name is, the policy refuses it",
    },
    Allowed {
        is: |it, answer, _| is_new(it, "secrets") && !it.what.starts_with("is a token") && through(answer),
        why: "a Secret of its own without our label: what is ours is known by recorded UIDs, not by type or owner",
    },
    Allowed {
        is: |it, answer, _| is_new(it, "serviceaccounts") && through(answer),
        why: "a ServiceAccount of its own, of another name than ours",
    },
    Allowed {
        is: |it, answer, _| is_new(it, "roles.rbac.authorization.k8s.io") && through(answer),
        why: "a Role of no more than its writer holds; a Role enrols nothing, whatever its labels",
    },
    Allowed {
        is: |it, answer, attacker| {
            let others = ["a friend", "every ServiceAccount", "a ServiceAccount of the namespace"];
            let binds_others = others
                .iter()
                .any(|who| it.what.starts_with(&format!("binds {who} to ")));
            let binds = !it.what.starts_with("binds") || binds_others && !it.what.ends_with(" what a partner holds");
            // A partner hands on to what runs beside it, and to nobody else.
            let may = !attacker.is_partner || it.what.starts_with("binds a ServiceAccount of the namespace");
            is_new(it, BINDINGS) && binds && may && through(answer)
        },
        why: "a binding of what its writer holds, by another Role than a partner's, to others than identities; where it reaches every \
              ServiceAccount, the grants say so in the condition OtherRights",
    },
    Allowed {
        is: |it, answer, _| {
            is_new(it, BINDINGS) && it.what == "binds the operator to wayleave-enrolment" && through(answer)
        },
        why: "whoever may enrol a namespace may do so twice",
    },
    Allowed {
        is: |it, answer, _| {
            let ours = it.resource.ends_with(".wayleave.dev") && it.what.starts_with("has ");
            ours && it.target.is_none() && is_own(it) && said(answer, 422, "metadata.name must")
        },
        why: "the schema of our kinds reserves the prefix too",
    },
    Allowed {
        is: |it, answer, _| {
            it.resource == BINDINGS && it.what == "binds another role" && said(answer, 422, "roleRef: Invalid value")
        },
        why: "the role of a binding never changes",
    },
    Allowed {
        is: |it, answer, _| {
            it.resource == "accessdecisions.wayleave.dev"
                && is_change(it)
                && said(answer, 422, "a decision can't be changed")
        },
        why: "the schema lets no decision be changed",
    },
    Allowed {
        is: |it, answer, _| it.resource.contains("/approval.") && said(answer, 404, "not found"),
        why: "a subresource that authorization alone knows: nothing is served there",
    },
    Allowed {
        is: |it, answer, _| {
            targets(it, "enrolment") && (is_change(it) || is_deletion(it)) && is_own(it) && through(answer)
        },
        why: "other labels, annotations, owners and finalizers of an enrolment are the namespace's; its end waits until all is \
              closed",
    },
    Allowed {
        is: |it, answer, _| {
            let roles = ["binding of a partner", "role of a partner"];
            roles.iter().any(|role| targets(it, role)) && is_deletion(it) && is_own(it) && through(answer)
        },
        why: "what gives access may be deleted, which ends it",
    },
    Allowed {
        is: |it, answer, _| targets(it, "delivered credential") && it.namespace == SHOP && through(answer),
        why: "whoever may write Secrets of the namespace can break what is delivered there: it is made anew, or ends",
    },
    Allowed {
        is: |it, answer, _| targets(it, "identity") && it.namespace == EARLY && is_deletion(it) && through(answer),
        why: "a ServiceAccount of the tenant's own, from before there was a reserved prefix",
    },
    Allowed {
        is: |it, answer, _| {
            let ours = it.resource.ends_with(".wayleave.dev") && it.target.is_some() && it.namespace == SHOP;
            ours && (is_change(it) || is_deletion(it)) && through(answer)
        },
        why: "requesters change and delete what is asked for, approvers take their approval back: whatever was approved ends by it",
    },
    Allowed {
        is: |it, answer, _| {
            let own = ATTACKED.iter().any(|ns| targets(it, &format!("namespace {ns}")));
            own && it.resource.starts_with("namespaces") && through(answer)
        },
        why: "who may do everything in a namespace may change the Namespace itself: its labels are his to choose by, as the docs \
              say, and its end ends everything",
    },
];

/// The explanations that are needed where this is served.
pub fn explanations(served: &[Resource]) -> Vec<&'static Allowed> {
    let is_served = served.iter().any(|it| it.shown() == POD_CERTIFICATES);
    ALLOWED.iter().chain(is_served.then_some(OF_POD_CERTIFICATES)).collect()
}

/// Which of them holds for it.
pub fn why(explanations: &[&Allowed], outcome: &Outcome<'_>) -> Option<usize> {
    explanations
        .iter()
        .position(|it| (it.is)(outcome.attempt, &outcome.answer, outcome.attacker))
}

#[test]
fn what_is_not_served_needs_no_explanation() {
    let pod_certificates = Resource {
        group: "certificates.k8s.io".to_owned(),
        version: "v1".to_owned(),
        name: "podcertificaterequests".to_owned(),
        kind: "PodCertificateRequest".to_owned(),
        api_version: "certificates.k8s.io/v1".to_owned(),
        namespaced: true,
        verbs: std::collections::BTreeSet::new(),
        names_identities: true,
    };
    assert_eq!(explanations(&[]).len(), ALLOWED.len());
    assert_eq!(explanations(&[pod_certificates]).len(), ALLOWED.len() + 1);
}
