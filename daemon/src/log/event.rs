//! The classes of messages that somebody may look for: what the journal has as `FREEMKVD_EVENT`, and the
//! `MESSAGE_ID` by which `journalctl -x` finds the text about it in `systemd/freemkvd.catalog`. Both stay.

/// It serves.
pub const DAEMON_READY: &str = "daemon-ready";
/// It takes no new streams.
pub const DAEMON_STOPPING: &str = "daemon-stopping";
/// It is about to end.
pub const DAEMON_STOPPED: &str = "daemon-stopped";
/// A configuration was read again, and counts.
pub const CONFIGURATION_RELOADED: &str = "configuration-reloaded";
/// A configuration was read again, and is not valid.
pub const CONFIGURATION_REFUSED: &str = "configuration-refused";
/// A stream begins, or goes on from the daemon before.
pub const STREAM_OPENED: &str = "stream-opened";
/// A file was not opened.
pub const STREAM_REFUSED: &str = "stream-refused";
/// Its file is complete and durable.
pub const STREAM_FINISHED: &str = "stream-finished";
/// It was given up.
pub const STREAM_ABORTED: &str = "stream-aborted";
/// Its muxer is gone.
pub const STREAM_ABANDONED: &str = "stream-abandoned";
/// Writing or syncing failed.
pub const STREAM_FAILED: &str = "stream-failed";
/// It waits for the next daemon, or was drained for a stop.
pub const STREAM_LEFT: &str = "stream-left";
/// Its muxer has come back.
pub const STREAM_RESUMED: &str = "stream-resumed";
/// A stream of the daemon before can't go on.
pub const STREAM_LOST: &str = "stream-lost";
/// It waits for space.
pub const STREAM_NO_SPACE: &str = "stream-no-space";
/// It has space again.
pub const STREAM_HAS_SPACE: &str = "stream-has-space";
/// Somebody has paused it, or had it go on.
pub const STREAM_PAUSED: &str = "stream-paused";
/// A device does not complete writes.
pub const DEVICE_SILENT: &str = "device-silent";
/// It does again.
pub const DEVICE_BACK: &str = "device-back";
/// Pages of a mount are written back in another way.
pub const DRAIN_CHANGED: &str = "drain-changed";
/// The log did not take all messages.
pub const MESSAGES_MISSING: &str = "messages-missing";

/// Each with its `MESSAGE_ID`.
#[cfg_attr(not(any(target_os = "linux", test)), allow(dead_code, reason = "the journal's alone"))]
const IDS: [(&str, &str); 21] = [
    (DAEMON_READY, "3098098aa36a2fb2e3434be1d458c419"),
    (DAEMON_STOPPING, "46f03c25e1e9c5a0c91ee4c8f9efc6c1"),
    (DAEMON_STOPPED, "f7eeb549d1dd53c92f62a9400f755b85"),
    (CONFIGURATION_RELOADED, "b7634f32811aec28feda031424bfb651"),
    (CONFIGURATION_REFUSED, "3a948226620bf818609bfa5cb80201bc"),
    (STREAM_OPENED, "afb938185728250c4a04647e08bc4447"),
    (STREAM_REFUSED, "ab06e30b4c78409b7d727f40e2a775e0"),
    (STREAM_FINISHED, "c0ba08eb5721ce0d2c35326c00e4f4e1"),
    (STREAM_ABORTED, "40dcc8f0a4b20f37142b4911d546dfd0"),
    (STREAM_ABANDONED, "35bb1eb1d2633249dfdde685a24cf6f8"),
    (STREAM_FAILED, "e5edc072084d7da84f8b8a4c36484bb7"),
    (STREAM_LEFT, "5a7ba469124327a6a384357eab20456d"),
    (STREAM_RESUMED, "71ed47a5ddbd435cbcc7ea12e1b2c99f"),
    (STREAM_LOST, "d8c1c1ef11f9c7e0384521ac9d2f9b4e"),
    (STREAM_NO_SPACE, "fd32ae54d4cabb1a039e185bc484af73"),
    (STREAM_HAS_SPACE, "f66ee4083d183126bae0ac5d226b86df"),
    (STREAM_PAUSED, "fbda9fd1c1a52485dc3865c7a4df5560"),
    (DEVICE_SILENT, "ee66e06d75d03b1a39472317b0a6a101"),
    (DEVICE_BACK, "218799d7d6661199123f31bae0fc7999"),
    (DRAIN_CHANGED, "6d6d1155abc192be410656fa62317a97"),
    (MESSAGES_MISSING, "c7ffae3342b8439ef67a3727d5457351"),
];

/// What the journal knows a class by.
#[cfg(target_os = "linux")]
pub(super) fn message_id(class: &str) -> Option<&'static str> {
    IDS.iter().find_map(|(name, id)| (*name == class).then_some(*id))
}

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
