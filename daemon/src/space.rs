//! The space of one device: what its streams have announced and not taken yet, and waiting for more.
//!
//! Where the file system sets space aside when it is asked to, an announcement is kept by the file system
//! itself. Elsewhere only the sum that is kept here lets a stream be refused at its start instead of all of
//! them failing at their ends. What is written without an announcement is in no sum.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::budget::StreamId;

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Space {
    books: Mutex<Books>,
    came_back: Condvar,
}

#[derive(Debug, Default)]
struct Books {
    announced: BTreeMap<StreamId, Announced>,
    /// How often somebody who had waited for space could go on.
    returns: u64,
}

#[derive(Debug)]
struct Announced {
    hint_bytes: u64,
    taken_bytes: Arc<AtomicU64>,
    kept: Kept,
}

/// Who sees to it that announced space is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    /// It is being asked of the file system; whether what is free is with or without it, nobody knows.
    Asking,
    /// The file system: what is free is without it.
    Reserved,
    /// Nobody but this sum.
    Counted,
}

/// Why an announcement is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Short {
    /// So much is missing, in bytes.
    pub missing_bytes: u64,
    /// So much others have announced and not taken, in bytes.
    pub others_bytes: u64,
    /// What is free may look smaller than it is, for a moment: look again.
    pub is_unsure: bool,
}

impl Space {
    /// What all have announced and not taken, as far as the file system does not know of it, in bytes.
    #[must_use]
    pub fn outstanding_bytes(&self) -> u64 {
        self.lock().outstanding_bytes()
    }

    /// Announces that the file of `stream` may become `hint_bytes` long, where the file system has
    /// `available_bytes` for it, and `before_bytes` were outstanding before it was asked for that: what
    /// others have taken in between may be in neither figure.
    ///
    /// # Errors
    /// It does not fit beside what others have announced.
    pub fn announce(
        self: &Arc<Self>,
        stream: StreamId,
        hint_bytes: u64,
        available_bytes: u64,
        before_bytes: u64,
    ) -> Result<Announcement, Short> {
        let mut books = self.lock();
        let others_bytes = books.outstanding_bytes().max(before_bytes);
        let missing_bytes = hint_bytes.saturating_sub(available_bytes.saturating_sub(others_bytes));
        if missing_bytes > 0 {
            let is_unsure = books.announced.values().any(|other| other.kept == Kept::Asking);
            return Err(Short { missing_bytes, others_bytes, is_unsure });
        }
        let taken_bytes = Arc::new(AtomicU64::new(0));
        let announced =
            Announced { hint_bytes, taken_bytes: Arc::clone(&taken_bytes), kept: Kept::Asking };
        books.announced.insert(stream, announced);
        Ok(Announcement { space: Arc::clone(self), stream, hint_bytes, taken_bytes })
    }

    /// Waits until somebody else who had no space has some again, or `patience` is over. True for the first.
    #[must_use]
    pub fn wait(&self, patience: Duration) -> bool {
        let books = self.lock();
        let returns = books.returns;
        let waiting = |books: &mut Books| books.returns == returns;
        let waited = self.came_back.wait_timeout_while(books, patience, waiting);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// A stream that had no space has some again; others may try.
    pub fn came_back(&self) {
        self.lock().returns += 1;
        self.came_back.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    fn outstanding_bytes(&self) -> u64 {
        self.announced.values().map(Announced::outstanding_bytes).sum()
    }
}

impl Announced {
    fn outstanding_bytes(&self) -> u64 {
        match self.kept {
            Kept::Reserved => 0,
            Kept::Asking | Kept::Counted => {
                self.hint_bytes.saturating_sub(self.taken_bytes.load(Ordering::Relaxed))
            }
        }
    }
}

/// What a stream has announced, until it is dropped.
#[derive(Debug)]
pub struct Announcement {
    space: Arc<Space>,
    stream: StreamId,
    hint_bytes: u64,
    taken_bytes: Arc<AtomicU64>,
}

impl Announcement {
    /// The file system was asked to set it aside, and has, or can't.
    pub fn asked(&self, is_reserved: bool) {
        if let Some(announced) = self.space.lock().announced.get_mut(&self.stream) {
            announced.kept = if is_reserved { Kept::Reserved } else { Kept::Counted };
        }
    }

    /// The file has so many bytes now, or has had.
    pub fn taken(&self, bytes: u64) {
        self.taken_bytes.fetch_max(bytes, Ordering::Relaxed);
    }

    /// What is still to come, in bytes.
    #[must_use]
    pub fn left_bytes(&self) -> u64 {
        self.hint_bytes.saturating_sub(self.taken_bytes.load(Ordering::Relaxed))
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        self.space.lock().announced.remove(&self.stream);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn what_others_have_announced_and_not_taken_is_not_free() {
        let space = Arc::new(Space::default());
        let first = space.announce(1, 30 * GIB, 50 * GIB, 0).unwrap();
        first.asked(false);
        let short = space.announce(2, 30 * GIB, 50 * GIB, 0).unwrap_err();
        let expected = Short { missing_bytes: 10 * GIB, others_bytes: 30 * GIB, is_unsure: false };
        assert_eq!(short, expected);
        // 15 of it are in the file, and not free any more.
        first.taken(15 * GIB);
        assert_eq!(first.left_bytes(), 15 * GIB);
        assert_eq!(space.announce(2, 21 * GIB, 35 * GIB, 0).unwrap_err().missing_bytes, GIB);
        let second = space.announce(2, 20 * GIB, 35 * GIB, 0).unwrap();
        drop((first, second));
        assert!(space.announce(3, 35 * GIB, 35 * GIB, 0).is_ok());
    }

    #[test]
    fn what_the_file_system_has_set_aside_is_not_counted_twice() {
        let space = Arc::new(Space::default());
        let first = space.announce(1, 30 * GIB, 50 * GIB, 0).unwrap();
        // It may or may not be in what is free.
        assert!(space.announce(2, 20 * GIB, 20 * GIB, 0).unwrap_err().is_unsure);
        first.asked(true);
        assert!(space.announce(2, 20 * GIB, 20 * GIB, 0).is_ok());
    }

    #[test]
    fn one_who_can_go_on_wakes_all_who_wait() {
        let space = Arc::new(Space::default());
        let waiters: Vec<_> = (0..3)
            .map(|_| {
                let space = Arc::clone(&space);
                std::thread::spawn(move || space.wait(Duration::from_secs(600)))
            })
            .collect();
        // Whoever begins to wait after the call would wait on: it is made until all are through.
        while !waiters.iter().all(std::thread::JoinHandle::is_finished) {
            space.came_back();
            std::thread::yield_now();
        }
        assert!(waiters.into_iter().all(|waiter| waiter.join().unwrap()));
    }
}
