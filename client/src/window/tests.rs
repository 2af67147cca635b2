//! The window against a plain vector of bytes.

use proptest::prelude::*;

use super::*;
use crate::slot::Pool;

const MIB: usize = SLOT_BYTES;

/// A window whose slots come from a pool that is exactly as large as they may ever be, and a file
/// that gets what leaves.
struct Bench {
    window: Window,
    pool: Pool,
    file: Vec<u8>,
    /// What was handed over and is not written yet: keeps slots shared.
    in_flight: VecDeque<Arc<Slot>>,
    in_flight_max: usize,
    /// Offset and length of every write that left.
    left: Vec<(u64, usize)>,
}

impl Bench {
    fn new(capacity: usize, in_flight_max: usize) -> Self {
        let slots = Window::slots_max(capacity as u64, 1) + in_flight_max;
        Self {
            window: Window::new(capacity as u64, 1),
            pool: Pool::new(slots),
            file: Vec::new(),
            in_flight: VecDeque::new(),
            in_flight_max,
            left: Vec::new(),
        }
    }

    fn write(&mut self, offset: usize, mut bytes: &[u8]) {
        let mut at = offset as u64;
        while !bytes.is_empty() {
            match self.window.write(at, bytes) {
                Step::Took(count) => {
                    at += count as u64;
                    bytes = &bytes[count..];
                }
                Step::NeedSlot => {
                    self.pass();
                    let slot = self.pool.take().expect("the window holds too many slots");
                    self.window.give(slot);
                }
            }
            self.pass();
        }
    }

    fn pass(&mut self) {
        while let Some(item) = self.window.leaving().pop_front() {
            match item {
                Leaving::Write { offset, slot, range } => {
                    let at = usize::try_from(offset).unwrap();
                    let end = at + range.len();
                    if self.file.len() < end {
                        self.file.resize(end, 0);
                    }
                    self.file[at..end].copy_from_slice(&slot[range.clone()]);
                    self.left.push((offset, range.len()));
                    self.in_flight.push_back(slot);
                }
                Leaving::Release(slot) => {
                    self.pool.put(slot);
                }
            }
            while self.in_flight.len() > self.in_flight_max {
                self.pool.put(self.in_flight.pop_front().unwrap());
            }
        }
    }

    fn flush(&mut self) {
        self.window.hand_over();
        self.pass();
    }
}

fn pattern(len: usize, seed: usize) -> Vec<u8> {
    let block: Vec<u8> = (0..=250).cycle().skip(seed * 31 % 251).take(251).collect();
    let mut bytes = block.repeat(len / 251 + 1);
    bytes.truncate(len);
    bytes
}

#[test]
fn patches_in_the_window_leave_nothing() {
    let mut bench = Bench::new(2 * MIB, 1);
    bench.write(0, &pattern(MIB + 5, 1));
    bench.write(3, b"patched");
    bench.write(MIB - 2, b"across");
    assert!(bench.left.is_empty());
    bench.flush();
    assert_eq!(bench.left, [(0, MIB), (MIB as u64, 5)]);
}

#[test]
fn a_slot_leaves_when_the_end_is_a_capacity_beyond_it() {
    let mut bench = Bench::new(MIB, 0);
    bench.write(0, &pattern(2 * MIB - 1, 1));
    assert!(bench.left.is_empty());
    bench.write(2 * MIB - 1, b"x");
    assert_eq!(bench.left, [(0, MIB)]);
}

#[test]
fn slots_leave_as_many_at_once_as_the_outlet_takes() {
    let mut bench = Bench::new(MIB, 3);
    bench.window = Window::new(MIB as u64, 4);
    bench.write(0, &pattern(5 * MIB - 1, 1));
    assert!(bench.left.is_empty());
    bench.write(5 * MIB - 1, b"x");
    assert_eq!(bench.left, [0, 1, 2, 3].map(|slot| (slot * MIB as u64, MIB)));
}

#[test]
fn after_a_flush_only_what_is_new_leaves() {
    let mut bench = Bench::new(2 * MIB, 4);
    bench.write(0, &pattern(1000, 1));
    bench.flush();
    bench.flush();
    bench.write(10, b"ab");
    bench.write(20, b"c");
    bench.flush();
    assert_eq!(bench.left, [(0, 1000), (10, 11)]);
}

#[test]
fn small_far_patches_in_a_row_leave_as_one() {
    let mut bench = Bench::new(MIB, 0);
    bench.write(0, &pattern(4 * MIB, 1));
    let before = bench.left.len();
    for i in 0..1000 {
        bench.write(100 + i * 8, &pattern(8, i));
    }
    bench.write(104, b"back in the run");
    bench.flush();
    let far: Vec<_> = bench.left[before..].iter().filter(|l| l.0 < MIB as u64).collect();
    assert_eq!(far, [&(100, 8000)]);
}

#[test]
fn a_patch_that_does_not_touch_the_run_sends_it_first() {
    let mut bench = Bench::new(MIB, 0);
    bench.write(0, &pattern(4 * MIB, 1));
    bench.left.clear();
    bench.write(100, b"first");
    bench.write(90, b"before and over");
    assert_eq!(bench.left, [(100, 5)]);
    bench.flush();
    assert_eq!(&bench.file[90..105], b"before and over");
}

#[test]
fn a_jump_forward_empties_the_window() {
    let mut bench = Bench::new(2 * MIB, 0);
    bench.write(0, b"head");
    bench.write(5 * MIB + 3, b"tail");
    assert_eq!(bench.left, [(0, 4)]);
    bench.flush();
    assert_eq!(bench.left[1], (5 * MIB as u64 + 3, 4));
}

#[test]
fn what_is_beyond_a_cut_is_gone() {
    let mut bench = Bench::new(4 * MIB, 0);
    bench.write(0, &pattern(3 * MIB, 1));
    bench.flush();
    bench.window.cut(MIB as u64);
    bench.pass();
    bench.file.truncate(MIB);
    bench.write(MIB + 2, b"after a gap");
    bench.flush();
    assert_eq!(bench.file[MIB..], *b"\0\0after a gap");
}

#[test]
fn two_patches_of_a_slot_in_flight_carry_what_is_between() {
    let mut bench = Bench::new(MIB, 4);
    let mut expected = pattern(1000, 1);
    bench.write(0, &expected);
    bench.flush();
    bench.write(10, b"one");
    bench.write(500, b"two");
    bench.flush();
    expected[10..13].copy_from_slice(b"one");
    expected[500..503].copy_from_slice(b"two");
    assert_eq!(bench.left[1], (10, 493));
    assert!(bench.file == expected);
}

#[test]
fn a_patch_one_byte_beyond_the_run_is_another_run() {
    let mut bench = Bench::new(MIB, 0);
    let mut expected = pattern(4 * MIB, 1);
    bench.write(0, &expected);
    bench.write(100, b"run");
    bench.write(104, b"another");
    bench.flush();
    expected[100..103].copy_from_slice(b"run");
    expected[104..111].copy_from_slice(b"another");
    assert!(bench.file == expected);
}

#[derive(Clone, Debug)]
enum Act {
    Write(usize, usize),
    Flush,
    Cut(usize),
}

/// Offsets and lengths around the edges of slots, where mistakes are.
fn near_edges() -> impl Strategy<Value = usize> {
    (0..4_usize, prop_oneof![0..12_usize, 500..512_usize, MIB - 12..MIB])
        .prop_map(|(slot, within)| slot * MIB + within)
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let len = prop_oneof![8 => 1..12_usize, 2 => MIB - 50..MIB + 50, 1 => Just(3 * MIB + 7)];
    let act = prop_oneof![
        8 => (near_edges(), len).prop_map(|(offset, len)| Act::Write(offset, len)),
        4 => Just(Act::Flush),
        1 => near_edges().prop_map(Act::Cut),
    ];
    prop::collection::vec(act, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn the_file_is_what_the_writes_made_it(
        acts in acts(),
        capacity in prop_oneof![Just(MIB), Just(MIB + 4096), Just(3 * MIB)],
        in_flight in 0..3_usize,
    ) {
        let mut bench = Bench::new(capacity, in_flight);
        let mut model: Vec<u8> = Vec::new();
        for (seed, act) in acts.into_iter().enumerate() {
            match act {
                Act::Write(offset, len) => {
                    let bytes = pattern(len, seed);
                    bench.write(offset, &bytes);
                    if model.len() < offset + len {
                        model.resize(offset + len, 0);
                    }
                    model[offset..offset + len].copy_from_slice(&bytes);
                }
                Act::Flush => {
                    bench.flush();
                    prop_assert!(bench.file == model);
                }
                Act::Cut(len) => {
                    bench.flush();
                    bench.file.resize(len, 0);
                    model.resize(len, 0);
                    bench.window.cut(len as u64);
                    bench.pass();
                }
            }
            let window = &bench.window;
            prop_assert!(window.slots.len() <= capacity.div_ceil(MIB) + 1);
            if let Some(run) = &window.run {
                prop_assert!(run.range.end <= window.start);
            }
        }
        bench.flush();
        prop_assert!(bench.file == model);
    }
}
