//! Where files are written: directories on file systems of several kinds.
//!
//! Owns what had to be set up for them. A [`Place`] that is dropped takes all of it away again.

mod loops;
mod name;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use freemkvd::config::Size;
use nix::sched::{CloneFlags, unshare};
use rustix::fs::{StatVfs, statvfs};

pub(crate) use name::{Filesystem, PlaceName};

use super::dirty::Source;
use super::kernel;
use loops::Loop;

/// A directory to write into, ready to use.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) name: PlaceName,
    pub(crate) directory: PathBuf,
    /// What it was made to do, in bytes per second.
    pub(crate) bytes_per_second: Option<u64>,
    /// The disk that gets the requests.
    pub(crate) disk: Option<(u32, u32)>,
    /// Where its dirty pages are counted.
    pub(crate) dirty: Source,
    /// For people.
    pub(crate) description: String,
    /// Removed before what it lies on.
    _scratch: tempfile::TempDir,
    _below: Option<Loop>,
}

/// Why a place is left out.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// This host or this user can't have it.
    LeftOut(String),
    /// It should have worked.
    Failed(io::Error),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

/// What all places need.
#[derive(Debug)]
pub(crate) struct Ground {
    /// On the local disk; holds images and mount points.
    work: tempfile::TempDir,
    is_root: bool,
    /// Where the kernel counts dirty pages by device, and traces requests; root's alone.
    debugfs: Option<PathBuf>,
    tracefs: Option<PathBuf>,
    /// Those that had to be mounted.
    mounts: Vec<PathBuf>,
}

impl Ground {
    /// As root everything is mounted in a namespace of this process and its children, so that even a
    /// crash takes the mounts along, and with them the loop devices.
    pub(crate) fn new(directory: &Path) -> io::Result<Self> {
        let is_root = rustix::process::geteuid().is_root();
        if is_root {
            unshare(CloneFlags::CLONE_NEWNS)?;
            loops::command("mount", ["--make-rprivate", "/"])?;
        }
        let work = tempfile::Builder::new().prefix("freemkvd-bench-").tempdir_in(directory)?;
        let mut ground = Self { work, is_root, debugfs: None, tracefs: None, mounts: Vec::new() };
        if is_root {
            ground.debugfs = ground.mounted("debugfs", "/sys/kernel/debug", "bdi");
            ground.tracefs = ground.mounted("tracefs", "/sys/kernel/tracing", "instances");
        }
        Ok(ground)
    }

    /// Where it is mounted already, as `sign` in it shows, or in a directory of ours.
    fn mounted(&mut self, filesystem: &str, usual: &str, sign: &str) -> Option<PathBuf> {
        if Path::new(usual).join(sign).exists() {
            return Some(PathBuf::from(usual));
        }
        let directory = self.work.path().join(filesystem);
        fs::create_dir(&directory).ok()?;
        let arguments = ["-t".as_ref(), filesystem.as_ref(), filesystem.as_ref()];
        loops::command("mount", arguments.into_iter().chain([directory.as_os_str()])).ok()?;
        self.mounts.push(directory.clone());
        Some(directory)
    }

    pub(crate) fn is_root(&self) -> bool {
        self.is_root
    }

    pub(crate) fn tracefs(&self) -> Option<&Path> {
        self.tracefs.as_deref()
    }

    /// Sets a place up for runs of `size(speed of the place)` bytes.
    pub(crate) fn prepare(
        &self,
        name: PlaceName,
        size: impl Fn(Option<u64>) -> u64,
    ) -> Result<Place, Refusal> {
        match name.filesystem {
            Filesystem::Tmpfs => tmpfs(name, size(None)),
            Filesystem::Local => local(name, self.work.path(), size(None)),
            _ if !self.is_root => Err(Refusal::LeftOut("needs root".to_owned())),
            filesystem => {
                let rate = name.megabytes_per_second.map(|rate| rate * 1_000_000);
                let debugfs = self.debugfs.as_deref();
                let below = Loop::set_up(self.work.path(), debugfs, filesystem, rate, size(rate))?;
                let scratch = tempfile::tempdir_in(below.directory())?;
                Ok(Place {
                    name,
                    directory: scratch.path().canonicalize()?,
                    bytes_per_second: rate,
                    disk: Some(below.number()),
                    dirty: below.dirty_source(),
                    description: below.description(),
                    _scratch: scratch,
                    _below: Some(below),
                })
            }
        }
    }
}

impl Drop for Ground {
    /// Before the directory is emptied: these must not be.
    fn drop(&mut self) {
        for directory in self.mounts.drain(..) {
            loops::unmount(&directory);
        }
    }
}

fn tmpfs(name: PlaceName, size: u64) -> Result<Place, Refusal> {
    /// Magic number of tmpfs, in linux/magic.h.
    const TMPFS: rustix::fs::FsWord = 0x0102_1994;
    let candidates = ["/dev/shm", "/tmp", "/run/shm"];
    let is_tmpfs = |path: &&&str| {
        let kind = rustix::fs::statfs(**path).map(|stat| stat.f_type);
        kind == Ok(TMPFS) && tempfile::tempdir_in(path).is_ok()
    };
    let found = candidates.iter().find(is_tmpfs);
    let found = found.ok_or_else(|| Refusal::LeftOut("no tmpfs to write to".to_owned()))?;
    plain(name, Path::new(found), size, None, Source::Nothing)
}

fn local(name: PlaceName, directory: &Path, size: u64) -> Result<Place, Refusal> {
    // Others write to it as well: only our own files are of interest.
    plain(name, directory, size, kernel::disk_of(directory), Source::Files)
}

fn plain(
    name: PlaceName,
    directory: &Path,
    size: u64,
    disk: Option<(u32, u32)>,
    dirty: Source,
) -> Result<Place, Refusal> {
    let StatVfs { f_bavail, f_frsize, .. } = statvfs(directory).map_err(io::Error::from)?;
    let free = f_bavail * f_frsize;
    let needed = size + size / 4;
    if free < needed {
        return Err(Refusal::LeftOut(format!("{} free, {} needed", Size(free), Size(needed))));
    }
    let scratch = tempfile::Builder::new().prefix("freemkvd-bench-").tempdir_in(directory)?;
    let directory = scratch.path().canonicalize()?;
    let description = format!("{} on {}", directory.display(), filesystem_of(&directory));
    Ok(Place {
        name,
        directory,
        bytes_per_second: None,
        disk,
        dirty,
        description,
        _scratch: scratch,
        _below: None,
    })
}

/// From the kernel's table: the file system of the longest mount point above.
fn filesystem_of(directory: &Path) -> String {
    let table = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mounts = table.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        Some((words.next()?, words.next()?))
    });
    let above = mounts.filter(|(mount, _)| directory.starts_with(mount));
    let found = above.max_by_key(|(mount, _)| mount.len());
    found.map_or_else(|| "file system".to_owned(), |(_, name)| name.to_owned())
}
