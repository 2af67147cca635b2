//! The budget holds by the kernel's own count, whatever lies between the file and its device.

use std::time::{Duration, Instant};

use freemkvd_tests::daemon::Daemon;

use super::disk::Disk;
use super::support::{Muxer, finish_all, sync_file_system};
use super::{MIB, mount};

const BUDGET: u64 = 64 * MIB;

/// Less than two streams hold on their own, so that it is the budget that stops them.
const TIGHT: u64 = 8 * MIB;

/// A fast hard disk.
const BYTES_PER_SECOND: u64 = 100_000_000;

const LASTS: Duration = Duration::from_secs(2);
const EVERY: Duration = Duration::from_millis(10);

/// The count is that of the device, so the file system's own pages are in it: bitmaps, inodes, trees
/// and their checksums, which are 1/1000 of the content on btrfs. And the kernel counts by processor
/// and is late by up to 64 KiB for each.
const OWN_BYTES: u64 = 4 * MIB;

fn the_kernel_holds_no_more_than(budget: u64, filesystem: &str) {
    let disk = Disk::below(filesystem);
    let dir = tempfile::tempdir_in(mount(filesystem)).unwrap();
    sync_file_system(disk.mount());
    let _throttled = disk.throttle(BYTES_PER_SECOND);
    let daemon = Daemon::start(dir.path(), &format!("[budget]\ntotal = \"{}MiB\"\n", budget / MIB));
    let paths = ["one.mkv", "two.mkv"].map(|name| dir.path().join(name));
    let muxers = Muxer::start_all(&daemon, &paths, 300 * MIB);

    let end = Instant::now() + LASTS;
    let mut held = Vec::new();
    let (mut charged, mut extent, mut written) = (0, 0, 0);
    while Instant::now() < end {
        held.push(disk.dirty_bytes());
        if held.len() % 10 == 0 {
            let status = daemon.status();
            charged = charged.max(status.budget.charged_bytes);
            extent = extent.max(status.devices[0].extent_bytes);
            written = status.streams.iter().map(|stream| stream.written_bytes).sum();
        }
        std::thread::sleep(EVERY);
    }
    let most = *held.iter().max().unwrap();
    eprintln!(
        "{filesystem}, budget {} MiB: most {:.1} MiB in {} samples, charged {:.1} MiB, extent {:.1} MiB, \
         {} MiB written in {LASTS:?}",
        budget / MIB,
        most as f64 / MIB as f64,
        held.len(),
        charged as f64 / MIB as f64,
        extent as f64 / MIB as f64,
        written / MIB
    );
    assert!(most <= budget + extent + OWN_BYTES, "{most} bytes");
    // The right device was looked at, and it had something to do all the time.
    assert!(most > 2 * MIB && written > 50 * MIB, "{most} bytes, {written} written");
    finish_all(muxers);
    assert_eq!(daemon.status().budget.charged_bytes, 0);
}

#[test]
#[ignore = "needs root: loop devices"]
fn the_kernel_holds_no_more_than_the_budget_on_ext4() {
    the_kernel_holds_no_more_than(BUDGET, "ext4");
}

#[test]
#[ignore = "needs root: loop devices"]
fn the_kernel_holds_no_more_than_the_budget_on_xfs() {
    the_kernel_holds_no_more_than(BUDGET, "xfs");
}

#[test]
#[ignore = "needs root: loop devices"]
fn the_kernel_holds_no_more_than_the_budget_on_btrfs() {
    the_kernel_holds_no_more_than(BUDGET, "btrfs");
}

#[test]
#[ignore = "needs root: an overlay mount"]
fn the_kernel_holds_no_more_than_the_budget_on_overlayfs() {
    the_kernel_holds_no_more_than(BUDGET, "overlay");
}

#[test]
#[ignore = "needs root: a FUSE mount"]
fn the_kernel_holds_no_more_than_the_budget_on_fuse() {
    the_kernel_holds_no_more_than(BUDGET, "fuse");
}

#[test]
#[ignore = "needs root: a FUSE mount"]
fn the_kernel_holds_no_more_than_a_tight_budget_on_fuse() {
    the_kernel_holds_no_more_than(TIGHT, "fuse");
}
