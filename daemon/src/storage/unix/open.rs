//! Opening files below roots.
//!
//! 1. What exists is looked at before it is opened, because opening a FIFO or a device may already do something, and
//!    once more afterwards, because it may have been swapped.
//! 2. No link is followed, and no file with several names or with the rights of its owner is opened: the Linux
//!    sibling says why (`beneath`).

use std::ffi::{OsStr, OsString};
use std::fs::{File as StdFile, Metadata};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use freemkvd_proto::OpenMode;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, openat, statat};
use rustix::io::Errno;

use super::file::File;
use super::mount;
use super::verbs;
use super::walk::{Stopped, directory_of};
use crate::storage::below::{below, not_a_file};
use crate::storage::opening::{by_mode, removed_if_missing};
use crate::storage::{
    Creation, Descriptors, Device, FileId, Known, Medium, Open, OpenError, Opened, outside,
};

/// Without `O_NONBLOCK` the open of something that was swapped for a FIFO would wait.
const WRITE: OFlags = OFlags::WRONLY
    .union(OFlags::CLOEXEC)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::NOFOLLOW);

/// Opens files below roots, on this host.
#[derive(Debug, Default)]
pub struct Disk;

impl Open for Disk {
    fn open(
        &self,
        roots: &[PathBuf],
        path: &Path,
        mode: OpenMode,
        creation: Creation,
    ) -> Result<Opened, OpenError> {
        let makes = creation.directory_mode.filter(|_| mode != OpenMode::Existing);
        let place = Place::of(roots, path, makes)?;
        let new = || place.new_file(creation.file_mode);
        let (file, created) = by_mode(mode, new, || place.existing())?;
        place.describe(file, created, 1)
    }

    fn reopen(&self, roots: &[PathBuf], path: &Path, known: Known) -> Result<Opened, OpenError> {
        // It may have got its other name just before the daemon before ended.
        let is_there = |path: &&Path| {
            let place = Place::of(roots, path, None).ok();
            place.is_some_and(|place| {
                id_at(&place.directory, place.name).ok().flatten() == Some(known.id)
            })
        };
        let other = known.other_path.as_deref().filter(is_there);
        let path = other.unwrap_or(path);
        if known.born.is_none() {
            let what = "may have been replaced (its file system does not tell)";
            return Err(OpenError::Changed { path: path.to_owned(), what });
        }
        let place = Place::of(roots, path, None).map_err(removed_if_missing)?;
        let file = place.existing().map_err(removed_if_missing)?;
        let mut opened = place.describe(file, false, u64::MAX)?;
        known.check(&opened, path)?;
        opened.is_renamed = other.is_some();
        opened.storage.has_reserved(known.reserved_bytes);
        Ok(opened)
    }

    fn adopt(
        &self,
        _given: Descriptors,
        label: &Path,
        _known: Option<Known>,
    ) -> Result<Opened, OpenError> {
        Err(OpenError::BadGiven { path: label.to_owned(), what: "this platform takes none" })
    }

    fn locate(&self, _path: &Path) -> Option<String> {
        None
    }
}

/// Which file has this name, if there is one.
pub(super) fn id_at(directory: &OwnedFd, name: &OsStr) -> io::Result<Option<FileId>> {
    match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(FileId { device: verbs::device_number(&stat), inode: stat.st_ino })),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// A name in a directory below a root.
struct Place<'a> {
    path: &'a Path,
    directory: OwnedFd,
    name: &'a OsStr,
}

impl<'a> Place<'a> {
    fn of(
        roots: &[PathBuf],
        path: &'a Path,
        directory_mode: Option<u32>,
    ) -> Result<Self, OpenError> {
        let (root, rest) = below(roots, path).ok_or_else(|| outside(roots, path))?;
        let name = path.file_name().ok_or_else(|| outside(roots, path))?;
        let directory =
            directory_of(root, rest, directory_mode).map_err(|stopped| match stopped {
                Stopped::Outside => outside(roots, path),
                Stopped::Io(operation, source) => {
                    OpenError::Io { path: path.to_owned(), operation, source }
                }
            })?;
        Ok(Self { path, directory, name })
    }

    fn io(&self, operation: &'static str, source: io::Error) -> OpenError {
        OpenError::Io { path: self.path.to_owned(), operation, source }
    }

    fn not_a_file(&self, what: &'static str) -> OpenError {
        OpenError::NotAFile { path: self.path.to_owned(), what }
    }

    fn new_file(&self, mode: u32) -> Result<StdFile, OpenError> {
        #[cfg_attr(
            target_os = "linux",
            expect(clippy::useless_conversion, reason = "narrower elsewhere")
        )]
        let mode = Mode::from_raw_mode(mode.try_into().unwrap_or(0o666));
        let made = openat(&self.directory, self.name, WRITE | OFlags::CREATE | OFlags::EXCL, mode);
        made.map(StdFile::from).map_err(|errno| self.io("create", errno.into()))
    }

    fn existing(&self) -> Result<StdFile, OpenError> {
        let found = statat(&self.directory, self.name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| self.io("open", errno.into()))?;
        if let Some(what) = not_a_file(FileType::from_raw_mode(found.st_mode)) {
            return Err(self.not_a_file(what));
        }
        let opened = openat(&self.directory, self.name, WRITE, Mode::empty());
        opened.map(StdFile::from).map_err(|errno| self.io("open", errno.into()))
    }

    /// A file with at most so many names.
    fn describe(&self, file: StdFile, created: bool, names_max: u64) -> Result<Opened, OpenError> {
        let metadata = file.metadata().map_err(|error| self.io("ask about", error))?;
        self.check(&metadata, names_max)?;
        let id = FileId { device: metadata.dev(), inode: metadata.ino() };
        let name: OsString = self.name.to_owned();
        let directory = self.directory.try_clone().map_err(|error| self.io("open", error))?;
        let (mount, source, filesystem) = mount::of(&file);
        Ok(Opened {
            created,
            is_renamed: false,
            len_bytes: metadata.len(),
            id,
            born: born(&metadata),
            device: Device {
                id: id.device.to_string(),
                mount,
                source,
                filesystem,
                medium: Medium::Unknown,
                is_a_users: false,
            },
            storage: Box::new(File::new(file, directory, name, created)),
        })
    }

    fn check(&self, metadata: &Metadata, names_max: u64) -> Result<(), OpenError> {
        let kind = metadata.file_type();
        if !kind.is_file() {
            return Err(self.not_a_file(if kind.is_fifo() {
                "a FIFO"
            } else {
                "no file any more"
            }));
        }
        if metadata.nlink() > names_max {
            return Err(OpenError::Linked { path: self.path.to_owned(), names: metadata.nlink() });
        }
        if metadata.mode() & 0o6000 != 0 {
            return Err(OpenError::SetId { path: self.path.to_owned() });
        }
        Ok(())
    }
}

fn born(metadata: &Metadata) -> Option<(i64, u32)> {
    let since = metadata.created().ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some((i64::try_from(since.as_secs()).ok()?, since.subsec_nanos()))
}
