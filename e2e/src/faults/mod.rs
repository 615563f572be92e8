//! A proxy between the operator and the API server that breaks calls as a test says. Behind it is the real API server: what
//! is not broken is passed on as it is, watches too. It keeps in memory what was called, and every token that was minted.

mod answer;
mod call;
mod line;

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, Result};
use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{AUTHORIZATION, HOST};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use kube::Client;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::control_plane::{ControlPlane, free_port};
use crate::kubeconfig::{self, User};
use crate::operator::{IDENTITY_NAMESPACE, NAMESPACE, SERVICE_ACCOUNT};
use answer::{dated, guarded, lost, refused, whole};
use line::{Connections, Lines, Number, Stop, Watches};

pub use call::{Call, Parts};

/// The largest body that is passed on whole, in bytes: the API server takes less.
const LARGEST: usize = 8 << 20;

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is answered with this code, and never reaches the API server.
    Refused(u16),
    /// It reaches the API server, and its answer is lost: the connection ends instead.
    AnswerLost,
    /// It never reaches the API server, and the connection ends instead of an answer.
    Unreached,
    /// It is never answered, and never reaches the API server.
    Hangs,
    /// The answer's date is this many seconds ahead.
    DateAhead(i64),
    /// The caller is killed, by what [`Faults::kill_with`] was told.
    Killed(Moment),
    /// The caller is stopped, by what [`Faults::kill_with`] was told, when the API server has answered; the answer waits for it.
    Stopped,
}

/// When a caller is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Before the call reaches the API server: it never does.
    Before,
    /// The API server has answered, and the answer has not reached the caller: it never does.
    Between,
    /// The answer was sent on to the caller.
    After,
}

/// A token that the API server minted, whoever got it. Neither is printed.
#[derive(Clone)]
pub struct Minted {
    /// The namespace of the grant.
    pub tenant: String,
    /// The token.
    pub token: String,
}

type Chosen = Box<dyn Fn(&Call) -> bool + Send + Sync>;
type Killer = Arc<dyn Fn() + Send + Sync>;

#[derive(Default)]
struct Broken {
    next: AtomicU64,
    faults: Mutex<Vec<(u64, Chosen, Fault)>>,
    met: AtomicU64,
    /// The faults whose callers are dead, or stopped, by now.
    killed: Mutex<HashSet<u64>>,
    calls: Mutex<Vec<(Instant, Call)>>,
    /// The namespace of each grant that something was made for, by the grant's part of reserved names.
    tenants: Mutex<HashMap<String, String>>,
    /// The namespaces that grants of another reach, each with that other.
    belonging: Mutex<HashMap<String, String>>,
    minted: Mutex<Vec<Minted>>,
    killer: Mutex<Option<Killer>>,
    connections: Arc<Connections>,
    watches: Watches,
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

impl Lasting {
    /// Whether the caller is dead that was to be killed, or stands still that was to be stopped.
    pub fn has_killed(&self) -> bool {
        lock(&self.broken.killed).contains(&self.number)
    }
}

impl Drop for Lasting {
    fn drop(&mut self) {
        lock(&self.broken.faults).retain(|(number, ..)| *number != self.number);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Broken {
    /// The fault that a call meets, and its number.
    fn fault(&self, call: &Call) -> Option<(u64, Fault)> {
        let met = lock(&self.faults)
            .iter()
            .find(|(_, chosen, _)| chosen(call))
            .map(|(number, _, fault)| (*number, *fault));
        if met.is_some() {
            self.met.fetch_add(1, Ordering::Relaxed);
        }
        met
    }

    /// Keeps a call, and says which grant it is about.
    fn note(&self, mut call: Call) -> Call {
        let mut tenants = lock(&self.tenants);
        if let (Some(key), Some((namespace, _))) = (
            call.grant_key(),
            call.made_for.as_ref().and_then(|grant| grant.split_once('/')),
        ) {
            tenants.insert(key.to_owned(), namespace.to_owned());
        }
        if call.parts().namespace == IDENTITY_NAMESPACE
            && let Some(tenant) = call.grant_key().and_then(|key| tenants.get(key))
        {
            call.tenant.clone_from(tenant);
        }
        drop(tenants);
        if let Some(tenant) = lock(&self.belonging).get(&call.tenant) {
            call.tenant.clone_from(tenant);
        }
        lock(&self.calls).push((Instant::now(), call.clone()));
        call
    }

    /// Keeps the token of an answer to a token request.
    fn keep_token(&self, call: &Call, body: &[u8]) {
        let answer: Value = serde_json::from_slice(body).unwrap_or_default();
        if let Some(token) = answer["status"]["token"].as_str() {
            lock(&self.minted).push(Minted {
                tenant: call.tenant.clone(),
                token: token.to_owned(),
            });
        }
    }

    /// Kills or stops whoever calls. Blocks until it is dead, or stands still.
    fn kill(&self, number: u64) {
        let killer = lock(&self.killer).clone();
        if let Some(killer) = killer {
            killer();
            lock(&self.killed).insert(number);
        }
    }
}

/// Kills when it is dropped.
struct KillsLater(Arc<Broken>, u64);

impl Drop for KillsLater {
    fn drop(&mut self) {
        let (broken, number) = (Arc::clone(&self.0), self.1);
        tokio::task::spawn_blocking(move || broken.kill(number));
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
        let listener = Lines::new(listener, Arc::clone(&broken.connections));
        let serving = tokio::spawn(async move {
            let app = app.into_make_service_with_connect_info::<Number>();
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
        lock(&self.broken.faults).push((number, Box::new(chosen), fault));
        Lasting {
            broken: Arc::clone(&self.broken),
            number,
        }
    }

    /// From now on calls about a namespace count as those about another, whose grants reach it.
    pub fn belongs(&self, namespace: &str, tenant: &str) {
        lock(&self.broken.belonging).insert(namespace.to_owned(), tenant.to_owned());
    }

    /// Everything on the connections that are open now, and on which nothing is watched, goes nowhere from now on; nobody is told,
    /// and new ones work.
    pub fn lose_connections(&self) {
        let watched = self.broken.watches.connections();
        self.broken.connections.lose(|number| !watched.contains(&number));
    }

    /// Ends the running watches that `chosen` says, each in an error; gives how many there were.
    pub fn end_watches(&self, chosen: impl Fn(&Call) -> bool) -> usize {
        self.broken.watches.stop(Stop::Ended, chosen)
    }

    /// The running watches that `chosen` says tell nothing any more, and nobody is told; gives how many there were.
    pub fn silence_watches(&self, chosen: impl Fn(&Call) -> bool) -> usize {
        self.broken.watches.stop(Stop::Silent, chosen)
    }

    /// How [`Fault::Killed`] kills, or [`Fault::Stopped`] stops: blocks until the caller is dead, or stands still.
    pub fn kill_with(&self, killer: impl Fn() + Send + Sync + 'static) {
        *lock(&self.broken.killer) = Some(Arc::new(killer));
    }

    /// How many calls met a fault so far.
    pub fn met(&self) -> u64 {
        self.broken.met.load(Ordering::Relaxed)
    }

    /// How many calls there were so far.
    pub fn count(&self) -> usize {
        lock(&self.broken.calls).len()
    }

    /// The calls about the grants of a namespace since there were so many in all, each with its time.
    pub fn calls_of(&self, tenant: &str, since: usize) -> Vec<(Instant, Call)> {
        let calls = lock(&self.broken.calls);
        let later = calls.iter().skip(since);
        later.filter(|(_, call)| call.tenant == tenant).cloned().collect()
    }

    /// Every call since there were so many.
    pub fn calls(&self, since: usize) -> Vec<(Instant, Call)> {
        lock(&self.broken.calls).iter().skip(since).cloned().collect()
    }

    /// Every token that was minted, those whose answers were lost too.
    pub fn minted(&self) -> Vec<Minted> {
        lock(&self.broken.minted).clone()
    }
}

async fn pass(
    State((client, broken)): State<(Client, Arc<Broken>)>,
    ConnectInfo(on): ConnectInfo<Number>,
    request: Request,
) -> Response {
    // As a proxy that can't reach its server.
    let unreachable = |error: anyhow::Error| (StatusCode::BAD_GATEWAY, format!("{error:#}")).into_response();
    match broken_or_passed(&client, &broken, on, request).await {
        Ok(answer) => answer,
        Err(error) => unreachable(error),
    }
}

async fn broken_or_passed(client: &Client, broken: &Arc<Broken>, on: Number, request: Request) -> Result<Response> {
    let (mut head, body) = request.into_parts();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let body = axum::body::to_bytes(body, LARGEST).await.context("reading a request")?;
    let call = broken.note(Call::new(head.method.clone(), path, &body));
    let (number, fault) = broken.fault(&call).unzip();
    let number = number.unwrap_or_default();
    match fault {
        Some(Fault::Refused(code)) => return Ok(refused(&call, code)),
        Some(Fault::Unreached) => return Ok(lost()),
        Some(Fault::Hangs) => std::future::pending().await,
        Some(Fault::Killed(Moment::Before)) => {
            kill(broken, number).await?;
            return Ok(lost());
        }
        _ => {}
    }
    head.headers.remove(HOST);
    head.headers.remove(AUTHORIZATION);
    let request = Request::from_parts(head, kube::client::Body::from(body.to_vec()));
    let answer = client.send(request).await.context("passing a request on")?;
    let (head, body) = answer.into_parts();
    let mut answer = Response::from_parts(head, Body::new(body));
    if call.is_watch() {
        answer = broken.watches.run(&call, on, answer);
    }
    let is_kept = matches!(fault, Some(Fault::Killed(_) | Fault::AnswerLost | Fault::Stopped)) && !call.is_watch();
    if is_kept || call.writes(&Method::POST, "token") {
        // Whatever becomes of the answer, by now the API server has done what it was asked for.
        let (whole, body) = whole(answer).await.context("reading an answer")?;
        if call.writes(&Method::POST, "token") {
            broken.keep_token(&call, &body);
        }
        answer = whole;
    }
    Ok(match fault {
        Some(Fault::AnswerLost) => lost(),
        Some(Fault::DateAhead(seconds)) => dated(answer, seconds),
        Some(Fault::Killed(Moment::Between)) => {
            kill(broken, number).await?;
            lost()
        }
        Some(Fault::Stopped) => {
            kill(broken, number).await?;
            answer
        }
        Some(Fault::Killed(Moment::After)) => guarded(answer, KillsLater(Arc::clone(broken), number)),
        _ => answer,
    })
}

/// Kills or stops whoever calls, also where its end ends this call.
async fn kill(broken: &Arc<Broken>, number: u64) -> Result<()> {
    let broken = Arc::clone(broken);
    tokio::task::spawn_blocking(move || broken.kill(number))
        .await
        .context("killing the caller")
}
