//! The journal against a plain account of every byte.

use proptest::prelude::*;

use super::*;

fn journal() -> Journal {
    Journal::new(RANGES_MAX)
}

#[test]
fn a_range_is_told_once_when_all_of_it_is_durable() {
    let mut journal = journal();
    journal.touch(0..100);
    journal.send(0..60, 1);
    journal.send(60..100, 2);
    journal.settle(1);
    assert_eq!(journal.take(), [0..60]);
    assert_eq!(journal.take(), []);
    journal.settle(2);
    assert_eq!(journal.take(), [60..100]);
    assert_eq!(journal.pieces.len(), 0);
}

#[test]
fn what_is_in_the_window_is_not_told() {
    let mut journal = journal();
    journal.touch(0..100);
    journal.send(0..100, 1);
    journal.touch(40..50);
    journal.settle(1);
    assert_eq!(journal.take(), [0..40, 50..100]);
    journal.settle(7);
    assert_eq!(journal.take(), []);
    journal.send(0..100, 8);
    journal.settle(8);
    assert_eq!(journal.take(), [40..50]);
}

#[test]
fn durable_and_not_told_is_neither_after_it_was_written_again() {
    let mut journal = journal();
    journal.hand(0..10, 1);
    journal.settle(1);
    journal.touch(5..6);
    assert_eq!(journal.take(), [0..5, 6..10]);
    journal.send_all(2);
    assert_eq!(journal.take(), []);
    journal.settle(2);
    assert_eq!(journal.take(), [5..6]);
}

#[test]
fn what_a_slot_carries_again_keeps_its_number() {
    let mut journal = journal();
    journal.hand(0..10, 1);
    journal.touch(3..4);
    journal.touch(6..7);
    journal.send(3..7, 2);
    journal.settle(1);
    assert_eq!(journal.take(), [0..3, 4..6, 7..10]);
}

#[test]
fn what_is_cut_off_is_never_told() {
    let mut journal = journal();
    journal.hand(0..10, 1);
    journal.touch(10..20);
    journal.cut(5);
    journal.send_all(2);
    journal.settle(2);
    assert_eq!(journal.take(), [0..5]);
}

#[test]
fn what_is_handed_over_under_a_number_that_is_durable_is_durable() {
    let mut journal = journal();
    journal.settle(4);
    journal.touch(0..10);
    journal.send_all(4);
    assert_eq!(journal.take(), [0..10]);
}

#[test]
fn what_could_not_be_told_is_taken_again() {
    let mut journal = journal();
    journal.hand(0..10, 1);
    journal.hand(20..30, 1);
    journal.settle(1);
    assert_eq!(journal.take(), [0..10, 20..30]);
    journal.put_back(20..30);
    assert!(journal.has_durable());
    assert_eq!(journal.take(), [20..30]);
}

#[test]
fn neighbours_become_one_in_the_latest_state_when_there_are_too_many() {
    let mut journal = Journal::new(4);
    for number in 0..5 {
        journal.hand(number * 10..number * 10 + 10, number + 1);
    }
    assert_eq!(journal.pieces.len(), 1);
    journal.settle(4);
    assert_eq!(journal.take(), []);
    journal.settle(5);
    assert_eq!(journal.take(), [0..50]);
}

#[test]
fn what_does_not_touch_never_becomes_one() {
    let mut journal = Journal::new(4);
    for number in 0..4 {
        assert_eq!(journal.is_full(), number > 2);
        journal.touch(number * 10..number * 10 + 9);
    }
    journal.coalesce();
    journal.send_all(1);
    journal.settle(1);
    assert_eq!(journal.take(), [0..9, 10..19, 20..29, 30..39]);
}

#[derive(Clone, Debug)]
enum Act {
    Touch(Range<u64>),
    Hand(Range<u64>),
    Send(Range<u64>),
    SendAll,
    /// Up to so many thousandths of what was handed over.
    Settle(u64),
    Cut(u64),
    Coalesce,
    Take,
    /// All but so many of the first ranges is put back.
    TakeSome(usize),
}

/// A file is not longer than this, so that most acts touch what others did.
const LEN: u64 = 48;

fn range() -> impl Strategy<Value = Range<u64>> {
    (0..LEN, 0..20_u64).prop_map(|(start, len)| start..(start + len).min(LEN))
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        5 => range().prop_map(Act::Touch),
        2 => range().prop_map(Act::Hand),
        4 => range().prop_map(Act::Send),
        1 => Just(Act::SendAll),
        3 => (0..=1000_u64).prop_map(Act::Settle),
        1 => (0..LEN).prop_map(Act::Cut),
        1 => Just(Act::Coalesce),
        2 => Just(Act::Take),
        1 => (0..4_usize).prop_map(Act::TakeSome),
    ];
    proptest::collection::vec(act, 0..120)
}

/// The state of every byte; `None` if nothing is to be told of it.
struct Model {
    bytes: Vec<Option<State>>,
    number: u64,
}

impl Model {
    fn of(&mut self, range: Range<u64>) -> &mut [Option<State>] {
        &mut self.bytes[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()]
    }

    fn ranges_of(&self, is_in: impl Fn(State) -> bool) -> Vec<Range<u64>> {
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for (at, _) in (0..).zip(&self.bytes).filter(|(_, byte)| byte.is_some_and(&is_in)) {
            match ranges.last_mut() {
                Some(last) if last.end == at => last.end += 1,
                _ => ranges.push(at..at + 1),
            }
        }
        ranges
    }

    fn coalesce(&mut self) {
        for run in self.ranges_of(|_| true) {
            let bytes = self.of(run);
            let latest = bytes.iter().copied().max().flatten();
            bytes.fill(latest);
        }
    }

    fn durable(&self) -> Vec<Range<u64>> {
        self.ranges_of(|state| state == State::Durable)
    }

    fn act(&mut self, act: &Act, journal: &mut Journal) {
        match act.clone() {
            Act::Touch(range) => {
                journal.touch(range.clone());
                self.of(range).fill(Some(State::Unsent));
            }
            Act::Hand(range) => {
                self.number += 1;
                journal.hand(range.clone(), self.number);
                let state = State::Sent(self.number);
                self.of(range).fill(Some(state));
            }
            Act::Send(range) => {
                self.number += 1;
                journal.send(range.clone(), self.number);
                self.has_sent(range);
            }
            Act::SendAll => {
                self.number += 1;
                journal.send_all(self.number);
                self.has_sent(0..LEN);
            }
            Act::Settle(part) => {
                let number = self.number * part / 1000;
                journal.settle(number);
                for byte in &mut self.bytes {
                    if matches!(byte, Some(State::Sent(sent)) if *sent <= number) {
                        *byte = Some(State::Durable);
                    }
                }
            }
            Act::Cut(len) => {
                journal.cut(len);
                self.of(len..LEN).fill(None);
            }
            Act::Coalesce | Act::Take | Act::TakeSome(_) => {}
        }
    }

    fn has_sent(&mut self, range: Range<u64>) {
        let state = Some(State::Sent(self.number));
        for byte in self.of(range).iter_mut().filter(|byte| **byte == Some(State::Unsent)) {
            *byte = state;
        }
    }
}

fn model() -> Model {
    Model { bytes: vec![None; usize::try_from(LEN).unwrap()], number: 0 }
}

/// Sorted, not empty, and none touching another.
fn are_proper(ranges: &[Range<u64>]) -> bool {
    ranges.iter().all(|range| range.start < range.end)
        && ranges.windows(2).all(|pair| pair[0].end < pair[1].start)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn exactly_what_is_durable_is_told(acts in acts()) {
        let (mut model, mut journal) = (model(), journal());
        for act in acts {
            model.act(&act, &mut journal);
            match act {
                Act::Coalesce => {
                    journal.coalesce();
                    model.coalesce();
                }
                Act::Take | Act::TakeSome(_) => {
                    let taken = journal.take();
                    prop_assert_eq!(&taken, &model.durable());
                    let kept = if let Act::TakeSome(count) = act { count } else { taken.len() };
                    for range in taken.iter().take(kept) {
                        model.of(range.clone()).fill(None);
                    }
                    for range in taken.into_iter().skip(kept) {
                        journal.put_back(range);
                    }
                }
                _ => {}
            }
        }
        prop_assert_eq!(journal.take(), model.durable());
    }

    #[test]
    fn with_a_limit_it_is_never_told_early_and_all_of_it_in_the_end(
        acts in acts(),
        limit in 1..12_usize,
    ) {
        let (mut model, mut journal) = (model(), Journal::new(limit));
        for act in acts {
            model.act(&act, &mut journal);
            if matches!(act, Act::Take | Act::TakeSome(_)) {
                let taken = journal.take();
                prop_assert!(are_proper(&taken));
                for range in taken {
                    let bytes = model.of(range);
                    prop_assert!(bytes.iter().all(|byte| *byte == Some(State::Durable)));
                    bytes.fill(None);
                }
            }
            // Those that do not touch are not its to make fewer.
            let runs = model.ranges_of(|_| true).len();
            prop_assert!(journal.pieces.len() <= limit.max(runs), "{journal:?}");
        }
        journal.send_all(model.number + 1);
        journal.settle(model.number + 1);
        let taken = journal.take();
        prop_assert!(are_proper(&taken));
        prop_assert_eq!(taken, model.ranges_of(|_| true));
        prop_assert_eq!(journal.pieces.len(), 0);
    }
}
