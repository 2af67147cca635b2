//! What of all that streams do is to be told, and when: each stall, each wait for space and each failure once.
//!
//! Pure: the time is an argument.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::budget::StreamId;
use crate::log::event;

/// What is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Failed,
    NoSpace,
    Stalled,
}

impl Kind {
    /// As `freemkvctl watch --json` and, where it has such a message, the journal call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Failed => event::STREAM_FAILED,
            Self::NoSpace => event::STREAM_NO_SPACE,
            Self::Stalled => "stream-stalled",
        }
    }
}

/// What a stream does that may be worth telling, and for how long; `None` for as long as it has been seen to.
pub(super) type Step = (Kind, Option<Duration>);

/// How far two computations may differ of when the same step began: they read the clock a moment apart. Less than the
/// time between two looks.
const SLACK: Duration = Duration::from_millis(100);

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Due {
    streams: BTreeMap<StreamId, State>,
}

/// What is known of a stream that does such a thing.
#[derive(Clone, Copy, Debug)]
struct State {
    kind: Kind,
    /// When it began.
    since: Duration,
    is_told: bool,
}

impl Due {
    /// What is to be told of these streams now, of a stall that has lasted for `stall`, and for how long each has
    /// lasted. Those that are not among them any more are forgotten.
    pub(super) fn look(
        &mut self,
        streams: impl Iterator<Item = (StreamId, Option<Step>)>,
        stall: Duration,
        now: Duration,
    ) -> Vec<(StreamId, Kind, Duration)> {
        let mut before = std::mem::take(&mut self.streams);
        let mut told = Vec::new();
        for (stream, step) in streams {
            let was = before.remove(&stream);
            let Some((kind, age)) = step else { continue };
            let mut state = goes_on(was, kind, age, now);
            let age = now.saturating_sub(state.since);
            if !state.is_told && (kind != Kind::Stalled || age >= stall) {
                state.is_told = true;
                told.push((stream, kind, age));
            }
            self.streams.insert(stream, state);
        }
        told
    }
}

/// The step that a stream is in: the one that it was in when it was looked last, or a new one.
fn goes_on(was: Option<State>, kind: Kind, age: Option<Duration>, now: Duration) -> State {
    let since = age.map(|age| now.saturating_sub(age));
    let is_same = |was: &State| {
        let began_later = since.is_some_and(|since| since > was.since + SLACK);
        // A stream fails once, whatever its thread does then.
        was.kind == kind && (kind == Kind::Failed || !began_later)
    };
    let new = State { kind, since: since.unwrap_or(now), is_told: false };
    was.filter(is_same).unwrap_or(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);
    const MS: Duration = Duration::from_millis(1);

    /// What is told of stream 1, which does this now.
    fn told(due: &mut Due, step: Option<Step>, now: Duration) -> Vec<Kind> {
        let all = due.look([(1, step)].into_iter(), 60 * S, now);
        all.into_iter().map(|(_, kind, _)| kind).collect()
    }

    fn stalled_since(since: Duration, now: Duration) -> Option<Step> {
        Some((Kind::Stalled, Some(now - since)))
    }

    #[test]
    fn a_stall_is_told_once_when_it_has_lasted_and_the_next_one_again() {
        let mut due = Due::default();
        let mut all = Vec::new();
        // One call hangs from 10 s to 100 s, and the next from then on. The looks are a little off.
        for half in 20..400 {
            let now = 500 * MS * half + MS * (half % 7);
            let since = if now < 100 * S { 10 * S } else { 100 * S };
            let step = stalled_since(since + MS * (half % 5), now + 5 * MS);
            all.extend(told(&mut due, step, now).into_iter().map(|_| now.as_secs()));
        }
        assert_eq!(all, [70, 160]);
    }

    #[test]
    fn a_call_that_returns_in_time_is_no_stall() {
        let mut due = Due::default();
        for second in 1..300 {
            let now = second * S;
            assert_eq!(told(&mut due, stalled_since(now - 59 * S.min(now / 59), now), now), []);
        }
    }

    #[test]
    fn the_edge_is_exact_and_a_shorter_limit_counts_at_once() {
        let mut due = Due::default();
        let mut look = |stall, now| {
            let step = stalled_since(10 * S, now);
            due.look([(1, step)].into_iter(), stall, now).len()
        };
        assert_eq!(look(60 * S, 70 * S - MS), 0);
        assert_eq!(look(50 * S, 70 * S - MS), 1);
        assert_eq!(look(90 * S, 80 * S), 0);
        assert_eq!(look(90 * S, 200 * S), 0, "it is the same stall");
    }

    #[test]
    fn what_has_no_age_counts_from_when_it_was_seen_first() {
        let (mut due, sick) = (Due::default(), Some((Kind::Stalled, None)));
        assert_eq!(told(&mut due, sick, 100 * S), []);
        assert_eq!(told(&mut due, sick, 159 * S), []);
        assert_eq!(told(&mut due, sick, 160 * S), [Kind::Stalled]);
        assert_eq!(told(&mut due, sick, 1000 * S), []);
        assert_eq!(told(&mut due, None, 1001 * S), []);
        assert_eq!(told(&mut due, sick, 1002 * S), []);
        assert_eq!(told(&mut due, sick, 1062 * S), [Kind::Stalled]);
    }

    #[test]
    fn each_wait_for_space_is_told_at_once() {
        let mut due = Due::default();
        let waits = |age| Some((Kind::NoSpace, Some(age)));
        assert_eq!(told(&mut due, waits(Duration::ZERO), 5 * S), [Kind::NoSpace]);
        assert_eq!(told(&mut due, waits(500 * MS), 5 * S + 500 * MS), []);
        // It had space for a moment that nobody has seen.
        assert_eq!(told(&mut due, waits(200 * MS), 6 * S), [Kind::NoSpace]);
        assert_eq!(told(&mut due, None, 7 * S), []);
        assert_eq!(told(&mut due, waits(100 * MS), 8 * S), [Kind::NoSpace]);
    }

    #[test]
    fn a_stream_fails_once_and_others_are_no_matter_of_it() {
        let mut due = Due::default();
        let failed = |age| Some((Kind::Failed, Some(age)));
        let space = Some((Kind::NoSpace, Some(S)));
        let mut look = |streams: &[(StreamId, Option<Step>)], now| {
            let all = due.look(streams.iter().copied(), 60 * S, now);
            all.into_iter().map(|(stream, kind, _)| (stream, kind)).collect::<Vec<_>>()
        };
        assert_eq!(look(&[(1, space), (2, None)], 2 * S), [(1, Kind::NoSpace)]);
        assert_eq!(look(&[(1, failed(MS)), (2, None)], 3 * S), [(1, Kind::Failed)]);
        let both = [(1, failed(MS)), (2, failed(MS))];
        assert_eq!(look(&both, 9 * S), [(2, Kind::Failed)]);
        assert_eq!(look(&[(2, failed(7 * S))], 10 * S), []);
        assert_eq!(due.streams.len(), 1, "who is gone is forgotten");
    }
}
