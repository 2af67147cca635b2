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
//! * `flags` are 0 in this version; any other value is an error.
//! * `length` counts the body's bytes. It is checked against the kind's own maximum
//!   ([`Kind::body_bytes_max`]) before a byte of memory is set aside for it.
//! * The body of `Write` is raw file content. Every other body is [postcard] of the struct that the
//!   kind names in [`message`], or empty; bytes left over after it are an error.
//!
//! [postcard]: https://postcard.jamesmunns.com/wire-format
//!
//! # Commands
//!
//! One stream per connection. The first frame is `Open`, `OpenResumable`, `OpenFile`, `OpenGiven` or `Resume` with
//! sequence number 0; every command after it is numbered 1, 2, 3 and so on, without a gap. A stream has a position, which starts at 0;
//! `Write` and `WriteZeroes` move it.
//!
//! | kind | body | answered by |
//! |---|---|---|
//! | `Open` | [`Open`] | `Opened`, or `Failed` and the connection ends |
//! | `OpenResumable` | [`OpenResumable`] | `Resumable` if the stream will outlive the daemon, and then as `Open` |
//! | `OpenFile` | [`OpenFile`] | as `OpenResumable` if it has a token, else as `Open`; since version 4 |
//! | `OpenGiven` | [`OpenGiven`], with the file itself | as `OpenFile`; since version 5; on Linux alone |
//! | `Resume` | [`Resume`] | `Resumed`; or `Finished` or `Failed`, and the connection ends |
//! | `Write` | 1 byte to 4 MiB of content for the position | `Progress`, sooner or later |
//! | `WriteSlots` | [`WriteSlots`]: where content for the position lies in shared slots | `Progress`, sooner or later |
//! | `Seek` | [`Seek`]: the new position, absolute | - |
//! | `WriteZeroes` | [`WriteZeroes`]: so many zero bytes at the position | `Progress`, sooner or later |
//! | `SetLen` | [`SetLen`]: the file's new length; the position stays | `Progress`, sooner or later |
//! | `Flush` | empty | a `Progress` as soon as everything before it is *written* |
//! | `Sync` | empty | `Synced` with the sequence number of the `Sync`, once all before it is *durable* |
//! | `Finish` | empty | `Finished` once the file is complete, durable, and has its name; the connection ends |
//! | `Abort` | empty | `Aborted`; what is queued is dropped, the file becomes what was chosen at open, and stays as it is if nothing was; the connection ends |
//!
//! A command before `Open`, a second `Open` or a number out of order is an error. What comes after
//! `Finish` or `Abort` is not read as commands any more and has no effect.
//!
//! # What becomes of the file
//!
//! Since version 4 the client can say so, by `OpenFile`.
//!
//! * With `publish` the file is opened as `NAME.partial`, by all the rules of its [`OpenMode`], and `Finish`
//!   makes it durable, gives it the name `NAME` in one step, and makes that durable. With
//!   [`OpenMode::Create`] it then replaces a file of that name. The other modes never do: with
//!   [`OpenMode::CreateNew`] a file of that name is refused at once ([`ErrorCode::EXISTS`]), and one that
//!   comes later ends the stream by [`ErrorCode::NOT_PUBLISHED`]; the file is complete and durable then, as
//!   `NAME.partial`. [`OpenMode::Existing`] goes on with a `NAME.partial` that is there.
//! * A stream that ends without `Finish` leaves its file as [`Leftover`] says. A complete file is never
//!   removed. What is to be removed loses its name first, and then its space step by step.
//! * A crash between these steps leaves the file under one of its two names, whole if it was complete.
//!   `Resume` finds it under either, and `Finish` does what is left to do.
//!
//! # Files that come with their stream
//!
//! Since version 5 a client on Unix can open the file itself, twice, and pass the descriptors with
//! [`OpenGiven`]: ancillary data (`SCM_RIGHTS`) of a `sendmsg` that begins within that frame. Then owner, mode
//! and meaning of the path are the client's, whoever the daemon is and whatever it has mounted where, and the
//! daemon opens nothing.
//!
//! * The daemon takes a regular file that both descriptors have open for writing (and not with `O_APPEND`),
//!   by two open file descriptions. Anything else, one descriptor too few and one too many, is
//!   [`ErrorCode::BAD_FILE`]; no file was changed then. Roots do not matter.
//! * The client keeps its own descriptors open until the stream has ended. With `Resume` it passes the same
//!   ones again, so that the file is never closed in between.
//! * Names are the client's: to create the file, to rename it when it is complete, and to remove what is left
//!   of it. `Finished` says that content, length, and the name that the file had are durable, the last if the
//!   directory was passed.
//! * The client leaves the file alone. What it changes under the daemon (cuts it off, removes its name, takes
//!   rights away) harms that file and nothing else.
//!
//! # No space
//!
//! A write for which there is no space is not the end: the daemon tries the same bytes at the same place
//! again until there is, and reads no more of the connection meanwhile than its queue holds. If it waits longer than its
//! configuration allows, the stream fails with [`ErrorCode::NO_SPACE`].
//!
//! # Shared slots
//!
//! On Linux content can stay where the client has it. The client makes a memfd of
//! `slots * SLOT_BYTES` bytes, with [`limits::SLOT_BYTES`] of 1 MiB and 1 to [`limits::SLOTS_MAX`]
//! slots, and seals it with `F_SEAL_SHRINK` and `F_SEAL_GROW` (other seals are its own business;
//! `F_SEAL_FUTURE_WRITE` after it has mapped it is a good one). `Open` says
//! [`Transfer::Shared`], and the descriptor comes with it: ancillary data
//! (`SCM_RIGHTS`) of a `sendmsg` that begins within the `Open` frame, and not within the hello. The
//! daemon maps it read-only.
//!
//! * A memfd that is missing, has another size, or can still shrink or grow, a descriptor that is none,
//!   and more than one, are refused with [`ErrorCode::BAD_SLOTS`], before any file is opened. So is a
//!   descriptor that comes with an `Open` for inline content or with another first frame. One that comes with the
//!   hello or with any later frame breaks the rules, and ends the connection.
//! * `Opened` says whether the slots are in use. If they are not (another platform, no memory for the
//!   mapping), content goes inline as if they had not been offered.
//! * `WriteSlots` names 1 to [`limits::SLOT_PARTS_MAX`] parts, in the order in which they go to the
//!   file: each a slot, a start and a length of at least 1 byte, within that slot; all parts together at
//!   most [`limits::WRITE_BYTES_MAX`]. Anything else is [`ErrorCode::BAD_SLOT`]. On a stream without
//!   shared slots the command is [`ErrorCode::OUT_OF_SEQUENCE`].
//! * **The client leaves these bytes as they are until the command is *written*.** The daemon reads them
//!   at any time before that, once or more often, and believes nothing about them. A client that
//!   changes them early gets a file with either bytes, or a mix; no other stream is touched.
//! * `Write` stays allowed, and both kinds may be mixed.
//! * The slots belong to the stream: the daemon lets go of them when the stream has ended. It keeps them
//!   when the client dies, and writes what it had accepted.
//!
//! # Resuming
//!
//! Since version 3 a stream can outlive its daemon. The client opens it by [`OpenResumable`], with a [`Token`]
//! of its own, and the daemon says `Resumable` right before `Opened` if it is able to. A client that has lost
//! the connection before `Opened` sends the same `OpenResumable` again: whether the file was opened or not, it
//! is opened once. (Between the making of a new file and its entry in the daemon's ledger is a moment in
//! which a kill leaves an empty file behind, and then [`OpenMode::CreateNew`] finds it.) Later, when the connection ends although the client has not seen `Finished`,
//! `Aborted` or `Failed`, the client connects again, as often as it takes, and its first frame is
//! [`Resume`] with that token. It says up to which command it knows that all is *written*; the numbering
//! goes on from there, and so does the position.
//!
//! * After `Resumed` the client sends **every command after that one again**, in the same order and with
//!   the same numbers. The daemon before may have executed some of them, the last one in part. Offsets are
//!   absolute and the order is the same, so the file comes out as if it had not.
//! * An answer that had not come is asked for again. A `Sync` that was *written* and not answered gets a new
//!   number at the end; so does a `Finish`.
//! * A stream that was complete is answered by `Finished`, one that had failed by `Failed`, as if the
//!   connection had not been lost.
//! * Slots keep what they hold until the command is *written*, as ever, and their memory comes again with
//!   `Resume`.
//! * [`ErrorCode::ATTACHED`] (the daemon has not noticed yet that the connection is gone),
//!   [`ErrorCode::GOING_AWAY`] and [`ErrorCode::TOO_MANY_CONNECTIONS`] mean: try again.
//!   [`ErrorCode::NO_SUCH_TOKEN`] and [`ErrorCode::FILE_CHANGED`] end the stream. The first is also what
//!   a stream is answered by that was aborted.
//! * A stream that nobody resumes for a while is written, closed and reported.
//! * The token is known to both sides only; besides, only the stream's own user can resume it.
//!
//! # Requests
//!
//! A connection may begin with a request in place of `Open`, and then consists of requests. Their
//! sequence numbers are chosen by the client and come back in the answers; any number of them may
//! follow each other.
//!
//! | kind | body | answered by |
//! |---|---|---|
//! | `Status` | empty | `StatusReport` |
//! | `SetWeight` | [`SetWeight`]: a stream and its new weight | `Done`, or `Failed` with a code of the 500s, after which the connection goes on |
//! | `Drain` | empty | `Done`, and then the daemon stops as by `SIGTERM`; since version 3 |
//! | `Why` | [`waits::Why`]: a stream | `Waits`, or `Failed` as above; of streams that ended within a day, too; since version 7 |
//! | `Metrics` | empty | `MetricsText`; since version 8 |
//! | `Reload` | empty | `Reloaded` when the configuration was read again and is in use, or `Failed` as above when it is kept as it was; since version 9 |
//! | `AbortStream` | [`AbortStream`] | `Done` at once, whatever its device does; the stream's own client gets `Failed` with [`ErrorCode::ABORTED`]; since version 4 |
//! | `PauseStream` | [`PauseStream`] | `Done` at once; the stream writes what it has begun and then nothing more, until it is to go on, its muxer is gone or the daemon stops; since version 7 |
//!
//! A weight is one of [`limits::WEIGHTS`]. Who may change that of a stream, pause and abort one: the user who writes it, the
//! user that the daemon runs as, root, and whoever else the daemon is configured for. A client that may not open a
//! stream, or not ask for the status, gets [`ErrorCode::NOT_ALLOWED`] as the answer to that, and is disconnected.
//! One that asks faster than it is answered waits: the daemon answers all requests of one user in turn.
//!
//! # Answers
//!
//! | kind | body | meaning |
//! |---|---|---|
//! | `Resumable` | empty | since version 3: the stream outlives the daemon |
//! | `Resumed` | [`Resumed`] | since version 3: the stream goes on |
//! | `Opened` | [`Opened`] | the stream's number, the file's length, the limits that hold |
//! | `Progress` | [`Progress`] | the three watermarks below; never goes back |
//! | `Synced` | empty | the `Sync` of that sequence number succeeded |
//! | `Finished` | [`Finished`] | the file is complete and durable |
//! | `Aborted` | empty | the stream is gone, the file is closed |
//! | `Failed` | [`Failure`] | the stream (or the request) failed for good; nothing more is written |
//! | `GoingAway` | [`GoingAway`] | the daemon is about to stop; it drains what it has accepted |
//! | `StatusReport` | [`status::Status`] | a snapshot from the daemon's memory; up to version 5 |
//! | `FullReport` | [`status::Status`], [`status::Since6`], [`status::Since9`] | the same since version 6; the last block since version 9, if there are streams |
//! | `Waits` | [`waits::Waits`] | since version 7: where the time of the stream went |
//! | `MetricsText` | a string | since version 8: everything that can be counted, as OpenMetrics text with its end mark |
//! | `Reloaded` | [`Reloaded`] | since version 9: what has changed in the configuration |
//! | `Done` | empty | the request with nothing else to tell has taken effect |
//!
//! # Watermarks
//!
//! Each is a [`Mark`]: the highest sequence number up to which every command has come so far, and
//! how many bytes of content those commands carried, zeros of `WriteZeroes` among them.
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
//! blocks. There are no credits. A client must keep reading answers while it is blocked. Content in
//! shared slots takes no memory of the daemon's; of that a queue takes as much as the slots hold.
//!
//! # Errors
//!
//! A peer that breaks a rule gets one `Failed` with a code of the 100s and is disconnected; what it
//! had sent before stays accepted and is written; a `Write` that the end of the connection cuts off
//! may be written in part and is never counted. After the first I/O error a stream is *latched*:
//! `Failed` is sent once, nothing more is written, and later commands are read and dropped until the
//! client closes. See [`ErrorCode`] for the numbers.
//!
//! # Versions
//!
//! 1 was in no release and is no longer spoken. 2 brought shared slots, weights, the window of a stream,
//! and a status report with what the kernel counts. 3 brought `Resume`, and with it [`Kind::since`]: on a
//! connection of version 2 its kinds are unknown, and a suspended stream is shown as idle. 4 brought `OpenFile`
//! and `AbortStream`; to older versions a stream without space is shown as throttled. 5 brought `OpenGiven`.
//! 6 brought `FullReport`, which grows by a block for each version that has more to tell. 7
//! brought `Why` and `PauseStream`; to older versions a paused stream is shown as idle. 8 brought `Metrics`, and 9 the
//! second block of `FullReport`, and `Reload`.
//! See [`hello::VERSION_HIGHEST`].

mod code;
mod codec;
mod frame;
pub mod hello;
pub mod limits;
pub mod message;
pub mod socket;
pub mod status;
pub mod waits;

pub use code::ErrorCode;
pub use codec::{Decoder, Step};
pub use frame::{FrameError, HEADER_BYTES, Header, Kind, Sender};
pub use message::{
    AbortStream, Command, Failure, Finished, GoingAway, Leftover, Mark, Open, OpenFile, OpenGiven,
    OpenMode, OpenResumable, Opened, PARTIAL, PauseStream, Progress, Reloaded, Reply, Resume,
    Resumed, Seek, SetLen, SetWeight, SlotPart, Token, Transfer, WirePath, WriteSlots, WriteZeroes,
    partial_path,
};
