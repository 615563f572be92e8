//! What must hold of everything that the tests beside this one do: it waits for them, and looks at the whole of it. Tests
//! begin in the order of their names, so this one begins last.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use kube::api::ListParams;
use serde_json::{Value, json};
use wayleave_e2e::eventually;
use wayleave_e2e::tenant::{LIMIT, api, tenants};

use crate::cluster::{cluster, tenant};

const OPERATOR: &str = "system:serviceaccount:wayleave-system:wayleave";
/// As long as the longest of the others.
const OTHERS: Duration = Duration::from_secs(400);

/// Everything that somebody could see, but the data of Secrets.
async fn shown() -> Result<Vec<(String, String)>> {
    let cluster = cluster().await?;
    let root = cluster.cp.admin().await?;
    let mut shown = vec![
        ("the log".to_owned(), cluster.operator.logs()?),
        ("the metrics".to_owned(), cluster.operator.metrics().await?),
        ("the audit log".to_owned(), cluster.cp.audit()?.text()?),
    ];
    let kinds = [
        "AccessDecision",
        "AccessGrant",
        "AccessOwner",
        "AccessPolicy",
        "ConfigMap",
        "Event",
        "Namespace",
        "PartnerIntegration",
        "Role",
        "RoleBinding",
        "ServiceAccount",
    ];
    for kind in kinds {
        let all = api(&root, kind, "").list(&ListParams::default()).await?;
        shown.push((kind.to_owned(), serde_json::to_string(&all.items)?));
    }
    for mut secret in api(&root, "Secret", "").list(&ListParams::default()).await? {
        secret.data = Value::Null;
        shown.push(("a Secret's metadata".to_owned(), serde_json::to_string(&secret)?));
    }
    Ok(shown)
}

#[tokio::test]
async fn no_token_is_shown_and_no_binding_is_put_back() -> Result<()> {
    let cluster = cluster().await?;
    {
        // Of its own, so that there is something to look for when it runs alone.
        let tenant = tenant("whole-run").await?;
        tenant.live("reader", json!({})).await?;
        let ask = json!({"metadata": {"annotations": {"wayleave.dev/rotateRequestedAt": "now"}}});
        tenant
            .patch_as(&tenant.carol, "AccessGrant", &tenant.ns, "reader", ask)
            .await?;
        eventually("the rotation", LIMIT, || async {
            let grant = tenant.get_grant("reader").await?;
            Ok((grant["status"]["credential"]["deliveredGeneration"] == 2).then_some(()))
        })
        .await?;
    }
    eventually("the other tests to end", OTHERS, || async {
        match tenants() {
            0 => Ok(Some(())),
            left => bail!("{left} tenants are left"),
        }
    })
    .await?;
    eventually("the tokens to be collected", LIMIT, || async {
        Ok((cluster.tokens.count() >= 2).then_some(()))
    })
    .await?;
    let shown = shown().await?;
    let has = |name: &str, what: &str| shown.iter().any(|(at, text)| at == name && text.contains(what));
    ensure!(
        has("the audit log", "rolebindings") && has("AccessGrant", "Issued") && has("the metrics", "wayleave_"),
        "there is nothing to look at"
    );
    let found = cluster.tokens.found_in(&shown);
    ensure!(found.is_empty(), "a token, or a part of one, is in {found:?}");
    wayleave_e2e::progress(&format!("no trace of {} tokens", cluster.tokens.count()));

    // An update or an apply of a binding would put back what somebody has just taken away.
    let start = wayleave_e2e::Mark::default();
    let calls = cluster.cp.audit()?.since(start)?.by_user(OPERATOR).writes();
    let put_back: Vec<String> = calls
        .iter()
        .filter(|call| {
            let object = call.object_ref.clone().unwrap_or_default();
            let access = ["rolebindings", "roles"].contains(&object.resource.as_str());
            access && object.name.starts_with("wlg-") && matches!(call.verb.as_str(), "update" | "patch")
        })
        .map(|call| format!("{} {}", call.verb, call.request_uri))
        .collect();
    ensure!(put_back.is_empty(), "access is made by POST alone, not by {put_back:?}");
    Ok(())
}
