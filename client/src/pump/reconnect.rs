//! Another connection for a stream whose connection was lost, and for how long one is looked for.
//!
//! 1. Only a connection that is over is replaced. A daemon that sent nonsense would send it again.
//! 2. An outage begins with a loss, and ends with a connection that gets something written or holds for a
//!    while. So a daemon that dies of the same command again and again is an outage, and has an end.
//! 3. Each try has a limit, whoever answers or does not, and all of them together have the outage's.
//! 4. A try is over within a tick when the link has ended.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use freemkvd_proto::{Command, ErrorCode, Kind, Reply};
use interprocess::local_socket::Stream;

use super::{Line, Shared};
use crate::connection::{Answers, Limit, ask, connect};
use crate::link::Link;
use crate::{Error, platform};

/// Longest wait before the first try after the one that comes at once. systemd has the socket open all
/// the time, and a daemon that is killed comes back within tens of milliseconds.
const FIRST_WAIT: Duration = Duration::from_millis(5);

/// Longest wait at all: how late a stream notices that the daemon is back. Each try costs a thread and a
/// connection, which is nothing twice a second.
const LONGEST_WAIT: Duration = Duration::from_millis(500);

/// A connection that holds so long has ended the outage before it, also if nothing was to be written.
const STEADY: Duration = Duration::from_secs(5);

/// Whether a refusal is to be taken for "not yet": the daemon is on its way out, has not noticed that the old
/// connection is gone, or has more to do than it can do at once.
pub(crate) fn passes(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::GOING_AWAY
            | ErrorCode::ATTACHED
            | ErrorCode::TOO_MANY_CONNECTIONS
            | ErrorCode::HANDSHAKE_TIMEOUT
    )
}

/// Where the daemon is, and how long it is looked for.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) socket: PathBuf,
    /// The limit of connecting, and of the answer to the first frame.
    pub(crate) step_timeout: Duration,
    /// The limit of an outage; zero for none that is survived.
    pub(crate) resume_timeout: Duration,
}

/// Waits that grow, each of them random: all streams of a host lose their daemon at once, and shall not
/// come back at once.
#[derive(Debug)]
pub(crate) struct Backoff(Duration);

impl Backoff {
    pub(crate) fn new() -> Self {
        Self(FIRST_WAIT)
    }

    /// How long to wait before the next try.
    pub(crate) fn wait(&mut self) -> Duration {
        let longest = self.0;
        self.0 = (longest * 2).min(LONGEST_WAIT);
        // Without chance it is merely less polite.
        let chance = getrandom::u32().unwrap_or(u32::MAX);
        longest.mul_f64(f64::from(chance) / f64::from(u32::MAX))
    }
}

/// A time without a daemon (rule 2).
#[derive(Debug)]
pub(super) struct Outage {
    since: Option<Instant>,
    tries: u64,
    backoff: Backoff,
    /// When the last connection began, and what was written then.
    connected: Instant,
    written: u64,
}

impl Outage {
    pub(super) fn none_yet() -> Self {
        let backoff = Backoff::new();
        Self { since: None, tries: 0, backoff, connected: Instant::now(), written: 0 }
    }

    /// A connection was lost, with so many commands written. Since when there is no steady one.
    fn goes_on(&mut self, written: u64) -> Instant {
        if written > self.written || self.connected.elapsed() >= STEADY {
            *self = Self::none_yet();
        }
        *self.since.get_or_insert_with(Instant::now)
    }
}

/// What a try came to.
pub(super) enum Try {
    Connected(Answers),
    /// Why it is to be tried again.
    Again(String),
    /// No other try would come to anything else than this.
    Never(Error),
    /// The link has ended.
    Over,
}

impl Shared {
    /// Rule 1.
    pub(super) fn may_go_on(&self, link: &Link, cause: &io::Error) -> bool {
        cause.kind() != io::ErrorKind::InvalidData
            && !self.route.resume_timeout.is_zero()
            && link.resume().is_some()
    }

    /// Goes on with another connection, and returns its answers; `None` when the link has ended, or has
    /// failed now.
    pub(super) fn go_on(&self, cause: io::Error, outage: &mut Outage) -> Option<Answers> {
        let since = outage.goes_on(self.state().link.written_sequence());
        loop {
            let left = self.route.resume_timeout.saturating_sub(since.elapsed());
            if !self.pause(outage.backoff.wait().min(left)) {
                return None;
            }
            outage.tries += 1;
            // At least one try is worth its name, however short the time.
            match self.attempt(since.checked_add(self.route.resume_timeout)) {
                Try::Connected(answers) => {
                    outage.connected = Instant::now();
                    outage.written = self.state().link.written_sequence();
                    return Some(answers);
                }
                Try::Over => return None,
                Try::Never(error) => {
                    self.fail(&mut self.state().link, error);
                    return None;
                }
                Try::Again(why) if since.elapsed() >= self.route.resume_timeout => {
                    let state = &mut *self.state();
                    let Error::Lost { cause, .. } = self.lost(&state.link, cause) else {
                        return None;
                    };
                    let told = format!(
                        "{cause}, and in {:.1} s {} tries to go on failed, the last because {why}",
                        since.elapsed().as_secs_f64(),
                        outage.tries
                    );
                    let error = self.lost_because(&state.link, io::Error::new(cause.kind(), told));
                    self.fail(&mut state.link, error);
                    return None;
                }
                Try::Again(_) => {}
            }
        }
    }

    /// Waits so long. False when the link has ended.
    fn pause(&self, wait: Duration) -> bool {
        let goes_on = |state: &mut super::State| !state.link.ended;
        let waited = self.ending.wait_timeout_while(self.state(), wait, goes_on);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !state.link.ended
    }

    pub(super) fn attempt(&self, deadline: Option<Instant>) -> Try {
        let socket = &self.route.socket;
        let is_wanted = || !self.state().link.ended;
        // Rule 3. A step that has no time at all would not even find the daemon that is there.
        let limit = || {
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            let left = left.unwrap_or(Duration::MAX).max(FIRST_WAIT);
            Limit { timeout: self.route.step_timeout.min(left), is_wanted: &is_wanted }
        };
        let connection = match connect(socket, limit()) {
            Ok(connection) => connection,
            Err(Error::Refused { code, message, .. }) if !passes(code) => {
                return self.never(format!("the daemon that came back refused it: {message}"));
            }
            Err(error) => return Try::Again(reason(error)),
        };
        if connection.version < Kind::Resume.since() {
            return self.never(format!(
                "the daemon that came back speaks protocol version {}, which can't go on with a stream",
                connection.version
            ));
        }
        let Some(resume) = self.state().link.resume() else {
            return Try::Over;
        };
        let frame = match Command::Resume(resume).encode(0) {
            Ok(frame) => frame,
            Err(error) => return self.never(format!("it can't be told how to go on: {error}")),
        };
        match ask(socket, &connection.stream, frame, self.luggage.as_ref(), limit()) {
            Ok((answers, sequence, reply)) => {
                self.begin(connection.stream, answers, sequence, reply)
            }
            Err(error) => Try::Again(reason(error)),
        }
    }

    /// Takes the answer to `Resume`.
    fn begin(&self, stream: Arc<Stream>, answers: Answers, sequence: u64, reply: Reply) -> Try {
        let state = &mut *self.state();
        if state.link.ended {
            return Try::Over;
        }
        let taken = match reply {
            // A daemon that lacks something now may have it when another stream has ended; a stream that is
            // opened hears of it at once, and this one has a rip to lose.
            Reply::Failed(failure)
                if passes(failure.code) || failure.code == ErrorCode::NO_RESOURCES =>
            {
                return Try::Again(failure.code.to_string());
            }
            Reply::Failed(failure) if state.link.is_given_up_by(failure.code) => {
                state.link.aborted_instead();
                Ok(())
            }
            Reply::Failed(failure) => {
                return Try::Never(self.refusal("go on writing", failure));
            }
            Reply::Resumed(resumed) => state.link.resumed(resumed),
            reply => state.link.finish_instead(sequence, reply),
        };
        self.has_answered(&state.link);
        // Where the stream goes on, nobody is on the other side of the connection before.
        if let Some(line) = state.line.take() {
            platform::hang_up(&line.stream);
        }
        match taken {
            Ok(()) if state.link.ended => {
                self.wake();
                Try::Over
            }
            Ok(()) => {
                let generation = state.link.resumes;
                state.line = Some(Line { stream, generation });
                self.wake();
                Try::Connected(answers)
            }
            Err(cause) => Try::Never(self.lost_because(&state.link, cause)),
        }
    }

    fn never(&self, why: String) -> Try {
        let cause = io::Error::new(io::ErrorKind::Unsupported, why);
        Try::Never(self.lost_because(&self.state().link, cause))
    }
}

/// Why a try failed, as a part of a sentence and without advice.
fn reason(error: Error) -> String {
    match error {
        Error::NoDaemon { socket, source } => {
            format!("nobody can be reached at {}: {source}", socket.display())
        }
        Error::Refused { message, .. } => format!("it was refused: {message}"),
        Error::TimedOut { after, .. } => {
            format!("the daemon did not answer within {:.1} s", after.as_secs_f64())
        }
        Error::Io { cause, .. } => format!("the connection ended again: {cause}"),
        error => error.to_string(),
    }
}
