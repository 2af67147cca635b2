//! Nobody watches.

use std::time::Duration;

pub use super::nothing_kept::*;

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
