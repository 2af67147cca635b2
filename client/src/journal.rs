//! The journal: which byte ranges of a stream are durable with what was written there last, and have not
//! been told yet. Pure; the muxer's thread alone has it, so it needs no lock, and nothing can be written
//! between a look at it and what the muxer makes of that.
//!
//! 1. A byte that is in no range was never written through this stream, was cut off, or was told.
//! 2. What is written is `Unsent`, whatever was known of it before: its newest content is in the window.
//! 3. What leaves the window gives its number to the bytes that are `Unsent`, and to no others: a slot may
//!    carry bytes between two patches again, as they are already.
//! 4. `Sent` bytes become `Durable` when everything up to their number is durable.
//! 5. Ranges that touch and are in the same state are one. When there are more than the limit, those that
//!    touch become one in the latest of their states: told later, never earlier. `send_all` ends what such a
//!    range may have waited for.
//! 6. Ranges that do not touch never become one, since what lies between was not written. Whoever adds to
//!    them makes room first.

use std::collections::BTreeMap;
use std::ops::Range;

/// Most ranges kept. About 5 MiB; a disc that is patched sector by sector at full speed takes seconds to
/// come to so many that do not touch.
pub(crate) const RANGES_MAX: usize = 1 << 16;

/// How far the newest content of a range has come. In order: a later one takes longer to become durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Durable,
    /// Handed over; covered once everything up to this number is durable.
    Sent(u64),
    Unsent,
}

#[derive(Clone, Copy, Debug)]
struct Piece {
    end: u64,
    state: State,
}

/// See the module's page.
#[derive(Debug)]
pub(crate) struct Journal {
    /// By their start; disjoint (rule 5).
    pieces: BTreeMap<u64, Piece>,
    ranges_max: usize,
    /// Everything up to this number is durable.
    settled: u64,
    /// Something may be `Durable`.
    has_durable: bool,
}

impl Journal {
    pub(crate) fn new(ranges_max: usize) -> Self {
        Self { pieces: BTreeMap::new(), ranges_max, settled: 0, has_durable: false }
    }

    /// `range` has new content, which has not left the window.
    #[inline]
    pub(crate) fn touch(&mut self, range: Range<u64>) {
        self.set(range, State::Unsent);
    }

    /// `range` has new content, which was handed over under this number.
    pub(crate) fn hand(&mut self, range: Range<u64>, number: u64) {
        self.set(range, self.sent(number));
    }

    /// What the window held of `range` was handed over under this number (rule 3).
    pub(crate) fn send(&mut self, range: Range<u64>, number: u64) {
        let state = self.sent(number);
        let first = self.pieces.range(..range.start).next_back();
        let others = self.pieces.range(range.clone());
        let unsent: Vec<_> = first
            .into_iter()
            .chain(others)
            .filter(|(_, piece)| piece.state == State::Unsent)
            .map(|(start, piece)| range.start.max(*start)..range.end.min(piece.end))
            .collect();
        for range in unsent {
            self.set(range, state);
        }
    }

    /// The window holds nothing that was not handed over, all of it up to this number.
    pub(crate) fn send_all(&mut self, number: u64) {
        let state = self.sent(number);
        if self.pieces.values().any(|piece| piece.state == State::Unsent) {
            self.rebuild(
                |was| if was == State::Unsent { state } else { was },
                |one, other| one == other,
            );
        }
    }

    /// Everything up to this number is durable (rule 4).
    pub(crate) fn settle(&mut self, number: u64) {
        if number <= self.settled {
            return;
        }
        self.settled = number;
        let is_covered = |state| matches!(state, State::Sent(sent) if sent <= number);
        if self.pieces.values().any(|piece| is_covered(piece.state)) {
            self.rebuild(
                |was| if is_covered(was) { State::Durable } else { was },
                |one, other| one == other,
            );
        }
    }

    /// The file has no bytes at `len` and beyond.
    pub(crate) fn cut(&mut self, len: u64) {
        self.remove(len..u64::MAX);
    }

    /// True when something may be there for [`take`](Self::take).
    #[inline]
    pub(crate) fn has_durable(&self) -> bool {
        self.has_durable
    }

    /// What is durable and was not told yet: sorted, disjoint, none touching another.
    pub(crate) fn take(&mut self) -> Vec<Range<u64>> {
        if !std::mem::take(&mut self.has_durable) {
            return Vec::new();
        }
        let durable = self.pieces.iter().filter(|(_, piece)| piece.state == State::Durable);
        let ranges = durable.map(|(start, piece)| *start..piece.end).collect();
        self.pieces.retain(|_, piece| piece.state != State::Durable);
        ranges
    }

    /// A range that was taken, and could not be told.
    pub(crate) fn put_back(&mut self, range: Range<u64>) {
        self.set(range, State::Durable);
    }

    /// True when it is so near to its limit that coalescing again and again would be a waste.
    pub(crate) fn is_crowded(&self) -> bool {
        self.pieces.len() > self.ranges_max / 4 * 3
    }

    /// True when one more write could bring it beyond its limit (rule 6): in the middle of another range,
    /// it makes three of one.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.pieces.len() + 2 > self.ranges_max
    }

    /// Ranges that touch become one (rule 5).
    pub(crate) fn coalesce(&mut self) {
        self.rebuild(|state| state, |_, _| true);
    }

    /// The state of what was handed over under this number.
    fn sent(&self, number: u64) -> State {
        if number <= self.settled { State::Durable } else { State::Sent(number) }
    }

    #[inline]
    fn set(&mut self, range: Range<u64>, state: State) {
        if range.is_empty() {
            return;
        }
        let before = self.pieces.range(..=range.start).next_back();
        if before.is_some_and(|(_, piece)| piece.state == state && piece.end >= range.end) {
            return;
        }
        self.has_durable |= state == State::Durable;
        self.remove(range.clone());
        let Range { mut start, mut end } = range;
        let before = self.pieces.range(..start).next_back();
        if let Some((begin, _)) = before.filter(|(_, it)| it.end == start && it.state == state) {
            start = *begin;
        }
        if self.pieces.get(&end).is_some_and(|after| after.state == state) {
            end = self.pieces.remove(&end).map_or(end, |after| after.end);
        }
        self.pieces.insert(start, Piece { end, state });
        if self.pieces.len() > self.ranges_max {
            self.coalesce();
        }
    }

    /// Nothing is known of `range` any more.
    fn remove(&mut self, range: Range<u64>) {
        let before = self.pieces.range_mut(..range.start).next_back();
        if let Some((_, piece)) = before.filter(|(_, piece)| piece.end > range.start) {
            let whole = *piece;
            piece.end = range.start;
            self.keep_beyond(range.end, whole);
        }
        while let Some(start) = self.pieces.range(range.clone()).next().map(|(start, _)| *start) {
            if let Some(piece) = self.pieces.remove(&start) {
                self.keep_beyond(range.end, piece);
            }
        }
    }

    fn keep_beyond(&mut self, start: u64, piece: Piece) {
        if piece.end > start {
            self.pieces.insert(start, piece);
        }
    }

    /// Gives every range the state that `now` says; those that touch become one where `merges` says so of
    /// their states.
    fn rebuild(&mut self, now: impl Fn(State) -> State, merges: impl Fn(State, State) -> bool) {
        let mut pieces: Vec<(u64, Piece)> = Vec::with_capacity(self.pieces.len());
        for (start, Piece { end, state }) in std::mem::take(&mut self.pieces) {
            let state = now(state);
            self.has_durable |= state == State::Durable;
            match pieces.last_mut() {
                Some((_, last)) if last.end == start && merges(last.state, state) => {
                    last.end = end;
                    last.state = last.state.max(state);
                }
                _ => pieces.push((start, Piece { end, state })),
            }
        }
        self.pieces = pieces.into_iter().collect();
    }
}

#[cfg(test)]
mod tests;
