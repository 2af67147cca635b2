//! Nobody watches.

use std::time::Duration;

pub use super::nothing_kept::*;

/// How a daemon is stopped.
pub const HOW_TO_STOP: &str = "by SIGTERM";
/// What helps when a file may not be opened.
pub const HOW_TO_ALLOW: &str = "; let the daemon's user write there";
/// What helps when a file lies where nothing can be written.
pub const HOW_TO_MAKE_WRITABLE: &str = "; remount it writable";
/// What helps when there is no room for one more file.
pub const HOW_TO_MAKE_ROOM: &str =
    "; raise the limit of open files, or wait until another stream has ended";

/// The daemon serves.
pub fn ready() {}

/// The configuration is being read again; [`ready`] follows.
pub fn reloading() {}

/// The daemon drains.
pub fn stopping() {}

/// The drain may take that much longer from now on.
pub fn extend(_time: Duration) {}

/// The control loop runs, and how things are.
pub fn alive(_sentence: &str) {}
