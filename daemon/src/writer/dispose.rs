//! The end of a stream's file: its name when it is complete, and what is left of it when it is not.
//!
//! 1. A file gets its name after all of it is durable, and is reported only after the name is, too.
//! 2. What is to be removed loses its name first. Its space is given back step by step, each step under the
//!    budget like a write: freeing 100 GB at once keeps a disk's journal busy for seconds, and everybody who
//!    writes there waiting.

use std::ffi::OsStr;
use std::io;
use std::time::Duration;

use freemkvd_proto::{ErrorCode, Failure, Reply};
use tracing::{info, warn};

use super::run::{Stop, Writer};
use crate::budget::Reserve;

/// How much is freed at once: on ext4 a few dozen extents.
const STEP_BYTES: u64 = 256 << 20;

/// No step is a smaller part of the file than that. A rip of 128 GiB is still freed by `STEP_BYTES`; a file of
/// 8 EiB that is all holes, which takes one command to make, is gone after ten thousand steps.
const STEPS_A_FILE: u64 = 512;

/// What a step is charged: what it may dirty in the journal.
const STEP_CHARGE_BYTES: u64 = 1 << 20;

/// How long it waits for the budget before it asks again.
const PATIENCE: Duration = Duration::from_secs(1);

impl Writer<'_> {
    /// Gives a complete file its name.
    pub(super) fn publish(&mut self) -> Result<(), Stop> {
        if let Some(name) = self.target.ending.published_name(&self.target.path) {
            self.rename(name).map_err(|error| self.not_published(&error))?;
            // The name, which is not durable yet.
            self.sync()?;
        }
        Ok(())
    }

    /// Never in place of a file that another stream is writing.
    fn rename(&mut self, name: &OsStr) -> io::Result<()> {
        // Nobody begins to write it from here to the end.
        let claim =
            self.file.taken_by(name)?.map(|id| self.claim.claim_as_well(id, self.record.id));
        let _claim = claim.transpose().map_err(|other| {
            let name = self.target.path.with_file_name(name);
            let message = format!("{} is being written by stream {other}", name.display());
            io::Error::new(io::ErrorKind::ResourceBusy, message)
        })?;
        self.file.rename(name, self.target.ending.replaces())
    }

    fn not_published(&self, error: &io::Error) -> Stop {
        let name = self.target.ending.published_path(&self.target.path).unwrap_or_default();
        let (path, name) = (self.target.path.display(), name.display());
        let what = match error.kind() {
            io::ErrorKind::AlreadyExists => format!("{name} exists by now; choose one of the two"),
            io::ErrorKind::NotFound => {
                "somebody has taken its name away; unless it was renamed, write it again".to_owned()
            }
            _ => format!("it can't be renamed to {name}: {error}; rename it by hand"),
        };
        let message = format!("{path} is complete and durable, but {what}");
        let errno = error.raw_os_error();
        Stop::Failed(Failure { errno, ..Failure::new(ErrorCode::NOT_PUBLISHED, message) })
    }

    /// What is left of a file becomes what its client chose, once the client has been told how its stream
    /// ended. Returns the last answer, if it was not given yet.
    pub(super) fn dispose(&mut self, last: Option<(u64, Reply)>) -> Option<(u64, Reply)> {
        let _ = self.file.sync();
        if self.is_complete || !self.target.ending.removes() {
            self.call_partial();
            return last;
        }
        match self.file.unlink() {
            Ok(true) => info!(
                stream = self.record.id,
                "removed what was left of stream {}: {}",
                self.record.id,
                self.target.path.display()
            ),
            Ok(false) => {
                info!(
                    stream = self.record.id,
                    "what was left of stream {} has another name, and stays under that: {}",
                    self.record.id,
                    self.target.path.display()
                );
                return last;
            }
            Err(error) => {
                self.tell_left("remove", &error);
                return last;
            }
        }
        // The name is free for others from here on, and the rest takes time.
        if let Some((sequence, reply)) = last {
            self.record.answer(sequence, reply);
        }
        // If it can't be shrunk, its space comes back as a whole when it is closed.
        if let Err(error) = self.shrink() {
            self.tell_left("shrink", &error);
        }
        None
    }

    fn call_partial(&mut self) {
        if self.is_complete {
            return;
        }
        let Some(name) = self.target.ending.leftover_name(&self.target.path) else {
            return;
        };
        let renamed = self.rename(&name);
        if let Err(error) = renamed.and_then(|()| self.file.sync()) {
            self.tell_left("rename", &error);
        }
    }

    /// Nothing of it is dirty.
    fn shrink(&mut self) -> io::Result<()> {
        let mut len = self.file.len_bytes()?;
        while len > 0 {
            len = len.saturating_sub(STEP_BYTES.max(len / STEPS_A_FILE));
            let (need, want) = (STEP_CHARGE_BYTES, STEP_CHARGE_BYTES);
            while let Reserve::Throttled(_) = self.account().reserve(need, want, len) {
                self.account().wait(PATIENCE);
            }
            self.file.set_len(len)?;
            self.file.sync_len()?;
            // Its turn is over, and what was charged for it is clean.
            self.account().rest();
        }
        Ok(())
    }

    fn tell_left(&self, operation: &str, error: &io::Error) {
        warn!(
            stream = self.record.id,
            errno = error.raw_os_error(),
            "cannot {operation} what is left of stream {}: {}: {error}",
            self.record.id,
            self.target.path.display()
        );
    }
}
