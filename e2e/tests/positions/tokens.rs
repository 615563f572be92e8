//! Presents tokens to the API server: whether one is anybody's, and what it may do.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use kube::Client;
use kube::client::Body;
use serde_json::json;
use wayleave_e2e::eventually;
use wayleave_e2e::faults::Minted;

/// The authenticator keeps a success for ten seconds.
const CACHED: Duration = Duration::from_secs(14);

/// The API server's answers to a token: to who it is, and to what was granted.
pub async fn answers(anybody: &Client, minted: &Minted) -> Result<(u16, u16)> {
    let bearer = format!("Bearer {}", minted.token);
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
    let read = http::Request::get(format!("/api/v1/namespaces/{}/configmaps/feed", minted.tenant))
        .header(AUTHORIZATION, &bearer)
        .body(Body::empty())?;
    let reads = anybody
        .send(read)
        .await
        .context("reading with a token")?
        .status()
        .as_u16();
    Ok((known, reads))
}

/// Waits until none of them is anybody's: neither authenticated nor let in anywhere.
pub async fn wait_dead(anybody: &Client, all: &[Minted]) -> Result<()> {
    for minted in all {
        eventually(&format!("a token of {} to be dead", minted.tenant), CACHED, || async {
            let (known, reads) = answers(anybody, minted).await?;
            ensure!((known, reads) == (401, 401), "answered with {known} and {reads}");
            Ok(Some(()))
        })
        .await?;
    }
    Ok(())
}
