//! All partners as one group: what they take of the API server together, and what its audit log keeps of them.

use anyhow::{Result, ensure};
use kube::Client;
use kube::client::Body;
use serde_json::json;
use wayleave_e2e::operator::{IDENTITY_NAMESPACE, workspace};
use wayleave_e2e::{ControlPlane, eventually};

use crate::install::{ELSEWHERE, LIMIT, apply, cluster, kubectl};

/// Who is in it may write, as nobody is bound whom partners' group names.
const WRITERS: &str = "audit-probe";

/// Somebody with the name and the groups of a partner's identity.
async fn partner(cp: &ControlPlane) -> Result<Client> {
    let group = format!("system:serviceaccounts:{IDENTITY_NAMESPACE}");
    let name = format!("system:serviceaccount:{IDENTITY_NAMESPACE}:wlg-probe");
    cp.user(
        &name,
        &["system:authenticated", "system:serviceaccounts", &group, WRITERS],
    )
    .await
}

/// The UID of the FlowSchema by which a request is let in.
async fn flow(client: &Client) -> Result<String> {
    let request = http::Request::get("/version").body(Body::empty())?;
    let answer = client.send(request).await?;
    let uid = answer.headers().get("x-kubernetes-pf-flowschema-uid");
    Ok(uid.map_or_else(String::new, |uid| String::from_utf8_lossy(uid.as_bytes()).into_owned()))
}

#[tokio::test]
async fn partners_have_a_share_of_the_api_server_of_their_own() -> Result<()> {
    let cp = cluster().await?;
    let uid = [
        "get",
        "flowschema",
        "wayleave-partners",
        "-o",
        "jsonpath={.metadata.uid}",
    ];
    let uid = kubectl(cp).await?.args(uid).run().await?.ok()?;
    let partner = partner(cp).await?;
    eventually("partners to be told from others", LIMIT, || async {
        let by = flow(&partner).await?;
        ensure!(by == uid, "let in by {by}, not by {uid}");
        Ok(Some(()))
    })
    .await?;
    let other = cp.service_account("default", "default").await?;
    ensure!(flow(&other).await? != uid, "nobody else is meant");
    Ok(())
}

#[tokio::test]
async fn the_audit_log_keeps_what_partners_changed_and_no_secret() -> Result<()> {
    let cp = cluster().await?;
    let rights = json!({"apiVersion": "v1", "kind": "List", "items": [
        {
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
            "metadata": {"name": WRITERS, "namespace": ELSEWHERE},
            "rules": [{"apiGroups": [""], "resources": ["services", "secrets"], "verbs": ["create"]}]
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": WRITERS, "namespace": ELSEWHERE},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": WRITERS},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": WRITERS}]
        }
    ]});
    apply(cp, &[], &rights.to_string()).await?.ok()?;
    let partner = partner(cp).await?;
    let audit = cp.audit()?;
    let mark = audit.mark()?;
    let write = async |resource: &str, object: serde_json::Value| {
        let path = format!("/api/v1/namespaces/{ELSEWHERE}/{resource}");
        let request = http::Request::post(path).header("content-type", "application/json");
        let request = request.body(object.to_string().into_bytes())?;
        anyhow::Ok(partner.request::<serde_json::Value>(request).await?)
    };
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "left-behind"},
        "spec": {"type": "ExternalName", "externalName": "left.example"}
    });
    eventually("the right to be seen", LIMIT, || async {
        write("services", service.clone()).await?;
        Ok(Some(()))
    })
    .await?;
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "left-behind"},
        "stringData": {"a": "told-to-nobody"}
    });
    write("secrets", secret).await?;
    audit
        .wait_for(mark, "the partner's Secret", LIMIT, |event| {
            event.verb == "create" && event.is_resource("secrets") && event.user.username.ends_with(":wlg-probe")
        })
        .await?;
    let log = audit.text()?;
    ensure!(log.contains("\"externalName\":\"left.example\""), "what was changed");
    ensure!(!log.contains("told-to-nobody"), "what is secret");
    Ok(())
}

#[tokio::test]
async fn the_audit_policy_means_the_group_that_the_chart_makes() -> Result<()> {
    let text = std::fs::read_to_string(workspace().join("deploy/audit-policy.yaml"))?;
    let policy: serde_json::Value = serde_saphyr::from_str(&text)?;
    let rules = policy["rules"].as_array().into_iter().flatten();
    let groups: Vec<_> = rules.map(|rule| &rule["userGroups"]).collect();
    let group = json!([format!("system:serviceaccounts:{IDENTITY_NAMESPACE}")]);
    ensure!(groups.len() > 2 && groups.iter().all(|it| **it == group), "{groups:?}");
    Ok(())
}
