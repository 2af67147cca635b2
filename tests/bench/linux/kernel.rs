//! Figures that the kernel gives away: memory and CPU time of a process, dirty pages of the host.

use std::fs;
use std::io;
use std::path::Path;

use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use serde::Serialize;

/// Memory of a process that is its own, shared slots included, and files that it reads are not.
pub(crate) fn memory_bytes(pid: u32) -> io::Result<u64> {
    memory_in(&fs::read_to_string(format!("/proc/{pid}/status"))?, &["RssAnon:", "RssShmem:"])
}

/// Memory of a process that nobody else has.
pub(crate) fn private_bytes(pid: u32) -> io::Result<u64> {
    memory_in(&fs::read_to_string(format!("/proc/{pid}/status"))?, &["RssAnon:"])
}

/// [`memory_bytes`] of this process.
pub(crate) fn own_memory_bytes() -> io::Result<u64> {
    memory_bytes(std::process::id())
}

fn memory_in(status: &str, names: &[&str]) -> io::Result<u64> {
    let values: Option<Vec<_>> = names.iter().map(|name| kib_bytes(status, name)).collect();
    let values = values.ok_or(io::ErrorKind::InvalidData)?;
    Ok(values.iter().sum())
}

/// `NAME 1234 kB` in one of the kernel's tables, in bytes.
pub(crate) fn kib_bytes(table: &str, name: &str) -> Option<u64> {
    let line = table.lines().find_map(|line| line.trim_start().strip_prefix(name))?;
    line.trim().trim_end_matches("kB").trim().parse::<u64>().ok().map(|kib| kib << 10)
}

/// CPU time of a process and all threads that it ever had, in nanoseconds. Its own clock, because
/// `/proc/PID/stat` counts in steps of 10 ms.
pub(crate) fn cpu_ns(pid: u32) -> io::Result<u64> {
    let pid = i32::try_from(pid).map_err(io::Error::other)?;
    let time = clock_gettime(clock_getcpuclockid(Pid::from_raw(pid))?)?;
    Ok(time.tv_sec().unsigned_abs() * 1_000_000_000 + time.tv_nsec().unsigned_abs())
}

/// Dirty and writeback pages of the whole host, in bytes.
pub(crate) fn host_dirty_bytes() -> Option<u64> {
    let table = fs::read_to_string("/proc/meminfo").ok()?;
    Some(kib_bytes(&table, "Dirty:")? + kib_bytes(&table, "Writeback:")?)
}

/// What the kernel tolerates at the moment.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct DirtyLimits {
    /// Above it the kernel starts writeback by itself.
    pub(crate) background_bytes: u64,
    /// Above it (and from half way between the two) writers are held up.
    pub(crate) limit_bytes: u64,
}

impl DirtyLimits {
    pub(crate) fn read() -> Option<Self> {
        let table = fs::read_to_string("/proc/vmstat").ok()?;
        let pages = |name: &str| {
            let line = table.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().parse::<u64>().ok()
        };
        let page_bytes = rustix::param::page_size() as u64;
        Some(Self {
            background_bytes: pages("nr_dirty_background_threshold ")? * page_bytes,
            limit_bytes: pages("nr_dirty_threshold ")? * page_bytes,
        })
    }

    /// Where the kernel begins to hold writers up.
    pub(crate) fn throttled_from_bytes(&self) -> u64 {
        u64::midpoint(self.background_bytes, self.limit_bytes)
    }
}

/// The kernel's own name for its version.
pub(crate) fn release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

/// The whole disk that a file system lies on, as `MAJOR:MINOR`; `None` when it lies on none.
pub(crate) fn disk_of(directory: &Path) -> Option<(u32, u32)> {
    let number = rustix::fs::stat(directory).ok()?.st_dev;
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    let entry = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()?;
    // Requests are counted for whole disks.
    let disk = if entry.join("partition").exists() { entry.parent()?.to_owned() } else { entry };
    let text = fs::read_to_string(disk.join("dev")).ok()?;
    let (major, minor) = text.trim().split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_the_kernel_are_understood() {
        let status = "Name:\tx\nRssAnon:\t    1024 kB\nRssFile:\t 7 kB\nRssShmem:\t       4 kB\n";
        assert_eq!(memory_in(status, &["RssAnon:"]).unwrap(), 1 << 20);
        assert_eq!(memory_in(status, &["RssAnon:", "RssShmem:"]).unwrap(), (1 << 20) + 4096);
        assert!(memory_in(status, &["RssNone:"]).is_err());
        let bdi = "BdiWriteback:                8 kB\nBdiReclaimable:             12 kB\n";
        assert_eq!(kib_bytes(bdi, "BdiReclaimable:"), Some(12 << 10));
    }

    #[test]
    fn this_process_has_memory_and_a_clock() {
        assert!(own_memory_bytes().unwrap() > 0);
        assert!(cpu_ns(std::process::id()).unwrap() > 0);
        assert!(DirtyLimits::read().is_some_and(|limits| limits.limit_bytes > 0));
        assert!(!release().is_empty());
    }
}
