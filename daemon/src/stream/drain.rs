//! When a stream starts writeback and when it waits for it. Pure.
//!
//! A stream keeps up to two extents in writeback while it fills the next one: one would leave the
//! device idle while the writer thread wakes up, more only adds latency. It waits earlier when the
//! budget has nothing for it, gives everything back when its muxer pauses, and does neither for longer
//! than [`AGE`]: what a slow stream has written is soon clean, and a device that answers is soon seen
//! to.

use std::time::Duration;

use super::extent::Extents;
use super::ladder::Rung;

/// How old a dirty page or an extent in writeback may become before the stream turns to it. Far below
/// the two seconds of silence that make a device suspect.
pub const AGE: Duration = Duration::from_millis(500);

/// After how long it is worth asking the kernel whether an extent is clean. A disk takes longer for
/// one; a call costs microseconds.
pub const LOOK: Duration = Duration::from_millis(20);

/// How often at most a throttled stream looks. It does so after an eighth of the time that the extent has
/// taken so far, so that its end is noticed that exactly.
const WATCH_MIN: Duration = Duration::from_millis(1);

/// `fdatasync` waits for the whole file and, on NFS, sends a COMMIT; on a journal it writes a
/// transaction. So its extents are that many times longer: as long as the three that streams hold
/// where they drain by range, so that several don't want more than their device may hold.
const FILE_EXTENTS: u64 = 3;

/// Shortest extent of `fdatasync`, for the same reason.
const FILE_EXTENT_BYTES_MIN: u64 = 8 << 20;

/// What presses the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pressure {
    /// There is something to write and room to write it.
    Flowing,
    /// There is something to write, and the budget said no. Whoever gets pages clean may free what it
    /// needs.
    Throttled,
    /// The same, and only pages of this stream can free it: it has had its turn, or is alone on a device that
    /// holds as much as it may.
    Held,
    /// There is nothing to write.
    Idle,
}

/// What to do about the extents now.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Start writeback of the next extent, at most this long.
    Start(u64),
    /// Wait for the oldest extent in writeback.
    Wait,
    /// Ask the kernel whether the oldest extent is clean; if so, wait for it.
    Look,
    /// The same, and then wait for a grant as well, at most so long. Where the kernel can't tell, or nobody
    /// has seen yet that it does, wait for the extent: what is granted meanwhile lies idle.
    Watch(Duration),
    /// Sync the file: all of it is clean then.
    SyncFile,
    /// All of it is clean without a call.
    Settle,
    /// Nothing.
    Rest,
}

/// Decides. Call it until it says [`Next::Rest`].
pub fn next(
    extents: &Extents,
    rung: Rung,
    pressure: Pressure,
    extent_bytes: u64,
    now: Duration,
) -> Next {
    match rung {
        _ if extents.charged_bytes() == 0 => Next::Rest,
        Rung::None => Next::Settle,
        Rung::Fdatasync => by_file(extents, pressure, extent_bytes, now),
        _ => by_range(extents, pressure, extent_bytes, now),
    }
}

fn by_file(extents: &Extents, pressure: Pressure, extent_bytes: u64, now: Duration) -> Next {
    let full = (extent_bytes * FILE_EXTENTS).max(FILE_EXTENT_BYTES_MIN);
    let is_old = extents.dirty_since().is_some_and(|since| now.saturating_sub(since) >= 2 * AGE);
    let started = extents.writeback_bytes() > 0;
    match pressure {
        Pressure::Flowing if extents.dirty_bytes() < full && !is_old && !started => Next::Rest,
        _ => Next::SyncFile,
    }
}

fn by_range(extents: &Extents, pressure: Pressure, extent_bytes: u64, now: Duration) -> Next {
    let age = extents.oldest_writeback().map(|oldest| now.saturating_sub(oldest.began));
    let is_old = |since: Duration| now.saturating_sub(since) >= AGE;
    match pressure {
        Pressure::Flowing if extents.dirty_bytes() >= extent_bytes => Next::Start(extent_bytes),
        Pressure::Flowing if extents.writeback_bytes() > 2 * extent_bytes => Next::Wait,
        Pressure::Flowing if age.is_some_and(|age| age >= AGE) => Next::Wait,
        Pressure::Flowing if extents.dirty_since().is_some_and(is_old) => Next::Start(extent_bytes),
        Pressure::Flowing if age.is_some_and(|age| age >= LOOK) => Next::Look,
        Pressure::Flowing => Next::Rest,
        _ if extents.dirty_bytes() > 0 => Next::Start(extent_bytes),
        Pressure::Throttled => match age {
            Some(age) if age < AGE => Next::Watch((age / 8).clamp(WATCH_MIN, LOOK)),
            _ => Next::Wait,
        },
        Pressure::Held | Pressure::Idle => Next::Wait,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const T0: Duration = Duration::ZERO;
    const RANGE: Rung = Rung::SyncFileRange;

    fn flowing(extents: &Extents, now: Duration) -> Next {
        next(extents, RANGE, Pressure::Flowing, 4 * MIB, now)
    }

    #[test]
    fn a_flowing_stream_keeps_two_extents_in_writeback() {
        let mut extents = Extents::new(4096, 0);
        let mut waits = 0;
        for at in 0..64 {
            extents.write(&(at * MIB..(at + 1) * MIB), T0);
            loop {
                match flowing(&extents, T0) {
                    Next::Start(max) => assert!(extents.start_writeback(max, T0).is_some()),
                    Next::Wait => {
                        waits += 1;
                        extents.complete_oldest();
                    }
                    _ => break,
                }
            }
            assert!(extents.charged_bytes() < 12 * MIB);
        }
        assert_eq!(waits, 14, "16 extents, 2 of them still in writeback");
    }

    #[test]
    fn a_throttled_or_idle_stream_gives_everything_back() {
        for pressure in [Pressure::Throttled, Pressure::Held, Pressure::Idle] {
            let mut extents = Extents::new(4096, 0);
            extents.write(&(0..MIB), T0);
            extents.write(&(9 * MIB..9 * MIB + 1), T0);
            assert_eq!(flowing(&extents, T0), Next::Rest);
            while extents.charged_bytes() > 0 {
                match next(&extents, RANGE, pressure, 4 * MIB, T0) {
                    Next::Start(max) => {
                        assert!(extents.start_writeback(max, T0).is_some());
                        continue;
                    }
                    Next::Watch(_) => assert_eq!(pressure, Pressure::Throttled),
                    Next::Wait => {}
                    other => panic!("{other:?} with bytes charged"),
                }
                assert!(extents.complete_oldest().is_some());
            }
            assert_eq!(next(&extents, RANGE, pressure, 4 * MIB, T0), Next::Rest);
        }
    }

    #[test]
    fn a_throttled_stream_looks_after_an_eighth_of_the_time_that_it_takes_and_in_the_end_waits() {
        let mut extents = Extents::new(4096, 0);
        extents.write(&(0..MIB), T0);
        assert!(extents.start_writeback(MIB, T0).is_some());
        let ask = |now| next(&extents, RANGE, Pressure::Throttled, 4 * MIB, now);
        assert_eq!(ask(T0), Next::Watch(Duration::from_millis(1)));
        assert_eq!(ask(Duration::from_millis(80)), Next::Watch(Duration::from_millis(10)));
        assert_eq!(ask(AGE / 2), Next::Watch(LOOK));
        assert_eq!(ask(AGE), Next::Wait);
    }

    #[test]
    fn what_is_old_is_written_back_and_waited_for() {
        let mut extents = Extents::new(4096, 0);
        extents.write(&(0..1), T0);
        assert_eq!(flowing(&extents, AGE / 2), Next::Rest);
        assert_eq!(flowing(&extents, AGE), Next::Start(4 * MIB));
        extents.start_writeback(MIB, AGE);
        assert_eq!(flowing(&extents, AGE + LOOK / 2), Next::Rest);
        assert_eq!(flowing(&extents, AGE + LOOK), Next::Look);
        assert_eq!(flowing(&extents, 2 * AGE), Next::Wait);
    }

    #[test]
    fn a_file_is_synced_when_enough_is_dirty_or_somebody_waits() {
        let mut extents = Extents::new(4096, 0);
        let ask = |extents: &Extents, pressure, now| {
            next(extents, Rung::Fdatasync, pressure, 4 * MIB, now)
        };
        extents.write(&(0..11 * MIB), T0);
        assert_eq!(ask(&extents, Pressure::Flowing, T0), Next::Rest);
        assert_eq!(ask(&extents, Pressure::Flowing, 2 * AGE), Next::SyncFile);
        assert_eq!(ask(&extents, Pressure::Throttled, T0), Next::SyncFile);
        extents.write(&(11 * MIB..12 * MIB), T0);
        assert_eq!(ask(&extents, Pressure::Flowing, T0), Next::SyncFile);
    }

    #[test]
    fn memory_is_settled_at_once() {
        let mut extents = Extents::new(4096, 0);
        extents.write(&(0..1), T0);
        assert_eq!(next(&extents, Rung::None, Pressure::Flowing, MIB, T0), Next::Settle);
    }
}
