//! What a muxer has handed over and what it was told, and whether a disk agrees.
//!
//! Kept beside the muxer: a change is noted before it is asked for, an acknowledgement after it was given. So
//! at any moment, also in the middle of a call, the disk may be ahead of this and never behind it.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use freemkvd_client::Leftover;
use freemkvd_tests::faults::{Image, ImageFile, PAGE_BYTES, Page};

/// What a disk writes as a whole; for speed alone.
const SECTOR_BYTES: usize = 512;

/// Something done to the file since it was last acknowledged as durable.
#[derive(Debug)]
enum Change {
    Write(u64, Vec<u8>),
    Zero(Range<u64>),
    SetLen(u64),
}

/// How far the muxer has come with the end of its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Open,
    /// It has asked for it.
    Finishing,
    /// It was told that it is done.
    Finished,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Model {
    /// As the file is called until it is complete.
    opened: PathBuf,
    /// As it is called then, if it is to be called otherwise.
    published: Option<PathBuf>,
    /// What had that name before.
    replaced: Option<Vec<u8>>,
    live: Vec<u8>,
    durable: Vec<u8>,
    /// A sync was acknowledged.
    is_durable: bool,
    /// What is to become of it if it is never complete.
    leftover: Leftover,
    /// The muxer gives it up.
    is_given_up: bool,
    changes: Vec<Change>,
    end: End,
}

/// Bytes that nobody mistakes for those of another seed or another place.
pub(crate) fn content(seed: u64, offset: u64, len: u64) -> Vec<u8> {
    const POOL: u64 = 1 << 20;
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    let pool = BYTES.get_or_init(|| freemkvd_tests::pattern::bytes(1, 0, index(POOL)));
    let mut at = (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20).wrapping_add(offset) % POOL;
    let mut bytes = Vec::with_capacity(index(len));
    while (bytes.len() as u64) < len {
        let count = (POOL - at).min(len - bytes.len() as u64);
        bytes.extend_from_slice(&pool[index(at)..index(at + count)]);
        at = 0;
    }
    bytes
}

/// What a file is called that is not complete.
pub(crate) fn partial(path: &Path) -> PathBuf {
    PathBuf::from(format!("{}.partial", path.display()))
}

fn index(offset: u64) -> usize {
    usize::try_from(offset).unwrap()
}

impl Model {
    pub(crate) fn new(
        path: &Path,
        publish: bool,
        leftover: Leftover,
        replaced: Option<Vec<u8>>,
    ) -> Self {
        Self {
            opened: if publish { partial(path) } else { path.to_owned() },
            published: publish.then(|| path.to_owned()),
            replaced,
            live: Vec::new(),
            durable: Vec::new(),
            is_durable: false,
            leftover,
            is_given_up: false,
            changes: Vec::new(),
            end: End::Open,
        }
    }

    pub(crate) fn len(&self) -> u64 {
        self.live.len() as u64
    }

    /// With zeros up to `len`.
    fn grow(&mut self, len: usize) {
        // Not `resize`, which without optimization goes byte by byte.
        self.live.extend_from_slice(&vec![0; len.saturating_sub(self.live.len())]);
    }

    pub(crate) fn write(&mut self, offset: u64, content: &[u8]) {
        self.grow(index(offset));
        let within = content.len().min(self.live.len() - index(offset));
        self.live[index(offset)..][..within].copy_from_slice(&content[..within]);
        self.live.extend_from_slice(&content[within..]);
        self.changes.push(Change::Write(offset, content.to_vec()));
    }

    pub(crate) fn zero(&mut self, range: Range<u64>) {
        self.grow(index(range.end));
        self.live[index(range.start)..index(range.end)].fill(0);
        self.changes.push(Change::Zero(range));
    }

    pub(crate) fn set_len(&mut self, len: u64) {
        self.live.truncate(index(len));
        self.grow(index(len));
        self.changes.push(Change::SetLen(len));
    }

    /// A sync was acknowledged.
    pub(crate) fn synced(&mut self) {
        self.durable.clone_from(&self.live);
        self.is_durable = true;
        self.changes.clear();
    }

    /// The muxer gives it up; what is left of it becomes what was chosen.
    pub(crate) fn given_up(&mut self) {
        self.is_given_up = true;
    }

    pub(crate) fn finishing(&mut self) {
        self.end = End::Finishing;
    }

    pub(crate) fn finished(&mut self) {
        self.synced();
        self.end = End::Finished;
    }

    /// Its content now, as a reader has to see it once all of it is written.
    pub(crate) fn content(&self) -> &[u8] {
        &self.live
    }

    /// Where the file may be.
    fn names(&self, may_be_left: bool) -> Vec<PathBuf> {
        match (&self.published, self.end) {
            (Some(name), End::Finished) => vec![name.clone()],
            (Some(name), End::Finishing) => vec![name.clone(), self.opened.clone()],
            (None, End::Open | End::Finishing) if may_be_left => {
                vec![self.opened.clone(), partial(&self.opened)]
            }
            _ => vec![self.opened.clone()],
        }
    }

    /// What a power cut has left has to be possible, given all that was acknowledged. The stream may have
    /// failed already, before its muxer has heard of it, if `may_have_failed`.
    pub(crate) fn check(&self, image: &Image, may_have_failed: bool) -> Result<(), String> {
        let is_left = self.end < End::Finished && (self.is_given_up || may_have_failed);
        let names = self.names(is_left && self.leftover == Leftover::Partial);
        let is_replaced = |file: &ImageFile| {
            self.end < End::Finished && self.replaced.as_ref().is_some_and(|old| is(file, old))
        };
        // Nobody may take half a file for a whole one, nor find none where there was one.
        if let Some(name) = &self.published {
            match image.file(name) {
                Some(file) if is_replaced(file) => {}
                Some(file) if is(file, &self.live) && self.end >= End::Finishing => {}
                Some(_) => return Err(format!("{} is not complete", name.display())),
                None if self.replaced.is_some() => return Err("what had its name is gone".into()),
                None => {}
            }
        }
        if is_left && self.leftover == Leftover::Remove {
            return Ok(());
        }
        let mut named = names.iter().filter_map(|name| image.file(name));
        match named.find(|file| !is_replaced(file)) {
            Some(file) => self.check_content(file),
            None if self.is_durable => Err(format!("no {names:?} after a sync")),
            None => Ok(()),
        }
    }

    fn check_content(&self, file: &ImageFile) -> Result<(), String> {
        let lens = self.changes.iter().filter_map(|change| match change {
            Change::SetLen(len) => Some(*len),
            _ => None,
        });
        let durable_len = self.durable.len() as u64;
        let least = lens.fold(durable_len, u64::min);
        if file.len_bytes() < least {
            return Err(format!("{} bytes of {least} durable ones", file.len_bytes()));
        }
        let mut wrong = None;
        for number in 0..file.len_bytes().div_ceil(PAGE_BYTES) {
            let start = number * PAGE_BYTES;
            let end = (start + PAGE_BYTES).min(file.len_bytes());
            let found = &file.page(number)[..index(end - start)];
            let has = |bytes: &[u8]| is_slice(bytes, start, found);
            if !has(&self.durable) && !has(&self.live) {
                wrong = wrong.or_else(|| self.first_wrong(start, found));
            }
        }
        wrong.map_or(Ok(()), |at| {
            let was = self.durable.get(index(at));
            Err(format!(
                "byte {at} is none that was ever there since the last sync (then: {was:?})"
            ))
        })
    }

    /// The first byte of `found`, which lies at `start`, that no version since the last sync has.
    fn first_wrong(&self, start: u64, found: &[u8]) -> Option<u64> {
        let sectors = (start..).step_by(SECTOR_BYTES).zip(found.chunks(SECTOR_BYTES));
        let mut mixed = sectors.filter(|(start, found)| {
            !is_slice(&self.durable, *start, found) && !is_slice(&self.live, *start, found)
        });
        mixed.find_map(|(start, found)| self.first_wrong_byte(start, found))
    }

    fn first_wrong_byte(&self, start: u64, found: &[u8]) -> Option<u64> {
        // Mostly one change has made all of it.
        let is_all = |change: &Change| match change {
            Change::Write(offset, content) => start.checked_sub(*offset).is_some_and(|from| {
                content.get(index(from)..index(from) + found.len()) == Some(found)
            }),
            Change::Zero(range) => {
                range.start <= start
                    && start + found.len() as u64 <= range.end
                    && is_slice(&[], start, found)
            }
            Change::SetLen(len) => *len <= start && is_slice(&[], start, found),
        };
        if self.changes.iter().any(is_all) {
            return None;
        }
        let end = start + found.len() as u64;
        let mut allowed = vec![false; found.len()];
        for (at, allowed) in allowed.iter_mut().enumerate() {
            let durable = self.durable.get(index(start) + at).copied().unwrap_or(0);
            *allowed = durable == found[at];
        }
        for change in &self.changes {
            let (from, to) = match change {
                Change::Write(offset, content) => (*offset, offset + content.len() as u64),
                Change::Zero(range) => (range.start, range.end),
                Change::SetLen(len) => (*len, u64::MAX),
            };
            for at in from.max(start)..to.min(end) {
                let here = index(at - start);
                let byte = match change {
                    Change::Write(offset, content) => content[index(at - offset)],
                    _ => 0,
                };
                allowed[here] |= byte == found[here];
            }
        }
        allowed.iter().position(|allowed| !allowed).map(|at| start + at as u64)
    }
}

/// True when `found` is what lies at `start` in `bytes`, with zeros behind.
fn is_slice(bytes: &[u8], start: u64, found: &[u8]) -> bool {
    static ZEROES: Page = [0; size_of::<Page>()];
    let there = bytes.get(index(start).min(bytes.len())..).unwrap_or(&[]);
    let count = there.len().min(found.len());
    let (found, behind) = found.split_at(count);
    found == &there[..count] && behind == &ZEROES[..behind.len()]
}

/// True when `file` has exactly this content.
fn is(file: &ImageFile, content: &[u8]) -> bool {
    let pages = content.chunks(index(PAGE_BYTES));
    file.len_bytes() == content.len() as u64
        && pages.enumerate().all(|(page, bytes)| &file.page(page as u64)[..bytes.len()] == bytes)
}
