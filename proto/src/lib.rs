//! The wire between a muxer and `freemkvd`, and nothing else: no I/O, no clock, no allocation that a
//! peer can ask for. This page is the specification; a client in another language can be written
//! from it. The bytes named here are pinned by tests in this crate.
//!
//! # Transport
//!
//! A reliable byte stream on one host: a Unix socket, or a named pipe in byte mode on Windows.
//! [`socket`] says where it is found. All integers are little-endian.
//!
//! # Hello
//!
//! The client speaks first, 16 bytes, and the daemon answers with 16 bytes. These two messages are
//! frozen: every future version begins with them. See [`hello`].
//!
//! ```text
//!  client  0        8        10       12           16
//!          | magic  | lowest | highest| reserved 0 |     magic = "FREEMKVD"
//!  daemon  0        8        10       12       14       16
//!          | magic  | version| lowest | highest| reason |
//! ```
//!
//! `version` is the highest that both sides know. It is 0 when the daemon refuses; then `reason` is
//! an [`ErrorCode`] that says why, `lowest` and `highest` say what the daemon speaks, and the daemon
//! closes the connection.
//!
//! # Frames
//!
//! After the hello both sides send frames: a header of 16 bytes and a body.
//!
//! ```text
//!  0      2       4        8                 16                16 + length
//!  | kind | flags | length | sequence number | body ...         |
//! ```
//!
//! * `kind` is a [`Kind`]. An unknown kind is an error, not something to skip.
//! * `flags` are 0 in version 1; any other value is an error.
//! * `length` counts the body's bytes. It is checked against the kind's own maximum
//!   ([`Kind::body_bytes_max`]) before a byte of memory is set aside for it.
//! * The body of `Write` is raw file content. Every other body is [postcard] of the struct that the
//!   kind names in [`message`], or empty; bytes left over after it are an error.
//!
//! [postcard]: https://postcard.jamesmunns.com/wire-format
//!
//! # Commands
//!
//! One stream per connection. The first frame is `Open` with sequence number 0; every command after
//! it is numbered 1, 2, 3 and so on, without a gap. A stream has a position, which starts at 0;
//! `Write` and `WriteZeroes` move it.
//!
//! | kind | body | answered by |
//! |---|---|---|
//! | `Open` | [`Open`] | `Opened`, or `Failed` and the connection ends |
//! | `Write` | 1 to 4 MiB of content for the position | `Progress`, sooner or later |
//! | `Seek` | [`Seek`]: the new position, absolute | - |
//! | `WriteZeroes` | [`WriteZeroes`]: so many zero bytes at the position | `Progress`, sooner or later |
//! | `SetLen` | [`SetLen`]: the file's new length; the position stays | `Progress`, sooner or later |
//! | `Flush` | empty | a `Progress` as soon as everything before it is *written* |
//! | `Sync` | empty | `Synced` with the sequence number of the `Sync`, once all before it is *durable* |
//! | `Finish` | empty | `Finished` once the file is complete and durable; the connection ends |
//! | `Abort` | empty | `Aborted`; what is queued is dropped, the file stays as it is; the connection ends |
//!
//! A command before `Open`, a second `Open` or a number out of order is an error. What comes after
//! `Finish` or `Abort` is not read as commands any more and has no effect. `Status` is the one request of a connection of its own: its sequence number
//! is chosen by the client and comes back in the `StatusReport`. It may be sent any number of times.
//!
//! # Answers
//!
//! | kind | body | meaning |
//! |---|---|---|
//! | `Opened` | [`Opened`] | the stream's number, the file's length, the limits that hold |
//! | `Progress` | [`Progress`] | the three watermarks below; never goes back |
//! | `Synced` | empty | the `Sync` of that sequence number succeeded |
//! | `Finished` | [`Finished`] | the file is complete and durable |
//! | `Aborted` | empty | the stream is gone, the file is closed |
//! | `Failed` | [`Failure`] | the stream (or the request) failed for good; nothing more is written |
//! | `GoingAway` | [`GoingAway`] | the daemon is about to stop; it drains what it has accepted |
//! | `StatusReport` | [`status::Status`] | a snapshot from the daemon's memory |
//!
//! # Watermarks
//!
//! Each is a [`Mark`]: the highest sequence number up to which every command has come so far, and
//! how many bytes of content those commands carried.
//!
//! * **accepted**: in the daemon's queue.
//! * **written**: handed to the kernel; survives the daemon, not a power cut.
//! * **durable**: an fsync that covers it returned success. Nothing else is ever called durable.
//!
//! `durable <= written <= accepted`. A client keeps each command until it is *written*.
//!
//! # Backpressure
//!
//! The daemon stops reading a connection whose queue is full; the client's next write to the socket
//! blocks. There are no credits. A client must keep reading answers while it is blocked.
//!
//! # Errors
//!
//! A peer that breaks a rule gets one `Failed` with a code of the 100s and is disconnected; what it
//! had sent before stays accepted and is written; a `Write` that the end of the connection cuts off
//! may be written in part and is never counted. After the first I/O error a stream is *latched*:
//! `Failed` is sent once, nothing more is written, and later commands are read and dropped until the
//! client closes. See [`ErrorCode`] for the numbers.

mod code;
mod codec;
mod frame;
pub mod hello;
pub mod limits;
pub mod message;
pub mod socket;
pub mod status;

pub use code::ErrorCode;
pub use codec::{Decoder, Step};
pub use frame::{FrameError, HEADER_BYTES, Header, Kind, Sender};
pub use message::{
    Command, Failure, Finished, GoingAway, Mark, Open, OpenMode, Opened, Progress, Reply, Seek,
    SetLen, WirePath, WriteZeroes,
};
