//! Patches within the daemon's window, and in the head of the file, cost the device nothing at once:
//! no read, and no writeback because of the seek. Measured by the device's own counters.

use std::io::{Seek, SeekFrom, Write};
use std::time::{Duration, Instant};

use freemkvd_client::RipFile;
use freemkvd_tests::daemon::Daemon;
use freemkvd_tests::pattern;

use super::disk::{Disk, Requests};
use super::support::{patch, sync_file_system, write_patched};
use super::{MIB, mount};

const LEN: u64 = 300 * MIB;
const WINDOW: u64 = 64 * MIB;
const HEAD: u64 = 64 << 10;
const PAGE: u64 = 4096;

/// Anything dirty is written back when it is half a second old, whatever the muxer does.
const TOO_OLD: Duration = Duration::from_millis(400);

/// Eight bytes in each page of the head, and in 200 pages all over the newest 64 MiB up to where the
/// client takes patches in: its window of 1 MiB, and what leaves that at once.
fn places() -> Vec<u64> {
    let head = (0..HEAD / PAGE).map(|page| page * PAGE + 100);
    let newest = (0..200).map(|at| LEN - WINDOW + at * (WINDOW - 3 * MIB) / 200);
    head.chain(newest).collect()
}

fn settle(daemon: &Daemon, disk: &Disk) {
    daemon.wait_for("clean pages", |status| status.budget.charged_bytes == 0);
    sync_file_system(disk.mount());
}

/// Patches all places, with wrong bytes or the right ones, and looks at what the device did until they
/// were written and dirty, and until they were clean.
fn patch_all(daemon: &Daemon, disk: &Disk, file: &mut RipFile, is_right: bool) {
    for _ in 0..5 {
        settle(daemon, disk);
        let (before, began) = (disk.requests(), Instant::now());
        for place in places() {
            if is_right {
                patch(file, 1, place, 8).unwrap();
            } else {
                file.seek(SeekFrom::Start(place)).unwrap();
                file.write_all(&[0xee; 8]).unwrap();
            }
        }
        file.flush().unwrap();
        let dirty_bytes = daemon.status().streams[0].dirty_bytes;
        let (after, took) = (disk.requests(), began.elapsed());
        settle(daemon, disk);
        let clean = disk.requests();
        eprintln!(
            "patches: {dirty_bytes} bytes dirty after {took:?}; {before:?} {after:?} {clean:?}"
        );
        let Requests { reads, read_sectors, .. } = before;
        assert_eq!((clean.reads, clean.read_sectors), (reads, read_sectors), "a patch is no read");
        // The processors were busy with something else: what is old has been written back.
        if took > TOO_OLD {
            continue;
        }
        assert_eq!(after, before, "a patch is no reason to write anything back");
        assert_eq!(dirty_bytes, places().len() as u64 * PAGE);
        assert!(clean.writes > after.writes, "these counters see writeback");
        return;
    }
    panic!("the patches never took less than {TOO_OLD:?}");
}

#[test]
#[ignore = "needs root: loop devices"]
fn a_patch_in_the_window_or_the_head_is_no_read_and_no_drain() {
    let disk = Disk::below("ext4");
    let dir = tempfile::tempdir_in(mount("ext4")).unwrap();
    let daemon = Daemon::start(dir.path(), "[stream]\nwindow = \"64MiB\"\n");
    let path = dir.path().join("film.mkv");
    let mut file =
        daemon.options().window_bytes(MIB).memory_limit_bytes(6 * MIB).create(&path).unwrap();
    write_patched(&mut file, 1, LEN, || ()).unwrap();
    file.sync_all().unwrap();
    assert_eq!(daemon.status().streams[0].window_bytes, WINDOW);
    patch_all(&daemon, &disk, &mut file, false);
    patch_all(&daemon, &disk, &mut file, true);

    // The proof that the counters would have seen it: the kernel has dropped these pages.
    let before = disk.requests();
    patch(&mut file, 1, 100 * MIB + 100, 8).unwrap();
    file.flush().unwrap();
    let after = disk.requests();
    eprintln!("outside: {before:?} {after:?}");
    assert!(after.reads > before.reads, "{before:?} {after:?}");
    file.finish().unwrap();
    assert_eq!(pattern::prefix_len(1, &path).unwrap(), LEN);
}
