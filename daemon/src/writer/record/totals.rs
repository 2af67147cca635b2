//! How much a stream has done in this daemon, and how fast it does that.

use std::time::Duration;

use super::{Activity, Record};
use crate::metrics::Totals;

impl Record {
    /// A command is in the queue.
    pub fn accept(&self, sequence: u64, bytes: u64) {
        let mut inner = self.lock();
        if inner.owed != Some(sequence) {
            self.goes_on(&mut inner);
        }
        inner.marks.accept(sequence, bytes);
        inner.accepted_bytes += bytes;
        self.recount(&mut inner);
    }

    /// Updates both rates.
    pub fn sample(&self, now: Duration) {
        let mut inner = self.lock();
        let (accepted, cleaned) = (inner.marks.progress().accepted.bytes, inner.cleaned_bytes);
        inner.rate_in.sample(now, accepted);
        inner.rate_out.sample(now, cleaned);
        if inner.ended.is_none() {
            inner.clocked.look(now);
        }
    }

    /// What it counts for in the sum of all. Nothing, before its file was opened.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let now = self.clock.now();
        let inner = self.lock();
        if !inner.was_opened {
            return Totals::default();
        }
        let is_failed = inner.failure.is_some() || inner.activity == Activity::Abandoned;
        Totals {
            accepted_bytes: inner.accepted_bytes,
            drained_bytes: inner.cleaned_bytes,
            opened: 1,
            failed: u64::from(is_failed),
            spent: inner.clocked.spent(inner.ended.unwrap_or(now)),
        }
    }
}
