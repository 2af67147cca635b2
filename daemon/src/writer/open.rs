//! Opening a stream's file: everything that can refuse comes before the first change to it.

use std::collections::BTreeMap;
use std::collections::btree_map;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use freemkvd_proto::{ErrorCode, Failure, OpenMode, Token};

use super::ending::Ending;
use super::life::Shop;
use super::record::Record;
use crate::budget::StreamId;
use crate::config::{RootSettings, SilentDevice};
use crate::device::Device;
use crate::foreign::Foreign;
use crate::ledger::Entry;
use crate::space::{Announcement, Space};
use crate::storage::{Creation, Descriptors, FileId, Known, OpenError, Opened, is_no_space};
use crate::user::UserId;

/// How often and for how long another look is taken at space that somebody is setting aside: on a slow disk
/// that takes seconds.
const LOOKS_AT_SPACE: u32 = 200;
const LOOK_AT_SPACE: Duration = Duration::from_millis(20);

/// The same for a claim that is about to be let go of.
const LOOKS_AT_CLAIM: u32 = 50;
const LOOK_AT_CLAIM: Duration = Duration::from_millis(10);

/// Where a stream comes from.
#[derive(Debug)]
pub enum Origin {
    /// A client has asked for it.
    New {
        /// How its file is found.
        by: By,
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

/// How the file of a new stream is found.
#[derive(Debug)]
pub enum By {
    /// By its path.
    Path(OpenMode),
    /// It came with the `Open`.
    Descriptor {
        /// The file.
        files: Foreign,
        /// It is to be emptied.
        empties: bool,
    },
}

impl By {
    /// True for a file that its client has opened.
    #[must_use]
    pub fn is_descriptor(&self) -> bool {
        matches!(self, Self::Descriptor { .. })
    }

    /// True when what is in the file is to go.
    fn empties(&self) -> bool {
        matches!(self, Self::Path(OpenMode::Create) | Self::Descriptor { empties: true, .. })
    }

    /// True when the file is to be a new one.
    fn is_create_new(&self) -> bool {
        matches!(self, Self::Path(OpenMode::CreateNew))
    }
}

/// What to open, and how.
#[derive(Debug)]
pub struct Target {
    /// Directories below which files may be written.
    pub roots: Vec<PathBuf>,
    /// The file, as it is called until it is complete.
    pub path: PathBuf,
    /// What the configuration says about the root that it is below.
    pub settings: RootSettings,
    /// With which modes it is made, and the directories on the way.
    pub creation: Creation,
    /// How many of the newest bytes stay in the page cache for patches.
    pub window_bytes: u64,
    /// What becomes of the file at the end.
    pub ending: Ending,
    /// How long it may wait for space.
    pub no_space_wait: Duration,
    /// What becomes of it if its device does not answer.
    pub silent_device: SilentDevice,
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

impl Claim {
    /// Takes another file for the same stream.
    ///
    /// # Errors
    /// Whose it is already.
    pub(super) fn claim_as_well(&self, id: FileId, stream: StreamId) -> Result<Self, StreamId> {
        self.files.claim(id, stream)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut by_id = self.files.by_id.lock().unwrap_or_else(PoisonError::into_inner);
        by_id.remove(&self.id);
    }
}

/// A file that is open, claimed, and ready to be written.
pub(super) struct Ready {
    pub(super) opened: Opened,
    pub(super) claim: Claim,
    pub(super) device: Arc<Device>,
    pub(super) announcement: Option<Announcement>,
}

/// Opens `target` for `stream`: opened, claimed, emptied if asked for, space reserved.
///
/// # Errors
/// What to tell the client. Then no file was changed, and none was left behind.
pub(super) fn open(
    shop: &Shop,
    record: &Record,
    target: &Target,
    by: By,
    hint_bytes: u64,
) -> Result<Ready, Failure> {
    let (path, stream) = (&target.path, record.id);
    let opening = shop.openings.begin(shop, record, target)?;
    let changes =
        Changes { empties: by.empties(), needs_free_name: by.is_create_new(), hint_bytes };
    let opened = match by {
        By::Path(mode) => shop.disk.open(&target.roots, path, mode, target.creation),
        By::Descriptor { files, .. } => adopt(shop, files, path, (None, record.client.uid)),
    };
    let mut opened = opened.map_err(|error| error.failure())?;
    // What comes now may take long where all is well.
    opening.answered(&opened.device.id, shop.clock.now());
    // A file that this stream has created is another's if that one was quicker with its claim: only
    // under a claim of its own may it be removed again.
    let may_be_new = opened.created || (record.is_given && opened.len_bytes == 0);
    let claim = claim(&shop.files, opened.id, stream, may_be_new);
    let claim = claim.map_err(|other| in_use(path, other))?;
    let device = shop.devices.of(opened.device.clone());
    match prepare(&mut opened, &device, (record, target), changes) {
        Ok(announcement) => Ok(Ready { opened, claim, device, announcement }),
        Err(failure) => {
            // The refusal is what the client has to hear; an empty file is no harm, nor space that comes back
            // when somebody truncates it.
            let _ = match opened.created {
                true => opened.storage.unlink(),
                false => opened.storage.release_surplus(),
            };
            Err(failure)
        }
    }
}

/// Takes a file for `stream`. The number of one that may be new can be that of one that is gone, removed or replaced
/// by another, whose stream lets go of its claim after the file: a moment later.
///
/// # Errors
/// Whose it is.
fn claim(
    files: &Arc<OpenFiles>,
    id: FileId,
    stream: StreamId,
    may_be_new: bool,
) -> Result<Claim, StreamId> {
    let mut looks = 0;
    loop {
        match files.claim(id, stream) {
            Err(_) if may_be_new && looks < LOOKS_AT_CLAIM => {
                looks += 1;
                thread::sleep(LOOK_AT_CLAIM);
            }
            claimed => return claimed,
        }
    }
}

fn in_use(path: &Path, other: StreamId) -> Failure {
    let message = format!(
        "{} is already being written by stream {other}; choose another name, or wait (a stream that is \
         suspended lets go of its file after daemon.resume_grace, one that was aborted when the call ends in which \
         it hangs)",
        path.display()
    );
    Failure::new(ErrorCode::IN_USE, message)
}

/// Opens the file of a stream that goes on; its claim is older than this.
///
/// # Errors
/// What to tell the client. Then no file was changed.
pub(super) fn reopen(
    shop: &Shop,
    target: &Target,
    entry: &Entry,
    from: Kept,
) -> Result<Opened, Failure> {
    let known = Known {
        id: FileId { device: entry.device, inode: entry.inode },
        born: entry.born,
        other_path: target.ending.published_path(&target.path),
        reserved_bytes: entry.reserved_bytes,
        descriptors: None,
    };
    let path = &target.path;
    let opened = match from {
        Kept::Client(files) => adopt(shop, files, path, (Some(known), entry.client_uid)),
        Kept::Systemd(file) => {
            let known = Known { descriptors: Some(file), ..known };
            shop.disk.reopen(&target.roots, path, known)
        }
        Kept::Nobody => shop.disk.reopen(&target.roots, path, known),
    };
    opened.map_err(|error| error.failure())
}

/// Who has kept the file of a stream open from the daemon before to this one.
pub(super) enum Kept {
    Systemd(Descriptors),
    /// Who has brought it again.
    Client(Foreign),
    Nobody,
}

/// Takes a file that its client has opened.
fn adopt(
    shop: &Shop,
    files: Foreign,
    label: &Path,
    (known, user): (Option<Known>, Option<UserId>),
) -> Result<Opened, OpenError> {
    // Closed by this thread from here on, whatever comes of it: it is the stream's own.
    let Some(file) = Descriptors::given(files.take()) else {
        return Err(OpenError::BadGiven { path: label.to_owned(), what: "they are too few" });
    };
    let opened = shop.disk.adopt(file, label, known)?;
    let device = opened.device.of_user(user);
    Ok(Opened { device, ..opened })
}

/// What is to be done to a file before its first write.
struct Changes {
    empties: bool,
    /// Nobody else may have the name that it is to get.
    needs_free_name: bool,
    hint_bytes: u64,
}

/// Everything that can refuse, before the first change; then the changes.
fn prepare(
    opened: &mut Opened,
    device: &Device,
    (record, target): (&Record, &Target),
    Changes { empties, needs_free_name, hint_bytes }: Changes,
) -> Result<Option<Announcement>, Failure> {
    let path = &target.path;
    let io =
        |operation, source| OpenError::Io { path: path.to_owned(), operation, source }.failure();
    // Another one may have got its name before it was claimed: what is written then, nobody would find.
    if !opened.storage.is_named().map_err(|error| io("ask about", error))? {
        return Err(io("open", io::Error::other("its name was taken away meanwhile")));
    }
    let needs_free_name = needs_free_name && target.ending.publishes();
    if let Some(name) = target.ending.published_path(path).filter(|_| needs_free_name) {
        let taken_by = opened.storage.taken_by(name.file_name().unwrap_or_default());
        if taken_by.map_err(|error| io("ask about", error))?.is_some() {
            let source = io::ErrorKind::AlreadyExists.into();
            return Err(OpenError::Io { path: name, operation: "create", source }.failure());
        }
    }
    let announcement = match hint_bytes {
        0 => None,
        hint => Some(announce(opened, &device.space, (record.id, path), hint)?),
    };
    let is_to_be_emptied = empties && opened.len_bytes > 0;
    // A quota is known to nobody but the file system: it is asked while the old content is still there.
    reserve(opened, announcement.as_ref(), path, hint_bytes)?;
    if is_to_be_emptied {
        // An open may have taken so long that nobody waits for it any more, and this be somebody else's by now.
        if record.queue.is_given_up() {
            let message =
                format!("{} was given up by its client before it was open", path.display());
            return Err(Failure::new(ErrorCode::OPEN_FAILED, message));
        }
        opened.storage.set_len(0).map_err(|error| io("empty", error))?;
        opened.len_bytes = 0;
        reserve(opened, announcement.as_ref(), path, hint_bytes)?;
    }
    if let Some(announcement) = &announcement {
        announcement.taken(opened.len_bytes);
    }
    Ok(announcement)
}

fn reserve(
    opened: &mut Opened,
    announcement: Option<&Announcement>,
    path: &Path,
    hint_bytes: u64,
) -> Result<(), Failure> {
    let Some(announcement) = announcement else {
        return Ok(());
    };
    let is_reserved = opened.storage.reserve(hint_bytes).map_err(|error| match error {
        error if is_no_space(&error) => {
            let available = opened.storage.available_bytes().unwrap_or(0);
            let errno = error.raw_os_error();
            Failure { errno, ..no_space(path, hint_bytes, available, 0) }
        }
        source => {
            let (path, operation) = (path.to_owned(), "reserve space for");
            OpenError::Io { path, operation, source }.failure()
        }
    })?;
    announcement.asked(is_reserved);
    Ok(())
}

/// Refuses what does not fit beside what others have announced.
fn announce(
    opened: &mut Opened,
    space: &Arc<Space>,
    (stream, path): (StreamId, &Path),
    hint_bytes: u64,
) -> Result<Announcement, Failure> {
    let mut looks = 0;
    loop {
        let before = space.outstanding_bytes();
        let available = opened.storage.available_bytes();
        let available = available.map_err(|source| {
            OpenError::Io { path: path.to_owned(), operation: "ask about", source }.failure()
        })?;
        match space.announce(stream, hint_bytes, available, before) {
            Ok(announcement) => return Ok(announcement),
            // Somebody's space is being set aside right now, and may or may not be gone from what is free.
            Err(short) if short.is_unsure && looks < LOOKS_AT_SPACE => {
                looks += 1;
                thread::sleep(LOOK_AT_SPACE);
            }
            Err(short) => return Err(no_space(path, hint_bytes, available, short.others_bytes)),
        }
    }
}

fn no_space(path: &Path, hint: u64, available: u64, others: u64) -> Failure {
    let size = |bytes| bytesize::ByteSize(bytes).display().iec().to_string();
    let free = available.saturating_sub(others);
    let reserved = match others {
        0 => String::new(),
        others => format!(" beside the {} that other rips have announced", size(others)),
    };
    let message = format!(
        "not enough space for {}: it may need {}, and {} are available{reserved}; free {} or write elsewhere",
        path.display(),
        size(hint),
        size(free),
        size(hint.saturating_sub(free)),
    );
    Failure::new(ErrorCode::NO_SPACE_AHEAD, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_file_that_is_gone_is_free_in_a_moment_and_that_of_another_is_not() {
        let files = Arc::new(OpenFiles::default());
        let id = FileId { device: 1, inode: 2 };
        let gone = files.claim(id, 1).unwrap();
        assert_eq!(claim(&files, id, 2, false).err(), Some(1), "somebody else's, said at once");
        thread::scope(|scope| {
            let new = scope.spawn(|| claim(&files, id, 2, true));
            thread::sleep(2 * LOOK_AT_CLAIM);
            drop(gone);
            assert!(new.join().unwrap().is_ok());
        });
        let _written = files.claim(id, 3).unwrap();
        assert_eq!(claim(&files, id, 2, true).err(), Some(3), "and not waited for for ever");
    }
}
