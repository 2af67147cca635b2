//! As std's own writes: without SIGPIPE.

use rustix::net::SendFlags;

pub(super) const FLAGS: SendFlags = SendFlags::NOSIGNAL;
