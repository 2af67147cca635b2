//! What the tests, the demo and the benchmark of freemkvd share.
//!
//! `daemon` runs a real one on a private socket, [`programs`] builds what is under test,
//! [`trace`] plays real muxers against any [`sink::Sink`], [`counted`] measures what that did to the
//! caller, [`verify`] says whether the file is right, and [`ops`] tries what no muxer would.
//! `peer` and `slots` break the rules of the wire, `hold` makes a thread hang as a dead device does, and
//! `rips` are muxers that rip one title after the other and say what they felt of whatever happens to
//! the daemon meanwhile. `faults` is storage in memory that fails when it is told to, and what a power cut
//! would leave of it. [`pattern`] is content that can be checked at any length. `extents` counts the pieces of a file.

pub mod counted;
pub mod daemon;
#[cfg(target_os = "linux")]
pub mod extents;
#[cfg(target_os = "linux")]
pub mod faults;
pub mod fuzz;
#[cfg(target_os = "linux")]
pub mod hold;
pub mod ops;
pub mod pattern;
#[cfg(unix)]
pub mod peer;
pub mod programs;
pub mod rips;
pub mod sink;
#[cfg(target_os = "linux")]
pub mod slots;
pub mod sparse;
pub mod trace;
pub mod verify;
