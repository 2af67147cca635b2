//! Linux: `/run` is in memory, and made anew by each boot.

pub(super) const SYSTEM_SOCKET: &str = "/run/freemkvd/freemkvd.sock";
