//! What the tests, the demo and the benchmark of freemkvd share.
//!
//! [`trace`] plays real muxers against any [`sink::Sink`], [`counted`] measures what that did to the
//! caller, [`verify`] says whether the file is right, and [`ops`] tries what no muxer would.

pub mod counted;
pub mod ops;
pub mod sink;
pub mod sparse;
pub mod trace;
pub mod verify;
