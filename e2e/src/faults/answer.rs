//! Answers that a broken call gets.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, DATE, HeaderValue, RETRY_AFTER};
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;
use serde_json::json;

use super::call::Call;

/// After so many seconds a client that calls too often may come again.
const RETRY_SECONDS: u32 = 1;

/// A refusal in the API server's words for this code.
pub(super) fn refused(call: &Call, code: u16) -> Response {
    let creates = call.method == axum::http::Method::POST && call.parts().subresource.is_empty();
    let reason = match code {
        403 => "Forbidden",
        404 => "NotFound",
        409 if creates => "AlreadyExists",
        409 => "Conflict",
        410 => "Expired",
        422 => "Invalid",
        429 => "TooManyRequests",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "InternalError",
    };
    let mut status = json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code,
        "reason": reason, "message": "broken for a test",
    });
    if code == 429 {
        status["details"] = json!({"retryAfterSeconds": RETRY_SECONDS});
    }
    let code = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut answer = (code, [(CONTENT_TYPE, "application/json")], status.to_string()).into_response();
    if code == StatusCode::TOO_MANY_REQUESTS {
        answer
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from(RETRY_SECONDS));
    }
    answer
}

/// An answer whose body breaks off: the client sees a connection that ended.
pub(super) fn lost() -> Response {
    let broken_off = futures::stream::once(async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        Err::<Vec<u8>, _>(std::io::Error::other("lost for a test"))
    });
    Response::new(Body::from_stream(broken_off))
}

/// The same answer; `guard` is dropped when it was handed to the connection whole.
pub(super) fn guarded(answer: Response, guard: impl Send + 'static) -> Response {
    let (head, body) = answer.into_parts();
    let body = body.into_data_stream().map(move |part| {
        let _held = &guard;
        part
    });
    Response::from_parts(head, Body::from_stream(body))
}

/// The answer with its whole body, and the body.
pub(super) async fn whole(answer: Response) -> anyhow::Result<(Response, Bytes)> {
    let (head, body) = answer.into_parts();
    let body = axum::body::to_bytes(body, super::LARGEST).await?;
    Ok((Response::from_parts(head, Body::from(body.clone())), body))
}

pub(super) fn dated(mut answer: Response, ahead: i64) -> Response {
    let date = answer.headers().get(DATE).and_then(|date| date.to_str().ok());
    let date = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok());
    let moved = date.and_then(|date| date.checked_add(jiff::Span::new().seconds(ahead)).ok());
    let moved = moved.and_then(|date| {
        jiff::fmt::rfc2822::DateTimePrinter::new()
            .timestamp_to_rfc9110_string(&date.timestamp())
            .ok()
    });
    if let Some(moved) = moved.and_then(|text| HeaderValue::try_from(text).ok()) {
        answer.headers_mut().insert(DATE, moved);
    }
    answer
}
