//! The ladder on storages that refuse, do nothing, or cannot count, and the account in step with them.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use super::*;
use crate::device::Devices;
use crate::storage::{Abilities, Medium, Pages};
use crate::writer::{Client, Gate, Queue, Queues};

const MIB: u64 = 1 << 20;
const PAGE: u64 = 4096;

/// A file system that keeps its pages' state, and what it was asked to do.
#[derive(Debug, Default)]
struct Kernel {
    /// True for dirty, false for clean and cached.
    pages: BTreeMap<u64, bool>,
    calls: Vec<String>,
}

/// What such a file system can do.
#[derive(Clone, Copy, Debug)]
struct Kind {
    uncached: bool,
    direct: bool,
    /// `sync_file_range` does something.
    by_range: bool,
    /// `cachestat` exists, and tells of this file's pages.
    counts: Option<bool>,
    trusted: bool,
}

const EXT4: Kind =
    Kind { uncached: true, direct: true, by_range: true, counts: Some(true), trusted: true };

struct Fake {
    kind: Kind,
    kernel: Arc<Mutex<Kernel>>,
}

impl Fake {
    fn note(&self, call: &str, range: &Range<u64>) -> std::sync::MutexGuard<'_, Kernel> {
        let mut kernel = self.kernel.lock().unwrap_or_else(PoisonError::into_inner);
        kernel.calls.push(format!("{call} {}+{}", range.start / PAGE, range.end - range.start));
        kernel
    }

    fn clean(kernel: &mut Kernel, range: &Range<u64>) {
        let pages = kernel.pages.range_mut(range.start / PAGE..range.end.div_ceil(PAGE));
        pages.for_each(|(_, dirty)| *dirty = false);
    }
}

impl Storage for Fake {
    fn abilities(&self) -> Abilities {
        Abilities {
            uncached: true,
            direct_align_bytes: Some(512),
            by_range: true,
            trusted_by_range: self.kind.trusted,
            in_memory: false,
        }
    }

    fn write_at(&mut self, offset: u64, content: Content<'_>, manner: Manner) -> io::Result<()> {
        let range = offset..offset + content.len_bytes();
        let (name, works) = match manner {
            Manner::Cached => ("cached", true),
            Manner::Uncached => ("uncached", self.kind.uncached),
            Manner::Direct => ("direct", self.kind.direct),
        };
        let mut kernel = self.note(name, &range);
        if !works {
            return Err(io::ErrorKind::Unsupported.into());
        }
        for page in offset / PAGE..range.end.div_ceil(PAGE) {
            match manner {
                Manner::Cached => kernel.pages.insert(page, true),
                Manner::Uncached | Manner::Direct => kernel.pages.remove(&page),
            };
        }
        Ok(())
    }

    fn start_writeback(&mut self, range: Range<u64>) -> io::Result<()> {
        drop(self.note("start", &range));
        Ok(())
    }

    fn wait_writeback(&mut self, range: Range<u64>) -> io::Result<()> {
        let mut kernel = self.note("wait", &range);
        if self.kind.by_range {
            Self::clean(&mut kernel, &range);
        }
        Ok(())
    }

    fn sync_data(&mut self) -> io::Result<()> {
        Self::clean(&mut self.note("fdatasync", &(0..0)), &(0..u64::MAX));
        Ok(())
    }

    fn evict(&mut self, range: Range<u64>) -> io::Result<()> {
        let mut kernel = self.note("evict", &range);
        kernel.pages.retain(|page, dirty| *dirty || !range.contains(&(page * PAGE)));
        Ok(())
    }

    fn pages(&mut self, range: Range<u64>) -> Option<Pages> {
        let kernel = self.note("pages", &range);
        let seen = kernel.pages.range(range.start / PAGE..range.end.div_ceil(PAGE));
        let dirty_bytes = seen.filter(|(_, dirty)| **dirty).count() as u64 * PAGE;
        self.kind.counts.map(|true_ones| Pages {
            dirty_bytes: if true_ones { dirty_bytes } else { 0 },
            ..Pages::default()
        })
    }

    fn write_zeroes(&mut self, _range: Range<u64>) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn set_len(&mut self, _len: u64) -> io::Result<()> {
        Ok(())
    }

    fn len_bytes(&mut self) -> io::Result<u64> {
        Ok(0)
    }

    fn reserve(&mut self, _len: u64) -> io::Result<bool> {
        Ok(true)
    }

    fn available_bytes(&mut self) -> io::Result<u64> {
        Ok(u64::MAX)
    }

    fn taken_by(&mut self, _name: &OsStr) -> io::Result<Option<storage::FileId>> {
        Ok(None)
    }

    fn rename(&mut self, _name: &OsStr, _replaces: bool) -> io::Result<()> {
        Ok(())
    }

    fn closing(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn has_reserved(&mut self, _bytes: u64) {}

    fn release_surplus(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn lend(&self) -> storage::Lent<'_> {
        Vec::new()
    }

    fn unlink(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn is_named(&mut self) -> io::Result<bool> {
        Ok(false)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

/// A file under a budget, and what is behind it.
struct Bench {
    gate: Arc<Gate>,
    device: Arc<Device>,
    kernel: Arc<Mutex<Kernel>>,
    record: Arc<Record>,
    kind: Kind,
}

impl Bench {
    fn new(kind: Kind) -> Self {
        let clock = Clock::start();
        let queue = Queue::new(Queues::new(8 * MIB, 8 * MIB), None);
        let client = Client::default();
        let record = Record::new(1, PathBuf::from("/rips/film"), client, queue, clock);
        let info = storage::Device {
            id: "8:1".to_owned(),
            mount: "/rips".to_owned(),
            source: String::new(),
            filesystem: "ext4".to_owned(),
            medium: Medium::Flash,
            is_a_users: false,
        };
        Self {
            gate: Gate::new(64 * MIB, clock),
            device: Devices::default().of(info),
            kernel: Arc::default(),
            record: Arc::new(record),
            kind,
        }
    }

    fn file(&self, pinned: Option<Rung>, window_bytes: u64) -> File<'_> {
        let storage = Box::new(Fake { kind: self.kind, kernel: Arc::clone(&self.kernel) });
        let account = self.gate.join(1, "8:1", false, 100);
        let settings = (pinned, window_bytes);
        let device = Arc::clone(&self.device);
        File::new(&self.record, device, storage, account, Clock::start(), settings, None)
    }

    fn calls(&self, name: &str) -> usize {
        let kernel = self.kernel.lock().unwrap();
        kernel.calls.iter().filter(|call| call.starts_with(name)).count()
    }

    fn is_anything_dirty(&self) -> bool {
        self.kernel.lock().unwrap().pages.values().any(|dirty| *dirty)
    }
}

/// Writes as the writer does, in pieces of 1 MiB.
fn write(file: &mut File<'_>, range: Range<u64>) {
    let memory = vec![7; usize::try_from(MIB + PAGE).unwrap()];
    let content = &memory[memory.as_ptr().align_offset(usize::try_from(PAGE).unwrap())..];
    let mut at = range.start;
    while at < range.end {
        let end = range.end.min(at + MIB);
        let end_before = file.end();
        for (part, way) in file.ways(&(at..end)) {
            let need_bytes = file.page_bytes_of(&part);
            while let crate::budget::Reserve::Throttled(_) =
                file.account.reserve(need_bytes, MIB, part.start)
            {
                assert!(file.step(Pressure::Throttled).unwrap(), "throttled for nothing");
            }
            let len = usize::try_from(part.end - part.start).unwrap();
            file.write(&part, way, &Content::Bytes(&content[..len])).unwrap();
        }
        file.wrote(&(at..end), end_before);
        while file.step(Pressure::Flowing).unwrap() {}
        at = end;
    }
}

fn drain(file: &mut File<'_>) {
    while file.step(Pressure::Idle).unwrap() {}
    file.account.rest();
}

#[test]
fn a_file_system_that_honours_it_is_written_through_the_cache_and_proved() {
    let bench = Bench::new(EXT4);
    let mut file = bench.file(None, 0);
    write(&mut file, 0..64 * MIB);
    drain(&mut file);
    assert_eq!(bench.device.rungs(), [Rung::Dontcache]);
    assert_eq!(bench.gate.limit_and_charged_bytes().1, 0);
    assert_eq!(bench.calls("fdatasync"), 0);
    assert!(!bench.is_anything_dirty());
    drop(file);
    assert!(bench.device.rungs().is_empty());
}

#[test]
fn one_that_refuses_it_falls_to_the_next_rung_without_an_error() {
    let bench = Bench::new(Kind { uncached: false, ..EXT4 });
    let mut file = bench.file(None, 0);
    write(&mut file, 0..64 * MIB);
    drain(&mut file);
    assert_eq!(bench.device.rungs(), [Rung::SyncFileRange]);
    assert_eq!(bench.calls("uncached"), 1, "asked once");
    assert!(bench.calls("evict") > 0 && !bench.is_anything_dirty());
    assert_eq!(bench.gate.limit_and_charged_bytes().1, 0);
}

#[test]
fn one_that_does_nothing_and_counts_is_seen_through() {
    let bench = Bench::new(Kind { uncached: false, by_range: false, ..EXT4 });
    let mut file = bench.file(None, 0);
    write(&mut file, 0..16 * MIB);
    drain(&mut file);
    assert_eq!(bench.device.rungs(), [Rung::Fdatasync]);
    assert!(bench.calls("fdatasync") > 0 && !bench.is_anything_dirty());
    assert_eq!(bench.gate.limit_and_charged_bytes().1, 0);
}

#[test]
fn one_that_counts_nothing_is_not_believed() {
    for counts in [Some(false), None] {
        let bench =
            Bench::new(Kind { uncached: false, by_range: false, counts, trusted: false, ..EXT4 });
        let mut file = bench.file(None, 64 * MIB);
        write(&mut file, 0..16 * MIB);
        drain(&mut file);
        assert_eq!(bench.device.rungs(), [Rung::Fdatasync], "{counts:?}");
        assert!(!bench.is_anything_dirty());
    }
}

#[test]
fn a_kernel_that_cannot_count_is_believed_on_a_known_file_system() {
    let bench = Bench::new(Kind { uncached: false, counts: None, ..EXT4 });
    let mut file = bench.file(None, 0);
    write(&mut file, 0..16 * MIB);
    drain(&mut file);
    assert_eq!(bench.device.rungs(), [Rung::SyncFileRange]);
    assert!(!bench.is_anything_dirty());
}

#[test]
fn a_pinned_direct_rung_leaves_head_tail_and_patches_to_the_cache() {
    let bench = Bench::new(EXT4);
    let mut file = bench.file(Some(Rung::Direct), 64 * MIB);
    write(&mut file, 0..16 * MIB + 1000);
    write(&mut file, 8 * MIB..8 * MIB + 8);
    drain(&mut file);
    assert_eq!(bench.device.rungs(), [Rung::Direct]);
    assert_eq!(bench.calls("direct"), 16);
    assert_eq!(bench.calls("cached"), 3, "head, tail and patch");
    assert!(!bench.is_anything_dirty());
    assert_eq!(bench.gate.limit_and_charged_bytes().1, 0);
}

#[test]
fn a_patched_stream_keeps_its_window_in_the_cache() {
    let bench = Bench::new(EXT4);
    let mut file = bench.file(None, 4 * MIB);
    write(&mut file, 0..32 * MIB);
    assert_eq!(bench.device.rungs(), [Rung::Dontcache], "nothing was patched for long");
    write(&mut file, 20 * MIB..20 * MIB + 8);
    write(&mut file, 32 * MIB..36 * MIB);
    drain(&mut file);
    assert_eq!(bench.device.rungs(), [Rung::SyncFileRange]);
    let kernel = bench.kernel.lock().unwrap();
    let newest = kernel.pages.range(32 * MIB / PAGE..36 * MIB / PAGE).count() as u64;
    assert_eq!(newest * PAGE, 4 * MIB, "resident, and clean");
    let head = kernel.pages.range(0..16).count();
    assert_eq!(head, 16, "the first 64 KiB always are");
}

#[test]
fn what_is_patched_is_written_back_again() {
    let bench = Bench::new(Kind { uncached: false, ..EXT4 });
    let mut file = bench.file(None, 64 * MIB);
    write(&mut file, 0..8 * MIB);
    drain(&mut file);
    write(&mut file, MIB..MIB + 8);
    assert_eq!(file.charged_bytes(), PAGE);
    drain(&mut file);
    assert_eq!(file.charged_bytes(), 0);
    assert!(!bench.is_anything_dirty());
}
