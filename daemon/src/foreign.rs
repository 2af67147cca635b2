//! Descriptors that came from a peer, from their arrival until somebody takes them or they are closed.
//!
//! What is behind one may be the file of a server that is dead, or of one that its peer runs itself. Whatever asks
//! it anything may never return, and closing it asks: FUSE tells its server, NFS writes back. So:
//!
//! 1. Nothing is asked of one, and none is closed, by a thread that others wait for. A stream's own thread takes
//!    those that it is to write by.
//! 2. What nobody takes is closed by a thread for each user who has left something to be closed. Who passes what
//!    can't be closed has only his own wait for it. Memory has another such thread: nobody is asked there, but to give
//!    much of it back takes its time, also where it was mapped.
//! 3. Until they are closed they count in the table of descriptors, and nothing more is received from a user who
//!    has left too many, on none of its connections. So one user's do not fill it: they are never more than
//!    `WAITING_MAX` and one message for each thread of the runtime.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;

use tracing::warn;

use crate::descriptors::Claim;
use crate::storage::{Descriptor, Slots, is_memory};
use crate::user::UserId;

/// The descriptors that came with one frame, or a part of them.
#[derive(Debug)]
pub struct Foreign {
    descriptors: Vec<Descriptor>,
    from: Source,
}

/// Whose they are, and who closes them.
#[derive(Clone, Debug)]
struct Source {
    user: Option<UserId>,
    claim: Arc<Claim>,
    closer: Arc<Closer>,
}

impl Foreign {
    /// None yet, of a connection of `user`, with a claim for all that may come.
    #[must_use]
    pub fn none(closer: &Arc<Closer>, user: Option<UserId>, claim: Claim) -> Self {
        let from = Source { user, claim: Arc::new(claim), closer: Arc::clone(closer) };
        Self { descriptors: Vec::new(), from }
    }

    /// Takes more of them in.
    pub fn extend(&mut self, more: Vec<Descriptor>) {
        self.descriptors.extend(more);
        self.from.claim.cover(self.descriptors.len() as u64);
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

    /// The first one was memory, which is mapped by now: so to close it gives nothing back yet, and is done at once.
    #[must_use]
    pub fn mapped(mut self, slots: Slots) -> Mapped {
        let rest = self.split_off(1);
        drop(std::mem::take(&mut self.descriptors));
        let Source { user, closer, .. } = rest.from.clone();
        Mapped { slots: Some(slots), user, closer }
    }

    /// The descriptors themselves, for a stream's own thread, which has a claim of its own for them.
    #[must_use]
    pub fn take(mut self) -> Vec<Descriptor> {
        std::mem::take(&mut self.descriptors)
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let Source { user, claim, closer } = &self.from;
        let all = std::mem::take(&mut self.descriptors);
        let (memory, others): (Vec<_>, Vec<_>) = all.into_iter().partition(is_memory);
        for (lane, descriptors) in [(Lane::Memory, memory), (Lane::Other, others)] {
            let count = descriptors.len();
            if count > 0 {
                // In this order: the claim is given back after they are closed.
                let it = Box::new((descriptors, Arc::clone(claim)));
                closer.push((*user, lane), Batch { count, _it: it });
            }
        }
    }
}

/// Memory that a client shares, and that is unmapped by a thread for its user.
#[derive(Debug)]
pub struct Mapped {
    /// `None` in the end.
    slots: Option<Slots>,
    user: Option<UserId>,
    closer: Arc<Closer>,
}

impl Mapped {
    /// Unmaps it in this thread.
    pub fn unmap(mut self) {
        self.slots = None;
    }
}

impl Deref for Mapped {
    type Target = Slots;

    fn deref(&self) -> &Slots {
        self.slots.as_ref().expect("they are there until the end")
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        if let Some(slots) = self.slots.take() {
            self.closer.push((self.user, Lane::Memory), Batch { count: 1, _it: Box::new(slots) });
        }
    }
}

/// What is closed one after the other, each lane by a thread of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Lane {
    /// It takes its time, and comes to an end.
    Memory,
    /// It may never end.
    Other,
}

/// What one thread closes: such things of one user.
type Key = (Option<UserId>, Lane);

/// So many descriptors of one user may wait to be closed before nothing more is received from it: two messages
/// full of them, and far more than a crowd of muxers leaves that come back all at once.
const WAITING_MAX: usize = 512;

/// Closes what nobody takes; see rule 2.
#[derive(Debug, Default)]
pub struct Closer {
    waiting: Mutex<BTreeMap<Key, Waiting>>,
    /// Those who wait until some user is no longer behind.
    wakers: Mutex<Vec<Waker>>,
}

/// What one user has left, in one lane.
#[derive(Default)]
struct Waiting {
    batches: VecDeque<Batch>,
    /// Descriptors in them, and in the one that is being closed.
    count: usize,
    has_thread: bool,
}

impl Waiting {
    fn is_too_much(&self) -> bool {
        self.count > WAITING_MAX
    }
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiting").field("count", &self.count).finish_non_exhaustive()
    }
}

/// What is closed by being dropped.
struct Batch {
    count: usize,
    _it: Box<dyn Send>,
}

impl Closer {
    /// Has a connection of `user` closed elsewhere, with whatever nobody has read of it.
    pub fn close(self: &Arc<Self>, user: Option<UserId>, connection: impl Send + 'static) {
        self.push((user, Lane::Other), Batch { count: 1, _it: Box::new(connection) });
    }

    /// True when nothing more is to be received from `user`.
    #[must_use]
    pub fn is_behind(&self, user: Option<UserId>) -> bool {
        let waiting = self.lock();
        let is_too_much = |lane| waiting.get(&(user, lane)).is_some_and(Waiting::is_too_much);
        is_too_much(Lane::Memory) || is_too_much(Lane::Other)
    }

    /// Ready when something may be received from `user`; else `cx` is woken to ask again.
    pub fn poll_caught_up(&self, user: Option<UserId>, cx: &Context<'_>) -> Poll<()> {
        if !self.is_behind(user) {
            return Poll::Ready(());
        }
        let mut wakers = self.lock_wakers();
        if !wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
            wakers.push(cx.waker().clone());
        }
        drop(wakers);
        // It may have caught up before anybody knew that somebody waits.
        if self.is_behind(user) { Poll::Pending } else { Poll::Ready(()) }
    }

    fn push(self: &Arc<Self>, key: Key, batch: Batch) {
        let mut all = self.lock();
        let waiting = all.entry(key).or_default();
        waiting.count += batch.count;
        waiting.batches.push_back(batch);
        if waiting.has_thread {
            return;
        }
        let closer = Arc::clone(self);
        match thread::Builder::new().name(name(key)).spawn(move || closer.close_all(key)) {
            Ok(_) => waiting.has_thread = true,
            // There is a shortage, and memory comes to its end here as well.
            Err(_) if key.1 == Lane::Memory => {
                waiting.has_thread = true;
                drop(all);
                self.close_all(key);
            }
            // They wait for the next ones that this user leaves, and keep their claim.
            Err(error) => warn!("there is no thread to close what a client has passed: {error}"),
        }
    }

    fn close_all(&self, key: Key) {
        let mut closed = 0;
        while let Some(batch) = self.next(key, closed) {
            closed = batch.count;
            drop(batch);
        }
    }

    /// `None` when there is nothing left, and the thread is to end.
    fn next(&self, key: Key, closed: usize) -> Option<Batch> {
        let mut all = self.lock();
        let waiting = all.get_mut(&key)?;
        let was_too_much = waiting.is_too_much();
        waiting.count -= closed;
        let has_caught_up = was_too_much && !waiting.is_too_much();
        let batch = waiting.batches.pop_front();
        if batch.is_none() {
            all.remove(&key);
        }
        drop(all);
        if has_caught_up {
            let wakers = std::mem::take(&mut *self.lock_wakers());
            wakers.into_iter().for_each(Waker::wake);
        }
        batch
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_wakers(&self) -> MutexGuard<'_, Vec<Waker>> {
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// That of the thread.
fn name((user, lane): Key) -> String {
    let what = match lane {
        Lane::Memory => "free",
        Lane::Other => "close",
    };
    user.map_or_else(|| what.to_owned(), |user| format!("{what}:{user}"))
}

#[cfg(test)]
mod tests {
    use crate::user::of_test;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::task::Wake;
    use std::time::{Duration, Instant};

    use super::*;
    #[cfg(target_os = "linux")]
    use crate::descriptors::Table;

    fn first_user() -> Option<UserId> {
        Some(of_test(1))
    }

    fn other_user() -> Option<UserId> {
        Some(of_test(2))
    }

    /// Takes as long to be closed as the other end of its channel is there.
    struct Slow(Receiver<()>);

    impl Drop for Slow {
        fn drop(&mut self) {
            let _ = self.0.recv();
        }
    }

    fn slow() -> (Sender<()>, Slow) {
        let (end, slow) = channel();
        (end, Slow(slow))
    }

    /// Is set by being woken.
    #[derive(Default)]
    struct Flag(AtomicBool);

    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    fn soon(wanted: impl Fn() -> bool) -> bool {
        let since = Instant::now();
        while !wanted() && since.elapsed() < Duration::from_secs(30) {
            thread::sleep(Duration::from_millis(1));
        }
        wanted()
    }

    #[test]
    fn what_one_user_has_left_keeps_no_other_waiting() {
        let closer = Arc::new(Closer::default());
        let (end, hangs) = slow();
        closer.close(first_user(), hangs);
        let (later, waits) = channel::<()>();
        closer.close(first_user(), later);
        let (other, closed) = channel::<()>();
        closer.close(other_user(), other);
        assert!(closed.recv().is_err(), "it is closed");
        assert!(waits.try_recv().is_err_and(|error| error == std::sync::mpsc::TryRecvError::Empty));
        drop(end);
        assert!(waits.recv().is_err(), "and now this one");
        assert!(soon(|| closer.lock().is_empty()), "nothing is kept of users");
    }

    #[test]
    fn a_user_with_too_much_to_be_closed_is_behind_until_it_is() {
        let closer = Arc::new(Closer::default());
        let (end, hangs) = slow();
        closer.close(first_user(), hangs);
        (1..WAITING_MAX).for_each(|_| closer.close(first_user(), ()));
        assert!(!closer.is_behind(first_user()));
        closer.close(first_user(), ());
        assert!(closer.is_behind(first_user()) && !closer.is_behind(other_user()));
        drop(end);
        assert!(soon(|| !closer.is_behind(first_user())));
    }

    #[test]
    fn whoever_waits_for_a_user_goes_on_when_enough_is_closed_and_not_before() {
        let closer = Arc::new(Closer::default());
        let woken = Arc::new(Flag::default());
        let waker = Waker::from(Arc::clone(&woken));
        let is_ready = |user| closer.poll_caught_up(user, &Context::from_waker(&waker)).is_ready();
        assert!(is_ready(first_user()), "nothing was left yet");
        let (mut ends, slow_ones): (Vec<_>, Vec<_>) = (0..=WAITING_MAX).map(|_| slow()).unzip();
        slow_ones.into_iter().for_each(|one| closer.close(first_user(), one));
        assert!(!is_ready(first_user()) && is_ready(other_user()));
        assert!(!woken.0.load(Ordering::Relaxed));
        // The first one is enough.
        drop(ends.remove(0));
        assert!(soon(|| woken.0.load(Ordering::Relaxed)) && is_ready(first_user()));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_waits_to_be_closed_is_in_the_table_and_what_was_taken_is_not() {
        let table = Table::new(None, 0);
        let closer = Arc::new(Closer::default());
        let (end, hangs) = slow();
        closer.close(first_user(), hangs);
        let connection = table.for_connection().unwrap();
        let mut came = Foreign::none(&closer, first_user(), connection.for_first_frame());
        let file = || -> Descriptor { tempfile::tempfile_in(".").unwrap().into() };
        came.extend((0..20).map(|_| file()).collect());
        assert_eq!(table.claimed(), 1 + 20, "more than there is a claim for");
        let rest = came.split_off(18);
        assert_eq!((came.count(), rest.count()), (18, 2));
        drop(came);
        assert_eq!(rest.take().len(), 2, "by a stream, which has its own claim");
        assert_eq!(table.claimed(), 1 + 20, "until all that is left is closed");
        drop(connection);
        drop(end);
        assert!(soon(|| table.claimed() == 0));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn memory_is_given_back_elsewhere_and_does_not_wait_for_what_hangs() {
        use freemkvd_proto::limits::SLOT_BYTES;
        use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};

        let memory = || {
            let memory = memfd_create("slots", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING);
            let memory = memory.unwrap();
            ftruncate(&memory, SLOT_BYTES.into()).unwrap();
            fcntl_add_seals(&memory, SealFlags::SHRINK | SealFlags::GROW).unwrap();
            memory
        };
        let table = Table::new(None, 0);
        let closer = Arc::new(Closer::default());
        let (_end, hangs) = slow();
        closer.close(first_user(), hangs);
        let (end, takes_long) = slow();
        let lane = (first_user(), Lane::Memory);
        closer.push(lane, Batch { count: 1, _it: Box::new(takes_long) });
        let connection = table.for_connection().unwrap();
        let mut came = Foreign::none(&closer, first_user(), connection.for_first_frame());
        came.extend(vec![memory()]);
        let slots = Slots::offered(came.first(), 1).unwrap().unwrap();
        let rest = came.split_off(1);
        let mapped = came.mapped(slots);
        assert_eq!(mapped.count(), 1);
        let mut refused = rest;
        refused.extend(vec![memory()]);
        drop((refused, mapped));
        let waiting = closer.lock().get(&lane).map(|waiting| waiting.count);
        assert_eq!((waiting, table.claimed()), (Some(3), 5), "nobody here has done it");
        drop(end);
        assert!(soon(|| table.claimed() == 1 && closer.lock().len() == 1), "all but what hangs");
    }
}
