//! What was looked up and measured, as values. Nothing here judges.

use std::path::PathBuf;

use serde::Serialize;

/// Everything that one examination has found.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Figures {
    #[serde(flatten)]
    pub(super) place: Place,
    pub(super) device: Device,
    pub(super) kernel: Kernel,
    pub(super) measured: Measured,
}

/// A directory and its mount. Texts are empty where the kernel does not tell.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Place {
    #[serde(serialize_with = "lossy")]
    pub(super) directory: PathBuf,
    pub(super) filesystem: String,
    #[serde(serialize_with = "lossy")]
    pub(super) mount: PathBuf,
    pub(super) source: String,
    /// Of the mount, and of its file system.
    pub(super) options: Vec<String>,
    pub(super) free_bytes: u64,
    /// Its number in the table of mounts.
    #[serde(skip)]
    pub(super) number: String,
}

/// Names need not be UTF-8, and JSON has to be.
#[expect(clippy::ptr_arg, reason = "serde passes the field")]
fn lossy<S: serde::Serializer>(path: &PathBuf, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&path.to_string_lossy())
}

impl Place {
    /// The directory, in words.
    pub(super) fn name(&self) -> String {
        self.directory.display().to_string()
    }

    /// Nothing but memory is below it.
    pub(super) fn is_memory(&self) -> bool {
        matches!(self.filesystem.as_str(), "tmpfs" | "ramfs" | "hugetlbfs")
    }

    /// A server is below it that the kernel asks by NFS.
    pub(super) fn is_nfs(&self) -> bool {
        matches!(self.filesystem.as_str(), "nfs" | "nfs4")
    }

    /// A process of this host is below it.
    pub(super) fn is_fuse(&self) -> bool {
        self.filesystem.starts_with("fuse")
    }

    /// Another file system of this host is below it.
    pub(super) fn is_overlay(&self) -> bool {
        self.filesystem == "overlay"
    }

    /// The value of `NAME=VALUE` among the options.
    pub(super) fn option(&self, name: &str) -> Option<&str> {
        self.options.iter().find_map(|option| option.strip_prefix(name)?.strip_prefix('='))
    }

    /// Whether a word is among the options.
    pub(super) fn has(&self, word: &str) -> bool {
        self.options.iter().any(|option| option == word)
    }
}

/// What sysfs tells of the block devices below.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Device {
    pub(super) names: Vec<String>,
    /// `None` where one of them does not tell.
    pub(super) rotational: Option<bool>,
    /// Whether one of them may lose what it has said it has, unless it is told to flush.
    pub(super) volatile_cache: Option<bool>,
    /// The file that counts what gets to the only device.
    #[serde(skip)]
    pub(super) counters: Option<PathBuf>,
}

/// What the kernel allows to be dirty, on the whole host.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Kernel {
    pub(super) release: String,
    /// Where it begins to write back by itself.
    pub(super) dirty_background_bytes: Option<u64>,
    /// Where it stops all writers.
    pub(super) dirty_bytes: Option<u64>,
    pub(super) dirty_expire_centiseconds: Option<u64>,
    pub(super) dirty_writeback_centiseconds: Option<u64>,
    pub(super) available_bytes: Option<u64>,
}

/// What was tried on the file.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Measured {
    /// The kernel and the file system take `RWF_DONTCACHE`.
    pub(super) dontcache_accepted: bool,
    /// Pages written so were seen to leave the page cache by themselves; `None` where that can't be seen.
    pub(super) dontcache_cleans: Option<bool>,
    /// Writeback of a range was seen to clean its pages; `None` where that can't be seen.
    pub(super) range_cleans: Option<bool>,
    /// Written in the main run, within `write_ns`, the last `fdatasync` included.
    pub(super) written_bytes: u64,
    pub(super) write_ns: u64,
    pub(super) write_bytes_per_second: u64,
    /// The longest that one window, with what made room for it, took in the main run.
    pub(super) window_ns_max: u64,
    pub(super) window_bytes: u64,
    pub(super) commits: usize,
    pub(super) commit_ns_median: u64,
    pub(super) commit_ns_max: u64,
    pub(super) patch: Option<Patch>,
    pub(super) big_sync: Sync,
}

/// Eight bytes into a page.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Patch {
    pub(super) count: usize,
    /// The page had been evicted.
    pub(super) evicted_ns_median: u64,
    pub(super) evicted_ns_max: u64,
    /// It was there.
    pub(super) resident_ns_median: u64,
}

/// One `fdatasync` of much at once.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Sync {
    pub(super) bytes: u64,
    pub(super) ns: u64,
    /// What the device counted meanwhile, of everybody's writes; `None` where it does not count.
    pub(super) device_written_bytes: Option<u64>,
    pub(super) device_flushes: Option<u64>,
}
