//! A file that its client has opened: whether it can be written by what came, and what there is to know of it.
//!
//! 1. Whatever is asked here may never return: the file may be one of a server that is dead, or that its client
//!    runs itself. It is asked in the stream's own thread.
//! 2. Nothing is opened that the client has not open. (The one more for direct writes is the same file again.)
//! 3. What comes later is found out by writing: a file that became immutable, a swap file, a sealed memfd.

use std::ffi::OsString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    CWD, FileType, Mode, OFlags, Stat, fcntl_getfl, fcntl_setfl, fstat, openat as open_at,
};

use super::super::beneath;
use super::super::mount::{self, Mount};
use super::super::{OpenError, Opened};
use super::kind::{self, Kind};
use super::{Descriptors, describe_on, device_number};

/// What stands for the mount of a file that this process can't see.
const ELSEWHERE: &str = "(mounted elsewhere)";

/// Takes a file that came by descriptors.
///
/// # Errors
/// [`OpenError`].
pub(super) fn check(given: Descriptors, label: &Path) -> Result<beneath::Opened, OpenError> {
    let io = |operation, source: rustix::io::Errno| {
        let (path, source) = (label.to_owned(), source.into());
        OpenError::Io { path, operation, source }
    };
    let bad = |what| OpenError::BadGiven { path: label.to_owned(), what };
    let Descriptors { data, sentinel, directory } = given;
    for file in [&data, &sentinel] {
        let flags = fcntl_getfl(file).map_err(|errno| io("ask about", errno))?;
        not_writable(flags).map_or(Ok(()), |what| Err(bad(what)))?;
    }
    let stat = fstat(&data).map_err(|errno| io("ask about", errno))?;
    let other = fstat(&sentinel).map_err(|errno| io("ask about", errno))?;
    for stat in [&stat, &other] {
        not_a_file(stat).map_or(Ok(()), |what| Err(bad(what)))?;
    }
    if (stat.st_dev, stat.st_ino) != (other.st_dev, other.st_ino) {
        return Err(bad("they are two different files"));
    }
    if is_one_description(&data, &sentinel).map_err(|errno| io("ask about", errno))? {
        return Err(bad("the second one is a copy of the first"));
    }
    if Kind::of(kind::magic(&data)) == Kind::Memory {
        return Err(bad("it lies in memory, which would count as freemkvd's"));
    }
    if let Some(directory) = &directory {
        let flags = fcntl_getfl(directory).map_err(|errno| io("ask about", errno))?;
        let stat = fstat(directory).map_err(|errno| io("ask about", errno))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Err(bad("what came as its directory is none"));
        }
        if flags.contains(OFlags::PATH) {
            return Err(bad("its directory was opened with O_PATH, and can't be synced"));
        }
    }
    let direct = reopened(&data, &stat);
    // No name: what becomes of it is the client's business.
    let name = OsString::new();
    Ok(beneath::Opened { data, sentinel, direct, directory, name, stat, created: false })
}

/// What there is to know of it. What its client calls it leads elsewhere here, or nowhere, so that the table of
/// mounts is asked by numbers alone.
pub(super) fn describe(file: beneath::Opened) -> Opened {
    let device = device_number(file.stat.st_dev);
    let mount = mount::of_number(&file.data, &device).unwrap_or_else(|| Mount {
        device,
        point: PathBuf::from(ELSEWHERE),
        ..Mount::default()
    });
    describe_on(mount, file)
}

/// Why a file with these flags can't be written at any offset.
fn not_writable(flags: OFlags) -> Option<&'static str> {
    if flags.contains(OFlags::PATH) {
        return Some("one of them was opened with O_PATH");
    }
    if !matches!(flags & OFlags::RWMODE, OFlags::WRONLY | OFlags::RDWR) {
        return Some("one of them is not open for writing");
    }
    if flags.contains(OFlags::APPEND) {
        return Some(
            "one of them was opened with O_APPEND, and would write at the end whatever the place",
        );
    }
    flags.contains(OFlags::DIRECT).then_some("one of them was opened with O_DIRECT")
}

fn not_a_file(stat: &Stat) -> Option<&'static str> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => None,
        FileType::Directory => Some("one of them is a directory"),
        FileType::Fifo => Some("one of them is a pipe"),
        FileType::Socket => Some("one of them is a socket"),
        _ => Some("one of them is a device"),
    }
}

/// True when one is a copy of the other (`dup`, or passed twice): they have one cursor into the kernel's record of
/// writeback errors, and what a wait on the first has consumed the second does not know any more either.
///
/// A flag that means nothing to a regular file is changed on the one, and looked for on the other. The kernel has a
/// call for it (`kcmp`), which a filter of system calls may refuse.
fn is_one_description(data: &OwnedFd, sentinel: &OwnedFd) -> rustix::io::Result<bool> {
    let (before, other) = (fcntl_getfl(data)?, fcntl_getfl(sentinel)?);
    fcntl_setfl(data, before ^ OFlags::NONBLOCK)?;
    let now = fcntl_getfl(sentinel);
    fcntl_setfl(data, before)?;
    Ok((now? ^ other).contains(OFlags::NONBLOCK))
}

/// The same file once more, for direct writes, where this process may open it. It goes without otherwise.
fn reopened(data: &OwnedFd, stat: &Stat) -> Option<OwnedFd> {
    let link = format!("/proc/self/fd/{}", data.as_raw_fd());
    // Not waiting for the client to give up a lease.
    let flags = OFlags::WRONLY | OFlags::DIRECT | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let direct = open_at(CWD, link, flags, Mode::empty()).ok()?;
    let found = fstat(&direct).ok()?;
    ((found.st_dev, found.st_ino) == (stat.st_dev, stat.st_ino)).then_some(direct)
}
