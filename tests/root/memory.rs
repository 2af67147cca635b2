//! A daemon in a control group with little memory: it takes less, and is not killed.

use freemkvd_tests::daemon::Daemon;

use super::MIB;
use super::disk::Disk;
use super::group::Group;
use super::support::Muxer;

#[test]
#[ignore = "needs root: loop devices, cgroup v1 with memory and blkio"]
fn four_rips_through_a_daemon_with_little_memory_come_out_right() {
    for (mib, shared) in [(64, false), (64, true), (96, false)] {
        // Slower than the muxers: whatever may be queued is.
        let disk = Disk::below("ext4");
        let _slow = disk.throttle(60 << 20);
        let group = Group::new("memory");
        group.set("memory.limit_in_bytes", mib * MIB);
        let dir = tempfile::tempdir_in(disk.mount()).unwrap();
        let launcher = group.launcher();
        let launcher: Vec<_> = launcher.iter().map(String::as_str).collect();
        let mut daemon = Daemon::start_under(&launcher, dir.path(), "");
        let limit = format!("{mib}.0 MiB");
        daemon.wait_for_log(&["WARN", "stream.queue_total", &limit, "limit_in_bytes"]);
        assert_eq!(daemon.status().budget.limit_bytes, (mib * MIB / 10).max(8 * MIB));
        let options = daemon.options().shared_slots(shared);
        let muxers: Vec<_> = (0..4)
            .map(|seed| {
                let path = dir.path().join(seed.to_string());
                Muxer::start(&options, path, seed, 200 * MIB)
            })
            .collect();
        muxers.into_iter().for_each(Muxer::finish);
        assert_eq!(daemon.ended(), None, "killed; log:\n{}", daemon.log());
        let (most, tries) =
            (group.number("memory.max_usage_in_bytes"), group.number("memory.failcnt"));
        println!("{mib} MiB, shared {shared}: at most {} MiB, reclaimed {tries} times", most / MIB);
    }
}
