//! Write rips through `freemkvd`: the blocking client library.

#[cfg_attr(unix, path = "platform/unix.rs")]
#[cfg_attr(not(unix), path = "platform/other.rs")]
mod platform;

mod connection;
pub mod control;
mod error;
mod locate;

pub use error::Error;
