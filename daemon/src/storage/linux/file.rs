//! One open file, and the verbs on it.
//!
//! Invariants:
//! 1. Whatever the kernel says is an answer: an error of a wait, an eviction or a close-by sync goes to
//!    the caller, once. It won't be there a second time.
//! 2. Only `data` is waited on. Each open file description has a cursor of its own into the record of
//!    writeback errors that the kernel keeps per inode, and a wait moves it: after a failed
//!    `wait_writeback`, fsync on the same description says success. The `sentinel`, opened before the
//!    first write and only ever synced, then still tells.
//! 3. "Unsupported" is said only where nothing was written.

use std::ffi::{OsStr, OsString};
use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{
    Advice, AtFlags, FallocateFlags, RenameFlags, StatxFlags, fadvise, fallocate, fdatasync, fstat,
    fstatvfs, fsync, ftruncate, linkat, renameat, renameat_with, statat, statx, unlinkat,
};
use rustix::io::{Errno, ReadWriteFlags, pwrite, pwritev2, retry_on_intr};

use super::super::beneath::names;
use super::super::steps::{self, Durable, Stopped};
use super::super::{Abilities, Content, FileId, Manner, Pages, Storage};
use super::{Lent, call, page_bytes};

/// `RWF_DONTCACHE`, Linux 6.14: writeback starts inside the write, and the pages are dropped when it
/// ends. Kernels without it, and file systems without it, say EOPNOTSUPP.
const RWF_DONTCACHE: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x80);

/// What a direct write is aligned to where the file system does not say: no logical block of a device
/// is larger.
const DIRECT_ALIGN_BYTES: u64 = 4096;

/// The least that a direct write is aligned to, a sector; file systems that need less gain nothing by it.
const DIRECT_ALIGN_BYTES_MIN: u64 = 512;

/// One open file.
pub(super) struct File {
    pub(super) data: OwnedFd,
    /// See rule 2.
    pub(super) sentinel: OwnedFd,
    /// Opened with `O_DIRECT`, where that works. Not asked by a sync: what it writes has either come
    /// back with an error or is on the device (fsync flushes that for the whole inode), and its cursor
    /// is no older than the sentinel's, so it knows nothing that the sentinel does not.
    pub(super) direct: Option<OwnedFd>,
    /// `None` when the file has no such name any more.
    pub(super) directory: Option<OwnedFd>,
    /// In `directory`. Empty for a file that its client has opened: nothing here looks for its name.
    pub(super) name: OsString,
    pub(super) name_is_durable: bool,
    pub(super) abilities: Abilities,
    /// Up to where space was reserved, also beyond the length.
    pub(super) reserved_bytes: u64,
}

/// What direct writes to this descriptor are to be aligned to, the memory and the offset alike; `None`
/// where the file system says that it has none for this file, as ext4 for one that it journals.
pub(super) fn direct_align_bytes(direct: &OwnedFd) -> Option<u64> {
    let asked = statx(direct, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN).ok();
    // Linux 6.1, and not all file systems: btrfs, FUSE and tmpfs are silent.
    let Some(told) = asked.filter(|told| told.stx_mask & StatxFlags::DIOALIGN.bits() != 0) else {
        return Some(DIRECT_ALIGN_BYTES);
    };
    let align_bytes = u64::from(told.stx_dio_mem_align.max(told.stx_dio_offset_align));
    (told.stx_dio_offset_align != 0).then(|| align_bytes.max(DIRECT_ALIGN_BYTES_MIN))
}

impl Storage for File {
    fn abilities(&self) -> Abilities {
        self.abilities
    }

    fn write_at(&mut self, offset: u64, content: Content<'_>, manner: Manner) -> io::Result<()> {
        let unsupported = || Err(io::ErrorKind::Unsupported.into());
        let (file, flags) = match (manner, &self.direct) {
            (Manner::Cached, _) => (&self.data, ReadWriteFlags::empty()),
            (Manner::Uncached, _) if self.abilities.uncached => (&self.data, RWF_DONTCACHE),
            // Not left to the kernel: some file systems take what is not aligned, and write it through
            // the page cache.
            (Manner::Direct, Some(direct)) if self.is_aligned(offset, &content) => {
                (direct, ReadWriteFlags::empty())
            }
            _ => return unsupported(),
        };
        let len = content.len_bytes();
        let written = steps::write_all(len, |done| {
            Ok(write_once(file, offset + done, &content.part(done..len), flags)? as u64)
        });
        match written {
            Ok(()) => Ok(()),
            Err(Stopped { done: 0, error })
                if manner != Manner::Cached && is_unsupported(&error) =>
            {
                self.forget(manner);
                unsupported()
            }
            Err(stopped) => Err(stopped.error),
        }
    }

    /// Dirties metadata, and pages only where the range begins or ends inside of one: two at most.
    fn write_zeroes(&mut self, range: Range<u64>) -> io::Result<()> {
        // A hole costs no space and no I/O, but would give back what was reserved.
        let reserved = range.start..range.end.min(self.reserved_bytes);
        let hole = range.start.max(self.reserved_bytes)..range.end;
        for (part, flags) in
            [(reserved, FallocateFlags::ZERO_RANGE), (hole, FallocateFlags::PUNCH_HOLE)]
        {
            if part.is_empty() {
                continue;
            }
            let flags = flags | FallocateFlags::KEEP_SIZE;
            let len = part.end - part.start;
            match retry_on_intr(|| fallocate(&self.data, flags, part.start, len)) {
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                    return Err(io::ErrorKind::Unsupported.into());
                }
                result => result?,
            }
        }
        Ok(())
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        Ok(retry_on_intr(|| ftruncate(&self.data, len))?)
    }

    fn len_bytes(&mut self) -> io::Result<u64> {
        Ok(fstat(&self.data)?.st_size.unsigned_abs())
    }

    fn reserve(&mut self, len: u64) -> io::Result<bool> {
        match retry_on_intr(|| fallocate(&self.data, FallocateFlags::KEEP_SIZE, 0, len)) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(false),
            result => {
                self.reserved_bytes = len;
                result?;
                Ok(true)
            }
        }
    }

    fn available_bytes(&mut self) -> io::Result<u64> {
        let space = fstatvfs(&self.data)?;
        let free_bytes = space.f_bavail.saturating_mul(space.f_frsize);
        let taken_bytes = fstat(&self.data)?.st_blocks.unsigned_abs() * 512;
        Ok(free_bytes.saturating_add(taken_bytes))
    }

    fn release_surplus(&mut self) -> io::Result<()> {
        if self.reserved_bytes == 0 {
            return Ok(());
        }
        // Truncation to the length it has frees the blocks behind it; ext4 refuses to punch them.
        let len = self.len_bytes()?;
        self.set_len(len)
    }

    fn start_writeback(&mut self, range: Range<u64>) -> io::Result<()> {
        Ok(call::sync_file_range(&self.data, &range, libc::SYNC_FILE_RANGE_WRITE)?)
    }

    fn wait_writeback(&mut self, range: Range<u64>) -> io::Result<()> {
        let all = libc::SYNC_FILE_RANGE_WAIT_BEFORE
            | libc::SYNC_FILE_RANGE_WRITE
            | libc::SYNC_FILE_RANGE_WAIT_AFTER;
        Ok(call::sync_file_range(&self.data, &range, all)?)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        Ok(retry_on_intr(|| fdatasync(&self.data))?)
    }

    fn evict(&mut self, range: Range<u64>) -> io::Result<()> {
        // To the kernel zero bytes are the rest of the file.
        let Some(len) = std::num::NonZeroU64::new(range.end - range.start) else {
            return Ok(());
        };
        Ok(fadvise(&self.data, range.start, Some(len), Advice::DontNeed)?)
    }

    fn pages(&mut self, range: Range<u64>) -> Option<Pages> {
        // It is no more than a figure: Linux before 6.5 does not have the call, and a filter of system
        // calls may refuse it.
        let pages = call::cachestat(&self.data, &range).ok()?;
        Some(Pages {
            cached_bytes: pages.nr_cache * page_bytes(),
            dirty_bytes: pages.nr_dirty * page_bytes(),
            writeback_bytes: pages.nr_writeback * page_bytes(),
        })
    }

    fn unlink(&mut self) -> io::Result<()> {
        match &self.directory {
            Some(directory) if self.has_name(directory, &self.name)? => {
                Ok(unlinkat(directory, &self.name, AtFlags::empty())?)
            }
            _ => Ok(()),
        }
    }

    fn is_named(&mut self) -> io::Result<bool> {
        Ok(self.is_given() || fstat(&self.data)?.st_nlink > 0)
    }

    fn taken_by(&mut self, name: &OsStr) -> io::Result<Option<FileId>> {
        let Some(directory) = &self.directory else {
            return Ok(None);
        };
        let ours = fstat(&self.data)?;
        match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
            Ok(named) if (named.st_dev, named.st_ino) == (ours.st_dev, ours.st_ino) => Ok(None),
            Ok(named) => Ok(Some(FileId { device: named.st_dev, inode: named.st_ino })),
        }
    }

    fn rename(&mut self, name: &OsStr, replaces: bool) -> io::Result<()> {
        let Some(directory) = &self.directory else {
            return Err(io::ErrorKind::NotFound.into());
        };
        // Also where somebody, perhaps the daemon before, has done it already.
        if !self.has_name(directory, name)? {
            if !self.has_name(directory, &self.name)? {
                return Err(io::ErrorKind::NotFound.into());
            }
            let renamed = match replaces {
                true => renameat(directory, &self.name, directory, name),
                false => rename_to_free_name(directory, &self.name, name),
            };
            // An NFS server may do it, and say to the second of two requests that it can't be done.
            if let Err(errno) = renamed {
                if !self.has_name(directory, name)? {
                    return Err(errno.into());
                }
            }
        }
        // What a link has left, if it came to that.
        if *name != self.name && self.has_name(directory, &self.name)? {
            unlinkat(directory, &self.name, AtFlags::empty())?;
        }
        name.clone_into(&mut self.name);
        self.name_is_durable = false;
        Ok(())
    }

    /// The kernel calls the file system at the close of each descriptor, that of a duplicate included.
    fn closing(&mut self) -> io::Result<()> {
        for file in [&self.data, &self.sentinel] {
            // Without a descriptor to spare it goes unasked: everything was synced before.
            if let Ok(duplicate) = file.try_clone() {
                call::close(duplicate)?;
            }
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        steps::make_durable(self)
    }

    fn lend(&self) -> Lent<'_> {
        // The directory is found again by the file's path.
        vec![("data", self.data.as_fd()), ("sentinel", self.sentinel.as_fd())]
    }

    fn has_reserved(&mut self, bytes: u64) {
        self.reserved_bytes = bytes;
    }
}

impl Durable for File {
    fn sync_content(&mut self) -> io::Result<()> {
        Ok(fsync(&self.data)?)
    }

    fn sync_sentinel(&mut self) -> io::Result<()> {
        Ok(fsync(&self.sentinel)?)
    }

    fn sync_name(&mut self) -> io::Result<()> {
        match &self.directory {
            Some(directory) if !self.name_is_durable => {
                fsync(directory)?;
                self.name_is_durable = true;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl File {
    fn is_given(&self) -> bool {
        self.name.is_empty()
    }

    /// True when `name` in `directory` is this file.
    fn has_name(&self, directory: &OwnedFd, name: &OsStr) -> io::Result<bool> {
        let ours = fstat(&self.data)?;
        Ok(names(directory, name, (ours.st_dev, ours.st_ino)))
    }

    fn is_aligned(&self, offset: u64, content: &Content<'_>) -> bool {
        let address = match content {
            Content::Bytes(bytes) => bytes.as_ptr().addr(),
            Content::Shared(slots, range) => slots.span(range).0,
        };
        let align_bytes = self.abilities.direct_align_bytes.unwrap_or(u64::MAX);
        let numbers = [offset, content.len_bytes(), address as u64];
        numbers.iter().all(|number| number % align_bytes == 0)
    }

    /// The file system has no such manner, whatever it said before.
    fn forget(&mut self, manner: Manner) {
        match manner {
            Manner::Cached => {}
            Manner::Uncached => self.abilities.uncached = false,
            Manner::Direct => {
                self.abilities.direct_align_bytes = None;
                self.direct = None;
            }
        }
    }
}

/// True for what a file system says that has no such manner of writing.
fn is_unsupported(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS))
}

/// `RENAME_NOREPLACE`, or what comes next to it: NFS and some FUSE file systems have no flags.
fn rename_to_free_name(directory: &OwnedFd, old: &OsStr, new: &OsStr) -> rustix::io::Result<()> {
    match renameat_with(directory, old, directory, new, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
        result => return result,
    }
    // A link never replaces anything. For a moment the file has both names.
    match linkat(directory, old, directory, new, AtFlags::empty()) {
        Ok(()) => return unlinkat(directory, old, AtFlags::empty()),
        Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS) => {}
        Err(errno) => return Err(errno),
    }
    // Neither, as on FAT: look first. Who takes the name between the two is replaced.
    match statat(directory, new, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => renameat(directory, old, directory, new),
        Err(errno) => Err(errno),
        Ok(_) => Err(Errno::EXIST),
    }
}

/// Writes as much as one call takes.
fn write_once(
    file: &OwnedFd,
    offset: u64,
    content: &Content<'_>,
    flags: ReadWriteFlags,
) -> rustix::io::Result<usize> {
    match content {
        Content::Bytes(bytes) if flags.is_empty() => pwrite(file, bytes, offset),
        Content::Bytes(bytes) => pwritev2(file, &[IoSlice::new(bytes)], offset, flags),
        Content::Shared(slots, range) => {
            call::write_slots(file, slots, range.clone(), offset, flags)
        }
    }
}
