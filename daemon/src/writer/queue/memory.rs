//! What all queues share: how much they may hold together, and memory for reuse.
//!
//! The total is divided among the users who have queues, and each one's part among their queues, so that a
//! user with many streams takes nothing from one with a few. Who is alone has all of it, less what a limit per
//! user keeps back. A segment for each queue is set aside before anything is divided, so that no part is less.
//!
//! Memory for content is asked for, never taken for granted: a process whose memory is limited would end in
//! the middle of all rips. Each queue has one segment from its beginning, with which it always goes on.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::lock;
use super::segment::{SEGMENT_BYTES, Segment, allocation_bytes};

use crate::user::UserId;

/// Free segments that are kept for reuse by all streams together. Fresh memory costs a page fault
/// per 4 KiB, which at 1 GiB/s is a noticeable part of a core. They are beside what the queues hold, so no
/// more than a quarter of that.
const SPARE_SEGMENTS: usize = 32;

/// See the module's documentation.
#[derive(Debug)]
pub struct Queues {
    total_bytes: AtomicU64,
    user_bytes: AtomicU64,
    stream_bytes: AtomicU64,
    open: AtomicUsize,
    users_open: AtomicUsize,
    pub(super) users: Mutex<BTreeMap<Option<UserId>, Arc<User>>>,
    spare: Mutex<Vec<Vec<u8>>>,
}

/// A user's queues. `None` is who the platform has no number for.
#[derive(Debug)]
pub(super) struct User {
    id: Option<UserId>,
    open: AtomicUsize,
}

/// What a new queue does not get.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lacking {
    /// The system has no memory, or the total not a segment for each queue.
    Memory,
    /// What one user may have is not a segment for each of this one's queues.
    PartOfUser,
}

/// The segment that a queue has of its own.
#[derive(Debug, Default)]
pub(super) enum Own {
    /// It was not asked for.
    #[default]
    None,
    Free(Vec<u8>),
    /// Queued, or in the connection's or the writer's hands.
    InUse,
}

impl Queues {
    /// Queues of at most `stream_bytes` each and `total_bytes` together.
    #[must_use]
    pub fn new(stream_bytes: u64, total_bytes: u64) -> Arc<Self> {
        Arc::new(Self {
            total_bytes: AtomicU64::new(total_bytes),
            user_bytes: AtomicU64::new(u64::MAX),
            stream_bytes: AtomicU64::new(stream_bytes),
            open: AtomicUsize::new(0),
            users_open: AtomicUsize::new(0),
            users: Mutex::default(),
            spare: Mutex::default(),
        })
    }

    /// Changes both limits; fuller queues stay as they are until their writers have caught up.
    pub fn set_limits(&self, stream_bytes: u64, total_bytes: u64) {
        self.stream_bytes.store(stream_bytes, Ordering::Relaxed);
        self.total_bytes.store(total_bytes, Ordering::Relaxed);
    }

    /// Changes what all queues of one user may hold; without this that is the total.
    pub fn set_user_limit(&self, user_bytes: u64) {
        self.user_bytes.store(user_bytes, Ordering::Relaxed);
    }

    /// Most bytes that all queues may hold together.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes.load(Ordering::Relaxed)
    }

    /// Most bytes that a queue of `user` may hold now, but at least a segment.
    pub(super) fn limit_bytes(&self, user: &User) -> u64 {
        let segment = SEGMENT_BYTES as u64;
        let count = |open: &AtomicUsize| open.load(Ordering::Relaxed).max(1) as u64;
        let of_user = count(&user.open);
        let divided = self.total_bytes().saturating_sub(count(&self.open) * segment);
        let part = segment + divided / count(&self.users_open) / of_user;
        let of_all = self.user_bytes.load(Ordering::Relaxed) / of_user;
        self.stream_bytes.load(Ordering::Relaxed).min(part).min(of_all.max(segment))
    }

    /// True while the total has a segment for each of the open queues.
    #[must_use]
    pub fn is_enough(&self) -> bool {
        Self::has_segments(self.total_bytes(), &self.open)
    }

    /// The same for what `user` may have.
    pub(super) fn is_enough_for(&self, user: &User) -> bool {
        Self::has_segments(self.user_bytes.load(Ordering::Relaxed), &user.open)
    }

    fn has_segments(bytes: u64, queues: &AtomicUsize) -> bool {
        queues.load(Ordering::Relaxed) as u64 * SEGMENT_BYTES as u64 <= bytes
    }

    pub(super) fn joined(&self, id: Option<UserId>) -> Arc<User> {
        let mut users = lock(&self.users);
        let new = || Arc::new(User { id, open: AtomicUsize::new(0) });
        let user = Arc::clone(users.entry(id).or_insert_with(new));
        user.open.fetch_add(1, Ordering::Relaxed);
        self.open.fetch_add(1, Ordering::Relaxed);
        self.users_open.store(users.len(), Ordering::Relaxed);
        user
    }

    pub(super) fn left(&self, user: &User) {
        let mut users = lock(&self.users);
        self.open.fetch_sub(1, Ordering::Relaxed);
        if user.open.fetch_sub(1, Ordering::Relaxed) == 1 {
            users.remove(&user.id);
        }
        self.users_open.store(users.len(), Ordering::Relaxed);
    }

    /// Memory for a segment; that of the queue itself where the system has no other.
    pub(super) fn take_memory(&self, room_bytes: usize, own: &mut Own) -> Option<Vec<u8>> {
        let spare = if room_bytes == SEGMENT_BYTES { lock(&self.spare).pop() } else { None };
        spare.or_else(|| allocate(room_bytes)).or_else(|| {
            match std::mem::replace(own, Own::InUse) {
                Own::Free(memory) => Some(memory),
                before => {
                    *own = before;
                    None
                }
            }
        })
    }

    pub(super) fn give_memory(&self, segment: Segment, own: &mut Own) {
        if segment.memory.capacity() < allocation_bytes(SEGMENT_BYTES) {
            return;
        }
        if matches!(own, Own::InUse) {
            *own = Own::Free(segment.memory);
            return;
        }
        let most = usize::try_from(self.total_bytes() / 4).unwrap_or(usize::MAX) / SEGMENT_BYTES;
        let mut spare = lock(&self.spare);
        if spare.len() < most.min(SPARE_SEGMENTS) {
            spare.push(segment.memory);
        }
    }
}

impl Own {
    /// Asks the system for it. False when it has none.
    pub(super) fn allocate(&mut self) -> bool {
        if matches!(self, Self::None) {
            *self = allocate(SEGMENT_BYTES).map_or(Self::None, Self::Free);
        }
        !matches!(self, Self::None)
    }
}

fn allocate(room_bytes: usize) -> Option<Vec<u8>> {
    let mut memory = Vec::new();
    memory.try_reserve_exact(allocation_bytes(room_bytes)).ok()?;
    Some(memory)
}
