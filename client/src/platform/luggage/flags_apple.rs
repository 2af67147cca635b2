//! macOS: what keeps a send from raising SIGPIPE is an option of the socket.

use rustix::net::SendFlags;

pub(super) const FLAGS: SendFlags = SendFlags::empty();
