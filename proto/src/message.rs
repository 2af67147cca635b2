//! The bodies of control frames. Fields keep their order and variants are only appended: postcard
//! writes neither names nor lengths of structs.

#[cfg_attr(unix, path = "message/path_unix.rs")]
#[cfg_attr(not(unix), path = "message/path_text.rs")]
mod path;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::ErrorCode;
use crate::status::Status;
use crate::waits::{Waits, Why};

/// A path as bytes: what the file system holds on Unix, UTF-8 elsewhere. At most
/// [`crate::limits::PATH_BYTES_MAX`] bytes, absolute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WirePath(pub Vec<u8>);

impl WirePath {
    /// The path for the wire, or `None` when this platform can't express it as bytes.
    #[must_use]
    pub fn from_path(path: &Path) -> Option<Self> {
        path::to_bytes(path).map(Self)
    }

    /// The path on this platform, or `None` when the bytes are not one.
    #[must_use]
    pub fn into_path(self) -> Option<PathBuf> {
        if self.0.contains(&0) {
            return None;
        }
        path::from_bytes(self.0)
    }
}

/// How to treat a file that is there, or is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OpenMode {
    /// Create it; fail when it exists.
    CreateNew,
    /// Create it, or empty the one that exists.
    Create,
    /// Open the one that exists, without truncation.
    Existing,
}

/// How the content of `Write` travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Transfer {
    /// In the frame, after the header: `Write`.
    Inline,
    /// In memory that both sides have mapped: `WriteSlots`. The memory comes with the `Open` as a
    /// descriptor (`SCM_RIGHTS`), a memfd of `slots * SLOT_BYTES` bytes that can neither shrink nor
    /// grow any more (`F_SEAL_SHRINK`, `F_SEAL_GROW`). Linux only.
    Shared {
        /// How many slots, 1 to [`crate::limits::SLOTS_MAX`].
        slots: u32,
    },
}

/// Body of `Open`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// Which file.
    pub path: WirePath,
    /// What to do when it exists, or does not.
    pub mode: OpenMode,
    /// How long the file is likely to become, in bytes. The space is reserved now and what was too
    /// much is given back at the end.
    pub size_hint_bytes: Option<u64>,
    /// How content travels.
    pub transfer: Transfer,
    /// The stream's part of its device's speed, relative to the other streams there; one of
    /// [`crate::limits::WEIGHTS`].
    pub weight: u32,
    /// How many of the newest bytes shall stay in the page cache for patches; at most what the daemon
    /// is configured for, which is also what `None` asks for. 0 says that nothing will be patched.
    pub window_bytes: Option<u64>,
}

/// Body of `Seek`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seek {
    /// The new position, in bytes from the file's start; at most [`crate::limits::OFFSET_MAX`].
    pub offset: u64,
}

/// Body of `WriteZeroes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteZeroes {
    /// How many zero bytes.
    pub len: u64,
}

/// Body of `SetLen`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetLen {
    /// The file's new length in bytes; what is new reads as zeros.
    pub len: u64,
}

/// A piece of a shared slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotPart {
    /// Which slot, counted from 0.
    pub slot: u32,
    /// Where in it, in bytes.
    pub start: u32,
    /// How many bytes, at least 1; `start + len` is at most [`crate::limits::SLOT_BYTES`].
    pub len: u32,
}

/// Body of `WriteSlots`: content for the position, as `Write` has it, that lies in shared slots. The
/// client leaves these bytes as they are until the command is *written*.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteSlots {
    /// One after the other; 1 to [`crate::limits::SLOT_PARTS_MAX`] of them, and together at most
    /// [`crate::limits::WRITE_BYTES_MAX`].
    pub parts: Vec<SlotPart>,
}

/// Body of `SetWeight`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetWeight {
    /// The stream's number.
    pub stream: u64,
    /// Its new weight, one of [`crate::limits::WEIGHTS`].
    pub weight: u32,
}

/// What names a stream to this daemon and to the one that comes after it: 16 random bytes that the client
/// chooses, a secret of the two sides.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(pub [u8; 16]);

impl std::fmt::Debug for Token {
    /// It does not belong into a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

/// Body of `OpenResumable`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenResumable {
    /// What the stream is resumed by. Also by another `OpenResumable`, when the client has not heard what
    /// came of this one: it never opens a file twice.
    pub token: Token,
    /// The rest is as in `Open`.
    pub open: Open,
}

/// What becomes of a file whose stream ends without `Finish`: it failed, was aborted, or its client is gone
/// for good. A daemon that stops leaves the file as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Leftover {
    /// It stays as it is, under the name that it has.
    #[default]
    Keep,
    /// It stays, and is called [`PARTIAL`] if it is not yet.
    Partial,
    /// It is removed.
    Remove,
}

/// How a file's name ends that is not complete.
pub const PARTIAL: &str = ".partial";

/// What the file of `path` is called that is not complete: by its last name, whatever slashes follow it.
#[must_use]
pub fn partial_path(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(PARTIAL);
    path.with_file_name(name)
}

/// Body of `OpenFile`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenFile {
    /// What the stream is resumed by, as in [`OpenResumable`]; `None` for one that ends with the daemon.
    pub token: Option<Token>,
    /// The rest is as in `Open`.
    pub open: Open,
    /// The file is written under its name and [`PARTIAL`], and gets its own name by `Finish`, at once and
    /// as a whole. [`OpenMode::Create`] then replaces what has the name; the others never do.
    pub publish: bool,
    /// What becomes of it otherwise.
    pub leftover: Leftover,
}

impl OpenFile {
    /// True when it says no more than an `Open` or an `OpenResumable` can, which daemons of all versions know.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        !self.publish && self.leftover == Leftover::Keep
    }
}

/// Body of `OpenGiven`: a stream whose file the client has opened itself. Its descriptors come with the frame
/// (`SCM_RIGHTS`), after the memory of shared slots if there is any:
///
/// 1. the file, open for writing;
/// 2. the same file, opened once more (another open file description, not a copy), of which nothing is ever
///    asked but to sync;
/// 3. if `passes_directory`, the directory that has the file's name, to make that durable.
///
/// What becomes of the file's name is the client's business.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenGiven {
    /// What the stream is resumed by, as in [`OpenResumable`]; `None` for one that ends with the daemon.
    pub token: Option<Token>,
    /// What to call the file in status, log and errors: its path as the client sees it. Nothing is opened by
    /// it. At most [`crate::limits::LABEL_BYTES_MAX`] bytes, at least one, and no NUL.
    pub label: WirePath,
    /// Empty the file before the first write, once it is known that no other stream writes it.
    pub empties: bool,
    /// The third descriptor comes too.
    pub passes_directory: bool,
    /// As in `Open`.
    pub size_hint_bytes: Option<u64>,
    /// As in `Open`.
    pub transfer: Transfer,
    /// As in `Open`.
    pub weight: u32,
    /// As in `Open`.
    pub window_bytes: Option<u64>,
}

/// Body of `AbortStream`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AbortStream {
    /// The stream's number.
    pub stream: u64,
}

/// Body of `Reloaded`: what has changed in the configuration, each as in "budget.total from 64.0 MiB to 16.0 MiB".
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// What counts from now on.
    pub changed: Vec<String>,
    /// What counts after a restart of the daemon.
    pub needs_restart: Vec<String>,
}

/// Body of `PauseStream`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseStream {
    /// The stream's number.
    pub stream: u64,
    /// True to pause it, false to have it go on.
    pub pause: bool,
}

/// Body of `Resume`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    /// That of its `OpenResumable`.
    pub token: Token,
    /// How far the client knows that its commands were *written*. The next command is the one after it.
    pub written: Mark,
    /// How far it knows that they are *durable*, at most `written`.
    pub durable: Mark,
    /// Where the position is after the command up to which is written, in bytes; at most
    /// [`crate::limits::OFFSET_MAX`].
    pub position: u64,
    /// How content travels from here on. Shared slots come as a descriptor again, as with `Open`. So do the
    /// descriptors of a stream that was opened by [`OpenGiven`], as many and in the same order.
    pub transfer: Transfer,
}

/// Body of `Opened`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// The stream's number, unique while the daemon runs; `freemkvctl status` shows it.
    pub stream: u64,
    /// The file's length in bytes.
    pub len_bytes: u64,
    /// How many bytes the daemon queues for this stream before it stops reading.
    pub queue_limit_bytes: u64,
    /// How many of the newest bytes stay in the page cache for patches.
    pub window_bytes: u64,
    /// True when the shared slots that were offered are in use. False when there were none, or this
    /// daemon can't use any: then content goes inline.
    pub shared: bool,
}

/// Body of `Resumed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resumed {
    /// The stream's number; it has not changed.
    pub stream: u64,
    /// How many bytes the daemon queues for this stream before it stops reading.
    pub queue_limit_bytes: u64,
    /// True when the shared slots that were offered are in use, as in `Opened`.
    pub shared: bool,
    /// True when the file was never closed, so that no writeback error can have been missed. False when
    /// it had to be opened again: an error of which the kernel has nothing left to tell is not known.
    pub watched: bool,
}

/// How far the commands of a stream have come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Every command up to this number has come so far.
    pub sequence: u64,
    /// Bytes of content in those commands, patches counted again.
    pub bytes: u64,
}

/// Body of `Progress`. `durable <= written <= accepted`, and none ever goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// In the daemon's queue.
    pub accepted: Mark,
    /// Handed to the kernel; survives the daemon, not a power cut.
    pub written: Mark,
    /// Covered by an fsync that returned success.
    pub durable: Mark,
}

/// Body of `Finished`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finished {
    /// The file's length in bytes.
    pub len_bytes: u64,
    /// The final watermarks; all of them equal.
    pub progress: Progress,
}

/// Body of `Failed`: what went wrong, for a program and for a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// For a program.
    pub code: ErrorCode,
    /// The operating system's error number, if it was the one that failed.
    pub errno: Option<i32>,
    /// Where in the file, in bytes, if it was at a place.
    pub offset: Option<u64>,
    /// One sentence for a person: what failed, where, what to do.
    pub message: String,
}

impl Failure {
    /// A failure that has neither errno nor place.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, errno: None, offset: None, message: message.into() }
    }
}

/// Body of `GoingAway`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoingAway {
    /// How long the daemon goes on draining at most, in milliseconds.
    pub drain_ms: u64,
}

/// Everything a client sends, but for `Write`, whose content never passes through a decoder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Opens the connection's stream.
    Open(Open),
    /// Moves the position.
    Seek(Seek),
    /// Zero bytes at the position.
    WriteZeroes(WriteZeroes),
    /// Sets the file's length.
    SetLen(SetLen),
    /// Asks for progress.
    Flush,
    /// Asks for durability.
    Sync,
    /// Completes the file.
    Finish,
    /// Gives the stream up.
    Abort,
    /// Asks for a status report.
    Status,
    /// Content for the position, in shared slots.
    WriteSlots(WriteSlots),
    /// Changes the weight of a stream.
    SetWeight(SetWeight),
    /// Goes on with a stream whose connection was lost.
    Resume(Resume),
    /// Asks the daemon to write what it has accepted, and to stop.
    Drain,
    /// Opens the connection's stream, which is to outlive the daemon.
    OpenResumable(OpenResumable),
    /// Opens the connection's stream, and says what becomes of its file.
    OpenFile(OpenFile),
    /// Gives up a stream of another connection.
    AbortStream(AbortStream),
    /// Asks where the time of a stream went.
    Why(Why),
    /// Has a stream written no further for now, or again.
    PauseStream(PauseStream),
    /// Asks for metrics.
    Metrics,
    /// Asks the daemon to read its configuration again.
    Reload,
    /// Opens the connection's stream on a file that comes with it.
    OpenGiven(OpenGiven),
}

/// Everything the daemon sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Answers `Open`.
    Opened(Opened),
    /// The watermarks.
    Progress(Progress),
    /// Answers `Sync`.
    Synced,
    /// Answers `Finish`.
    Finished(Finished),
    /// Answers `Abort`.
    Aborted,
    /// The stream or the request failed.
    Failed(Failure),
    /// The daemon is about to stop.
    GoingAway(GoingAway),
    /// Answers `Status`.
    StatusReport(Status),
    /// The same since version 6.
    FullReport(Status),
    /// Answers `Why`.
    Waits(Waits),
    /// Answers `Metrics`: OpenMetrics text.
    MetricsText(String),
    /// Answers `Reload`.
    Reloaded(Reloaded),
    /// Answers `SetWeight`, `Drain`, `AbortStream` and `PauseStream`.
    Done,
    /// Says that the stream can be resumed.
    Resumable,
    /// Answers `Resume`.
    Resumed(Resumed),
}
