//! Pictures, drawn into memory.

use freemkvd_proto::status::Status;
use freemkvd_proto::waits::{Cause, Part, Waits};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{KeyCode, KeyEvent};

use super::*;
use crate::top::asker::Answer;
use crate::top::sample::{degraded, status, stream};

fn shown(status: &Status) -> Model {
    let mut model = Model::default();
    for _ in 0..3 {
        model.hear(Answer::Status(Box::new(status.clone())));
    }
    model
}

fn buffer(model: &Model, width: u16, height: u16, colour: bool) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, model, Paint { colour })).unwrap();
    terminal.backend().buffer().clone()
}

/// The picture as text, curves as digits.
fn picture(model: &Model, width: u16, height: u16) -> Vec<String> {
    let buffer = buffer(model, width, height, true);
    let rows = buffer.content().chunks(width.into());
    let text =
        |row: &[ratatui::buffer::Cell]| row.iter().map(|cell| cell.symbol()).collect::<String>();
    rows.map(|row| text(row).trim_end().replace('\u{2588}', "8")).collect()
}

fn press(model: &mut Model, code: KeyCode) {
    model.press(KeyEvent::from(code));
}

#[test]
fn eighty_by_twenty_four_is_enough() {
    let expected = "\
freemkvd 0.1.0 running for 3 h 12 min, pid 811
4 streams: in 216 MiB/s from muxers, out 142 MiB/s to devices
dirty 100 MiB of 512 MiB (kernel: 45.0 MiB), queued 20.0 MiB of 256 MiB
budget [1==2==14=---                                                     ] 19 %
failed: stream 3, /rips/The Third Man (1949)/title_t03.mkv: input/output error
  (errno 5 at byte 4096)
stalled in fdatasync for 1 min 35 s on nas:/rips: stream 14, /mnt/nas/disc.iso
device 0:52 has been wedged for 1 min 35 s: /mnt/nas (nfs4) has 48.0 MiB to
  write back

DEVICE  MOUNT     FS    STATE              DRAIN      DIRTY/LIMIT  RATE/s    P95
0:52    /mnt/nas  nfs4  wedged 1 min 35 s  fdatasync   48.0M/256M    143M  48 ms
8:17    /rips     ext4  healthy            dontcache   48.0M/256M    143M  48 ms

ID  FILE                STATE     IN/s         OUT/s         QUEUE  DIRTY/WINDOW
 3  ...)/title_t03.mkv  failed      0B            0B         10.0M      0B/64.0M
14  /mnt/nas/disc.iso   stalled  72.0M    888     0B         10.0M   24.0M/64.0M
 1  ...)/title_t01.mkv  writing  72.0M    888  71.0M    888  10.0M   24.0M/64.0M
 2  ...)/title_t02.mkv  idle     72.0M    888  71.0M    888  10.0M   24.0M/64.0M


stream 3, /rips/The Third Man (1949)/title_t03.mkv: failed, weight 100, muxer
  4001
sorted by trouble  ? keys  q quit";
    assert_eq!(picture(&shown(&degraded()), 80, 24).join("\n"), expected);
}

#[test]
fn the_selected_stream_is_in_sight_and_reversed() {
    let mut model = shown(&status((1..=40).map(stream).collect()));
    for _ in 0..29 {
        press(&mut model, KeyCode::Char('j'));
    }
    let buffer = buffer(&model, 80, 24, false);
    let reversed =
        buffer.content().iter().filter(|cell| cell.modifier.contains(Modifier::REVERSED));
    let line: String = reversed.map(|cell| cell.symbol()).collect();
    assert!(line.starts_with("30  ...)/title_t30.mkv"), "{line}");
    assert_eq!(line.chars().count(), 80);
}

#[test]
fn without_colour_there_is_none() {
    let all = |colour| buffer(&shown(&degraded()), 80, 24, colour);
    let plain = |cell: &ratatui::buffer::Cell| cell.fg == Color::Reset && cell.bg == Color::Reset;
    assert!(all(false).content().iter().all(plain));
    assert!(!all(true).content().iter().all(plain));
}

#[test]
fn a_question_and_what_came_of_it_are_the_last_line() {
    let mut model = shown(&degraded());
    press(&mut model, KeyCode::Char('a'));
    let question = "give stream 3 up? y/n: /rips/The Third Man (1949)/title_t03.mkv";
    assert_eq!(picture(&model, 80, 24)[23], question);
    press(&mut model, KeyCode::Char('n'));
    press(&mut model, KeyCode::Char('?'));
    let with_help = picture(&model, 80, 24);
    assert!(with_help[23].starts_with("j/k select"), "{with_help:#?}");
    assert!(with_help.iter().any(|line| line.starts_with("The budget")), "{with_help:#?}");
    model.hear(Answer::Done(crate::top::asker::Ask::Abort(3), Err("not \u{1b}[2Jyours".into())));
    assert_eq!(picture(&model, 80, 24)[23], "not \\u{1b}[2Jyours");
}

#[test]
fn the_pane_has_the_text_of_why() {
    let second = 1_000_000_000;
    let part = |cause, ns, held_ns| Part { cause, ns, held_ns, recent_ns: ns, recent_held_ns: 0 };
    let waits = Waits {
        stream: 3,
        path: "/rips/a.mkv".into(),
        client_pid: None,
        ended_seconds_ago: None,
        error: None,
        lifetime_ns: 20 * second,
        recent_ns: 20 * second,
        now: Cause::Muxer,
        now_ns: second,
        parts: vec![part(Cause::Muxer, 4 * second, 0), part(Cause::Write, 16 * second, 8 * second)],
    };
    let mut model = shown(&degraded());
    press(&mut model, KeyCode::Enter);
    assert!(picture(&model, 80, 24)[5].contains("asking freemkvd"));
    model.hear(Answer::Why(3, Ok(Box::new(waits))));
    let picture = picture(&model, 80, 24);
    assert!(picture[4].contains(" why: stream 3 ") && picture[5].contains("stream 3: /rips/a.mkv"));
    let worst = picture.iter().position(|line| line.contains("in write calls"));
    let other = picture.iter().position(|line| line.contains("waiting for its muxer  "));
    assert!(worst.is_some() && worst < other, "{picture:#?}");
}

#[test]
fn while_the_daemon_is_away_that_is_all_there_is() {
    let mut model = shown(&degraded());
    model.hear(Answer::Away("no freemkvd at /run/freemkvd.sock: connection refused".into()));
    let picture = picture(&model, 80, 24);
    assert_eq!(picture[0], "no freemkvd at /run/freemkvd.sock: connection refused; trying again");
    assert!(picture[1..23].iter().all(String::is_empty));
}

#[test]
fn no_terminal_is_too_small_and_none_too_large() {
    let mut model = shown(&degraded());
    for (width, height) in [(1, 1), (10, 3), (40, 10), (80, 24), (300, 100)] {
        assert_eq!(picture(&model, width, height).len(), usize::from(height));
    }
    press(&mut model, KeyCode::Enter);
    press(&mut model, KeyCode::Char('?'));
    for (width, height) in [(1, 1), (3, 2), (10, 5), (300, 100)] {
        assert_eq!(picture(&model, width, height).len(), usize::from(height));
    }
}
