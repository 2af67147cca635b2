//! What holds on every platform, with a real daemon and real muxer processes: over a socket here, over a named pipe on
//! Windows. What only Linux has is in `e2e` and `restart`.
#![expect(clippy::unwrap_used, reason = "tests")]

mod restarts;
mod streams;
mod support;
