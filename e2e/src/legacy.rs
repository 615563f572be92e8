//! A partner's identity from before: a ServiceAccount that somebody made by hand, with a static token.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::eventually::eventually;
use crate::tenant::{LIMIT, Partner, Tenant, create};

/// The ServiceAccount.
pub const LEGACY: &str = "legacy";
/// The Secret with its static token.
pub const TOKEN: &str = "legacy-token";

/// Makes the ServiceAccount and its static token, which has no right yet; gives who holds it.
pub async fn legacy(tenant: &Tenant<'_>) -> Result<Partner> {
    create(&tenant.root, "ServiceAccount", &tenant.ns, LEGACY, json!({})).await?;
    let partner = static_token(tenant, LEGACY, TOKEN).await?;
    // What authenticates looks into a cache of its own.
    eventually("the static token to be known, and to have no right", LIMIT, || async {
        let code = partner.read().await?;
        ensure!(code == 403, "answered with {code}");
        Ok(Some(()))
    })
    .await?;
    Ok(partner)
}

/// Makes a static token of a ServiceAccount; gives who holds it.
pub async fn static_token(tenant: &Tenant<'_>, account: &str, secret: &str) -> Result<Partner> {
    let body = json!({
        "type": "kubernetes.io/service-account-token",
        "metadata": {"annotations": {"kubernetes.io/service-account.name": account}},
    });
    create(&tenant.root, "Secret", &tenant.ns, secret, body).await?;
    eventually("the static token to be filled in and known", LIMIT, || async {
        let partner = tenant.holder(secret).await?;
        // The API server may not have seen yet what it is the token of.
        Ok((partner.read().await? != 401).then_some(partner))
    })
    .await
}

/// The spec of a grant by that credential, to be merged into another.
pub fn by_legacy() -> Value {
    json!({"credential": {"type": "Static", "token": null, "static": {
        "serviceAccountName": LEGACY, "secretName": TOKEN,
        "reason": "its middleware reads one token at its start", "replacement": "AccessGrant reader-2",
    }}})
}

/// Lets the tenant's policy permit static credentials under these controls.
pub async fn permit(tenant: &Tenant<'_>, controls: Value) -> Result<()> {
    let policy = json!({"spec": {"credentials": ["Token", "Static"], "staticCredentials": controls}});
    tenant
        .patch_as(&tenant.root, "AccessPolicy", "", &tenant.ns, policy)
        .await?;
    Ok(())
}
