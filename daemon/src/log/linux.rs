//! The journal, when systemd has connected standard error to it.

use std::io;

use humantime::format_rfc3339_micros;
use tracing_journald::Layer;
use tracing_subscriber::Registry;
use tracing_subscriber::layer::SubscriberExt;

use super::event;
use super::message::{Message, Owned};
use super::queue::Sink;

/// The journal with its fields: `FREEMKVD_EVENT`, `FREEMKVD_STREAM`, `FREEMKVD_PATH`, ..., see freemkvd(8).
struct Journal;

impl Sink for Journal {
    /// With a socket for each message: fields of its own, whose names are not those of values, are a property of
    /// the layer. That costs some 20 us, and messages are few.
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
    match message.class().and_then(message_id) {
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

impl Message {
    /// What it has as `event`.
    fn class(&self) -> Option<&str> {
        self.values.iter().find_map(|(field, value)| match value {
            Owned::Text(text) if field.name() == "event" => Some(text.as_str()),
            _ => None,
        })
    }
}

/// What the journal knows a class by.
fn message_id(class: &str) -> Option<&'static str> {
    IDS.iter().find_map(|(name, id)| (*name == class).then_some(*id))
}

/// Each class with its `MESSAGE_ID`, by which `journalctl -x` finds the text about it in `systemd/freemkvd.catalog`.
const IDS: [(&str, &str); 23] = [
    (event::DAEMON_READY, "3098098aa36a2fb2e3434be1d458c419"),
    (event::DAEMON_STOPPING, "46f03c25e1e9c5a0c91ee4c8f9efc6c1"),
    (event::DAEMON_STOPPED, "f7eeb549d1dd53c92f62a9400f755b85"),
    (event::CONFIGURATION_RELOADED, "b7634f32811aec28feda031424bfb651"),
    (event::CONFIGURATION_REFUSED, "3a948226620bf818609bfa5cb80201bc"),
    (event::STREAM_OPENED, "afb938185728250c4a04647e08bc4447"),
    (event::STREAM_REFUSED, "ab06e30b4c78409b7d727f40e2a775e0"),
    (event::STREAM_FINISHED, "c0ba08eb5721ce0d2c35326c00e4f4e1"),
    (event::STREAM_ABORTED, "40dcc8f0a4b20f37142b4911d546dfd0"),
    (event::STREAM_ABANDONED, "35bb1eb1d2633249dfdde685a24cf6f8"),
    (event::STREAM_FAILED, "e5edc072084d7da84f8b8a4c36484bb7"),
    (event::STREAM_LEFT, "5a7ba469124327a6a384357eab20456d"),
    (event::STREAM_RESUMED, "71ed47a5ddbd435cbcc7ea12e1b2c99f"),
    (event::STREAM_LOST, "d8c1c1ef11f9c7e0384521ac9d2f9b4e"),
    (event::STREAM_NO_SPACE, "fd32ae54d4cabb1a039e185bc484af73"),
    (event::STREAM_HAS_SPACE, "f66ee4083d183126bae0ac5d226b86df"),
    (event::STREAM_PAUSED, "fbda9fd1c1a52485dc3865c7a4df5560"),
    (event::DEVICE_SILENT, "ee66e06d75d03b1a39472317b0a6a101"),
    (event::DEVICE_BACK, "218799d7d6661199123f31bae0fc7999"),
    (event::DRAIN_CHANGED, "6d6d1155abc192be410656fa62317a97"),
    (event::HOOK_OUTPUT, "600f5c761b764c83ba8de239d71d1ffe"),
    (event::HOOK_FAILED, "6de21b17c28c4614ac24e189e67aa5aa"),
    (event::MESSAGES_MISSING, "c7ffae3342b8439ef67a3727d5457351"),
];

#[cfg(test)]
mod tests {
    use super::IDS;

    #[test]
    fn the_catalogue_has_a_text_for_each_class_and_for_no_other() {
        let catalogue = include_str!("../../../systemd/freemkvd.catalog");
        let entries: Vec<&str> =
            catalogue.lines().filter_map(|line| line.strip_prefix("-- ")).collect();
        assert_eq!(entries, IDS.map(|(_, id)| id));
        for (name, id) in IDS {
            let (_, rest) = catalogue.split_once(&format!("-- {id}\n")).expect(name);
            assert!(rest.starts_with("Subject: "), "{name}: no subject");
            let entry = rest.split("\n-- ").next().expect(name);
            let text = entry.split_once("\n\n").map_or("", |(_, text)| text.trim());
            assert!(text.len() > 40, "{name}: {text:?}");
        }
    }

    #[test]
    fn the_manual_names_each_class() {
        let manual = include_str!("../../../docs/man/freemkvd.8");
        for (name, id) in IDS {
            assert!(manual.contains(&format!(".It {name} Ta {id}\n")), "{name}");
        }
    }
}
