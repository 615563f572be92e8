//! Reads the answers to a client's calls: counts them by verb and code, has the clock compared with their dates, and notices when the
//! API server is away.

use std::sync::Arc;

use http::{Request, Response};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use tower::{Layer, Service};

use super::super::clock::ServerClock;
use super::super::reach::Reach;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct Call {
    pub(super) verb: &'static str,
    pub(super) code: u16,
}

/// A layer of the client that counts answers by verb and code, has the clock compared with their dates, and notices when the API
/// server is away.
#[derive(Clone, Debug)]
pub struct ReadAnswers {
    pub(super) calls: Family<Call, Counter>,
    pub(super) clock: Arc<ServerClock>,
    pub(super) reach: Arc<Reach>,
}

impl<S> Layer<S> for ReadAnswers {
    type Service = Answered<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Answered {
            inner,
            by: self.clone(),
        }
    }
}

/// See [`ReadAnswers`].
#[derive(Clone, Debug)]
pub struct Answered<S> {
    inner: S,
    by: ReadAnswers,
}

impl<S, A, B> Service<Request<A>> for Answered<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: 'static,
    B: 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let verb = match request.method().as_str() {
            "GET" => "GET",
            "POST" => "POST",
            "PUT" => "PUT",
            "PATCH" => "PATCH",
            "DELETE" => "DELETE",
            _ => "other",
        };
        let answer = self.inner.call(request);
        let counted = OneCall {
            calls: self.by.calls.clone(),
            call: Call { verb, code: 0 },
        };
        let (clock, reach) = (Arc::clone(&self.by.clock), Arc::clone(&self.by.reach));
        Box::pin(async move {
            // The whole of it, or only its code would be moved in here.
            let mut counted = counted;
            let answer = answer.await;
            counted.call.code = answer.as_ref().map_or(0, |answer| answer.status().as_u16());
            match &answer {
                Ok(answer) => {
                    clock.take(answer.headers());
                    if answer.status().is_success() {
                        reach.went_well();
                    } else if answer.status().is_server_error() {
                        reach.failed();
                    }
                }
                Err(_) => reach.failed(),
            }
            answer
        })
    }
}

/// Counts one call when it is over: answered, failed, or given up by whoever waited for it.
struct OneCall {
    calls: Family<Call, Counter>,
    call: Call,
}

impl Drop for OneCall {
    fn drop(&mut self) {
        self.calls.get_or_create(&self.call).inc();
    }
}
