//! What is measured on the scratch file. Every figure comes from a call that was made here.
//!
//! 1. No more than [`bytes_max`] is written, and nothing is begun after [`TIME_MAX`].
//! 2. `sync_file_range(2)` has no safe binding, and is not called. Writeback of a range is started with
//!    `posix_fadvise(DONTNEED)`, which on file systems that are no stacks does it as well; pages are known to be clean
//!    once they can be dropped, which dirty ones can't.
//! 3. Whether a page is there is asked with a read that does not wait, which brings none in.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{Advice, fadvise, fdatasync};
use rustix::io::{Errno, ReadWriteFlags, preadv2, pwritev2};

use super::device::counted;
use super::figures::{Measured, Patch, Sync};

const MIB: u64 = 1 << 20;
const PAGE: u64 = 4096;
const PAGE_LEN: usize = 4096;

/// Written between two looks at the clock.
const WINDOW: u64 = 4 * MIB;

/// Most of the main run that may be on its way to the device.
const IN_FLIGHT_MAX: u64 = 64 * MIB;

/// Most of what is synced at once.
const BIG_SYNC_MAX: u64 = 64 * MIB;

/// Nothing is begun after this, however slow it is.
pub(super) const TIME_MAX: Duration = Duration::from_secs(60);

/// The main run ends then, with what it has written.
const WRITE_TIME_MAX: Duration = Duration::from_secs(30);

/// How long pages may take to become clean. The kernel's own flusher comes later: after 30 seconds by default.
const CLEAN_TIME_MAX: Duration = Duration::from_secs(4);

const COMMITS: usize = 21;
const PATCHES: usize = 12;

/// `RWF_DONTCACHE` of linux/fs.h, Linux 6.14.
const DONTCACHE: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x80);

/// All that is written when `size` is asked for.
pub(super) fn bytes_max(size: u64) -> u64 {
    size + big_sync(size) + 2 * MIB + COMMITS as u64 * PAGE
}

fn big_sync(size: u64) -> u64 {
    (size / 4).clamp(MIB, BIG_SYNC_MAX)
}

struct Trial<'a> {
    file: &'a File,
    content: Vec<u8>,
    end: u64,
    begun: Instant,
    stop: &'a AtomicBool,
}

/// `None` when it was stopped.
pub(super) fn run(
    file: &File,
    size: u64,
    counters: Option<&Path>,
    stop: &AtomicBool,
) -> io::Result<Option<Measured>> {
    let mut content = vec![0; usize::try_from(WINDOW).unwrap_or(1 << 20)];
    // What compresses would be measured as faster than films are.
    getrandom::fill(&mut content).map_err(|_| io::Error::other("no random numbers"))?;
    let mut trial = Trial { file, content, end: 0, begun: Instant::now(), stop };
    let mut found = Measured { window_bytes: WINDOW, ..Measured::default() };
    trial.drains(&mut found)?;
    if trial.is_over() {
        return Ok(trial.outcome(found));
    }
    trial.rate(size, &mut found)?;
    trial.commits(&mut found)?;
    found.patch = trial.patches()?;
    if !trial.is_over() {
        found.big_sync = trial.big_sync(big_sync(size), counters)?;
    }
    Ok(trial.outcome(found))
}

impl Trial<'_> {
    fn outcome(&self, found: Measured) -> Option<Measured> {
        (!self.stop.load(Ordering::Relaxed)).then_some(found)
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.begun.elapsed() > TIME_MAX
    }

    /// Appends `len` bytes, at most a window.
    fn append(&mut self, len: u64, flags: ReadWriteFlags) -> io::Result<()> {
        let len = usize::try_from(len).unwrap_or(usize::MAX).min(self.content.len());
        // No two pages alike, for file systems that would store them once.
        for (page, number) in self.content[..len].chunks_mut(PAGE_LEN).zip(self.end / PAGE..) {
            if let Some(start) = page.first_chunk_mut() {
                *start = number.to_le_bytes();
            }
        }
        let mut rest = &self.content[..len];
        while !rest.is_empty() {
            let written = match flags.is_empty() {
                true => self.file.write_at(rest, self.end)?,
                false => pwritev2(self.file, &[IoSlice::new(rest)], self.end, flags)?,
            };
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            rest = &rest[written..];
            self.end += written as u64;
        }
        Ok(())
    }

    /// Which ways of writing back are taken, and seen to work.
    fn drains(&mut self, found: &mut Measured) -> io::Result<()> {
        match self.append(MIB, DONTCACHE) {
            Ok(()) => {
                found.dontcache_accepted = true;
                found.dontcache_cleans = self.become_clean(self.end - MIB, false);
            }
            Err(error) if is_refused(&error) => {}
            Err(error) => return Err(error),
        }
        self.append(MIB, ReadWriteFlags::empty())?;
        let start = self.end - MIB;
        // A page that is said to be away although it was written just now: there is no seeing here.
        if self.is_cached(start) == Some(true) {
            found.range_cleans = self.become_clean(start, true);
        }
        self.sync()
    }

    /// Whether the MiB from `start` on leaves the page cache, with or without being told to.
    fn become_clean(&self, start: u64, told: bool) -> Option<bool> {
        let begun = Instant::now();
        loop {
            if told {
                self.evict(start, MIB);
            }
            let pages = (start..start + MIB).step_by(64 << 10).map(|page| self.is_cached(page));
            let pages: Option<Vec<bool>> = pages.collect();
            if pages?.iter().all(|cached| !cached) {
                return Some(true);
            }
            if begun.elapsed() > CLEAN_TIME_MAX || self.is_over() {
                return Some(false);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// `None` where the file system can't read without waiting.
    fn is_cached(&self, offset: u64) -> Option<bool> {
        let mut byte = [0];
        let flags = ReadWriteFlags::NOWAIT;
        match preadv2(self.file, &mut [IoSliceMut::new(&mut byte)], offset, flags) {
            Ok(read) => Some(read == 1),
            Err(Errno::AGAIN) => Some(false),
            Err(_) => None,
        }
    }

    fn evict(&self, start: u64, len: u64) {
        // Advice: whether it was taken is looked at afterwards.
        let _ = fadvise(self.file, start, NonZeroU64::new(len), Advice::DontNeed);
    }

    fn sync(&self) -> io::Result<()> {
        Ok(fdatasync(self.file)?)
    }

    /// The main run: windows whose writeback is started at once, and no more in flight than half a second's worth.
    fn rate(&mut self, size: u64, found: &mut Measured) -> io::Result<()> {
        let flags = match found.dontcache_accepted {
            true => DONTCACHE,
            false => ReadWriteFlags::empty(),
        };
        let (begun, first) = (Instant::now(), self.end);
        let mut synced = first;
        while self.end - first < size && begun.elapsed() < WRITE_TIME_MAX && !self.is_over() {
            let window = Instant::now();
            let start = self.end;
            self.append(WINDOW.min(size - (start - first)), flags)?;
            self.evict(start, self.end - start);
            let durable = synced - first;
            let half_a_second = durable * 500 / millis(begun.elapsed()).max(1);
            if self.end - synced >= half_a_second.clamp(WINDOW, IN_FLIGHT_MAX) {
                self.sync()?;
                synced = self.end;
            }
            found.window_ns_max = found.window_ns_max.max(nanos(window.elapsed()));
        }
        self.sync()?;
        found.write_ns = nanos(begun.elapsed());
        found.written_bytes = self.end - first;
        let per_second =
            u128::from(found.written_bytes) * 1_000_000_000 / u128::from(found.write_ns.max(1));
        found.write_bytes_per_second = u64::try_from(per_second).unwrap_or(u64::MAX);
        Ok(())
    }

    /// Small additions, each made durable.
    fn commits(&mut self, found: &mut Measured) -> io::Result<()> {
        let mut took = Vec::new();
        while took.len() < COMMITS && !self.is_over() {
            self.append(PAGE, ReadWriteFlags::empty())?;
            let begun = Instant::now();
            self.sync()?;
            took.push(nanos(begun.elapsed()));
        }
        found.commits = took.len();
        (found.commit_ns_median, found.commit_ns_max) = median_and_max(took);
        Ok(())
    }

    /// Eight bytes into pages that are not there, and then into the same again. `None` where none could be evicted,
    /// or nobody can see it.
    fn patches(&self) -> io::Result<Option<Patch>> {
        self.evict(0, self.end);
        let step = (self.end / PATCHES as u64).max(PAGE) / PAGE * PAGE;
        let (mut evicted, mut resident) = (Vec::new(), Vec::new());
        for page in (step..self.end - PAGE).step_by(usize::try_from(step).unwrap_or(usize::MAX)) {
            if self.is_over() || self.is_cached(page) != Some(false) {
                continue;
            }
            for times in [&mut evicted, &mut resident] {
                let begun = Instant::now();
                self.file.write_all_at(&[7; 8], page + 100)?;
                times.push(nanos(begun.elapsed()));
            }
        }
        self.sync()?;
        let count = evicted.len();
        let (evicted_ns_median, evicted_ns_max) = median_and_max(evicted);
        let (resident_ns_median, _) = median_and_max(resident);
        Ok((count > 0).then_some(Patch {
            count,
            evicted_ns_median,
            evicted_ns_max,
            resident_ns_median,
        }))
    }

    /// Much that nobody has begun to write back, and what its `fdatasync` makes of it.
    fn big_sync(&mut self, len: u64, counters: Option<&Path>) -> io::Result<Sync> {
        let before = counters.and_then(counted);
        let start = self.end;
        while self.end - start < len && !self.is_over() {
            self.append(WINDOW.min(len - (self.end - start)), ReadWriteFlags::empty())?;
        }
        let begun = Instant::now();
        self.sync()?;
        let ns = nanos(begun.elapsed());
        let after = counters.and_then(counted);
        let difference = before.zip(after).map(|(before, after)| {
            let flushes = before.1.zip(after.1).map(|(before, after)| after.saturating_sub(before));
            (after.0.saturating_sub(before.0), flushes)
        });
        Ok(Sync {
            bytes: self.end - start,
            ns,
            device_written_bytes: difference.map(|(bytes, _)| bytes),
            device_flushes: difference.and_then(|(_, flushes)| flushes),
        })
    }
}

fn is_refused(error: &io::Error) -> bool {
    let refused = [Errno::OPNOTSUPP, Errno::INVAL, Errno::NOSYS];
    Errno::from_io_error(error).is_some_and(|errno| refused.contains(&errno))
}

fn median_and_max(mut values: Vec<u64>) -> (u64, u64) {
    values.sort_unstable();
    let median = values.get(values.len() / 2).copied().unwrap_or_default();
    (median, values.last().copied().unwrap_or_default())
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
