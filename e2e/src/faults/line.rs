//! Connections and watches that are lost without a word, as where something on the way forgot them.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::Response;
use axum::serve::Listener;
use futures::StreamExt as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::call::Call;
use super::lock;

/// How many connections were opened, and how many of them are lost: the first ones.
#[derive(Debug, Default)]
pub(super) struct Connections {
    opened: AtomicU64,
    lost: AtomicU64,
}

impl Connections {
    pub(super) fn lose(&self) {
        self.lost.store(self.opened.load(Ordering::SeqCst), Ordering::SeqCst);
    }
}

/// A listener whose connections can be lost.
pub(super) struct Lines {
    listener: TcpListener,
    connections: Arc<Connections>,
}

impl Lines {
    pub(super) fn new(listener: TcpListener, connections: Arc<Connections>) -> Self {
        Self { listener, connections }
    }
}

impl Listener for Lines {
    type Io = Line;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Line, SocketAddr) {
        let (stream, address) = Listener::accept(&mut self.listener).await;
        let number = self.connections.opened.fetch_add(1, Ordering::SeqCst);
        let connections = Arc::clone(&self.connections);
        let line = Line {
            stream,
            number,
            connections,
        };
        (line, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// One connection. Of one that is lost nothing is read, and what is written is swallowed; it stays open.
pub(super) struct Line {
    stream: TcpStream,
    number: u64,
    connections: Arc<Connections>,
}

impl Line {
    fn is_lost(&self) -> bool {
        self.number < self.connections.lost.load(Ordering::SeqCst)
    }
}

impl AsyncRead for Line {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.is_lost() {
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl AsyncWrite for Line {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_lost() {
            return Poll::Ready(Ok(bytes.len()));
        }
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_lost() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_lost() {
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// What becomes of a running watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// It tells nothing any more, and stays open.
    Silent,
    /// It ends in an error.
    Ended,
}

/// The watches that run.
#[derive(Debug, Default)]
pub(super) struct Watches(Mutex<Vec<(Call, watch::Sender<Option<Stop>>)>>);

impl Watches {
    /// The answer to a watch, which can be stopped from now on.
    pub(super) fn run(&self, call: &Call, answer: Response) -> Response {
        let (stop, stopped) = watch::channel(None);
        let mut running = lock(&self.0);
        running.retain(|(_, stop)| !stop.is_closed());
        running.push((call.clone(), stop));
        drop(running);
        stoppable(answer, stopped)
    }

    /// Stops those that are chosen; gives how many.
    pub(super) fn stop(&self, how: Stop, chosen: impl Fn(&Call) -> bool) -> usize {
        let running = lock(&self.0);
        let stopped = running.iter().filter(|(call, stop)| {
            let is_it = !stop.is_closed() && stop.borrow().is_none() && chosen(call);
            is_it && stop.send(Some(how)).is_ok()
        });
        stopped.count()
    }
}

fn stoppable(answer: Response, stopped: watch::Receiver<Option<Stop>>) -> Response {
    let (head, body) = answer.into_parts();
    let parts = futures::stream::unfold(Some((body.into_data_stream(), stopped)), |running| async {
        let (mut parts, mut stopped) = running?;
        let told = async { stopped.wait_for(Option::is_some).await.ok().and_then(|told| *told) };
        tokio::select! {
            biased;
            Some(stop) = told => match stop {
                Stop::Silent => std::future::pending().await,
                Stop::Ended => Some((Err(io::Error::other("ended for a test")), None)),
            },
            part = parts.next() => part.map(|part| (part.map_err(io::Error::other), Some((parts, stopped)))),
        }
    });
    Response::from_parts(head, Body::from_stream(parts))
}
