//! Walks below a root, each one by the kernel: `openat2(2)` with `RESOLVE_BENEATH`, so that nobody can
//! swap a directory between a check and the use; step by step where there is no such call. Mounts below a root are crossed; what is mounted there is
//! below the root, too.
//!
//! 1. Nothing is looked up but below a descriptor of the root, or of a directory found there.
//! 2. A directory is made in one that was found so, by a name of one component.
//! 3. Nothing is made, and no file found, in a file system that is a view into the kernel: what looks like
//!    a file there acts when it is written, and may be this process' memory.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    CWD, FsWord, Mode, OFlags, ResolveFlags, fstatfs, fsync, mkdirat, openat as open_at, openat2,
};
use rustix::io::Errno;

use super::{Refused, stepwise};
use crate::storage::creation::{DIRECTORIES_MADE_MAX, too_many_missing};
use crate::storage::steps;

/// How often a walk is begun again after a rename somewhere on the host that may have led it out. Somebody
/// who renames without a pause holds up only paths that have a `..`.
const WALKS_MAX: u32 = 64;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// The root, and the directory of `rest` below it. What is missing on the way is made with
/// `directory_mode`, if there is one.
pub(super) fn directory_of(
    root: &Path,
    rest: &Path,
    directory_mode: Option<u32>,
) -> Result<(OwnedFd, OwnedFd), Refused> {
    let root = open_at(CWD, root, DIRECTORY, Mode::empty())
        .map_err(|errno| Refused::Io("enter the root of", errno.into()))?;
    let directory = match rest.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => {
            match (enter(&root, parent), directory_mode) {
                (Err(Errno::NOENT), Some(mode)) => make(&root, parent, Mode::from_raw_mode(mode))?,
                (entered, _) => {
                    entered.map_err(|errno| refused("enter the directory of", errno))?
                }
            }
        }
        _ => root.try_clone().map_err(|error| Refused::Io("open", error))?,
    };
    Ok((root, directory))
}

/// Makes the directories of `path` below `root` that are missing, each durable before the next, and enters
/// the last one. Where too many are missing none is made.
fn make(root: &OwnedFd, path: &Path, mode: Mode) -> Result<OwnedFd, Refused> {
    let io = |errno: Errno| Refused::Io("create the directory of", errno.into());
    // Of what a ".." after a missing directory means, there is no common opinion.
    if !path.components().all(|step| matches!(step, Component::Normal(_))) {
        return Err(io(Errno::NOENT));
    }
    if missing(root, path, DIRECTORIES_MADE_MAX + 1) > DIRECTORIES_MADE_MAX {
        return Err(Refused::Io("create the directory of", too_many_missing()));
    }
    let mut above = root.try_clone().map_err(|error| Refused::Io("open", error))?;
    let mut reached = PathBuf::new();
    for step in path.components() {
        reached.push(step);
        above = match enter(root, &reached) {
            Err(Errno::NOENT) => {
                refuse_views(&above)?;
                match mkdirat(&above, step.as_os_str(), mode) {
                    // Another stream was quicker, and may not have synced it yet.
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(io(errno)),
                }
                steps::uninterrupted(|| Ok(fsync(&above)?))
                    .map_err(|error| Refused::Io("make durable the directory of", error))?;
                enter(root, &reached)
            }
            entered => entered,
        }
        .map_err(|errno| refused("enter the directory of", errno))?;
    }
    Ok(above)
}

/// How many directories of `path` are missing at its end, counted up to `most`. That one is not entered for another reason is found out
/// by whoever makes them.
fn missing(root: &OwnedFd, path: &Path, most: usize) -> usize {
    let is_missing = |path: &&Path| {
        !path.as_os_str().is_empty() && matches!(enter(root, path), Err(Errno::NOENT))
    };
    path.ancestors().take(most).take_while(is_missing).count()
}

fn enter(root: &OwnedFd, path: &Path) -> rustix::io::Result<OwnedFd> {
    beneath(root, path.as_os_str(), DIRECTORY, Mode::empty())
}

/// Opens `path` below `start`.
pub(super) fn beneath(
    start: &OwnedFd,
    path: &OsStr,
    flags: OFlags,
    mode: Mode,
) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let mut walks = 0;
    loop {
        walks += 1;
        match rustix::io::retry_on_intr(|| openat2(start, path, flags, mode, resolve)) {
            Err(Errno::NOSYS) => return stepwise::open(start, Path::new(path), flags, mode),
            // A rename raced with the walk, and the kernel can't tell whether it stayed below.
            Err(Errno::AGAIN) if walks < WALKS_MAX => {}
            result => return result,
        }
    }
}

pub(super) fn refused(operation: &'static str, errno: Errno) -> Refused {
    match errno {
        Errno::XDEV | Errno::LOOP => Refused::Outside,
        Errno::ISDIR => Refused::NotAFile("a directory"),
        errno => Refused::Io(operation, errno.into()),
    }
}

/// Refuses a place in a file system that is a view into the kernel.
pub(super) fn refuse_views(file: &OwnedFd) -> Result<(), Refused> {
    let told = fstatfs(file).map_err(|errno| Refused::Io("ask about", io::Error::from(errno)))?;
    if is_view(told.f_type) { Err(Refused::NotAFile(A_VIEW)) } else { Ok(()) }
}

/// True for the number of a file system whose files are no files.
pub(in super::super) fn is_view(magic: FsWord) -> bool {
    u32::try_from(magic).is_ok_and(|magic| VIEWS.contains(&magic))
}

/// What such a file is.
pub(in super::super) const A_VIEW: &str = "a view into the kernel, as files in /proc are";

/// From the kernel's `include/uapi/linux/magic.h`. A chroot or a container below a root may have any of
/// them.
const VIEWS: [u32; 20] = [
    0x9fa0,      // proc
    0x6265_6572, // sysfs
    0x0027_e0eb, // cgroup
    0x6367_7270, // cgroup2
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs
    0x7363_6673, // securityfs
    0xcafe_4a11, // bpf
    0x6265_6570, // configfs
    0xde5e_81e4, // efivarfs
    0x6165_676c, // pstore
    0xf97c_ff8c, // selinuxfs
    0x4341_5d53, // smackfs
    0x5a3c_69f0, // AppArmor
    0x4249_4e4d, // binfmt_misc
    0x1cd1,      // devpts
    0x1980_0202, // mqueue
    0x6e73_6673, // namespaces
    0x6573_5543, // FUSE's control
    0x0765_5821, // resctrl
];
