//! A file that this process opens for the daemon to write, as the daemon wants to have it: twice, and its
//! directory.
//!
//! 1. Only a regular file is opened. What is none is not even touched, unless it takes the place of one at
//!    that very moment; then opening neither waits nor takes it over as a terminal.
//! 2. A file that was there is not changed by opening it: emptying is the daemon's business, which knows
//!    whether somebody writes it.
//! 3. The second descriptor is another open file description of the same file. The kernel keeps writeback
//!    errors for each of them.
//! 4. A file that this process has made is taken away again when nothing comes of it, if it is still the same
//!    and still empty.
//! 5. Whoever was not told to open it himself ([`OpenBy::Auto`]) opens what the name in its directory is: no link
//!    is followed there (and only own ones on the way: `directory`), and a file with several names is none for
//!    him. Either may be the work of somebody who may make names there, and lead to what he may not write.
//! 6. Everything here may wait for a dead disk, closing too, and belongs into a thread of its own.

#[cfg_attr(target_os = "linux", path = "calls_linux.rs")]
#[cfg_attr(not(target_os = "linux"), path = "calls_unix.rs")]
mod calls;

use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;

use freemkvd_proto::OpenMode;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, openat, statat};
use rustix::io::Errno;

use crate::OpenBy;
use crate::directory::Directory;

/// How often a file may appear and disappear again while it is opened.
const TRIES: u32 = 10;

/// See the module's page.
#[derive(Debug)]
pub(crate) struct Given {
    path: PathBuf,
    place: Place,
    /// Device and inode.
    identity: (u64, u64),
    /// It was made by opening it.
    is_new: bool,
    /// The file and its sentinel, and the directory if it may be read.
    files: Vec<File>,
}

impl Given {
    /// Opens the file at `path`, which is absolute.
    ///
    /// # Errors
    /// Those of the system, and `InvalidInput` for what is no regular file, or not one by rule 5. Rule 4 holds.
    pub(crate) fn open(path: &Path, mode: OpenMode, open_by: OpenBy) -> io::Result<Self> {
        let place = Place::of(path, open_by)?;
        place.refuse_other_kinds()?;
        let (data, is_new) = place.open_data(mode)?;
        let metadata = data.metadata()?;
        if !metadata.is_file() {
            return Err(not_regular());
        }
        if !is_new && !place.follows && metadata.nlink() > 1 {
            return Err(unasked("it has other names, too (hard links)"));
        }
        let (path, identity) = (path.to_owned(), identity(&metadata));
        let mut given = Self { path, place, identity, is_new, files: vec![data] };
        given.open_rest().inspect_err(|_| given.take_back())?;
        Ok(given)
    }

    fn open_rest(&mut self) -> io::Result<()> {
        let sentinel = self.open_again()?;
        if identity(&sentinel.metadata()?) != self.identity {
            return Err(io::Error::other("somebody has put another file in its place"));
        }
        self.files.push(sentinel);
        match self.place.directory.read() {
            Ok(directory) => self.files.push(directory.into()),
            // One that may be written and not read: then its file system is synced.
            Err(Errno::ACCESS | Errno::PERM) if calls::SYNCS_FILESYSTEMS => {
                if self.is_new {
                    self.sync_name()?;
                }
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Rule 3.
    fn open_again(&self) -> io::Result<File> {
        match calls::open_again(&self.files[0], FLAGS) {
            // There is no /proc here.
            Err(Errno::NOENT) => Ok(self.place.open(OFlags::empty())?.into()),
            result => Ok(result?.into()),
        }
    }

    /// In the order in which the daemon wants them; the last one is the directory, if it is passed.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.files.iter().map(AsFd::as_fd)
    }

    /// True when its directory is among them.
    pub(crate) fn has_directory(&self) -> bool {
        self.files.len() > 2
    }

    /// Where its name is.
    pub(crate) fn directory(&self) -> &Directory {
        &self.place.directory
    }

    /// The name under which it was opened.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn is_new(&self) -> bool {
        self.is_new
    }

    /// Makes the name durable that the file has now.
    ///
    /// # Errors
    /// Those of the system.
    pub(crate) fn sync_name(&self) -> io::Result<()> {
        if let Some(directory) = self.files.get(2) {
            return directory.sync_all();
        }
        Ok(calls::sync_filesystem(&self.files[0])?)
    }

    /// True when the file still has the name under which it was opened.
    pub(crate) fn has_its_name(&self) -> bool {
        self.place.has(&self.files[0])
    }

    /// True when it has no other name than that.
    pub(crate) fn has_no_other_name(&self) -> bool {
        self.files[0].metadata().is_ok_and(|found| found.nlink() == 1)
    }

    /// Rule 4. Without a result: whoever calls has a better error to tell.
    pub(crate) fn take_back(&self) {
        let is_empty = || self.files[0].metadata().is_ok_and(|found| found.len() == 0);
        if self.is_new && is_empty() && self.has_its_name() {
            let _ = self.place.directory.remove(&self.place.name);
        }
    }
}

impl Drop for Given {
    /// Rule 6: on a network closing writes back, and a muxer waits for no disk.
    fn drop(&mut self) {
        let files = mem::take(&mut self.files);
        // Without a thread the closure, and what is in it, is dropped here.
        let _ = thread::Builder::new().name("freemkv-close".into()).spawn(move || drop(files));
    }
}

/// Rule 1: on what is a regular file `NONBLOCK` has no effect.
const FLAGS: OFlags =
    OFlags::WRONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

/// A name in a directory.
#[derive(Debug)]
struct Place {
    directory: Directory,
    name: OsString,
    /// Rule 5 is not for this one.
    follows: bool,
}

impl Place {
    fn of(path: &Path, open_by: OpenBy) -> io::Result<Self> {
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(not_regular());
        };
        let follows = open_by == OpenBy::Descriptor;
        let directory =
            if follows { Directory::at(directory) } else { Directory::at_own(directory) }?;
        Ok(Self { directory, name: name.to_owned(), follows })
    }

    fn open(&self, more: OFlags) -> rustix::io::Result<OwnedFd> {
        let links = if self.follows { OFlags::empty() } else { OFlags::NOFOLLOW };
        let mode = Mode::from_raw_mode(0o666);
        openat(&self.directory, &self.name, FLAGS | links | more, mode)
    }

    /// Opens the file for writing, and says whether it was made for that.
    fn open_data(&self, mode: OpenMode) -> io::Result<(File, bool)> {
        let (created, existing) = (OFlags::CREATE | OFlags::EXCL, OFlags::empty());
        match mode {
            OpenMode::CreateNew => return Ok((self.open(created)?.into(), true)),
            OpenMode::Existing => return Ok((self.open(existing)?.into(), false)),
            OpenMode::Create => {}
        }
        // One or the other, so that it is known which.
        for _ in 0..TRIES {
            match self.open(created) {
                Err(Errno::EXIST) => {}
                result => return Ok((result?.into(), true)),
            }
            match self.open(existing) {
                Err(Errno::NOENT) => {}
                result => return Ok((result?.into(), false)),
            }
        }
        // A link to what does not exist.
        Ok((self.open(OFlags::CREATE)?.into(), false))
    }

    /// Rules 1 and 5.
    fn refuse_other_kinds(&self) -> io::Result<()> {
        let flags = if self.follows { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
        // Whatever keeps it from being looked at, opening it knows it better.
        let Ok(found) = statat(&self.directory, &self.name, flags) else {
            return Ok(());
        };
        match FileType::from_raw_mode(found.st_mode) {
            FileType::RegularFile => Ok(()),
            FileType::Symlink => Err(unasked("it is a symbolic link")),
            _ => Err(not_regular()),
        }
    }

    /// True when the name is that file's.
    fn has(&self, file: &File) -> bool {
        let named = statat(&self.directory, &self.name, AtFlags::SYMLINK_NOFOLLOW);
        let is_same =
            |named: &Stat, file: &Stat| (named.st_dev, named.st_ino) == (file.st_dev, file.st_ino);
        named.is_ok_and(|named| rustix::fs::fstat(file).is_ok_and(|file| is_same(&named, &file)))
    }
}

fn unasked(what: &str) -> io::Error {
    let message = format!(
        "{what}, and is opened only by OpenBy::Descriptor (freemkvctl write --open-by descriptor)"
    );
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

fn not_regular() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
