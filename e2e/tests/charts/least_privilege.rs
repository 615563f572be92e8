//! What the operator is given: all of it, on one page that a change shows in; and what it can't do, asked of the API server.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec, SelfSubjectRulesReview,
    SelfSubjectRulesReviewSpec,
};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client, Error};
use serde_json::{Value, json};
use wayleave_e2e::operator::{IDENTITY_NAMESPACE, NAMESPACE, SERVICE_ACCOUNT};

use crate::install::{ELSEWHERE, ENROLLED, cluster};
use crate::render::{CHART, UPDATE, objects};

fn golden() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/charts/golden/operator-rbac.txt")
}

fn words(value: &Value) -> Vec<&str> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

fn place(object: &Value) -> String {
    object["metadata"]["namespace"]
        .as_str()
        .map_or_else(|| "the whole cluster".to_owned(), ToOwned::to_owned)
}

/// The roles that the chart binds to the operator, with where they hold.
fn bound_roles(objects: &[Value]) -> Vec<(String, &Value)> {
    let mut roles = Vec::new();
    for binding in objects
        .iter()
        .filter(|it| it["kind"] == "RoleBinding" || it["kind"] == "ClusterRoleBinding")
    {
        let role = |it: &&Value| {
            it["kind"] == binding["roleRef"]["kind"]
                && it["metadata"]["name"] == binding["roleRef"]["name"]
                && (it["kind"] == "ClusterRole" || it["metadata"]["namespace"] == binding["metadata"]["namespace"])
        };
        roles.extend(objects.iter().find(role).map(|role| (place(binding), role)));
    }
    roles
}

#[tokio::test]
async fn the_operator_is_given_what_the_golden_file_says() -> Result<()> {
    let all = objects(CHART, &json!({ "namespaces": [ENROLLED] })).await?;
    let mut lines = Vec::new();
    for (place, role) in bound_roles(&all) {
        for rule in role["rules"].as_array().into_iter().flatten() {
            let (resources, verbs) = (words(&rule["resources"]), words(&rule["verbs"]));
            let line = format!(
                "{place}: {} of {} in {}{}",
                verbs.join(", "),
                resources.join(", "),
                words(&rule["apiGroups"])
                    .iter()
                    .map(|it| if it.is_empty() { "core" } else { *it })
                    .collect::<Vec<_>>()
                    .join(", "),
                match words(&rule["resourceNames"]) {
                    names if names.is_empty() => String::new(),
                    names => format!(" named {}", names.join(", ")),
                }
            );
            ensure!(
                !line.contains('*') && rule.get("nonResourceURLs").is_none(),
                "not everything: {line}"
            );
            ensure!(
                !verbs.contains(&"escalate") && !verbs.contains(&"impersonate"),
                "nobody else's rights: {line}"
            );
            ensure!(
                !verbs.contains(&"bind") || !words(&rule["resourceNames"]).is_empty(),
                "only named roles: {line}"
            );
            let secrets = resources
                .iter()
                .any(|it| *it == "secrets" || it.starts_with("serviceaccounts"));
            ensure!(
                !secrets || role["metadata"]["name"] != "wayleave" || role["kind"] == "Role",
                "not everywhere: {line}"
            );
            lines.push(line);
        }
    }
    lines.sort();
    let text = format!("{}\n", lines.join("\n"));
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(golden(), &text)?;
    }
    let wanted = std::fs::read_to_string(golden())?;
    let more: Vec<&str> = text
        .lines()
        .filter(|line| !wanted.lines().any(|it| it == *line))
        .collect();
    let less: Vec<&str> = wanted
        .lines()
        .filter(|line| !text.lines().any(|it| it == *line))
        .collect();
    ensure!(
        text == wanted,
        "the operator is given {more:#?}, and no longer {less:#?}; if that is meant: {UPDATE}=1"
    );
    Ok(())
}

/// Verb, group, resource with subresource, name.
type Ask = (&'static str, &'static str, &'static str, &'static str);

async fn may(client: &Client, namespace: &str, ask: Ask) -> Result<bool> {
    let (verb, group, resource, name) = ask;
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let text = |value: &str| (!value.is_empty()).then(|| value.to_owned());
    let attributes = ResourceAttributes {
        verb: text(verb),
        group: text(group),
        resource: text(resource),
        subresource: text(subresource),
        namespace: text(namespace),
        name: text(name),
        ..ResourceAttributes::default()
    };
    let spec = SelfSubjectAccessReviewSpec {
        resource_attributes: Some(attributes),
        ..SelfSubjectAccessReviewSpec::default()
    };
    let review = SelfSubjectAccessReview {
        spec,
        ..SelfSubjectAccessReview::default()
    };
    let answer = Api::all(client.clone()).create(&PostParams::default(), &review).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

const RBAC: &str = "rbac.authorization.k8s.io";
const OURS: &str = "wayleave.dev";

/// What the operator can do nowhere, enrolled or not.
const NOWHERE: [Ask; 31] = [
    ("get", "", "secrets", "any"),
    ("create", "", "serviceaccounts/token", "default"),
    ("create", "", "serviceaccounts", ""),
    ("delete", "", "serviceaccounts", ""),
    ("impersonate", "", "serviceaccounts", "default"),
    ("impersonate", "", "users", "root"),
    ("impersonate", "", "groups", "system:masters"),
    ("create", "", "pods", ""),
    ("create", "", "pods/exec", "any"),
    ("get", "", "nodes/proxy", "any"),
    ("patch", "", "namespaces", "any"),
    ("delete", "", "configmaps", "wayleave-drain"),
    ("update", "", "configmaps", "wayleave-drain"),
    ("escalate", RBAC, "roles", ""),
    ("escalate", RBAC, "clusterroles", ""),
    ("bind", RBAC, "clusterroles", "cluster-admin"),
    ("bind", RBAC, "clusterroles", "admin"),
    ("bind", RBAC, "clusterroles", "wayleave-enrolment"),
    ("bind", RBAC, "roles", "any"),
    ("create", RBAC, "clusterroles", ""),
    ("create", RBAC, "clusterrolebindings", ""),
    ("patch", RBAC, "clusterrolebindings", "any"),
    (
        "create",
        "admissionregistration.k8s.io",
        "validatingadmissionpolicies",
        "",
    ),
    (
        "delete",
        "admissionregistration.k8s.io",
        "validatingadmissionpolicybindings",
        "any",
    ),
    ("patch", "apiextensions.k8s.io", "customresourcedefinitions", "any"),
    ("create", OURS, "accessgrants", ""),
    ("delete", OURS, "accessgrants", "any"),
    ("patch", OURS, "partnerintegrations", "any"),
    ("patch", OURS, "accesspolicies", "any"),
    ("approve", OURS, "accessgrants/approval", "any"),
    ("enroll", OURS, "enrolments", "wayleave-enrolment"),
];

/// What an enrolment gives.
const WHERE_ENROLLED: [Ask; 7] = [
    ("create", RBAC, "roles", ""),
    ("create", RBAC, "rolebindings", ""),
    ("delete", RBAC, "rolebindings", ""),
    ("bind", RBAC, "clusterroles", "wayleave-read"),
    ("list", "", "secrets", ""),
    ("create", "", "secrets", ""),
    ("get", "", "configmaps", "any"),
];

/// What it does with the identities.
const WITH_IDENTITIES: [Ask; 4] = [
    ("create", "", "serviceaccounts", ""),
    ("create", "", "serviceaccounts/token", "wlg-x"),
    ("create", "", "secrets", ""),
    ("delete", "", "secrets", ""),
];

#[tokio::test]
async fn the_operator_has_no_power_where_nobody_gave_it() -> Result<()> {
    let cp = cluster().await?;
    let operator = cp.service_account(NAMESPACE, SERVICE_ACCOUNT).await?;
    for ask in NOWHERE {
        for namespace in [ENROLLED, ELSEWHERE, "kube-system", NAMESPACE, ""] {
            ensure!(!may(&operator, namespace, ask).await?, "may {ask:?} in '{namespace}'");
        }
    }
    for ask in WHERE_ENROLLED {
        ensure!(
            may(&operator, ENROLLED, ask).await?,
            "may not {ask:?} where it is enrolled"
        );
        for namespace in [ELSEWHERE, "kube-system", NAMESPACE, ""] {
            ensure!(!may(&operator, namespace, ask).await?, "may {ask:?} in '{namespace}'");
        }
    }
    for ask in WITH_IDENTITIES {
        ensure!(
            may(&operator, IDENTITY_NAMESPACE, ask).await?,
            "may not {ask:?} among the identities"
        );
    }
    for ask in [
        ("create", RBAC, "rolebindings", ""),
        ("create", "", "pods", ""),
        ("get", "", "secrets", "any"),
    ] {
        ensure!(
            !may(&operator, IDENTITY_NAMESPACE, ask).await?,
            "may {ask:?} among the identities"
        );
    }
    Ok(())
}

#[tokio::test]
async fn where_it_is_not_enrolled_it_writes_nothing_of_tenants() -> Result<()> {
    let cp = cluster().await?;
    let operator = cp.service_account(NAMESPACE, SERVICE_ACCOUNT).await?;
    let spec = SelfSubjectRulesReviewSpec {
        namespace: Some(ELSEWHERE.to_owned()),
    };
    let review = SelfSubjectRulesReview {
        spec,
        ..SelfSubjectRulesReview::default()
    };
    let answer = Api::all(operator.clone())
        .create(&PostParams::default(), &review)
        .await?;
    let rules = answer.status.map(|status| status.resource_rules).unwrap_or_default();
    ensure!(!rules.is_empty());
    for rule in rules {
        let writes = rule
            .verbs
            .iter()
            .any(|verb| !["get", "list", "watch"].contains(&verb.as_str()));
        let groups = rule.api_groups.clone().unwrap_or_default();
        // Asking who one is and what one may is everybody's.
        let allowed = [OURS, "events.k8s.io", "authorization.k8s.io", "authentication.k8s.io"];
        ensure!(
            !writes || groups.iter().all(|group| allowed.contains(&group.as_str())),
            "writes {rule:?}"
        );
        let resources = rule.resources.clone().unwrap_or_default();
        ensure!(
            !resources
                .iter()
                .any(|it| it == "*" || it == "secrets" || it == "configmaps"),
            "reads {rule:?}"
        );
    }
    let secrets: Api<Secret> = Api::namespaced(operator.clone(), ELSEWHERE);
    let refused = secrets.list(&ListParams::default()).await;
    ensure!(
        matches!(&refused, Err(Error::Api(status)) if status.is_forbidden()),
        "Secrets elsewhere"
    );
    let secrets: Api<Secret> = Api::all(operator);
    let refused = secrets.list(&ListParams::default()).await;
    ensure!(
        matches!(&refused, Err(Error::Api(status)) if status.is_forbidden()),
        "Secrets everywhere"
    );
    Ok(())
}
