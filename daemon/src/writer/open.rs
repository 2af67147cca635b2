//! Opening a stream's file: everything that can refuse comes before the first change to it.

use std::collections::BTreeMap;
use std::collections::btree_map;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use freemkvd_proto::{ErrorCode, Failure, OpenMode, Token};

use crate::budget::StreamId;
use crate::config::RootSettings;
use crate::ledger::Entry;
use crate::storage::{Descriptors, FileId, Known, Open, OpenError, Opened};

/// Where a stream comes from.
#[derive(Debug)]
pub enum Origin {
    /// A client has asked for it.
    New {
        /// What to do when the file exists, or does not.
        mode: OpenMode,
        /// How long it is likely to become, in bytes.
        size_hint_bytes: Option<u64>,
        /// What its client resumes it by, if it can and the configuration wants that.
        token: Option<Token>,
    },
    /// The daemon before had it open.
    Kept {
        /// What is known of it.
        entry: Box<Entry>,
        /// Its file, if somebody has kept that open.
        descriptors: Option<Descriptors>,
        /// Taken before any client was served.
        claim: Claim,
    },
}

/// What to open, and how.
#[derive(Debug)]
pub struct Target {
    /// Directories below which files may be written.
    pub roots: Vec<PathBuf>,
    /// The file.
    pub path: PathBuf,
    /// What the configuration says about the root that it is below.
    pub settings: RootSettings,
    /// How many of the newest bytes stay in the page cache for patches.
    pub window_bytes: u64,
}

/// Which files are being written, so that no two streams write one.
#[derive(Debug, Default)]
pub struct OpenFiles {
    by_id: Mutex<BTreeMap<FileId, StreamId>>,
}

/// A file that is a stream's until the claim is dropped.
#[derive(Debug)]
pub struct Claim {
    files: Arc<OpenFiles>,
    id: FileId,
}

impl OpenFiles {
    /// Takes a file for `stream`.
    ///
    /// # Errors
    /// Whose it is already.
    pub fn claim(self: &Arc<Self>, id: FileId, stream: StreamId) -> Result<Claim, StreamId> {
        match self.by_id.lock().unwrap_or_else(PoisonError::into_inner).entry(id) {
            btree_map::Entry::Occupied(other) => Err(*other.get()),
            btree_map::Entry::Vacant(free) => {
                free.insert(stream);
                Ok(Claim { files: Arc::clone(self), id })
            }
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut by_id = self.files.by_id.lock().unwrap_or_else(PoisonError::into_inner);
        by_id.remove(&self.id);
    }
}

/// Opens `target` for `stream`: opened, claimed, emptied if asked for, space reserved.
///
/// # Errors
/// What to tell the client. Then no file was changed, and none was left behind.
pub(super) fn open(
    disk: &dyn Open,
    files: &Arc<OpenFiles>,
    stream: StreamId,
    target: &Target,
    mode: OpenMode,
    size_hint_bytes: u64,
) -> Result<(Opened, Claim), Failure> {
    let path = &target.path;
    let mut opened = disk.open(&target.roots, path, mode).map_err(|error| error.failure())?;
    // A file that this stream has created is another's if that one was quicker with its claim: only
    // under a claim of its own may it be removed again.
    let claim = files.claim(opened.id, stream).map_err(|other| {
        let message = format!(
            "{} is already being written by stream {other}; choose another name, or wait (a stream that is \
             suspended lets go of its file after daemon.resume_grace)",
            path.display()
        );
        Failure::new(ErrorCode::IN_USE, message)
    })?;
    if let Err(failure) = prepare(&mut opened, path, mode, size_hint_bytes) {
        if opened.created {
            // The refusal is what the client has to hear; an empty file is no harm.
            let _ = opened.storage.unlink();
        }
        return Err(failure);
    }
    Ok((opened, claim))
}

/// Opens the file of a stream that goes on; its claim is older than this.
///
/// # Errors
/// What to tell the client. Then no file was changed.
pub(super) fn reopen(
    disk: &dyn Open,
    target: &Target,
    entry: &Entry,
    descriptors: Option<Descriptors>,
) -> Result<Opened, Failure> {
    let known = Known {
        id: FileId { device: entry.device, inode: entry.inode },
        born: entry.born,
        reserved_bytes: entry.reserved_bytes,
        descriptors,
    };
    disk.reopen(&target.roots, &target.path, known).map_err(|error| error.failure())
}

fn prepare(opened: &mut Opened, path: &Path, mode: OpenMode, hint: u64) -> Result<(), Failure> {
    if hint > opened.available_bytes {
        return Err(no_space(path, hint, opened.available_bytes));
    }
    let io =
        |operation, source| OpenError::Io { path: path.to_owned(), operation, source }.failure();
    if mode == OpenMode::Create && opened.len_bytes > 0 {
        opened.storage.set_len(0).map_err(|error| io("empty", error))?;
        opened.len_bytes = 0;
    }
    if hint > 0 {
        opened.storage.reserve(hint).map_err(|error| match error.kind() {
            io::ErrorKind::StorageFull => no_space(path, hint, opened.available_bytes),
            _ => io("reserve space for", error),
        })?;
    }
    Ok(())
}

fn no_space(path: &Path, hint: u64, available: u64) -> Failure {
    let size = |bytes| bytesize::ByteSize(bytes).display().iec().to_string();
    let message = format!(
        "not enough space for {}: it may need {}, and {} are available; free {} or write elsewhere",
        path.display(),
        size(hint),
        size(available),
        size(hint.saturating_sub(available)),
    );
    Failure::new(ErrorCode::NO_SPACE_AHEAD, message)
}
