//! The loop device that a file system lies on: what the kernel counts there, how fast it is, and whether it goes
//! on at all.
//!
//! What is changed about a device is put back when its value is dropped; `tests/root/loops.sh` does it
//! again, should this process be killed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::mount;

/// Root's group of cgroup v1. A limit there holds for everybody who uses the device, and for writeback
/// as well, which one in a child group does not.
const THROTTLE: &str = "/sys/fs/cgroup/blkio/blkio.throttle.write_bps_device";

/// A loop device, and the file system on it.
pub(crate) struct Disk {
    /// Where the file system is mounted.
    mount: PathBuf,
    /// As in `loop0`.
    name: String,
    /// As in `7:0`.
    number: String,
}

/// What a device has done so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Requests {
    pub(crate) reads: u64,
    pub(crate) read_sectors: u64,
    pub(crate) writes: u64,
    pub(crate) written_sectors: u64,
    /// These are not completed.
    pub(crate) in_flight: u64,
}

/// A device is slow, as long as this lives; then it is as fast as before.
pub(crate) struct Throttled {
    number: String,
    before_bytes: u64,
}

impl Disk {
    /// The device below the file system of this name, through whatever lies between.
    pub(crate) fn below(filesystem: &str) -> Self {
        let directory = match filesystem {
            "overlay" | "fuse" => mount(&format!("{filesystem}-below")),
            _ => mount(filesystem),
        };
        Self::at(&directory)
    }

    /// The device below what is mounted in `directory`, or above it.
    pub(crate) fn at(directory: &Path) -> Self {
        let (mount, source) = mount_of(directory);
        let name = source.strip_prefix("/dev/").expect("a loop device").to_owned();
        let number = fs::read_to_string(format!("/sys/block/{name}/dev")).unwrap();
        Self { mount, name, number: number.trim().to_owned() }
    }

    pub(crate) fn mount(&self) -> &Path {
        &self.mount
    }

    /// As in `loop0`.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The kernel's counters of requests that it has completed.
    pub(crate) fn requests(&self) -> Requests {
        let text = fs::read_to_string(format!("/sys/block/{}/stat", self.name)).unwrap();
        let fields: Vec<u64> =
            text.split_whitespace().map(|field| field.parse().unwrap()).collect();
        Requests {
            reads: fields[0],
            read_sectors: fields[2],
            writes: fields[4],
            written_sectors: fields[6],
            in_flight: fields[8],
        }
    }

    /// # Panics
    /// On a host without the means: a test that needs a slow disk can't pass there.
    pub(crate) fn throttle(&self, bytes_per_second: u64) -> Throttled {
        assert!(
            Path::new(THROTTLE).exists(),
            "cannot make a disk slow: no {THROTTLE}; this test needs cgroup v1 with blkio"
        );
        let limits = fs::read_to_string(THROTTLE).unwrap();
        let before =
            limits.lines().find_map(|line| line.strip_prefix(&format!("{} ", self.number)));
        let before_bytes = before.map_or(0, |bytes| bytes.parse().unwrap());
        let throttled = Throttled { number: self.number.clone(), before_bytes };
        throttled.set(bytes_per_second);
        throttled
    }

    /// What the kernel has dirty or in writeback for this device: the pages of files, and those of its
    /// metadata that go through the page cache.
    pub(crate) fn dirty_bytes(&self) -> u64 {
        // btrfs counts under a name of its own, since it may have many devices.
        let number = self.btrfs_counters().unwrap_or_else(|| self.number.clone());
        let text = fs::read_to_string(mount("debugfs").join("bdi").join(number).join("stats"));
        let text = text.unwrap();
        let bytes = |name: &str| {
            let line = text.lines().find_map(|line| line.trim().strip_prefix(name)).unwrap();
            line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() << 10
        };
        bytes("BdiReclaimable:") + bytes("BdiWriteback:")
    }

    fn btrfs_counters(&self) -> Option<String> {
        let volumes = fs::read_dir("/sys/fs/btrfs").ok()?.flatten();
        let is_ours = |volume: &Path| volume.join("devices").join(&self.name).exists();
        let ours = volumes.map(|volume| volume.path()).find(|volume| is_ours(volume))?;
        let counters = fs::read_link(ours.join("bdi")).ok()?;
        Some(counters.file_name()?.to_str()?.to_owned())
    }
}

impl Throttled {
    fn set(&self, bytes_per_second: u64) {
        fs::write(THROTTLE, format!("{} {bytes_per_second}", self.number)).unwrap();
    }
}

impl Drop for Throttled {
    fn drop(&mut self) {
        self.set(self.before_bytes);
    }
}

/// Everything that writes to a file system waits, as long as this lives.
pub(crate) struct Frozen(PathBuf);

impl Frozen {
    pub(crate) fn new(directory: &Path) -> Self {
        fsfreeze("--freeze", directory);
        Self(directory.to_owned())
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        fsfreeze("--unfreeze", &self.0);
    }
}

fn fsfreeze(how: &str, directory: &Path) {
    let status = Command::new("fsfreeze").arg(how).arg(directory).status().unwrap();
    assert!(status.success(), "fsfreeze {how}");
}

/// Where what lies at `directory` is mounted, and from what.
fn mount_of(directory: &Path) -> (PathBuf, String) {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mounts = table.lines().filter_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        Some((PathBuf::from(left.split(' ').nth(4)?), right.split(' ').nth(1)?.to_owned()))
    });
    let above = mounts.filter(|(mount, _)| directory.starts_with(mount));
    above.max_by_key(|(mount, _)| mount.components().count()).expect("a mount")
}
