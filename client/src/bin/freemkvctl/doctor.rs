//! `freemkvctl doctor`: what a mount can do for rips, by trying it on a file without a name. It needs no daemon, and keeps out of
//! the way of one that writes there.
//!
//! Everything that it tells, and what it can't, is Linux's.

#[cfg_attr(target_os = "linux", path = "doctor/linux/mod.rs")]
#[cfg_attr(not(target_os = "linux"), path = "doctor/none.rs")]
mod platform;

pub(crate) use platform::run;
