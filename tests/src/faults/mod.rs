//! Storage that fails when it is told to, for tests of whoever writes through `freemkvd`.
//!
//! A [`FaultDisk`] is a file system in memory, behind the daemon's own traits `Open` and `Storage`. It knows
//! what the kernel knows of every page (dirty, in writeback, in the device's cache, on the medium) and of
//! every name, so a test can ask at any moment what a power cut would leave ([`FaultDisk::crash`]), and hold
//! what the daemon has said against it. A [`Script`] says which calls fail, hang, take long or come to an end
//! in the middle. [`Served`] is a whole daemon over such a disk, in this process, on a private socket, for the
//! real client library to write through.
//!
//! ```
//! use freemkvd_tests::faults::{Call, Fault, FaultDisk, Ground, Served};
//! use std::io::Write;
//!
//! let disk = FaultDisk::new("/rips", Ground::default());
//! let daemon = Served::start(&[&disk], |_| {});
//! disk.script().fail(Call::SyncContent, 1, Fault::Error(5));
//! let mut file = daemon.options().create("/rips/film.mkv").unwrap();
//! file.write_all(b"content").unwrap();
//! let error = file.finish().unwrap_err();
//! assert_eq!(freemkvd_client::Error::inside(&error).unwrap().errno(), Some(5));
//! daemon.stop();
//! ```
//!
//! What it does not have: reading, real time (writeback ends when somebody looks or waits), and the call
//! numbers of a real kernel. Each file says what exactly it injects.

mod crash;
mod disk;
mod file;
mod inode;
mod kernel;
mod script;
mod served;

pub use crash::{Image, ImageFile};
pub use disk::{Counts, FaultDisk, Ground};
pub use inode::{PAGE_BYTES, Page};
pub use script::{Call, Fault, Fired, Rule, Script};
pub use served::Served;
