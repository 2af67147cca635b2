//! The removal of a large file that was left does not hold up those who write on the same disk.
//!
//! Injected: files of 4 GiB in pieces of 64 KiB, which is the worst that a full disk makes of a film, on a disk
//! of 40 MB/s. One is removed by the daemon and one by a plain `unlink`, while a muxer writes beside.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use freemkvd_client::Leftover;
use freemkvd_tests::daemon::{Daemon, wait_until};
use rustix::fs::{FallocateFlags, fallocate};

use super::place::Place;
use super::support::{Muxer, sync_file_system};

const LEN: u64 = 4 << 30;
const PIECE: u64 = 64 << 10;

const BYTES_PER_SECOND: u64 = 40_000_000;

/// Longer than any muxer's own buffer lasts would be noticed; this is far below.
const LONGEST: Duration = Duration::from_secs(2);

/// Two files whose pieces alternate.
fn in_pieces(paths: [&Path; 2]) {
    let files = paths.map(|path| File::create(path).unwrap());
    for at in (0..LEN).step_by(usize::try_from(PIECE).unwrap()) {
        for file in &files {
            fallocate(file, FallocateFlags::empty(), at, PIECE).unwrap();
        }
    }
}

fn a_removal_holds_up_nobody_on(filesystem: &'static str) {
    let place = Place::new(filesystem, 12 << 10);
    let paths = ["one", "two"].map(|name| place.dir().join(name));
    in_pieces([&paths[0], &paths[1]]);
    sync_file_system(place.dir());
    let daemon = Daemon::start(place.dir(), "");
    let _throttled = place.disk().throttle(BYTES_PER_SECOND);
    let options = daemon.options().leftover(Leftover::Remove);
    let large = options.open(&paths[0]).unwrap();

    let neighbour = Muxer::start(&daemon.options(), place.dir().join("film"), 1, 1 << 40);
    std::thread::sleep(Duration::from_secs(3));
    let quiet = |lasts| {
        let _ = neighbour.felt();
        std::thread::sleep(lasts);
        neighbour.felt()
    };
    let (bytes, longest_before) = quiet(Duration::from_secs(5));
    let seen = File::open(&paths[0]).unwrap();
    let since = Instant::now();
    large.abort().unwrap();
    assert!(wait_until(|| !paths[0].exists()));
    let name_gone = since.elapsed();
    // It is freed step by step, and not by being closed: this one holds it open.
    let freed = || seen.metadata().unwrap().blocks() == 0 && daemon.status().streams.len() == 1;
    assert!(wait_until(freed), "{:?}", seen.metadata());
    drop(seen);
    let took = since.elapsed();
    std::thread::sleep(Duration::from_secs(2));
    let (bytes_during, longest) = neighbour.felt();
    let lasted = since.elapsed();

    let since = Instant::now();
    fs::remove_file(&paths[1]).unwrap();
    let unlinked = since.elapsed();
    std::thread::sleep(lasted.saturating_sub(unlinked));
    let (_, longest_unlink) = neighbour.felt();
    eprintln!(
        "removal, {filesystem}: a neighbour's longest write {longest_before:.0?} before, {longest:.0?} during the \
         daemon's ({took:.1?}; the name was gone after {name_gone:.1?}), {longest_unlink:.0?} during an unlink \
         ({unlinked:.1?}); its speed {:.1} MB/s before and {:.1} during the daemon's",
        bytes as f64 / 5e6,
        bytes_during as f64 / 1e6 / lasted.as_secs_f64()
    );
    neighbour.enough();
    neighbour.abort();
    assert!(longest < LONGEST, "{longest:?}");
}

#[test]
#[ignore = "needs root: loop devices"]
fn the_removal_of_a_large_file_holds_up_nobody_on_ext4() {
    a_removal_holds_up_nobody_on("ext4");
}

#[test]
#[ignore = "needs root: loop devices"]
fn the_removal_of_a_large_file_holds_up_nobody_on_xfs() {
    a_removal_holds_up_nobody_on("xfs");
}
