//! The link by itself: numbers, seeks, and what it does not believe.

use std::path::Path;
use std::sync::Arc;

use freemkvd_proto::{Decoder, Mark, OpenMode, Opened, Progress, Sender, Step, WirePath};

use super::*;

fn link() -> Link {
    link_with(None)
}

fn link_with(token: Option<proto::Token>) -> Link {
    let open = proto::Open {
        path: WirePath::from_path(Path::new("/rips/film.mkv")).unwrap(),
        mode: OpenMode::Create,
        size_hint_bytes: None,
        transfer: proto::Transfer::Inline,
        weight: 100,
        window_bytes: None,
    };
    let (publish, leftover) = (false, proto::Leftover::Keep);
    Link::new(Pool::new(4), proto::OpenFile { token, open, publish, leftover })
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
        decode(&head, |header, _| frames.push((header.kind(), header.sequence())));
    }
    frames
}

/// Each frame in what a link has sent, without the content of a `Write`: its header and its body.
pub(super) fn decode(mut bytes: &[u8], mut each: impl FnMut(&Header, &[u8])) {
    let mut decoder = Decoder::new(Sender::Client);
    while !bytes.is_empty() {
        let space = decoder.space();
        let count = space.len();
        space.copy_from_slice(&bytes[..count]);
        bytes = &bytes[count..];
        match decoder.advance(count).unwrap() {
            Step::More => {}
            Step::Write(header) => each(&header, &[]),
            Step::Control(header, body) => each(&header, body),
        }
    }
}

fn written(sequence: u64) -> Reply {
    let mark = Mark { sequence, bytes: 1 };
    Reply::Progress(Progress { accepted: mark, written: mark, durable: Mark::default() })
}

fn written_with(mark: Mark, durable: Mark) -> Reply {
    Reply::Progress(Progress { accepted: mark, written: mark, durable })
}

fn opened(shared: bool) -> Reply {
    let (stream, len_bytes, queue_limit_bytes, window_bytes) = (1, 0, 0, 0);
    Reply::Opened(Opened { stream, len_bytes, queue_limit_bytes, window_bytes, shared })
}

/// A link that has offered four slots, and was answered; `None` where there are none.
fn link_with_slots(shared: bool) -> Option<Link> {
    let (_, pieces) = crate::memory::allocate(4, crate::slot::SLOT_BYTES)?;
    let mut link = link();
    link.pool = Pool::shared(pieces);
    assert_eq!(sent(&mut link), [(Kind::Open, 0)]);
    assert_eq!(link.answer(0, opened(shared)).unwrap(), Answered::GoesOn);
    Some(link)
}

#[test]
fn content_in_shared_slots_stays_where_it_is() {
    let Some(mut link) = link_with_slots(true) else { return };
    for offset in [0, 100, 7000] {
        write(&mut link, offset, 100);
    }
    let mut head = Vec::new();
    assert!(link.send(&mut head).unwrap().is_empty());
    let part = |slot| proto::SlotPart { slot, start: 0, len: 100 };
    let frames = [
        proto::Command::WriteSlots(proto::WriteSlots { parts: vec![part(0), part(1)] }),
        proto::Command::Seek(proto::Seek { offset: 7000 }),
        proto::Command::WriteSlots(proto::WriteSlots { parts: vec![part(2)] }),
    ];
    let frames = (1..).zip(&frames).map(|(number, frame)| frame.encode(number).unwrap());
    assert_eq!(head, frames.collect::<Vec<_>>().concat());
    // The first three are the daemon's until they are written.
    assert_eq!(link.pool.take().unwrap().number(), Some(3));
    assert!(link.pool.take().is_none());
    assert_eq!(link.answer(0, written(1)).unwrap(), Answered::GoesOn);
    let free: Vec<_> = std::iter::from_fn(|| link.pool.take()).collect();
    assert_eq!(free.len(), 2);
    assert!(free.iter().all(|slot| slot.number() < Some(2)));
}

#[test]
fn slots_that_the_daemon_does_not_use_are_memory_all_the_same() {
    let Some(mut link) = link_with_slots(false) else { return };
    write(&mut link, 0, 100);
    assert_eq!(sent(&mut link), [(Kind::Write, 1)]);
}

#[test]
fn a_frame_has_no_more_parts_than_it_may() {
    let mut link = link();
    let slot = link.pool.take().unwrap();
    for number in 0..=SLOT_PARTS_MAX {
        link.push_write(number as u64, Part { slot: Arc::clone(&slot), range: number..number + 1 });
    }
    assert_eq!(sent(&mut link), [(Kind::Open, 0), (Kind::Write, 1), (Kind::Write, 2)]);
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
    assert!(link.answer(0, opened(true)).is_err(), "nobody has offered slots");
    assert!(link.answer(0, opened(false)).is_ok());
    assert!(link.answer(0, opened(false)).is_err());
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
fn a_sync_that_nobody_waits_for_is_one_at_a_time_and_covers_everything_in_the_end() {
    let mut link = link();
    write(&mut link, 0, 1);
    link.sync_soon();
    assert_eq!(sent(&mut link), [(Kind::Open, 0), (Kind::Write, 1), (Kind::Sync, 2)]);
    link.sync_soon();
    for offset in 1..3 {
        write(&mut link, offset, 1);
        link.sync_soon();
        assert_eq!(sent(&mut link), [(Kind::Write, 2 + offset)]);
    }
    assert!(link.answer(2, Reply::Synced).is_ok());
    assert_eq!(sent(&mut link), [(Kind::Sync, 5)]);
    assert!(link.answer(5, Reply::Synced).is_ok());
    link.sync_soon();
    assert_eq!((sent(&mut link), link.durable_sequence()), (vec![], 5));
}

#[test]
fn a_sync_that_somebody_waits_for_serves_those_who_do_not() {
    let mut link = link();
    link.sync_soon();
    write(&mut link, 0, 1);
    link.sync_soon();
    let number = link.sync();
    sent(&mut link);
    for sequence in [1, number] {
        assert!(link.answer(sequence, Reply::Synced).is_ok());
        assert_eq!((sent(&mut link), link.durable_sequence()), (vec![], sequence));
    }
}

#[test]
fn after_the_end_was_asked_for_nothing_else_is() {
    type End = fn(&mut Link);
    let finish: End = |link| {
        link.push(Command::Finish);
    };
    let close: End = |link| {
        link.close();
    };
    for end in [finish, close, Link::abort] {
        let mut link = link();
        link.sync_soon();
        sent(&mut link);
        write(&mut link, 0, 1);
        link.sync_soon();
        end(&mut link);
        sent(&mut link);
        assert!(link.answer(1, Reply::Synced).is_ok());
        assert_eq!(sent(&mut link), []);
    }
}

#[test]
fn durable_is_what_the_watermark_or_an_answer_says() {
    let mut link = link();
    for offset in 0..3 {
        write(&mut link, offset, 1);
        sent(&mut link);
    }
    let mark = |sequence| Mark { sequence, bytes: sequence };
    let durable = mark(2);
    assert!(link.answer(0, written_with(mark(3), durable)).is_ok());
    assert_eq!(link.durable_sequence(), 2);
    let number = link.sync();
    write(&mut link, 3, 1);
    sent(&mut link);
    // The watermark of what is written is further than the answer that comes after it.
    assert!(link.answer(0, written_with(mark(number + 1), durable)).is_ok());
    assert!(link.answer(number, Reply::Synced).is_ok());
    assert_eq!((link.durable_sequence(), link.durable_bytes()), (number, 2));
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

/// A link that is open and can be resumed.
fn resumable() -> Link {
    let mut link = link_with(Some(proto::Token([1; 16])));
    assert_eq!(sent(&mut link), [(Kind::OpenResumable, 0)]);
    assert!(link.resume().is_none(), "nothing is open");
    assert!(link.answer(0, Reply::Resumable).is_ok());
    assert!(link.resume().is_none() && link.is_to_be_opened_again());
    assert!(link.answer(0, opened(false)).is_ok());
    assert!(!link.is_to_be_opened_again());
    assert!(link.answer(0, Reply::Resumable).is_err());
    link
}

fn resumed() -> proto::Resumed {
    proto::Resumed { stream: 9, queue_limit_bytes: 1, shared: false, watched: true }
}

#[test]
fn without_a_token_there_is_nothing_to_resume() {
    let mut link = link();
    sent(&mut link);
    assert!(!link.is_to_be_opened_again());
    assert!(link.answer(0, Reply::Resumable).is_err());
    assert!(link.answer(0, opened(false)).is_ok());
    assert!(link.resume().is_none());
}

#[test]
fn a_daemon_that_can_not_keep_a_stream_does_not_say_so_and_there_is_nothing_to_resume() {
    let mut link = link_with(Some(proto::Token([1; 16])));
    sent(&mut link);
    assert!(link.answer(0, opened(false)).is_ok());
    assert!(link.resume().is_none() && !link.is_to_be_opened_again());
}

#[test]
fn a_resume_tells_what_is_written_and_where_that_is() {
    let mut link = resumable();
    write(&mut link, 100, 10);
    write(&mut link, 500, 5);
    sent(&mut link);
    let told = link.resume().unwrap();
    assert_eq!((told.written, told.durable, told.position), (Mark::default(), Mark::default(), 0));
    // A trailing `Seek` is written with what follows it, or before.
    assert!(link.answer(0, written(3)).is_ok());
    let told = link.resume().unwrap();
    assert_eq!((told.written, told.position), (Mark { sequence: 3, bytes: 1 }, 500));
    assert!(link.answer(0, written(4)).is_ok());
    assert_eq!(link.resume().unwrap().position, 505);
}

#[test]
fn an_answered_sync_counts_without_a_watermark() {
    let mut link = resumable();
    write(&mut link, 0, 10);
    link.push(Command::WriteZeroes { offset: 10, len: 20 });
    let sync = link.sync();
    write(&mut link, 30, 5);
    sent(&mut link);
    assert!(link.answer(sync, Reply::Synced).is_ok());
    let mark = Mark { sequence: sync, bytes: 30 };
    let told = link.resume().unwrap();
    assert_eq!((told.written, told.durable, told.position), (mark, mark, 30));
    link.resumed(resumed()).unwrap();
    assert_eq!(sent(&mut link), [(Kind::Write, sync + 1)]);
    assert!(link.answer(0, written(sync - 1)).is_err(), "it goes back");
}

#[test]
fn what_was_sent_is_sent_again_and_stays_as_it_was() {
    let mut link = resumable();
    write(&mut link, 0, 100);
    write(&mut link, 500, 100);
    sent(&mut link);
    link.resumed(resumed()).unwrap();
    // It would fit to the last one.
    write(&mut link, 600, 100);
    let again = [(Kind::Write, 1), (Kind::Seek, 2), (Kind::Write, 3), (Kind::Write, 4)];
    assert_eq!(sent(&mut link), again);
    assert_eq!((link.resumes, link.unwatched_restarts), (1, 0));
    assert_eq!(link.opened.unwrap().stream, 9);
    assert!(link.answer(0, written(5)).is_err(), "more than was sent on this connection");
}

#[test]
fn a_sync_that_was_written_and_not_answered_is_asked_for_again() {
    let mut link = resumable();
    write(&mut link, 0, 100);
    let sync = link.sync();
    sent(&mut link);
    assert!(link.answer(0, written(sync)).is_ok());
    write(&mut link, 100, 100);
    for (number, expected) in [(4, 3), (4, 3)] {
        link.resumed(resumed()).unwrap();
        assert_eq!(sent(&mut link), [(Kind::Write, expected), (Kind::Sync, number)]);
    }
    assert!(!link.is_synced(sync));
    assert!(link.answer(4, Reply::Synced).is_ok());
    assert!(link.is_synced(sync));
}

#[test]
fn a_finish_covers_a_sync_and_is_itself_asked_for_again() {
    let mut link = resumable();
    let sync = link.sync();
    link.push(Command::Finish);
    sent(&mut link);
    assert!(link.answer(0, written(sync)).is_ok());
    link.resumed(resumed()).unwrap();
    assert_eq!(sent(&mut link), [(Kind::Finish, 2)]);
    assert!(link.answer(0, written(2)).is_ok());
    link.resumed(resumed()).unwrap();
    assert_eq!(sent(&mut link), [(Kind::Finish, 3)]);
}

#[test]
fn an_abort_takes_everything_that_is_not_written_with_it() {
    let mut link = resumable();
    for offset in [0, 500] {
        write(&mut link, offset, 100);
        sent(&mut link);
    }
    assert!(link.answer(0, written(1)).is_ok());
    write(&mut link, 900, 100);
    link.abort();
    assert_eq!(sent(&mut link), [(Kind::Abort, 4)]);
    link.resumed(resumed()).unwrap();
    assert_eq!(link.kept_bytes(), 0);
    assert_eq!(sent(&mut link), [(Kind::Abort, 2)]);
    assert_eq!(link.answer(2, Reply::Aborted).unwrap(), Answered::Ended);
    assert!(link.resume().is_none());
}

#[test]
fn an_ending_that_nobody_asked_for_is_not_believed() {
    let mut link = resumable();
    let progress = Progress::default();
    let finished = proto::Finished { len_bytes: 0, progress };
    assert!(link.answer(0, Reply::Finished(finished)).is_err());
    assert!(link.answer(0, Reply::Aborted).is_err());
    assert!(link.answer(0, Reply::Resumed(resumed())).is_err());
    assert!(link.finish_instead(0, Reply::Synced).is_err());
    assert!(link.resumed(proto::Resumed { shared: true, ..resumed() }).is_err());
    assert_eq!(link.resumes, 0);
}
