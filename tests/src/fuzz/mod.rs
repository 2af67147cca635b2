//! What is fuzzed: each function takes any bytes, does something with the wire or with a daemon, and panics
//! when that breaks a promise.
//!
//! `tests/fuzz/` has them run by libFuzzer; `cargo test` runs them over the inputs that are checked in there
//! (`tests/tests/corpus.rs`). Nothing here depends on time or chance but where its page says so.

#[cfg(target_os = "linux")]
mod connection;
mod decoder;
mod hello;

#[cfg(target_os = "linux")]
pub use connection::{connection, end_connections};
pub use decoder::decoder;
pub use hello::hello;
