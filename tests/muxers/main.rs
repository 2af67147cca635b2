//! Muxers that nobody here wrote, through a real daemon: ffmpeg and mkvmerge piped into
//! `freemkvctl write`, and a library that takes `Write + Seek`. Each result is compared with the same
//! run on a plain file.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "tests")]

mod library;
mod pipes;
