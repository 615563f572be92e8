//! The one place where tokens are: asks for one, packs it for delivery, and hands it on. Does I/O; never logs.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::{Api, ResourceExt as _};
use serde::Deserialize;
use serde_json::json;

use super::apply::{Error, Result, secret_call};
use super::{Context, Settings};
use crate::api::v1alpha1::{AccessGrant, ChildRef, Instant, LONGEST_CREDENTIAL_ID};
use crate::domain::lifetime::{self, TokenAsk};
use crate::plan::Minted;

/// What a delivery Secret holds.
pub(crate) type Delivery = BTreeMap<String, ByteString>;

/// The public part of a token that we read.
#[derive(Deserialize)]
struct Claims {
    jti: String,
}

/// Asks for a token that is bound to `anchor`, and packs it for delivery.
///
/// # Errors
/// When the API server grants none, or one that lives longer than access may.
pub(crate) async fn mint(
    context: &Context,
    grant: &AccessGrant,
    account: &ChildRef,
    anchor: &ChildRef,
    ask: TokenAsk,
    until: Instant,
) -> Result<(Minted, Delivery)> {
    let api: Api<ServiceAccount> = Api::namespaced(context.client.clone(), &account.namespace);
    let audiences = grant.token().audiences.into_iter().map(|audience| audience.0).collect();
    // The server counts from its own clock.
    let seconds = (ask.seconds - context.probe.seen().server_ahead.max(0)).max(lifetime::SHORTEST);
    let request = TokenRequest {
        // Not for a namesake of the ServiceAccount: that is a conflict.
        metadata: kube::api::ObjectMeta {
            uid: Some(account.uid.clone()),
            ..Default::default()
        },
        spec: TokenRequestSpec {
            audiences,
            expiration_seconds: Some(seconds),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Secret".to_owned()),
                name: Some(anchor.name.clone()),
                uid: Some(anchor.uid.clone()),
            }),
        },
        status: None,
    };
    let params = PostParams::default();
    let request = api.create_token_request(&account.name, &params, &request);
    let unreadable = "the reply to a token request can't be read";
    let answer = secret_call("requesting a token", unreadable, request).await?;
    let status = answer
        .status
        .ok_or(Error::Incomplete("the API server granted no token"))?;
    let expires_at = Instant::new(status.expiration_timestamp.0);
    if ask.hard && !lifetime::is_hard(expires_at, until) {
        return Err(Error::TokenTooLong(expires_at));
    }
    let issued_at = super::now();
    if lifetime::is_shortened(seconds, issued_at, expires_at) {
        context.metrics.token_shortened();
    }
    let minted = Minted {
        issued_at,
        expires_at,
        credential_id: credential_id(&status.token),
    };
    let delivery = pack(&context.settings, &grant.namespace().unwrap_or_default(), status.token)?;
    Ok((minted, delivery))
}

/// The `jti`, by which audit events name the token. The API server is whom we have it from: no signature is checked.
fn credential_id(token: &str) -> Option<String> {
    let decoded = jsonwebtoken::dangerous::insecure_decode::<Claims>(token);
    let id = decoded.ok().map(|token| token.claims.jti);
    id.filter(|id| id.len() <= LONGEST_CREDENTIAL_ID)
}

fn pack(settings: &Settings, namespace: &str, token: String) -> Result<Delivery> {
    let authority = serde_json::to_value(ByteString(settings.ca.clone().into_bytes()))
        .map_err(|_| Error::Incomplete("the certificate authority can't be written"))?;
    let cluster = json!({"server": settings.partner_server, "certificate-authority-data": authority});
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "partner",
        "clusters": [{"name": "partner", "cluster": cluster}],
        "users": [{"name": "partner", "user": {"token": &token}}],
        "contexts": [{"name": "partner", "context": {"cluster": "partner", "user": "partner", "namespace": namespace}}],
    });
    // The error could quote what it failed on.
    let kubeconfig =
        serde_saphyr::to_string(&kubeconfig).map_err(|_| Error::Incomplete("the kubeconfig can't be written"))?;
    let data = [
        ("token", token),
        ("ca.crt", settings.ca.clone()),
        ("namespace", namespace.to_owned()),
        ("server", settings.partner_server.clone()),
        ("kubeconfig", kubeconfig),
    ];
    Ok(data
        .map(|(key, value)| (key.to_owned(), ByteString(value.into_bytes())))
        .into())
}
