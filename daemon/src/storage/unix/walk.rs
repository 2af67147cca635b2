//! From a root to a file's directory, each step by the descriptor of the one before. A link on the way is refused
//! whatever it leads to: without `openat2` nobody can tell, and be sure of it a moment later.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, fsync, mkdirat, openat, statat};
use rustix::io::Errno;

use crate::storage::creation::{DIRECTORIES_MADE_MAX, too_many_missing};
use crate::storage::steps;

/// Why not.
#[derive(Debug)]
pub(super) enum Stopped {
    /// A link, or a step up.
    Outside,
    /// The system said no while doing this.
    Io(&'static str, io::Error),
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// The directory of `rest` below `root`. What is missing on the way is made with `directory_mode`, if there is one,
/// each durable before the next; where too many are missing none is made.
pub(super) fn directory_of(
    root: &Path,
    rest: &Path,
    directory_mode: Option<u32>,
) -> Result<OwnedFd, Stopped> {
    let mut steps = Vec::new();
    for step in rest.parent().into_iter().flat_map(Path::components) {
        match step {
            Component::Normal(step) => steps.push(step),
            Component::CurDir => {}
            _ => return Err(Stopped::Outside),
        }
    }
    let mut reached = openat(CWD, root, DIRECTORY, Mode::empty())
        .map_err(|errno| Stopped::Io("enter the root of", errno.into()))?;
    let mut left = steps.len();
    for step in steps {
        reached = match (enter(&reached, step), directory_mode) {
            (Err(Errno::NOENT), Some(mode)) => {
                if left > DIRECTORIES_MADE_MAX {
                    return Err(Stopped::Io("create the directory of", too_many_missing()));
                }
                make(&reached, step, mode)?;
                enter(&reached, step)
            }
            (entered, _) => entered,
        }
        .map_err(|errno| stopped(&reached, step, errno))?;
        left -= 1;
    }
    Ok(reached)
}

fn enter(above: &OwnedFd, step: &OsStr) -> rustix::io::Result<OwnedFd> {
    openat(above, step, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())
}

fn make(above: &OwnedFd, step: &OsStr, mode: u32) -> Result<(), Stopped> {
    #[cfg_attr(
        target_os = "linux",
        expect(clippy::useless_conversion, reason = "narrower elsewhere")
    )]
    let mode = Mode::from_raw_mode(mode.try_into().unwrap_or(0o777));
    match mkdirat(above, step, mode) {
        // Another stream was quicker, and may not have synced it yet.
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(Stopped::Io("create the directory of", errno.into())),
    }
    steps::uninterrupted(|| Ok(fsync(above)?))
        .map_err(|error| Stopped::Io("make durable the directory of", error))
}

/// What a link is called when it is not followed differs: ELOOP, EMLINK on FreeBSD, ENOTDIR on Linux.
fn stopped(above: &OwnedFd, step: &OsStr, errno: Errno) -> Stopped {
    let is_link = statat(above, step, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink);
    if is_link { Stopped::Outside } else { Stopped::Io("enter the directory of", errno.into()) }
}
