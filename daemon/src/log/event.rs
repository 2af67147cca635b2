//! The classes of messages that somebody may look for: what the journal has as `FREEMKVD_EVENT`. They stay the same
//! when the words change. The numbers by which the journal knows them are in `linux.rs`.

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
/// A line of what the hook says.
pub const HOOK_OUTPUT: &str = "hook-output";
/// The hook did not run, or not to a good end.
pub const HOOK_FAILED: &str = "hook-failed";
/// The log did not take all messages.
pub const MESSAGES_MISSING: &str = "messages-missing";
