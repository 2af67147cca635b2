//! Storage on Linux.
//!
//! * `call`: the system calls that no binding offers;
//! * `file`: one open file, and the verbs on it;
//! * `medium`: whether a device seeks;
//! * `passed`: descriptors that this process was started with;
//! * `slots`: memory that a client shares.
//!
//! `call`, `passed` and `slots` have all `unsafe` of the daemon. What a file system can do is found out by asking the
//! file, and by trying; a name decides only what cannot be found out ([`Abilities::trusted_by_range`]).

mod call;
mod file;
mod medium;
mod passed;
mod slots;

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use freemkvd_proto::OpenMode;
use rustix::fs::{AtFlags, FsWord, NFS_SUPER_MAGIC, StatxFlags, fstatfs, major, minor, statx};

use self::file::{File, direct_align_bytes};
use super::beneath::{self, Refused};
use super::{
    Abilities, Creation, Device, FileId, Known, Medium, Open, OpenError, Opened, below, mount,
    outside,
};

pub use call::peer_groups;
pub use passed::passed;
pub use slots::{Descriptor, Slots};

/// The kernel's page size in bytes.
#[must_use]
pub fn page_bytes() -> u64 {
    rustix::param::page_size() as u64
}

/// What of an open file outlives a daemon, if somebody keeps it.
#[derive(Debug)]
pub struct Descriptors {
    /// The one that is written to and waited on.
    pub data: OwnedFd,
    /// The one that is only ever synced.
    pub sentinel: OwnedFd,
}

/// The same, lent, with their names.
pub type Lent<'a> = Vec<(&'static str, BorrowedFd<'a>)>;

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
        let (root, rest) = below(roots, path).ok_or_else(|| outside(roots, path))?;
        let file = beneath::open(root, rest, mode, creation)
            .map_err(|refused| error(refused, roots, path))?;
        Ok(describe(file, path))
    }

    fn reopen(&self, roots: &[PathBuf], path: &Path, known: Known) -> Result<Opened, OpenError> {
        // It may have got its other name just before the daemon before ended.
        let is_there = |path: &&Path| {
            let place = below(roots, path);
            place.is_some_and(|(root, rest)| beneath::is_called(root, rest, known.id))
        };
        let other = known.other_path.as_deref().filter(is_there);
        let path = other.unwrap_or(path);
        let (root, rest) = below(roots, path).ok_or_else(|| outside(roots, path))?;
        let changed = |what| OpenError::Changed { path: path.to_owned(), what };
        // A number alone would be taken for the file, whoever has it now.
        if known.descriptors.is_none() && known.born.is_none() {
            return Err(changed("may have been replaced (its file system does not tell)"));
        }
        let file = match known.descriptors {
            Some(Descriptors { data, sentinel }) => beneath::adopt(root, rest, data, sentinel),
            None => beneath::reopen(root, rest),
        };
        let file = file.map_err(|refused| match refused {
            Refused::Io(_, source) if source.kind() == io::ErrorKind::NotFound => {
                changed("was removed")
            }
            refused => error(refused, roots, path),
        })?;
        let id = (file.stat.st_dev, file.stat.st_ino, born(&file.data));
        if id != (known.id.device, known.id.inode, known.born) {
            return Err(changed("was replaced by another file"));
        }
        if file.stat.st_nlink == 0 {
            return Err(changed("was removed"));
        }
        let mut opened = describe(file, path);
        opened.is_renamed = other.is_some();
        opened.storage.has_reserved(known.reserved_bytes);
        Ok(opened)
    }

    fn locate(&self, path: &Path) -> Option<String> {
        let device = mount::at(path).device;
        (!device.is_empty()).then_some(device)
    }
}

fn error(refused: Refused, roots: &[PathBuf], path: &Path) -> OpenError {
    let path = path.to_owned();
    match refused {
        Refused::Outside => outside(roots, &path),
        Refused::NotAFile(what) => OpenError::NotAFile { path, what },
        Refused::Linked(names) => OpenError::Linked { path, names },
        Refused::Io(operation, source) => OpenError::Io { path, operation, source },
    }
}

/// When the file was made.
fn born(file: &OwnedFd) -> Option<(i64, u32)> {
    let told = statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::BTIME).ok()?;
    let known = told.stx_mask & StatxFlags::BTIME.bits() != 0;
    known.then_some((told.stx_btime.tv_sec, told.stx_btime.tv_nsec))
}

/// What there is to know of an open file.
fn describe(file: beneath::Opened, path: &Path) -> Opened {
    let mut mount = mount::of(&file.data, path);
    if mount.device.is_empty() {
        mount.device = format!("{}:{}", major(file.stat.st_dev), minor(file.stat.st_dev));
    }
    let kind = Kind::of(&file.data);
    let in_memory = kind == Kind::Memory;
    let medium =
        if in_memory { Medium::Memory } else { medium::of(Path::new(medium::SYSFS), &mount) };
    let direct_align_bytes = match kind {
        Kind::Other | Kind::Nfs => file.direct.as_ref().and_then(direct_align_bytes),
        Kind::Memory | Kind::Fuse => None,
    };
    let abilities = Abilities {
        uncached: kind == Kind::Other,
        direct_align_bytes,
        by_range: kind == Kind::Other,
        trusted_by_range: is_trusted_by_range(&mount.filesystem),
        in_memory,
    };
    Opened {
        created: file.created,
        is_renamed: false,
        len_bytes: file.stat.st_size.unsigned_abs(),
        id: FileId { device: file.stat.st_dev, inode: file.stat.st_ino },
        born: born(&file.data),
        device: Device {
            id: mount.device,
            mount: mount.point.display().to_string(),
            source: mount.source,
            filesystem: mount.filesystem,
            medium,
        },
        storage: Box::new(File {
            data: file.data,
            sentinel: file.sentinel,
            direct: file.direct.filter(|_| direct_align_bytes.is_some()),
            directory: file.directory,
            name: file.name,
            // Also one that was there: somebody may have made it a moment ago, and not synced.
            name_is_durable: false,
            abilities,
            reserved_bytes: 0,
        }),
    }
}

/// What can't be found out by trying, since it looks as if it had worked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// There is nothing but pages, also for a direct write.
    Memory,
    /// Writeback of a page, and a direct write, end in a process of this host. It may put the bytes
    /// into the page cache of a file that nobody here can see.
    Fuse,
    /// Writeback of a page ends when the server has it in its memory. The page counts as clean, and
    /// can't be dropped until a COMMIT, which `fdatasync(2)` sends; a direct write brings its own.
    Nfs,
    /// All others.
    Other,
}

impl Kind {
    /// By the number that the file system itself gives; a mount table may call it anything.
    fn of(file: &OwnedFd) -> Self {
        const TMPFS_MAGIC: FsWord = 0x0102_1994;
        const RAMFS_MAGIC: FsWord = 0x8584_58f6_u32 as FsWord;
        const FUSE_SUPER_MAGIC: FsWord = 0x6573_5546;
        match fstatfs(file).map(|told| told.f_type) {
            Ok(TMPFS_MAGIC | RAMFS_MAGIC) => Self::Memory,
            Ok(FUSE_SUPER_MAGIC) => Self::Fuse,
            Ok(NFS_SUPER_MAGIC) => Self::Nfs,
            _ => Self::Other,
        }
    }
}

/// The local file systems on which `sync_file_range(2)` was seen to do what it says. Stacked and
/// network file systems return success and do nothing.
fn is_trusted_by_range(filesystem: &str) -> bool {
    matches!(filesystem, "ext2" | "ext3" | "ext4" | "xfs" | "btrfs" | "f2fs")
}

#[cfg(test)]
mod tests;
