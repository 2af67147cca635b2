//! One open file.

use std::ffi::{OsStr, OsString};
use std::fs::File as StdFile;
use std::io;
use std::mem::size_of;
use std::ops::Range;
use std::os::windows::fs::FileExt;
use std::path::{Path, PathBuf};

use windows_sys::Win32::Storage::FileSystem::FileAllocationInfo;

use super::flush::{self, Flush};
use super::{call, names, naming};
use crate::storage::none::Lent;
use crate::storage::{Abilities, Content, FileId, Manner, Pages, Storage};

/// See the module's documentation.
pub(super) struct File {
    file: StdFile,
    directory: PathBuf,
    name: OsString,
    id: FileId,
    flush: Flush,
    /// Up to where space was reserved, in bytes.
    reserved_bytes: u64,
}

impl File {
    /// The file `id`, which really is at `path`.
    pub(super) fn new(file: StdFile, path: &Path, id: FileId) -> Self {
        let name = path.file_name().unwrap_or_default().to_owned();
        let directory = path.parent().map_or_else(PathBuf::new, PathBuf::from);
        Self { file, directory, name, id, flush: Flush::default(), reserved_bytes: 0 }
    }

    /// How much of the volume is set aside for it. Not below its length: what is behind that would be cut off.
    fn allocate(&self, bytes: u64) -> io::Result<bool> {
        let content = [bytes.max(self.file.metadata()?.len())];
        match call::set(&self.file, FileAllocationInfo, &content, size_of::<u64>()) {
            Err(error) if flush::is_unknown(&error) => Ok(false),
            set => set.map(|()| true),
        }
    }
}

impl Storage for File {
    /// Nothing by range: the system writes back a file, or a view of it, and tells of no pages. Unbuffered
    /// writes would want every patch aligned to a sector.
    fn abilities(&self) -> Abilities {
        Abilities::WHOLE_FILE
    }

    fn write_at(
        &mut self,
        mut offset: u64,
        content: Content<'_>,
        manner: Manner,
    ) -> io::Result<()> {
        let mut bytes = match content {
            Content::Bytes(bytes) => bytes,
            Content::Shared(slots, _) => match *slots {},
        };
        if manner != Manner::Cached {
            return Err(io::ErrorKind::Unsupported.into());
        }
        while !bytes.is_empty() {
            match self.file.seek_write(bytes, offset)? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                count => {
                    bytes = &bytes[count..];
                    offset += count as u64;
                }
            }
        }
        Ok(())
    }

    /// `FSCTL_SET_ZERO_DATA` writes them, all in one call, unless the file is sparse; and a sparse file would
    /// lose what was reserved for it.
    fn write_zeroes(&mut self, _range: Range<u64>) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn len_bytes(&mut self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Space without a length: nobody can read what was on the disk before. `SetFileValidData` would make later
    /// writes cheaper by letting everybody read it, and wants a privilege for that.
    fn reserve(&mut self, len: u64) -> io::Result<bool> {
        let is_reserved = self.allocate(len)?;
        if is_reserved {
            self.reserved_bytes = self.reserved_bytes.max(len);
        }
        Ok(is_reserved)
    }

    fn available_bytes(&mut self) -> io::Result<u64> {
        let own = u64::try_from(call::standard(&self.file)?.AllocationSize).unwrap_or(0);
        Ok(call::free_bytes(&self.directory)?.saturating_add(own))
    }

    /// The system gives it back when the file is closed, also after a crash of the process.
    fn has_reserved(&mut self, _bytes: u64) {}

    fn release_surplus(&mut self) -> io::Result<()> {
        if self.reserved_bytes > 0 {
            self.allocate(0)?;
            self.reserved_bytes = 0;
        }
        Ok(())
    }

    fn start_writeback(&mut self, _range: Range<u64>) -> io::Result<()> {
        Ok(())
    }

    fn wait_writeback(&mut self, _range: Range<u64>) -> io::Result<()> {
        self.flush.data(&self.file)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        self.flush.data(&self.file)
    }

    fn evict(&mut self, _range: Range<u64>) -> io::Result<()> {
        Ok(())
    }

    fn pages(&mut self, _range: Range<u64>) -> Option<Pages> {
        None
    }

    fn unlink(&mut self) -> io::Result<()> {
        match naming::remove(&self.directory.join(&self.name), self.id) {
            // Then it is not this file's any more.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    fn is_named(&mut self) -> io::Result<bool> {
        let found = call::standard(&self.file)?;
        Ok(!found.DeletePending && found.NumberOfLinks > 0)
    }

    fn taken_by(&mut self, name: &OsStr) -> io::Result<Option<FileId>> {
        let owner = naming::owner_of(&self.directory.join(name))?;
        Ok(owner.filter(|owner| *owner != self.id))
    }

    fn rename(&mut self, name: &OsStr, replaces: bool) -> io::Result<()> {
        if name != self.name {
            let (old, new) = (self.directory.join(&self.name), self.directory.join(name));
            if names::fault_of_name(name).is_some() {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            naming::rename(&old, self.id, &new, replaces)?;
            name.clone_into(&mut self.name);
        }
        Ok(())
    }

    /// Closing tells nothing here; the file was flushed before.
    fn closing(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn lend(&self) -> Lent<'_> {
        Vec::new()
    }

    /// `FlushFileBuffers`: the data, the file's metadata with its name, which NTFS and ReFS have in their log, and
    /// the device's cache.
    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_all()
    }
}
