//! Who is at the other end of a connection, as the kernel noted it when they connected. What they have become
//! since then does not matter, and nobody is asked who might not answer.
//!
//! The groups are those of the process itself (`SO_PEERGROUPS`), and not what the user database has for the
//! user: a membership that was given since the last login is not there yet, one that a container or a service
//! manager has added is, and no directory service is between.
//!
//! On Windows the system tells it only after the first bytes were read ([`heard`]).

#[cfg_attr(target_os = "linux", path = "linux.rs")]
#[cfg_attr(all(unix, not(target_os = "linux")), path = "unix.rs")]
#[cfg_attr(windows, path = "windows.rs")]
mod platform;

pub(super) use platform::{heard, peer};
