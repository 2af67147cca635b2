//! The file system as a whole: its files, its names, its space, and what of its metadata is durable.
//!
//! Injects: no space (ENOSPC) and no quota (EDQUOT) when there is none; a kernel that writes pages back by
//! itself, in an order of its own; a device that is gone, or read-only.
//!
//! Metadata is changed at once for everybody who looks, and becomes durable by a sync alone: lengths by that of
//! the file, names by that of the directory. What is not durable yet is kept in the order in which it came, and
//! after a power cut a part of it from the beginning is there (see `crash`).

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::inode::{Inode, PAGE_BYTES, touched};
use super::script::{Call, Fault, Script};
use crate::trace::Random;

/// A change of metadata that is not durable.
#[derive(Clone, Debug)]
pub(super) struct Change {
    /// Their order.
    pub(super) stamp: u64,
    pub(super) what: What,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    Link {
        path: PathBuf,
        inode: u64,
    },
    Unlink {
        path: PathBuf,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    SetLen {
        inode: u64,
        len: u64,
    },
    /// By a write beyond the end.
    Grow {
        inode: u64,
        len: u64,
    },
    Zero {
        inode: u64,
        range: Range<u64>,
    },
}

impl What {
    fn is_of(&self, number: u64) -> bool {
        match self {
            Self::SetLen { inode, .. } | Self::Grow { inode, .. } | Self::Zero { inode, .. } => {
                *inode == number
            }
            _ => false,
        }
    }

    /// True for the name of a file in `directory`.
    fn is_in(&self, directory: &Path) -> bool {
        match self {
            Self::Link { path, .. } | Self::Unlink { path } | Self::Rename { to: path, .. } => {
                path.parent() == Some(directory)
            }
            _ => false,
        }
    }
}

/// Names, and which file has them.
pub(super) type Names = BTreeMap<PathBuf, u64>;

/// What has become of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Healthy,
    ReadOnly,
    Gone(i32),
}

#[derive(Debug)]
pub(super) struct Kernel {
    pub(super) inodes: BTreeMap<u64, Inode>,
    pub(super) names: Names,
    pub(super) durable_names: Names,
    pub(super) pending: Vec<Change>,
    pub(super) stamp: u64,
    last_inode: u64,
    pub(super) capacity_bytes: u64,
    /// How much may be written before a quota says no.
    pub(super) quota_bytes: u64,
    used_blocks: u64,
    pub(super) mode: Mode,
    /// The kernel's own flusher, if there is one.
    pub(super) flusher: Option<Random>,
}

impl Kernel {
    pub(super) fn new() -> Self {
        Self {
            inodes: BTreeMap::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending: Vec::new(),
            stamp: 0,
            last_inode: 0,
            capacity_bytes: u64::MAX,
            quota_bytes: u64::MAX,
            used_blocks: 0,
            mode: Mode::Healthy,
            flusher: None,
        }
    }

    /// No file is left, and nothing goes wrong. A number that a file had is no other's.
    pub(super) fn wipe(&mut self) {
        let Self { last_inode, capacity_bytes, quota_bytes, .. } = *self;
        *self = Self { last_inode, capacity_bytes, quota_bytes, ..Self::new() };
    }

    pub(super) fn inode(&mut self, inode: u64) -> &mut Inode {
        self.inodes.get_mut(&inode).expect("a file that is open is there")
    }

    pub(super) fn change(&mut self, what: What) {
        self.stamp += 1;
        self.pending.push(Change { stamp: self.stamp, what });
    }

    pub(super) fn create(&mut self, path: &Path) -> u64 {
        self.last_inode += 1;
        let inode = Inode { links: 1, ..Inode::default() };
        self.inodes.insert(self.last_inode, inode);
        self.names.insert(path.to_owned(), self.last_inode);
        self.change(What::Link { path: path.to_owned(), inode: self.last_inode });
        self.last_inode
    }

    pub(super) fn unlink(&mut self, path: &Path) {
        if let Some(inode) = self.names.remove(path) {
            self.change(What::Unlink { path: path.to_owned() });
            self.let_go(inode, |inode| inode.links -= 1);
        }
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) {
        let Some(inode) = self.names.remove(from) else { return };
        let replaced = self.names.insert(to.to_owned(), inode);
        self.change(What::Rename { from: from.to_owned(), to: to.to_owned() });
        if let Some(replaced) = replaced {
            self.let_go(replaced, |inode| inode.links -= 1);
        }
    }

    /// A name or an opener less; with the last one its space is free. What was durable of it still is.
    pub(super) fn let_go(&mut self, number: u64, less: impl FnOnce(&mut Inode)) {
        let Some(inode) = self.inodes.get_mut(&number) else { return };
        less(inode);
        if inode.links == 0 && inode.openers == 0 {
            self.used_blocks -= inode.blocks.len() as u64;
            inode.blocks.clear();
        }
    }

    /// How many bytes are free.
    pub(super) fn free_bytes(&self) -> u64 {
        self.capacity_bytes.saturating_sub(self.used_blocks * PAGE_BYTES)
    }

    /// Takes space for `range` of a file, as far as there is some. Returns where that ends, and why.
    pub(super) fn take_space(&mut self, inode: u64, range: &Range<u64>) -> (u64, Option<Errno>) {
        let most = self.capacity_bytes.min(self.quota_bytes) / PAGE_BYTES;
        let why = if self.quota_bytes < self.capacity_bytes { Errno::DQUOT } else { Errno::NOSPC };
        let mut used = self.used_blocks;
        let blocks = &mut self.inode(inode).blocks;
        let mut stopped = None;
        for page in touched(range) {
            if !blocks.contains(&page) {
                if used >= most {
                    stopped = Some((page * PAGE_BYTES).max(range.start));
                    break;
                }
                blocks.insert(page);
                used += 1;
            }
        }
        self.used_blocks = used;
        stopped.map_or((range.end, None), |end| (end, Some(why)))
    }

    /// Changes a file in a way that may free space.
    pub(super) fn reshape(&mut self, inode: u64, change: impl FnOnce(&mut Inode, u64)) {
        let stamp = self.stamp;
        let inode = self.inode(inode);
        let before = inode.blocks.len() as u64;
        change(inode, stamp);
        let after = inode.blocks.len() as u64;
        self.used_blocks = self.used_blocks + after - before;
    }

    /// Ends writeback in `range` of a file.
    pub(super) fn finish(&mut self, number: u64, range: &Range<u64>, script: &Script) {
        let path = self.name_of(number);
        let mut mode = self.mode;
        self.inode(number).finish(range, |offset| {
            if mode != Mode::Healthy {
                return Some(Errno::IO.raw_os_error());
            }
            match script.meet(Call::Medium, &path, Some(offset))? {
                Fault::Error(errno) => Some(errno),
                Fault::Vanish(errno) => {
                    mode = Mode::Gone(errno);
                    Some(Errno::IO.raw_os_error())
                }
                Fault::ReadOnly => {
                    mode = Mode::ReadOnly;
                    Some(Errno::IO.raw_os_error())
                }
                _ => None,
            }
        });
        self.mode = mode;
    }

    /// Writes back `range` of a file, and waits.
    pub(super) fn write_back(&mut self, number: u64, range: &Range<u64>, script: &Script) {
        self.inode(number).start(range, usize::MAX);
        self.finish(number, range, script);
    }

    /// Content and length of a file are durable, as far as they were not lost.
    pub(super) fn commit(&mut self, number: u64) {
        let changes: Vec<Change> =
            self.pending.iter().filter(|change| change.what.is_of(number)).cloned().collect();
        self.pending.retain(|change| !change.what.is_of(number));
        let inode = self.inode(number);
        inode.flush();
        inode.apply(&changes);
    }

    /// The names in a directory are durable.
    pub(super) fn commit_names(&mut self, directory: &Path) {
        let changes: Vec<Change> =
            self.pending.iter().filter(|change| change.what.is_in(directory)).cloned().collect();
        self.pending.retain(|change| !change.what.is_in(directory));
        changes.iter().for_each(|change| change.what.apply_to(&mut self.durable_names));
    }

    pub(super) fn name_of(&self, number: u64) -> PathBuf {
        let named = self.names.iter().find(|(_, inode)| **inode == number);
        named.map(|(path, _)| path.clone()).unwrap_or_default()
    }

    /// The kernel writes some pages back that nobody asked it to.
    pub(super) fn flush_by_itself(&mut self, number: u64, script: &Script) {
        let Some(random) = &mut self.flusher else { return };
        if !random.one_in(3) {
            return;
        }
        let pages = self.inodes[&number].len.div_ceil(PAGE_BYTES);
        let from = random.below(pages + 1) * PAGE_BYTES;
        let count = random.index(64);
        let range = from..u64::MAX - PAGE_BYTES;
        self.inode(number).start(&range, count);
        self.finish(number, &range, script);
    }
}
