//! Storage on Linux, and with [`slots`] the only `unsafe` of the daemon: two system calls that no
//! binding offers yet, `sync_file_range(2)` and `cachestat(2)`, and memory that a client shares.

mod slots;

use std::ffi::OsString;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use freemkvd_proto::OpenMode;
use rustix::fs::{
    Advice, AtFlags, FallocateFlags, fadvise, fallocate, fdatasync, fstat, fstatvfs, fsync,
    ftruncate, major, minor, statat, unlinkat,
};
use rustix::io::{Errno, ReadWriteFlags, pwritev2};

use super::beneath::{self, Refused};
use super::{
    Abilities, Content, Device, FileId, Manner, Medium, Open, OpenError, Opened, Pages, Storage,
    below, mount, outside,
};

pub use slots::{Descriptor, Slots};

/// The kernel's page size in bytes.
#[must_use]
pub fn page_bytes() -> u64 {
    rustix::param::page_size() as u64
}

/// Opens files below roots, on this host.
#[derive(Debug, Default)]
pub struct Disk;

impl Open for Disk {
    fn open(&self, roots: &[PathBuf], path: &Path, mode: OpenMode) -> Result<Opened, OpenError> {
        let (root, rest) = below(roots, path).ok_or_else(|| outside(roots, path))?;
        let io = |operation, source| OpenError::Io { path: path.to_owned(), operation, source };
        let file = beneath::open(root, rest, mode).map_err(|refused| match refused {
            Refused::Outside => outside(roots, path),
            Refused::NotAFile(what) => OpenError::NotAFile { path: path.to_owned(), what },
            Refused::Io(operation, source) => io(operation, source),
        })?;
        let space = fstatvfs(&file.data).map_err(|errno| io("ask about", errno.into()))?;
        let free_bytes = space.f_bavail.saturating_mul(space.f_frsize);
        let taken_bytes = file.stat.st_blocks.unsigned_abs() * 512;
        let (mount, filesystem) = mount::of(&file.data, path);
        let in_memory = matches!(filesystem.as_str(), "tmpfs" | "ramfs");
        let by_range =
            matches!(filesystem.as_str(), "ext2" | "ext3" | "ext4" | "xfs" | "btrfs" | "f2fs");
        let device = file.stat.st_dev;
        Ok(Opened {
            created: file.created,
            len_bytes: file.stat.st_size.unsigned_abs(),
            available_bytes: free_bytes.saturating_add(taken_bytes),
            id: FileId { device, inode: file.stat.st_ino },
            device: Device {
                id: format!("{}:{}", major(device), minor(device)),
                mount,
                filesystem,
                medium: if in_memory { Medium::Memory } else { Medium::Unknown },
            },
            storage: Box::new(File {
                data: file.data,
                sentinel: file.sentinel,
                directory: file.directory,
                name: file.name,
                // One that was there may have been made a moment ago by somebody who did not sync.
                name_is_durable: mode == OpenMode::Existing,
                abilities: Abilities {
                    uncached: by_range,
                    direct_align_bytes: None,
                    by_range,
                    in_memory,
                },
                reserved_bytes: 0,
            }),
        })
    }
}

/// One open file.
struct File {
    data: OwnedFd,
    /// Opened before the first write and never waited on, so that its fsync still reports an error
    /// which a wait on `data` has consumed.
    sentinel: OwnedFd,
    directory: OwnedFd,
    /// In `directory`.
    name: OsString,
    name_is_durable: bool,
    abilities: Abilities,
    /// Up to where space was reserved, also beyond the length.
    reserved_bytes: u64,
}

impl Storage for File {
    fn abilities(&self) -> Abilities {
        self.abilities
    }

    fn write_at(
        &mut self,
        mut offset: u64,
        content: Content<'_>,
        manner: Manner,
    ) -> io::Result<()> {
        let flags = match manner {
            Manner::Cached => ReadWriteFlags::empty(),
            Manner::Uncached => ReadWriteFlags::from_bits_retain(0x80),
            Manner::Direct => return Err(io::ErrorKind::Unsupported.into()),
        };
        let flags_bits = i32::try_from(flags.bits()).unwrap_or(0);
        let mut left = 0..content.len_bytes();
        while !left.is_empty() {
            let written = match content.part(left.clone()) {
                Content::Bytes(bytes) => {
                    pwritev2(&self.data, &[IoSlice::new(bytes)], offset, flags).map_err(Into::into)
                }
                Content::Shared(slots, range) => {
                    slots.write_to(self.data.as_fd(), &range, offset, flags_bits)
                }
            };
            match written {
                // Not even a byte, and no reason: the same call again could go on for ever.
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    left.start += count as u64;
                    offset += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                    return Err(io::ErrorKind::Unsupported.into());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

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
            match fallocate(&self.data, flags, part.start, part.end - part.start) {
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                    return Err(io::ErrorKind::Unsupported.into());
                }
                result => result?,
            }
        }
        Ok(())
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        Ok(ftruncate(&self.data, len)?)
    }

    fn len_bytes(&mut self) -> io::Result<u64> {
        Ok(fstat(&self.data)?.st_size.unsigned_abs())
    }

    fn reserve(&mut self, len: u64) -> io::Result<()> {
        match fallocate(&self.data, FallocateFlags::KEEP_SIZE, 0, len) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            result => {
                self.reserved_bytes = len;
                Ok(result?)
            }
        }
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
        self.sync_file_range(&range, libc::SYNC_FILE_RANGE_WRITE)
    }

    fn wait_writeback(&mut self, range: Range<u64>) -> io::Result<()> {
        let all = libc::SYNC_FILE_RANGE_WAIT_BEFORE
            | libc::SYNC_FILE_RANGE_WRITE
            | libc::SYNC_FILE_RANGE_WAIT_AFTER;
        self.sync_file_range(&range, all)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        Ok(fdatasync(&self.data)?)
    }

    fn evict(&mut self, range: Range<u64>) -> io::Result<()> {
        let len = std::num::NonZeroU64::new(range.end - range.start);
        Ok(fadvise(&self.data, range.start, len, Advice::DontNeed)?)
    }

    fn pages(&mut self, range: Range<u64>) -> Option<Pages> {
        // It is no more than a figure: Linux before 6.5 does not have the call, and a filter of system
        // calls may refuse it.
        let pages = cachestat(&self.data, &range).ok()?;
        Some(Pages {
            cached_bytes: pages.nr_cache * page_bytes(),
            dirty_bytes: pages.nr_dirty * page_bytes(),
            writeback_bytes: pages.nr_writeback * page_bytes(),
        })
    }

    fn unlink(&mut self) -> io::Result<()> {
        let (ours, named) =
            (fstat(&self.data)?, statat(&self.directory, &self.name, AtFlags::SYMLINK_NOFOLLOW)?);
        if (ours.st_dev, ours.st_ino) == (named.st_dev, named.st_ino) {
            unlinkat(&self.directory, &self.name, AtFlags::empty())?;
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        // Both, whatever the first says: each descriptor has its own record of what was lost.
        let (data, sentinel) = (fsync(&self.data), fsync(&self.sentinel));
        data.and(sentinel)?;
        if !self.name_is_durable {
            fsync(&self.directory)?;
            self.name_is_durable = true;
        }
        Ok(())
    }
}

impl File {
    #[expect(unsafe_code, reason = "no binding offers sync_file_range")]
    fn sync_file_range(&self, range: &Range<u64>, flags: libc::c_uint) -> io::Result<()> {
        // The wire allows no offset that would not fit.
        let off_t = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let (offset, len) = (off_t(range.start), off_t(range.end - range.start));
        loop {
            // SAFETY: takes no pointers, and the descriptor is open for as long as `self` lives.
            let result =
                unsafe { libc::sync_file_range(self.data.as_raw_fd(), offset, len, flags) };
            if result == 0 {
                return Ok(());
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }
}

/// `struct cachestat_range` of linux/mman.h.
#[repr(C)]
struct CachestatRange {
    off: u64,
    len: u64,
}

/// `struct cachestat` of linux/mman.h: pages of a range by state.
#[repr(C)]
#[derive(Default)]
struct Cachestat {
    nr_cache: u64,
    nr_dirty: u64,
    nr_writeback: u64,
    nr_evicted: u64,
    nr_recently_evicted: u64,
}

/// Number of `cachestat(2)`, the same on every architecture.
const SYS_CACHESTAT: libc::c_long = 451;

#[expect(unsafe_code, reason = "no binding offers cachestat")]
fn cachestat(file: &OwnedFd, range: &Range<u64>) -> io::Result<Cachestat> {
    let asked = CachestatRange { off: range.start, len: range.end - range.start };
    let mut pages = Cachestat::default();
    // SAFETY: both pointers are to structs of the layout that the kernel's header gives, alive for
    // the call; the kernel reads the first and writes the second.
    let result = unsafe {
        libc::syscall(SYS_CACHESTAT, file.as_raw_fd(), &raw const asked, &raw mut pages, 0)
    };
    if result == 0 { Ok(pages) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn open(path: &Path, mode: OpenMode) -> Result<Opened, OpenError> {
        Disk.open(&[path.parent().unwrap().to_owned()], path, mode)
    }

    #[test]
    fn a_reserved_surplus_is_given_back() {
        let dir = tempfile::tempdir_in(".").unwrap();
        let path = dir.path().canonicalize().unwrap().join("a");
        let mut file = open(&path, OpenMode::CreateNew).unwrap().storage;
        file.reserve(8 << 20).unwrap();
        file.write_at(0, Content::Bytes(&[7; 4096]), Manner::Cached).unwrap();
        file.release_surplus().unwrap();
        file.sync().unwrap();
        let metadata = std::fs::metadata(&path).unwrap();
        assert_eq!(metadata.len(), 4096);
        assert!(metadata.blocks() * 512 <= 64 << 10, "{} blocks remain", metadata.blocks());
    }

    #[test]
    fn zeroes_are_written_without_space() {
        let dir = tempfile::tempdir_in(".").unwrap();
        let path = dir.path().canonicalize().unwrap().join("a");
        let mut file = open(&path, OpenMode::CreateNew).unwrap().storage;
        file.write_at(0, Content::Bytes(&[7; 8192]), Manner::Cached).unwrap();
        file.set_len(1 << 30).unwrap();
        match file.write_zeroes(4096..1 << 30) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => return,
            result => result.unwrap(),
        }
        assert!(std::fs::metadata(&path).unwrap().blocks() * 512 < 1 << 20);
        let mut head = [1; 8192];
        std::os::unix::fs::FileExt::read_exact_at(
            &std::fs::File::open(&path).unwrap(),
            &mut head,
            0,
        )
        .unwrap();
        assert!(head[..4096] == [7; 4096] && head[4096..] == [0; 4096]);
    }

    #[test]
    fn writeback_that_was_waited_for_leaves_nothing_dirty() {
        let dir = tempfile::tempdir_in(".").unwrap();
        let path = dir.path().canonicalize().unwrap().join("a");
        let mut file = open(&path, OpenMode::CreateNew).unwrap().storage;
        file.write_at(0, Content::Bytes(&vec![7; 4 << 20]), Manner::Cached).unwrap();
        file.start_writeback(0..4 << 20).unwrap();
        file.wait_writeback(0..4 << 20).unwrap();
        file.evict(0..4 << 20).unwrap();
        if let Some(pages) = file.pages(0..4 << 20) {
            assert_eq!(pages.dirty_bytes + pages.writeback_bytes, 0);
        }
    }

    #[test]
    fn modes_do_what_they_say_and_truncate_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap().join("a");
        let code = |result: Result<Opened, OpenError>| result.err().unwrap().failure().code;
        assert_eq!(code(open(&path, OpenMode::Existing)), freemkvd_proto::ErrorCode::NOT_FOUND);
        assert!(open(&path, OpenMode::CreateNew).unwrap().created);
        assert_eq!(code(open(&path, OpenMode::CreateNew)), freemkvd_proto::ErrorCode::EXISTS);
        std::fs::write(&path, b"film").unwrap();
        for mode in [OpenMode::Create, OpenMode::Existing] {
            let opened = open(&path, mode).unwrap();
            assert!(!opened.created && opened.len_bytes == 4);
        }
        assert_eq!(std::fs::read(&path).unwrap(), b"film");
    }

    #[test]
    fn nothing_outside_the_root_and_nothing_but_files() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        let root = base.join("root");
        std::fs::create_dir_all(root.join("sub")).unwrap();
        std::fs::write(base.join("secret"), b"x").unwrap();
        std::os::unix::fs::symlink("../secret", root.join("out")).unwrap();
        std::os::unix::fs::symlink("sub/in", root.join("inside")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            root.join("fifo"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RWXU,
            0,
        )
        .unwrap();
        let code = |path: PathBuf| {
            let opened = Disk.open(std::slice::from_ref(&root), &path, OpenMode::Create);
            opened.err().map(|error| error.failure().code)
        };
        use freemkvd_proto::ErrorCode as Code;
        assert_eq!(code(base.join("secret")), Some(Code::OUTSIDE_ROOTS));
        assert_eq!(code(root.join("../secret")), Some(Code::OUTSIDE_ROOTS));
        assert_eq!(code(root.join("out")), Some(Code::OUTSIDE_ROOTS));
        assert_eq!(code(root.clone()), Some(Code::OUTSIDE_ROOTS));
        assert_eq!(code(root.join("sub")), Some(Code::NOT_A_FILE));
        assert_eq!(code(root.join("fifo")), Some(Code::NOT_A_FILE));
        assert_eq!(code(root.join("missing/a")), Some(Code::NOT_FOUND));
        assert_eq!(code(root.join("inside")), Some(Code::NOT_A_FILE), "it leads nowhere yet");
        std::fs::write(root.join("sub/in"), b"x").unwrap();
        assert_eq!(code(root.join("inside")), None);
        assert_eq!(std::fs::read(base.join("secret")).unwrap(), b"x");
    }
}
