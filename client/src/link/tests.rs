//! The link by itself: numbers, seeks, and what it does not believe.

use std::path::Path;

use freemkvd_proto::{Decoder, Mark, OpenMode, Opened, Progress, Sender, Step, WirePath};

use super::*;

fn link() -> Link {
    let open = proto::Open {
        path: WirePath::from_path(Path::new("/rips/film.mkv")).unwrap(),
        mode: OpenMode::Create,
        size_hint_bytes: None,
        transfer: proto::message::Transfer::Inline,
    };
    Link::new(Pool::new(4), open)
}

fn write(link: &mut Link, offset: u64, len: usize) {
    let slot = link.pool.take().unwrap();
    let range = 0..len;
    link.push_write(offset, Part { slot, range });
}

/// Sends everything; kind and number of each frame.
fn sent(link: &mut Link) -> Vec<(Kind, u64)> {
    let mut frames = Vec::new();
    while link.has_work() {
        let mut head = Vec::new();
        for part in link.send(&mut head).unwrap() {
            link.pool.put(part.slot);
        }
        let mut decoder = Decoder::new(Sender::Client);
        let mut rest = &head[..];
        while !rest.is_empty() {
            let space = decoder.space();
            let count = space.len();
            space.copy_from_slice(&rest[..count]);
            rest = &rest[count..];
            match decoder.advance(count).unwrap() {
                Step::More => {}
                Step::Write(header) | Step::Control(header, _) => {
                    frames.push((header.kind(), header.sequence()));
                }
            }
        }
    }
    frames
}

fn written(sequence: u64) -> Reply {
    let mark = Mark { sequence, bytes: 1 };
    Reply::Progress(Progress { accepted: mark, written: mark, durable: Mark::default() })
}

#[test]
fn a_seek_goes_only_before_what_is_elsewhere() {
    let mut link = link();
    write(&mut link, 0, 15);
    link.push(Command::SetLen { len: 99 });
    link.push(Command::WriteZeroes { offset: 15, len: 5 });
    write(&mut link, 3, 1);
    let expected = [
        (Kind::Open, 0),
        (Kind::Write, 1),
        (Kind::SetLen, 2),
        (Kind::WriteZeroes, 3),
        (Kind::Seek, 4),
        (Kind::Write, 5),
    ];
    assert_eq!(sent(&mut link), expected);
}

#[test]
fn commands_are_kept_and_slots_in_use_until_written() {
    let mut link = link();
    for i in 0..4 {
        write(&mut link, i, 1);
        sent(&mut link);
    }
    assert!(link.pool.take().is_none());
    assert_eq!(link.kept(), 5);
    assert_eq!(link.answer(3, written(3)).unwrap(), Answered::GoesOn);
    assert_eq!(link.kept(), 1);
    assert!(!link.is_all_written());
    assert_eq!(link.pool.take().into_iter().count(), 1);
    assert_eq!(link.pool.allocated(), 4);
}

#[test]
fn an_abort_leaves_no_gap_in_the_numbers() {
    let mut link = link();
    write(&mut link, 0, 1);
    sent(&mut link);
    write(&mut link, 1, 1);
    write(&mut link, 2, 1);
    link.abort();
    assert_eq!(sent(&mut link), [(Kind::Abort, 2)]);
    assert_eq!(link.answer(2, Reply::Aborted).unwrap(), Answered::Ended);
}

#[test]
fn watermarks_that_can_not_be_are_not_believed() {
    let mut link = link();
    write(&mut link, 0, 1);
    sent(&mut link);
    write(&mut link, 1, 1);
    sent(&mut link);
    assert!(link.answer(0, written(3)).is_err());
    assert!(link.answer(0, written(2)).is_ok());
    assert!(link.answer(0, written(1)).is_err());
    assert!(link.answer(9, Reply::Synced).is_err());
    let opened =
        Reply::Opened(Opened { stream: 1, len_bytes: 0, queue_limit_bytes: 0, window_bytes: 0 });
    assert!(link.answer(0, opened.clone()).is_ok());
    assert!(link.answer(0, opened).is_err());
}

#[test]
fn a_sync_is_asked_for_once_for_the_same_content() {
    let mut link = link();
    let first = link.sync();
    assert_eq!(link.sync(), first);
    write(&mut link, 0, 1);
    let second = link.sync();
    assert!(second > first);
    sent(&mut link);
    assert!(link.answer(first, Reply::Synced).is_ok());
    assert!(link.is_synced(first) && !link.is_synced(second));
}

#[test]
fn a_closed_link_ends_when_the_last_is_written() {
    let mut link = link();
    write(&mut link, 0, 1);
    let last = link.close();
    sent(&mut link);
    assert_eq!(link.answer(0, written(1)).unwrap(), Answered::GoesOn);
    assert_eq!(link.answer(0, written(last)).unwrap(), Answered::Ended);
}

#[test]
fn neighbours_that_were_not_sent_go_in_one_frame() {
    let mut link = link();
    assert_eq!(sent(&mut link), [(Kind::Open, 0)]);
    write(&mut link, 0, 100);
    write(&mut link, 100, 100);
    write(&mut link, 300, 100);
    assert_eq!(sent(&mut link), [(Kind::Write, 1), (Kind::Seek, 2), (Kind::Write, 3)]);
    assert_eq!(link.answer(0, written(3)).unwrap(), Answered::GoesOn);
    // What is on its way is not touched any more.
    write(&mut link, 400, 100);
    assert_eq!(sent(&mut link), [(Kind::Write, 4)]);
}
