//! The API server is away across an end.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use wayleave_e2e::install::wait_installed;
use wayleave_e2e::tenant::in_seconds;
use wayleave_e2e::{Part, eventually};

use super::cluster::{made, of_server, passed, reads, uid};

const READER: &str = "reader";
/// Watches and calls find the API server again within this time; the partner's own first request is in it, and so is what a replica
/// waits that has lost its lease meanwhile.
const RECOVERY: Duration = Duration::from_secs(25);

#[tokio::test]
async fn an_end_while_the_api_server_was_away_is_made_good_when_it_is_back() -> Result<()> {
    let cluster = of_server().await?;
    let kept = cluster.tenant("away-kept").await?;
    let kept_partner = kept.live(READER, json!({})).await?;
    let before = kept.get_grant(READER).await?;
    let waiting = cluster.tenant("away-waiting").await?;
    waiting.grant(READER, json!({})).await?;
    waiting.wait_reason(READER, "AwaitingApproval").await?;
    let expired = cluster.tenant("away-expired").await?;
    let end = in_seconds(80);
    let partner = expired.live(READER, json!({"expiresAt": end})).await?;
    let expired_uid = uid(&expired.get_grant(READER).await?);

    cluster.cp.stop(Part::ApiServer).await?;
    passed(&end).await?;
    cluster.cp.start_part(Part::ApiServer).await?;
    let back = Instant::now();
    eventually("the partner to be refused", RECOVERY, || async {
        let code = partner.read().await?;
        ensure!(code == 403 || code == 401, "answered with {code}");
        Ok(Some(()))
    })
    .await
    .context("an end that came while the API server was away")?;
    wayleave_e2e::progress(&format!("refused {:?} after the API server was back", back.elapsed()));
    expired.wait_reason(READER, "Expired").await?;
    expired.wait_nothing_left(&expired_uid).await?;
    ensure!(
        cluster.operator.process().is_running(),
        "the operator did not outlive the outage"
    );
    // It serves before its admission knows our kinds again: until then it takes no decision.
    wait_installed(&cluster.cp).await?;
    waiting.approve(READER, json!({})).await?;
    waiting.wait_reason(READER, "Issued").await?;
    reads(&kept_partner).await?;
    ensure!(
        made(&kept.get_grant(READER).await?) == made(&before),
        "what was in order was made anew"
    );
    Ok(())
}
