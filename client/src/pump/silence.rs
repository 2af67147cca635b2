//! A daemon that is silent: is it there at all?
//!
//! A process that was killed keeps its sockets open for as long as one of its threads hangs in the kernel, on
//! a dead disk for instance. The end of its connections is then never seen, while the daemon that came after
//! it waits for their streams. So a silent daemon is asked on another connection whether the stream waits
//! there; one that is alive and has the stream says that it has a connection.
//!
//! 1. What that other connection says counts only if the stream goes on there, or if nothing else is heard for
//!    long: an answer of the old one may be on its way.
//! 2. Who answers is asked ever less often.

use std::time::{Duration, Instant};

use super::Shared;
use super::reconnect::Try;
use crate::connection::Answers;

/// How often a thread that waits for an answer looks up.
pub(super) const LOOK: Duration = Duration::from_millis(500);

/// How long a daemon may be silent although it has something to answer, and how long otherwise: well within the
/// three minutes for which a stream waits for its muxer.
const OWED: Duration = Duration::from_millis(500);
const QUIET: Duration = Duration::from_secs(15);

/// How long one question may take.
const ANSWER: Duration = Duration::from_secs(2);

/// From when on a silent connection is not believed in, if the stream is known not to go on elsewhere.
const HOPELESS: Duration = Duration::from_secs(30);

/// A silence.
#[derive(Debug)]
pub(super) struct Silence {
    since: Instant,
    asked: Option<Instant>,
    pause: Duration,
}

impl Silence {
    pub(super) fn none_yet() -> Self {
        Self { since: Instant::now(), asked: None, pause: OWED }
    }

    fn is_worth_asking(&self, is_owed: bool) -> bool {
        let patience = if is_owed { OWED } else { QUIET };
        let is_due = self.asked.is_none_or(|asked| asked.elapsed() >= self.pause);
        self.since.elapsed() >= patience && is_due
    }
}

impl Shared {
    /// Nothing was heard for a while. Returns the answers of another connection if the stream goes on there.
    pub(super) fn ask_elsewhere(&self, silence: &mut Silence) -> Option<Answers> {
        let (is_owed, can_resume) = {
            let state = self.state();
            (state.link.is_owed_an_answer(), state.link.resume().is_some())
        };
        if !can_resume || !silence.is_worth_asking(is_owed) {
            return None;
        }
        silence.asked = Some(Instant::now());
        silence.pause = (silence.pause * 2).min(QUIET);
        match self.attempt(Instant::now().checked_add(ANSWER)) {
            Try::Connected(answers) => Some(answers),
            Try::Never(error) if silence.since.elapsed() >= HOPELESS => {
                self.fail(&mut self.state().link, error);
                None
            }
            Try::Never(_) | Try::Again(_) | Try::Over => None,
        }
    }
}
