//! The text over HTTP, on a loopback address.
//!
//! 1. A thread of its own serves it: no stream waits for a client that is slow, or asks all the time.
//! 2. Each connection is for one request, and is cut when that takes too long.
//! 3. Nobody keeps a place that another wants: whoever says nothing goes first.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tracing::warn;

/// What a scraper is told that it gets.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Connections at the same time. A host has one scraper, or two.
pub const CONNECTIONS_MAX: usize = 8;

/// Descriptors that its thread has beside them.
pub const OWN_DESCRIPTORS: u64 = 4;

/// How long a connection may take in all. A scraper's own limit is usually 10 s.
const PATIENCE: Duration = Duration::from_secs(5);

/// Longest request in bytes.
const REQUEST_BYTES_MAX: usize = 8 << 10;

/// Where to listen.
#[derive(Debug)]
pub struct Endpoint {
    listener: TcpListener,
    /// Its address, for the log.
    pub address: SocketAddr,
}

impl Endpoint {
    /// Listens at `address`.
    ///
    /// # Errors
    /// What the system said.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        Self::adopt(TcpListener::bind(address)?)
    }

    /// Takes a socket that was passed, if it is one for this.
    ///
    /// # Errors
    /// It has another address than one of this host alone, or none.
    pub fn adopt(listener: TcpListener) -> io::Result<Self> {
        let address = listener.local_addr()?;
        if !address.ip().is_loopback() {
            let message =
                format!("{address} can be reached from other hosts; use 127.0.0.1 or [::1]");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        listener.set_nonblocking(true)?;
        Ok(Self { listener, address })
    }
}

type Answer = Response<Full<Bytes>>;

type Text = dyn Fn() -> String + Send + Sync;

/// Serves what `text` returns for as long as the process lives.
///
/// # Errors
/// There is no thread for it.
pub fn serve(
    endpoint: Endpoint,
    text: impl Fn() -> String + Send + Sync + 'static,
) -> io::Result<()> {
    let text: Arc<Text> = Arc::new(text);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let guard = runtime.enter();
    let listener = tokio::net::TcpListener::from_std(endpoint.listener)?;
    drop(guard);
    let run = move || runtime.block_on(accept(&listener, &text));
    std::thread::Builder::new().name("metrics".into()).spawn(run)?;
    Ok(())
}

async fn accept(listener: &tokio::net::TcpListener, text: &Arc<Text>) {
    let mut places = Places::default();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!("cannot accept a connection for metrics: {error}");
                sleep(PATIENCE).await;
                continue;
            }
        };
        places.make_one().await;
        let has_asked = Arc::default();
        let task = tokio::spawn(answer_one(stream, Arc::clone(text), Arc::clone(&has_asked)));
        places.taken.push_back(Place { task, has_asked });
    }
}

/// Those who are connected, the first one in front.
#[derive(Default)]
struct Places {
    taken: VecDeque<Place>,
}

struct Place {
    task: JoinHandle<()>,
    /// Its request is there.
    has_asked: Arc<AtomicBool>,
}

impl Places {
    /// Makes a place for one more. The one goes that has been silent for longest, or the first where all have asked: who
    /// does not take his answer has no place for good either.
    async fn make_one(&mut self) {
        self.taken.retain(|place| !place.task.is_finished());
        if self.taken.len() < CONNECTIONS_MAX {
            return;
        }
        let silent = |place: &Place| !place.has_asked.load(Ordering::Relaxed);
        let index = self.taken.iter().position(silent).unwrap_or(0);
        if let Some(place) = self.taken.remove(index) {
            place.task.abort();
            // Its descriptor is closed by then.
            let _ = place.task.await;
        }
    }
}

async fn answer_one(stream: TcpStream, text: Arc<Text>, has_asked: Arc<AtomicBool>) {
    let service = service_fn(|request| {
        has_asked.store(true, Ordering::Relaxed);
        let answer = answer(&request, &*text);
        async { Ok::<_, Infallible>(answer) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(false)
        .header_read_timeout(PATIENCE)
        .max_buf_size(REQUEST_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    // Whoever breaks the rules of HTTP, or is late, has been told by the end of the connection.
    let _ = timeout(PATIENCE, connection).await;
}

fn answer(request: &Request<Incoming>, text: &Text) -> Answer {
    let plain = |status: StatusCode, text: &'static str| {
        let mut answer = Response::new(Full::from(text));
        *answer.status_mut() = status;
        answer
    };
    if request.uri().path() != "/metrics" {
        return plain(StatusCode::NOT_FOUND, "there is nothing but /metrics\n");
    }
    if request.method() != Method::GET {
        let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED, "it can only be read\n");
        answer.headers_mut().insert(ALLOW, "GET".parse().expect("a method's name"));
        return answer;
    }
    let mut answer = Response::new(Full::from(text()));
    let content_type = OPENMETRICS.parse().expect("a content type");
    answer.headers_mut().insert(CONTENT_TYPE, content_type);
    answer
}
