//! What a stream and its connection know of a daemon before this one, and of one after it.

use std::sync::PoisonError;
use std::time::Duration;

use freemkvd_proto::{Resume, Token};

use super::{Activity, Record};
use crate::foreign::Foreign;
use crate::foreign::Mapped;
use crate::stream::marks::Marks;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Restart {
    /// What its client resumes it by; `None` when it can't.
    pub(super) token: Option<Token>,
    /// Since when it waits for its client.
    suspended: Option<Duration>,
    /// Its file was not closed between the daemon before and this one.
    was_watched: bool,
    /// Length and window in the answer of the daemon before.
    opened_as: (u64, u64),
    /// Its file was left as it is, for the next daemon.
    is_left_open: bool,
    /// Nobody has kept its file, and its client is to bring it again.
    lacks_file: bool,
    /// What it has brought, until the stream's thread takes it.
    file: Option<Foreign>,
}

/// How often a stream that waits for its file looks whether it is given up.
const LOOK: Duration = Duration::from_millis(100);

impl Record {
    /// The same, with a file that its client has opened itself.
    #[must_use]
    pub fn with_given_file(self, is_given: bool) -> Self {
        Self { is_given, ..self }
    }

    /// Its client can resume it by this token from now on.
    pub fn resumable(&self, token: Token) {
        self.lock().restart.token = Some(token);
    }

    /// True when it can be resumed.
    #[must_use]
    pub fn is_resumable(&self) -> bool {
        self.lock().restart.token.is_some()
    }

    /// True when its client can resume it by this token.
    #[must_use]
    pub fn is_called(&self, token: &Token) -> bool {
        self.lock().restart.token.as_ref() == Some(token)
    }

    /// It goes on after a restart, as soon as its client comes back with this token. `watched` says that its
    /// file was never closed meanwhile, and `opened_as` what the daemon before has said: the file's length
    /// and the window, in bytes.
    pub fn suspend(&self, token: Token, watched: bool, opened_as: (u64, u64)) {
        self.set_activity(Activity::Suspended);
        let suspended = Some(self.clock.now());
        let mut inner = self.lock();
        // By the daemon before: status shows what becomes of it.
        inner.was_opened = true;
        inner.restart = Restart {
            token: Some(token),
            suspended,
            was_watched: watched,
            opened_as,
            is_left_open: false,
            lacks_file: false,
            file: None,
        };
    }

    /// Nobody has kept its file.
    pub fn lacks_file(&self) {
        self.lock().restart.lacks_file = true;
    }

    /// Its client has brought its file again. What is not needed is closed.
    pub fn give(&self, file: Foreign) {
        let mut inner = self.lock();
        let unused = match inner.restart.lacks_file {
            true => inner.restart.file.replace(file),
            false => Some(file),
        };
        drop(inner);
        drop(unused);
        self.file_came.notify_one();
    }

    /// Waits for that. `None` when no client comes for it any more.
    pub(in crate::writer) fn wait_for_file(&self) -> Option<Foreign> {
        let mut inner = self.lock();
        loop {
            if let Some(file) = inner.restart.file.take() {
                inner.restart.lacks_file = false;
                return Some(file);
            }
            if self.queue.is_ended() {
                return None;
            }
            let waited = self.file_came.wait_timeout(inner, LOOK);
            inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Since when it waits for its client to come back.
    #[must_use]
    pub fn suspended(&self) -> Option<Duration> {
        self.lock().restart.suspended
    }

    /// The file's length and the window that the daemon before has said, in bytes.
    #[must_use]
    pub fn opened_as(&self) -> (u64, u64) {
        self.lock().restart.opened_as
    }

    /// Its client has come back, and has this connection now. Says whether its file was watched meanwhile,
    /// or `None` when it was not awaited; then nothing has changed.
    #[must_use]
    pub fn resume(
        &self,
        from: &Resume,
        slots: Option<Mapped>,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> Option<bool> {
        let mut inner = self.lock();
        inner.restart.suspended.take()?;
        inner.attach(slots, wake);
        inner.marks = Marks::resumed(from.written, from.durable);
        inner.told = inner.marks.progress();
        // What the daemon before was told is no traffic of this one.
        inner.rate_in.restart();
        if inner.activity == Activity::Suspended {
            let stands_still = self.queue.stands_still();
            self.becomes(&mut inner, if stands_still { Activity::Paused } else { Activity::Idle });
            self.recount(&mut inner);
        }
        Some(inner.restart.was_watched)
    }

    /// It has waited for its client for so long, and does not any more. One that has come in time is not
    /// hit.
    #[must_use]
    pub fn expire_after(&self, grace: Duration, now: Duration) -> bool {
        let suspended = &mut self.lock().restart.suspended;
        let is_over = suspended.is_some_and(|since| now.saturating_sub(since) >= grace);
        if is_over {
            *suspended = None;
        }
        is_over
    }

    /// The connection of a client that had just come back was lost before it said anything: it may come
    /// again.
    pub fn suspend_again(&self) {
        let now = self.clock.now();
        self.set_activity(Activity::Suspended);
        let mut inner = self.lock();
        inner.restart.suspended = Some(now);
        inner.wake = None;
        inner.answers.clear();
    }

    /// Nobody comes back for it any more.
    pub fn expire(&self) {
        self.lock().restart.suspended = None;
    }

    /// It stops here, and goes on with the next daemon.
    pub fn leave_open(&self) {
        self.lock().restart.is_left_open = true;
    }

    /// True when it goes on with the next daemon.
    #[must_use]
    pub fn is_left_open(&self) -> bool {
        self.lock().restart.is_left_open
    }
}
