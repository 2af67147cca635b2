//! Exact edges of the budget, and its invariants under random use.

use proptest::prelude::*;

use super::*;

const MIB: u64 = 1 << 20;

fn budget(limit_mib: u64, streams: u64) -> Budget {
    let mut budget = Budget::new(limit_mib * MIB);
    (1..=streams).for_each(|stream| budget.join(stream));
    budget
}

#[test]
fn the_last_byte_is_granted_and_one_more_waits() {
    let mut budget = budget(8, 1);
    assert_eq!(budget.reserve(1, 8 * MIB), Reserve::Granted);
    assert_eq!(budget.reserve(1, 1), Reserve::Throttled);
    assert_eq!(budget.release(1, 1), [1]);
    assert_eq!(budget.charged_bytes(), 8 * MIB);
}

#[test]
fn a_busy_stream_is_held_to_its_share_as_soon_as_another_comes() {
    let mut budget = budget(16, 2);
    assert_eq!(budget.reserve(1, 12 * MIB), Reserve::Granted);
    assert_eq!(budget.reserve(2, 2 * MIB), Reserve::Granted);
    assert_eq!(budget.share_bytes(), 8 * MIB);
    assert_eq!(budget.reserve(1, MIB), Reserve::Throttled);
    assert!(budget.release(1, 4 * MIB).is_empty(), "still at its share");
    assert_eq!(budget.release(1, MIB), [1]);
}

#[test]
fn a_stream_that_stands_still_keeps_its_share_and_no_more() {
    let mut budget = budget(32, 2);
    while budget.reserve(1, MIB) == Reserve::Granted {}
    budget.cancel(1);
    assert_eq!(budget.charged_bytes_of(1), 32 * MIB, "alone, it may have everything");
    assert_eq!(budget.reserve(2, MIB), Reserve::Throttled);
    assert_eq!(budget.release(1, 20 * MIB), [2]);
    // From here on stream 1 never releases again.
    let mut stream_2 = MIB;
    while budget.reserve(2, MIB) == Reserve::Granted {
        stream_2 += MIB;
    }
    assert_eq!(budget.reserve(1, MIB), Reserve::Granted);
    assert_eq!(stream_2, 16 * MIB);
}

#[test]
fn a_large_request_is_not_passed_by_small_ones_for_ever() {
    let mut budget = budget(8, 3);
    assert_eq!(budget.reserve(1, 5 * MIB), Reserve::Granted);
    assert_eq!(budget.reserve(2, 4 * MIB), Reserve::Throttled);
    assert_eq!(budget.reserve(3, MIB), Reserve::Throttled);
    assert_eq!(budget.release(1, 2 * MIB), [2, 3]);
}

#[test]
fn one_over_its_share_does_not_hold_up_those_behind_it() {
    let mut budget = budget(16, 2);
    assert_eq!(budget.reserve(1, 9 * MIB), Reserve::Granted);
    assert_eq!(budget.reserve(1, 8 * MIB), Reserve::Throttled);
    assert_eq!(budget.reserve(2, MIB), Reserve::Throttled, "the limit holds 1, and 2 is behind it");
    assert_eq!(budget.release(1, 2 * MIB), [2], "now only its share holds 1");
}

#[test]
fn a_lower_limit_takes_nothing_back_and_a_higher_one_serves_the_line() {
    let mut budget = budget(16, 1);
    assert_eq!(budget.reserve(1, 16 * MIB), Reserve::Granted);
    assert!(budget.set_limit(8 * MIB).is_empty());
    assert_eq!(budget.charged_bytes(), 16 * MIB);
    assert!(budget.release(1, 8 * MIB).is_empty());
    assert_eq!(budget.reserve(1, MIB), Reserve::Throttled);
    assert_eq!(budget.set_limit(16 * MIB), [1]);
}

#[test]
#[should_panic(expected = "left with bytes charged")]
fn a_stream_that_leaves_with_a_charge_is_a_bug() {
    let mut budget = budget(8, 1);
    assert_eq!(budget.reserve(1, 1), Reserve::Granted);
    budget.leave(1);
}

fn note_grants(granted: &[StreamId], held: &mut [u64], waits: &mut [Option<u64>]) {
    for stream in granted {
        let at = usize::try_from(*stream).unwrap();
        held[at] += waits[at].take().unwrap();
    }
}

proptest! {
    /// Streams that reserve and release at random: the limit holds after every step, nobody who
    /// fits waits, and in the end everybody was served and nothing is left.
    #[test]
    fn limit_and_line_hold_under_random_use(
        streams in 1..40_usize,
        limit_mib in 8..64_u64,
        steps in prop::collection::vec((any::<usize>(), 1..=(1_u64 << 20) + 8192), 1..400),
    ) {
        let mut budget = budget(limit_mib, streams as u64);
        let mut held = vec![0_u64; streams + 1];
        let mut waits = vec![None; streams + 1];
        for (choice, bytes) in steps {
            let at = 1 + choice % streams;
            let stream = at as u64;
            let mut granted = Vec::new();
            if waits[at].is_none() && choice % 3 != 0 {
                waits[at] = Some(bytes);
                if budget.reserve(stream, bytes) == Reserve::Granted {
                    granted.push(stream);
                }
            } else if held[at] > 0 {
                let part = 1 + bytes % held[at];
                held[at] -= part;
                granted = budget.release(stream, part);
            }
            note_grants(&granted, &mut held, &mut waits);
            prop_assert_eq!(budget.charged_bytes(), held.iter().sum::<u64>());
            prop_assert!(budget.charged_bytes() <= budget.limit_bytes());
        }
        while let Some(at) = held.iter().position(|bytes| *bytes > 0) {
            let bytes = std::mem::take(&mut held[at]);
            let granted = budget.release(at as u64, bytes);
            note_grants(&granted, &mut held, &mut waits);
        }
        prop_assert!(waits.iter().all(Option::is_none), "somebody was never served");
        (1..=streams).for_each(|stream| drop(budget.leave(stream as u64)));
        prop_assert_eq!(budget.charged_bytes(), 0);
    }
}
