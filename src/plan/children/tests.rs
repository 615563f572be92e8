//! What is made, to the letter.

use serde_json::{Value, json};

use super::*;
use crate::api::v1alpha1::CountedApproval;
use crate::domain::fixtures::{GRANT_UID, at, grant, integration, static_grant};

const IDENTITIES: &str = "wayleave-identities";

fn site(grant: &AccessGrant) -> Site<'_> {
    Site {
        grant,
        activation: 2,
        identities: IDENTITIES,
    }
}

fn notes() -> BTreeMap<String, String> {
    [("why".to_owned(), "CHG-4711".to_owned())].into()
}

/// One of rules in two namespaces, and a ClusterRole in the grant's own.
fn wide() -> AccessGrant {
    let mut grant = grant();
    grant.spec.access[0].namespaces = vec!["payments".into(), "ledger".into()];
    let role = serde_json::from_value(json!({"clusterRoleRef": {"name": "partner-read"}})).unwrap();
    grant.spec.access.push(role);
    grant
}

fn owners() -> Value {
    json!([{
        "apiVersion": "wayleave.dev/v1alpha1", "kind": "AccessGrant", "name": "acme-billing-reader", "uid": GRANT_UID,
        "controller": true,
    }])
}

fn meta(namespace: &str, name: &str) -> Value {
    let mut meta = json!({
        "namespace": namespace, "name": name, "labels": {"wayleave.dev/managed": "true"}, "annotations": {"why": "CHG-4711"},
    });
    if namespace == "payments" {
        meta["ownerReferences"] = owners();
    }
    meta
}

fn values<T: serde::Serialize>(all: &[T]) -> Vec<Value> {
    all.iter().map(|it| serde_json::to_value(it).unwrap()).collect()
}

#[test]
fn what_is_made_of_a_grant_is_this_and_nothing_else() {
    let grant = wide();
    let site = site(&grant);
    let (identity, anchor) = (reserved::identity(GRANT_UID, 2), reserved::anchor(GRANT_UID, 2, 7));
    assert_eq!(
        serde_json::to_value(site.service_account(&notes())).unwrap(),
        json!({
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta(IDENTITIES, &identity),
            "automountServiceAccountToken": false,
        })
    );
    assert_eq!(
        serde_json::to_value(site.anchor_secret(7, &notes())).unwrap(),
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": meta(IDENTITIES, &anchor), "type": "wayleave.dev/anchor",
        })
    );
    assert_eq!(
        serde_json::to_value(site.delivery_secret(&notes())).unwrap(),
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": meta("payments", &grant.secret_name()),
            "type": "wayleave.dev/credential",
        })
    );
    let rules = reserved::access(GRANT_UID, 2, 0);
    let role = |namespace: &str| {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": meta(namespace, &rules),
            "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"], "resourceNames": ["invoice-feed"]}],
        })
    };
    assert_eq!(values(&site.roles(&notes())), [role("payments"), role("ledger")]);
    let binding = |namespace: &str, name: &str, kind: &str, role: &str| {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": meta(namespace, name),
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
            "subjects": [{"kind": "ServiceAccount", "namespace": IDENTITIES, "name": identity}],
        })
    };
    let named = reserved::access(GRANT_UID, 2, 1);
    assert_eq!(
        values(&site.bindings(&notes())),
        [
            binding("payments", &rules, "Role", &rules),
            binding("ledger", &rules, "Role", &rules),
            binding("payments", &named, "ClusterRole", "partner-read"),
        ]
    );
    assert_eq!(site.service_account(&BTreeMap::new()).metadata.annotations, None);
}

#[test]
fn a_credential_that_is_delivered_in_private_lies_with_the_identities() {
    let mut grant = grant();
    grant.spec.credential.token.as_mut().unwrap().delivery = Delivery::Private;
    let secret = site(&grant).delivery_secret(&notes());
    let expected = meta(IDENTITIES, &reserved::private_delivery(GRANT_UID));
    assert_eq!(serde_json::to_value(secret.metadata).unwrap(), expected);
}

#[test]
fn for_a_static_credential_roles_and_bindings_alone_are_expected() {
    let grant = static_grant();
    let kinds: Vec<ChildKind> = site(&grant).expected(&[1]).iter().map(|it| it.kind).collect();
    assert_eq!(kinds.len(), 2);
    assert!(kinds.contains(&ChildKind::RoleBinding) && kinds.contains(&ChildKind::Role));
    let [binding] = site(&grant).bindings(&notes()).try_into().unwrap();
    assert!(reserved::is_static_access(binding.metadata.name.as_deref().unwrap()));
    let subject = &binding.subjects.unwrap()[0];
    assert_eq!(
        (subject.namespace.as_deref(), subject.name.as_str()),
        (Some("payments"), "legacy")
    );
}

#[test]
fn whatever_changes_what_is_granted_or_to_whom_changes_its_content() {
    let grant = wide();
    let role = site(&grant).roles(&notes()).remove(0);
    let mut wider = role.clone();
    wider.rules.as_mut().unwrap()[0].verbs.push("list".to_owned());
    let mut noted = role.clone();
    noted.metadata.annotations = None;
    assert_ne!(role_content(&role), role_content(&wider));
    assert_eq!(role_content(&role), role_content(&noted));

    let binding = site(&grant).bindings(&notes()).remove(0);
    let content = binding_content(&binding);
    let changed = |change: fn(&mut RoleBinding)| {
        let mut other = binding.clone();
        change(&mut other);
        binding_content(&other)
    };
    fn subject(binding: &mut RoleBinding) -> &mut Subject {
        &mut binding.subjects.as_mut().unwrap()[0]
    }
    for change in [
        |it: &mut RoleBinding| it.role_ref.kind = "ClusterRole".to_owned(),
        |it: &mut RoleBinding| it.role_ref.name = "cluster-admin".to_owned(),
        |it: &mut RoleBinding| subject(it).kind = "User".to_owned(),
        |it: &mut RoleBinding| subject(it).name = "another".to_owned(),
        |it: &mut RoleBinding| subject(it).namespace = Some("payments".to_owned()),
        |it: &mut RoleBinding| it.subjects = None,
        |it: &mut RoleBinding| {
            let more = subject(it).clone();
            it.subjects.as_mut().unwrap().push(more);
        },
    ] {
        assert_ne!(changed(change), content);
    }
    assert_eq!(
        changed(|it| subject(it).api_group = Some(String::new())),
        content,
        "filled in by the API server"
    );
    assert_eq!(changed(|it| it.metadata.labels = None), content);
}

#[test]
fn the_evidence_says_on_whose_word_why_and_until_when() {
    let approval = |by: &str, decision: &str, day: &str| -> CountedApproval {
        serde_json::from_value(json!({
            "decisionRef": decision, "uid": decision, "by": by, "groups": [], "at": day, "validUntil": "2027-03-01T00:00:00Z",
            "digest": "", "ownerUIDs": [],
        }))
        .unwrap()
    };
    let mut status = AccessGrantStatus {
        approvals: vec![
            approval("erin@corp.example", "two", "2026-12-02T00:00:00Z"),
            approval("dave@corp.example", "one", "2026-12-01T00:00:00Z"),
        ],
        active_until: Some(at("2027-01-20T00:00:00Z")),
        ..AccessGrantStatus::default()
    };
    let all = |grant: &AccessGrant, status: &AccessGrantStatus| {
        serde_json::to_value(evidence(grant, &integration(), status)).unwrap()
    };
    let mut expected = json!({
        "wayleave.dev/grant-uid": GRANT_UID,
        "wayleave.dev/grant": "payments/acme-billing-reader",
        "wayleave.dev/integration": "acme-billing",
        "wayleave.dev/partner": "acme",
        "wayleave.dev/purpose": "Reconcile invoices nightly",
        "wayleave.dev/agreement": "CTR-2026-114",
        "wayleave.dev/ticket": "CHG-4711",
        "wayleave.dev/approved-by": "erin@corp.example,dave@corp.example",
        "wayleave.dev/decisions": "two,one",
        "wayleave.dev/approved-at": "2026-12-02T00:00:00Z",
        "wayleave.dev/expires-at": "2027-01-20T00:00:00Z",
    });
    assert_eq!(all(&grant(), &status), expected);
    for (denied, revoked, last) in [
        (Some("2026-11-02T00:00:00Z"), None, "2026-11-02T00:00:00Z"),
        (None, Some("2026-11-03T00:00:00Z"), "2026-11-03T00:00:00Z"),
        (
            Some("2026-11-02T00:00:00Z"),
            Some("2026-11-03T00:00:00Z"),
            "2026-11-03T00:00:00Z",
        ),
    ] {
        (status.denied_at, status.revoked_at) = (denied.map(at), revoked.map(at));
        assert_eq!(last_no(&status), Some(at(last)));
        expected["wayleave.dev/last-no"] = json!(last);
        assert_eq!(all(&grant(), &status), expected);
    }
}
