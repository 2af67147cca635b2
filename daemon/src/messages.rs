//! How many lines of the log one user causes by what costs that user nothing: to connect once too often, to break
//! a rule, to ask for what is refused. Whoever does so without a pause would fill a disk, and hide what matters.
//!
//! 1. After `BURST` lines a user causes one in `EVERY`, whatever happens.
//! 2. What was left out is counted, and told at most once in `TOLD_EVERY`; also when nothing more comes.
//! 3. No user's lines are left out for another's, and who has been quiet for long enough is forgotten.
//!
//! Pure: the time is an argument.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::user::UserId;

/// Lines at once: those of a host full of muxers that a reload has shut out.
const BURST: u32 = 50;

/// How long one line takes to be free again.
const EVERY: Duration = Duration::from_secs(2);

/// How often a user hears of how many lines were left out.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Messages {
    by_user: Mutex<BTreeMap<Option<UserId>, Bucket>>,
}

#[derive(Debug)]
struct Bucket {
    /// When all its lines are free again: each one that is said moves it on by [`EVERY`].
    full_at: Duration,
    left_out: u64,
    told: Duration,
}

impl Messages {
    /// Whether one more line about `user` is said now.
    #[must_use]
    pub fn may_say(&self, user: Option<UserId>, now: Duration) -> bool {
        let mut by_user = self.lock();
        let new = Bucket { full_at: now, left_out: 0, told: now };
        let bucket = by_user.entry(user).or_insert(new);
        let full_at = bucket.full_at.max(now) + EVERY;
        if full_at > now + EVERY * BURST {
            bucket.left_out += 1;
            return false;
        }
        bucket.full_at = full_at;
        true
    }

    /// How many lines about whom were left out, where that is to be told now.
    #[must_use]
    pub fn left_out(&self, now: Duration) -> Vec<(Option<UserId>, u64)> {
        let mut by_user = self.lock();
        let mut all = Vec::new();
        for (user, bucket) in by_user.iter_mut() {
            if bucket.left_out > 0 && now.saturating_sub(bucket.told) >= TOLD_EVERY {
                all.push((*user, std::mem::take(&mut bucket.left_out)));
                bucket.told = now;
            }
        }
        by_user.retain(|_, bucket| bucket.full_at > now || bucket.left_out > 0);
        all
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Option<UserId>, Bucket>> {
        self.by_user.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::user::of_test;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn whoever_goes_on_without_a_pause_has_a_bounded_number_of_lines_and_all_others_are_counted() {
        let (messages, mut now, mut said, mut left_out) = (Messages::default(), 500 * MS, 0, 0);
        let mut told = 0;
        // 200 a second, for an hour.
        for step in 0..720_000_u64 {
            said += u64::from(messages.may_say(Some(of_test(1000)), now));
            if step % 100 == 0 {
                for (user, count) in messages.left_out(now) {
                    assert_eq!(user, Some(of_test(1000)));
                    (told, left_out) = (told + 1, left_out + count);
                }
            }
            now += 5 * MS;
        }
        let last = messages.left_out(now + TOLD_EVERY);
        left_out += last.iter().map(|(_, count)| count).sum::<u64>();
        assert_eq!(said + left_out, 720_000, "none is forgotten");
        assert!((1800..=1850).contains(&said), "{said} lines");
        assert!((350..=360).contains(&told), "told {told} times");
    }

    #[test]
    fn the_burst_is_exact_and_no_other_user_is_concerned() {
        let (messages, now) = (Messages::default(), 77 * MS);
        let say = |user, now| messages.may_say(Some(of_test(user)), now);
        assert!((0..BURST).all(|_| say(1000, now)));
        assert!(!say(1000, now) && say(1001, now));
        assert!(!say(1000, now + EVERY - MS));
        assert!(say(1000, now + EVERY), "one is free again");
        assert!(!say(1000, now + EVERY));
    }

    #[test]
    fn what_was_left_out_is_told_also_when_nothing_more_comes_and_then_the_user_is_forgotten() {
        let (messages, now) = (Messages::default(), Duration::ZERO);
        let said = (0..BURST + 3).filter(|_| messages.may_say(None, now)).count();
        assert_eq!(said, BURST as usize);
        assert_eq!(messages.left_out(now), []);
        assert_eq!(messages.left_out(now + TOLD_EVERY), [(None, 3)]);
        assert_eq!(messages.left_out(now + 2 * TOLD_EVERY), []);
        assert_eq!(messages.lock().len(), 1, "its lines are not free yet");
        assert_eq!(messages.left_out(now + EVERY * BURST), []);
        assert!(messages.lock().is_empty());
    }
}
