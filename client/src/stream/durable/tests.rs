//! A whole `RipFile` against an outlet that is a list of what it was given, of which a part is durable.

use std::collections::VecDeque;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use fastrand::Rng;

use super::*;
use crate::OpenedBy;
use crate::outlet::Outlet;
use crate::progress::Progress;
use crate::slot::{Pool, Slot};
use crate::window::{Leaving, Window};

const MIB: u64 = 1 << 20;
const FILE_MAX: u64 = 4 * MIB;

#[derive(Debug)]
enum Given {
    Write(u64, Vec<u8>),
    Cut(u64),
}

/// What was given, with its number, and the file as far as it is durable.
#[derive(Debug, Default)]
struct Disk {
    given: VecDeque<(u64, Given)>,
    last: u64,
    durable: u64,
    file: Vec<u8>,
}

impl Disk {
    fn give(&mut self, given: Given) -> u64 {
        self.last += 1;
        self.given.push_back((self.last, given));
        self.last
    }

    fn make_durable(&mut self, number: u64) {
        self.durable = self.durable.max(number);
        while self.given.front().is_some_and(|(number, _)| *number <= self.durable) {
            match self.given.pop_front().unwrap().1 {
                Given::Write(offset, content) => {
                    let from = usize::try_from(offset).unwrap();
                    let to = from + content.len();
                    self.file.resize(self.file.len().max(to), 0);
                    self.file[from..to].copy_from_slice(&content);
                }
                Given::Cut(len) => self.file.resize(usize::try_from(len).unwrap(), 0),
            }
        }
    }
}

/// An outlet whose slots come back whenever they like.
#[derive(Debug)]
struct Listed {
    disk: Arc<Mutex<Disk>>,
    pool: Pool,
    in_flight: VecDeque<Arc<Slot>>,
    rng: Rng,
}

impl Listed {
    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap()
    }

    fn release(&mut self, count: usize) {
        for slot in self.in_flight.drain(..count) {
            self.pool.put(slot);
        }
    }
}

impl Outlet for Listed {
    fn is_failed(&self) -> bool {
        false
    }

    fn failure(&self) -> Option<Error> {
        None
    }

    fn slot(&mut self) -> Result<Arc<Slot>, Error> {
        let slot = self.pool.take();
        // While it is waited for, others come back.
        let count = self.rng.usize(0..=self.in_flight.len());
        self.release(count);
        let slot = slot.or_else(|| self.pool.take()).or_else(|| {
            self.release(self.in_flight.len());
            self.pool.take()
        });
        Ok(slot.expect("the window holds too many slots"))
    }

    fn take(
        &mut self,
        leaving: &mut VecDeque<Leaving>,
        mut journal: Option<&mut Journal>,
    ) -> Result<(), Error> {
        for item in leaving.drain(..) {
            match item {
                Leaving::Write { offset, slot, range } => {
                    let content = slot[range.clone()].to_vec();
                    let number = self.disk().give(Given::Write(offset, content));
                    let journal = journal.as_mut().unwrap();
                    journal.send(offset..offset + range.len() as u64, number);
                    self.in_flight.push_back(slot);
                }
                Leaving::Release(slot) => {
                    self.pool.put(slot);
                }
            }
        }
        Ok(())
    }

    fn write_zeroes(&mut self, offset: u64, len: u64) -> Result<u64, Error> {
        Ok(self.disk().give(Given::Write(offset, vec![0; usize::try_from(len).unwrap()])))
    }

    fn set_len(&mut self, len: u64) -> Result<(), Error> {
        self.disk().give(Given::Cut(len));
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn sync(&mut self, _timeout: Duration) -> Result<(), Error> {
        let last = self.disk().last;
        self.disk().make_durable(last);
        Ok(())
    }

    fn sync_soon(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn handed(&self) -> u64 {
        self.disk().last
    }

    fn durable(&self) -> u64 {
        self.disk().durable
    }

    fn finish(&mut self, timeout: Duration) -> Result<u64, Error> {
        self.sync(timeout).map(|()| 0)
    }

    fn abort(&mut self, _timeout: Duration) -> Result<(), Error> {
        Ok(())
    }

    fn close(&mut self, _timeout: Duration) {}

    fn progress(&self) -> Progress {
        Progress::default()
    }

    fn opened_by(&self) -> OpenedBy {
        OpenedBy::Local
    }

    fn stream_id(&self) -> Option<u64> {
        None
    }
}

/// A stream, and beside it what its file should be, and which bytes of it are still to be told.
struct Bench {
    file: RipFile,
    disk: Arc<Mutex<Disk>>,
    expected: Vec<u8>,
    untold: Vec<bool>,
    rng: Rng,
    seed: u64,
}

impl Bench {
    fn new(seed: u64, ranges_max: usize) -> Self {
        let mut rng = Rng::with_seed(seed);
        let disk = Arc::new(Mutex::new(Disk::default()));
        let pool = Pool::new(Window::slots_max(MIB, 1) + rng.usize(0..4));
        let shared = Arc::clone(&disk);
        let outlet = Listed { disk: shared, pool, in_flight: VecDeque::new(), rng: rng.fork() };
        let told = Told { journal: Journal::new(ranges_max), callback: None };
        let (second, path) = (Duration::from_secs(1), Path::new("film.mkv").to_owned());
        let (window, told) = (Window::new(MIB, 1), Some(Box::new(told)));
        let file = RipFile::new(path, Box::new(outlet), 0, window, second, second, told);
        Self { file, disk, expected: Vec::new(), untold: Vec::new(), rng, seed }
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap()
    }

    /// Short writes that overlap others, at both ends of the file and anywhere.
    fn offset(&mut self) -> u64 {
        let len = self.expected.len() as u64;
        match self.rng.u32(0..8) {
            0..=2 => len.min(FILE_MAX),
            3..=5 => self.rng.u64(0..2000),
            6 => len.saturating_sub(self.rng.u64(0..2000)).min(FILE_MAX),
            _ => self.rng.u64(0..FILE_MAX),
        }
    }

    fn put(&mut self, offset: u64, content: &[u8]) {
        let from = usize::try_from(offset).unwrap();
        let to = from + content.len();
        self.expected.resize(self.expected.len().max(to), 0);
        self.untold.resize(self.expected.len(), false);
        self.expected[from..to].copy_from_slice(content);
        self.untold[from..to].fill(true);
    }

    fn call(&mut self, number: u8) {
        let offset = self.offset();
        self.file.seek(SeekFrom::Start(offset)).unwrap();
        let len = if self.rng.u32(0..6) == 0 { self.rng.u64(0..MIB) } else { self.rng.u64(1..900) };
        let content = vec![number; usize::try_from(len).unwrap()];
        let result = match self.rng.u32(0..16) {
            0..=11 => self.file.write_all(&content).map(|()| Some(content)),
            12 => self.file.write_zeroes(len).map(|()| Some(vec![0; content.len()])),
            13 => {
                self.file.set_len(offset).unwrap();
                self.expected.resize(usize::try_from(offset).unwrap(), 0);
                self.untold.resize(self.expected.len(), false);
                Ok(None)
            }
            14 => self.file.flush().map(|()| None),
            _ => self.file.sync_soon().map(|()| None),
        };
        match result {
            Ok(Some(content)) => self.put(offset, &content),
            Ok(None) => {}
            Err(error) => {
                assert!(error.to_string().contains("too many separate ranges"), "{error}");
                self.sync();
            }
        }
    }

    /// Whatever is told is in the durable part of the file, as it should be.
    fn look(&mut self) {
        for range in self.file.take_durable() {
            let range = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
            let found = self.disk().file.get(range.clone()).map(<[u8]>::to_vec);
            let is_right = found.is_some_and(|found| found == self.expected[range.clone()]);
            assert!(is_right, "{range:?} was told and is not durable, seed {}", self.seed);
            let untold = &mut self.untold[range.clone()];
            assert!(untold.iter().all(|is| *is), "{range:?} was told again, seed {}", self.seed);
            untold.fill(false);
        }
    }

    fn sync(&mut self) {
        self.file.sync_all().unwrap();
        self.look();
        assert!(!self.untold.contains(&true), "durable, and not told, seed {}", self.seed);
    }

    fn play(mut self) {
        for number in 1..=80 {
            self.call(number);
            if self.rng.bool() {
                let number = self.disk().last;
                let number = self.rng.u64(0..=number);
                self.disk().make_durable(number);
            }
            self.look();
        }
        self.sync();
        assert!(self.disk().file == self.expected);
        self.file.finish().unwrap();
    }
}

#[test]
fn whatever_is_told_is_durable() {
    for seed in 1..=15 {
        Bench::new(seed, RANGES_MAX).play();
    }
}

#[test]
fn whatever_is_told_is_durable_when_ranges_are_few() {
    for seed in 1..=15 {
        Bench::new(seed, 3 + usize::try_from(seed).unwrap() % 8).play();
    }
}

/// A run that leaves for another one that overlaps it, with a slot at hand, so that both happens in one step:
/// the window was given that slot for a copy that was no longer needed when it had it.
#[test]
fn what_leaves_is_not_what_overwrites_it() {
    let mut has_left = 0;
    for seed in 1..=40 {
        let mut bench = Bench::new(seed, RANGES_MAX);
        let put = |bench: &mut Bench, offset: u64, content: &[u8]| {
            bench.file.seek(SeekFrom::Start(offset)).unwrap();
            bench.file.write_all(content).unwrap();
            bench.put(offset, content);
        };
        put(&mut bench, 0, &vec![1; 3 << 20]);
        bench.file.flush().unwrap();
        put(&mut bench, 100, &[2; 100]);
        put(&mut bench, (3 << 20) - 10, &[3; 5]);
        put(&mut bench, 50, &[4; 100]);
        let last = bench.disk().last;
        bench.disk().make_durable(last);
        bench.look();
        has_left += usize::from(!bench.untold[150] && bench.untold[50..150].iter().all(|is| *is));
        bench.sync();
        bench.file.finish().unwrap();
    }
    assert_eq!(has_left, 40);
}
