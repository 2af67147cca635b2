//! What a stream can do to its file beside writing, and what each answer promises.

use std::io::{Seek, SeekFrom, Write};

use freemkvd_tests::daemon::Daemon;
use freemkvd_tests::pattern;

use crate::support::{MIB, scratch, write_pattern};

#[test]
fn the_length_is_set_up_and_down() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let path = root.path().join("film.mkv");
    let mut file = daemon.options().create(&path).unwrap();
    write_pattern(&mut file, 1, 0, 3 * MIB).unwrap();
    file.set_len(MIB).unwrap();
    file.set_len(2 * MIB).unwrap();
    assert_eq!(file.stream_position().unwrap(), 3 * MIB);
    file.seek(SeekFrom::End(0)).unwrap();
    file.write_all(b"end").unwrap();
    assert_eq!(file.finish().unwrap().len_bytes, 2 * MIB + 3);
    let mut expected = pattern::bytes(1, 0, 1 << 20);
    expected.resize(2 << 20, 0);
    expected.extend(b"end");
    assert!(std::fs::read(&path).unwrap() == expected);
}

#[test]
fn an_existing_file_is_opened_without_truncation_and_patched() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let path = root.path().join("disc.iso");
    let mut expected = pattern::bytes(1, 0, 2 << 20);
    std::fs::write(&path, &expected).unwrap();
    let mut file = daemon.options().open(&path).unwrap();
    assert_eq!(file.len_bytes(), 2 * MIB);
    file.seek(SeekFrom::Start(1000)).unwrap();
    file.write_all(b"patched").unwrap();
    file.seek(SeekFrom::End(0)).unwrap();
    file.write_all(b"appended").unwrap();
    file.finish().unwrap();
    expected[1000..1007].copy_from_slice(b"patched");
    expected.extend(b"appended");
    assert!(std::fs::read(&path).unwrap() == expected);
}

#[test]
fn create_empties_a_file_that_exists() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let path = root.path().join("film.mkv");
    std::fs::write(&path, vec![1; 1 << 20]).unwrap();
    let mut file = daemon.options().create(&path).unwrap();
    assert_eq!(file.len_bytes(), 0);
    file.write_all(b"new").unwrap();
    file.finish().unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"new");
}

#[test]
fn flush_means_written_and_sync_means_durable() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let path = root.path().join("film.mkv");
    let mut file = daemon.options().create(&path).unwrap();
    write_pattern(&mut file, 1, 0, 20 * MIB + 5).unwrap();
    file.flush().unwrap();
    let marks = file.progress();
    assert_eq!(marks.accepted_bytes, 20 * MIB + 5);
    assert_eq!(marks.written_bytes, marks.accepted_bytes);
    // In the kernel: every process sees it.
    assert_eq!(pattern::prefix_len(1, &path).unwrap(), 20 * MIB + 5);
    let seen = &daemon.status().streams[0];
    assert_eq!(seen.written_bytes, seen.accepted_bytes);

    write_pattern(&mut file, 1, 20 * MIB + 5, MIB).unwrap();
    file.sync_all().unwrap();
    let marks = file.progress();
    assert_eq!(marks.accepted_bytes, 21 * MIB + 5);
    assert_eq!(marks.durable_bytes, marks.accepted_bytes);
    let seen = &daemon.status().streams[0];
    assert_eq!(seen.durable_bytes, seen.accepted_bytes);
    assert_eq!((seen.queued_bytes, seen.dirty_bytes), (0, 0));
    file.finish().unwrap();
}

#[test]
fn far_seeks_and_patches_are_counted() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let mut file = daemon.options().create(root.path().join("film.mkv")).unwrap();
    write_pattern(&mut file, 1, 0, 60 * MIB).unwrap();
    for offset in [0, 100_000, 200_000] {
        file.seek(SeekFrom::Start(offset)).unwrap();
        file.write_all(b"patched").unwrap();
    }
    file.seek(SeekFrom::Start(70 * MIB)).unwrap();
    file.write_all(b"beyond a hole").unwrap();
    file.flush().unwrap();
    let seen = daemon.status().streams[0].clone();
    // The library may need one more to get back to what was in its window.
    assert!((4..=5).contains(&seen.seeks), "{seen:?}");
    assert_eq!(seen.patches, 3, "{seen:?}");
    file.finish().unwrap();
}

#[test]
fn an_idle_stream_holds_no_charge() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let mut file = daemon.options().create(root.path().join("film.mkv")).unwrap();
    write_pattern(&mut file, 1, 0, 20 * MIB).unwrap();
    file.flush().unwrap();
    daemon.wait_for("a clean file", |status| {
        status.budget.charged_bytes == 0 && status.streams[0].dirty_bytes == 0
    });
    file.finish().unwrap();
}

#[test]
fn an_abort_ends_the_stream_and_leaves_the_file() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let path = root.path().join("film.mkv");
    let mut file = daemon.options().create(&path).unwrap();
    write_pattern(&mut file, 1, 0, 3 * MIB).unwrap();
    file.flush().unwrap();
    write_pattern(&mut file, 1, 3 * MIB, 20 * MIB).unwrap();
    file.abort().unwrap();
    let len = pattern::prefix_len(1, &path).unwrap();
    assert!((3 * MIB..=23 * MIB).contains(&len), "{len}");
    let end = daemon.wait_for("no stream", |status| status.streams.is_empty());
    assert_eq!(end.budget.charged_bytes, 0);
    assert!(!end.is_degraded());
    daemon.wait_for_log(&[" aborted by its muxer", "film.mkv"]);
}

#[test]
fn a_dropped_stream_hands_over_what_it_holds() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let path = root.path().join("film.mkv");
    let mut file = daemon.options().create(&path).unwrap();
    write_pattern(&mut file, 1, 0, 10 * MIB + 1).unwrap();
    drop(file);
    assert_eq!(pattern::prefix_len(1, &path).unwrap(), 10 * MIB + 1);
}

#[test]
fn the_writer_thread_shows_the_stream_and_its_file() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let mut files = Vec::new();
    for name in ["film.mkv", "A Long Title (2026).mkv", "s\u{00fc}\u{00df}\u{6f22}\u{5b57}.mkv"] {
        let file = daemon.options().create(root.path().join(name)).unwrap();
        let stream = file.stream_id().unwrap();
        let mut expected = format!("{stream}:{name}");
        while expected.len() > 15 {
            expected.pop();
        }
        let threads = daemon.threads();
        assert!(
            threads.iter().any(|(name, _)| *name == expected),
            "{expected} is not in {threads:?}"
        );
        files.push(file);
    }
}

#[test]
fn a_file_is_free_as_soon_as_its_stream_has_ended() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "[limits]\nstreams = 1\n");
    let path = root.path().join("disc.iso");
    for round in 0..100 {
        let mut file = match round {
            0 => daemon.options().create(&path),
            _ => daemon.options().open(&path),
        }
        .unwrap_or_else(|error| panic!("round {round}: {error}"));
        file.write_all(b"content").unwrap();
        match round % 2 {
            0 => drop(file.finish().unwrap()),
            _ => file.abort().unwrap(),
        }
    }
}
