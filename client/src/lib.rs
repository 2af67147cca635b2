//! Write rips through `freemkvd`: the blocking client library, for muxers.
//!
//! [`RipFile`] is a drop-in for `File` and `BufWriter<File>`. It replaces the `BufWriter`, it does
//! not sit below one: small writes and seek-backs happen in its patch window, in memory, and only
//! whole slots of it go to the daemon.
//!
//! ```no_run
//! use std::io::{Seek, SeekFrom, Write};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut file = freemkvd_client::RipFile::create("/rips/film.mkv")?;
//! file.write_all(b"size unknown, content")?;
//! file.seek(SeekFrom::Start(0))?;
//! file.write_all(b"size")?;
//! file.finish()?; // complete and durable
//! # Ok(())
//! # }
//! ```
//!
//! What goes where:
//!
//! ```text
//! RipFile -> window (pure) -> outlet: remote -> link (pure) -> pump: two threads -> socket
//!                             |
//!                             local: a plain file, for hosts without a daemon
//! ```
//!
//! 1. The window is the only place where content waits; its slots, and those in flight, are all the
//!    memory that a stream takes. On Linux the daemon has it mapped too, and writes files from it:
//!    then only the places of content cross the socket.
//! 2. The muxer's thread never touches the socket. Each remote stream has a sender and a receiver.
//! 3. `window`, `slot`, `journal` and `link` know no I/O, no threads and no clock.
//! 4. A stream outlives its connection: what is not known to be written is sent again to the daemon that
//!    comes back. The muxer only waits.
//! 5. A file that this process opens for the daemon ([`OpenBy`]) goes with every connection of its stream, and
//!    stays open here until that has ended. Its name is changed by nobody else.

#[cfg(windows)]
#[path = "platform/pipe/cancel.rs"]
mod cancel;
#[cfg_attr(unix, path = "platform/directory/unix.rs")]
#[cfg_attr(not(unix), path = "platform/directory/none.rs")]
mod directory;
#[cfg_attr(unix, path = "platform/given/unix.rs")]
#[cfg_attr(not(unix), path = "platform/given/none.rs")]
mod given;
#[cfg_attr(unix, path = "platform/luggage/unix.rs")]
#[cfg_attr(not(unix), path = "platform/luggage/none.rs")]
mod luggage;
#[cfg_attr(target_os = "linux", path = "platform/memory/linux.rs")]
#[cfg_attr(not(target_os = "linux"), path = "platform/memory/none.rs")]
mod memory;
#[cfg_attr(unix, path = "platform/peer/unix.rs")]
#[cfg_attr(not(unix), path = "platform/peer/none.rs")]
mod peer;
#[cfg_attr(unix, path = "platform/unix.rs")]
#[cfg_attr(windows, path = "platform/windows.rs")]
mod platform;

mod aside;
mod connection;
pub mod control;
mod ending;
mod error;
mod journal;
mod link;
mod local;
mod locate;
#[cfg(target_os = "linux")]
mod mounts;
mod open_by;
mod options;
mod outlet;
mod progress;
mod pump;
mod remote;
mod slot;
mod stream;
mod window;

pub use error::Error;
pub use freemkvd_proto::{ErrorCode, Leftover};
pub use open_by::{OpenBy, OpenedBy};
pub use options::Options;
pub use progress::{Finished, Progress};
pub use stream::RipFile;
