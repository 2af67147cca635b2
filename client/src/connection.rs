//! One connection to the daemon: connect, hello, and reading answers.
//!
//! 1. [`connect`] returns by its deadline on every platform. Named pipes have no timeouts, and a
//!    Unix connect waits while the daemon's backlog is full, so both happen in a thread of their own
//!    that is hung up on when it is late.
//! 2. What [`connect`] returns has agreed on a version.
//! 3. [`Answers::next`] believes no length before the decoder has checked it.

use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use freemkvd_proto::hello::{ClientHello, DaemonHello, HELLO_BYTES};
use freemkvd_proto::{Decoder, ErrorCode, FrameError, Reply, Sender, Step};
use interprocess::local_socket::{ConnectOptions, GenericFilePath, Stream, ToFsName};

use crate::{Error, platform};

/// What the connecting thread has reached.
enum Reached {
    Connected(Arc<Stream>),
    Answered([u8; HELLO_BYTES]),
}

/// Connects and agrees on a version, within `timeout`.
pub(crate) fn connect(socket: &Path, timeout: Duration) -> Result<Arc<Stream>, Error> {
    let deadline = Instant::now() + timeout;
    let (sender, reached) = mpsc::channel();
    let target = socket.to_owned();
    thread::Builder::new()
        .name("freemkv-connect".into())
        .spawn(move || {
            let result = greet(&target, &sender);
            if let Err(error) = result {
                // Nobody listens any more when the deadline has passed.
                let _ = sender.send(Err(error));
            }
        })
        .map_err(|cause| io_error(socket, "start a thread to connect to", cause))?;

    let mut connection = None;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match reached.recv_timeout(left) {
            Ok(Ok(Reached::Connected(stream))) => connection = Some(stream),
            Ok(Ok(Reached::Answered(bytes))) => {
                check_answer(socket, &bytes)?;
                return connection.ok_or_else(|| late(socket, timeout));
            }
            Ok(Err(error)) if connection.is_none() => {
                return Err(Error::NoDaemon { socket: socket.to_owned(), source: Arc::new(error) });
            }
            Ok(Err(error)) => return Err(io_error(socket, "greet freemkvd at", error)),
            Err(_) => {
                if let Some(stream) = connection {
                    platform::hang_up(&stream);
                }
                return Err(late(socket, timeout));
            }
        }
    }
}

fn greet(socket: &Path, reached: &mpsc::Sender<io::Result<Reached>>) -> io::Result<()> {
    let name = socket.to_fs_name::<GenericFilePath>()?;
    let stream = Arc::new(ConnectOptions::new().name(name).connect_sync()?);
    if reached.send(Ok(Reached::Connected(Arc::clone(&stream)))).is_err() {
        return Ok(());
    }
    let mut connection = &*stream;
    connection.write_all(&ClientHello::THIS.encode())?;
    let mut answer = [0; HELLO_BYTES];
    connection.read_exact(&mut answer)?;
    let _ = reached.send(Ok(Reached::Answered(answer)));
    Ok(())
}

fn check_answer(socket: &Path, bytes: &[u8; HELLO_BYTES]) -> Result<(), Error> {
    let refused = |code, message| Err(Error::Refused { socket: socket.to_owned(), code, message });
    let ours = ClientHello::THIS;
    match DaemonHello::decode(bytes) {
        Ok(DaemonHello::Accepted { version })
            if (ours.lowest..=ours.highest).contains(&version) =>
        {
            Ok(())
        }
        Ok(DaemonHello::Accepted { version }) => refused(
            ErrorCode::VERSION,
            format!("it chose protocol version {version}, which was not offered"),
        ),
        Ok(DaemonHello::Refused { reason: ErrorCode::VERSION, lowest, highest }) => refused(
            ErrorCode::VERSION,
            format!(
                "it speaks protocol versions {lowest} to {highest}, this client {} to {}; \
                 upgrade the older one",
                ours.lowest, ours.highest
            ),
        ),
        Ok(DaemonHello::Refused { reason, .. }) => refused(reason, reason.to_string()),
        Err(code) => refused(code, "what listens there is not freemkvd".to_owned()),
    }
}

fn late(socket: &Path, after: Duration) -> Error {
    Error::TimedOut { path: socket.to_owned(), operation: "connecting to freemkvd at", after }
}

pub(crate) fn io_error(path: &Path, operation: &'static str, cause: io::Error) -> Error {
    Error::Io { path: path.to_owned(), operation, offset: None, cause: Arc::new(cause) }
}

/// The answers of one connection, in order.
#[derive(Debug)]
pub(crate) struct Answers {
    stream: Arc<Stream>,
    decoder: Decoder,
}

impl Answers {
    pub(crate) fn new(stream: Arc<Stream>) -> Self {
        Self { stream, decoder: Decoder::new(Sender::Daemon) }
    }

    /// Blocks until the next answer is whole; with it comes the sequence number that it is for. The
    /// end of the connection is `UnexpectedEof`, bytes that are no frame are `InvalidData`.
    pub(crate) fn next(&mut self) -> io::Result<(u64, Reply)> {
        loop {
            let count = match (&*self.stream).read(self.decoder.space()) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            match self.decoder.advance(count).map_err(bad_frame)? {
                // The decoder refuses a `Write` from a daemon, so what is left is an answer.
                Step::More | Step::Write(_) => {}
                Step::Control(header, body) => {
                    let reply = Reply::decode(&header, body).map_err(bad_frame)?;
                    return Ok((header.sequence(), reply));
                }
            }
        }
    }
}

fn bad_frame(error: FrameError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
