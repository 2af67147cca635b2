//! What a file system is, by the number that it gives itself: a table of mounts may call it anything, and may be
//! that of another process than the one that has opened the file.

use std::os::fd::OwnedFd;

use rustix::fs::{FsWord, NFS_SUPER_MAGIC, fstatfs};

const BTRFS: FsWord = 0x9123_683e_u32 as FsWord;
const EXT: FsWord = 0xef53;
const F2FS: FsWord = 0xf2f5_2010_u32 as FsWord;
const FUSE: FsWord = 0x6573_5546;
const HUGETLBFS: FsWord = 0x9584_58f6_u32 as FsWord;
const NFS: FsWord = NFS_SUPER_MAGIC;
const OVERLAY: FsWord = 0x794c_7630;
const RAMFS: FsWord = 0x8584_58f6_u32 as FsWord;
const TMPFS: FsWord = 0x0102_1994;
const XFS: FsWord = 0x5846_5342;
const ZFS: FsWord = 0x2fc1_2fc1;

/// The number of a file's file system; 0 where it gives none.
pub(super) fn magic(file: &OwnedFd) -> FsWord {
    fstatfs(file).map_or(0, |told| told.f_type)
}

/// What a file system is called where nobody else says.
pub(super) fn name(magic: FsWord) -> String {
    let name = match magic {
        BTRFS => "btrfs",
        // All three of them have the same.
        EXT => "ext4",
        F2FS => "f2fs",
        FUSE => "fuse",
        HUGETLBFS => "hugetlbfs",
        NFS => "nfs",
        OVERLAY => "overlay",
        RAMFS => "ramfs",
        TMPFS => "tmpfs",
        XFS => "xfs",
        ZFS => "zfs",
        other => return format!("{other:#x}"),
    };
    name.to_owned()
}

/// The local file systems on which `sync_file_range(2)` was seen to do what it says. Stacked and
/// network file systems return success and do nothing.
pub(super) fn is_trusted_by_range(magic: FsWord) -> bool {
    matches!(magic, EXT | XFS | BTRFS | F2FS)
}

/// True for an overlay, whose content lies wherever its upper layer does, which may be memory.
pub(super) fn is_overlay(magic: FsWord) -> bool {
    magic == OVERLAY
}

/// What can't be found out by trying, since it looks as if it had worked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
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
    /// That of a file system with this number.
    pub(super) fn of(magic: FsWord) -> Self {
        match magic {
            TMPFS | RAMFS | HUGETLBFS => Self::Memory,
            FUSE => Self::Fuse,
            NFS => Self::Nfs,
            _ => Self::Other,
        }
    }
}
