//! A proxy between the operator and the API server that breaks calls as a test says. Behind it is the real API server: what
//! is not broken is passed on as it is, watches too.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, DATE, HOST, HeaderValue};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use kube::Client;
use serde_json::json;
use tokio::task::JoinHandle;

use crate::control_plane::{ControlPlane, free_port};
use crate::kubeconfig::{self, User};
use crate::operator::{NAMESPACE, SERVICE_ACCOUNT};

/// The largest request that is passed on, in bytes: the API server takes less.
const LARGEST: usize = 8 << 20;

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is answered with this code, and never reaches the API server.
    Refused(u16),
    /// It reaches the API server, and its answer is lost: the connection ends instead.
    AnswerLost,
    /// The answer's date is this many seconds ahead.
    DateAhead(i64),
}

/// A call as faults are chosen by.
#[derive(Debug, Clone)]
pub struct Call {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub path: String,
}

impl Call {
    /// A write of objects of this resource, by its plural name, whole or as a subresource.
    pub fn writes(&self, method: &Method, resource: &str) -> bool {
        let path = self.path.split('?').next().unwrap_or_default();
        self.method == method && path.split('/').any(|part| part == resource)
    }
}

type Chosen = Box<dyn Fn(&Call) -> bool + Send + Sync>;

#[derive(Default)]
struct Broken {
    next: AtomicU64,
    faults: Mutex<Vec<(u64, Chosen, Fault)>>,
    met: AtomicU64,
}

/// A running proxy; it ends with this value.
pub struct Faults {
    broken: Arc<Broken>,
    kubeconfig: PathBuf,
    serving: JoinHandle<()>,
}

impl Drop for Faults {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// A fault that lasts as long as this value.
#[must_use = "the fault ends with this value"]
pub struct Lasting {
    broken: Arc<Broken>,
    number: u64,
}

impl Drop for Lasting {
    fn drop(&mut self) {
        self.broken.lock().retain(|(number, ..)| *number != self.number);
    }
}

impl Broken {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(u64, Chosen, Fault)>> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fault(&self, call: &Call) -> Option<Fault> {
        let met = self
            .lock()
            .iter()
            .find(|(_, chosen, _)| chosen(call))
            .map(|(.., fault)| *fault);
        if met.is_some() {
            self.met.fetch_add(1, Ordering::Relaxed);
        }
        met
    }
}

impl Faults {
    /// A proxy that speaks to the API server as the operator's ServiceAccount.
    pub async fn of_operator(cp: &ControlPlane) -> Result<Self> {
        let client = cp.service_account(NAMESPACE, SERVICE_ACCOUNT).await?;
        let port = free_port()?;
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let kubeconfig = cp.dir().join(format!("faults-{}.kubeconfig", cp.next_number()));
        let cluster = kubeconfig::Cluster(json!({ "server": format!("http://127.0.0.1:{port}") }));
        kubeconfig::write(&kubeconfig, &cluster, &User::anonymous())?;
        let broken = Arc::new(Broken::default());
        let app = axum::Router::new()
            .fallback(pass)
            .with_state((client, Arc::clone(&broken)));
        let serving = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, app).await {
                crate::progress(&format!("the proxy ended: {error}"));
            }
        });
        Ok(Self {
            broken,
            kubeconfig,
            serving,
        })
    }

    /// The kubeconfig that leads through the proxy.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Breaks every call that `chosen` says, until the answer is dropped.
    pub fn break_calls(&self, fault: Fault, chosen: impl Fn(&Call) -> bool + Send + Sync + 'static) -> Lasting {
        let number = self.broken.next.fetch_add(1, Ordering::Relaxed);
        self.broken.lock().push((number, Box::new(chosen), fault));
        Lasting {
            broken: Arc::clone(&self.broken),
            number,
        }
    }

    /// How many calls met a fault so far.
    pub fn met(&self) -> u64 {
        self.broken.met.load(Ordering::Relaxed)
    }
}

async fn pass(State((client, broken)): State<(Client, Arc<Broken>)>, request: Request) -> Response {
    let path = request
        .uri()
        .path_and_query()
        .map_or("/", |path| path.as_str())
        .to_owned();
    let call = Call {
        method: request.method().clone(),
        path,
    };
    let fault = broken.fault(&call);
    if let Some(Fault::Refused(code)) = fault {
        return refused(code);
    }
    match forward(&client, request).await {
        Ok(answer) => match fault {
            Some(Fault::AnswerLost) => lost(),
            Some(Fault::DateAhead(seconds)) => dated(answer, seconds),
            _ => answer,
        },
        // As a proxy that can't reach its server.
        Err(error) => (StatusCode::BAD_GATEWAY, format!("{error:#}")).into_response(),
    }
}

async fn forward(client: &Client, request: Request) -> Result<Response> {
    let (mut head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, LARGEST).await.context("reading a request")?;
    head.headers.remove(HOST);
    head.headers.remove(AUTHORIZATION);
    let request = Request::from_parts(head, kube::client::Body::from(body.to_vec()));
    let answer = client.send(request).await.context("passing a request on")?;
    let (head, body) = answer.into_parts();
    Ok(Response::from_parts(head, Body::new(body)))
}

fn refused(code: u16) -> Response {
    let status = json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code,
        "reason": "InternalError", "message": "broken for a test",
    });
    let code = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (code, [(CONTENT_TYPE, "application/json")], status.to_string()).into_response()
}

/// An answer whose body breaks off: the client sees a connection that ended.
fn lost() -> Response {
    let broken_off = futures::stream::once(async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        Err::<Vec<u8>, _>(std::io::Error::other("lost for a test"))
    });
    Response::new(Body::from_stream(broken_off))
}

fn dated(mut answer: Response, ahead: i64) -> Response {
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
