//! The rates of the last reports, for the small curves.
//!
//! 1. Of each stream there are [`KEPT`] at most, and none of streams that the last report does not have.

use std::collections::{BTreeMap, VecDeque};

use freemkvd_proto::status::Status;

/// As many as the widest curve has columns.
const KEPT: usize = 60;

/// Nothing, and eight heights.
const HEIGHTS: [char; 9] = [
    ' ', '\u{2581}', '\u{2582}', '\u{2583}', '\u{2584}', '\u{2585}', '\u{2586}', '\u{2587}',
    '\u{2588}',
];

/// One rate, oldest first.
type Ring = VecDeque<u64>;

/// What the last reports said.
#[derive(Debug, Default)]
pub(super) struct History {
    /// The daemon that it is of: another one's streams are others.
    pid: u32,
    streams: BTreeMap<u64, [Ring; 2]>,
}

impl History {
    /// Takes the rates of this report in.
    pub(super) fn add(&mut self, status: &Status) {
        if self.pid != status.pid {
            self.streams.clear();
            self.pid = status.pid;
        }
        self.streams.retain(|id, _| status.streams.iter().any(|stream| stream.id == *id));
        for stream in &status.streams {
            let rings = self.streams.entry(stream.id).or_default();
            let rates = [stream.in_bytes_per_second, stream.out_bytes_per_second];
            for (ring, rate) in rings.iter_mut().zip(rates) {
                if ring.len() == KEPT {
                    ring.pop_front();
                }
                ring.push_back(rate);
            }
        }
    }

    /// The curves of what came in and what went out, in this many columns, the newest at the right. Both have the
    /// same scale, so that one can be held against the other.
    pub(super) fn curves(&self, stream: u64, width: usize) -> [String; 2] {
        let Some(rings) = self.streams.get(&stream) else {
            return [String::new(), String::new()];
        };
        let newest = |ring: &Ring| ring.iter().rev().take(width).copied().collect::<Vec<_>>();
        let [incoming, outgoing] = rings.each_ref().map(newest);
        let highest = incoming.iter().chain(&outgoing).copied().max().unwrap_or(0);
        [incoming, outgoing].map(|rates| {
            let curve: String = rates.iter().rev().map(|rate| height(*rate, highest)).collect();
            format!("{curve:>width$}")
        })
    }
}

/// Whatever moves at all is seen.
fn height(rate: u64, highest: u64) -> char {
    let step = (u128::from(rate) * 8).div_ceil(u128::from(highest.max(1)));
    HEIGHTS[usize::try_from(step).unwrap_or(8).min(8)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::sample::{status, stream};

    fn report(rates: &[(u64, u64, u64)]) -> Status {
        let streams = rates.iter().map(|&(id, incoming, outgoing)| {
            let mut stream = stream(id);
            stream.in_bytes_per_second = incoming;
            stream.out_bytes_per_second = outgoing;
            stream
        });
        status(streams.collect())
    }

    #[test]
    fn curves_have_one_scale_and_the_newest_at_the_right() {
        let mut history = History::default();
        for rate in [0, 1, 50, 100] {
            history.add(&report(&[(1, rate, rate / 2)]));
        }
        let [incoming, outgoing] = history.curves(1, 5);
        assert_eq!(incoming, "  \u{2581}\u{2584}\u{2588}");
        assert_eq!(outgoing, "   \u{2582}\u{2584}");
        assert_eq!(history.curves(1, 2)[0], "\u{2584}\u{2588}");
        assert_eq!(history.curves(7, 2), ["", ""]);
    }

    #[test]
    fn it_does_not_grow_and_forgets_who_is_gone() {
        let mut history = History::default();
        for rate in 0..200 {
            history.add(&report(&[(1, rate, 0), (2, 0, u64::MAX)]));
        }
        assert!(history.streams.values().flatten().all(|ring| ring.len() == KEPT));
        history.add(&report(&[(2, 0, 0)]));
        assert_eq!(history.streams.keys().copied().collect::<Vec<_>>(), [2]);
        history.add(&Status { pid: 812, ..report(&[(2, 7, 0)]) });
        assert_eq!(history.streams[&2][0], [7]);
    }
}
