//! Whether a device still answers. Pure.
//!
//! ```text
//!            nothing completes for max(2 s, 8 x p99)         for 30 s more
//!  starting, healthy  ------------------------>  suspect  ------------------>  wedged
//!       ^                                           |                            |
//!       |  the limit has grown to its formula       |      something completes   |
//!       +----------------- recovering  <------------+----------------------------+
//! ```
//!
//! Only progress counts. A frozen file system answers `statvfs` and `fsync` of a clean file at once,
//! while every write hangs; so nothing is asked, and what was charged is watched instead.

use std::time::Duration;

/// Shortest time without a completion that means anything: a disk that spins up, or a drive that
/// retries a sector, takes longer and is suspect rightly.
pub(super) const SUSPECT_MIN: Duration = Duration::from_secs(2);

/// How many times the 99th percentile of its completions a device may take.
const SUSPECT_COMPLETIONS: u32 = 8;

/// How long a suspect device may take before it gets nothing more.
const WEDGED: Duration = Duration::from_secs(30);

/// How long a device that answers again is shown as such when it has nothing more to do.
const RECOVERED: Duration = Duration::from_secs(10);

/// How a device answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is new: it may hold so much, and more with every completion.
    Starting {
        /// Its limit in bytes.
        limit_bytes: u64,
    },
    /// Its limit follows the formula.
    Healthy,
    /// Nothing has completed for too long: it may hold its floor.
    Suspect,
    /// It gets nothing until something completes.
    Wedged,
    /// It answers again, and starts anew.
    Recovering {
        /// Its limit in bytes.
        limit_bytes: u64,
    },
}

/// See the module's documentation.
#[derive(Clone, Debug)]
pub(super) struct Health {
    state: State,
    since: Duration,
    /// When something last completed, or the device was given something after it had nothing.
    progress: Duration,
    /// Completed since the limit was last raised.
    round_bytes: u64,
}

impl Health {
    pub(super) fn new(limit_bytes: u64, now: Duration) -> Self {
        let state = State::Starting { limit_bytes };
        Self { state, since: now, progress: now, round_bytes: 0 }
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    /// Since when it has been in this state.
    pub(super) fn since(&self) -> Duration {
        self.since
    }

    /// The device had nothing to do until now.
    pub(super) fn begin(&mut self, now: Duration) {
        self.progress = self.progress.max(now);
    }

    /// Something completed. `floor_bytes` is where a device begins again, `formula_bytes` what it
    /// would get if it were healthy.
    pub(super) fn complete(
        &mut self,
        bytes: u64,
        floor_bytes: u64,
        formula_bytes: u64,
        now: Duration,
    ) {
        self.progress = self.progress.max(now);
        match self.state {
            State::Suspect | State::Wedged => {
                self.change(State::Recovering { limit_bytes: floor_bytes }, now);
            }
            State::Starting { limit_bytes } | State::Recovering { limit_bytes } => {
                self.round_bytes += bytes;
                if self.round_bytes >= limit_bytes {
                    self.round_bytes = 0;
                    self.raise(limit_bytes.saturating_mul(2), formula_bytes, now);
                }
            }
            State::Healthy => {}
        }
    }

    fn raise(&mut self, limit_bytes: u64, formula_bytes: u64, now: Duration) {
        if limit_bytes >= formula_bytes {
            self.change(State::Healthy, now);
            return;
        }
        self.state = match self.state {
            State::Starting { .. } => State::Starting { limit_bytes },
            _ => State::Recovering { limit_bytes },
        };
    }

    /// Looks at the time. True when the state has changed.
    pub(super) fn tick(&mut self, is_busy: bool, p99: Duration, now: Duration) -> bool {
        if !is_busy {
            self.progress = self.progress.max(now);
            return self.rest(now);
        }
        let silent = now.saturating_sub(self.progress);
        match self.state {
            State::Wedged => return false,
            State::Suspect if now.saturating_sub(self.since) >= WEDGED => {
                self.change(State::Wedged, now);
            }
            State::Suspect => return false,
            _ if silent >= SUSPECT_MIN.max(p99 * SUSPECT_COMPLETIONS) => {
                self.change(State::Suspect, now);
            }
            _ => return false,
        }
        true
    }

    /// One that answered, and has nothing to do since, is as good as a new one.
    fn rest(&mut self, now: Duration) -> bool {
        match self.state {
            State::Recovering { limit_bytes } if now.saturating_sub(self.since) >= RECOVERED => {
                self.change(State::Starting { limit_bytes }, now);
                true
            }
            _ => false,
        }
    }

    fn change(&mut self, state: State, now: Duration) {
        self.state = state;
        self.since = now;
        self.round_bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_silent_device_is_suspect_then_wedged_and_starts_anew() {
        let mut health = Health::new(8 * MIB, s(0));
        assert!(!health.tick(true, s(0), s(1)));
        assert!(health.tick(true, s(0), s(2)));
        assert_eq!(health.state(), State::Suspect);
        assert!(!health.tick(true, s(0), s(31)));
        assert!(health.tick(true, s(0), s(32)));
        assert_eq!(health.state(), State::Wedged);
        health.complete(MIB, 8 * MIB, 64 * MIB, s(400));
        assert_eq!(health.state(), State::Recovering { limit_bytes: 8 * MIB });
        assert_eq!(health.since(), s(400));
    }

    #[test]
    fn each_round_doubles_the_limit_up_to_the_formula() {
        let mut health = Health::new(8 * MIB, s(0));
        health.complete(7 * MIB, 8 * MIB, 30 * MIB, s(1));
        assert_eq!(health.state(), State::Starting { limit_bytes: 8 * MIB });
        health.complete(MIB, 8 * MIB, 30 * MIB, s(1));
        assert_eq!(health.state(), State::Starting { limit_bytes: 16 * MIB });
        health.complete(16 * MIB, 8 * MIB, 30 * MIB, s(1));
        assert_eq!(health.state(), State::Healthy);
    }

    #[test]
    fn a_device_with_nothing_to_do_is_not_silent() {
        let mut health = Health::new(8 * MIB, s(0));
        assert!(!health.tick(false, s(0), s(100)));
        assert!(!health.tick(true, s(0), s(101)));
        health.begin(s(200));
        assert!(!health.tick(true, s(0), s(201)));
        assert!(health.tick(true, s(0), s(202)));
    }

    #[test]
    fn one_that_is_always_slow_is_given_its_time() {
        let mut health = Health::new(8 * MIB, s(0));
        assert!(!health.tick(true, s(1), s(7)));
        assert!(health.tick(true, s(1), s(8)));
    }
}
