//! Requests about the daemon, on a connection of their own. This is what `freemkvctl` uses.
//!
//! 1. A request returns by the timeout given at [`Control::connect`], on every platform.
//! 2. After a request that failed or was late the connection is not used again: nobody knows which
//!    answer would come next. A request that was merely refused is none of them.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::sync::{Arc, mpsc::RecvTimeoutError};
use std::thread;
use std::time::Duration;

use freemkvd_proto::status::Status;
use freemkvd_proto::waits::{Waits, Why};
use freemkvd_proto::{
    AbortStream, Command, ErrorCode, Failure, Kind, PauseStream, Reloaded, Reply, SetWeight,
};
use interprocess::local_socket::Stream;

use crate::connection::{Answers, Connection, Limit, connect, io_error};
use crate::locate::locate;
use crate::{Error, platform};

/// What [`Control::drain`] does, in an error's words.
const DRAIN: &str = "drain freemkvd at";

/// What [`Control::reload`] does.
const RELOAD: &str = "reload the configuration of freemkvd at";

/// What [`Control::abort`] does.
const ABORT: &str = "abort a stream of freemkvd at";

/// What [`Control::pause`] does.
const PAUSE: &str = "pause a stream of freemkvd at";

/// What [`Control::resume`] does.
const RESUME: &str = "have a stream go on of freemkvd at";

/// What [`Control::why`] does.
const WHY: &str = "ask where a stream's time went of freemkvd at";

/// What [`Control::metrics`] does.
const METRICS: &str = "ask for the metrics of freemkvd at";

/// A connection for control requests.
#[derive(Debug)]
pub struct Control {
    socket: PathBuf,
    timeout: Duration,
    /// `None` after a failure (rule 2).
    stream: Option<Arc<Stream>>,
    /// The protocol version of the connection.
    version: u16,
    /// Number of the last request.
    request: u64,
}

impl Control {
    /// Connects to the daemon at `socket`, or else where the environment, the user's own daemon and
    /// the system's say. `timeout` bounds the connecting and then each request.
    ///
    /// # Errors
    /// [`Error::NoDaemon`] when nobody listens there or the environment says `off`;
    /// [`Error::Refused`]; [`Error::TimedOut`].
    pub fn connect(socket: Option<&Path>, timeout: Duration) -> Result<Self, Error> {
        let socket = locate(socket).socket()?;
        let Connection { stream, version } = connect(&socket, Limit::of(timeout))?;
        Ok(Self { socket, timeout, stream: Some(stream), version, request: 0 })
    }

    /// The socket that it is connected to.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// A snapshot of the daemon.
    ///
    /// # Errors
    /// [`Error::Failed`] when the daemon says so, [`Error::Lost`], [`Error::TimedOut`]. After any of
    /// them connect again.
    pub fn status(&mut self) -> Result<Status, Error> {
        match self.request(Command::Status)? {
            Reply::FullReport(status) | Reply::StatusReport(status) => Ok(status),
            Reply::Failed(failure) => Err(self.failed("get the status of freemkvd at", failure)),
            other => Err(self.nonsense(&other)),
        }
    }

    /// Changes a stream's part of its device's speed, relative to the other streams there: 10 to 1000,
    /// where 100 is what a stream has that asked for nothing.
    ///
    /// # Errors
    /// [`Error::Failed`]: there is no such stream, it is another user's, or there is no such weight;
    /// else as [`status`](Self::status).
    pub fn set_weight(&mut self, stream: u64, weight: u32) -> Result<(), Error> {
        match self.request(Command::SetWeight(SetWeight { stream, weight }))? {
            Reply::Done => Ok(()),
            Reply::Failed(failure) => Err(self.failed("set a weight with freemkvd at", failure)),
            other => Err(self.nonsense(&other)),
        }
    }

    /// Asks the daemon to write what it has accepted, and then to stop, as by `SIGTERM`.
    /// Streams go on with the daemon that comes after it. `Ok` says that it has begun, not that it is over.
    ///
    /// # Errors
    /// [`Error::Failed`]: the daemon is too old to know this request (protocol version 2), or does not let
    /// this user; else as [`status`](Self::status).
    pub fn drain(&mut self) -> Result<(), Error> {
        self.knows(Kind::Drain, DRAIN)?;
        match self.request(Command::Drain)? {
            Reply::Done => Ok(()),
            Reply::Failed(failure) => Err(self.failed(DRAIN, failure)),
            other => Err(self.nonsense(&other)),
        }
    }

    /// Has the daemon read its configuration again, as by `SIGHUP`, and returns what has changed. Streams go on.
    ///
    /// # Errors
    /// [`Error::Failed`]: the configuration is not valid and all is as before, the daemon is too old to know this
    /// request (protocol version 8), or does not let this user; else as [`status`](Self::status).
    pub fn reload(&mut self) -> Result<Reloaded, Error> {
        self.knows(Kind::Reload, RELOAD)?;
        match self.request(Command::Reload)? {
            Reply::Reloaded(reloaded) => Ok(reloaded),
            Reply::Failed(failure) => Err(self.failed(RELOAD, failure)),
            other => Err(self.nonsense(&other)),
        }
    }

    /// Gives up a stream, whoever writes it: what was not written of it is dropped, and its client gets an
    /// error. It takes effect at once; a thread that is in a call which does not return ends when that does.
    ///
    /// # Errors
    /// [`Error::Failed`]: there is no such stream, it is another user's, or the daemon is too old to know this
    /// request (protocol version 3); else as [`status`](Self::status).
    pub fn abort(&mut self, stream: u64) -> Result<(), Error> {
        self.knows(Kind::AbortStream, ABORT)?;
        match self.request(Command::AbortStream(AbortStream { stream }))? {
            Reply::Done => Ok(()),
            Reply::Failed(failure) => Err(self.failed(ABORT, failure)),
            other => Err(self.nonsense(&other)),
        }
    }

    /// Has a stream written no further: it writes what it has begun, gives its part of the budget to others, and its
    /// muxer waits as soon as its queue is full. That goes on over restarts of the daemon, until somebody has it go on.
    /// A stream whose muxer goes away without having finished, and a daemon that stops, write what is queued all the same.
    ///
    /// # Errors
    /// [`Error::Failed`]: there is no such stream, it is another user's, or the daemon is too old to know this
    /// request (protocol version 6); else as [`status`](Self::status).
    pub fn pause(&mut self, stream: u64) -> Result<(), Error> {
        self.set_paused(PauseStream { stream, pause: true }, PAUSE)
    }

    /// Has a paused stream go on.
    ///
    /// # Errors
    /// As [`pause`](Self::pause).
    pub fn resume(&mut self, stream: u64) -> Result<(), Error> {
        self.set_paused(PauseStream { stream, pause: false }, RESUME)
    }

    fn set_paused(&mut self, set: PauseStream, operation: &'static str) -> Result<(), Error> {
        self.knows(Kind::PauseStream, operation)?;
        match self.request(Command::PauseStream(set))? {
            Reply::Done => Ok(()),
            Reply::Failed(failure) => Err(self.failed(operation, failure)),
            other => Err(self.nonsense(&other)),
        }
    }

    /// Where the time of a stream went, also if it has ended within a day in this daemon.
    ///
    /// # Errors
    /// [`Error::Failed`]: there is no such stream, or the daemon is too old to know this request (protocol
    /// version 6); else as [`status`](Self::status).
    pub fn why(&mut self, stream: u64) -> Result<Waits, Error> {
        self.knows(Kind::Why, WHY)?;
        match self.request(Command::Why(Why { stream }))? {
            Reply::Waits(waits) => Ok(waits),
            Reply::Failed(failure) => Err(self.failed(WHY, failure)),
            other => Err(self.nonsense(&other)),
        }
    }

    /// What a monitoring system reads: OpenMetrics text, with its end mark.
    ///
    /// # Errors
    /// [`Error::Failed`]: the daemon is too old to know this request (protocol version 7), or does not let this
    /// user; else as [`status`](Self::status).
    pub fn metrics(&mut self) -> Result<String, Error> {
        self.knows(Kind::Metrics, METRICS)?;
        match self.request(Command::Metrics)? {
            Reply::MetricsText(text) => Ok(text),
            Reply::Failed(failure) => Err(self.failed(METRICS, failure)),
            other => Err(self.nonsense(&other)),
        }
    }

    fn knows(&self, kind: Kind, operation: &'static str) -> Result<(), Error> {
        if self.version >= kind.since() {
            return Ok(());
        }
        let message = format!(
            "it speaks protocol version {}, which has no such request; upgrade it",
            self.version
        );
        Err(self.failed(operation, Failure::new(ErrorCode::VERSION, message)))
    }

    fn failed(&self, operation: &'static str, failure: Failure) -> Error {
        Error::Failed { path: self.socket.clone(), operation, failure }
    }

    fn nonsense(&self, reply: &Reply) -> Error {
        let message = format!("{:?} is no answer to this request", reply.kind());
        self.lost(io::Error::new(io::ErrorKind::InvalidData, message))
    }

    fn request(&mut self, command: Command) -> Result<Reply, Error> {
        self.request += 1;
        let request = self.request;
        let Some(stream) = self.stream.take() else {
            return Err(self.lost(io::ErrorKind::NotConnected.into()));
        };
        let (sender, answer) = mpsc::sync_channel(1);
        let connection = Arc::clone(&stream);
        // A thread for each request: pipes have no timeouts, and there is one request a second.
        thread::Builder::new()
            .name("freemkv-control".into())
            .spawn(move || {
                // Nobody listens any more when the timeout has passed.
                let _ = sender.send(exchange(connection, request, &command));
            })
            .map_err(|cause| io_error(&self.socket, "start a thread to ask", cause))?;
        match answer.recv_timeout(self.timeout) {
            Ok(Ok(reply)) => {
                if goes_on(&reply) {
                    self.stream = Some(stream);
                }
                Ok(reply)
            }
            Ok(Err(cause)) => Err(self.lost(cause)),
            Err(RecvTimeoutError::Timeout) => {
                platform::hang_up(&stream);
                Err(Error::TimedOut {
                    path: self.socket.clone(),
                    operation: "asking freemkvd at",
                    after: self.timeout,
                })
            }
            Err(RecvTimeoutError::Disconnected) => Err(self.lost(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn lost(&self, cause: io::Error) -> Error {
        io_error(&self.socket, "talk to freemkvd at", cause)
    }
}

/// Whether more may be asked after this answer (rule 2).
fn goes_on(reply: &Reply) -> bool {
    match reply {
        Reply::StatusReport(_)
        | Reply::FullReport(_)
        | Reply::Waits(_)
        | Reply::MetricsText(_)
        | Reply::Reloaded(_)
        | Reply::Done => true,
        // Refused, and nothing else: the connection is as it was.
        Reply::Failed(Failure { code: ErrorCode(500..=599), .. }) => true,
        _ => false,
    }
}

fn exchange(stream: Arc<Stream>, request: u64, command: &Command) -> io::Result<Reply> {
    let frame = command
        .encode(request)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    (&*stream).write_all(&frame)?;
    let mut answers = Answers::new(stream);
    loop {
        match answers.next()? {
            (sequence, reply) if sequence == request => return Ok(reply),
            // Before it stops, the daemon says so to everybody.
            (_, Reply::GoingAway(_)) => {}
            (_, reply @ Reply::Failed(_)) => return Ok(reply),
            (sequence, _) => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("answer {sequence} to request {request}"),
                ));
            }
        }
    }
}
