//! Every rule of a policy, and what no policy lifts, refuses a request in words that tell its requester what is wrong; and where
//! a permission is taken away, what rested on it ends. Rules that have a test of their own elsewhere are not here again.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};
use wayleave_e2e::operator::{IDENTITY_NAMESPACE, NAMESPACE};
use wayleave_e2e::tenant::{LIMIT, Partner, api, condition, create, in_seconds, merge, next_second, text};
use wayleave_e2e::{Tenant, eventually};

use crate::cluster::{READING, cluster, tenant};

const READER: &str = "reader";
/// The namespace of the table, and its policy.
const NS: &str = "refusals";
const AT_ONCE: usize = 4;
/// ClusterRoles that the policy of the table lists, but for the last: what they hold is what a policy can't let through by that.
const ROLES: [(&str, &str); 5] = [
    (
        "refusals-watches",
        r#"{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "watch"]}"#,
    ),
    (
        "refusals-writes",
        r#"{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get", "patch"]}"#,
    ),
    (
        "refusals-urls",
        r#"{"nonResourceURLs": ["/metrics"], "verbs": ["get"]}"#,
    ),
    (
        "refusals-all-verbs",
        r#"{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["*"]}"#,
    ),
    (
        "refusals-unlisted",
        r#"{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}"#,
    ),
];
/// Listed by the policy, and not there.
const MISSING: &str = "refusals-missing";

/// A request that is sound but for one thing.
struct Row {
    name: &'static str,
    /// What is other than sound in the integration and in the grant.
    integration: Value,
    grant: Value,
    /// All that is said against it.
    words: String,
}

pub fn rule(group: &str, resource: &str, verbs: &[&str], names: &[&str]) -> Value {
    let mut rule = json!({"apiGroups": [group], "resources": [resource], "verbs": verbs});
    if !names.is_empty() {
        rule["resourceNames"] = json!(names);
    }
    rule
}

/// The dates of a grant of two hours to the second, one of which has passed.
pub fn two_hours() -> Result<Value> {
    let start: k8s_openapi::jiff::Timestamp = in_seconds(-3_600).parse()?;
    let end = start + k8s_openapi::jiff::SignedDuration::from_hours(2);
    Ok(json!({"startsAt": start.to_string(), "expiresAt": end.to_string()}))
}

/// What is never granted, though the policy's ceiling has room for it: group, resource, verb, names, and what is said.
const NEVER: [(&str, &str, &str, &str, &[&str]); 16] = [
    (
        "tokens",
        "",
        "serviceaccounts/token",
        "create",
        &["serviceaccounts/token is never granted"],
    ),
    (
        "nodes",
        "",
        "nodes/proxy",
        "get",
        &["nodes/proxy is never granted", "proxy outlives"],
    ),
    (
        "debugging",
        "",
        "pods/ephemeralcontainers",
        "update",
        &["pods/ephemeralcontainers is never granted"],
    ),
    (
        "impersonating",
        "",
        "users",
        "impersonate",
        &["impersonation is never granted"],
    ),
    (
        "secrets",
        "",
        "secrets",
        "get",
        &[
            "secrets are granted by resourceNames only",
            "reaches Secrets that deliver credentials in namespace refusals",
        ],
    ),
    (
        "new-secrets",
        "",
        "secrets",
        "create",
        &[
            "create on secrets is never granted",
            "secrets are granted by resourceNames only",
            "reaches Secrets that deliver credentials in namespace refusals",
        ],
    ),
    (
        "approving",
        "certificates.k8s.io",
        "certificatesigningrequests/approval",
        "update",
        &["certificatesigningrequests/approval is never granted"],
    ),
    (
        "certifying",
        "certificates.k8s.io",
        "certificatesigningrequests/status",
        "update",
        &["certificatesigningrequests/status is never granted"],
    ),
    (
        "signing",
        "certificates.k8s.io",
        "signers",
        "sign",
        &["signers is never granted"],
    ),
    (
        "pod-certificates",
        "certificates.k8s.io",
        "podcertificaterequests",
        "create",
        &["podcertificaterequests is never granted"],
    ),
    (
        "escalating",
        "rbac.authorization.k8s.io",
        "roles",
        "escalate",
        &["the verb escalate is never granted"],
    ),
    (
        "binding",
        "rbac.authorization.k8s.io",
        "clusterroles",
        "bind",
        &["the verb bind is never granted"],
    ),
    (
        "admission",
        "admissionregistration.k8s.io",
        "validatingwebhookconfigurations",
        "get",
        &["admission webhooks and policies (admissionregistration.k8s.io) are never granted"],
    ),
    (
        "kinds",
        "apiextensions.k8s.io",
        "customresourcedefinitions",
        "get",
        &["CustomResourceDefinitions (apiextensions.k8s.io) are never granted"],
    ),
    (
        "services",
        "apiregistration.k8s.io",
        "apiservices",
        "get",
        &["APIServices (apiregistration.k8s.io) are never granted"],
    ),
    (
        "ours",
        "wayleave.dev",
        "accessgrants",
        "get",
        &["the kinds that govern access (wayleave.dev) are never granted"],
    ),
];

/// What outlives a revocation: resource, verb, and what it is called.
const LASTING: [(&str, &str, &str, &str); 6] = [
    ("watching", "configmaps", "watch", "watch"),
    ("running", "pods/exec", "create", "exec"),
    ("attaching", "pods/attach", "create", "attach"),
    ("forwarding", "pods/portforward", "create", "port-forward"),
    ("proxying", "services/proxy", "get", "proxy"),
    ("following", "pods/log", "get", "log, which can be followed"),
];

/// A policy that asks for everything, and whose ceiling holds whatever the rows ask for: nothing is refused for want of that.
fn policy() -> Value {
    let mut ceiling = vec![
        rule("", "configmaps", &["get", "list"], &[]),
        rule("", "configmaps", &["update"], &["feed"]),
    ];
    ceiling.extend(NEVER.map(|(_, group, resource, verb, _)| rule(group, resource, &[verb], &[])));
    ceiling.extend(LASTING.map(|(_, resource, verb, _)| rule("", resource, &[verb], &[])));
    let roles: Vec<&str> = ROLES[..4].iter().map(|(name, _)| *name).chain([MISSING]).collect();
    json!({"spec": {
        "dataClassifications": ["Internal", "Confidential"], "environments": ["Production"],
        "limits": {"duration": "30d", "credentialLifetime": "1h", "reviewInterval": "90d"},
        "access": {"rules": ceiling, "clusterRoles": roles, "targetNamespaces": {"matchLabels": {"tenant": NS}}},
        "requires": {"ticket": true, "agreement": true, "allowedSources": true},
    }})
}

fn rows() -> Vec<Row> {
    let of_policy = format!(" (policy {NS})");
    let by = of_policy.as_str();
    let at = "spec.access[0].rules[0]: ";
    let role_at = "spec.access[0].clusterRoleRef: ";
    let mut all = Vec::new();
    let mut add = |name, integration, grant, words: String| {
        all.push(Row {
            name,
            integration,
            grant,
            words,
        });
    };
    let as_is = || json!({});
    let rules = |rule: Value| json!({"access": [{"rules": [rule]}]});
    let role = |name: &str| json!({"access": [{"clusterRoleRef": {"name": name}}]});

    add(
        "no-ticket",
        as_is(),
        json!({"ticket": null}),
        format!("spec.ticket: missing, a ticket is required{by}"),
    );
    add(
        "no-agreement-end",
        json!({"agreement": {"endsAt": null}}),
        as_is(),
        format!("integration spec.agreement.endsAt: missing, an end is required{by}"),
    );
    add(
        "no-sources",
        json!({"allowedSources": null}),
        as_is(),
        format!("integration spec.allowedSources: empty, addresses are required{by}"),
    );
    add(
        "classification",
        json!({"dataClassification": "Restricted"}),
        as_is(),
        format!("integration spec.dataClassification: Restricted, allowed are Internal, Confidential{by}"),
    );
    add(
        "environment",
        json!({"environment": "NonProduction"}),
        as_is(),
        format!("integration spec.environment: NonProduction, allowed are Production{by}"),
    );
    add(
        "duration",
        as_is(),
        json!({"startsAt": "2031-01-01T00:00:00Z", "expiresAt": "2031-03-02T00:00:00Z"}),
        format!("spec.expiresAt: 60d after the start, at most 30d{by}"),
    );
    add(
        "lifetime",
        as_is(),
        json!({"credential": {"token": {"lifetime": "2h"}}}),
        format!("spec.credential.token.lifetime: 2h, at most 1h{by}"),
    );
    add(
        "review",
        json!({"review": {"interval": "120d"}}),
        as_is(),
        format!("integration spec.review.interval: 120d, at most 90d{by}"),
    );
    add(
        "grace",
        json!({"review": {"interval": "20d", "grace": "30d"}}),
        as_is(),
        format!("integration spec.review.grace: 30d, at most 20d{by}"),
    );
    for (name, group, resource, verb, beyond) in [
        ("another-verb", "", "configmaps", "patch", "patch configmaps"),
        ("another-resource", "", "services", "get", "get services"),
        ("another-group", "apps", "configmaps", "get", "get apps/configmaps"),
        ("a-subresource", "", "configmaps/status", "get", "get configmaps/status"),
    ] {
        add(
            name,
            as_is(),
            rules(rule(group, resource, &[verb], &[])),
            format!("{at}{beyond} not within access.rules{by}"),
        );
    }
    // Of what a policy names by resourceNames nothing else is given.
    add(
        "every-name",
        as_is(),
        rules(rule("", "configmaps", &["update"], &[])),
        format!("{at}update configmaps not within access.rules{by}"),
    );
    add(
        "another-name",
        as_is(),
        rules(rule("", "configmaps", &["update"], &["other"])),
        format!("{at}update configmaps \"other\" not within access.rules{by}"),
    );
    for (name, resource, verb, word) in LASTING {
        add(
            name,
            as_is(),
            rules(rule("", resource, &[verb], &[])),
            format!("{at}{word} outlives a revocation and access.longRunning is false{by}"),
        );
    }
    for (name, group, resource, verb, said) in NEVER {
        let words = said.iter().map(|words| match *words {
            "proxy outlives" => format!("{at}proxy outlives a revocation and access.longRunning is false{by}"),
            words => format!("{at}{words}"),
        });
        let words: Vec<String> = words.collect();
        add(
            name,
            as_is(),
            rules(rule(group, resource, &[verb], &[])),
            words.join("; "),
        );
    }
    add(
        "our-secret",
        as_is(),
        rules(rule("", "secrets", &["get"], &["wlg-0123456789abcdef-1-g1"])),
        format!("{at}secrets whose names begin with wlg- are never granted"),
    );
    add(
        "own-secret",
        as_is(),
        rules(rule("", "secrets", &["get"], &["own-secret-credential"])),
        format!("{at}the Secret own-secret-credential in namespace {NS} delivers a credential and is never granted"),
    );
    add(
        "another-secret",
        as_is(),
        rules(rule("", "secrets", &["get"], &["sound-credential"])),
        format!("{at}the Secret sound-credential in namespace {NS} delivers a credential and is never granted"),
    );
    add(
        "role-unlisted",
        as_is(),
        role("refusals-unlisted"),
        format!(
            "spec.access[0].clusterRoleRef.name: refusals-unlisted, allowed: \
             refusals-all-verbs, {MISSING}, refusals-urls, refusals-watches, refusals-writes{by}"
        ),
    );
    add(
        "role-missing",
        as_is(),
        role(MISSING),
        format!("spec.access[0].clusterRoleRef.name: there is no ClusterRole {MISSING}"),
    );
    add(
        "role-watches",
        as_is(),
        role("refusals-watches"),
        format!("{role_at}watch outlives a revocation and access.longRunning is false{by}"),
    );
    add(
        "role-writes",
        as_is(),
        role("refusals-writes"),
        format!("{role_at}patch apps/deployments must be named in access.rules{by}"),
    );
    add(
        "role-urls",
        as_is(),
        role("refusals-urls"),
        format!("{role_at}non-resource URLs are never granted"),
    );
    add(
        "role-all-verbs",
        as_is(),
        role("refusals-all-verbs"),
        format!(
            "{role_at}'*' in verbs is never granted; {role_at}watch outlives a revocation and access.longRunning is false{by}"
        ),
    );
    for (name, namespace, more) in [
        ("elsewhere", "default", ""),
        (
            "reserved",
            "kube-system",
            "; spec.access[0].namespaces: kube-system is reserved",
        ),
    ] {
        let mut grant = rules(rule("", "configmaps", &["get"], &["feed"]));
        grant["access"][0]["namespaces"] = json!([namespace]);
        grant["credential"] = json!({"token": {"delivery": "Private"}});
        add(
            name,
            as_is(),
            grant,
            format!(
                "spec.access[0].namespaces: {namespace} is beyond the grant's own namespace, not selected by \
                 access.targetNamespaces{by}{more}"
            ),
        );
    }
    all
}

/// An integration and a grant of it under one name, sound but for what is given.
async fn ask(tenant: &Tenant<'_>, name: &str, integration: Value, grant: Value) -> Result<()> {
    let mut documented = json!({
        "agreement": {"endsAt": in_seconds(365 * 86_400)}, "allowedSources": ["203.0.113.0/24"],
    });
    merge(&mut documented, integration);
    tenant.integration(name, documented).await?;
    let mut asked = json!({"integrationRef": {"name": name}, "ticket": "CHG-4711"});
    merge(&mut asked, grant);
    tenant.grant(name, asked).await.map(drop)
}

/// What the requester reads of a grant of that reason.
pub async fn told(tenant: &Tenant<'_>, name: &str, reason: &str) -> Result<String> {
    tenant.wait_reason(name, reason).await?;
    let grant = api(&tenant.carol, "AccessGrant", &tenant.ns).get(name).await?;
    let grant = serde_json::to_value(grant)?;
    let (ready, active) = (condition(&grant, "Ready"), condition(&grant, "Active"));
    ensure!(
        ready["message"] == active["message"] && ready["reason"] == reason && active["status"] == "False",
        "{ready} {active}"
    );
    if reason == "NotPermitted" {
        let stalled = condition(&grant, "Stalled");
        ensure!(
            ready["status"] == "False" && stalled["status"] == "True",
            "{ready} {stalled}"
        );
    }
    Ok(text(&active["message"]))
}

/// Waits until the requester reads just that: a policy may be seen after the grant.
pub async fn is_told(tenant: &Tenant<'_>, name: &str, reason: &str, words: &str) -> Result<()> {
    eventually(&format!("{name} to say so"), LIMIT, || async {
        let said = told(tenant, name, reason).await?;
        ensure!(said == words, "{said}\n  is not: {words}");
        Ok(Some(()))
    })
    .await
}

/// Waits until a decision is told that it does not count, and why; gives the words.
pub async fn not_counted(tenant: &Tenant<'_>, decision: &Value, reason: &str) -> Result<String> {
    let name = text(&decision["metadata"]["name"]);
    eventually(&format!("{name} to be told {reason}"), LIMIT, || async {
        let decision = api(&tenant.root, "AccessDecision", &tenant.ns).get(&name).await?;
        let counted = condition(&serde_json::to_value(decision)?, "Counted");
        ensure!(counted["status"] == "False" && counted["reason"] == reason, "{counted}");
        Ok(Some(text(&counted["message"])))
    })
    .await
}

#[tokio::test]
async fn every_rule_refuses_and_says_so() -> Result<()> {
    let tenant = Tenant::without_integration(cluster().await?.cp, NS).await?;
    let root = &tenant.root;
    for (name, rule) in ROLES {
        let rule: Value = serde_json::from_str(rule)?;
        create(root, "ClusterRole", "", name, json!({"rules": [rule]})).await?;
    }
    tenant.patch_as(root, "AccessPolicy", "", NS, policy()).await?;
    ask(&tenant, "sound", json!({}), json!({})).await?;
    tenant.wait_reason("sound", "AwaitingApproval").await?;
    let rows = rows();
    stream::iter(&rows)
        .map(|row| ask(&tenant, row.name, row.integration.clone(), row.grant.clone()))
        .buffer_unordered(AT_ONCE)
        .try_collect::<Vec<()>>()
        .await?;
    let mut wrong = Vec::new();
    for row in &rows {
        let said = told(&tenant, row.name, "NotPermitted").await?;
        // What else there is against a request that nobody approved comes after it.
        let against = said.split("; 1 approval").next().unwrap_or_default();
        if against != row.words {
            wrong.push(format!("{}: {said}\n  is not: {}", row.name, row.words));
        }
        let uid = text(&tenant.get_grant(row.name).await?["metadata"]["uid"]);
        let made = tenant.children(&uid).await?;
        ensure!(made.is_empty(), "{}: {made:?}", row.name);
    }
    ensure!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        rows.len(),
        wrong.join("\n")
    );
    wayleave_e2e::progress(&format!("{} requests refused, each in its own words", rows.len()));
    Ok(())
}

/// A policy that lets grants reach any namespace doesn't open those of the system, nor ours.
#[tokio::test]
async fn no_policy_opens_the_namespaces_of_the_system() -> Result<()> {
    let tenant = tenant("refusals-open").await?;
    let any = json!({"spec": {"access": {"targetNamespaces": {"matchLabels": {}}}}});
    tenant
        .patch_as(&tenant.root, "AccessPolicy", "", &tenant.ns, any)
        .await?;
    for namespace in ["kube-system", NAMESPACE, IDENTITY_NAMESPACE] {
        let mut access = tenant.grant_spec()["access"].clone();
        access[0]["namespaces"] = json!([namespace]);
        let private = json!({"access": access, "credential": {"token": {"delivery": "Private"}}});
        tenant.grant(namespace, private).await?;
        let words = format!("spec.access[0].namespaces: {namespace} is reserved; 1 approval asked for");
        is_told(&tenant, namespace, "NotPermitted", &words).await?;
        let uid = text(&tenant.get_grant(namespace).await?["metadata"]["uid"]);
        let made = tenant.children(&uid).await?;
        ensure!(made.is_empty(), "{made:?}");
    }
    Ok(())
}

/// A permission that is taken away from a live grant.
struct Loss {
    ns: &'static str,
    /// The tenant's policy until then, and what is asked for under it.
    policy: Value,
    grant: Value,
    /// The change of the policy or of the namespace: both are called like the tenant.
    kind: &'static str,
    change: Value,
    /// A part of what is said then.
    words: String,
}

fn losses() -> Vec<Loss> {
    let of_policy = |ns, change: Value, words: &str| Loss {
        ns,
        policy: json!({}),
        grant: json!({}),
        kind: "AccessPolicy",
        change: json!({"spec": change}),
        words: format!("{words} (policy {ns})"),
    };
    let of_namespace = |ns, labels: Value, words: &str| Loss {
        kind: "Namespace",
        change: json!({"metadata": {"labels": labels}}),
        words: words.to_owned(),
        ..of_policy(ns, json!({}), "")
    };
    let watching = rule("", "configmaps", &["get", "watch"], &["feed"]);
    vec![
        of_policy(
            "lost-ticket",
            json!({"requires": {"ticket": true}}),
            "spec.ticket: missing, a ticket is required",
        ),
        of_policy(
            "lost-agreement",
            json!({"requires": {"agreement": true}}),
            "integration spec.agreement.endsAt: missing, an end is required",
        ),
        of_policy(
            "lost-sources",
            json!({"requires": {"allowedSources": true}}),
            "integration spec.allowedSources: empty, addresses are required",
        ),
        of_policy(
            "lost-environment",
            json!({"environments": ["NonProduction"]}),
            "integration spec.environment: Production, allowed are NonProduction",
        ),
        of_policy(
            "lost-duration",
            json!({"limits": {"duration": "1h"}}),
            " after the start, at most 1h",
        ),
        of_policy(
            "lost-lifetime",
            json!({"limits": {"credentialLifetime": "30m"}}),
            "spec.credential.token.lifetime: 1h, at most 30m",
        ),
        of_policy(
            "lost-review",
            json!({"limits": {"reviewInterval": "30d"}}),
            "integration spec.review.interval: 90d, at most 30d",
        ),
        Loss {
            policy: json!({"spec": {"access": {
                "longRunning": true, "rules": [rule("", "configmaps", &["get", "watch"], &[])],
            }}}),
            grant: json!({"access": [{"rules": [watching]}]}),
            ..of_policy(
                "lost-watch",
                json!({"access": {"longRunning": false}}),
                "spec.access[0].rules[0]: watch outlives a revocation and access.longRunning is false",
            )
        },
        Loss {
            policy: json!({"spec": {"access": {"clusterRoles": [READING]}}}),
            grant: json!({"access": [{"clusterRoleRef": {"name": READING}}]}),
            ..of_policy(
                "lost-role",
                json!({"access": {"clusterRoles": null}}),
                "spec.access[0].clusterRoleRef.name: reading-role, allowed: none",
            )
        },
        Loss {
            policy: json!({"spec": {"dataClassifications": ["Internal", "Confidential"]}}),
            ..of_namespace(
                "lost-classification",
                json!({"wayleave.dev/classification": "Restricted"}),
                "integration spec.dataClassification: Restricted by the label wayleave.dev/classification of namespace \
                 lost-classification, allowed are Internal, Confidential (policy lost-classification)",
            )
        },
        of_namespace(
            "lost-selection",
            json!({"tenant": null}),
            "metadata.namespace: lost-selection is selected by no AccessPolicy: ",
        ),
    ]
}

/// A tenant with a live grant under the policy from before, and its partner.
async fn before(loss: &Loss) -> Result<(Tenant<'static>, Partner)> {
    let tenant = tenant(loss.ns).await?;
    tenant
        .patch_as(&tenant.root, "AccessPolicy", "", loss.ns, loss.policy.clone())
        .await?;
    let partner = tenant.live(READER, loss.grant.clone()).await.context(loss.ns)?;
    Ok((tenant, partner))
}

#[tokio::test]
async fn what_takes_a_permission_away_ends_the_access() -> Result<()> {
    let root = cluster().await?.cp.admin().await?;
    let reading = json!({"rules": [rule("", "configmaps", &["get"], &[])]});
    create(&root, "ClusterRole", "", READING, reading).await?;
    let losses = losses();
    let live: Vec<(Tenant<'_>, Partner)> = stream::iter(&losses)
        .map(before)
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    // One after another: each end is timed.
    for (loss, (tenant, partner)) in losses.iter().zip(&live) {
        let uid = text(&tenant.get_grant(READER).await?["metadata"]["uid"]);
        let cause = Instant::now();
        tenant
            .patch_as(&tenant.root, loss.kind, "", loss.ns, loss.change.clone())
            .await?;
        partner.refused_since(cause).await.context(loss.ns)?;
        let said = told(tenant, READER, "NotPermitted").await?;
        ensure!(said.contains(&loss.words), "{}: {said}", loss.ns);
        tenant.wait_nothing_left(&uid).await.context(loss.ns)?;
    }
    for (_, partner) in &live {
        partner.wait_unauthorized().await?;
    }
    Ok(())
}

#[tokio::test]
async fn of_two_grants_the_younger_ends_where_one_is_allowed() -> Result<()> {
    let tenant = tenant("lost-count").await?;
    let first = tenant.live("first", json!({})).await?;
    next_second().await;
    let second = tenant.live("second", json!({})).await?;
    let one = json!({"spec": {"limits": {"activeGrantsPerIntegration": 1}}});
    let cause = Instant::now();
    tenant
        .patch_as(&tenant.root, "AccessPolicy", "", &tenant.ns, one)
        .await?;
    second.refused_since(cause).await?;
    let said = told(&tenant, "second", "NotPermitted").await?;
    ensure!(said == "1 grants of acme are active already, at most 1", "{said}");
    ensure!(first.read().await? == 200);
    Ok(())
}

#[tokio::test]
async fn an_approval_that_leaves_out_a_namespace_does_not_count() -> Result<()> {
    let tenant = tenant("target-missing").await?;
    let other = "target-missing-other";
    tenant.open(other).await?;
    let mut access = tenant.grant_spec()["access"].clone();
    access[0]["namespaces"] = json!([tenant.ns, other]);
    let private = json!({"access": access, "credential": {"token": {"delivery": "Private"}}});
    let grant = tenant.grant(READER, private).await?;
    let approval = tenant.approve(READER, json!({})).await?;
    let said = not_counted(&tenant, &approval, "TargetMissing").await?;
    let words = format!("spec.targetNamespaces does not name {other}, which the grant reaches");
    ensure!(said == words, "{said}");
    let name = text(&approval["metadata"]["name"]);
    eventually("the grant to say so", LIMIT, || async {
        let said = told(&tenant, READER, "AwaitingApproval").await?;
        ensure!(
            said.ends_with(&format!("; AccessDecision {name} does not count: {words}")),
            "{said}"
        );
        Ok(Some(()))
    })
    .await?;
    let made = tenant.children(&text(&grant["metadata"]["uid"])).await?;
    ensure!(made.is_empty(), "{made:?}");
    tenant
        .approve(READER, json!({"targetNamespaces": [tenant.ns, other]}))
        .await?;
    tenant.wait_reason(READER, "Issued").await?;
    Ok(())
}

#[tokio::test]
async fn an_approval_from_before_an_owner_was_there_does_not_count() -> Result<()> {
    let tenant = Tenant::without_integration(cluster().await?.cp, "owners-changed").await?;
    let late = tenant.owner_name("late");
    let owners = json!({"owners": {"technicalRef": {"name": late}}});
    tenant.integration("acme", owners).await?;
    tenant.grant(READER, json!({})).await?;
    tenant.wait_reason(READER, "OwnerRemoved").await?;
    let approval = tenant.approve(READER, json!({})).await?;
    let said = not_counted(&tenant, &approval, "OwnerMissing").await?;
    ensure!(
        said == format!("AccessOwner {late} does not exist or can't be read"),
        "{said}"
    );
    next_second().await;
    tenant.owner("late").await?;
    let said = not_counted(&tenant, &approval, "OwnersChanged").await?;
    ensure!(
        said == format!("it was made before AccessOwner {late} was there"),
        "{said}"
    );
    eventually("the grant to say so", LIMIT, || async {
        let said = told(&tenant, READER, "AwaitingApproval").await?;
        ensure!(
            said.contains(&format!(
                "does not count: it was made before AccessOwner {late} was there"
            )),
            "{said}"
        );
        Ok(Some(()))
    })
    .await?;
    tenant.approve(READER, json!({})).await?;
    tenant.wait_reason(READER, "Issued").await?;
    Ok(())
}

/// Who edits the interval afterwards shortens what was approved, and never prolongs it.
#[tokio::test]
async fn a_longer_interval_between_reviews_prolongs_no_approval() -> Result<()> {
    let tenant = tenant("review-frozen").await?;
    tenant.live(READER, json!({})).await?;
    let approval = async || anyhow::Ok(tenant.get_grant(READER).await?["status"]["approvals"][0].clone());
    let given = approval().await?;
    // By the way there and back everything was weighed under it.
    let reviewed = async |interval: &str| {
        let review = json!({"spec": {"review": {"interval": interval}, "suspend": true}});
        tenant
            .patch_as(&tenant.carol, "PartnerIntegration", &tenant.ns, "acme", review)
            .await?;
        tenant.wait_reason(READER, "IntegrationSuspended").await?;
        let resumed = json!({"spec": {"suspend": false}});
        tenant
            .patch_as(&tenant.carol, "PartnerIntegration", &tenant.ns, "acme", resumed)
            .await?;
        tenant.wait_reason(READER, "Issued").await?;
        approval().await
    };
    let after = reviewed("365d").await?;
    ensure!(after == given, "{given} is now {after}");
    let shorter = reviewed("1d").await?;
    let at: k8s_openapi::jiff::Timestamp = text(&given["at"]).parse()?;
    let day = (at + k8s_openapi::jiff::SignedDuration::from_hours(24)).to_string();
    ensure!(
        shorter["validUntil"] == day.as_str() && shorter["reviewDue"] == day.as_str(),
        "{shorter}"
    );
    let back = reviewed("90d").await?;
    ensure!(back == shorter, "{shorter} is now {back}");
    Ok(())
}
