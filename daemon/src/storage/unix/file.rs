//! One open file, and the directory that has its name.

use std::ffi::{OsStr, OsString};
use std::fs::File as StdFile;
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};

use rustix::fs::{AtFlags, fstatvfs, fsync, renameat, unlinkat};

use super::open::id_at;
use super::verbs;
use crate::storage::steps::uninterrupted;
use crate::storage::{Abilities, Content, FileId, Lent, Manner, Pages, Storage};

/// See the module's documentation.
pub(super) struct File {
    file: StdFile,
    directory: OwnedFd,
    name: OsString,
    /// The name is not known to be durable.
    name_is_new: bool,
    reserved_bytes: u64,
}

impl File {
    /// A file that is called `name` in `directory`.
    pub(super) fn new(
        file: StdFile,
        directory: OwnedFd,
        name: OsString,
        name_is_new: bool,
    ) -> Self {
        Self { file, directory, name, name_is_new, reserved_bytes: 0 }
    }

    fn id(&self) -> io::Result<FileId> {
        let metadata = self.file.metadata()?;
        Ok(FileId { device: metadata.dev(), inode: metadata.ino() })
    }

    /// Fails when the name is not this file's any more.
    fn check_name(&self) -> io::Result<()> {
        let is_ours = id_at(&self.directory, &self.name)? == Some(self.id()?);
        if is_ours { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
    }
}

impl Storage for File {
    /// Nothing by range, and nothing past the cache: `F_NOCACHE` of macOS makes every write wait for the device, and
    /// a patch of anything but whole pages goes through the cache again.
    fn abilities(&self) -> Abilities {
        Abilities::WHOLE_FILE
    }

    fn write_at(&mut self, offset: u64, content: Content<'_>, manner: Manner) -> io::Result<()> {
        match (content, manner) {
            (Content::Bytes(bytes), Manner::Cached) => self.file.write_all_at(bytes, offset),
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    fn write_zeroes(&mut self, _range: Range<u64>) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn len_bytes(&mut self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn reserve(&mut self, len: u64) -> io::Result<bool> {
        let is_reserved = verbs::reserve(&self.file, len)?;
        if is_reserved {
            self.reserved_bytes = self.reserved_bytes.max(len);
        }
        Ok(is_reserved)
    }

    fn available_bytes(&mut self) -> io::Result<u64> {
        let free = fstatvfs(&self.file)?;
        Ok((free.f_bavail * free.f_frsize).saturating_add(self.file.metadata()?.blocks() * 512))
    }

    fn has_reserved(&mut self, bytes: u64) {
        self.reserved_bytes = bytes;
    }

    fn release_surplus(&mut self) -> io::Result<()> {
        if self.reserved_bytes > self.len_bytes()? {
            // To the length that it has: what is behind that is given back.
            self.file.set_len(self.file.metadata()?.len())?;
        }
        self.reserved_bytes = 0;
        Ok(())
    }

    fn start_writeback(&mut self, _range: Range<u64>) -> io::Result<()> {
        Ok(())
    }

    fn wait_writeback(&mut self, _range: Range<u64>) -> io::Result<()> {
        verbs::drain(&self.file)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        verbs::drain(&self.file)
    }

    fn evict(&mut self, _range: Range<u64>) -> io::Result<()> {
        Ok(())
    }

    fn pages(&mut self, _range: Range<u64>) -> Option<Pages> {
        None
    }

    fn unlink(&mut self) -> io::Result<()> {
        match self.check_name() {
            Ok(()) => {}
            // Then it is not this file's any more.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        }
        Ok(unlinkat(&self.directory, &self.name, AtFlags::empty())?)
    }

    fn is_named(&mut self) -> io::Result<bool> {
        Ok(self.file.metadata()?.nlink() > 0)
    }

    fn taken_by(&mut self, name: &OsStr) -> io::Result<Option<FileId>> {
        let (owner, own) = (id_at(&self.directory, name)?, self.id()?);
        Ok(owner.filter(|owner| *owner != own))
    }

    fn rename(&mut self, name: &OsStr, replaces: bool) -> io::Result<()> {
        if name == self.name {
            return Ok(());
        }
        self.check_name()?;
        match replaces {
            true => renameat(&self.directory, &self.name, &self.directory, name)?,
            false => verbs::rename_to_free(&self.directory, &self.name, name)?,
        }
        name.clone_into(&mut self.name);
        self.name_is_new = true;
        Ok(())
    }

    /// Closing tells nothing that the sync before has not told.
    fn closing(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn lend(&self) -> Lent<'_> {
        Vec::new()
    }

    fn sync(&mut self) -> io::Result<()> {
        verbs::make_durable(&self.file)?;
        if self.name_is_new {
            uninterrupted(|| Ok(fsync(&self.directory)?))?;
            self.name_is_new = false;
        }
        Ok(())
    }
}
