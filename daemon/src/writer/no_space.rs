//! Waiting for space. A full disk in the middle of a rip is not its end: the stream gives up its budget and
//! its turn, and tries the same bytes at the same place again, until there is space or its time is up.
//!
//! A write that came to an end in the middle is repeated as a whole: what it had written is the same.

use std::io;
use std::time::Duration;

use tracing::{info, warn};

use super::record::Activity;
use super::run::{ABORT_POLL, Stop, Writer};
use crate::config::{Size, Span};
use crate::log::event;
use crate::storage::is_no_space;

/// How often it is tried again when nobody else has found any.
const AGAIN: Duration = Duration::from_secs(1);

impl Writer<'_> {
    /// Does `attempt`, which is to `operation` at `offset`, again for as long as there is no space for it
    /// and the configuration allows.
    pub(super) fn with_space(
        &mut self,
        operation: &'static str,
        offset: Option<u64>,
        mut attempt: impl FnMut(&mut Self) -> Result<io::Result<()>, Stop>,
    ) -> Result<(), Stop> {
        let patience = self.target.no_space_wait;
        let mut since = None;
        loop {
            let result = attempt(self)?;
            let error = match &result {
                Err(error) if is_no_space(error) && !patience.is_zero() => error,
                _ => {
                    if result.is_ok() && since.is_some() {
                        self.goes_on();
                    }
                    return self.check(operation, offset, result);
                }
            };
            // Whoever has paused it frees some at leisure.
            let paused_at = self.clock.now();
            if self.record.queue.stands_still() {
                self.stand_still()?;
                if self.record.queue.aborted_by().is_some() {
                    return Err(Stop::Aborted);
                }
                since = since.map(|since| since + self.clock.now().saturating_sub(paused_at));
                self.record.set_activity(Activity::NoSpace);
            }
            let now = self.clock.now();
            let first = since.is_none();
            let until = *since.get_or_insert(now) + patience;
            if now >= until {
                let late = io::Error::new(error.kind(), format!("{error} for {}", Span(patience)));
                return Err(self.failed_as(operation, offset, &late, error.raw_os_error()));
            }
            // What it holds is of use to others, whose disk may not be full. An error of writing back, which
            // is found here, ends the stream as ever.
            self.give_up_turn()?;
            let missing_bytes = self.missing_bytes();
            self.record.no_space(missing_bytes, until);
            self.is_without_space = true;
            if first {
                self.tell_no_space(error, missing_bytes);
            }
            self.wait_for_space()?;
        }
    }

    fn wait_for_space(&mut self) -> Result<(), Stop> {
        let again = self.clock.now() + AGAIN;
        loop {
            if self.record.queue.aborted_by().is_some() {
                return Err(Stop::Aborted);
            }
            let left = again.saturating_sub(self.clock.now());
            if self.record.queue.stands_still() {
                return Ok(());
            }
            if left.is_zero() || self.file.space().wait(left.min(ABORT_POLL)) {
                return Ok(());
            }
        }
    }

    /// At least so much is missing: of what was announced, or else of what is queued.
    fn missing_bytes(&mut self) -> u64 {
        let need_bytes = self.file.announced_bytes().max(self.record.queue.queued_bytes());
        let free_bytes = self.file.free_bytes().unwrap_or(0);
        need_bytes.saturating_sub(free_bytes)
    }

    fn tell_no_space(&self, error: &io::Error, missing_bytes: u64) {
        let (stream, path) = (self.record.id, self.record.path.display().to_string());
        // Nobody knows how much, where some is free and yet not for this file: a quota, or the file system's own.
        let missing = match missing_bytes {
            0 => String::new(),
            bytes => format!(", at least {} more,", Size(bytes)),
        };
        warn!(
            event = event::STREAM_NO_SPACE,
            stream,
            path,
            missing_bytes,
            errno = error.raw_os_error(),
            "stream {stream} waits for space{missing} and gives up after {}: {path}; free some",
            Span(self.target.no_space_wait)
        );
    }

    fn goes_on(&mut self) {
        self.is_without_space = false;
        self.file.space().came_back();
        self.record.set_activity(Activity::Writing);
        let stream = self.record.id;
        info!(
            event = event::STREAM_HAS_SPACE,
            stream, "stream {stream} has space again and goes on"
        );
    }
}
