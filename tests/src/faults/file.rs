//! One open file: the verbs of the daemon's storage, made of calls that the script may have fail.
//!
//! Injects nothing of its own. Where the real storage makes several system calls for one verb (writing all of
//! it, syncing, answering an interruption), the steps are the daemon's own (`freemkvd::storage::steps`), and
//! only the calls are made here; so those steps are under test as well. Two descriptors are open, the data's
//! and the sentinel's, each with its own cursor into the kernel's record of errors.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::MutexGuard;

use freemkvd::storage::steps::{self, Durable};
use freemkvd::storage::{Abilities, Content, FileId, Lent, Manner, Pages, Storage};
use rustix::io::Errno;

use super::disk::{Counts, FaultDisk};
use super::inode::{PAGE_BYTES, index, touched};
use super::kernel::{Kernel, What};
use super::script::{Call, Fault};

/// See the module's documentation.
pub(super) struct FaultFile {
    disk: FaultDisk,
    inode: u64,
    path: PathBuf,
    is_name_durable: bool,
    reserved_bytes: u64,
    /// Up to which error each descriptor was told.
    data: u64,
    sentinel: u64,
}

const ALL: Range<u64> = 0..u64::MAX - PAGE_BYTES;

impl FaultFile {
    pub(super) fn new(disk: FaultDisk, inode: u64, path: &Path, since: u64) -> Self {
        Self {
            disk,
            inode,
            path: path.to_owned(),
            is_name_durable: false,
            reserved_bytes: 0,
            data: since,
            sentinel: since,
        }
    }

    fn meet(&self, call: Call, offset: Option<u64>) -> io::Result<MutexGuard<'_, Kernel>> {
        self.disk.shared.meet(call, &self.path, offset)?;
        Ok(self.disk.kernel())
    }

    /// One call that writes, and how much of it.
    fn write_once(&self, offset: u64, content: &[u8], manner: Manner) -> io::Result<u64> {
        let call = match manner {
            Manner::Cached => Call::Write,
            Manner::Uncached => Call::WriteUncached,
            Manner::Direct => Call::WriteDirect,
        };
        let fault = self.disk.shared.meet(call, &self.path, Some(offset))?;
        let script = &self.disk.shared.script;
        let mut kernel = self.disk.kernel();
        let mut end = offset + content.len() as u64;
        if let Some(Fault::Short(_)) = fault {
            end = offset + (content.len() as u64).div_ceil(2);
        }
        let (end, why) = kernel.take_space(self.inode, &(offset..end));
        if end == offset {
            return Err(why.map_or(io::ErrorKind::WriteZero.into(), io::Error::from));
        }
        if end > kernel.inode(self.inode).len {
            kernel.change(What::Grow { inode: self.inode, len: end });
        }
        let stamp = kernel.stamp;
        kernel.inode(self.inode).write(offset, &content[..index(end - offset)], stamp);
        match manner {
            Manner::Cached => kernel.flush_by_itself(self.inode, script),
            Manner::Uncached => kernel.inode(self.inode).start(&(offset..end), usize::MAX),
            Manner::Direct => {
                let mut told = kernel.inode(self.inode).errors.sample();
                kernel.write_back(self.inode, &(offset..end), script);
                // It brings its own error back, and leaves it with the inode too.
                kernel.inode(self.inode).errors.tell(&mut told)?;
            }
        }
        Ok(end - offset)
    }

    /// Writes everything back, and tells one descriptor.
    fn sync_by(&self, call: Call, told: &mut u64) -> io::Result<()> {
        let mut kernel = self.meet(call, None)?;
        kernel.write_back(self.inode, &ALL, &self.disk.shared.script);
        kernel.inode(self.inode).errors.tell(told)?;
        kernel.commit(self.inode);
        Ok(())
    }
}

impl Storage for FaultFile {
    fn abilities(&self) -> Abilities {
        self.disk.shared.ground.abilities
    }

    fn write_at(&mut self, offset: u64, content: Content<'_>, manner: Manner) -> io::Result<()> {
        let able = self.abilities();
        let align = able.direct_align_bytes.unwrap_or(u64::MAX);
        let is_aligned = [offset, content.len_bytes()].iter().all(|number| number % align == 0)
            && content.is_aligned(align);
        match manner {
            Manner::Uncached if !able.uncached => return Err(io::ErrorKind::Unsupported.into()),
            Manner::Direct if !is_aligned => return Err(io::ErrorKind::Unsupported.into()),
            _ => {}
        }
        let bytes = bytes_of(&content)?;
        let written = steps::write_all(bytes.len() as u64, |done| {
            self.write_once(offset + done, &bytes[index(done)..], manner)
        });
        written.map_err(|stopped| stopped.error)
    }

    fn write_zeroes(&mut self, range: Range<u64>) -> io::Result<()> {
        steps::uninterrupted(|| {
            let mut kernel = self.meet(Call::WriteZeroes, Some(range.start))?;
            kernel.change(What::Zero { inode: self.inode, range: range.clone() });
            kernel.reshape(self.inode, |inode, stamp| inode.zero(range.clone(), stamp));
            Ok(())
        })
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        steps::uninterrupted(|| {
            let mut kernel = self.meet(Call::SetLen, None)?;
            kernel.change(What::SetLen { inode: self.inode, len });
            kernel.reshape(self.inode, |inode, stamp| inode.set_len(len, stamp));
            Ok(())
        })
    }

    fn len_bytes(&mut self) -> io::Result<u64> {
        Ok(self.meet(Call::Len, None)?.inode(self.inode).len)
    }

    fn reserve(&mut self, len: u64) -> io::Result<bool> {
        steps::uninterrupted(|| {
            let mut kernel = self.meet(Call::Reserve, None)?;
            match kernel.take_space(self.inode, &(0..len)).1 {
                Some(why) => Err(why.into()),
                None => Ok(()),
            }
        })?;
        self.reserved_bytes = len;
        Ok(true)
    }

    fn available_bytes(&mut self) -> io::Result<u64> {
        let mut kernel = self.meet(Call::Available, None)?;
        let taken_bytes = kernel.inode(self.inode).blocks.len() as u64 * PAGE_BYTES;
        Ok(kernel.free_bytes().saturating_add(taken_bytes))
    }

    fn has_reserved(&mut self, bytes: u64) {
        self.reserved_bytes = bytes;
    }

    fn release_surplus(&mut self) -> io::Result<()> {
        if self.reserved_bytes == 0 {
            return Ok(());
        }
        steps::uninterrupted(|| {
            let mut kernel = self.meet(Call::ReleaseSurplus, None)?;
            let len = kernel.inode(self.inode).len;
            kernel.reshape(self.inode, |inode, stamp| inode.set_len(len, stamp));
            Ok(())
        })
    }

    fn start_writeback(&mut self, range: Range<u64>) -> io::Result<()> {
        steps::uninterrupted(|| {
            let mut kernel = self.meet(Call::StartWriteback, Some(range.start))?;
            if !self.disk.shared.ground.is_deaf_by_range {
                kernel.inode(self.inode).start(&range, usize::MAX);
            }
            Ok(())
        })
    }

    fn wait_writeback(&mut self, range: Range<u64>) -> io::Result<()> {
        let mut told = self.data;
        let result = steps::uninterrupted(|| {
            let mut kernel = self.meet(Call::WaitWriteback, Some(range.start))?;
            if self.disk.shared.ground.is_deaf_by_range {
                return Ok(());
            }
            kernel.write_back(self.inode, &range, &self.disk.shared.script);
            kernel.inode(self.inode).errors.tell(&mut told)
        });
        self.data = told;
        result
    }

    fn sync_data(&mut self) -> io::Result<()> {
        let mut told = self.data;
        let result = steps::uninterrupted(|| self.sync_by(Call::SyncData, &mut told));
        self.data = told;
        result
    }

    fn evict(&mut self, range: Range<u64>) -> io::Result<()> {
        self.meet(Call::Evict, Some(range.start))?.inode(self.inode).evict(&range);
        Ok(())
    }

    /// Writeback that is counted has ended by the next look.
    fn pages(&mut self, range: Range<u64>) -> Option<Pages> {
        let mut kernel = self.meet(Call::Pages, Some(range.start)).ok()?;
        let mut found = Pages::default();
        let inode = kernel.inode(self.inode);
        for page in inode.pages.range(touched(&range)).map(|(_, page)| page) {
            found.cached_bytes += if page.is_cached { PAGE_BYTES } else { 0 };
            found.dirty_bytes += if page.is_dirty { PAGE_BYTES } else { 0 };
            found.writeback_bytes += if page.writeback.is_some() { PAGE_BYTES } else { 0 };
        }
        kernel.finish(self.inode, &range, &self.disk.shared.script);
        match self.disk.shared.ground.counts {
            Counts::Exact => Some(found),
            Counts::Blind => Some(Pages::default()),
            Counts::None => None,
        }
    }

    fn unlink(&mut self) -> io::Result<()> {
        let mut kernel = self.meet(Call::Unlink, None)?;
        if kernel.names.get(&self.path) == Some(&self.inode) {
            kernel.unlink(&self.path);
        }
        Ok(())
    }

    fn is_named(&mut self) -> io::Result<bool> {
        Ok(self.disk.kernel().names.values().any(|inode| *inode == self.inode))
    }

    fn taken_by(&mut self, name: &OsStr) -> io::Result<Option<FileId>> {
        let kernel = self.meet(Call::TakenBy, None)?;
        let found = kernel.names.get(&self.path.with_file_name(name)).copied();
        let device = self.disk.shared.number;
        let other = found.filter(|inode| *inode != self.inode);
        Ok(other.map(|inode| FileId { device, inode }))
    }

    fn rename(&mut self, name: &OsStr, replaces: bool) -> io::Result<()> {
        let to = self.path.with_file_name(name);
        let mut kernel = self.meet(Call::Rename, None)?;
        let (old, new) = (kernel.names.get(&self.path), kernel.names.get(&to));
        if new != Some(&self.inode) {
            if old != Some(&self.inode) {
                return Err(Errno::NOENT.into());
            }
            if new.is_some() && !replaces {
                return Err(Errno::EXIST.into());
            }
            kernel.rename(&self.path, &to);
        }
        drop(kernel);
        (self.path, self.is_name_durable) = (to, false);
        Ok(())
    }

    fn closing(&mut self) -> io::Result<()> {
        // Once for each descriptor, as the kernel does.
        for _ in 0..2 {
            drop(self.meet(Call::Close, None)?);
        }
        Ok(())
    }

    fn lend(&self) -> Lent<'_> {
        Vec::new()
    }

    fn sync(&mut self) -> io::Result<()> {
        steps::make_durable(self)
    }
}

impl Durable for FaultFile {
    fn sync_content(&mut self) -> io::Result<()> {
        let mut told = self.data;
        let result = self.sync_by(Call::SyncContent, &mut told);
        self.data = told;
        result
    }

    fn sync_sentinel(&mut self) -> io::Result<()> {
        let mut told = self.sentinel;
        let result = self.sync_by(Call::SyncSentinel, &mut told);
        self.sentinel = told;
        result
    }

    fn sync_name(&mut self) -> io::Result<()> {
        if self.is_name_durable {
            return Ok(());
        }
        let mut kernel = self.meet(Call::SyncName, None)?;
        if let Some(directory) = self.path.parent() {
            kernel.commit_names(directory);
        }
        drop(kernel);
        self.is_name_durable = true;
        Ok(())
    }
}

impl Drop for FaultFile {
    fn drop(&mut self) {
        self.disk.kernel().let_go(self.inode, |inode| inode.openers -= 1);
    }
}

/// Content as the kernel reads it. Shared memory is never behind a reference here either: the kernel copies it.
fn bytes_of(content: &Content<'_>) -> io::Result<Vec<u8>> {
    match content {
        Content::Bytes(bytes) => Ok(bytes.to_vec()),
        Content::Shared(slots, range) => {
            let (address, len) = slots.span(range);
            let mut bytes = vec![0; len];
            File::open("/proc/self/mem")?.read_exact_at(&mut bytes, address as u64)?;
            Ok(bytes)
        }
    }
}
