//! Opening below a root, so that no symlink, `..` or magic link leads out: `openat2(2)` with
//! `RESOLVE_BENEATH` leaves the walk to the kernel, where nobody can swap a directory between the
//! check and the use.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use freemkvd_proto::OpenMode;
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat, openat2};
use rustix::io::Errno;

/// A file, opened twice before its first write, and its directory.
pub(super) struct Opened {
    /// The descriptor that is written to and waited on.
    pub(super) data: OwnedFd,
    /// The one that is only ever synced: a wait on `data` consumes the kernel's record of a writeback
    /// error for `data` alone.
    pub(super) sentinel: OwnedFd,
    /// The directory that holds the file's name.
    pub(super) directory: OwnedFd,
    /// What `data` is.
    pub(super) stat: Stat,
    /// True when it did not exist before.
    pub(super) created: bool,
}

/// Why not.
pub(super) enum Refused {
    /// The path leads out of the root.
    Outside,
    /// It is no regular file; says what it is.
    NotAFile(&'static str),
    /// The system said no while doing this.
    Io(&'static str, io::Error),
}

/// Mode of a new file before the umask.
const FILE_MODE: Mode = Mode::from_raw_mode(0o666);

/// Opens `rest` below `root`.
pub(super) fn open(root: &Path, rest: &Path, mode: OpenMode) -> Result<Opened, Refused> {
    let dir_flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, root, dir_flags, Mode::empty())
        .map_err(|errno| Refused::Io("enter the root of", errno.into()))?;
    if rest.file_name().is_none() {
        return Err(Refused::NotAFile("a directory"));
    }
    let directory = match rest.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => {
            beneath(&root, parent.as_os_str(), dir_flags, Mode::empty())
                .map_err(|errno| refused("enter the directory of", errno))?
        }
        _ => root.try_clone().map_err(|error| Refused::Io("open", error))?,
    };
    // From here on the directory is fixed, and the name is one component: a link that leads out of
    // the root still must not be followed, so the root stays the start of the walk.
    let walk = |flags, mode| beneath(&root, rest.as_os_str(), flags, mode);
    // Without O_NONBLOCK the open of a FIFO would hang until somebody reads it.
    let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let new = || walk(flags | OFlags::CREATE | OFlags::EXCL, FILE_MODE);
    let (data, created) = match mode {
        OpenMode::Existing => (walk(flags, Mode::empty()), false),
        OpenMode::CreateNew => (new(), true),
        OpenMode::Create => match walk(flags, Mode::empty()) {
            Err(Errno::NOENT) => match new() {
                // A link to a file that is not there yet, or somebody was quicker: not ours alone.
                Err(Errno::EXIST) => (walk(flags | OFlags::CREATE, FILE_MODE), false),
                new => (new, true),
            },
            existing => (existing, false),
        },
    };
    let operation = if mode == OpenMode::Existing { "open" } else { "create" };
    let data = data.map_err(|errno| refused(operation, errno))?;
    let io = |errno: Errno| Refused::Io("open", errno.into());
    let stat = fstat(&data).map_err(io)?;
    if let Some(what) = not_a_file(FileType::from_raw_mode(stat.st_mode)) {
        return Err(Refused::NotAFile(what));
    }
    let sentinel = walk(flags, Mode::empty()).map_err(io)?;
    let twin = fstat(&sentinel).map_err(io)?;
    if (twin.st_dev, twin.st_ino) != (stat.st_dev, stat.st_ino) {
        let swapped = io::Error::other("another file took its name meanwhile");
        return Err(Refused::Io("open", swapped));
    }
    Ok(Opened { data, sentinel, directory, stat, created })
}

fn beneath(root: &OwnedFd, path: &OsStr, flags: OFlags, mode: Mode) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    // EAGAIN: a rename raced with the walk and the kernel can't tell whether it stayed below.
    rustix::io::retry_on_intr(|| openat2(root, path, flags, mode, resolve))
}

fn refused(operation: &'static str, errno: Errno) -> Refused {
    match errno {
        Errno::XDEV | Errno::LOOP => Refused::Outside,
        Errno::ISDIR => Refused::NotAFile("a directory"),
        // A FIFO that nobody reads, or a socket.
        Errno::NXIO => Refused::NotAFile("a FIFO, socket or device"),
        errno => Refused::Io(operation, errno.into()),
    }
}

fn not_a_file(kind: FileType) -> Option<&'static str> {
    match kind {
        FileType::RegularFile => None,
        FileType::Directory => Some("a directory"),
        FileType::Fifo => Some("a FIFO"),
        _ => Some("a device"),
    }
}
