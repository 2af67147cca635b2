//! The configuration file as it is written: every key optional, unknown keys refused. Nothing here
//! knows a default or whether the values make sense together.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Deserializer};
use toml::Spanned;

use super::unit::{FileMode, Size, Span, text};

/// A whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    pub(super) daemon: Daemon,
    pub(super) budget: Budget,
    pub(super) stream: Stream,
    pub(super) files: Files,
    pub(super) limits: Limits,
    pub(super) access: Access,
    pub(super) hook: Hook,
    pub(super) log: Log,
    pub(super) metrics: Metrics,
    /// `[root."/srv/rips"]`
    pub(super) root: BTreeMap<PathBuf, Spanned<Root>>,
}

/// `[daemon]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Daemon {
    pub(super) socket: Option<Spanned<PathBuf>>,
    pub(super) roots: Option<Spanned<Vec<PathBuf>>>,
    pub(super) drain_timeout: Option<Spanned<Span>>,
    pub(super) resume_grace: Option<Spanned<Span>>,
}

/// `[budget]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Budget {
    pub(super) total: Option<Spanned<String>>,
}

/// `[stream]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Stream {
    pub(super) queue: Option<Spanned<Size>>,
    pub(super) queue_total: Option<Spanned<Size>>,
    pub(super) window: Option<Spanned<Size>>,
    pub(super) keep_failed: Option<Spanned<Span>>,
    pub(super) no_space_wait: Option<Spanned<Span>>,
    pub(super) silent_device: Option<Spanned<String>>,
}

/// `[root."PATH"]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Root {
    pub(super) drain: Option<Spanned<String>>,
    pub(super) rotational: Option<Spanned<bool>>,
}

/// `[files]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Files {
    pub(super) mode: Option<Spanned<FileMode>>,
    pub(super) make_directories: Option<Spanned<bool>>,
    pub(super) directory_mode: Option<Spanned<FileMode>>,
}

/// `[limits]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Limits {
    pub(super) connections: Option<Spanned<u32>>,
    pub(super) connections_per_user: Option<Spanned<u32>>,
    pub(super) streams: Option<Spanned<u32>>,
    pub(super) streams_per_user: Option<Spanned<u32>>,
    pub(super) queue_per_user: Option<Spanned<Size>>,
    pub(super) slots: Option<Spanned<Size>>,
    pub(super) slots_per_user: Option<Spanned<Size>>,
    pub(super) handshake_timeout: Option<Spanned<Span>>,
    pub(super) idle_timeout: Option<Spanned<Span>>,
    pub(super) path_length: Option<Spanned<u32>>,
    pub(super) label_length: Option<Spanned<u32>>,
}

/// `[access]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Access {
    pub(super) users: Option<Spanned<Vec<Spanned<Name>>>>,
    pub(super) groups: Option<Spanned<Vec<Spanned<Name>>>>,
    pub(super) admin_group: Option<Spanned<Name>>,
    pub(super) status_for_all: Option<Spanned<bool>>,
    pub(super) socket_mode: Option<Spanned<FileMode>>,
    pub(super) socket_group: Option<Spanned<Name>>,
}

/// The name of a user or a group, or its number, with or without quotes.
#[derive(Debug)]
pub(super) struct Name(pub(super) String);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text(deserializer).map(Self)
    }
}

/// `[hook]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Hook {
    pub(super) command: Option<Spanned<Vec<String>>>,
    pub(super) stall: Option<Spanned<Span>>,
    pub(super) timeout: Option<Spanned<Span>>,
}

/// `[metrics]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Metrics {
    pub(super) listen: Option<Spanned<String>>,
}

/// `[log]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Log {
    pub(super) level: Option<Spanned<String>>,
}
