//! Every maximum of the wire, in one place, with the reason for its size.

/// Largest body of a `Write`, in bytes. libfreemkv's muxers write at most about 4 MiB at once, and a
/// queue of 32 MiB still holds several of them.
pub const WRITE_BYTES_MAX: u32 = 4 << 20;

/// Largest body of any other command, in bytes: a path and a handful of numbers.
pub const CONTROL_BYTES_MAX: u32 = 16 << 10;

/// Largest body of an answer, in bytes: a status report of more than 4000 streams.
pub const REPLY_BYTES_MAX: u32 = 4 << 20;

/// Longest path in bytes, `PATH_MAX` of Linux without its final NUL.
pub const PATH_BYTES_MAX: usize = 4095;

/// Highest file offset plus one: `off_t` is signed on every platform served.
pub const OFFSET_MAX: u64 = i64::MAX as u64;

const _: () = assert!(PATH_BYTES_MAX < CONTROL_BYTES_MAX as usize, "an Open must fit its frame");
