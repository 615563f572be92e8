//! Connections and watches that are lost without a word, as where something on the way forgot them.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::connect_info::Connected;
use axum::response::Response;
use axum::serve::{IncomingStream, Listener};
use futures::StreamExt as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::call::Call;
use super::lock;

/// The number of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Number(u64);

impl Connected<IncomingStream<'_, Lines>> for Number {
    fn connect_info(stream: IncomingStream<'_, Lines>) -> Self {
        stream.io().number
    }
}

/// How many connections were opened, and which of them are lost.
#[derive(Debug, Default)]
pub(super) struct Connections {
    opened: AtomicU64,
    lost: Mutex<HashSet<Number>>,
}

impl Connections {
    /// Loses those that are chosen.
    pub(super) fn lose(&self, chosen: impl Fn(Number) -> bool) {
        let opened = (0..self.opened.load(Ordering::SeqCst)).map(Number);
        lock(&self.lost).extend(opened.filter(|number| chosen(*number)));
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
        let number = Number(self.connections.opened.fetch_add(1, Ordering::SeqCst));
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
    number: Number,
    connections: Arc<Connections>,
}

impl Line {
    fn is_lost(&self) -> bool {
        lock(&self.connections.lost).contains(&self.number)
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
pub(super) struct Watches(Mutex<Vec<Running>>);

#[derive(Debug)]
struct Running {
    call: Call,
    on: Number,
    stop: watch::Sender<Option<Stop>>,
}

impl Running {
    fn goes_on(&self) -> bool {
        !self.stop.is_closed() && self.stop.borrow().is_none()
    }
}

impl Watches {
    /// The answer to a watch, which can be stopped from now on.
    pub(super) fn run(&self, call: &Call, on: Number, answer: Response) -> Response {
        let (stop, stopped) = watch::channel(None);
        let mut running = lock(&self.0);
        running.retain(|it| !it.stop.is_closed());
        let call = call.clone();
        running.push(Running { call, on, stop });
        drop(running);
        stoppable(answer, stopped)
    }

    /// Stops those that are chosen; gives how many.
    pub(super) fn stop(&self, how: Stop, chosen: impl Fn(&Call) -> bool) -> usize {
        let running = lock(&self.0);
        let chosen = running.iter().filter(|it| it.goes_on() && chosen(&it.call));
        chosen.filter(|it| it.stop.send(Some(how)).is_ok()).count()
    }

    /// The connections that they run on.
    pub(super) fn connections(&self) -> HashSet<Number> {
        let running = lock(&self.0);
        running.iter().filter(|it| it.goes_on()).map(|it| it.on).collect()
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
