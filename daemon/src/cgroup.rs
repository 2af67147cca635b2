//! The memory that the control groups of this process leave it: the least of all limits from its own group
//! up to the mount, in version 1 and 2.
//!
//! What is over a limit of the host is slow; what is over that of a group is killed. So what the daemon
//! holds itself, and what it makes dirty, are parts of it, whatever the configuration says.

use std::path::{Path, PathBuf};

/// From here on version 1 means that there is no limit.
const UNLIMITED_BYTES: u64 = 1 << 62;

/// The least limit, and where it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// In bytes.
    pub bytes: u64,
    /// The file of the group that has it.
    pub file: PathBuf,
}

impl Limit {
    /// What all queues may hold: a half. What is in them can't be taken back by the kernel.
    #[must_use]
    pub fn queues_bytes(&self) -> u64 {
        self.bytes / 2
    }

    /// What may be dirty: a quarter. Until it is clean it can't be taken back either. The rest is for threads,
    /// tables and clean pages.
    #[must_use]
    pub fn dirty_bytes(&self) -> u64 {
        self.bytes / 4
    }
}

/// The limit as it is now; none where there are no such groups.
#[must_use]
pub fn memory_limit() -> Option<Limit> {
    let read = |path: &Path| std::fs::read_to_string(path).ok();
    let of_process = |file| read(&Path::new("/proc/self").join(file)).unwrap_or_default();
    least(&of_process("cgroup"), &of_process("mountinfo"), read)
}

/// The least limit of the groups named in `cgroup`, whose files are where `mountinfo` says.
fn least(cgroup: &str, mountinfo: &str, read: impl Fn(&Path) -> Option<String>) -> Option<Limit> {
    let mut least: Option<Limit> = None;
    for (version, group) in cgroup.lines().filter_map(group) {
        let Some((point, inside)) = mountinfo.lines().find_map(|line| mount(line, version)) else {
            continue;
        };
        // Of a group outside of what is mounted nothing can be seen but the mount itself.
        let below = Path::new(group).strip_prefix(inside).unwrap_or(Path::new(""));
        let own = Path::new(point).join(below);
        let files = match version {
            Version::One => &["memory.limit_in_bytes"][..],
            Version::Two => &["memory.max", "memory.high"],
        };
        let groups = own.ancestors().take_while(|directory| directory.starts_with(point));
        for file in groups.flat_map(|group| files.iter().map(|file| group.join(file))) {
            // "max" is no number, and no limit.
            let bytes = read(&file).and_then(|text| text.trim().parse().ok());
            let Some(bytes) = bytes.filter(|bytes| *bytes < UNLIMITED_BYTES) else { continue };
            if least.as_ref().is_none_or(|least| bytes < least.bytes) {
                least = Some(Limit { bytes, file });
            }
        }
    }
    least
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// The group in a line of `/proc/self/cgroup`, if it is one that counts memory.
fn group(line: &str) -> Option<(Version, &str)> {
    let mut fields = line.splitn(3, ':');
    let (number, controllers, group) = (fields.next()?, fields.next()?, fields.next()?);
    if number == "0" && controllers.is_empty() {
        return Some((Version::Two, group));
    }
    controllers.split(',').any(|name| name == "memory").then_some((Version::One, group))
}

/// Where a line of `/proc/self/mountinfo` has the groups of this version mounted, and which group is at the
/// top there.
fn mount(line: &str, version: Version) -> Option<(&str, &str)> {
    let (left, right) = line.split_once(" - ")?;
    let (mut left, mut right) = (left.split(' ').skip(3), right.split(' '));
    let (top, point) = (left.next()?, left.next()?);
    let (filesystem, options) = (right.next()?, right.nth(1)?);
    let is_it = match version {
        Version::One => {
            filesystem == "cgroup" && options.split(',').any(|option| option == "memory")
        }
        Version::Two => filesystem == "cgroup2",
    };
    is_it.then_some((point, top))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    const V2: &str = "25 1 0:22 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
    const V1: &str = "24 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
        30 25 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
        31 25 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
        32 25 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

    fn found(cgroup: &str, mountinfo: &str, files: &[(&str, &str)]) -> Option<(u64, String)> {
        let read = |path: &Path| {
            let file = files.iter().find(|(name, _)| Path::new(name) == path);
            file.map(|(_, text)| (*text).to_owned())
        };
        let limit = least(cgroup, mountinfo, read)?;
        Some((limit.bytes, limit.file.display().to_string()))
    }

    #[test]
    fn the_least_of_all_groups_above_counts_whether_it_kills_or_throttles() {
        let group = "0::/system.slice/freemkvd.service\n";
        let own = "/sys/fs/cgroup/system.slice/freemkvd.service/";
        let (max, high) = (format!("{own}memory.max"), format!("{own}memory.high"));
        let slice = "/sys/fs/cgroup/system.slice/memory.max";
        assert_eq!(found(group, V2, &[(&max, "max\n"), (&high, "max\n")]), None);
        let files = [(&*max, "1000\n"), (&*high, "max\n"), (slice, "2000\n")];
        assert_eq!(found(group, V2, &files), Some((1000, max.clone())));
        let files = [(&*max, "1000\n"), (&*high, "900\n"), (slice, "2000\n")];
        assert_eq!(found(group, V2, &files), Some((900, high.clone())));
        let files = [(&*max, "1000\n"), (&*high, "max\n"), (slice, "500\n")];
        assert_eq!(found(group, V2, &files), Some((500, slice.to_owned())));
    }

    #[test]
    fn version_1_is_found_among_its_controllers_and_has_a_number_for_no_limit() {
        let groups = "5:cpu,cpuacct:/cpu\n4:hugetlb,memory:/user/rips\n0::/other\n";
        let own = "/sys/fs/cgroup/memory/user/rips/memory.limit_in_bytes";
        let root = "/sys/fs/cgroup/memory/memory.limit_in_bytes";
        let none = "9223372036854771712\n";
        assert_eq!(found(groups, V1, &[(own, none), (root, none)]), None);
        let files = [(own, "67108864\n"), (root, none)];
        assert_eq!(found(groups, V1, &files), Some((64 << 20, own.to_owned())));
        let unified = "/sys/fs/cgroup/unified/other/memory.max";
        let files = [(own, "67108864\n"), (unified, "1024\n")];
        assert_eq!(found(groups, V1, &files), Some((1024, unified.to_owned())));
    }

    #[test]
    fn in_a_container_the_mount_is_its_own_group() {
        let mounts = "31 25 0:27 /docker/77 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
        let file = "/sys/fs/cgroup/memory/memory.limit_in_bytes";
        for group in ["4:memory:/docker/77\n", "4:memory:/elsewhere\n", "4:memory:/../..\n"] {
            assert_eq!(found(group, mounts, &[(file, "77\n")]), Some((77, file.to_owned())));
        }
        let inner = "/sys/fs/cgroup/memory/rips/memory.limit_in_bytes";
        let files = [(inner, "50\n"), (file, "77\n")];
        assert_eq!(found("4:memory:/docker/77/rips\n", mounts, &files).unwrap().0, 50);
    }

    #[test]
    fn where_nothing_is_known_there_is_no_limit() {
        for (groups, mounts) in [("", ""), ("nonsense", V2), ("0::/a\n", ""), ("0::/a\n", V2)] {
            assert_eq!(found(groups, mounts, &[]), None);
        }
        assert_eq!(found("0::/a\n", V2, &[("/sys/fs/cgroup/a/memory.max", "lots")]), None);
    }
}
