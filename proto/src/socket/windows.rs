//! Windows: a named pipe.

pub(super) const SYSTEM_SOCKET: &str = r"\\.\pipe\freemkvd";

/// What a client may do with the pipe, and asks for: read and write it and its attributes, and wait for it
/// (`FILE_GENERIC_READ | FILE_GENERIC_WRITE` of winnt.h), but for the right to serve it as well, which the latter has
/// in the same bit as appending (`FILE_CREATE_PIPE_INSTANCE`).
pub const PIPE_ACCESS: u32 = 0x0012_019b;
