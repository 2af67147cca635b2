//! Opening a file below a root: so that no symlink, `..` or magic link leads out, and nothing but a regular
//! file is ever opened.
//!
//! 1. What exists is looked at before it is opened: an `O_PATH` descriptor pins whatever has the name, and
//!    the very same is opened then. To open a FIFO, a socket or a device may already do something.
//! 2. A new file is made in the directory whose sync makes its name durable, whatever has become of the
//!    path meanwhile.
//! 3. A file with several names is not opened by one of them, because another may lie outside of the root:
//!    whoever may make links below a root must not have other people's files emptied.
//! 4. A file that runs with the rights of its owner or group is not opened: a daemon with CAP_FSETID would leave it
//!    that bit, and it would run what a muxer has written.
//! 5. No owner and no mode is changed.

mod stepwise;
mod walk;

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use freemkvd_proto::OpenMode;
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, Stat, fstat, openat as open_at, statat, unlinkat,
};
use rustix::io::Errno;

pub(super) use self::walk::{A_VIEW, is_view};
use self::walk::{beneath, directory_of, refuse_views, refused};
use super::below::not_a_file;
use super::{Creation, FileId};

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
    /// It has so many names.
    Linked(u64),
    /// It has a set-user-id or set-group-id bit.
    SetId,
    /// The system said no while doing this.
    Io(&'static str, io::Error),
}

/// How a file is opened to be written. Without `O_NONBLOCK` the open would wait, up to 45 seconds, for
/// whoever has a lease on the file, and a device on which opens wait counts as silent.
const WRITE: OFlags =
    OFlags::WRONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);
const LOOK: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// How often a name may come and go between two looks at it.
const LOOKS_MAX: u32 = 16;

/// Opens `rest` below `root`.
pub(super) fn open(
    root: &Path,
    rest: &Path,
    mode: OpenMode,
    creation: Creation,
) -> Result<Opened, Refused> {
    let directory_mode = creation.directory_mode.filter(|_| mode != OpenMode::Existing);
    open_place(root, rest, directory_mode, |place| match mode {
        OpenMode::Existing => place.existing(1)?.map(|data| (data, false)).ok_or_else(missing),
        OpenMode::CreateNew => {
            let made = place.new_file(creation.file_mode)?;
            made.map(|data| (data, true)).ok_or_else(|| place.taken())
        }
        OpenMode::Create => place.either(creation.file_mode),
    })
}

/// Opens what is called `rest` below `root`, for somebody who knows which file that has to be. It may have
/// got another name since.
pub(super) fn reopen(root: &Path, rest: &Path) -> Result<Opened, Refused> {
    open_place(root, rest, None, |place| {
        place.existing(u64::MAX)?.map(|data| (data, false)).ok_or_else(missing)
    })
}

/// Opens the file that `choose` finds or makes, true if made, and all that a stream needs beside it.
fn open_place(
    root: &Path,
    rest: &Path,
    directory_mode: Option<u32>,
    choose: impl FnOnce(&Place<'_>) -> Result<(OwnedFd, bool), Refused>,
) -> Result<Opened, Refused> {
    let name = rest.file_name().ok_or(Refused::NotAFile("a directory"))?;
    let (root, directory) = directory_of(root, rest, directory_mode)?;
    let place = Place { root: &root, rest, directory: &directory, name };
    let (data, created) = choose(&place)?;
    let twins = twins(&data, |extra| place.again(&data, extra));
    let (sentinel, direct, stat) = twins.inspect_err(|_| {
        let is_ours = |stat: Stat| names(&directory, name, (stat.st_dev, stat.st_ino));
        if created && fstat(&data).is_ok_and(is_ours) {
            // The refusal is what the client has to hear; an empty file is no harm.
            let _ = unlinkat(&directory, name, AtFlags::empty());
        }
    })?;
    let name = name.to_owned();
    Ok(Opened { data, sentinel, direct, directory: Some(directory), name, stat, created })
}

/// A name below a root.
struct Place<'a> {
    root: &'a OwnedFd,
    /// The whole path from there.
    rest: &'a Path,
    /// Its directory.
    directory: &'a OwnedFd,
    /// The name in it.
    name: &'a OsStr,
}

impl Place<'_> {
    /// Opens what is there, if it has at most so many names; `None` when nothing is there.
    fn existing(&self, names_max: u64) -> Result<Option<OwnedFd>, Refused> {
        let Some(pinned) = self.pinned()? else {
            return Ok(None);
        };
        let io = |errno| refused("open", errno);
        let stat = fstat(&pinned).map_err(io)?;
        if let Some(what) = not_a_file(FileType::from_raw_mode(stat.st_mode)) {
            return Err(Refused::NotAFile(what));
        }
        #[expect(clippy::useless_conversion, reason = "narrower on other processors")]
        let names = u64::from(stat.st_nlink);
        if names > names_max {
            return Err(Refused::Linked(names));
        }
        if is_set_id(&stat) {
            return Err(Refused::SetId);
        }
        refuse_views(&pinned)?;
        let data = self.again(&pinned, OFlags::empty()).map_err(io)?;
        let same = fstat(&data).map_err(io)?;
        if (same.st_dev, same.st_ino) != (stat.st_dev, stat.st_ino) {
            return Err(swapped());
        }
        Ok(Some(data))
    }

    /// Whatever the name leads to, without opening it.
    fn pinned(&self) -> Result<Option<OwnedFd>, Refused> {
        let io = |errno| refused("open", errno);
        let pinned = match beneath(self.directory, self.name, LOOK | OFlags::NOFOLLOW, NO_MODE) {
            Err(Errno::NOENT) => return Ok(None),
            pinned => pinned.map_err(io)?,
        };
        let stat = fstat(&pinned).map_err(io)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            return Ok(Some(pinned));
        }
        // It may lead to any place below the root, so the root is the start of the walk.
        match beneath(self.root, self.rest.as_os_str(), LOOK, NO_MODE) {
            // To create what it leads to would put the file into a directory that nobody syncs.
            Err(Errno::NOENT) => Err(Refused::NotAFile("a link to a missing file")),
            pinned => pinned.map(Some).map_err(io),
        }
    }

    /// Makes the file; `None` when the name is taken.
    fn new_file(&self, mode: u32) -> Result<Option<OwnedFd>, Refused> {
        refuse_views(self.directory)?;
        let flags = WRITE | OFlags::CREATE | OFlags::EXCL;
        match beneath(self.directory, self.name, flags, Mode::from_raw_mode(mode)) {
            Err(Errno::EXIST) => Ok(None),
            made => made.map(Some).map_err(|errno| refused("create", errno)),
        }
    }

    /// What is there, or a new one; true for a new one.
    fn either(&self, mode: u32) -> Result<(OwnedFd, bool), Refused> {
        for _ in 0..LOOKS_MAX {
            if let Some(data) = self.existing(1)? {
                return Ok((data, false));
            }
            if let Some(data) = self.new_file(mode)? {
                return Ok((data, true));
            }
        }
        Err(swapped())
    }

    /// Opens the file of a descriptor once more, to be written: by its magic link, which leads to that file
    /// whoever has the name by now; or by its path, where there is no `/proc`.
    fn again(&self, file: &OwnedFd, extra: OFlags) -> rustix::io::Result<OwnedFd> {
        match by_descriptor(file, extra) {
            Err(Errno::NOENT) => beneath(self.root, self.rest.as_os_str(), WRITE | extra, NO_MODE),
            opened => opened,
        }
    }

    /// Why there is no new file: to overwrite what is no file would not help either.
    fn taken(&self) -> Refused {
        let there = statat(self.directory, self.name, AtFlags::SYMLINK_NOFOLLOW).ok();
        let what = there.and_then(|there| not_a_file(FileType::from_raw_mode(there.st_mode)));
        what.map_or(Refused::Io("create", Errno::EXIST.into()), Refused::NotAFile)
    }
}

const NO_MODE: Mode = Mode::empty();

fn by_descriptor(file: &OwnedFd, extra: OFlags) -> rustix::io::Result<OwnedFd> {
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    rustix::io::retry_on_intr(|| open_at(CWD, &link, WRITE | extra, NO_MODE))
}

fn missing() -> Refused {
    Refused::Io("open", Errno::NOENT.into())
}

fn swapped() -> Refused {
    Refused::Io("open", io::Error::other("another file took its name meanwhile"))
}

/// The file of two descriptors that somebody has kept, which is called `rest` below `root`, or was.
pub(super) fn adopt(
    root: &Path,
    rest: &Path,
    data: OwnedFd,
    sentinel: OwnedFd,
) -> Result<Opened, Refused> {
    let name = rest.file_name().ok_or(Refused::NotAFile("a directory"))?;
    let mut sentinel = Some(sentinel);
    let (sentinel, direct, stat) = twins(&data, |extra| match sentinel.take() {
        Some(sentinel) => Ok(sentinel),
        None => by_descriptor(&data, extra),
    })?;
    let directory = match directory_of(root, rest, None) {
        Ok((_, directory)) => Some(directory),
        // It was moved with its directory, or that is another one now: there is no name to make durable.
        Err(Refused::Outside | Refused::NotAFile(_) | Refused::Linked(_) | Refused::SetId) => None,
        Err(Refused::Io(_, error)) if error.kind() == io::ErrorKind::NotFound => None,
        Err(refused) => return Err(refused),
    };
    let directory = directory.filter(|there| names(there, name, (stat.st_dev, stat.st_ino)));
    Ok(Opened { data, sentinel, direct, directory, name: name.to_owned(), stat, created: false })
}

/// True when `rest` below `root` is this file.
pub(super) fn is_called(root: &Path, rest: &Path, id: FileId) -> bool {
    let (Some(name), Ok((_, directory))) = (rest.file_name(), directory_of(root, rest, None))
    else {
        return false;
    };
    names(&directory, name, (id.device, id.inode))
}

/// True when `name` in `directory` is the file of these numbers.
pub(super) fn names(directory: &OwnedFd, name: &OsStr, id: (u64, u64)) -> bool {
    let named = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW);
    named.is_ok_and(|named| (named.st_dev, named.st_ino) == id)
}

/// True when the file runs with the rights of its owner or its group. The latter's bit, without the group's right to
/// run it, means mandatory locks.
pub(super) fn is_set_id(stat: &Stat) -> bool {
    let mode = Mode::from_raw_mode(stat.st_mode);
    mode.contains(Mode::SUID) || mode.contains(Mode::SGID | Mode::XGRP)
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
            return Err(swapped());
        }
    }
    Ok((sentinel, direct, stat))
}

#[cfg(test)]
mod tests;
