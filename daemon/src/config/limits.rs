//! `[limits]`: how much one user and all users together may have, and how long they may take.

use std::ops::RangeInclusive;
use std::time::Duration;

use freemkvd_proto::limits::{LABEL_BYTES_MAX, PATH_BYTES_MAX, SLOT_BYTES};
use toml::Spanned;

use super::file;
use super::merge::Merge;
use super::{ConfigError, Size, Span};
use crate::writer::SEGMENT_BYTES;

/// See the module's documentation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most connections at once.
    pub connections_max: u32,
    /// Most connections of one user.
    pub connections_per_user_max: u32,
    /// Most streams at once.
    pub streams_max: u32,
    /// Most streams of one user.
    pub streams_per_user_max: u32,
    /// Most bytes in all queues of one user.
    pub queue_per_user_bytes: u64,
    /// Most bytes in slots that clients share.
    pub slots_bytes: u64,
    /// Most bytes in those of one user.
    pub slots_per_user_bytes: u64,
    /// How long a client may take to say what it wants.
    pub handshake_timeout: Duration,
    /// How long a connection for requests may be silent, or not listen.
    pub idle_timeout: Duration,
    /// Longest path, in bytes.
    pub path_bytes_max: usize,
    /// Longest label of a file that comes with its stream, in bytes.
    pub label_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 512,
            connections_per_user_max: per_user(512),
            streams_max: 256,
            streams_per_user_max: per_user(256),
            queue_per_user_bytes: 256 << 20,
            slots_bytes: 16 << 30,
            slots_per_user_bytes: slots_per_user(16 << 30),
            handshake_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(60),
            path_bytes_max: PATH_BYTES_MAX,
            label_bytes_max: LABEL_BYTES_MAX,
        }
    }
}

impl Limits {
    /// Each with its key, for saying what differs.
    pub(super) fn rows(&self) -> [(&'static str, String); 11] {
        [
            ("limits.connections", self.connections_max.to_string()),
            ("limits.connections_per_user", self.connections_per_user_max.to_string()),
            ("limits.streams", self.streams_max.to_string()),
            ("limits.streams_per_user", self.streams_per_user_max.to_string()),
            ("limits.queue_per_user", Size(self.queue_per_user_bytes).to_string()),
            ("limits.slots", Size(self.slots_bytes).to_string()),
            ("limits.slots_per_user", Size(self.slots_per_user_bytes).to_string()),
            ("limits.handshake_timeout", Span(self.handshake_timeout).to_string()),
            ("limits.idle_timeout", Span(self.idle_timeout).to_string()),
            ("limits.path_length", self.path_bytes_max.to_string()),
            ("limits.label_length", self.label_bytes_max.to_string()),
        ]
    }
}

/// What one user may have of `all` unless it is said: almost everything, since on most hosts all muxers are one
/// user's, and of more than a few never the last, with which somebody else can still look what is going on.
fn per_user(all: u32) -> u32 {
    all - all / 8
}

/// The same of so many bytes in slots: whole slots.
fn slots_per_user(all_bytes: u64) -> u64 {
    let slot = u64::from(SLOT_BYTES);
    let slots = all_bytes / slot;
    (slots - slots / 8) * slot
}

impl Merge<'_> {
    pub(super) fn limits(&self, file: &file::Limits) -> Result<Limits, ConfigError> {
        let default = Limits::default();
        let count = |key, count, default| self.count(1..=u32::MAX, key, count, default);
        let streams_max = count("limits.streams", &file.streams, default.streams_max)?;
        let connections = &file.connections;
        let connections_max = count("limits.connections", connections, default.connections_max)?;
        if connections_max < streams_max {
            let problem = format!(
                "is {connections_max}, less than the {streams_max} of limits.streams; a stream \
                 needs a connection"
            );
            return Err(self.invalid_or("limits.connections", connections.as_ref(), problem));
        }
        let slots =
            |key, size, default| self.size(u64::from(SLOT_BYTES)..=u64::MAX, key, size, default);
        let slots_bytes = slots("limits.slots", &file.slots, default.slots_bytes)?;
        let of_user = slots_per_user(slots_bytes);
        let length = |key, length: &Option<Spanned<u32>>, most: usize| {
            let most = u32::try_from(most).unwrap_or(u32::MAX);
            self.count(1..=most, key, length, most).map(|bytes| bytes as usize)
        };
        let (handshake, idle) = (&file.handshake_timeout, &file.idle_timeout);
        Ok(Limits {
            connections_max,
            connections_per_user_max: count(
                "limits.connections_per_user",
                &file.connections_per_user,
                per_user(connections_max),
            )?,
            streams_max,
            streams_per_user_max: count(
                "limits.streams_per_user",
                &file.streams_per_user,
                per_user(streams_max),
            )?,
            slots_bytes,
            slots_per_user_bytes: slots("limits.slots_per_user", &file.slots_per_user, of_user)?,
            handshake_timeout: self.patience(
                "limits.handshake_timeout",
                handshake.as_ref(),
                default.handshake_timeout,
            )?,
            idle_timeout: self.patience(
                "limits.idle_timeout",
                idle.as_ref(),
                default.idle_timeout,
            )?,
            path_bytes_max: length("limits.path_length", &file.path_length, PATH_BYTES_MAX)?,
            label_bytes_max: length("limits.label_length", &file.label_length, LABEL_BYTES_MAX)?,
            ..default
        })
    }

    /// One user alone may have all that there is. Less than a segment would be no queue at all.
    pub(super) fn queue_per_user(
        &self,
        file: &file::Limits,
        queue_total_bytes: u64,
        limits: &mut Limits,
    ) -> Result<(), ConfigError> {
        let range = SEGMENT_BYTES as u64..=u64::MAX;
        let size = &file.queue_per_user;
        limits.queue_per_user_bytes =
            self.size(range, "limits.queue_per_user", size, queue_total_bytes)?;
        Ok(())
    }

    fn count(
        &self,
        range: RangeInclusive<u32>,
        key: &'static str,
        count: &Option<Spanned<u32>>,
        default: u32,
    ) -> Result<u32, ConfigError> {
        let Some(at) = count else { return Ok(default) };
        let count = *at.as_ref();
        if range.contains(&count) {
            return Ok(count);
        }
        let (least, most) = (range.start(), range.end());
        let problem = match *most {
            u32::MAX => format!("must be at least {least}"),
            most => format!("is {count}; it must be from {least} to {most}"),
        };
        Err(self.invalid(key, at, problem))
    }

    fn patience(
        &self,
        key: &'static str,
        span: Option<&Spanned<Span>>,
        default: Duration,
    ) -> Result<Duration, ConfigError> {
        match span {
            Some(span) if span.as_ref().0.is_zero() => {
                let problem = "is zero; no client could be that fast. Write for example \"5s\"";
                Err(self.invalid(key, span, problem))
            }
            Some(span) => Ok(span.as_ref().0),
            None => Ok(default),
        }
    }
}
