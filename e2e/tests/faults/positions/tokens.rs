//! Presents tokens to the API server: whether one is anybody's, and what it may do.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use kube::Client;
use kube::client::Body;
use serde_json::json;
use wayleave_e2e::eventually;

use super::scenario::Prepared;

/// The authenticator keeps a success for ten seconds.
const CACHED: Duration = Duration::from_secs(14);

/// The API server's answers to a token: to who it is, and to each of these paths.
pub async fn answers(anybody: &Client, token: &str, paths: &[String]) -> Result<(u16, Vec<u16>)> {
    let bearer = format!("Bearer {token}");
    let whoami = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let ask = http::Request::post("/apis/authentication.k8s.io/v1/selfsubjectreviews")
        .header(AUTHORIZATION, &bearer)
        .header(CONTENT_TYPE, "application/json")
        .body(Body::from(serde_json::to_vec(&whoami)?))?;
    let known = anybody
        .send(ask)
        .await
        .context("asking who a token is")?
        .status()
        .as_u16();
    let mut reads = Vec::new();
    for path in paths {
        let read = http::Request::get(path)
            .header(AUTHORIZATION, &bearer)
            .body(Body::empty())?;
        let answer = anybody.send(read).await.context("reading with a token")?;
        reads.push(answer.status().as_u16());
    }
    Ok((known, reads))
}

/// Waits until none of these tokens is anybody's: neither authenticated nor let in anywhere.
pub async fn wait_dead(anybody: &Client, prepared: &Prepared<'_>, all: &[String]) -> Result<()> {
    let paths = prepared.readable();
    for token in all {
        let what = format!("a token of {} to be dead", prepared.tenant.ns);
        eventually(&what, CACHED, || async {
            let (known, reads) = answers(anybody, token, &paths).await?;
            ensure!(
                known == 401 && reads.iter().all(|code| *code == 401),
                "answered with {known} and {reads:?}"
            );
            Ok(Some(()))
        })
        .await?;
    }
    Ok(())
}

/// A token of which nothing is ours goes on being somebody's, and may do nothing of what was granted.
pub async fn is_of_no_use(anybody: &Client, prepared: &Prepared<'_>, token: &str) -> Result<()> {
    let (known, reads) = answers(anybody, token, &prepared.readable()).await?;
    // With the namespace goes its ServiceAccount; the authenticator may not have noticed yet.
    ensure!(
        matches!(known, 201 | 401) && reads.iter().all(|code| matches!(code, 401 | 403)),
        "a static token is answered with {known} and {reads:?}"
    );
    Ok(())
}
