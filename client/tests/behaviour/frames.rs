//! What crosses the wire, and what does not.

use std::io::{Seek, SeekFrom, Write};

use freemkvd_proto::{Kind, Transfer};

use super::{SHARED, options};
use crate::{MIB, fake, path, pattern, wait_until};

#[test]
fn content_goes_the_way_that_was_chosen() {
    let daemon = fake::Daemon::healthy();
    let mut file = options(&daemon).create(path()).unwrap();
    file.write_all(&pattern(9 * MIB, 1)).unwrap();
    file.finish().unwrap();
    let writes = daemon.seen_of(Kind::Write);
    assert!(writes.iter().all(|write| write.is_shared == SHARED), "{writes:?}");
    assert!(daemon.content() == pattern(9 * MIB, 1));
}

#[test]
fn a_daemon_that_does_not_want_the_slots_gets_the_content() {
    let daemon = fake::Daemon::start(fake::Script { wants_no_slots: true, ..Default::default() });
    let mut file = options(&daemon).create(path()).unwrap();
    file.write_all(&pattern(9 * MIB, 1)).unwrap();
    file.finish().unwrap();
    assert!(!daemon.seen_of(Kind::Write).iter().any(|write| write.is_shared));
    assert!(daemon.content() == pattern(9 * MIB, 1));
}

#[test]
fn what_an_open_asks_for_is_what_was_chosen() {
    let daemon = fake::Daemon::healthy();
    let options = options(&daemon).size_hint(7).weight(300).daemon_window_bytes(0);
    options.window_bytes(MIB as u64).memory_limit_bytes(6 * MIB as u64).create(path()).unwrap();
    let open = daemon.open().unwrap();
    assert_eq!(open.size_hint_bytes, Some(7));
    assert_eq!((open.weight, open.window_bytes), (300, Some(0)));
    let expected = if SHARED { Transfer::Shared { slots: 6 } } else { Transfer::Inline };
    assert_eq!(open.transfer, expected);
}

#[test]
fn patches_in_the_window_send_no_frames() {
    let daemon = fake::Daemon::healthy();
    let mut file = options(&daemon).create(path()).unwrap();
    for i in 0..1000 {
        file.write_all(&pattern(4000, i)).unwrap();
        file.seek(SeekFrom::Current(-4000)).unwrap();
        file.write_all(b"patched!").unwrap();
        file.seek(SeekFrom::Current(3992)).unwrap();
    }
    assert_eq!(file.progress().frames_sent, 1, "only the Open");
    file.finish().unwrap();
    assert_eq!(daemon.seen_of(Kind::Write).len(), 1);
    assert!(daemon.seen_of(Kind::Seek).is_empty());
}

#[test]
fn sequential_writes_need_no_seek() {
    let daemon = fake::Daemon::healthy();
    let mut file = options(&daemon).create(path()).unwrap();
    for i in 0..20 {
        file.write_all(&pattern(MIB, i)).unwrap();
    }
    file.finish().unwrap();
    assert!(daemon.seen_of(Kind::Seek).is_empty());
    assert_eq!(daemon.seen_of(Kind::Write).len(), 5, "four MiB each");
}

#[test]
fn far_patches_arrive_in_order() {
    let daemon = fake::Daemon::healthy();
    let mut file = options(&daemon).window_bytes(MIB as u64).create(path()).unwrap();
    let mut expected = pattern(8 * MIB, 1);
    file.write_all(&expected).unwrap();
    for (offset, bytes) in [(60, b"first"), (58, b"later"), (300_000, b"other"), (62, b"third")] {
        file.seek(SeekFrom::Start(offset)).unwrap();
        file.write_all(bytes).unwrap();
        let at = usize::try_from(offset).unwrap();
        expected[at..at + 5].copy_from_slice(bytes);
    }
    file.finish().unwrap();
    assert!(daemon.content() == expected);
    let far: Vec<_> = daemon.seen_of(Kind::Write).into_iter().filter(|w| w.len < 10).collect();
    let offsets: Vec<_> = far.iter().map(|w| w.offset).collect();
    assert_eq!(offsets, [60, 58, 300_000, 62]);
}

#[test]
fn a_flush_with_nothing_new_sends_nothing() {
    let daemon = fake::Daemon::healthy();
    let mut file = options(&daemon).create(path()).unwrap();
    file.write_all(b"content").unwrap();
    file.flush().unwrap();
    let before = file.progress().frames_sent;
    for _ in 0..100 {
        file.flush().unwrap();
    }
    assert_eq!(file.progress().frames_sent, before);
    // None at all when the write was known to be written before anybody asked.
    assert!(daemon.seen_of(Kind::Flush).len() <= 1);
    assert_eq!(file.progress().written_bytes, 7);
}

#[test]
fn large_ranges_of_zeros_never_cross_the_wire() {
    let daemon = fake::Daemon::healthy();
    let mut file = options(&daemon).create(path()).unwrap();
    file.write_all(b"content").unwrap();
    file.write_zeroes(64 * MIB as u64).unwrap();
    file.write_all(b"more").unwrap();
    let finished = file.finish().unwrap();
    assert_eq!(finished.len_bytes, 64 * MIB as u64 + 11);
    let sent: u64 = daemon.seen_of(Kind::Write).iter().map(|write| write.len).sum();
    assert_eq!(sent, 11);
}

#[test]
fn a_block_group_muxer_becomes_few_frames() {
    let daemon = fake::Daemon::healthy();
    let mut file = options(&daemon).create(path()).unwrap();
    let mut expected = Vec::new();
    let data = pattern(6000, 3);
    // The shape of one BlockGroup: size unknown, fields, data, then back to write the size.
    for _ in 0..5000 {
        let start = expected.len();
        for part in [&b"\xa0"[..], b"\0\0\0\0\0\0\0\0", b"\xa1", b"\x40\x01", &data, b"\x9b\x81"] {
            file.write_all(part).unwrap();
            expected.extend_from_slice(part);
        }
        let by = i64::try_from(expected.len() - start - 1).unwrap();
        file.seek(SeekFrom::Current(-by)).unwrap();
        file.write_all(b"sizesize").unwrap();
        file.seek(SeekFrom::Current(by - 8)).unwrap();
        expected[start + 1..start + 9].copy_from_slice(b"sizesize");
    }
    let finished = file.finish().unwrap();
    assert!(daemon.content() == expected);
    let frames = finished.progress.frames_sent;
    assert!(frames <= 40, "35 000 writes and 10 000 seeks became {frames} frames");
}

#[test]
fn the_position_needs_no_daemon() {
    let daemon = fake::Daemon::healthy();
    let mut file = options(&daemon).create(path()).unwrap();
    daemon.set_reading(false);
    file.write_all(&pattern(100, 1)).unwrap();
    for _ in 0..1000 {
        assert_eq!(file.stream_position().unwrap(), 100);
        assert_eq!(file.seek(SeekFrom::End(0)).unwrap(), 100);
    }
    assert!(file.seek(SeekFrom::Current(-101)).is_err());
    assert_eq!(file.stream_position().unwrap(), 100);
    assert_eq!(file.progress().frames_sent, 1);
    daemon.set_reading(true);
}

#[test]
fn a_slot_in_flight_is_copied_before_it_is_patched() {
    let daemon = fake::Daemon::healthy();
    let mut file = options(&daemon).create(path()).unwrap();
    daemon.set_reading(false);
    // Nobody reads, so everything that is handed over stays in flight.
    let halt_free = std::thread::scope(|scope| {
        let flushing = scope.spawn(|| {
            file.write_all(&pattern(3 * MIB, 1)).unwrap();
            file.sync_all_timeout(std::time::Duration::from_millis(50)).unwrap_err();
            file.seek(SeekFrom::Start(5)).unwrap();
            file.write_all(b"patched").unwrap();
            file.stream_position().unwrap()
        });
        flushing.join().unwrap()
    });
    assert_eq!(halt_free, 12);
    daemon.set_reading(true);
    file.finish().unwrap();
    let writes = daemon.seen_of(Kind::Write);
    assert_eq!(writes.len(), 2);
    assert_eq!(writes[0].sum, fake::sum(&pattern(3 * MIB, 1)), "it was changed on its way");
    assert_eq!((writes[1].offset, writes[1].len), (5, 7));
    assert_eq!(
        &daemon.content()[..14],
        [&pattern(5, 1)[..], b"patched", &pattern(14, 1)[12..]].concat()
    );
}

#[test]
fn dropping_hands_over_what_is_held() {
    let daemon = fake::Daemon::healthy();
    let mut file = options(&daemon).create(path()).unwrap();
    file.write_all(b"not finished").unwrap();
    drop(file);
    assert_eq!(daemon.content(), b"not finished");
    wait_until("the connection has ended", || daemon.is_over());
}
