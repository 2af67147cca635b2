//! Which streams there are: open ones, and for a while those that came to a bad end, so that somebody
//! who looks in the morning still sees them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use freemkvd_proto::Token;
use freemkvd_proto::status::StreamState;

use crate::budget::StreamId;
use crate::writer::Record;

/// Streams that ended badly and are remembered: enough for a night in which a disk fails, and a bound
/// for a client that fails on purpose.
const ENDED_MAX: usize = 64;

/// See the module's documentation.
#[derive(Default)]
pub struct Streams {
    by_id: Mutex<BTreeMap<StreamId, Arc<Record>>>,
    last: AtomicU64,
}

impl Streams {
    /// A number that no stream has had.
    pub fn next_id(&self) -> StreamId {
        self.last.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Takes a stream in, unless `most` are open.
    #[must_use]
    pub fn insert(&self, record: &Arc<Record>, most: usize) -> bool {
        let mut by_id = self.lock();
        let open = by_id.values().filter(|record| !record.has_ended()).count();
        if open >= most {
            return false;
        }
        by_id.insert(record.id, Arc::clone(record));
        true
    }

    /// Forgets the streams that ended well, and after `keep` those that did not. A stream that was
    /// refused never was one; one whose client has still to hear how it ended stays, and one that goes on with
    /// the next daemon. Returns those of which nothing need be kept any longer.
    #[must_use]
    pub fn forget_ended(&self, now: Duration, keep: Duration) -> Vec<StreamId> {
        let mut by_id = self.lock();
        let before: Vec<_> = by_id.values().cloned().collect();
        by_id.retain(|_, record| {
            let seen = record.snapshot();
            let Some(ended) = seen.ended else { return true };
            if record.is_attached() || record.suspended().is_some() || record.is_left_open() {
                return true;
            }
            let badly = matches!(seen.activity, StreamState::Failed | StreamState::Abandoned);
            badly && seen.was_opened && now.saturating_sub(ended) < keep
        });
        let ended: Vec<_> =
            by_id.values().filter(|record| record.has_ended()).map(|record| record.id).collect();
        for oldest in &ended[..ended.len().saturating_sub(ENDED_MAX)] {
            by_id.remove(oldest);
        }
        let is_gone = |record: &&Arc<Record>| !by_id.contains_key(&record.id);
        before.iter().filter(is_gone).map(|record| record.id).collect()
    }

    /// The daemon before had a stream of this number; new ones get higher ones.
    pub fn begin_after(&self, id: StreamId) {
        self.last.fetch_max(id, Ordering::Relaxed);
    }

    /// Takes in a stream that the daemon before had.
    pub fn adopt(&self, record: &Arc<Record>) {
        self.lock().insert(record.id, Arc::clone(record));
    }

    /// The stream that is resumed by this token.
    #[must_use]
    pub fn called(&self, token: &Token) -> Option<Arc<Record>> {
        self.lock().values().find(|record| record.is_called(token)).cloned()
    }

    /// All of them, in the order in which they were opened.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Record>> {
        self.lock().values().cloned().collect()
    }

    /// Those whose writer thread has not let go of its file.
    #[must_use]
    pub fn open(&self) -> Vec<Arc<Record>> {
        self.lock().values().filter(|record| !record.has_ended()).cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<StreamId, Arc<Record>>> {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
