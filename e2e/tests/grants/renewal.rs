//! A renewed approval moves the end, and the credential follows: the successor comes when it is due, beside the old one.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use wayleave_e2e::eventually;
use wayleave_e2e::tenant::{LIMIT, in_seconds};

use crate::cluster::tenant;

const READER: &str = "reader";
/// The old credential works on for at least two minutes.
const OVERLAP: Duration = Duration::from_secs(200);

#[tokio::test]
async fn after_a_renewal_the_credential_is_rotated_when_it_is_due_and_the_old_one_works_on_for_its_overlap()
-> Result<()> {
    let tenant = tenant("renewal").await?;
    tenant.grant(READER, json!({})).await?;
    // A credential that reaches this end: the last that is due is asked for 730 s before it.
    tenant.approve(READER, json!({"validUntil": in_seconds(690)})).await?;
    let before = tenant.wait_reason(READER, "Issued").await?;
    let old = tenant.partner(READER).await?;
    let credential = |grant: &Value| grant["status"]["credential"].clone();
    ensure!(
        credential(&before)["rotatesAt"].is_null() && credential(&before)["hardExpiry"] == true,
        "{}",
        credential(&before)
    );
    // So the one of this end is due in half a minute.
    let end = in_seconds(765);
    tenant.approve(READER, json!({"validUntil": end})).await?;
    let renewed = eventually("the renewal to count", LIMIT, || async {
        let grant = tenant.get_grant(READER).await?;
        let moved = grant["status"]["activeUntil"] == end.as_str() && credential(&grant)["rotatesAt"].is_string();
        ensure!(moved, "{}", credential(&grant));
        Ok(Some(grant))
    })
    .await?;
    ensure!(
        renewed["status"]["identity"] == before["status"]["identity"],
        "a renewal is no new activation"
    );

    let rotated = async {
        let rotated = eventually("the rotation that is due", Duration::from_secs(60), || async {
            let grant = tenant.get_grant(READER).await?;
            Ok((credential(&grant)["deliveredGeneration"] == 2).then_some(grant))
        })
        .await?;
        anyhow::Ok(rotated)
    };
    let reading = async {
        let mut reads = 0_u32;
        loop {
            let code = tenant.partner(READER).await?.read().await?;
            ensure!(code == 200, "after {reads} reads: {code}");
            reads += 1;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        #[expect(unreachable_code, reason = "it reads until it is dropped, or fails")]
        anyhow::Ok(())
    };
    let rotated = tokio::select! {
        rotated = rotated => rotated?,
        failed = reading => {
            failed.context("who reads the Secret each time saw a failure")?;
            unreachable!("it reads for ever")
        }
    };
    ensure!(
        credential(&rotated)["expiresAt"].as_str() > credential(&before)["expiresAt"].as_str(),
        "the successor ends no later"
    );
    ensure!(
        credential(&rotated)["previous"]["generation"] == 1,
        "the overlap is not told: {}",
        credential(&rotated)
    );
    ensure!(tenant.partner(READER).await?.token != old.token);
    let code = old.read().await?;
    ensure!(code == 200, "the old credential answers with {code} in its overlap");
    eventually("the old credential to be retired", OVERLAP, || async {
        let code = old.read().await?;
        ensure!(code == 401, "answered with {code}");
        Ok(Some(()))
    })
    .await?;
    ensure!(tenant.partner(READER).await?.read().await? == 200);
    let after = tenant.get_grant(READER).await?;
    ensure!(
        after["status"]["identity"] == before["status"]["identity"] && credential(&after)["generation"] == 2,
        "{}",
        credential(&after)
    );
    Ok(())
}
