//! Disks that are full. A stream for which there is no space waits and says so, harms nobody, and goes on when
//! somebody has freed some; what has no chance is refused at its start.
//!
//! Injected:
//! * ENOSPC at `write`: small ext4, xfs, btrfs and tmpfs, of which a file takes the rest;
//! * EDQUOT at `write`: a limit on a btrfs subvolume;
//! * less free than announced: size hints that are too large, alone and together; also on an ext3, which can't
//!   set space aside, and on mergerfs.
//!
//! ENOSPC at writeback is no wait but a loss: `lost.rs`.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use freemkvd_client::{ErrorCode, Options};
use freemkvd_proto::status::{Status, Stream, StreamState};
use freemkvd_tests::daemon::{Daemon, wait_until};

use super::place::{Place, Pool, run, work};
use super::support::{Muxer, freemkvctl_status};
use super::{MIB, mount};

/// What is free at first, and what a film takes.
const FREE_MIB: u64 = 24;
const LEN: u64 = 40 * MIB;

fn small(options: &Options) -> Options {
    let options = options.clone().window_bytes(MIB).memory_limit_bytes(8 * MIB);
    options.drop_wait(Duration::from_millis(100))
}

fn waiting(status: &Status) -> Vec<&Stream> {
    status.streams.iter().filter(|stream| stream.state == StreamState::NoSpace).collect()
}

/// Two muxers that want more than there is on the place.
fn two_that_wait(daemon: &Daemon, dir: &Path) -> Vec<Muxer> {
    let start = |(name, seed)| Muxer::start(&small(&daemon.options()), dir.join(name), seed, LEN);
    let muxers = [("one", 1), ("two", 2)].into_iter().map(start).collect();
    daemon.wait_for("two streams that wait for space", |status| waiting(status).len() == 2);
    muxers
}

/// The daemon goes on for others, at their speed.
fn assert_neighbour_unharmed(daemon: &Daemon) {
    let dir = tempfile::tempdir_in(mount("xfs")).unwrap();
    let neighbour = Muxer::start(&daemon.options(), dir.path().join("film"), 3, 64 * MIB);
    assert!(wait_until(|| neighbour.is_over()), "it hangs");
    let (_, longest) = neighbour.felt();
    neighbour.finish();
    eprintln!("no space: a neighbour's longest write {longest:.1?}");
    assert!(longest < Duration::from_secs(2), "{longest:?}");
}

/// What is missing and when it gives up, for programs and for people; and nothing is held meanwhile.
fn assert_told(daemon: &Daemon, dir: &Path) {
    let status = daemon.wait_for("words about it", |status| {
        let told = |stream: &&Stream| stream.waiting_for.is_some() && stream.dirty_bytes == 0;
        let waiting = waiting(status);
        waiting.len() == 2 && waiting.iter().all(told)
    });
    for stream in waiting(&status) {
        let what = &stream.waiting_for.as_ref().unwrap().what;
        assert!(what.starts_with(&format!("space on {}", dir.display())), "{what}");
        assert!(what.contains(", gives up in 9m ") || what.contains("(gives up in 9m "), "{what}");
    }
    assert!(status.is_degraded());
    let (text, code) = freemkvctl_status(daemon);
    assert_eq!(code, Some(4), "{text}");
    for stream in waiting(&status) {
        let line = text
            .lines()
            .find(|line| line.starts_with("waiting for ") && line.contains(&stream.path));
        let line = line.unwrap_or_else(|| panic!("{text}"));
        assert!(line.contains(" for space on ") && line.contains("gives up in 9m "), "{line}");
    }
    eprintln!("{}", text.split("\nDEVICE").next().unwrap());
}

fn streams_wait_for_space_on(place: &Place) {
    // Nothing is compiled while somebody waits.
    let _ = freemkvd_tests::programs::freemkvctl();
    let filler = place.fill_up_to(FREE_MIB);
    let daemon = Daemon::start(&work(), "");
    let muxers = two_that_wait(&daemon, place.dir());
    assert_told(&daemon, place.dir());
    assert_neighbour_unharmed(&daemon);
    assert_eq!(waiting(&daemon.status()).len(), 2, "they still wait");
    let since = Instant::now();
    drop(filler);
    assert!(wait_until(|| muxers.iter().all(Muxer::is_over)), "{:#?}", daemon.status());
    let ended = since.elapsed();
    muxers.into_iter().for_each(Muxer::finish);
    eprintln!(
        "no space, {}: both had written all {ended:.1?} after some was freed",
        place.filesystem()
    );
    let status = daemon.status();
    assert_eq!((status.budget.charged_bytes, status.streams.len()), (0, 0));
}

#[test]
#[ignore = "needs root: loop devices"]
fn streams_wait_for_space_on_ext4() {
    streams_wait_for_space_on(&Place::new("ext4", 128));
}

#[test]
#[ignore = "needs root: loop devices"]
fn streams_wait_for_space_on_xfs() {
    streams_wait_for_space_on(&Place::new("xfs", 300));
}

#[test]
#[ignore = "needs root: loop devices"]
fn streams_wait_for_space_on_btrfs() {
    streams_wait_for_space_on(&Place::new("btrfs", 512));
}

#[test]
#[ignore = "needs root: a tmpfs of limited size"]
fn streams_wait_for_space_on_tmpfs() {
    streams_wait_for_space_on(&Place::new("tmpfs", 128));
}

#[test]
#[ignore = "needs root: loop devices"]
fn a_stream_waits_while_its_quota_is_used_up() {
    let place = Place::new("btrfs", 512);
    let rips = place.dir().join("rips");
    let btrfs = |words: &[&str]| run(Command::new("btrfs").args(words).arg(&rips));
    run(Command::new("btrfs").args(["quota", "enable"]).arg(place.dir()));
    btrfs(&["subvolume", "create"]);
    btrfs(&["qgroup", "limit", "24M"]);
    let daemon = Daemon::start(&work(), "");
    let muxer = Muxer::start(&small(&daemon.options()), rips.join("film"), 1, LEN);
    daemon.wait_for("a stream that waits", |status| waiting(status).len() == 1);
    daemon.wait_for_log(&["waits for space", "errno=122"]);
    btrfs(&["qgroup", "limit", "none"]);
    assert!(wait_until(|| muxer.is_over()), "{:#?}", daemon.status());
    muxer.finish();
}

#[test]
#[ignore = "needs root: loop devices"]
fn a_stream_that_waits_too_long_fails_with_number_place_and_path() {
    let place = Place::new("ext4", 128);
    let _filler = place.fill_up_to(FREE_MIB);
    let daemon = Daemon::start(&work(), "[stream]\nno_space_wait = \"2s\"\n");
    let since = Instant::now();
    let muxers = two_that_wait(&daemon, place.dir());
    for muxer in muxers {
        let path = muxer.path().to_owned();
        let error = muxer.error();
        assert_eq!((error.code(), error.errno()), (Some(ErrorCode::NO_SPACE), Some(28)), "{error}");
        let offset = error.offset().unwrap();
        // One of them may have been quick enough to take all of it.
        assert!(offset < FREE_MIB * MIB, "{error}");
        assert_eq!(error.path(), path);
        assert!(error.to_string().contains("for 2s"), "{error}");
    }
    assert!(since.elapsed() >= Duration::from_secs(2));
    let status = daemon.wait_for("an empty budget", |status| status.budget.charged_bytes == 0);
    assert!(status.streams.iter().all(|stream| stream.state == StreamState::Failed), "{status:#?}");
    assert_neighbour_unharmed(&daemon);
}

#[test]
#[ignore = "needs root: loop devices"]
fn a_stream_that_waits_for_space_can_be_given_up_at_once() {
    let place = Place::new("ext4", 128);
    let _filler = place.fill_up_to(FREE_MIB);
    let daemon = Daemon::start(&work(), "");
    let mut muxers = two_that_wait(&daemon, place.dir());
    let muxer = muxers.pop().unwrap();
    let since = Instant::now();
    let (returned, heard) = muxer.give_up(&daemon);
    daemon.wait_for("one stream", |status| status.streams.len() == 1);
    eprintln!(
        "no space: the abort returned after {returned:.1?}, its muxer heard after {heard:.1?}, and the stream \
         was gone after {:.1?}",
        since.elapsed()
    );
    assert!(since.elapsed() < Duration::from_secs(2));
}

/// Of what is free, two announce 60 and 20 %; another 60 % are refused before anything is written.
fn hints_are_added_up_on(place: &Place, dir: &Path, can_reserve: bool) {
    let daemon = Daemon::start(&work(), "");
    let free_bytes = place.free_bytes();
    let part = |percent: u64| free_bytes / 100 * percent;
    let create = |name: &str, hint| daemon.options().size_hint(hint).create(dir.join(name));
    let assert_refused = |name: &str, hint: u64| {
        let error = create(name, hint).unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::NO_SPACE_AHEAD), "{error}");
        let text = error.to_string();
        assert!(text.contains(&dir.join(name).display().to_string()), "{text}");
        assert!(!dir.join(name).exists());
        text
    };
    assert_refused("whole", free_bytes + 64 * MIB);
    let mut first = create("first", part(60)).unwrap();
    let text = assert_refused("second", part(60));
    eprintln!("no space, {}: {text}", place.filesystem());
    assert_eq!(text.contains("that other rips have announced"), !can_reserve, "{text}");
    let third = create("third", part(20)).unwrap();
    // What the first one has written is not counted twice.
    super::support::write_pattern(&mut first, 1, 0, part(60)).unwrap();
    first.finish().unwrap();
    assert_refused("second", part(30));
    third.abort().unwrap();
    daemon.wait_for("nothing announced", |status| status.streams.is_empty());
    create("second", part(15)).unwrap().finish().unwrap();
    assert_eq!(freemkvd_tests::pattern::prefix_len(1, &dir.join("first")).unwrap(), part(60));
}

#[test]
#[ignore = "needs root: loop devices"]
fn hints_are_added_up_on_ext4_xfs_btrfs_and_tmpfs() {
    for (filesystem, mib) in [("ext4", 128), ("xfs", 300), ("btrfs", 512), ("tmpfs", 64)] {
        let place = Place::new(filesystem, mib);
        hints_are_added_up_on(&place, place.dir(), true);
    }
}

#[test]
#[ignore = "needs root: loop devices"]
fn hints_are_added_up_where_space_cannot_be_set_aside() {
    let place = Place::new("ext3", 128);
    hints_are_added_up_on(&place, place.dir(), false);
}

#[test]
#[ignore = "needs root: a FUSE mount"]
fn hints_are_added_up_on_mergerfs() {
    for (filesystem, can_reserve) in [("ext4", true), ("ext3", false)] {
        let place = Place::new(filesystem, 128);
        let pool = Pool::over(place.dir());
        hints_are_added_up_on(&place, pool.dir(), can_reserve);
    }
}
