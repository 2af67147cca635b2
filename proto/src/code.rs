//! [`ErrorCode`]: the number by which a client tells failures apart.

use core::fmt;

use serde::{Deserialize, Serialize};

/// What failed, as a stable number. Clients match on the code; the text beside it is for people.
///
/// | range | about |
/// |---|---|
/// | 100-199 | the peer broke a rule of the wire |
/// | 200-299 | `Open` was refused; no file was changed |
/// | 300-399 | an open stream failed |
/// | 400-499 | the daemon itself |
/// | 500-599 | a control request was refused |
///
/// A number is never used again for something else. A client meets numbers that it does not know
/// when the daemon is newer, and then goes by the range.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ErrorCode(pub u16);

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal, $text:literal;)+) => {
        impl ErrorCode {
            $($(#[doc = $doc])+ pub const $name: Self = Self($number);)+

            /// The code in words, without a full stop, or `None` for a number of a later version.
            #[must_use]
            pub const fn text(self) -> Option<&'static str> {
                match self {
                    $(Self::$name => Some($text),)+
                    _ => None,
                }
            }

            /// Every code of this version.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];
        }
    };
}

codes! {
    /// The hello did not begin with the magic, or its reserved bytes were not 0.
    BAD_HELLO = 100, "not a freemkvd client";
    /// No protocol version is known to both sides.
    VERSION = 101, "no common protocol version";
    /// A frame that can't be decoded: flags set, leftover bytes, a truncated or malformed body.
    BAD_FRAME = 102, "malformed frame";
    /// A body longer than its kind allows.
    FRAME_TOO_LARGE = 103, "frame too large";
    /// A kind that this version does not know, or one that only the other side may send.
    UNKNOWN_KIND = 104, "unknown kind of frame";
    /// A command at a time when it is not allowed.
    OUT_OF_SEQUENCE = 105, "command out of sequence";
    /// An offset or length beyond what a file can have.
    OFFSET_RANGE = 106, "offset out of range";
    /// The peer did not say in time what it wants.
    HANDSHAKE_TIMEOUT = 107, "no request within the handshake deadline";
    /// More connections than the daemon is configured for.
    TOO_MANY_CONNECTIONS = 108, "too many connections (limits.connections, limits.connections_per_user)";

    /// The configuration does not let this user do that.
    NOT_ALLOWED = 110, "not allowed for this user";

    /// A shared slot that does not exist, or a part of one that does not fit.
    BAD_SLOT = 109, "no such part of a shared slot";

    /// The path is not below one of the daemon's roots.
    OUTSIDE_ROOTS = 200, "outside the configured roots";
    /// The file, or the directory it should be created in, does not exist.
    NOT_FOUND = 201, "no such file or directory";
    /// The path names a directory, device, socket or FIFO.
    NOT_A_FILE = 202, "not a regular file";
    /// Another stream is writing this file.
    IN_USE = 203, "already being written by another stream";
    /// The file exists and the request was to create a new one.
    EXISTS = 204, "file exists";
    /// The daemon may not open or create the file.
    PERMISSION = 205, "permission denied";
    /// The file system is mounted read-only.
    READ_ONLY = 206, "read-only file system";
    /// More streams than the daemon is configured for.
    TOO_MANY_STREAMS = 207, "too many streams";
    /// The space for the size hint can't be reserved.
    NO_SPACE_AHEAD = 208, "not enough space for the size hint";
    /// Opening failed in another way; see errno.
    OPEN_FAILED = 209, "cannot open";
    /// The path is empty, relative, too long or holds a NUL byte.
    BAD_PATH = 210, "not a usable path";

    /// The shared slots are missing, are not sealed, or have another size than was said.
    BAD_SLOTS = 211, "not usable as shared slots";
    /// The weight is not one of those allowed.
    BAD_WEIGHT = 212, "weight out of range";
    /// No stream has the token that was to be resumed, or it is another user's.
    NO_SUCH_TOKEN = 213, "no such stream to resume";
    /// The stream to be resumed still has a connection.
    ATTACHED = 214, "the stream has a connection";
    /// The file of the stream to be resumed is gone, or another one has its name.
    FILE_CHANGED = 215, "the file is not the same any more";
    /// The stream is to be resumable, and what the next daemon would have to know of it can't be kept.
    CANNOT_KEEP = 217, "cannot be kept for a restart of the daemon";
    /// The daemon has not all the descriptors, threads or memory that the stream would need.
    NO_RESOURCES = 218, "not enough descriptors, threads or memory";

    /// A file that came with its stream is missing, no regular file, not open for writing, or not one file; or one,
    /// however it was opened, has a set-user-id bit.
    BAD_FILE = 219, "not usable as the file of a stream";

    /// The file has other names (hard links), which may be anybody's.
    LINKED = 220, "has other names";

    /// The file's device has not answered for so long that nothing new is begun on it.
    DEVICE_SILENT = 216, "the device does not answer";

    /// Reading, writing or syncing failed; see errno and offset.
    IO = 300, "input/output error";
    /// No space was left when writing.
    NO_SPACE = 301, "no space left on device";

    /// Somebody has aborted the stream from outside.
    ABORTED = 302, "aborted by an operator";
    /// The file is complete and durable, and could not be given its name.
    NOT_PUBLISHED = 303, "complete, but not under its name";

    /// The daemon is stopping and takes no new streams.
    GOING_AWAY = 400, "the daemon is shutting down";
    /// A fault of the daemon.
    INTERNAL = 401, "internal error";

    /// No open stream has this number.
    NO_SUCH_STREAM = 500, "no such stream";
    /// The stream is another user's.
    NOT_YOURS = 501, "the stream is another user's";
    /// A value out of its range.
    BAD_VALUE = 502, "value out of range";
    /// The configuration that was to be read again is not valid, or there is none.
    BAD_CONFIGURATION = 503, "the configuration cannot be used";
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.text() {
            Some(text) => f.write_str(text),
            None => write!(f, "error {}", self.0),
        }
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ErrorCode({}: {self})", self.0)
    }
}
