//! Descriptors that came from a peer, from their arrival until somebody takes them or they are closed.
//!
//! What is behind one may be the file of a server that is dead, or of one that its peer runs itself. Whatever asks
//! it anything may never return, and closing it asks: FUSE tells its server, NFS writes back. So:
//!
//! 1. Nothing is asked of one, and none is closed, by a thread that others wait for. A stream's own thread takes
//!    those that it is to write by; memory, behind which there is nobody, is the exception.
//! 2. What nobody takes is closed by a thread for each user who has left something to be closed. Who passes what
//!    can't be closed has only his own wait for it.
//! 3. Until they are closed they keep their part of their connection's claim to the table of descriptors. So all
//!    that wait are no more than the table has places for.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use tracing::warn;

use crate::descriptors::Claim;
use crate::storage::{Descriptor, is_memory};

/// The descriptors that came with one frame, or a part of them.
#[derive(Debug)]
pub struct Foreign {
    descriptors: Vec<Descriptor>,
    from: Source,
}

/// Whose they are, and who closes them.
#[derive(Clone, Debug)]
struct Source {
    user: Option<u32>,
    claim: Arc<Claim>,
    closer: Arc<Closer>,
}

impl Foreign {
    /// None yet, of a connection of `user`, with a claim for all that may come.
    #[must_use]
    pub fn none(closer: &Arc<Closer>, user: Option<u32>, claim: Claim) -> Self {
        let from = Source { user, claim: Arc::new(claim), closer: Arc::clone(closer) };
        Self { descriptors: Vec::new(), from }
    }

    /// Takes more of them in.
    pub fn extend(&mut self, more: impl IntoIterator<Item = Descriptor>) {
        self.descriptors.extend(more);
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.descriptors.len()
    }

    /// The first one.
    #[must_use]
    pub fn first(&self) -> Option<&Descriptor> {
        self.descriptors.first()
    }

    /// All but the first `count`, which stay here.
    #[must_use]
    pub fn split_off(&mut self, count: usize) -> Self {
        let count = count.min(self.descriptors.len());
        Self { descriptors: self.descriptors.split_off(count), from: self.from.clone() }
    }

    /// The descriptors themselves, for a stream's own thread, which has a claim of its own for them.
    #[must_use]
    pub fn take(mut self) -> Vec<Descriptor> {
        std::mem::take(&mut self.descriptors)
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let mut descriptors = std::mem::take(&mut self.descriptors);
        descriptors.retain(|descriptor| !is_memory(descriptor));
        if !descriptors.is_empty() {
            let Source { user, claim, closer } = &self.from;
            closer.close(*user, Batch { _descriptors: descriptors, _claim: Arc::clone(claim) });
        }
    }
}

/// Closes what nobody takes; see rule 2.
#[derive(Debug, Default)]
pub struct Closer {
    by_user: Mutex<BTreeMap<Option<u32>, Waiting>>,
}

/// What one user has left.
#[derive(Debug, Default)]
struct Waiting {
    batches: VecDeque<Batch>,
    has_thread: bool,
}

/// In this order: the claim is given back after they are closed.
#[derive(Debug)]
struct Batch {
    _descriptors: Vec<Descriptor>,
    _claim: Arc<Claim>,
}

impl Closer {
    fn close(self: &Arc<Self>, user: Option<u32>, batch: Batch) {
        let mut by_user = self.lock();
        let waiting = by_user.entry(user).or_default();
        waiting.batches.push_back(batch);
        if waiting.has_thread {
            return;
        }
        let closer = Arc::clone(self);
        let name = user.map_or_else(|| "close".to_owned(), |user| format!("close:{user}"));
        match thread::Builder::new().name(name).spawn(move || closer.close_all(user)) {
            Ok(_) => waiting.has_thread = true,
            // They wait for the next ones that this user leaves, and keep their claim.
            Err(error) => warn!("there is no thread to close what a client has passed: {error}"),
        }
    }

    fn close_all(&self, user: Option<u32>) {
        while let Some(batch) = self.next(user) {
            drop(batch);
        }
    }

    /// `None` when there is nothing left, and the thread is to end.
    fn next(&self, user: Option<u32>) -> Option<Batch> {
        let mut by_user = self.lock();
        let batch = by_user.get_mut(&user)?.batches.pop_front();
        if batch.is_none() {
            by_user.remove(&user);
        }
        batch
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Option<u32>, Waiting>> {
        self.by_user.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
