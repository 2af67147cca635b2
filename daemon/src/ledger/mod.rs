//! What is kept of the open streams outside of this process, so that the daemon that comes next can go on
//! with them: a file for each in a directory beside the socket, which a restart leaves alone and a boot
//! does not.
//!
//! 1. A file is replaced as a whole: whoever reads it finds what it was before or after a change. The space
//!    for that is there before the stream is opened (`pair`).
//! 2. A stream has a file from the moment when its client is told its token until the client has heard
//!    what came of it. So a token that a client has is known, or its stream was given up.
//! 3. Nothing here is synced: with the host's memory everything that it describes is gone.
//!
//! The descriptors of a stream's file are kept by systemd ([`crate::supervisor`]).

mod entry;
mod pair;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tracing::warn;

pub use entry::{Entry, Outcome};

use crate::budget::StreamId;
use crate::platform;

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Ledger {
    /// `None`: nothing is kept, and no stream can be resumed.
    directory: Option<PathBuf>,
    /// `None`: there is space for it.
    entries: Mutex<BTreeMap<StreamId, Option<Entry>>>,
}

impl Ledger {
    /// The ledger in `directory`, which is made if it is not there, and the streams that are in it. What
    /// can't be read is left alone, and a word about it goes to the log.
    ///
    /// # Errors
    /// The directory can't be made or read, or is somebody else's.
    pub fn open(directory: &Path) -> io::Result<(Self, Vec<Entry>)> {
        platform::make_private_directory(directory)?;
        let mut entries = BTreeMap::new();
        let mut next = Vec::new();
        for file in fs::read_dir(directory)? {
            let path = file?.path();
            match entry_of(&path) {
                Ok(Found::Entry(entry)) => {
                    entries.insert(entry.stream, Some(*entry));
                }
                // Somebody was killed before its stream was open.
                Ok(Found::Reserved) => {
                    let _ = fs::remove_file(&path);
                }
                Ok(Found::Next(stream)) => next.push((stream, path)),
                Ok(Found::Other) => {}
                Err(error) => warn!(
                    "cannot read {}, what is kept of a stream: {error}; the stream can't be resumed",
                    path.display()
                ),
            }
        }
        // The next change of a stream that goes on needs it.
        for (_, path) in next.iter().filter(|(stream, _)| !entries.contains_key(stream)) {
            let _ = fs::remove_file(path);
        }
        let found = entries.values().flatten().cloned().collect();
        Ok((Self { directory: Some(directory.to_owned()), entries: Mutex::new(entries) }, found))
    }

    /// A ledger in a directory that could not be made: it is tried again with each stream, and as long as
    /// that fails none is opened.
    #[must_use]
    pub fn to_be_made(directory: &Path) -> Self {
        Self { directory: Some(directory.to_owned()), entries: Mutex::default() }
    }

    /// Where streams are kept; `None` when they are not.
    #[must_use]
    pub fn directory(&self) -> Option<&Path> {
        self.directory.as_deref()
    }

    /// Takes the space for all that will ever be kept of `stream`, whose path has so many bytes.
    ///
    /// # Errors
    /// There is none, or nothing is kept here.
    pub fn reserve(&self, stream: StreamId, path_bytes: usize) -> io::Result<()> {
        let mut entries = self.lock();
        pair::reserve(self.made()?, stream, path_bytes)?;
        entries.insert(stream, None);
        Ok(())
    }

    /// Keeps `entry`, in place of what was kept of this stream.
    ///
    /// # Errors
    /// It can't be written, or nothing is kept here.
    pub fn keep(&self, entry: Entry) -> io::Result<()> {
        let mut entries = self.lock();
        pair::replace(self.made()?, &entry)?;
        entries.insert(entry.stream, Some(entry));
        Ok(())
    }

    /// Changes what is kept of `stream`, if anything is. False when that could not be written.
    pub fn change(&self, stream: StreamId, change: impl FnOnce(&mut Entry)) -> bool {
        let mut entries = self.lock();
        let Some(Some(entry)) = entries.get_mut(&stream) else { return true };
        change(entry);
        let written = self.made().and_then(|directory| pair::replace(directory, entry));
        if let Err(error) = &written {
            warn!(stream, "cannot keep what a restart has to know of stream {stream}: {error}");
        }
        written.is_ok()
    }

    /// Keeps nothing of `stream` any more.
    pub fn forget(&self, stream: StreamId) {
        let mut entries = self.lock();
        if let (Some(_), Some(directory)) = (entries.remove(&stream), &self.directory) {
            pair::remove(directory, stream);
        }
    }

    /// The directory, if it is there: somebody may have taken it away.
    fn made(&self) -> io::Result<&Path> {
        let Some(directory) = &self.directory else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        platform::make_private_directory(directory)?;
        Ok(directory)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<StreamId, Option<Entry>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A file of the directory.
enum Found {
    Entry(Box<Entry>),
    /// Space for one.
    Reserved,
    /// Space for the next change of this stream.
    Next(StreamId),
    /// None of ours.
    Other,
}

fn entry_of(path: &Path) -> io::Result<Found> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let Ok(stream) = name.parse::<StreamId>() else {
        let next = name.strip_suffix(".new").and_then(|stream| stream.parse().ok());
        return Ok(next.map_or(Found::Other, Found::Next));
    };
    let bytes = fs::read(path)?;
    if bytes.iter().all(|byte| *byte == 0) {
        return Ok(Found::Reserved);
    }
    match Entry::decode(&bytes).filter(|entry| entry.stream == stream) {
        Some(entry) => Ok(Found::Entry(Box::new(entry))),
        None => Err(io::Error::new(io::ErrorKind::InvalidData, "it is from another version")),
    }
}

#[cfg(test)]
mod tests {
    use freemkvd_proto::{Token, WirePath};

    use super::*;

    /// An entry up to its outcome, which a pause follows. What changes it needs another version in `MAGIC`.
    const GOLDEN: &str = "465245454d4b5653030003070707070707070707070707070707070f2f7372762f72697073\
                          2fff2e6d6b76014d00648080802001020106040000010000000000";

    fn entry(stream: StreamId) -> Entry {
        Entry {
            stream,
            token: Token([7; 16]),
            path: WirePath(b"/srv/rips/\xff.mkv".to_vec()),
            client_pid: Some(77),
            client_uid: None,
            weight: 100,
            window_bytes: 64 << 20,
            device: 1,
            inode: 2,
            born: Some((3, 4)),
            len_bytes: 0,
            reserved_bytes: 0,
            is_given: true,
            ending: crate::writer::Ending::default(),
            thread: None,
            is_unwatched: false,
            outcome: None,
            is_paused: false,
        }
    }

    #[test]
    fn what_was_kept_is_found_by_the_next_daemon_until_it_is_forgotten() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("streams");
        let (ledger, found) = Ledger::open(&directory).unwrap();
        assert!(found.is_empty());
        ledger.keep(entry(3)).unwrap();
        ledger.keep(entry(4)).unwrap();
        assert!(ledger.change(4, |entry| entry.weight = 300));
        ledger.forget(3);
        let (again, found) = Ledger::open(&directory).unwrap();
        assert_eq!(found, [Entry { weight: 300, ..entry(4) }]);
        again.forget(4);
        assert!(Ledger::open(&directory).unwrap().1.is_empty());
    }

    #[test]
    fn an_entry_has_these_bytes_or_another_version() {
        use freemkvd_proto::{ErrorCode, Failure, Finished, Mark, Progress};
        let hex = |entry: &Entry| -> String {
            entry.encode().iter().map(|byte| format!("{byte:02x}")).collect()
        };
        let mark = Mark { sequence: 1, bytes: 2 };
        let progress = Progress { accepted: mark, written: mark, durable: mark };
        let finished = Outcome::Finished(Finished { len_bytes: 9, progress });
        let failure = Failure { offset: Some(3), ..Failure::new(ErrorCode::IO, "no") };
        for (outcome, golden) in [
            (None, GOLDEN.to_owned() + "0001"),
            (Some(finished), GOLDEN.to_owned() + "01000901020102010201"),
            (Some(Outcome::Failed(failure)), GOLDEN.to_owned() + "0101ac02000103026e6f01"),
        ] {
            let entry = Entry { outcome, is_paused: true, ..entry(3) };
            assert_eq!(hex(&entry), golden);
            assert_eq!(Entry::decode(&entry.encode()), Some(entry));
        }
    }

    #[test]
    fn a_file_of_another_version_or_half_written_is_left_alone() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("streams");
        let (ledger, _) = Ledger::open(&directory).unwrap();
        ledger.keep(entry(3)).unwrap();
        let whole = entry(3).encode();
        fs::write(directory.join("4"), &whole[..whole.len() - 2]).unwrap();
        fs::write(directory.join("5"), [b"FREEMKVS\x09\0".as_slice(), &whole[10..]].concat())
            .unwrap();
        fs::write(directory.join("6.new"), &whole).unwrap();
        fs::write(directory.join("7"), &whole).unwrap();
        assert_eq!(Ledger::open(&directory).unwrap().1, [entry(3)]);
        assert!(directory.join("4").exists());
        assert!(!directory.join("6.new").exists());
    }

    #[test]
    fn an_entry_of_a_daemon_that_knew_no_pauses_is_not_paused() {
        let bytes = entry(3).encode();
        let older = &bytes[..bytes.len() - 1];
        assert_eq!(Entry::decode(older), Some(entry(3)));
        assert_eq!(Entry::decode(&[older, &[0; 9]].concat()), Some(entry(3)));
    }

    #[test]
    fn an_entry_without_zeros_behind_it_is_read_too() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("streams");
        platform::make_private_directory(&directory).unwrap();
        fs::write(directory.join("3"), entry(3).encode()).unwrap();
        assert_eq!(Ledger::open(&directory).unwrap().1, [entry(3)]);
    }

    #[cfg(target_os = "linux")]
    fn failed(words: usize) -> Option<Outcome> {
        let message = "\u{e4}".repeat(words);
        Some(Outcome::Failed(freemkvd_proto::Failure::new(freemkvd_proto::ErrorCode::IO, message)))
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_change_takes_the_two_files_that_were_reserved_and_no_other() {
        use std::os::unix::fs::MetadataExt;
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("streams");
        let (ledger, _) = Ledger::open(&directory).unwrap();
        ledger.reserve(3, entry(3).path.0.len()).unwrap();
        let files = || {
            let files = fs::read_dir(&directory).unwrap();
            let all = files.map(|file| file.unwrap().metadata().unwrap());
            let mut all: Vec<_> = all.map(|file| (file.ino(), file.len(), file.blocks())).collect();
            all.sort_unstable();
            all
        };
        let reserved = files();
        assert_eq!(reserved.len(), 2);
        assert!(reserved.iter().all(|&(_, len, blocks)| len == 4096 && blocks * 512 >= len));
        ledger.keep(entry(3)).unwrap();
        assert!(ledger.change(3, |entry| entry.weight = 300));
        assert!(ledger.change(3, |entry| entry.weight = 10));
        // More words than fit, and none of their characters is cut in two.
        assert!(ledger.change(3, |entry| entry.outcome = failed(40_000)));
        assert_eq!(files(), reserved);
        let (_, found) = Ledger::open(&directory).unwrap();
        let Some(Outcome::Failed(failure)) = &found[0].outcome else { panic!("{found:?}") };
        assert!(failure.message.len() > 3000, "{} bytes", failure.message.len());
        assert_eq!(files(), reserved, "the next daemon has them as well");
    }

    #[test]
    fn space_for_a_stream_that_was_never_opened_is_given_back() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("streams");
        let (ledger, _) = Ledger::open(&directory).unwrap();
        for stream in [3, 4] {
            ledger.reserve(stream, 10).unwrap();
        }
        assert!(ledger.change(3, |entry| entry.weight = 1), "there is nothing to change");
        ledger.forget(3);
        assert!(!directory.join("3").exists() && !directory.join("3.new").exists());
        let (_, found) = Ledger::open(&directory).unwrap();
        assert!(found.is_empty());
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 0, "killed before it was open");
    }

    #[test]
    fn where_there_is_no_directory_to_be_had_nothing_is_reserved() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("streams");
        fs::write(&directory, "a file is in the way").unwrap();
        let ledger = Ledger::to_be_made(&directory);
        assert!(ledger.reserve(3, 10).is_err());
        fs::remove_file(&directory).unwrap();
        ledger.reserve(3, 10).unwrap();
    }

    #[test]
    fn a_directory_that_was_taken_away_comes_back_with_the_next_entry() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("streams");
        let (ledger, _) = Ledger::open(&directory).unwrap();
        fs::remove_dir(&directory).unwrap();
        ledger.keep(entry(1)).unwrap();
        assert_eq!(Ledger::open(&directory).unwrap().1, [entry(1)]);
    }

    #[test]
    fn without_a_directory_nothing_is_kept() {
        let ledger = Ledger::default();
        assert_eq!(ledger.directory(), None);
        assert!(ledger.keep(entry(1)).is_err());
        ledger.forget(1);
    }
}
