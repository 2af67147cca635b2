//! Where the time of one stream went.
//!
//! Invariants:
//! 1. Every moment of its life belongs to one cause, so the parts add up to the life.
//! 2. Of no cause is the muxer held up for longer than the cause took.

use std::time::Duration;

use freemkvd_proto::status::Held;
use freemkvd_proto::waits::{Cause, Part, Waits};

/// How often the recent past begins anew. It reaches back that far to twice as far.
const CHECKPOINT: Duration = Duration::from_secs(30);

const CAUSES: usize = Cause::ALL.len();

/// How long each cause took, and how long of that the muxer was held up.
pub type Spent = [(Duration, Duration); CAUSES];

/// The time of one stream, as it goes by.
#[derive(Clone, Debug)]
pub struct Clocked {
    begun: Duration,
    /// Up to when everything is counted.
    counted: Duration,
    cause: Cause,
    /// Since when it is this cause.
    since: Duration,
    is_held: bool,
    spent: Spent,
    /// Where the recent past begins, and where the next one will.
    checkpoints: [(Duration, Spent); 2],
}

impl Clocked {
    /// A stream that comes to be now.
    #[must_use]
    pub fn new(now: Duration) -> Self {
        let spent = Spent::default();
        Self {
            begun: now,
            counted: now,
            cause: Cause::Opening,
            since: now,
            is_held: true,
            spent,
            checkpoints: [(now, spent); 2],
        }
    }

    /// True when time goes to another cause now than to `cause`, or the muxer is held up otherwise.
    #[must_use]
    pub fn goes_elsewhere(&self, cause: Cause, is_held: bool) -> bool {
        (self.cause, self.is_held) != (cause, is_held)
    }

    /// From now on time goes to `cause`, and its muxer is held up or not.
    pub fn goes_to(&mut self, cause: Cause, is_held: bool, now: Duration) {
        self.count(now);
        if self.cause != cause {
            self.cause = cause;
            self.since = self.counted;
        }
        self.is_held = is_held;
    }

    /// Moves the beginning of the recent past, when it is time to.
    pub fn look(&mut self, now: Duration) {
        self.count(now);
        let [_, newer] = self.checkpoints;
        if self.counted - newer.0 >= CHECKPOINT {
            self.checkpoints = [newer, (self.counted, self.spent)];
        }
    }

    /// How long each cause took up to now, and how long of that the muxer was held up.
    #[must_use]
    pub fn spent(&self, now: Duration) -> Spent {
        let mut counted = self.clone();
        counted.count(now);
        counted.spent
    }

    /// How much of the recent past the muxer was held up, and by what most of all; `None` when it was not.
    #[must_use]
    pub fn held_lately(&self, now: Duration) -> Option<Held> {
        let mut counted = self.clone();
        counted.count(now);
        let (begun, before) = counted.checkpoints[0];
        let lately = Cause::ALL.iter().zip(counted.spent.iter().zip(&before));
        let held = lately.map(|(cause, ((_, held), (_, before)))| (*held - *before, *cause));
        let held: Vec<_> = held.collect();
        let (worst, cause) = held.iter().max_by_key(|(time, _)| *time).copied()?;
        let (sum, whole) = (held.iter().map(|(time, _)| *time).sum(), counted.counted - begun);
        let percent = percent(sum, whole);
        let is_worth_it = percent > 0 && !worst.is_zero();
        is_worth_it.then_some(Held { percent, of_seconds: whole.as_secs(), cause })
    }

    /// All of it up to now, for the wire. Who the stream is, its caller puts in.
    #[must_use]
    pub fn report(&self, now: Duration) -> Waits {
        let mut counted = self.clone();
        counted.count(now);
        let (recent_begun, before) = counted.checkpoints[0];
        let part = |(index, cause): (usize, &Cause)| {
            let ((all, held), (all_before, held_before)) = (counted.spent[index], before[index]);
            Part {
                cause: *cause,
                ns: nanos(all),
                held_ns: nanos(held),
                recent_ns: nanos(all - all_before),
                recent_held_ns: nanos(held - held_before),
            }
        };
        let parts = Cause::ALL.iter().enumerate().map(part).filter(|part| part.ns > 0);
        Waits {
            stream: 0,
            path: String::new(),
            client_pid: None,
            ended_seconds_ago: None,
            error: None,
            lifetime_ns: nanos(counted.counted - counted.begun),
            recent_ns: nanos(counted.counted - recent_begun),
            now: counted.cause,
            now_ns: nanos(counted.counted - counted.since),
            parts: parts.collect(),
        }
    }

    fn count(&mut self, now: Duration) {
        // Threads read the clock before they take the lock: one of them may be late.
        let more = now.saturating_sub(self.counted);
        let (all, held) = &mut self.spent[self.cause as usize];
        *all += more;
        if self.is_held {
            *held += more;
        }
        self.counted += more;
    }
}

fn percent(part: Duration, whole: Duration) -> u8 {
    let hundredfold = part.as_nanos() * 100;
    u8::try_from(hundredfold / whole.as_nanos().max(1)).unwrap_or(100).min(100)
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn sum(waits: &Waits, of: impl Fn(&Part) -> u64) -> u64 {
        waits.parts.iter().map(of).sum()
    }

    #[test]
    fn each_moment_goes_to_what_was_then_the_cause() {
        let mut clocked = Clocked::new(ms(100));
        clocked.goes_to(Cause::Muxer, false, ms(110));
        clocked.goes_to(Cause::Write, false, ms(150));
        clocked.goes_to(Cause::Write, true, ms(160));
        clocked.goes_to(Cause::DeviceBudget, true, ms(190));
        let waits = clocked.report(ms(1190));
        let parts: Vec<_> = waits.parts.iter().map(|p| (p.cause, p.ns, p.held_ns)).collect();
        let expected = [
            (Cause::Opening, 10, 10),
            (Cause::Muxer, 40, 0),
            (Cause::DeviceBudget, 1000, 1000),
            (Cause::Write, 40, 30),
        ];
        assert_eq!(
            parts,
            expected.map(|(cause, all, held)| (cause, all * 1_000_000, held * 1_000_000))
        );
        assert_eq!((waits.now, waits.now_ns), (Cause::DeviceBudget, 1_000_000_000));
        assert_eq!((waits.lifetime_ns, waits.recent_ns), (1_090_000_000, 1_090_000_000));
    }

    #[test]
    fn the_recent_past_forgets_what_was_before() {
        let mut clocked = Clocked::new(ms(0));
        clocked.goes_to(Cause::Sync, true, ms(0));
        clocked.look(ms(30_000));
        clocked.goes_to(Cause::Muxer, false, ms(30_000));
        clocked.look(ms(45_000));
        assert_eq!(clocked.report(ms(45_000)).recent_ns, 45_000_000_000);
        clocked.look(ms(60_000));
        let waits = clocked.report(ms(61_000));
        assert_eq!(waits.recent_ns, 31_000_000_000);
        let recent: Vec<_> = waits.parts.iter().map(|p| (p.cause, p.recent_ns)).collect();
        assert_eq!(recent, [(Cause::Muxer, 31_000_000_000), (Cause::Sync, 0)]);
    }

    proptest! {
        #[test]
        fn the_parts_add_up_to_the_whole(
            steps in proptest::collection::vec((0..CAUSES, any::<bool>(), 0_u64..90_000, any::<bool>()), 0..200),
            later in 0_u64..100_000,
        ) {
            let (mut clocked, mut latest) = (Clocked::new(ms(5)), ms(5));
            for (cause, is_held, at, looks) in steps {
                // Also times that are before the last one: threads are late.
                let now = latest + ms(at) - ms(at.min(300));
                clocked.goes_to(Cause::ALL[cause], is_held, now);
                if looks {
                    clocked.look(now);
                }
                latest = latest.max(now);
            }
            let now = latest + ms(later);
            let waits = clocked.report(now);
            prop_assert_eq!(waits.lifetime_ns, nanos(now - ms(5)));
            prop_assert_eq!(sum(&waits, |part| part.ns), waits.lifetime_ns);
            prop_assert_eq!(sum(&waits, |part| part.recent_ns), waits.recent_ns);
            prop_assert!(waits.parts.iter().all(|part| part.held_ns <= part.ns));
            prop_assert!(waits.parts.iter().all(|part| part.recent_held_ns <= part.recent_ns));
            prop_assert!(waits.now_ns <= waits.lifetime_ns);
        }

        #[test]
        fn causes_lie_in_the_order_of_their_numbers(index in 0..CAUSES) {
            prop_assert_eq!(Cause::ALL[index] as usize, index);
        }
    }
}
