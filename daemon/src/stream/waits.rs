//! Where the time of one stream went.
//!
//! Invariants:
//! 1. Every moment of its life belongs to one cause, so the parts add up to the life.
//! 2. Of no cause is the muxer held up for longer than the cause took.
//! 3. What [`Clocked::spent`] says never goes back: it is counted elsewhere.
//!
//! A muxer that has sent a sync waits for it, or goes on at once, and only what it sends next tells. Until then the time
//! is *owed*: held up in what people look at, and in the sums once the sync is answered and nothing else has come.

use std::time::Duration;

use freemkvd_proto::status::Held;
use freemkvd_proto::waits::{Cause, Part, Waits};

/// How often the recent past begins anew. It reaches back that far to twice as far.
const CHECKPOINT: Duration = Duration::from_secs(30);

const CAUSES: usize = Cause::ALL.len();

/// How long each cause took, and how long of that the muxer was held up.
pub type Spent = [(Duration, Duration); CAUSES];

/// Whether the muxer is held up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeldUp {
    /// It is not, or it is gone.
    No,
    /// It is, if it turns out to have waited for the sync that it has sent.
    Owed,
    /// It is.
    Yes,
}

/// How short a life is too short for [`Clocked::held_lately`].
const LATELY_MIN: Duration = Duration::from_secs(10);

/// The time of one stream, as it goes by.
#[derive(Clone, Debug)]
pub struct Clocked {
    begun: Duration,
    /// Up to when everything is counted.
    counted: Duration,
    cause: Cause,
    /// Since when it is this cause.
    since: Duration,
    held_up: HeldUp,
    spent: Spent,
    /// Of each cause, what is owed.
    owed: [Duration; CAUSES],
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
            held_up: HeldUp::Yes,
            spent,
            owed: Default::default(),
            checkpoints: [(now, spent); 2],
        }
    }

    /// True when time goes to another cause now than to `cause`, or the muxer is held up otherwise.
    #[must_use]
    pub fn goes_elsewhere(&self, cause: Cause, held_up: HeldUp) -> bool {
        (self.cause, self.held_up) != (cause, held_up)
    }

    /// From now on time goes to `cause`, and its muxer is held up or not.
    pub fn goes_to(&mut self, cause: Cause, held_up: HeldUp, now: Duration) {
        self.count(now);
        if self.cause != cause {
            self.cause = cause;
            self.since = self.counted;
        }
        self.held_up = held_up;
    }

    /// The muxer has waited for the sync: what is owed up to now is part of the sums.
    pub fn has_waited(&mut self, now: Duration) {
        self.count(now);
        for ((_, held), owed) in self.spent.iter_mut().zip(&mut self.owed) {
            *held += std::mem::take(owed);
        }
    }

    /// The muxer has gone on without waiting: nothing is owed.
    pub fn has_gone_on(&mut self, now: Duration) {
        self.count(now);
        self.owed = Default::default();
    }

    /// Moves the beginning of the recent past, when it is time to.
    pub fn look(&mut self, now: Duration) {
        self.count(now);
        let [_, newer] = self.checkpoints;
        if self.counted - newer.0 >= CHECKPOINT {
            self.checkpoints = [newer, (self.counted, self.spent)];
        }
    }

    /// How long each cause took up to now, and how long of that the muxer was held up, without what is owed.
    #[must_use]
    pub fn spent(&self, now: Duration) -> Spent {
        let mut counted = self.clone();
        counted.count(now);
        counted.spent
    }

    /// How much of the recent past the muxer was held up, in a hundredth or more, and by what most of all; `None` when
    /// it was not, or the stream is too young to tell.
    #[must_use]
    pub fn held_lately(&self, now: Duration) -> Option<Held> {
        let waits = self.report(now);
        let held_ns = waits.parts.iter().map(|part| part.recent_held_ns).sum::<u64>();
        let worst = waits.parts.iter().max_by_key(|part| part.recent_held_ns)?;
        let percent = u128::from(held_ns) * 100 / u128::from(waits.recent_ns.max(1));
        let percent = u8::try_from(percent).unwrap_or(100);
        let is_worth_it = percent > 0 && waits.recent_ns >= nanos(LATELY_MIN);
        let of_seconds = waits.recent_ns / 1_000_000_000;
        is_worth_it.then_some(Held { percent, of_seconds, cause: worst.cause })
    }

    /// All of it up to now, for the wire. Who the stream is, its caller puts in.
    #[must_use]
    pub fn report(&self, now: Duration) -> Waits {
        let mut counted = self.clone();
        counted.has_waited(now);
        let (recent_begun, before) = counted.checkpoints[0];
        let part = |(index, cause): (usize, &Cause)| {
            let ((all, held), (all_before, held_before)) = (counted.spent[index], before[index]);
            Part {
                cause: *cause,
                ns: nanos(all),
                held_ns: nanos(held),
                recent_ns: nanos(all - all_before),
                // What is owed may have begun before the recent past did.
                recent_held_ns: nanos((held - held_before).min(all - all_before)),
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
        match self.held_up {
            HeldUp::No => {}
            HeldUp::Owed => self.owed[self.cause as usize] += more,
            HeldUp::Yes => *held += more,
        }
        self.counted += more;
    }
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
        clocked.goes_to(Cause::Muxer, HeldUp::No, ms(110));
        clocked.goes_to(Cause::Write, HeldUp::No, ms(150));
        clocked.goes_to(Cause::Write, HeldUp::Yes, ms(160));
        clocked.goes_to(Cause::DeviceBudget, HeldUp::Yes, ms(190));
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
        clocked.goes_to(Cause::Sync, HeldUp::Yes, ms(0));
        clocked.look(ms(30_000));
        clocked.goes_to(Cause::Muxer, HeldUp::No, ms(30_000));
        clocked.look(ms(45_000));
        assert_eq!(clocked.report(ms(45_000)).recent_ns, 45_000_000_000);
        clocked.look(ms(60_000));
        let waits = clocked.report(ms(61_000));
        assert_eq!(waits.recent_ns, 31_000_000_000);
        let recent: Vec<_> = waits.parts.iter().map(|p| (p.cause, p.recent_ns)).collect();
        assert_eq!(recent, [(Cause::Muxer, 31_000_000_000), (Cause::Sync, 0)]);
    }

    #[test]
    fn what_is_owed_counts_when_the_muxer_has_waited_and_not_when_it_has_gone_on() {
        for (has_waited, held) in [(true, 70), (false, 30)] {
            let mut clocked = Clocked::new(ms(0));
            clocked.goes_to(Cause::Write, HeldUp::Yes, ms(0));
            clocked.goes_to(Cause::Sync, HeldUp::Owed, ms(30));
            // Whoever looks meanwhile sees it, and the sums do not.
            assert_eq!(sum(&clocked.report(ms(50)), |part| part.held_ns), 50_000_000);
            let sums: Duration = clocked.spent(ms(50)).iter().map(|(_, held)| *held).sum();
            assert_eq!(sums, ms(30));
            match has_waited {
                true => clocked.has_waited(ms(70)),
                false => clocked.has_gone_on(ms(70)),
            }
            clocked.goes_to(Cause::Muxer, HeldUp::No, ms(70));
            assert_eq!(sum(&clocked.report(ms(90)), |part| part.held_ns), held * 1_000_000);
            assert!(clocked.report(ms(90)).parts.iter().all(|part| part.held_ns <= part.ns));
        }
    }

    #[test]
    fn the_recent_past_tells_how_much_the_muxer_was_held_up_and_by_what_most() {
        let lately = |clocked: &Clocked, now| {
            let held = clocked.held_lately(ms(now))?;
            Some((held.percent, held.of_seconds, held.cause))
        };
        let mut clocked = Clocked::new(ms(0));
        clocked.goes_to(Cause::Muxer, HeldUp::No, ms(0));
        assert_eq!(lately(&clocked, 50_000), None);
        clocked.goes_to(Cause::Turn, HeldUp::Yes, ms(6_000));
        clocked.goes_to(Cause::Write, HeldUp::Yes, ms(8_000));
        clocked.goes_to(Cause::Muxer, HeldUp::No, ms(9_000));
        assert_eq!(lately(&clocked, 9_999), None, "it is too young");
        assert_eq!(lately(&clocked, 10_000), Some((30, 10, Cause::Turn)));
        assert_eq!(lately(&clocked, 300_000), Some((1, 300, Cause::Turn)));
        assert_eq!(lately(&clocked, 301_000), None, "less than a hundredth");
        // Over two checkpoints it is forgotten.
        clocked.look(ms(30_000));
        assert_eq!(lately(&clocked, 40_000), Some((7, 40, Cause::Turn)));
        clocked.look(ms(60_000));
        assert_eq!(lately(&clocked, 70_000), None);
    }

    proptest! {
        #[test]
        fn the_parts_add_up_to_the_whole(
            steps in proptest::collection::vec((0..CAUSES, 0..3_usize, 0_u64..90_000, 0..4_u8), 0..200),
            later in 0_u64..100_000,
        ) {
            let (mut clocked, mut latest) = (Clocked::new(ms(5)), ms(5));
            let mut sums = Spent::default();
            for (cause, held_up, at, then) in steps {
                // Also times that are before the last one: threads are late.
                let now = latest + ms(at) - ms(at.min(300));
                let held_up = [HeldUp::No, HeldUp::Owed, HeldUp::Yes][held_up];
                clocked.goes_to(Cause::ALL[cause], held_up, now);
                match then {
                    0 => clocked.look(now),
                    1 => clocked.has_waited(now),
                    2 => clocked.has_gone_on(now),
                    _ => {}
                }
                let spent = clocked.spent(now);
                let goes_back = spent.iter().zip(&sums).any(|(now, before)| now.1 < before.1);
                prop_assert!(!goes_back, "{:?} after {:?}", spent, sums);
                sums = spent;
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
