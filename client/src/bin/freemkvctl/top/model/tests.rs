//! Keys and reports, in the order in which they may come.

use freemkvd_proto::status::StreamState;

use super::*;
use crate::top::sample::{degraded, status, stream};

fn shown(status: Status) -> Model {
    let mut model = Model::default();
    model.hear(Answer::Status(Box::new(status)));
    model
}

fn press(model: &mut Model, code: KeyCode) -> Step {
    model.press(KeyEvent::new(code, KeyModifiers::NONE))
}

fn ids(model: &Model) -> Vec<u64> {
    model.streams().iter().map(|stream| stream.id).collect()
}

#[test]
fn the_selection_stays_with_its_stream_and_within_the_list() {
    let mut model = shown(degraded());
    assert_eq!((ids(&model), model.selected), (vec![3, 14, 1, 2], Some(3)));
    press(&mut model, KeyCode::Char('j'));
    assert_eq!(model.selected, Some(14));
    for _ in 0..9 {
        press(&mut model, KeyCode::Down);
    }
    assert_eq!(model.selected, Some(2));
    let mut next = degraded();
    next.streams[1].state = StreamState::NoSpace;
    model.hear(Answer::Status(Box::new(next.clone())));
    assert_eq!((ids(&model), model.selected), (vec![3, 14, 2, 1], Some(2)));
    // When it is gone, the one that has come to its place.
    next.streams.remove(1);
    model.hear(Answer::Status(Box::new(next)));
    assert_eq!((ids(&model), model.selected), (vec![3, 14, 1], Some(1)));
    for _ in 0..9 {
        press(&mut model, KeyCode::Up);
    }
    assert_eq!(model.selected, Some(3));
    press(&mut model, KeyCode::Char('s'));
    assert_eq!((ids(&model), model.selected), (vec![1, 3, 14], Some(3)));
    model.hear(Answer::Status(Box::new(status(vec![]))));
    assert_eq!((press(&mut model, KeyCode::Char('j')), model.selected), (Step::Nothing, None));
}

#[test]
fn only_a_yes_gives_a_stream_up() {
    let mut model = shown(degraded());
    for no in [KeyCode::Char('n'), KeyCode::Esc, KeyCode::Enter, KeyCode::Char('a')] {
        press(&mut model, KeyCode::Char('a'));
        assert!(model.doomed.as_ref().is_some_and(|doomed| doomed.stream == 3));
        assert_eq!((press(&mut model, no), model.doomed.is_none()), (Step::Nothing, true));
    }
    press(&mut model, KeyCode::Char('a'));
    assert_eq!(press(&mut model, KeyCode::Char('y')), Step::Ask(Ask::Abort(3)));
    // It is on its way.
    press(&mut model, KeyCode::Char('a'));
    assert_eq!(press(&mut model, KeyCode::Char('y')), Step::Nothing);
    model.hear(Answer::Done(Ask::Abort(3), Ok(())));
    assert_eq!(model.told, Some(Ok("stream 3 was given up".to_owned())));
}

#[test]
fn a_question_is_dropped_with_what_it_was_about() {
    let other_file = |mut status: Status| {
        status.streams[2].path = "/rips/other.mkv".into();
        status
    };
    for next in [
        Answer::Status(Box::new(Status { pid: 812, ..degraded() })),
        Answer::Status(Box::new(status(vec![]))),
        Answer::Status(Box::new(other_file(degraded()))),
        Answer::Away("away".into()),
    ] {
        let mut model = shown(degraded());
        press(&mut model, KeyCode::Char('a'));
        model.hear(next);
        assert_eq!(press(&mut model, KeyCode::Char('y')), Step::Nothing);
    }
    let mut model = shown(degraded());
    press(&mut model, KeyCode::Char('a'));
    model.hear(Answer::Status(Box::new(degraded())));
    assert_eq!(press(&mut model, KeyCode::Char('y')), Step::Ask(Ask::Abort(3)));
}

#[test]
fn weights_go_in_steps_between_their_ends() {
    for (weight, less, more) in
        [(10, 10, 20), (95, 90, 100), (100, 90, 150), (150, 100, 200), (1000, 950, 1000)]
    {
        assert_eq!(
            (next_weight(weight, false), next_weight(weight, true)),
            (less, more),
            "{weight}"
        );
    }
    let mut model = shown(status(vec![stream(1)]));
    assert_eq!(press(&mut model, KeyCode::Char('+')), Step::Ask(Ask::Weight(1, 150)));
    assert_eq!(press(&mut model, KeyCode::Char('+')), Step::Nothing);
    model.hear(Answer::Done(Ask::Weight(1, 150), Err("no".into())));
    assert_eq!(model.told, Some(Err("no".to_owned())));
    assert_eq!(press(&mut model, KeyCode::Char('-')), Step::Ask(Ask::Weight(1, 90)));
}

#[test]
fn a_paused_stream_goes_on_by_the_same_key() {
    let paused = Stream { state: StreamState::Paused, ..stream(2) };
    // It is to stand still, and has not come to that yet.
    let throttled = Stream { state: StreamState::Throttled, paused: Some(true), ..stream(2) };
    let resumed = Stream { paused: Some(false), ..paused.clone() };
    let streams = [(stream(2), true), (paused, false), (throttled, false), (resumed, true)];
    for (stream, pause) in streams {
        let mut model = shown(status(vec![stream]));
        let ask = Ask::Pause(2, pause);
        assert_eq!(press(&mut model, KeyCode::Char('p')), Step::Ask(ask.clone()));
        assert_eq!(press(&mut model, KeyCode::Char('p')), Step::Nothing);
        model.hear(Answer::Done(ask, Ok(())));
        let words = if pause { "stream 2 is paused" } else { "stream 2 goes on" };
        assert_eq!(model.told, Some(Ok(words.to_owned())));
    }
}

#[test]
fn the_pane_follows_the_selection_and_closes_before_the_end() {
    let mut model = shown(degraded());
    assert_eq!(press(&mut model, KeyCode::Enter), Step::Ask(Ask::Follow(Some(3))));
    assert_eq!(press(&mut model, KeyCode::Char('j')), Step::Ask(Ask::Follow(Some(14))));
    // What comes late is of another stream.
    model.hear(Answer::Why(3, Err("late".into())));
    assert!(model.why.as_ref().is_some_and(|pane| pane.told.is_none()));
    model.hear(Answer::Why(14, Err("too old".into())));
    assert!(model.why.as_ref().is_some_and(|pane| pane.told.is_some()));
    assert_eq!(press(&mut model, KeyCode::Esc), Step::Ask(Ask::Follow(None)));
    assert_eq!(press(&mut model, KeyCode::Esc), Step::Quit);
    for end in [
        KeyEvent::from(KeyCode::Char('q')),
        KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL),
    ] {
        assert_eq!(model.press(end), Step::Quit);
    }
}

#[test]
fn while_the_daemon_is_away_no_figure_stays() {
    let mut model = shown(degraded());
    model.hear(Answer::Away("no freemkvd".into()));
    assert!(model.streams().is_empty() && model.away.is_some());
    for key in ['a', '+', '-', 'j', 's', '?'] {
        assert_eq!(press(&mut model, KeyCode::Char(key)), Step::Nothing);
    }
    model.hear(Answer::Status(Box::new(degraded())));
    assert!(model.away.is_none() && model.selected == Some(3));
}

#[test]
fn escape_closes_the_help_before_the_end() {
    let mut model = shown(degraded());
    assert_eq!(press(&mut model, KeyCode::Char('?')), Step::Nothing);
    assert!(model.has_help);
    assert_eq!(press(&mut model, KeyCode::Esc), Step::Nothing);
    assert!(!model.has_help);
    assert_eq!(press(&mut model, KeyCode::Esc), Step::Quit);
}
