//! The journal, when systemd has connected standard error to it.

use std::io;

use humantime::format_rfc3339_micros;
use tracing_journald::Layer;
use tracing_subscriber::Registry;
use tracing_subscriber::layer::SubscriberExt;

use super::event;
use super::message::Message;
use super::queue::Sink;

/// The journal with its fields: `FREEMKVD_EVENT`, `FREEMKVD_STREAM`, `FREEMKVD_PATH`, ..., see freemkvd(8).
struct Journal;

impl Sink for Journal {
    /// With a socket for each message: fields of its own, whose names are not those of values, are a property of
    /// the layer. It costs tens of microseconds, and messages are few.
    fn take(&mut self, message: &Message) {
        // Without a socket or a journal it is lost, and there is no other place to tell it.
        let Ok(journal) = tracing_journald::layer() else { return };
        message.tell(&Registry::default().with(with_fields(journal, message)));
    }
}

/// When it happened: what the journal has is when it was told, and that is late when the journal hung. And the
/// number of its class.
fn with_fields(journal: Layer, message: &Message) -> Layer {
    let at = format_rfc3339_micros(message.at).to_string();
    let journal = journal
        .with_field_prefix(Some("FREEMKVD".to_owned()))
        .with_custom_fields([("FREEMKVD_TIME", at)]);
    match message.text("event").and_then(event::message_id) {
        Some(id) => journal.with_custom_fields([("MESSAGE_ID", id)]),
        None => journal,
    }
}

/// The socket of the message that is being told.
pub(super) const DESCRIPTORS: u64 = 1;

pub(super) fn sink() -> Option<Box<dyn Sink>> {
    let has_journal = is_journal() && tracing_journald::layer().is_ok();
    has_journal.then(|| Box::new(Journal) as Box<dyn Sink>)
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
