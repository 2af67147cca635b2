//! The few facts about the host that differ by platform and are no business of storage.

use std::io;
use std::path::{Path, PathBuf};

/// The user this process runs as; 0 where there are no such numbers.
#[must_use]
pub fn uid() -> u32 {
    #[cfg(unix)]
    return rustix::process::getuid().as_raw();
    #[cfg(not(unix))]
    0
}

/// The socket of the user that this process runs as.
#[must_use]
pub fn user_socket() -> PathBuf {
    let runtime_dir = std::env::var_os("XDG_RUNTIME_DIR");
    freemkvd_proto::socket::user_socket(runtime_dir.as_deref(), uid())
}

/// The total that `budget.total = "auto"` stands for, in bytes.
///
/// Above the kernel's background threshold its own flusher starts, and decides who waits; a tenth of
/// the available memory leaves a small NAS box to its other work; and 512 MiB are half a second of a
/// device of 1 GiB/s, beyond which more dirty bytes add delay but no speed.
#[must_use]
pub fn auto_budget_bytes() -> u64 {
    let most = 512 << 20;
    #[cfg(target_os = "linux")]
    {
        use procfs::Current;
        let available = procfs::Meminfo::current().ok().and_then(|info| info.mem_available);
        let tenth = available.map_or(most, |bytes| bytes / 10);
        let below = dirty_thresholds().map_or(most, |(background, _)| background / 10 * 8);
        most.min(tenth).min(below).max(crate::budget::LIMIT_BYTES_MIN)
    }
    #[cfg(not(target_os = "linux"))]
    most
}

/// The most that may be dirty before the kernel makes writers wait, in bytes: half way between its two
/// thresholds (`dirty_freerun_ceiling` in mm/page-writeback.c), less a tenth for what others write.
#[must_use]
pub fn throttle_bytes() -> u64 {
    #[cfg(target_os = "linux")]
    {
        let ceiling = dirty_thresholds().map(|(background, hard)| (background + hard) / 20 * 9);
        ceiling.unwrap_or(u64::MAX).max(crate::budget::LIMIT_BYTES_MIN)
    }
    #[cfg(not(target_os = "linux"))]
    u64::MAX
}

/// Where the kernel begins to write back by itself, and where it stops everybody, in bytes.
#[cfg(target_os = "linux")]
fn dirty_thresholds() -> Option<(u64, u64)> {
    let stats = procfs::vmstat().ok()?;
    let bytes = |name: &str| {
        let pages = u64::try_from(*stats.get(name)?).ok()?;
        Some(pages * crate::storage::page_bytes())
    };
    Some((bytes("nr_dirty_background_threshold")?, bytes("nr_dirty_threshold")?))
}

/// Raises the limit of open files as far as it goes; `None` where there is no such limit.
#[must_use]
pub fn raise_descriptor_limit() -> Option<u64> {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let limit = getrlimit(Resource::Nofile);
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        // What can't be raised stays as it is; streams are admitted by it.
        let _ = setrlimit(Resource::Nofile, raised);
        getrlimit(Resource::Nofile).current
    }
    #[cfg(not(unix))]
    None
}

/// How many descriptors this process has open, as far as the platform tells.
#[must_use]
pub fn open_descriptors() -> u64 {
    // What a process has from its parent: standard streams.
    let three = 3;
    #[cfg(target_os = "linux")]
    return std::fs::read_dir("/proc/self/fd").map_or(three, |open| open.count() as u64);
    #[cfg(not(target_os = "linux"))]
    three
}

/// Makes the directory of a socket below `/tmp` or a runtime directory, ours alone.
///
/// # Errors
/// It can't be made, or it is somebody else's.
pub fn make_private_directory(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{DirBuilderExt, MetadataExt};
        match std::fs::DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            result => return result,
        }
        let metadata = std::fs::symlink_metadata(path)?;
        let ours = metadata.is_dir() && metadata.uid() == uid() && metadata.mode() & 0o022 == 0;
        if !ours {
            let message = "it is not a directory that only its owner, this user, can write";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
        }
    }
    #[cfg(not(unix))]
    let _ = path;
    Ok(())
}
