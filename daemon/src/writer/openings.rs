//! Files that are being opened, and whether a new one may be: told without touching the device, since the call
//! that does may never return. So a dead server costs a bounded number of threads, however often its muxers
//! try again: a few that hang, and one for each muxer that waits.
//!
//! A device that the budget calls wedged is silent. So is a place where an open has hung for a while, and
//! none has returned since. That may be wrong: a link on the way leads elsewhere by now, or something else is
//! mounted there. So one more is tried each time after such a while.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use freemkvd_proto::{ErrorCode, Failure};

use super::life::Shop;
use super::open::Target;
use super::record::{Client, Record};
use crate::budget::{State, StreamId};
use crate::config::{SilentDevice, Span};

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
    /// One of them is over.
    over: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    /// Calls that have not returned: where they lead to, and since when.
    under_way: BTreeMap<StreamId, (Place, Duration)>,
    /// Directories, and what the last open of a file there has shown.
    seen: BTreeMap<PathBuf, Seen>,
    /// Directories that were called silent, and when one more was tried there.
    tried: BTreeMap<PathBuf, Duration>,
}

/// What an open has shown about its directory.
#[derive(Clone, Debug)]
struct Seen {
    /// Where the file turned out to lie.
    place: Place,
    /// When that open returned.
    answered: Duration,
}

impl Inner {
    /// Since when files are being opened in that place.
    fn like(&self, place: &Place) -> impl Iterator<Item = Duration> {
        let same = self.under_way.values().filter(move |(other, _)| place.is_like(other));
        same.map(|(_, since)| *since)
    }

    /// When an open of that place has last returned.
    fn answered(&self, place: &Place) -> Option<Duration> {
        let same = self.seen.values().filter(|seen| place.is_like(&seen.place));
        same.map(|seen| seen.answered).max()
    }

    /// Since when an open has hung there, and none has returned.
    fn hangs_since(&self, place: &Place, now: Duration) -> Option<Duration> {
        let oldest = self.like(place).min()?;
        let answers = self.answered(place).is_some_and(|answered| answered > oldest);
        (!answers && now.saturating_sub(oldest) >= SILENT).then_some(oldest)
    }

    /// When one more is to be tried in a directory that looks silent. It counts from when it first did.
    fn try_after(&mut self, directory: &Path, now: Duration) -> Duration {
        bound(&mut self.tried, directory);
        *self.tried.entry(directory.to_owned()).or_insert(now) + SILENT
    }
}

/// Makes room for what is known of another directory.
fn bound<T>(known: &mut BTreeMap<PathBuf, T>, directory: &Path) {
    if known.len() >= DIRECTORIES_MAX && !known.contains_key(directory) {
        known.pop_first();
    }
}

/// Where a file is to be, as far as names tell.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    directory: PathBuf,
    /// Where its name leads to. When it says something else, what was seen there is of no use any more.
    named: Option<String>,
    /// Where files of the directory were seen to lie, or else the same: a link may lead to another mount.
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
            Span::about(self.age),
        );
        Failure::new(ErrorCode::DEVICE_SILENT, message)
    }
}

/// What a client is told while the daemon takes no streams any more.
#[must_use]
pub fn going_away() -> Failure {
    let message = "the daemon is shutting down and takes no new streams; try again soon";
    Failure::new(ErrorCode::GOING_AWAY, message)
}

impl Openings {
    /// Whether the device of `path` is known not to answer; or that of the files that a client gives who calls
    /// this one `path`. Changes nothing: who is let through here is asked again by its own thread.
    #[must_use]
    pub fn silence(&self, shop: &Shop, path: &Path, given_by: Option<Client>) -> Option<Silence> {
        self.silence_of(shop, &self.place(shop, path, given_by), shop.clock.now()).err()
    }

    /// `Ok` where it is not, or one more is to be tried; true for the latter.
    fn silence_of(&self, shop: &Shop, place: &Place, now: Duration) -> Result<bool, Silence> {
        let view = place.device.as_deref().and_then(|device| shop.gate.device(device));
        let wedged = view.filter(|view| view.state == State::Wedged).map(|view| view.since);
        let mut inner = self.lock();
        let Some(since) = wedged.or_else(|| inner.hangs_since(place, now)) else {
            return Ok(false);
        };
        let is_certain = wedged.is_some() && place.device == place.named;
        if !is_certain && inner.try_after(&place.directory, now) <= now {
            return Ok(true);
        }
        Err(place.silent_for(now.saturating_sub(since)))
    }

    /// The same for one who is about to go there: of those who are let through to try, it is one.
    fn let_through(&self, shop: &Shop, place: &Place, now: Duration) -> Result<(), Silence> {
        if self.silence_of(shop, place, now)? {
            self.lock().tried.insert(place.directory.clone(), now);
        }
        Ok(())
    }

    /// The file of `target` is about to be opened. It waits where the device has enough to open, and, if the
    /// configuration says so, while it is known not to answer; for as long as its client is there. Over when
    /// what it returns is dropped.
    pub(super) fn begin(
        &self,
        shop: &Shop,
        record: &Record,
        target: &Target,
    ) -> Result<UnderWay<'_>, Failure> {
        loop {
            let place = self.place(shop, &target.path, record.is_given.then_some(record.client));
            let silence = match self.let_through(shop, &place, shop.clock.now()) {
                Err(silence) if target.silent_device == SilentDevice::Refuse => {
                    return Err(silence.failure());
                }
                Err(silence) => {
                    thread::sleep(LOOK);
                    silence
                }
                Ok(()) => match self.note_unless_crowded(shop, record, place) {
                    Ok(under_way) => return Ok(under_way),
                    Err(silence) => silence,
                },
            };
            if record.queue.is_going_away() {
                return Err(going_away());
            }
            if record.queue.is_ended() || !record.is_attached() {
                return Err(silence.failure());
            }
        }
    }

    /// Waits a moment for the end of another one where there are too many.
    fn note_unless_crowded(
        &self,
        shop: &Shop,
        record: &Record,
        place: Place,
    ) -> Result<UnderWay<'_>, Silence> {
        let crowded = |inner: &mut Inner| inner.like(&place).count() >= UNDER_WAY_MAX;
        let waited = self.over.wait_timeout_while(self.lock(), LOOK, crowded);
        let mut inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        let now = shop.clock.now();
        if crowded(&mut inner) {
            let oldest = inner.like(&place).min().unwrap_or(now);
            return Err(place.silent_for(now.saturating_sub(oldest)));
        }
        inner.under_way.insert(record.id, (place, now));
        Ok(UnderWay { openings: self, stream: record.id })
    }

    /// The same for a stream that goes on, and has nothing to wait for.
    pub(super) fn note(&self, shop: &Shop, record: &Record, path: &Path) -> UnderWay<'_> {
        let place = self.place(shop, path, record.is_given.then_some(record.client));
        self.lock().under_way.insert(record.id, (place, shop.clock.now()));
        UnderWay { openings: self, stream: record.id }
    }

    /// Where the file is to be.
    fn place(&self, shop: &Shop, path: &Path, given_by: Option<Client>) -> Place {
        if let Some(client) = given_by {
            return Place::of_given(client);
        }
        let directory = path.parent().unwrap_or(path).to_owned();
        let named = shop.disk.locate(path);
        let inner = self.lock();
        let seen = inner.seen.get(&directory).map(|seen| &seen.place);
        let seen = seen.filter(|seen| seen.named == named);
        let device = seen.map_or_else(|| named.clone(), |seen| seen.device.clone());
        Place { directory, named, device }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Files that a client has opened lie wherever it likes, and what it calls them says nothing. So all those of
    /// one user count as of one place: who passes files that don't answer is the only one who waits for them.
    fn of_given(client: Client) -> Self {
        let user = client.uid.map_or_else(|| "a client".to_owned(), |uid| format!("user {uid}"));
        let directory = PathBuf::from(format!("the files that {user} has opened"));
        Self { directory, named: None, device: None }
    }

    fn silent_for(&self, age: Duration) -> Silence {
        Silence { directory: self.directory.clone(), age }
    }

    fn is_like(&self, other: &Self) -> bool {
        match (&self.device, &other.device) {
            (Some(one), Some(other)) => one == other,
            _ => self.directory == other.directory,
        }
    }
}

/// An open that has not returned.
pub(super) struct UnderWay<'a> {
    openings: &'a Openings,
    stream: StreamId,
}

impl UnderWay<'_> {
    /// It has returned; the file lies on this device.
    pub(super) fn answered(self, device: &str, now: Duration) {
        let mut inner = self.openings.lock();
        if let Some((place, _)) = inner.under_way.get(&self.stream) {
            let place = Place { device: Some(device.to_owned()), ..place.clone() };
            bound(&mut inner.seen, &place.directory);
            inner.seen.insert(place.directory.clone(), Seen { place, answered: now });
        }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.openings.lock().under_way.remove(&self.stream);
        self.openings.over.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use freemkvd_proto::OpenMode;

    use super::*;
    use crate::clock::Clock;
    use crate::config::RootSettings;
    use crate::device::Devices;
    use crate::ledger::Ledger;
    use crate::messages::Messages;
    use crate::storage::{Creation, Descriptors, Known, Open, OpenError, Opened};
    use crate::writer::{End, Ending, Gate, OpenFiles, Queue, Queues};

    /// A table of mounts, and nothing to open.
    struct Table(Mutex<Vec<(&'static str, &'static str)>>);

    impl Open for Table {
        fn open(
            &self,
            _: &[PathBuf],
            path: &Path,
            _: OpenMode,
            _: Creation,
        ) -> Result<Opened, OpenError> {
            Err(OpenError::NotAFile { path: path.to_owned(), what: "nothing" })
        }

        fn reopen(&self, _: &[PathBuf], path: &Path, _: Known) -> Result<Opened, OpenError> {
            Err(OpenError::NotAFile { path: path.to_owned(), what: "nothing" })
        }

        fn adopt(
            &self,
            _: Descriptors,
            path: &Path,
            _: Option<Known>,
        ) -> Result<Opened, OpenError> {
            Err(OpenError::NotAFile { path: path.to_owned(), what: "nothing" })
        }

        fn locate(&self, path: &Path) -> Option<String> {
            let table = self.0.lock().unwrap();
            let mount = table.iter().find(|(mount, _)| path.starts_with(mount));
            mount.map(|(_, device)| (*device).to_owned())
        }
    }

    fn shop(table: Vec<(&'static str, &'static str)>) -> (Shop, Arc<Table>) {
        let clock = Clock::start();
        let table = Arc::new(Table(Mutex::new(table)));
        let shop = Shop {
            disk: table.clone(),
            gate: Gate::new(64 << 20, clock),
            devices: Devices::default(),
            files: Arc::new(OpenFiles::default()),
            openings: Openings::default(),
            ledger: Ledger::default(),
            messages: Messages::default(),
            clock,
        };
        (shop, table)
    }

    fn record(id: StreamId, path: &str) -> Record {
        let queue = Queue::new(Queues::new(1 << 20, 1 << 20), None);
        Record::new(id, path.into(), Client::default(), queue, Clock::start())
    }

    fn is_silent(shop: &Shop, path: &str, seconds: u64) -> bool {
        let now = shop.clock.now() + Duration::from_secs(seconds);
        let place = shop.openings.place(shop, Path::new(path), None);
        shop.openings.silence_of(shop, &place, now).is_err()
    }

    /// An open that is answered.
    fn returned(shop: &Shop, path: &str, device: &str) {
        let under_way = shop.openings.note(shop, &record(99, path), Path::new(path));
        under_way.answered(device, shop.clock.now());
    }

    #[test]
    fn an_open_that_hangs_speaks_for_its_device() {
        let (shop, _) = shop(vec![("/nas", "0:52"), ("/rips", "8:1")]);
        let hanging = shop.openings.note(&shop, &record(1, "/nas/a"), Path::new("/nas/a"));
        let nameless = shop.openings.note(&shop, &record(2, "/link/a"), Path::new("/link/a"));
        assert!(!is_silent(&shop, "/nas/b", 10), "a disk that spins up");
        for path in ["/nas/b", "/nas/sub/b", "/link/b"] {
            assert!(is_silent(&shop, path, 25), "{path}");
        }
        for path in ["/rips/b", "/elsewhere/b"] {
            assert!(!is_silent(&shop, path, 25), "{path}");
        }
        drop(hanging);
        assert!(!is_silent(&shop, "/nas/b", 25), "it answers");
        assert!(is_silent(&shop, "/link/b", 25));
        drop(nameless);
        assert!(!is_silent(&shop, "/link/b", 25));
    }

    #[test]
    fn where_others_are_answered_or_something_else_is_mounted_a_device_is_not_silent() {
        let (shop, table) = shop(vec![("/rips", "8:1"), ("/nas", "0:52")]);
        // By a link to a dead server, of which nothing is known.
        let _hanging =
            shop.openings.note(&shop, &record(1, "/rips/link/a"), Path::new("/rips/link/a"));
        assert!(is_silent(&shop, "/rips/b", 25), "for all that is known");
        returned(&shop, "/rips/a", "8:1");
        assert!(!is_silent(&shop, "/rips/b", 25), "its disk answers");
        let _dead = shop.openings.note(&shop, &record(2, "/nas/a"), Path::new("/nas/a"));
        assert!(is_silent(&shop, "/nas/b", 25));
        table.0.lock().unwrap()[1].1 = "8:17";
        assert!(!is_silent(&shop, "/nas/b", 25), "another disk is there now");
    }

    #[test]
    fn a_place_that_looks_silent_is_tried_by_one_after_a_while() {
        let (shop, _) = shop(vec![("/nas", "0:52")]);
        let _hanging = shop.openings.note(&shop, &record(1, "/nas/a"), Path::new("/nas/a"));
        let (place, start) =
            (shop.openings.place(&shop, Path::new("/nas/b"), None), shop.clock.now());
        let is_tried = |seconds| {
            let now = start + Duration::from_secs(seconds);
            // Whoever only asks is told the same, and takes the place of nobody.
            let asked = (0..3).map(|_| shop.openings.silence_of(&shop, &place, now).is_ok()).max();
            let is_tried = shop.openings.let_through(&shop, &place, now).is_ok();
            assert_eq!(asked, Some(is_tried));
            assert!(shop.openings.let_through(&shop, &place, now).is_err() || !is_tried);
            is_tried
        };
        let tried = (25..=125).step_by(5).filter(|seconds| is_tried(*seconds)).count();
        assert_eq!(tried, 5, "once in 20 s");
    }

    #[test]
    fn a_directory_is_where_its_files_were_until_something_else_is_mounted() {
        let (shop, table) = shop(vec![("/rips", "8:1"), ("/", "8:0")]);
        // A link below /rips, to the server.
        returned(&shop, "/rips/nas/a", "0:52");
        let place = |path| shop.openings.place(&shop, Path::new(path), None).device.unwrap();
        assert_eq!((place("/rips/nas/b"), place("/rips/b")), ("0:52".into(), "8:1".to_owned()));
        table.0.lock().unwrap()[0].1 = "8:2";
        assert_eq!(place("/rips/nas/b"), "8:2");
        (0..2 * DIRECTORIES_MAX).for_each(|number| {
            returned(&shop, &format!("/rips/{number}/a"), "8:2");
        });
        assert_eq!(shop.openings.lock().seen.len(), DIRECTORIES_MAX);
    }

    fn target(path: &str) -> Target {
        Target {
            roots: vec!["/".into()],
            path: path.into(),
            settings: RootSettings::default(),
            creation: Creation::default(),
            window_bytes: 0,
            ending: Ending::default(),
            no_space_wait: Duration::ZERO,
            silent_device: SilentDevice::Refuse,
        }
    }

    #[test]
    fn a_place_with_enough_to_open_takes_another_when_one_is_over() {
        let (shop, _) = shop(vec![("/rips", "8:1"), ("/nas", "0:52")]);
        let attached = |id, path| {
            let record = record(id, path);
            record.attach(None, || {});
            record
        };
        let path = Path::new("/rips/a");
        let mut hanging: Vec<_> = (0..UNDER_WAY_MAX as u64)
            .map(|id| shop.openings.note(&shop, &record(id, "/rips/a"), path))
            .collect();
        let begin = |record: &Record, path| {
            shop.openings
                .begin(&shop, record, &target(path))
                .map(drop)
                .map_err(|failure| failure.code)
        };
        assert_eq!(begin(&attached(100, "/nas/a"), "/nas/a"), Ok(()));
        let gone = record(101, "/rips/a");
        assert_eq!(
            begin(&gone, "/rips/a"),
            Err(ErrorCode::DEVICE_SILENT),
            "its client is not there"
        );
        let stopped = attached(102, "/rips/a");
        stopped.queue.end(End::GoingAway);
        assert_eq!(begin(&stopped, "/rips/a"), Err(ErrorCode::GOING_AWAY));
        thread::scope(|scope| {
            let waits = scope.spawn(|| begin(&attached(103, "/rips/a"), "/rips/a"));
            drop(hanging.pop());
            assert_eq!(waits.join().unwrap(), Ok(()));
        });
    }
}
