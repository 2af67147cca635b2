//! Whatever calls a program makes, what it is told to be durable was synced with what it wrote there last,
//! and is told once; after a sync that it waited for, nothing is missing. Also over restarts of the daemon.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use freemkvd_client::RipFile;
use freemkvd_tests::daemon::{Daemon, wait_until};
use freemkvd_tests::ops::{Limits, Op, apply, sequence};
use freemkvd_tests::sink::Sink;
use rand_core::{RngCore, SeedableRng};
use rand_pcg::Pcg64;

use crate::support::{MIB, Way, scratch};

/// Three times the patch window, so that much is patched behind it. No more, since every byte is looked at.
const LIMITS: Limits = Limits { ops: 80, len: 3 * MIB, written: 6 * MIB };

/// What is known of one byte.
#[derive(Clone, Copy, Default)]
struct Byte {
    content: u8,
    /// The call that has written it; 0 for none.
    by: u32,
    is_told: bool,
}

/// A file, and beside it what it should be and what may be told of it.
struct Mapped {
    file: RipFile,
    bytes: Vec<Byte>,
    position: u64,
    /// How many calls have written something, and how many of them were there when a sync was asked for.
    calls: u32,
    asked: u32,
    /// A sync that nobody waits for is on its way, as far as is known here.
    is_on_its_way: bool,
    /// Another was asked for meanwhile: it comes after the answer to the first, and covers what was written by then.
    is_late: bool,
}

impl Mapped {
    fn new(file: RipFile) -> Self {
        Self {
            file,
            bytes: Vec::new(),
            position: 0,
            calls: 0,
            asked: 0,
            is_on_its_way: false,
            is_late: false,
        }
    }

    /// Puts it as one call, since a call that takes some of it makes it durable as one.
    fn put(&mut self, content: impl ExactSizeIterator<Item = u8>) {
        self.calls += 1;
        let from = usize::try_from(self.position).unwrap();
        let to = from + content.len();
        self.position = to as u64;
        if from < to && self.bytes.len() < to {
            self.bytes.resize(to, Byte::default());
        }
        for (byte, content) in self.bytes.iter_mut().skip(from).zip(content) {
            *byte = Byte { content, by: self.calls, is_told: false };
        }
    }

    fn sync_soon(&mut self) {
        self.is_late |= std::mem::replace(&mut self.is_on_its_way, true);
        self.asked = self.calls;
        self.file.sync_soon().unwrap();
    }

    /// Takes what is told, and holds it against what may be. Returns how many bytes that were.
    fn look(&mut self, path: &Path) -> u64 {
        let ranges = self.file.take_durable();
        assert!(ranges.windows(2).all(|pair| pair[0].end < pair[1].start), "{ranges:?}");
        let file = File::open(path).unwrap();
        let mut count = 0;
        for Range { start, end } in ranges {
            let mut found = vec![0; usize::try_from(end - start).unwrap()];
            file.read_exact_at(&mut found, start).expect("what was told is in the file");
            let bytes = &mut self.bytes[usize::try_from(start).unwrap()..];
            for ((at, byte), found) in (start..end).zip(bytes).zip(found) {
                assert!(byte.by > 0, "byte {at} was told and never written");
                let is_asked = byte.by <= self.asked || self.is_late;
                assert!(is_asked, "byte {at} was told and is not synced");
                assert!(!byte.is_told, "byte {at} was told twice");
                assert_eq!(byte.content, found, "byte {at} was told and is something else");
                byte.is_told = true;
            }
            count += end - start;
        }
        let is_missing = |byte: &Byte| (1..=self.asked).contains(&byte.by) && !byte.is_told;
        if count > 0 && !self.bytes.iter().any(is_missing) {
            self.is_on_its_way = false;
        }
        count
    }

    fn is_all_told(&self) -> bool {
        self.bytes.iter().all(|byte| byte.by == 0 || byte.is_told)
    }
}

impl Write for Mapped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.put(bytes[..count].iter().copied());
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for Mapped {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.position = self.file.seek(to)?;
        Ok(self.position)
    }
}

impl Sink for Mapped {
    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.file.set_len(len)?;
        self.bytes.resize(usize::try_from(len).unwrap(), Byte::default());
        Ok(())
    }

    fn write_zeroes(&mut self, len: u64) -> io::Result<()> {
        self.file.write_zeroes(len)?;
        self.put(vec![0; usize::try_from(len).unwrap()].into_iter());
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.asked = self.calls;
        self.file.sync_all()?;
        (self.is_on_its_way, self.is_late) = (false, false);
        Ok(())
    }
}

/// Plays a sequence. In some of them the daemon is killed now and then.
fn tells_what_is_durable(way: Way, seeds: Range<u64>) {
    let root = scratch();
    let mut daemon = Daemon::start(root.path(), "");
    let path = root.path().join("rip");
    let (mut early, mut resumes) = (0, 0);
    for seed in seeds {
        println!("seed {seed}");
        let mut random = Pcg64::seed_from_u64(seed);
        let options = way.options(&daemon).window_bytes(MIB).memory_limit_bytes(5 * MIB);
        let options = options.track_durable(true);
        let mut mapped = Mapped::new(options.create(&path).unwrap());
        for op in sequence(seed, LIMITS) {
            apply(std::slice::from_ref(&op), &mut mapped).unwrap();
            match random.next_u32() % 40 {
                0..8 => mapped.sync_soon(),
                8 if seed % 2 == 0 => {
                    daemon.kill();
                    daemon.start_again();
                }
                _ => {}
            }
            let told = mapped.look(&path);
            if op == Op::Sync {
                assert!(mapped.is_all_told(), "durable, and not told");
            } else {
                early += told;
            }
        }
        mapped.sync_soon();
        let is_told = wait_until(|| {
            mapped.look(&path);
            mapped.is_all_told()
        });
        assert!(is_told, "a sync that nobody waited for came to nothing");
        resumes += mapped.file.finish().unwrap().progress.resumes;
    }
    // Else this has shown less than it says.
    assert!(early > 0 && resumes > 0, "{early} bytes, {resumes} restarts");
}

#[test]
fn random_calls_are_told_what_is_durable() {
    tells_what_is_durable(Way::Shared, 1..5);
}

#[test]
fn random_calls_are_told_what_is_durable_inline() {
    tells_what_is_durable(Way::Inline, 1..5);
}
