//! Space: reserved ahead, given back, and not taken for zeros.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use freemkvd_proto::{self as proto, Command, ErrorCode, OpenMode};
use freemkvd_tests::daemon::{Daemon, wait_until};
use freemkvd_tests::peer::Peer;
use rustix::fs::{FallocateFlags, fallocate};

use crate::support::{MIB, muxer, scratch, write_pattern};

fn taken_bytes(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().blocks() * 512
}

/// Whether the file system in `root` can do it; said when not.
fn can(root: &Path, what: &str, flags: FallocateFlags) -> bool {
    let file = std::fs::File::create(root.join("probe")).unwrap();
    file.set_len(MIB).unwrap();
    let can = fallocate(&file, flags, 0, MIB).is_ok();
    if !can {
        eprintln!("skipped: this file system cannot {what}");
    }
    can
}

#[test]
fn a_size_hint_reserves_space_and_the_surplus_is_given_back() {
    let root = scratch();
    if !can(root.path(), "reserve space", FallocateFlags::KEEP_SIZE) {
        return;
    }
    let daemon = Daemon::start(root.path(), "");
    let path = root.path().join("film.mkv");
    for ending in ["finish", "abort", "drop"] {
        let mut file = daemon.options().size_hint(64 * MIB).create(&path).unwrap();
        assert!(taken_bytes(&path) >= 64 * MIB, "reserved at open");
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
        write_pattern(&mut file, 1, 0, MIB).unwrap();
        file.flush().unwrap();
        match ending {
            "finish" => drop(file.finish().unwrap()),
            "abort" => file.abort().unwrap(),
            _ => drop(file),
        }
        daemon.wait_for("the stream to end", |status| {
            status.devices.is_empty() && status.budget.charged_bytes == 0
        });
        assert_eq!(std::fs::metadata(&path).unwrap().len(), MIB);
        let taken = taken_bytes(&path);
        assert!(taken < 2 * MIB, "{taken} bytes are taken after {ending}");
    }
}

#[test]
fn a_hint_larger_than_the_file_system_is_refused_and_changes_nothing() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let (new, old) = (root.path().join("new.mkv"), root.path().join("old.mkv"));
    std::fs::write(&old, b"precious").unwrap();
    for path in [&new, &old] {
        for hint in [1 << 50, u64::MAX] {
            let error = daemon.options().size_hint(hint).create(path).unwrap_err();
            assert_eq!(error.code(), Some(ErrorCode::NO_SPACE_AHEAD), "{error}");
            assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
            let text = error.to_string();
            for words in [path.to_str().unwrap(), "not enough space", "available", "free "] {
                assert!(text.contains(words), "{words} is not in: {text}");
            }
        }
    }
    assert!(!new.exists(), "a refused stream left a file behind");
    assert_eq!(std::fs::read(&old).unwrap(), b"precious");
}

#[test]
fn a_large_range_of_zeros_takes_no_space() {
    let root = scratch();
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    if !can(root.path(), "make holes", hole) {
        return;
    }
    let daemon = Daemon::start(root.path(), "");
    let path = root.path().join("disc.iso");
    let mut file = daemon.options().create(&path).unwrap();
    file.write_all(b"head").unwrap();
    file.write_zeroes(1 << 34).unwrap();
    file.write_all(b"tail").unwrap();
    let len = (1 << 34) + 8;
    assert_eq!(file.len_bytes(), len);
    assert_eq!(file.finish().unwrap().len_bytes, len);
    let taken = taken_bytes(&path);
    assert!(taken < MIB, "{taken} bytes are taken");
    let mut found = [1; 12];
    let open = std::fs::File::open(&path).unwrap();
    std::os::unix::fs::FileExt::read_exact_at(&open, &mut found, len - 12).unwrap();
    assert_eq!(&found, b"\0\0\0\0\0\0\0\0tail");
}

#[test]
fn zeros_over_old_content_read_as_zeros() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let path = root.path().join("disc.iso");
    std::fs::write(&path, vec![7; 4 << 20]).unwrap();
    let mut file = daemon.options().size_hint(8 * MIB).open(&path).unwrap();
    file.write_all(&[9; 100]).unwrap();
    file.write_zeroes(2 * MIB).unwrap();
    file.finish().unwrap();
    let mut expected = vec![7; 4 << 20];
    expected[..100].fill(9);
    expected[100..100 + (2 << 20)].fill(0);
    assert!(std::fs::read(&path).unwrap() == expected);
}

#[test]
fn zeros_beyond_what_was_reserved_take_no_space() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let path = root.path().join("disc.iso");
    let mut file = daemon.options().size_hint(MIB).create(&path).unwrap();
    file.write_zeroes(1 << 40).unwrap();
    file.flush().unwrap();
    let metadata = std::fs::metadata(&path).unwrap();
    assert_eq!(metadata.len(), 1 << 40);
    assert!(metadata.blocks() * 512 <= 2 * MIB, "{} blocks", metadata.blocks());
    file.finish().unwrap();
}

#[test]
fn no_zeros_are_no_error_and_absurdly_many_are_refused() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let mut peer = Peer::greet(daemon.socket());
    peer.open(root.path().join("disc.iso"), OpenMode::Create);
    let zeroes = |len| Command::WriteZeroes(proto::WriteZeroes { len });
    peer.command(1, &zeroes(0));
    for number in 0..6 {
        peer.command(2 + 2 * number, &Command::Seek(proto::Seek { offset: 0 }));
        peer.command(3 + 2 * number, &zeroes(i64::MAX as u64));
    }
    let failure = peer.failure();
    assert!([ErrorCode::OFFSET_RANGE, ErrorCode::IO].contains(&failure.code), "{failure:?}");
    assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
}

#[test]
fn processes_that_only_know_create_open_and_a_hint_reserve_rip_and_patch() {
    let root = scratch();
    if !can(root.path(), "reserve space", FallocateFlags::KEEP_SIZE) {
        return;
    }
    let daemon = Daemon::start(root.path(), "");
    let path = root.path().join("disc.iso");
    let mut sweep = muxer(&daemon, "sweep", 4.0, &path)
        .args(["--speed", "2", "--size-hint", "400000000"])
        .spawn()
        .unwrap();
    // Far more than a sweep of 4 seconds writes: only the hint can have taken it.
    let reserved = wait_until(|| {
        path.exists() && taken_bytes(&path) >= 400_000_000 || !matches!(sweep.try_wait(), Ok(None))
    });
    assert!(reserved && matches!(sweep.try_wait(), Ok(None)), "it was over before it was seen");
    assert!(sweep.wait().unwrap().success());
    let len = std::fs::metadata(&path).unwrap().len();
    assert!(taken_bytes(&path) < len + MIB, "the surplus was kept");
    let patch = muxer(&daemon, "patch", 4.0, &path).arg("--verify").status().unwrap();
    assert!(patch.success());
}
