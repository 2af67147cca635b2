//! On a device that seeks, streams take turns: their files lie in few pieces, and each gets its part.

use std::path::{Path, PathBuf};
use std::time::Duration;

use freemkvd_tests::daemon::{Daemon, wait_until};
use freemkvd_tests::extents::mean_fragment_mib;

use super::disk::Disk;
use super::support::{Muxer, written_bytes};
use super::{MIB, mount};

/// A daemon that is told that its disk seeks.
fn daemon(root: &Path) -> Daemon {
    Daemon::start(root, &format!("[root.{:?}]\nrotational = true\n", root.display()))
}

/// Jain's index of fairness: 1 when all have the same.
fn jain(shares: &[u64]) -> f64 {
    let (sum, squares) = shares.iter().fold((0.0, 0.0), |(sum, squares), share| {
        let share = *share as f64;
        (sum + share, squares + share * share)
    });
    sum * sum / (shares.len() as f64 * squares)
}

/// What each stream got between two moments: whoever is opened first has a start that is no turn.
fn shares(daemon: &Daemon, muxers: &[Muxer], from: u64, to: u64) -> Vec<u64> {
    let at_least = |bytes: u64| {
        let seen = daemon.wait_for("enough in each file", |status| {
            written_bytes(status, muxers).iter().all(|written| *written >= bytes)
        });
        assert!(seen.devices[0].turns, "{:?}", seen.devices);
        written_bytes(&seen, muxers)
    };
    let (first, last) = (at_least(from), at_least(to));
    first.iter().zip(&last).map(|(first, last)| last - first).collect()
}

#[test]
#[ignore = "needs root: loop devices"]
fn files_written_in_turns_lie_in_few_pieces_and_grow_alike() {
    /// Of four, so that half of the disk stays free: what a full one has left is in pieces.
    const LEN: u64 = 130 * MIB;
    let disk = Disk::below("ext4");
    let dir = tempfile::tempdir_in(mount("ext4")).unwrap();
    // Faster than any disk, and the daemon would not believe that it seeks.
    let _throttled = disk.throttle(200_000_000);
    let daemon = daemon(dir.path());
    let paths: Vec<PathBuf> = (1..=4).map(|film| dir.path().join(format!("{film}.mkv"))).collect();
    let muxers = Muxer::start_all(&daemon, &paths, LEN);
    let written = shares(&daemon, &muxers, 8 * MIB, 90 * MIB);
    muxers.into_iter().for_each(Muxer::finish);
    let fragment = mean_fragment_mib(paths.iter().map(PathBuf::as_path)).expect("filefrag");
    let fairness = jain(&written);
    eprintln!("turns: mean fragment {fragment:.1} MiB, Jain's index {fairness:.3} of {written:?}");
    assert!(fragment >= 8.0, "{fragment} MiB");
    assert!(fairness >= 0.9, "{fairness}");
}

#[test]
#[ignore = "needs root: loop devices"]
fn what_a_stream_gets_of_a_disk_follows_its_weight() {
    let disk = Disk::below("xfs");
    let dir = tempfile::tempdir_in(mount("xfs")).unwrap();
    let _throttled = disk.throttle(60_000_000);
    let daemon = daemon(dir.path());
    let start = |weight: u32| {
        let path = dir.path().join(format!("{weight}.mkv"));
        Muxer::start(&daemon.options().weight(weight), path, weight.into(), 600 * MIB)
    };
    let muxers = vec![start(100), start(300)];
    let got = || {
        let status = daemon.status();
        assert!(status.devices[0].turns, "{:?}", status.devices);
        written_bytes(&status, &muxers)
    };
    // The first second is a slow start, and one of them was there first.
    std::thread::sleep(Duration::from_secs(1));
    let first = got();
    std::thread::sleep(Duration::from_secs(10));
    let written: Vec<_> = got().iter().zip(&first).map(|(last, first)| last - first).collect();
    let ratio = written[1] as f64 / written[0] as f64;
    eprintln!("weights: {ratio:.2} of {written:?}, {first:?} before");
    muxers.into_iter().for_each(Muxer::abort);
    assert!(wait_until(|| daemon.status().budget.charged_bytes == 0));
    assert!((2.7..=3.3).contains(&ratio), "{ratio} of {written:?}");
}
