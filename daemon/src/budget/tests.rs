//! Exact edges of the budget, and its invariants under random use.

use proptest::prelude::*;

use super::*;

const MIB: u64 = 1 << 20;
const FAST: bool = false;
const SEEKS: bool = true;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Streams 1 to `streams` on device 1.
fn budget(limit_mib: u64, streams: u64, seeks: bool) -> Budget {
    let mut budget = Budget::new(limit_mib * MIB);
    (1..=streams).for_each(|stream| budget.join(stream, 1, seeks, 100, ms(0)));
    budget
}

fn ask(need_mib: u64, want_mib: u64) -> Ask {
    Ask { need_bytes: need_mib * MIB, want_bytes: want_mib * MIB, offset: 0 }
}

fn reserve(budget: &mut Budget, stream: StreamId, need_mib: u64, want_mib: u64) -> Option<u64> {
    match budget.reserve(stream, ask(need_mib, want_mib), ms(0)) {
        Reserve::Granted(bytes) => Some(bytes / MIB),
        Reserve::Throttled(_) => None,
    }
}

fn complete(budget: &mut Budget, stream: StreamId, mib: u64, began: u64, now: u64) -> Vec<u64> {
    let completion = Completion { bytes: mib * MIB, began: ms(began), exact: true };
    budget.complete(stream, completion, ms(now));
    budget.take_woken()
}

/// A device that has completed so much at 100 MiB/s, 1 MiB at a time.
fn warm_up(budget: &mut Budget, stream: StreamId, mib: u64) {
    for at in 0..mib {
        assert!(reserve(budget, stream, 1, 1).is_some());
        complete(budget, stream, 1, at * 10, at * 10 + 10);
    }
    budget.rest(stream, ms(mib * 10));
}

/// Reserves until there is nothing more, and returns how many MiB that were.
fn reserve_all(budget: &mut Budget, stream: StreamId) -> u64 {
    std::iter::from_fn(|| reserve(budget, stream, 1, 64)).sum()
}

/// The device of a stream that always wants more gets faster and faster.
fn warm_up_waiting(budget: &mut Budget, stream: StreamId) {
    for at in 0..100 {
        while reserve(budget, stream, 1, 1).is_some() {}
        complete(budget, stream, 1, at, at + 1);
    }
}

#[test]
fn a_new_device_begins_at_its_floor_and_each_round_doubles_it() {
    let mut budget = budget(512, 1, FAST);
    assert_eq!(budget.device(1).unwrap().limit_bytes, 8 * MIB);
    assert_eq!(budget.reserve(1, ask(8, 64), ms(0)), Reserve::Granted(8 * MIB));
    assert_eq!(reserve(&mut budget, 1, 1, 64), None);
    assert_eq!(complete(&mut budget, 1, 8, 0, 80), [1]);
    assert_eq!(budget.device(1).unwrap().limit_bytes, 16 * MIB);
    assert_eq!(reserve_all(&mut budget, 1), 16);
}

#[test]
fn the_last_byte_is_granted_and_one_more_waits() {
    let mut budget = budget(64, 1, FAST);
    assert_eq!(budget.reserve(1, ask(8, 8), ms(0)), Reserve::Granted(8 * MIB));
    assert_eq!(
        budget.reserve(1, Ask { need_bytes: 1, want_bytes: 1, offset: 0 }, ms(0)),
        Reserve::Throttled(Hold::Device)
    );
    budget.release(1, 1, ms(1));
    assert_eq!(budget.take_woken(), [1]);
    assert_eq!(budget.charged_bytes(), 8 * MIB);
}

#[test]
fn a_healthy_device_holds_half_a_second_of_its_own_speed() {
    let mut budget = budget(512, 1, FAST);
    warm_up(&mut budget, 1, 1000);
    let device = budget.device(1).unwrap();
    assert_eq!(device.state, State::Healthy);
    assert!((48..=50).contains(&(device.limit_bytes / MIB)), "{device:?}");
    assert!((4..=5).contains(&(device.extent_bytes / MIB)), "{device:?}");
}

#[test]
fn streams_that_write_at_once_have_extents_by_their_weights() {
    // A new device: 50 MiB in a second, so 25 MiB at once.
    let mut fast = budget(512, 4, FAST);
    fast.set_weight(4, 300);
    // Ten of them, in MiB: an extent has whole ones, and what it lacks has the next.
    let ten = |budget: &mut Budget, stream| -> u64 {
        (0..10).map(|_| budget.next_extent_bytes(stream) / MIB).sum()
    };
    assert_eq!(ten(&mut fast, 1), 25, "it is alone");
    assert_eq!(reserve(&mut fast, 1, 1, 1), Some(1));
    assert_eq!(ten(&mut fast, 1), 25, "it still is");
    assert_eq!(ten(&mut fast, 2), 37, "30 percent of 12.5 MiB");
    assert_eq!(reserve(&mut fast, 4, 1, 1), Some(1));
    assert_eq!(ten(&mut fast, 1), 18, "30 percent of 6.25 MiB");
    assert_eq!(ten(&mut fast, 4), 56, "30 percent of 18.75 MiB");
    fast.set_weight(4, 100);
    assert_eq!(ten(&mut fast, 4), 37);
    complete(&mut fast, 4, 1, 0, 20);
    assert_eq!(ten(&mut fast, 1), 25, "it is alone again");

    let mut seeks = budget(512, 4, SEEKS);
    assert_eq!(reserve(&mut seeks, 1, 1, 1), Some(1));
    assert_eq!(ten(&mut seeks, 2), 25, "in its turn it is alone");
}

#[test]
fn one_device_leaves_half_of_what_is_above_the_floors() {
    let mut budget = budget(72, 1, FAST);
    warm_up(&mut budget, 1, 1000);
    budget.join(2, 2, FAST, 100, ms(0));
    // Floors of 8 MiB each, and 56 MiB above them.
    let mut held = 0;
    while let Some(mib) = reserve(&mut budget, 1, 1, 1) {
        held += mib;
    }
    assert_eq!(held, 8 + 28);
    assert_eq!(budget.device(2).unwrap().limit_bytes, 8 * MIB, "it is new");
    assert_eq!(reserve(&mut budget, 2, 8, 8), Some(8), "a floor is always there");
}

#[test]
fn a_wedged_device_gets_nothing_and_the_others_are_not_held_up() {
    let mut budget = budget(64, 1, FAST);
    budget.join(2, 2, FAST, 100, ms(0));
    assert_eq!(reserve(&mut budget, 1, 4, 4), Some(4));
    assert_eq!(budget.tick(ms(2000)), [(1, State::Suspect)]);
    assert_eq!(budget.tick(ms(32_000)), [(1, State::Wedged)]);
    assert_eq!(budget.reserve(1, ask(1, 1), ms(32_000)), Reserve::Throttled(Hold::Sick));
    assert_eq!(reserve_all(&mut budget, 2), 8);
    assert_eq!(complete(&mut budget, 1, 4, 0, 40_000), [1]);
    let limit_bytes = 8 * MIB;
    assert_eq!(budget.device(1).unwrap().state, State::Recovering { limit_bytes });
    let recovers = (1, State::Recovering { limit_bytes });
    assert!(budget.tick(ms(40_001)).contains(&recovers));
    assert!(!budget.tick(ms(40_002)).contains(&recovers), "told once");
}

#[test]
fn devices_that_wait_for_the_pool_are_served_when_another_releases() {
    let mut budget = Budget::new(16 * MIB);
    (1..=4).for_each(|id| budget.join(id, u32::try_from(id).unwrap(), FAST, 100, ms(0)));
    // Floors of 2 MiB each, 8 MiB above them.
    for id in 1..=4 {
        while reserve(&mut budget, id, 1, 1).is_some() {}
    }
    let held: Vec<_> = (1..=4).map(|id| budget.charged_bytes_of(id) / MIB).collect();
    assert!(held.iter().all(|mib| *mib >= 2), "a floor is always there: {held:?}");
    (1..=4).for_each(|id| warm_up_waiting(&mut budget, id));
    for id in 1..=4 {
        reserve_all(&mut budget, id);
    }
    // All want more than their floors now, and share what is above them.
    let all: u64 = (1..=4).map(|id| budget.charged_bytes_of(id)).sum();
    assert!((12 * MIB..=16 * MIB).contains(&all), "{} MiB", all / MIB);
    let most = (1..=4).max_by_key(|id| budget.charged_bytes_of(*id)).unwrap();
    let mib = budget.charged_bytes_of(most) / MIB;
    let woken = complete(&mut budget, most, mib, 0, 1);
    assert!(woken.iter().any(|stream| *stream != most), "{woken:?}");
}

#[test]
fn a_lower_total_takes_nothing_back_and_a_higher_one_serves_the_line() {
    let mut budget = budget(16, 1, FAST);
    assert_eq!(reserve(&mut budget, 1, 8, 8), Some(8));
    budget.set_limit(8 * MIB, ms(0));
    assert_eq!(budget.charged_bytes(), 8 * MIB);
    assert_eq!(reserve(&mut budget, 1, 1, 1), None);
    budget.release(1, 7 * MIB, ms(0));
    assert_eq!(budget.take_woken(), [1]);
}

#[test]
fn a_lower_total_leaves_every_device_its_floor_whatever_a_dead_one_holds() {
    let mut budget = budget(512, 1, FAST);
    warm_up(&mut budget, 1, 1000);
    budget.join(2, 2, FAST, 100, ms(0));
    let held = reserve_all(&mut budget, 1);
    assert!((40..=50).contains(&held), "{held} MiB");
    budget.set_limit(32 * MIB, ms(0));
    assert_eq!(reserve_all(&mut budget, 2), 8, "its floor");
    assert_eq!(reserve(&mut budget, 1, 1, 1), None);
    let before_bytes = budget.charged_bytes();
    budget.release(1, 30 * MIB, ms(0));
    assert_eq!(budget.charged_bytes(), before_bytes - 30 * MIB, "nobody is granted anything");
    assert_eq!(reserve(&mut budget, 1, 1, 1), None, "above its floor it holds too much");
}

#[test]
fn those_who_wait_share_what_is_released_by_weight() {
    let mut budget = budget(512, 2, FAST);
    budget.set_weight(2, 300);
    let mut got = [0, 0, 0];
    let mut held = [0, 0, 0];
    for round in 0..600 {
        if round == 100 {
            // The device is known by now, and everybody waits.
            got = [0, 0, 0];
        }
        for stream in [1, 2] {
            while let Reserve::Granted(bytes) = budget.reserve(stream, ask(1, 64), ms(round)) {
                got[usize::try_from(stream).unwrap()] += bytes;
                held[usize::try_from(stream).unwrap()] += bytes;
            }
        }
        // The device gets 4 MiB clean, of whoever holds more.
        let (stream, at) = if held[1] > held[2] { (1, 1) } else { (2, 2) };
        let bytes = held[at].min(4 * MIB);
        held[at] -= bytes;
        let completion = Completion { bytes, began: ms(round * 40), exact: true };
        budget.complete(stream, completion, ms(round * 40 + 40));
    }
    #[expect(clippy::cast_precision_loss, reason = "a ratio")]
    let ratio = got[2] as f64 / got[1] as f64;
    assert!((2.85..=3.15).contains(&ratio), "{ratio}: {got:?}");
}

#[test]
fn only_the_holder_of_the_turn_is_charged() {
    let mut budget = budget(512, 2, SEEKS);
    assert_eq!(reserve(&mut budget, 1, 1, 8), Some(8));
    assert_eq!(budget.reserve(2, ask(1, 1), ms(0)), Reserve::Throttled(Hold::Turn));
    let mut held = 8;
    let mut turn = 8;
    // It goes on until its turn is used up, as fast as the device lets it.
    while turn < TURN_BYTES / MIB {
        assert!(complete(&mut budget, 1, held, 0, 80).is_empty(), "the turn is not over");
        held = reserve(&mut budget, 1, 1, 4).expect("the turn is not over");
        turn += held;
    }
    assert_eq!(turn, TURN_BYTES / MIB);
    assert_eq!(reserve(&mut budget, 1, 1, 4), None, "it has had its turn");
    assert_eq!(complete(&mut budget, 1, held, 0, 80), [2]);
    assert_eq!(reserve(&mut budget, 2, 1, 1), Some(1));
}

#[test]
fn a_turn_ends_where_the_file_system_sets_pieces_aside() {
    use super::device::turn_bytes;
    assert_eq!(turn_bytes(0, TURN_BYTES), TURN_BYTES);
    assert_eq!(turn_bytes(3 * MIB, TURN_BYTES), 21 * MIB);
    assert_eq!(turn_bytes(3 * MIB, 9 * MIB), 9 * MIB, "too short to be worth it");
    // What it does not use is for the next turn, which ends at a boundary again.
    assert_eq!(turn_bytes(24 * MIB, TURN_BYTES + 3 * MIB), 24 * MIB);
}

#[test]
fn what_was_not_used_of_a_grant_is_still_there_in_the_turn() {
    let mut budget = budget(512, 2, SEEKS);
    assert_eq!(reserve(&mut budget, 1, 1, 8), Some(8));
    assert_eq!(reserve(&mut budget, 2, 1, 1), None);
    budget.give_back(1, 2 * MIB, ms(0));
    let mut had = 6;
    complete(&mut budget, 1, 6, 0, 60);
    while let Some(mib) = reserve(&mut budget, 1, 1, 6) {
        had += mib;
        complete(&mut budget, 1, mib, 60, 120);
    }
    assert_eq!(had, TURN_BYTES / MIB);
}

#[test]
fn what_a_turn_was_overdrawn_by_is_taken_from_the_next() {
    let mut budget = budget(512, 2, SEEKS);
    let mut turns = [0, 0, 0];
    for _ in 0..4 {
        for stream in [1, 2] {
            // 7 MiB do not divide a turn of 24.
            while let Some(mib) = reserve(&mut budget, stream, 7, 7) {
                turns[usize::try_from(stream).unwrap()] += mib;
                assert_eq!(reserve(&mut budget, 3 - stream, 7, 7), None);
                complete(&mut budget, stream, mib, 0, 80);
                if budget.has_grant(3 - stream) {
                    break;
                }
            }
        }
    }
    assert_eq!(turns, [0, 98, 98], "28, 21, 28 and 21");
}

#[test]
fn a_turn_ends_when_its_holder_has_nothing_more() {
    let mut budget = budget(512, 2, SEEKS);
    assert_eq!(reserve(&mut budget, 1, 1, 1), Some(1));
    assert_eq!(reserve(&mut budget, 2, 1, 1), None);
    budget.rest(1, ms(1));
    assert!(budget.take_woken().is_empty(), "it still has bytes in writeback");
    assert_eq!(complete(&mut budget, 1, 1, 0, 10), [2]);
}

#[test]
fn a_holder_that_gets_stuck_loses_its_turn_and_harms_no_other() {
    let mut budget = budget(512, 2, SEEKS);
    assert!(reserve(&mut budget, 1, 1, 8).is_some());
    assert_eq!(reserve(&mut budget, 2, 1, 1), None);
    assert_eq!(budget.tick(ms(2000)), [(1, State::Suspect)]);
    assert_eq!(budget.take_woken(), [2], "it gets a floor to show that the device is well");
    for at in 0..200 {
        assert!(reserve(&mut budget, 2, 1, 1).is_some());
        complete(&mut budget, 2, 1, 2000 + at * 10, 2010 + at * 10);
        assert!(!budget.tick(ms(2010 + at * 10)).contains(&(1, State::Suspect)));
    }
    assert_eq!(budget.charged_bytes_of(1), 8 * MIB, "still stuck");
    // It goes on, and is one like the others.
    budget.rest(2, ms(5000));
    complete(&mut budget, 1, 8, 0, 5000);
    assert!(reserve(&mut budget, 1, 1, 1).is_some());
    assert_eq!(budget.reserve(2, ask(1, 1), ms(5000)), Reserve::Throttled(Hold::Turn));
}

#[test]
fn a_stuck_holder_that_stands_in_line_does_not_stand_in_the_way() {
    let mut budget = budget(512, 3, SEEKS);
    // Into its limit, and then it hangs while it gives back what it has.
    assert_eq!(reserve_all(&mut budget, 1), 8);
    assert_eq!(reserve(&mut budget, 2, 1, 1), None);
    assert_eq!(reserve(&mut budget, 3, 1, 1), None);
    assert_eq!(budget.tick(ms(2000)), [(1, State::Suspect)]);
    assert_eq!(budget.take_woken(), [2], "the holder is passed over");
    // That one hangs as well: two files on the same dead disk of a pool.
    assert!(reserve(&mut budget, 2, 1, 1).is_some());
    assert_eq!(budget.tick(ms(3000)), []);
    assert_eq!(budget.tick(ms(4000)), []);
    assert_eq!(budget.take_woken(), [3]);
    assert!(reserve(&mut budget, 3, 1, 1).is_some());
    complete(&mut budget, 3, 1, 4000, 4010);
    assert!(matches!(budget.device(1).unwrap().state, State::Recovering { .. }));
}

#[test]
fn a_device_that_is_faster_than_any_disk_does_not_take_turns() {
    let mut budget = budget(512, 2, SEEKS);
    for at in 0..3000 {
        assert!(reserve(&mut budget, 1, 1, 1).is_some());
        complete(&mut budget, 1, 1, at, at + 1);
    }
    assert!(!budget.device(1).unwrap().takes_turns);
    assert_eq!(reserve(&mut budget, 1, 1, 1), Some(1));
    assert_eq!(reserve(&mut budget, 2, 1, 1), Some(1));
}

#[test]
fn what_was_granted_in_line_and_not_fetched_goes_back() {
    let mut budget = budget(64, 2, FAST);
    assert_eq!(reserve(&mut budget, 1, 8, 8), Some(8));
    assert_eq!(reserve(&mut budget, 2, 1, 1), None);
    budget.release(1, 4 * MIB, ms(0));
    assert_eq!(budget.take_woken(), [2]);
    assert_eq!(budget.charged_bytes(), 5 * MIB);
    budget.leave(2, ms(0));
    assert_eq!(budget.charged_bytes(), 4 * MIB);
    budget.release(1, 4 * MIB, ms(0));
    budget.leave(1, ms(0));
}

#[test]
#[should_panic(expected = "left with bytes charged")]
fn a_stream_that_leaves_with_a_charge_is_a_bug() {
    let mut budget = budget(8, 1, FAST);
    assert_eq!(reserve(&mut budget, 1, 1, 1), Some(1));
    budget.leave(1, ms(0));
}

proptest! {
    /// Streams on several devices that reserve, complete, cancel and rest at random: the limits hold
    /// after every step (they are asserted inside), nobody waits for ever, and nothing is left.
    #[test]
    fn limits_and_line_hold_under_random_use(
        streams in 1..24_u64,
        devices in 1..6_u32,
        limit_mib in 8..256_u64,
        steps in prop::collection::vec((any::<u64>(), 1..=(1_u64 << 20) + 8192), 1..400),
    ) {
        let mut budget = Budget::new(limit_mib * MIB);
        for stream in 1..=streams {
            let device = u32::try_from(stream).unwrap() % devices;
            let weight = 10 + u32::try_from(stream).unwrap() * 40;
            budget.join(stream, device, device % 2 == 1, weight, ms(0));
        }
        let mut now = 0;
        for (choice, bytes) in steps {
            now += choice % 50;
            let stream = 1 + choice % streams;
            match choice % 7 {
                0..=3 => {
                    let want_bytes = bytes * (1 + choice % 9);
                    let ask = Ask { need_bytes: bytes, want_bytes, offset: choice % (1 << 40) };
                    let _ = budget.reserve(stream, ask, ms(now));
                }
                4 => budget.rest(stream, ms(now)),
                5 if choice % 5 == 0 => budget.cancel(stream, ms(now)),
                _ => {
                    let fetched = budget.charged_bytes_of(stream)
                        - budget.accounts[&stream].granted_bytes.unwrap_or(0);
                    let completion = Completion {
                        bytes: fetched.min(bytes),
                        began: ms(now.saturating_sub(20)),
                        exact: choice % 2 == 0,
                    };
                    budget.complete(stream, completion, ms(now));
                }
            }
            let _ = budget.tick(ms(now));
            let sum: u64 = (1..=streams).map(|stream| budget.charged_bytes_of(stream)).sum();
            prop_assert_eq!(budget.charged_bytes(), sum);
        }
        // Everybody gives back what they have until all have been served.
        for _ in 0..20_000 {
            for stream in 1..=streams {
                let _ = budget.accounts.get_mut(&stream).unwrap().granted_bytes.take();
                let bytes = budget.charged_bytes_of(stream);
                let completion = Completion { bytes, began: ms(now), exact: true };
                now += 1;
                budget.complete(stream, completion, ms(now));
                budget.rest(stream, ms(now));
            }
            if budget.accounts.values().all(|account| account.ask.is_none()) {
                break;
            }
        }
        let waiting = budget.accounts.values().filter(|account| account.ask.is_some()).count();
        prop_assert_eq!(waiting, 0, "somebody was never served");
        for stream in 1..=streams {
            let bytes = budget.charged_bytes_of(stream);
            let unfetched = budget.accounts[&stream].granted_bytes.unwrap_or(0);
            budget.release(stream, bytes - unfetched, ms(now));
            budget.leave(stream, ms(now));
        }
        prop_assert_eq!(budget.charged_bytes(), 0);
    }
}
