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
//! 5. Everything here may wait for a dead disk, closing too, and belongs into a thread of its own.

use std::fs::{self, File, Metadata};
use std::io;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;

use freemkvd_proto::OpenMode;
use rustix::fs::{Mode, OFlags, open as open_file};
use rustix::io::Errno;

/// How often a file may appear and disappear again while it is opened.
const TRIES: u32 = 10;

/// See the module's page.
#[derive(Debug)]
pub(crate) struct Given {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
    /// It was made by opening it.
    is_new: bool,
    /// The file and its sentinel, and the directory if it may be read.
    files: Vec<File>,
}

impl Given {
    /// Opens the file.
    ///
    /// # Errors
    /// Those of the system, and `InvalidInput` for what is no regular file. Rule 4 holds.
    pub(crate) fn open(path: &Path, mode: OpenMode) -> io::Result<Self> {
        refuse_other_kinds(path)?;
        let (data, is_new) = open_data(path, mode)?;
        let metadata = data.metadata()?;
        if !metadata.is_file() {
            return Err(not_regular());
        }
        let identity = identity(&metadata);
        let mut given = Self { path: path.to_owned(), identity, is_new, files: vec![data] };
        given.open_rest().inspect_err(|_| given.take_back())?;
        Ok(given)
    }

    fn open_rest(&mut self) -> io::Result<()> {
        let sentinel = self.open_again()?;
        if identity(&sentinel.metadata()?) != self.identity {
            return Err(io::Error::other("somebody has put another file in its place"));
        }
        self.files.push(sentinel);
        let Some(directory) = self.path.parent() else {
            return Ok(());
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match open_file(directory, flags, Mode::empty()) {
            Ok(directory) => self.files.push(directory.into()),
            // One that may be written and not read: then its file system is synced.
            Err(Errno::ACCESS | Errno::PERM) if cfg!(target_os = "linux") => {
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
        #[cfg(target_os = "linux")]
        {
            use std::os::fd::AsRawFd;
            let same = format!("/proc/self/fd/{}", self.files[0].as_raw_fd());
            match open_file(same, FLAGS, Mode::empty()) {
                // There is no /proc here.
                Err(Errno::NOENT) => {}
                result => return Ok(result?.into()),
            }
        }
        Ok(open_file(&self.path, FLAGS, Mode::empty())?.into())
    }

    /// In the order in which the daemon wants them; the last one is the directory, if it is passed.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.files.iter().map(AsFd::as_fd)
    }

    /// True when its directory is among them.
    pub(crate) fn has_directory(&self) -> bool {
        self.files.len() > 2
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
        #[cfg(target_os = "linux")]
        return Ok(rustix::fs::syncfs(&self.files[0])?);
        #[cfg(not(target_os = "linux"))]
        Err(io::ErrorKind::PermissionDenied.into())
    }

    /// True when the file still has the name under which it was opened.
    pub(crate) fn has_its_name(&self) -> bool {
        let found = self.path.symlink_metadata();
        found.is_ok_and(|found| identity(&found) == self.identity)
    }

    /// True when it has no other name than that.
    pub(crate) fn has_no_other_name(&self) -> bool {
        self.files[0].metadata().is_ok_and(|found| found.nlink() == 1)
    }

    /// Rule 4. Without a result: whoever calls has a better error to tell.
    pub(crate) fn take_back(&self) {
        let is_empty = || self.files[0].metadata().is_ok_and(|found| found.len() == 0);
        if self.is_new && is_empty() && self.has_its_name() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Drop for Given {
    /// Rule 5: on a network closing writes back, and a muxer waits for no disk.
    fn drop(&mut self) {
        let files = mem::take(&mut self.files);
        // Without a thread the closure, and what is in it, is dropped here.
        let _ = thread::Builder::new().name("freemkv-close".into()).spawn(move || drop(files));
    }
}

/// Rule 1: on what is a regular file `NONBLOCK` has no effect.
const FLAGS: OFlags =
    OFlags::WRONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

/// Opens the file for writing, and says whether it was made for that.
fn open_data(path: &Path, mode: OpenMode) -> io::Result<(File, bool)> {
    let with = |more: OFlags| open_file(path, FLAGS | more, Mode::from_raw_mode(0o666));
    let (created, existing) = (OFlags::CREATE | OFlags::EXCL, OFlags::empty());
    match mode {
        OpenMode::CreateNew => return Ok((with(created)?.into(), true)),
        OpenMode::Existing => return Ok((with(existing)?.into(), false)),
        OpenMode::Create => {}
    }
    // One or the other, so that it is known which.
    for _ in 0..TRIES {
        match with(created) {
            Err(Errno::EXIST) => {}
            result => return Ok((result?.into(), true)),
        }
        match with(existing) {
            Err(Errno::NOENT) => {}
            result => return Ok((result?.into(), false)),
        }
    }
    // A link to what does not exist.
    Ok((with(OFlags::CREATE)?.into(), false))
}

/// Rule 1.
fn refuse_other_kinds(path: &Path) -> io::Result<()> {
    match path.metadata() {
        Ok(found) if !found.is_file() => Err(not_regular()),
        // Whatever keeps it from being looked at, opening it knows it better.
        _ => Ok(()),
    }
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
