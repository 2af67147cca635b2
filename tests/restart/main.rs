//! The daemon may die, stop and come back at any moment, and no rip notices: the real daemon as a process,
//! the real client library, no root. What needs a real systemd, or a disk that errs, is in `tests/root`.
#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    reason = "what fails in a test is a failed test, also in a function that several share"
)]

mod kills;
mod outcomes;
mod stops;
mod support;
