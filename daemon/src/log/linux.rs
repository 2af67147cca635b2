//! The journal, when systemd has connected standard error to it.

use std::io;

use super::Sink;

/// The journal with its fields: `FREEMKVD_STREAM`, `FREEMKVD_PATH`, ..., see freemkvd(8).
pub(super) fn sink() -> Option<Sink> {
    let journal = if is_journal() { tracing_journald::layer().ok()? } else { return None };
    Some(Box::new(journal.with_field_prefix(Some("FREEMKVD".to_owned()))))
}

/// systemd names the journal's stream as `DEVICE:INODE`, so that a program whose standard error was
/// redirected after all can tell.
fn is_journal() -> bool {
    let Some(journal) = std::env::var("JOURNAL_STREAM").ok() else {
        return false;
    };
    let Ok(stat) = rustix::fs::fstat(io::stderr()) else {
        return false;
    };
    journal == format!("{}:{}", stat.st_dev, stat.st_ino)
}
