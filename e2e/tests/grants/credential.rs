//! Credentials: rotation on request and after tampering, without a failure for who reads the Secret.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use wayleave_e2e::tenant::{LIMIT, text};
use wayleave_e2e::{Tenant, eventually};

use crate::cluster::tenant;

/// What looks by itself looks once a minute: sooner than this is at once, whatever else is tested meanwhile.
const SOON: Duration = Duration::from_secs(10);

async fn wait_generation(tenant: &Tenant<'_>, generation: i64) -> Result<Value> {
    eventually("the next credential", Duration::from_secs(75), || async {
        let grant = tenant.get_grant("reader").await?;
        Ok((grant["status"]["credential"]["deliveredGeneration"] == generation).then_some(grant))
    })
    .await
}

async fn ask(tenant: &Tenant<'_>, when: &str) -> Result<()> {
    let asked = json!({"metadata": {"annotations": {"wayleave.dev/rotateRequestedAt": when}}});
    tenant
        .patch_as(&tenant.carol, "AccessGrant", &tenant.ns, "reader", asked)
        .await
        .map(drop)
}

#[tokio::test]
async fn a_rotation_on_request_is_answered_and_the_old_token_dies() -> Result<()> {
    let tenant = tenant("rotate-asked").await?;
    let old = tenant.live("reader", json!({})).await?;
    let before = tenant.get_grant("reader").await?;
    let asked = Instant::now();
    ask(&tenant, "2026-11-24T10:00:00Z").await?;
    let after = wait_generation(&tenant, 2).await?;
    ensure!(asked.elapsed() < SOON, "answered after {:?}", asked.elapsed());
    ensure!(after["status"]["lastHandledRotateAt"] == "2026-11-24T10:00:00Z");
    let id = |grant: &Value| text(&grant["status"]["credential"]["credentialId"]);
    ensure!(
        id(&before) != id(&after) && id(&after).len() == 36,
        "{} {}",
        id(&before),
        id(&after)
    );
    ensure!(
        before["status"]["identity"] == after["status"]["identity"],
        "the identity stays"
    );
    tenant.partner("reader").await?.answered().await?;
    old.wait_unauthorized().await?;
    let anchors = tenant.children(&text(&after["metadata"]["uid"])).await?;
    ensure!(anchors.len() == 5, "one anchor is left: {anchors:?}");
    Ok(())
}

#[tokio::test]
async fn who_reads_the_secret_each_time_never_sees_a_failure() -> Result<()> {
    let tenant = tenant("rotate-reader").await?;
    tenant.live("reader", json!({})).await?;
    let reading = async {
        let mut reads = 0_u32;
        loop {
            let partner = tenant.partner("reader").await?;
            let code = partner.read().await?;
            // Who is asked for another has no overlap: the Secret may have been replaced between its reading and its use.
            let is_replaced = code == 401 && tenant.partner("reader").await?.token != partner.token;
            ensure!(code == 200 || is_replaced, "after {reads} reads: {code}");
            reads += 1;
            let grant = tenant.get_grant("reader").await?;
            if grant["status"]["credential"]["deliveredGeneration"] == 5 {
                return Ok(reads);
            }
        }
    };
    let rotating = async {
        for generation in 2..=5 {
            ask(&tenant, &format!("request {generation}")).await?;
            wait_generation(&tenant, generation).await?;
        }
        Ok(())
    };
    let (reads, ()) = tokio::try_join!(reading, rotating)?;
    ensure!(reads > 4, "only {reads} reads");
    Ok(())
}

#[tokio::test]
async fn what_somebody_else_wrote_into_the_secret_is_replaced() -> Result<()> {
    let tenant = tenant("rotate-tampered").await?;
    tenant.live("reader", json!({})).await?;
    let tampered = json!({"stringData": {"token": "not a token", "more": "data"}});
    tenant.patch("Secret", "reader-credential", tampered).await?;
    // At most once a minute.
    let after = wait_generation(&tenant, 2).await?;
    let secret = wayleave_e2e::tenant::api(&tenant.root, "Secret", &tenant.ns)
        .get("reader-credential")
        .await?;
    let keys: Vec<&String> = secret.data["data"]
        .as_object()
        .into_iter()
        .flat_map(|data| data.keys())
        .collect();
    ensure!(
        keys == ["ca.crt", "kubeconfig", "namespace", "server", "token"],
        "{keys:?}"
    );
    ensure!(tenant.partner("reader").await?.read().await? == 200);
    eventually("it to stay at that", LIMIT, || async {
        let grant = tenant.get_grant("reader").await?;
        ensure!(grant["status"]["credential"]["generation"] == 2, "rotated again");
        let anchors = tenant.children(&text(&grant["metadata"]["uid"])).await?;
        Ok((anchors.len() == 5).then_some(()))
    })
    .await?;
    ensure!(after["status"]["identity"]["activation"] == 1);
    Ok(())
}
