//! Files that are being opened, and whether a new one may be: told without touching the device, since the call
//! that does may never return. So a dead server costs a bounded number of threads, however often its muxers
//! try again: a few that hang, and one for each muxer that waits.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use freemkvd_proto::{ErrorCode, Failure};

use super::life::Shop;
use super::record::Record;
use crate::budget::{State, StreamId};
use crate::config::Span;

/// An open that takes longer says that its device does not answer: a disk that spins up takes up to 15 s.
const SILENT: Duration = Duration::from_secs(20);

/// Opens of one place that are under way at once; further ones wait for the end of one. So many hang before
/// it is known that a device does not answer, however many muxers try meanwhile, and give up, and try again.
const UNDER_WAY_MAX: usize = 8;

/// How often a stream that waits for its device looks.
const LOOK: Duration = Duration::from_millis(200);

/// Directories whose devices are remembered.
const DIRECTORIES_MAX: usize = 256;

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Openings {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Calls that have not returned: where they lead to, and since when.
    under_way: BTreeMap<StreamId, (Place, Duration)>,
    /// Where files of a directory were last seen to lie, beside what its name says: a link may lead to another
    /// mount than that. Forgotten when its name says something else.
    seen: BTreeMap<PathBuf, (String, Option<String>)>,
}

/// Where a file is to be, as far as names tell.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    directory: PathBuf,
    device: Option<String>,
}

/// A device that does not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silence {
    directory: PathBuf,
    age: Duration,
}

impl Silence {
    /// What a client is told.
    #[must_use]
    pub fn failure(&self) -> Failure {
        let message = format!(
            "the device of {} has not answered for {}; nothing new is begun on it until it does (see \
             freemkvctl status, and stream.silent_device in the configuration)",
            self.directory.display(),
            Span(Duration::from_secs(self.age.as_secs())),
        );
        Failure::new(ErrorCode::DEVICE_SILENT, message)
    }
}

impl Openings {
    /// Whether the device of `path` is known not to answer.
    #[must_use]
    pub fn silence(&self, shop: &Shop, path: &Path) -> Option<Silence> {
        let place = self.place(shop, path);
        let now = shop.clock.now();
        let view = place.device.as_deref().and_then(|device| shop.gate.device(device));
        let wedged = view.filter(|view| view.state == State::Wedged);
        let since = wedged.map(|view| view.since).or_else(|| {
            let inner = self.lock();
            let same = inner.under_way.values().filter(|(other, _)| place.is_like(other));
            let oldest = same.map(|(_, since)| *since).min();
            oldest.filter(|since| now.saturating_sub(*since) >= SILENT)
        })?;
        Some(Silence { directory: place.directory, age: now.saturating_sub(since) })
    }

    /// The file of `path` is about to be opened; it waits while the device is known not to answer, or has
    /// enough to open, and its client is there. Over when what it returns is dropped.
    pub(super) fn begin(
        &self,
        shop: &Shop,
        record: &Record,
        path: &Path,
    ) -> Result<UnderWay<'_>, Failure> {
        loop {
            let silence = match self.silence(shop, path) {
                Some(silence) => silence,
                None => match self.note_unless_crowded(shop, record, path) {
                    Ok(under_way) => return Ok(under_way),
                    Err(silence) => silence,
                },
            };
            if record.queue.is_ended() || !record.is_attached() {
                return Err(silence.failure());
            }
            thread::sleep(LOOK);
        }
    }

    fn note_unless_crowded(
        &self,
        shop: &Shop,
        record: &Record,
        path: &Path,
    ) -> Result<UnderWay<'_>, Silence> {
        let (place, now) = (self.place(shop, path), shop.clock.now());
        let mut inner = self.lock();
        let same = inner.under_way.values().filter(|(other, _)| place.is_like(other));
        let since: Vec<_> = same.map(|(_, since)| *since).collect();
        if since.len() >= UNDER_WAY_MAX {
            let oldest = since.into_iter().min().unwrap_or(now);
            return Err(Silence { directory: place.directory, age: now.saturating_sub(oldest) });
        }
        inner.under_way.insert(record.id, (place, now));
        Ok(UnderWay { openings: self, stream: record.id })
    }

    /// The same for a stream that goes on, and has nothing to wait for.
    pub(super) fn note(&self, shop: &Shop, record: &Record, path: &Path) -> UnderWay<'_> {
        let place = self.place(shop, path);
        self.lock().under_way.insert(record.id, (place, shop.clock.now()));
        UnderWay { openings: self, stream: record.id }
    }

    /// The file of `path` turned out to lie on this device.
    pub(super) fn learn(&self, shop: &Shop, path: &Path, device: &str) {
        let (directory, named) = (directory_of(path), shop.disk.locate(path));
        let mut inner = self.lock();
        if inner.seen.len() >= DIRECTORIES_MAX && !inner.seen.contains_key(&directory) {
            inner.seen.pop_first();
        }
        inner.seen.insert(directory, (device.to_owned(), named));
    }

    fn place(&self, shop: &Shop, path: &Path) -> Place {
        let directory = directory_of(path);
        let named = shop.disk.locate(path);
        let inner = self.lock();
        let seen = inner.seen.get(&directory).filter(|(_, then)| *then == named);
        let device = seen.map(|(device, _)| device.clone()).or(named);
        Place { directory, device }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    fn is_like(&self, other: &Self) -> bool {
        self.directory == other.directory || self.device.is_some() && self.device == other.device
    }
}

fn directory_of(path: &Path) -> PathBuf {
    path.parent().unwrap_or(path).to_owned()
}

/// An open that has not returned.
pub(super) struct UnderWay<'a> {
    openings: &'a Openings,
    stream: StreamId,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.openings.lock().under_way.remove(&self.stream);
    }
}
