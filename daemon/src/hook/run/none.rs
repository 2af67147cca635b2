//! Where a program can't be ended together with those that it has started: none is run.

use std::ffi::OsString;
use std::io;
use std::time::{Duration, Instant};

use super::{Failure, Program};

/// Whether there can be a hook.
pub const IS_AVAILABLE: bool = false;

/// Descriptors that it takes.
pub const DESCRIPTORS: u64 = 0;

/// No process here is the first step of a hook.
#[must_use]
pub fn second_step() -> Option<u8> {
    None
}

/// Runs nothing.
pub(super) fn run(
    _program: &Program,
    _variables: &[(&'static str, OsString)],
    _timeout: Duration,
    _ends_at: &dyn Fn() -> Option<Instant>,
    _say: &mut dyn FnMut(&str),
) -> Result<(), Failure> {
    Err(Failure::Start(io::ErrorKind::Unsupported.into()))
}
