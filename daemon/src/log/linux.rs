//! The journal, when systemd has connected standard error to it.

use std::io;

use tracing_subscriber::Registry;
use tracing_subscriber::layer::{Layered, SubscriberExt};

use super::message::Message;
use super::queue::Sink;

/// The journal with its fields: `FREEMKVD_STREAM`, `FREEMKVD_PATH`, ..., see freemkvd(8).
struct Journal(Layered<tracing_journald::Layer, Registry>);

impl Sink for Journal {
    fn take(&mut self, message: &Message) {
        message.tell(&self.0);
    }
}

pub(super) fn sink() -> Option<Box<dyn Sink>> {
    let journal = if is_journal() { tracing_journald::layer().ok()? } else { return None };
    let journal = journal.with_field_prefix(Some("FREEMKVD".to_owned()));
    Some(Box::new(Journal(Registry::default().with(journal))))
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
