//! Which streams there are: open ones, and for a while those that came to a bad end, so that somebody
//! who looks in the morning still sees them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use freemkvd_proto::Token;
use freemkvd_proto::status::StreamState;
use freemkvd_proto::waits::Waits;

use crate::access::Crowded;
use crate::budget::StreamId;
use crate::config::Limits;
use crate::metrics::Totals;
use crate::user::UserId;
use crate::writer::Record;

/// Streams of one user that ended badly and are remembered: enough for a night in which a disk fails, and a bound
/// for a client that fails on purpose.
const ENDED_MAX: usize = 64;

/// The same for all users. There are a few, or somebody has a range of numbers; then each has less.
const ALL_ENDED_MAX: usize = 1024;

/// For how long it is known where the time of a stream went that has ended.
const TOLD_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// Of how many such streams: many times what a host rips in a day. Each takes a kilobyte and its path.
const TOLD_MAX: usize = 1024;

/// See the module's documentation.
#[derive(Default)]
pub struct Streams {
    by_id: Mutex<BTreeMap<StreamId, Arc<Record>>>,
    last: AtomicU64,
    /// What those have done that are forgotten. Changed under the lock of `by_id`, so that none is counted twice or
    /// never.
    past: Mutex<Totals>,
    /// Those that are forgotten here; the oldest first.
    told: Mutex<Vec<Told>>,
}

/// Where the time of a stream went that has ended.
struct Told {
    ended: Duration,
    user: Option<UserId>,
    waits: Waits,
}

impl Streams {
    /// A number that no stream has had.
    pub fn next_id(&self) -> StreamId {
        self.last.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Takes a stream in, unless so many are open, in all or of its user.
    ///
    /// # Errors
    /// [`Crowded`].
    pub fn insert(&self, record: &Arc<Record>, limits: &Limits) -> Result<(), Crowded> {
        let mut by_id = self.lock();
        let user = record.client.uid;
        let (mut all, mut of_user) = (0, 0);
        for open in by_id.values().filter(|record| !record.has_ended()) {
            all += 1;
            of_user += u32::from(user.is_some() && open.client.uid == user);
        }
        if all >= limits.streams_max {
            return Err(Crowded::InAll);
        }
        if of_user >= limits.streams_per_user_max {
            return Err(Crowded::ForUser);
        }
        by_id.insert(record.id, Arc::clone(record));
        Ok(())
    }

    /// Forgets one of which nothing came.
    pub fn remove(&self, id: StreamId) {
        let mut by_id = self.lock();
        let removed = by_id.remove(&id);
        self.count_past(removed.as_slice());
        drop(by_id);
        // Without the lock: it may be the last one to know of it.
        drop(removed);
    }

    /// Forgets the streams that ended well, and after `keep` those that did not. A stream that was
    /// refused never was one; one whose client has still to hear how it ended stays, and one that goes on with
    /// the next daemon. Returns those of which nothing need be kept any longer.
    #[must_use]
    pub fn forget_ended(&self, now: Duration, keep: Duration) -> Vec<StreamId> {
        let mut by_id = self.lock();
        let (mut gone, mut kept) = (Vec::new(), BTreeMap::<_, Vec<_>>::new());
        for record in by_id.values() {
            let seen = record.snapshot();
            let Some(ended) = seen.ended else { continue };
            if record.is_attached() || record.suspended().is_some() || record.is_left_open() {
                continue;
            }
            let badly = matches!(seen.activity, StreamState::Failed | StreamState::Abandoned);
            match badly && seen.was_opened && now.saturating_sub(ended) < keep {
                true => kept.entry(record.client.uid).or_default().push(record.id),
                false => gone.push(record.id),
            }
        }
        gone.extend(too_many(kept.into_values().collect(), ENDED_MAX, ALL_ENDED_MAX));
        let forgotten: Vec<_> = gone.iter().filter_map(|id| by_id.remove(id)).collect();
        self.count_past(&forgotten);
        drop(by_id);
        self.tell_later(&forgotten, now);
        gone
    }

    fn count_past(&self, forgotten: &[Arc<Record>]) {
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        forgotten.iter().for_each(|record| past.add(&record.totals()));
    }

    /// What all streams have done in this daemon.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let by_id = self.lock();
        let records: Vec<_> = by_id.values().cloned().collect();
        let mut totals = self.past.lock().unwrap_or_else(PoisonError::into_inner).clone();
        drop(by_id);
        records.iter().for_each(|record| totals.add(&record.totals()));
        totals
    }

    fn tell_later(&self, forgotten: &[Arc<Record>], now: Duration) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        for record in forgotten {
            let seen = record.snapshot();
            if let (true, Some(ended)) = (seen.was_opened, seen.ended) {
                told.push(Told { ended, user: record.client.uid, waits: record.waits() });
            }
        }
        told.retain(|one| now.saturating_sub(one.ended) < TOLD_FOR);
        if told.len() > TOLD_MAX {
            let mut by_user = BTreeMap::<_, Vec<_>>::new();
            for one in told.iter() {
                by_user.entry(one.user).or_default().push(one.waits.stream);
            }
            let gone = too_many(by_user.into_values().collect(), TOLD_MAX, TOLD_MAX);
            told.retain(|one| !gone.contains(&one.waits.stream));
        }
    }

    /// Where the time of this stream went, also if it has ended within a day.
    #[must_use]
    pub fn waits(&self, id: StreamId, now: Duration) -> Option<Waits> {
        let record = self.lock().get(&id).cloned();
        if let Some(record) = record {
            return Some(record.waits());
        }
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let one = told.iter().find(|one| one.waits.stream == id)?;
        let ended_seconds_ago = Some(now.saturating_sub(one.ended).as_secs());
        Some(Waits { ended_seconds_ago, ..one.waits.clone() })
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

/// What is forgotten of the streams of each user, of which the last one ended last, so that no more than `each_max`
/// of a user stay, and `all_max` in all: the oldest of those who have most.
fn too_many(by_user: Vec<Vec<StreamId>>, each_max: usize, all_max: usize) -> Vec<StreamId> {
    let mut most = each_max;
    while most > 1 && by_user.iter().map(|ids| ids.len().min(most)).sum::<usize>() > all_max {
        most -= 1;
    }
    let (mut gone, mut left) = (Vec::new(), Vec::new());
    for mut ids in by_user {
        left.extend(ids.split_off(ids.len().saturating_sub(most)));
        gone.append(&mut ids);
    }
    // More users than that.
    left.sort_unstable();
    gone.extend(&left[..left.len().saturating_sub(all_max)]);
    gone
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::writer::{Client, Queue, Queues};

    fn record(id: StreamId, uid: u32) -> Arc<Record> {
        let client = Client { pid: None, uid: Some(crate::user::of_test(uid)) };
        let queue = Queue::new(Queues::new(1 << 20, 1 << 20), client.uid);
        Arc::new(Record::new(id, "/rips/film".into(), client, queue, Clock::start()))
    }

    #[test]
    fn as_many_streams_as_there_may_be_of_a_user_and_in_all_and_one_more_when_one_has_ended() {
        let streams = Streams::default();
        let limits = Limits { streams_max: 3, streams_per_user_max: 2, ..Limits::default() };
        let (first, second) = (record(1, 1000), record(2, 1000));
        assert_eq!(streams.insert(&first, &limits), Ok(()));
        assert_eq!(streams.insert(&second, &limits), Ok(()));
        assert_eq!(streams.insert(&record(3, 1000), &limits), Err(Crowded::ForUser));
        assert_eq!(streams.insert(&record(4, 1001), &limits), Ok(()), "another user");
        assert_eq!(streams.insert(&record(5, 1001), &limits), Err(Crowded::InAll));
        first.end(None);
        assert_eq!(streams.insert(&record(6, 1000), &limits), Ok(()), "a place is free again");
    }

    /// How many streams of each user are remembered, when each had so many that failed.
    fn remembered(counts: &[usize]) -> Vec<usize> {
        let mut id = 0;
        let all: Vec<Vec<_>> = counts
            .iter()
            .map(|&count| {
                id += count as u64;
                (id - count as u64..id).collect()
            })
            .collect();
        let gone = too_many(all.clone(), ENDED_MAX, ALL_ENDED_MAX);
        let kept = |ids: &Vec<_>| {
            let kept: Vec<_> = ids.iter().copied().filter(|id| !gone.contains(id)).collect();
            assert!(ids.ends_with(&kept), "the newest are kept");
            kept.len()
        };
        all.iter().map(kept).collect()
    }

    #[test]
    fn nobody_makes_the_daemon_forget_the_failures_of_another() {
        assert_eq!(remembered(&[64, 2]), [64, 2]);
        assert_eq!(remembered(&[5000, 2, 65]), [64, 2, 64]);
        // 100 numbers of one user have less each, who has few has all.
        let mut counts = vec![64; 100];
        counts.push(3);
        let kept = remembered(&counts);
        assert!(kept.iter().sum::<usize>() <= ALL_ENDED_MAX && kept[0] >= 9, "{kept:?}");
        assert_eq!(kept[100], 3);
        assert_eq!(remembered(&vec![2; 2000]).iter().sum::<usize>(), ALL_ENDED_MAX);
    }

    #[test]
    fn many_streams_that_go_on_with_the_next_daemon_are_all_remembered() {
        let (streams, clock) = (Streams::default(), Clock::start());
        let queues = Queues::new(1 << 20, 1 << 20);
        for id in 1..=200 {
            let queue = Queue::new(Arc::clone(&queues), None);
            let record = Record::new(id, "/rips/film".into(), Client::default(), queue, clock);
            record.suspend(Token([0; 16]), true, (0, 0));
            record.expire();
            match id <= 100 {
                true => record.leave_open(),
                false => record.set_activity(StreamState::Abandoned),
            }
            record.end(None);
            streams.adopt(&Arc::new(record));
        }
        let gone = streams.forget_ended(clock.now(), Duration::from_secs(60));
        assert_eq!(gone, (101..=200 - ENDED_MAX as u64).collect::<Vec<_>>());
        assert_eq!(streams.all().len(), 100 + ENDED_MAX);
    }

    #[test]
    fn where_the_time_went_is_known_for_a_day_and_of_nobody_forgotten_for_another() {
        let (streams, second) = (Streams::default(), Duration::from_secs(1));
        let end = |id: StreamId, uid: u32| {
            let record = record(id, uid);
            // A stream that was opened, by the daemon before.
            record.suspend(Token([0; 16]), true, (0, 0));
            record.expire();
            record.end(None);
            streams.adopt(&record);
        };
        end(1, 1000);
        (2..=TOLD_MAX as u64 + 9).for_each(|id| end(id, 1001));
        let gone = streams.forget_ended(second, second);
        assert_eq!(gone.len(), TOLD_MAX + 9);
        let is_known = |id: StreamId, now: Duration| streams.waits(id, now).is_some();
        assert!(is_known(1, second), "of a user who has one");
        let forgotten = (1..=TOLD_MAX as u64 + 9).filter(|id| !is_known(*id, second));
        assert_eq!(forgotten.collect::<Vec<_>>(), (2..=10).collect::<Vec<_>>());
        let later = TOLD_FOR + second;
        assert!(streams.forget_ended(later, second).is_empty());
        assert!(!is_known(1, later));
    }
}
