//! The text over HTTP, on a loopback address.
//!
//! 1. A thread of its own serves it: no stream waits for a client that is slow, or asks all the time.
//! 2. Each connection is for one request, and is cut when that takes too long.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tracing::warn;

/// What a scraper is told that it gets.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Connections at the same time; one more is closed at once. A host has one scraper, or two.
pub const CONNECTIONS_MAX: usize = 8;

/// Descriptors that its thread has beside them.
pub const OWN_DESCRIPTORS: u64 = 4;

/// How long a connection may take in all. A scraper's own limit is usually 10 s.
const PATIENCE: Duration = Duration::from_secs(5);

/// What was put together is given again for so long, so that nobody has the daemon do that all the time.
const FRESH: Duration = Duration::from_millis(100);

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

struct Source {
    text: Box<dyn Fn() -> String + Send + Sync>,
    last: Mutex<Option<(Instant, Bytes)>>,
}

/// Serves what `text` returns for as long as the process lives.
///
/// # Errors
/// There is no thread for it.
pub fn serve(
    endpoint: Endpoint,
    text: impl Fn() -> String + Send + Sync + 'static,
) -> io::Result<()> {
    let source = Arc::new(Source { text: Box::new(text), last: Mutex::default() });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let guard = runtime.enter();
    let listener = tokio::net::TcpListener::from_std(endpoint.listener)?;
    drop(guard);
    let run = move || runtime.block_on(accept(&listener, &source));
    std::thread::Builder::new().name("metrics".into()).spawn(run)?;
    Ok(())
}

async fn accept(listener: &tokio::net::TcpListener, source: &Arc<Source>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!("cannot accept a connection for metrics: {error}");
                sleep(PATIENCE).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let source = Arc::clone(source);
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let answer = source.answer(&request);
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
            drop(place);
        });
    }
}

impl Source {
    fn answer(&self, request: &Request<Incoming>) -> Answer {
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
        let mut answer = Response::new(Full::from(self.text()));
        let content_type = OPENMETRICS.parse().expect("a content type");
        answer.headers_mut().insert(CONTENT_TYPE, content_type);
        answer
    }

    fn text(&self) -> Bytes {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((when, text)) if when.elapsed() < FRESH => text.clone(),
            _ => {
                let text = Bytes::from((self.text)());
                *last = Some((Instant::now(), text.clone()));
                text
            }
        }
    }
}
