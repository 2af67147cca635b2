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

/// The memory of the host that nobody needs, in bytes; `None` where the platform does not tell.
#[must_use]
pub fn available_bytes() -> Option<u64> {
    #[cfg(target_os = "linux")]
    {
        use procfs::Current;
        procfs::Meminfo::current().ok().and_then(|info| info.mem_available)
    }
    #[cfg(not(target_os = "linux"))]
    None
}

/// Where the kernel begins to write back by itself, in bytes; `None` where the platform does not tell.
#[must_use]
pub fn background_bytes() -> Option<u64> {
    #[cfg(target_os = "linux")]
    return dirty_thresholds().map(|(background, _)| background);
    #[cfg(not(target_os = "linux"))]
    None
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

/// True when the system has no memory for what was to be sent: nothing was, and later it may be.
#[must_use]
pub fn is_short_of_buffers(error: &io::Error) -> bool {
    #[cfg(unix)]
    {
        use rustix::io::Errno;
        matches!(Errno::from_io_error(error), Some(Errno::NOBUFS | Errno::NOMEM))
    }
    #[cfg(not(unix))]
    {
        error.kind() == io::ErrorKind::OutOfMemory
    }
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
