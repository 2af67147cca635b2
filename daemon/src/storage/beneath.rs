//! Opening below a root, so that no symlink, `..` or magic link leads out: `openat2(2)` with
//! `RESOLVE_BENEATH` leaves the walk to the kernel, where nobody can swap a directory between the
//! check and the use.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use freemkvd_proto::OpenMode;
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat as open_at, openat2,
    statat, unlinkat,
};
use rustix::io::Errno;

use super::FileId;

/// A file, opened twice or three times before its first write, and its directory.
pub(super) struct Opened {
    /// The descriptor that is written to and waited on.
    pub(super) data: OwnedFd,
    /// The one that is only ever synced: a wait on `data` consumes the kernel's record of a writeback
    /// error for `data` alone.
    pub(super) sentinel: OwnedFd,
    /// One with `O_DIRECT`, where the file system has it. Opened at once: on a local disk that costs
    /// microseconds, and later the name may be another file's.
    pub(super) direct: Option<OwnedFd>,
    /// The directory that holds the file's name.
    /// `None` when it has no such name any more.
    pub(super) directory: Option<OwnedFd>,
    /// The file's name in it.
    pub(super) name: OsString,
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
    let name = rest.file_name().ok_or(Refused::NotAFile("a directory"))?;
    let (root, directory) = directory_of(root, rest)?;
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
                // The name is taken and leads nowhere. To create what it leads to would put the file
                // into a directory that nobody syncs.
                Err(Errno::EXIST) => return Err(Refused::NotAFile("a link to a missing file")),
                new => (new, true),
            },
            existing => (existing, false),
        },
    };
    if let (Err(Errno::EXIST), Ok(there)) =
        (&data, statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW))
    {
        // To overwrite it would not help either.
        if let Some(what) = not_a_file(FileType::from_raw_mode(there.st_mode)) {
            return Err(Refused::NotAFile(what));
        }
    }
    let operation = if mode == OpenMode::Existing { "open" } else { "create" };
    let data = data.map_err(|errno| refused(operation, errno))?;
    let opened = twins(&data, |extra| walk(flags | extra, Mode::empty()));
    let (sentinel, direct, stat) = opened.inspect_err(|_| {
        if created {
            // The refusal is what the client has to hear; an empty file is no harm.
            let _ = unlinkat(&directory, name, AtFlags::empty());
        }
    })?;
    let directory = Some(directory);
    Ok(Opened { data, sentinel, direct, directory, name: name.to_owned(), stat, created })
}

/// The file of two descriptors that somebody has kept, which is called `rest` below `root`, or was.
pub(super) fn adopt(
    root: &Path,
    rest: &Path,
    data: OwnedFd,
    sentinel: OwnedFd,
) -> Result<Opened, Refused> {
    let name = rest.file_name().ok_or(Refused::NotAFile("a directory"))?;
    // By its magic link the same file is opened again, wherever it is now.
    let again = |extra| {
        let link = format!("/proc/self/fd/{}", data.as_raw_fd());
        open_at(CWD, link, OFlags::WRONLY | OFlags::CLOEXEC | extra, Mode::empty())
    };
    let mut sentinel = Some(sentinel);
    let (sentinel, direct, stat) = twins(&data, |extra| match sentinel.take() {
        Some(sentinel) => Ok(sentinel),
        None => again(extra),
    })?;
    let directory = match directory_of(root, rest) {
        Ok((_, directory)) => Some(directory),
        // It was moved with its directory, or that is another one now: there is no name to make durable.
        Err(Refused::Outside | Refused::NotAFile(_)) => None,
        Err(Refused::Io(_, error)) if error.kind() == io::ErrorKind::NotFound => None,
        Err(refused) => return Err(refused),
    };
    let directory = directory.filter(|there| names(there, name, (stat.st_dev, stat.st_ino)));
    Ok(Opened { data, sentinel, direct, directory, name: name.to_owned(), stat, created: false })
}

/// True when `rest` below `root` is this file.
pub(super) fn is_called(root: &Path, rest: &Path, id: FileId) -> bool {
    let (Some(name), Ok((_, directory))) = (rest.file_name(), directory_of(root, rest)) else {
        return false;
    };
    names(&directory, name, (id.device, id.inode))
}

/// True when `name` in `directory` is the file of these numbers.
pub(super) fn names(directory: &OwnedFd, name: &OsStr, id: (u64, u64)) -> bool {
    let named = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW);
    named.is_ok_and(|named| (named.st_dev, named.st_ino) == id)
}

/// The root, and the directory of `rest` below it.
fn directory_of(root: &Path, rest: &Path) -> Result<(OwnedFd, OwnedFd), Refused> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = open_at(CWD, root, flags, Mode::empty())
        .map_err(|errno| Refused::Io("enter the root of", errno.into()))?;
    let directory = match rest.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => {
            beneath(&root, parent.as_os_str(), flags, Mode::empty())
                .map_err(|errno| refused("enter the directory of", errno))?
        }
        _ => root.try_clone().map_err(|error| Refused::Io("open", error))?,
    };
    Ok((root, directory))
}

/// The file's sentinel, the descriptor for direct writes, and what the file is.
fn twins(
    data: &OwnedFd,
    mut walk: impl FnMut(OFlags) -> rustix::io::Result<OwnedFd>,
) -> Result<(OwnedFd, Option<OwnedFd>, Stat), Refused> {
    let io = |errno: Errno| Refused::Io("open", errno.into());
    let stat = fstat(data).map_err(io)?;
    if let Some(what) = not_a_file(FileType::from_raw_mode(stat.st_mode)) {
        return Err(Refused::NotAFile(what));
    }
    let sentinel = walk(OFlags::empty()).map_err(io)?;
    // Without O_DIRECT in the file system: EINVAL. Whatever it is, the file can be written without.
    let direct = walk(OFlags::DIRECT).ok();
    for twin in [Some(&sentinel), direct.as_ref()].into_iter().flatten() {
        let twin = fstat(twin).map_err(io)?;
        if (twin.st_dev, twin.st_ino) != (stat.st_dev, stat.st_ino) {
            let swapped = io::Error::other("another file took its name meanwhile");
            return Err(Refused::Io("open", swapped));
        }
    }
    Ok((sentinel, direct, stat))
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
        FileType::Symlink => Some("a link"),
        _ => Some("a device"),
    }
}
