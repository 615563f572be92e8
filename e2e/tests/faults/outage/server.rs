//! The API server is away across an end.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use wayleave_e2e::install::wait_installed;
use wayleave_e2e::tenant::in_seconds;
use wayleave_e2e::{Part, eventually};

use super::cluster::{OPERATOR, made, of_server, passed, reads, uid};

const READER: &str = "reader";
/// Watches and calls find the API server again within this time; the partner's own first request is in it, and so is what a replica
/// waits that has lost its lease meanwhile.
const RECOVERY: Duration = Duration::from_secs(25);
/// Ends that came during an outage, so many seconds apart.
const ENDS: [i64; 4] = [100, 102, 104, 106];
/// After so many seconds without an API server each closing pauses for more than ten.
const LONG: i64 = 16;
/// All of them are made good within this time.
const TOGETHER: Duration = Duration::from_millis(1500);

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
    let (ends, away) = (ENDS.map(in_seconds), in_seconds(ENDS[ENDS.len() - 1] + LONG));
    let mut partners = Vec::new();
    for (number, end) in ends.iter().enumerate() {
        let name = format!("{READER}-{number}");
        let partner = expired.live(&name, json!({"expiresAt": end})).await?;
        partners.push((uid(&expired.get_grant(&name).await?), name, partner));
    }

    cluster.cp.stop(Part::ApiServer).await?;
    passed(&away).await?;
    let mark = cluster.cp.audit()?.mark()?;
    cluster.cp.start_part(Part::ApiServer).await?;
    let back = Instant::now();
    for (_, name, partner) in &partners {
        eventually("the partner to be refused", RECOVERY, || async {
            let code = partner.read().await?;
            ensure!(code == 403 || code == 401, "answered with {code}");
            Ok(Some(()))
        })
        .await
        .with_context(|| format!("{name}: an end that came while the API server was away"))?;
    }
    wayleave_e2e::progress(&format!("refused {:?} after the API server was back", back.elapsed()));
    for (uid, name, _) in &partners {
        expired.wait_reason(name, "Expired").await?;
        expired.wait_nothing_left(uid).await?;
    }
    let denials = cluster
        .cp
        .audit()?
        .since(mark)?
        .by_user(OPERATOR)
        .of("rolebindings")
        .only(|it| {
            let is_here = it
                .object_ref
                .as_ref()
                .is_some_and(|object| object.namespace == expired.ns);
            is_here && it.verb == "delete" && it.code() == 200
        });
    let mut at: Vec<_> = denials.iter().map(|it| it.stage_timestamp.0).collect();
    at.sort();
    let [first, .., last] = at.as_slice() else {
        anyhow::bail!("bindings were taken away: {at:?}");
    };
    let apart = Duration::try_from(last.duration_since(*first))?;
    ensure!(
        at.len() == ENDS.len() && apart < TOGETHER,
        "not at once when it was back: {at:?}"
    );
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
