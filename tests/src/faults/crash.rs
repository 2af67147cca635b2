//! What a power cut would leave.
//!
//! Injects, by a seed: of the changes of metadata that are not durable, any number from the oldest on has
//! happened and the rest has not; of each page that is not on the medium, what is there is the old content, or
//! what the device had in its cache, or what was dirty, or a mixture of two of them by sectors. So a length may
//! be there without the content (and reads as zeros), content without the length, a new name with old
//! content; whatever a sync has made durable is there.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::inode::{Inode, PAGE_BYTES, Page, Version, index, touched};
use super::kernel::{Change, Kernel, Names, What};
use crate::trace::Random;

const SECTOR_BYTES: usize = 512;

static ZEROS: Page = [0; size_of::<Page>()];

/// A file system after a power cut.
#[derive(Clone, Debug, Default)]
pub struct Image {
    files: BTreeMap<std::path::PathBuf, ImageFile>,
}

/// A file in it.
#[derive(Clone, Debug, Default)]
pub struct ImageFile {
    pub(super) len: u64,
    pub(super) pages: BTreeMap<u64, Arc<Page>>,
}

impl Image {
    /// The file of this name.
    #[must_use]
    pub fn file(&self, path: &Path) -> Option<&ImageFile> {
        self.files.get(path)
    }

    /// All names.
    pub fn names(&self) -> impl Iterator<Item = &Path> {
        self.files.keys().map(std::path::PathBuf::as_path)
    }
}

impl ImageFile {
    /// Its length in bytes.
    #[must_use]
    pub fn len_bytes(&self) -> u64 {
        self.len
    }

    /// Which pages were ever written; the others are zeros.
    pub fn stored(&self) -> impl Iterator<Item = u64> {
        self.pages.keys().copied()
    }

    /// Page number `number`; what is beyond the length in it is zeros.
    #[must_use]
    pub fn page(&self, number: u64) -> &Page {
        self.pages.get(&number).map_or(&ZEROS, Arc::as_ref)
    }

    /// All of its content.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        (0..self.len.div_ceil(PAGE_BYTES)).for_each(|page| bytes.extend(self.page(page)));
        bytes.truncate(index(self.len));
        bytes
    }
}

impl What {
    pub(super) fn apply_to(&self, names: &mut Names) {
        match self {
            Self::Link { path, inode } => drop(names.insert(path.clone(), *inode)),
            Self::Unlink { path } => drop(names.remove(path)),
            Self::Rename { from, to } => {
                if let Some(inode) = names.remove(from) {
                    names.insert(to.clone(), inode);
                }
            }
            _ => {}
        }
    }

    fn inode(&self) -> Option<u64> {
        match self {
            Self::SetLen { inode, .. } | Self::Grow { inode, .. } | Self::Zero { inode, .. } => {
                Some(*inode)
            }
            _ => None,
        }
    }

    /// What of a file it makes zeros.
    fn zeroed(&self) -> Range<u64> {
        match self {
            Self::SetLen { len, .. } => *len..u64::MAX - PAGE_BYTES,
            Self::Zero { range, .. } => range.clone(),
            _ => 0..0,
        }
    }

    fn len_after(&self, before: u64) -> u64 {
        match self {
            Self::SetLen { len, .. } => *len,
            Self::Grow { len, .. } => before.max(*len),
            _ => before,
        }
    }
}

/// `version` of page `number` after the changes that came later than it.
fn after(number: u64, version: Version, changes: &[Change]) -> Arc<Page> {
    let mut bytes = version.bytes;
    let start = number * PAGE_BYTES;
    for change in changes.iter().filter(|change| change.stamp > version.stamp) {
        let zeroed = change.what.zeroed();
        let (from, to) = (zeroed.start.max(start), zeroed.end.min(start + PAGE_BYTES));
        if from < to {
            Arc::make_mut(&mut bytes)[index(from - start)..index(to - start)].fill(0);
        }
    }
    bytes
}

impl Inode {
    /// Changes of its metadata are durable.
    pub(super) fn apply(&mut self, changes: &[Change]) {
        if changes.iter().any(|change| !change.what.zeroed().is_empty()) {
            for (number, page) in &mut self.pages {
                if let Some(version) = page.medium.take() {
                    let stamp = version.stamp;
                    page.medium = Some(Version { bytes: after(*number, version, changes), stamp });
                }
            }
        }
        let len = changes.iter().fold(self.durable_len, |len, change| change.what.len_after(len));
        self.durable_len = len;
    }

    /// What is left of it where `changes` have happened and `others` have not.
    fn remains(
        &self,
        (changes, others): (&[Change], &[Change]),
        fate: Fate,
        random: &mut Random,
    ) -> ImageFile {
        let len = changes.iter().fold(self.durable_len, |len, change| change.what.len_after(len));
        let mut file = ImageFile { len, pages: BTreeMap::new() };
        for (number, page) in self.pages.range(0..len.div_ceil(PAGE_BYTES)) {
            // New content of a page that is still the old one's comes to another place.
            let is_there = |version: &&Version| {
                let lies_later = |change: &Change| {
                    change.stamp <= version.stamp && touched(&change.what.zeroed()).contains(number)
                };
                !others.iter().any(lies_later)
            };
            let dirty = page.live.as_ref().filter(|_| page.is_dirty);
            let newer = [page.device.as_ref(), page.writeback.as_ref(), dirty];
            let versions: Vec<&Version> = newer.into_iter().flatten().filter(is_there).collect();
            let old = page.medium.clone().map(|version| after(*number, version, changes));
            let mut bytes = old.unwrap_or_else(|| Arc::new(ZEROS));
            if let Some(chosen) = fate.choose(&versions, random) {
                let chosen = chosen.clone();
                let chosen = after(*number, chosen, changes);
                match fate == Fate::Some && random.one_in(8) {
                    true => mix(Arc::make_mut(&mut bytes), &chosen, random),
                    false => bytes = chosen,
                }
            }
            let end = number * PAGE_BYTES + PAGE_BYTES;
            if end > len {
                Arc::make_mut(&mut bytes)[index(PAGE_BYTES - (end - len))..].fill(0);
            }
            file.pages.insert(*number, bytes);
        }
        file
    }
}

/// How many pages that are not on the medium get there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    None,
    Some,
    /// All, each as it was last.
    All,
}

impl Fate {
    fn choose<'a>(self, versions: &[&'a Version], random: &mut Random) -> Option<&'a Version> {
        match self {
            Self::None => None,
            Self::Some if versions.is_empty() || random.one_in(3) => None,
            Self::Some => versions.get(random.index(versions.len())).copied(),
            Self::All => versions.last().copied(),
        }
    }
}

fn mix(bytes: &mut Page, other: &Page, random: &mut Random) {
    let sectors = bytes.chunks_exact_mut(SECTOR_BYTES).zip(other.chunks_exact(SECTOR_BYTES));
    for (sector, other) in sectors {
        if random.one_in(2) {
            sector.copy_from_slice(other);
        }
    }
}

impl Kernel {
    /// One of the states that a power cut may leave now.
    pub(super) fn crash(&self, seed: u64) -> Image {
        let mut random = Random::new(seed);
        let count = match random.below(3) {
            0 => 0,
            1 => self.pending.len(),
            _ => random.index(self.pending.len() + 1),
        };
        let (changes, others) = self.pending.split_at(count);
        let fate = [Fate::None, Fate::All, Fate::Some, Fate::Some][random.index(4)];
        let mut names = self.durable_names.clone();
        changes.iter().for_each(|change| change.what.apply_to(&mut names));
        let of = |changes: &[Change], number: u64| -> Vec<Change> {
            let own = changes.iter().filter(|change| change.what.inode() == Some(number));
            own.cloned().collect()
        };
        let remains = |(path, number): (std::path::PathBuf, u64)| {
            let inode = &self.inodes[&number];
            let file =
                inode.remains((&of(changes, number), &of(others, number)), fate, &mut random);
            (path, file)
        };
        Image { files: names.into_iter().map(remains).collect() }
    }
}
