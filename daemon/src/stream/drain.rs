//! When a stream starts writeback and when it waits for it. Pure.
//!
//! A stream keeps up to two extents in writeback while it fills the next one: one would leave the
//! device idle while the writer thread wakes up, more only adds latency. It waits earlier when the
//! budget has nothing for it, and starts whatever it has when its muxer pauses, so that an idle
//! stream soon holds nothing.

use super::extent::Extents;

/// Shortest extent worth a request of its own.
pub const EXTENT_BYTES_MIN: u64 = 1 << 20;

/// Longest extent. At 40 MB/s it is 200 ms of a disk, the longest wait that a stream causes by itself.
pub const EXTENT_BYTES_MAX: u64 = 8 << 20;

/// What presses the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pressure {
    /// There is something to write and room to write it.
    Flowing,
    /// There is something to write, and the budget said no.
    Throttled,
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
    /// Nothing.
    Rest,
}

/// The length of an extent when a stream may hold `share_bytes`: a quarter, for the two in
/// writeback, the one that fills, and room to move.
#[must_use]
pub fn extent_bytes(share_bytes: u64) -> u64 {
    (share_bytes / 4).clamp(EXTENT_BYTES_MIN, EXTENT_BYTES_MAX)
}

/// Decides. Call it until it says [`Next::Rest`].
pub fn next(extents: &Extents, pressure: Pressure, extent_bytes: u64) -> Next {
    let has_writeback = extents.writeback_bytes() > 0;
    let has_dirty = extents.dirty_bytes() > 0;
    match pressure {
        Pressure::Flowing if extents.dirty_bytes() >= extent_bytes => Next::Start(extent_bytes),
        Pressure::Flowing if extents.writeback_bytes() > 2 * extent_bytes => Next::Wait,
        Pressure::Flowing => Next::Rest,
        Pressure::Throttled | Pressure::Idle if has_dirty => Next::Start(extent_bytes),
        Pressure::Throttled | Pressure::Idle if has_writeback => Next::Wait,
        Pressure::Throttled | Pressure::Idle => Next::Rest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_flowing_stream_keeps_two_extents_in_writeback() {
        let mut extents = Extents::new(4096, 0);
        let mut waits = 0;
        for at in 0..64 {
            extents.write(&(at * MIB..(at + 1) * MIB));
            loop {
                match next(&extents, Pressure::Flowing, 4 * MIB) {
                    Next::Start(max) => assert!(extents.start_writeback(max).is_some()),
                    Next::Wait => {
                        waits += 1;
                        extents.complete_oldest();
                    }
                    Next::Rest => break,
                }
            }
            assert!(extents.charged_bytes() < 12 * MIB);
        }
        assert_eq!(waits, 14, "16 extents, 2 of them still in writeback");
    }

    #[test]
    fn a_throttled_or_idle_stream_gives_everything_back() {
        for pressure in [Pressure::Throttled, Pressure::Idle] {
            let mut extents = Extents::new(4096, 0);
            extents.write(&(0..MIB));
            extents.write(&(9 * MIB..9 * MIB + 1));
            assert_eq!(next(&extents, Pressure::Flowing, 4 * MIB), Next::Rest);
            while extents.charged_bytes() > 0 {
                match next(&extents, pressure, 4 * MIB) {
                    Next::Start(max) => assert!(extents.start_writeback(max).is_some()),
                    Next::Wait => assert!(extents.complete_oldest() > 0),
                    Next::Rest => panic!("rested with bytes charged"),
                }
            }
            assert_eq!(next(&extents, pressure, 4 * MIB), Next::Rest);
        }
    }

    #[test]
    fn extents_fit_four_times_into_the_share() {
        assert_eq!(extent_bytes(2 * MIB), EXTENT_BYTES_MIN);
        assert_eq!(extent_bytes(16 * MIB), 4 * MIB);
        assert_eq!(extent_bytes(512 * MIB), EXTENT_BYTES_MAX);
    }
}
