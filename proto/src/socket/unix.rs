//! The other Unixes.

pub(super) const SYSTEM_SOCKET: &str = "/var/run/freemkvd/freemkvd.sock";
