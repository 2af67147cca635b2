//! How often one user is answered: the time of a thread that answering takes is bounded, so that whoever asks
//! without a pause waits for it alone.
//!
//! 1. The requests of one user are answered one after the other, on however many connections they come. At
//!    most one thread of the runtime does that at a time, and the muxers' connections have the others.
//! 2. After what [`CREDIT`] allows, answers take no more than the [`PART`]th part of a user's time. The pause
//!    comes before the next answer: who asks once never notices.
//! 3. No user waits for another.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use crate::user::UserId;

/// A user has the fifth part of a thread.
const PART: u32 = 5;

/// How much time a user may owe: somebody who looks at several things at once is no flood. It also
/// is several times what a timer can measure.
const CREDIT: Duration = Duration::from_millis(20);

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Paces {
    users: StdMutex<BTreeMap<Option<UserId>, Pace>>,
}

/// That of one user.
pub(super) type Pace = Arc<Mutex<Debt>>;

/// From when on a user owes nothing.
#[derive(Debug, Default)]
pub(super) struct Debt {
    until: Option<Instant>,
}

impl Paces {
    /// The pace of this user, the same one for all of its connections.
    pub(super) fn of(&self, user: Option<UserId>) -> Pace {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        // A debt is not paid by closing the connection.
        let now = Instant::now();
        users.retain(|_, pace| Arc::get_mut(pace).is_none_or(|debt| debt.get_mut().is_owed(now)));
        Arc::clone(users.entry(user).or_default())
    }
}

impl Debt {
    fn is_owed(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until > now)
    }

    /// How long to wait before the next answer.
    fn pause(&self, now: Instant) -> Duration {
        let left = self.until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
        left.saturating_sub(CREDIT)
    }

    /// An answer, begun then, took so long.
    fn took(&mut self, begun: Instant, time: Duration) {
        let since = self.until.map_or(begun, |until| until.max(begun));
        self.until = Some(since + time * PART);
    }
}

/// Does `answer` when it is this user's turn.
pub(super) async fn in_turn<T>(pace: &Pace, answer: impl FnOnce() -> T) -> T {
    let mut debt = pace.lock().await;
    let pause = debt.pause(Instant::now());
    if !pause.is_zero() {
        sleep(pause).await;
    }
    let begun = Instant::now();
    let result = answer();
    debt.took(begun, begun.elapsed());
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::user::of_test;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn who_asks_without_a_pause_has_a_fifth_of_the_time() {
        let (mut debt, begun) = (Debt::default(), Instant::now());
        let (mut now, mut answers) = (begun, 0);
        while now < begun + 1000 * MS {
            now += debt.pause(now);
            debt.took(now, MS);
            now += MS;
            answers += 1;
        }
        assert!((195..=210).contains(&answers), "{answers} ms of a second");
    }

    #[test]
    fn who_asks_now_and_then_never_waits() {
        let (mut debt, mut now) = (Debt::default(), Instant::now());
        for _ in 0..100 {
            assert_eq!(debt.pause(now), Duration::ZERO);
            debt.took(now, 4 * MS);
            now += 20 * MS;
        }
        // And a handful of them at once.
        for _ in 0..5 {
            assert_eq!(debt.pause(now), Duration::ZERO);
            debt.took(now, MS);
        }
    }

    #[test]
    fn one_pace_for_all_connections_of_a_user_for_as_long_as_it_owes_something() {
        let paces = Paces::default();
        let (one, other) = (paces.of(Some(of_test(1000))), paces.of(Some(of_test(1000))));
        assert!(Arc::ptr_eq(&one, &other));
        assert!(!Arc::ptr_eq(&one, &paces.of(Some(of_test(1001)))));
        one.try_lock().unwrap().took(Instant::now(), 1000 * MS);
        drop((one, other));
        let _new = paces.of(Some(of_test(1002)));
        let users: Vec<_> = paces.users.lock().unwrap().keys().copied().collect();
        assert_eq!(
            users,
            [Some(of_test(1000)), Some(of_test(1002))],
            "who owes nothing is forgotten"
        );
    }
}
