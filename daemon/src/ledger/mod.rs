//! What is kept of the open streams outside of this process, so that the daemon that comes next can go on
//! with them: a file for each in a directory beside the socket, which a restart leaves alone and a boot
//! does not.
//!
//! 1. A file is replaced as a whole: whoever reads it finds what it was before or after a change.
//! 2. A stream has a file from the moment when its client is told its token until the client has heard
//!    what came of it. So a token that a client has is known, or its stream was given up.
//! 3. Nothing here is synced: with the host's memory everything that it describes is gone.
//!
//! The descriptors of a stream's file are kept by systemd ([`crate::systemd`]).

mod entry;

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
    entries: Mutex<BTreeMap<StreamId, Entry>>,
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
        for file in fs::read_dir(directory)? {
            let path = file?.path();
            match entry_of(&path) {
                Ok(Some(entry)) => {
                    entries.insert(entry.stream, entry);
                }
                // Somebody was killed before it was complete.
                Ok(None) if path.extension().is_some_and(|extension| extension == "new") => {
                    let _ = fs::remove_file(&path);
                }
                Ok(None) => {}
                Err(error) => warn!(
                    "cannot read {}, what is kept of a stream: {error}; the stream can't be resumed",
                    path.display()
                ),
            }
        }
        let found = entries.values().cloned().collect();
        Ok((Self { directory: Some(directory.to_owned()), entries: Mutex::new(entries) }, found))
    }

    /// True when streams can be kept at all.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.directory.is_some()
    }

    /// Keeps `entry`, in place of what was kept of this stream.
    ///
    /// # Errors
    /// It can't be written, or nothing is kept here.
    pub fn keep(&self, entry: Entry) -> io::Result<()> {
        let mut entries = self.lock();
        self.write(&entry)?;
        entries.insert(entry.stream, entry);
        Ok(())
    }

    /// Changes what is kept of `stream`, if anything is. False when that could not be written.
    pub fn change(&self, stream: StreamId, change: impl FnOnce(&mut Entry)) -> bool {
        let mut entries = self.lock();
        let Some(entry) = entries.get_mut(&stream) else { return true };
        change(entry);
        let written = self.write(entry);
        if let Err(error) = &written {
            warn!(stream, "cannot keep what a restart has to know of stream {stream}: {error}");
        }
        written.is_ok()
    }

    /// Keeps nothing of `stream` any more.
    pub fn forget(&self, stream: StreamId) {
        let mut entries = self.lock();
        if let (Some(_), Some(directory)) = (entries.remove(&stream), &self.directory) {
            // It may be gone with its directory; that is what was wanted.
            let _ = fs::remove_file(directory.join(stream.to_string()));
        }
    }

    fn write(&self, entry: &Entry) -> io::Result<()> {
        let Some(directory) = &self.directory else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        let path = directory.join(entry.stream.to_string());
        let new = path.with_extension("new");
        // Somebody may have taken the directory away.
        platform::make_private_directory(directory)?;
        fs::write(&new, entry.encode())?;
        fs::rename(&new, &path)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<StreamId, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is in a file of the directory; `None` when it is none of ours, or was never completed.
fn entry_of(path: &Path) -> io::Result<Option<Entry>> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let Ok(stream) = name.parse::<StreamId>() else {
        return Ok(None);
    };
    let entry = Entry::decode(&fs::read(path)?).filter(|entry| entry.stream == stream);
    entry
        .map(Some)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it is from another version"))
}

#[cfg(test)]
mod tests {
    use freemkvd_proto::{Token, WirePath};

    use super::*;

    /// An entry up to its outcome. What changes it needs another version in `MAGIC`.
    const GOLDEN: &str = "465245454d4b5653020003070707070707070707070707070707070f2f7372762f72697073\
                          2fff2e6d6b76014d006480808020010201060400000000000000";

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
            ending: crate::writer::Ending::default(),
            thread: None,
            is_unwatched: false,
            outcome: None,
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
            (None, GOLDEN.to_owned() + "00"),
            (Some(finished), GOLDEN.to_owned() + "010009010201020102"),
            (Some(Outcome::Failed(failure)), GOLDEN.to_owned() + "0101ac02000103026e6f"),
        ] {
            let entry = Entry { outcome, ..entry(3) };
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
        let whole = fs::read(directory.join("3")).unwrap();
        fs::write(directory.join("4"), &whole[..whole.len() - 1]).unwrap();
        fs::write(directory.join("5"), [b"FREEMKVS\x09\0".as_slice(), &whole[10..]].concat())
            .unwrap();
        fs::write(directory.join("6.new"), &whole).unwrap();
        fs::write(directory.join("7"), &whole).unwrap();
        assert_eq!(Ledger::open(&directory).unwrap().1, [entry(3)]);
        assert!(directory.join("4").exists());
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
        assert!(!ledger.is_kept());
        assert!(ledger.keep(entry(1)).is_err());
        ledger.forget(1);
    }
}
