//! macOS: `/var/run` is emptied by each boot, and then only root could make a directory there.

pub(super) const SYSTEM_SOCKET: &str = "/usr/local/var/run/freemkvd/freemkvd.sock";
