//! The configuration, in three stages: the file as written (`file`), merged with the command line
//! and the defaults, validated (both in `merge`). What comes out is a [`Config`] in which nothing can be missing or
//! contradict itself.

mod access;
mod file;
mod hook;
mod limits;
mod merge;
mod modes;
mod unit;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing::{Level, warn};

pub use limits::Limits;
pub use unit::{FileMode, Size, Span};

use crate::access::{Access, Named, Names, System};
use crate::hook::Settings;
use crate::storage::Creation;
use crate::stream::ladder::Rung;
use file::File;

/// A valid configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where to listen; `None` for the socket of whoever runs the daemon.
    pub socket: Option<PathBuf>,
    /// Directories below which files may be written; absolute, at least one.
    pub roots: Vec<PathBuf>,
    /// What is said about single roots.
    pub root_settings: BTreeMap<PathBuf, RootSettings>,
    /// How long a shutdown may take to write what was accepted.
    pub drain_timeout: Duration,
    /// How long a stream waits for its muxer after a restart; zero: streams end with the daemon.
    pub resume_grace: Duration,
    /// The total of dirty and writeback bytes.
    pub budget: Total,
    /// Most bytes in one stream's queue.
    pub queue_bytes: u64,
    /// Most bytes in all queues together.
    pub queue_total_bytes: u64,
    /// Newest bytes of a stream that stay in the page cache.
    pub window_bytes: u64,
    /// How long status shows a stream that failed or lost its muxer.
    pub keep_failed: Duration,
    /// How long a stream waits for space before it fails; zero: not at all.
    pub no_space_wait: Duration,
    /// What becomes of a new stream for a device that does not answer.
    pub silent_device: SilentDevice,
    /// With which modes files and directories are made.
    pub creation: Creation,
    /// How much clients may have, and how long they may take.
    pub limits: Limits,
    /// Who may do what.
    pub access: Access,
    /// The mode of a socket that is made here; `None` for the usual one.
    pub socket_mode: Option<u32>,
    /// Its group; `None` for that of the process.
    pub socket_group: Option<Named>,
    /// What is run when something deserves a notification.
    pub hook: Settings,
    /// Least important messages that are logged.
    pub log_level: Level,
    /// Where metrics are served; `None` for nowhere.
    pub metrics_listen: Option<SocketAddr>,
}

/// What the configuration says about one root; `None` leaves it to the daemon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RootSettings {
    /// How dirty pages are written back.
    pub drain: Option<Rung>,
    /// Whether the device has to seek.
    pub rotational: Option<bool>,
}

/// What becomes of a new stream for a device that does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SilentDevice {
    /// It is told so, and can write elsewhere.
    Refuse,
    /// It waits for as long as its client does.
    Wait,
}

/// How the budget's total is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Total {
    /// From the machine's memory.
    Auto,
    /// So many bytes.
    Bytes(u64),
}

/// What the command line says in place of the file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--socket`
    pub socket: Option<PathBuf>,
    /// `--root`, any number of times.
    pub roots: Vec<PathBuf>,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("cannot read the configuration {file}: {source}")]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is not TOML, or has a key or a value that is not known.
    #[error("{place}: {problem}")]
    Parse {
        /// File and line.
        place: String,
        /// What would be right, in one line.
        problem: String,
    },
    /// A value that can't be.
    #[error("{place}: {key} {problem}")]
    Invalid {
        /// File and line, or the command line.
        place: String,
        /// The key with its section.
        key: &'static str,
        /// What is wrong with it and what would be right.
        problem: String,
    },
}

/// Where rips go on a host that nobody has configured.
fn default_root() -> PathBuf {
    if cfg!(windows) { r"C:\Rips".into() } else { "/srv/rips".into() }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            socket: None,
            roots: vec![default_root()],
            root_settings: BTreeMap::new(),
            drain_timeout: Duration::from_secs(60),
            resume_grace: Duration::from_secs(180),
            budget: Total::Auto,
            queue_bytes: 32 << 20,
            queue_total_bytes: 256 << 20,
            window_bytes: 64 << 20,
            keep_failed: Duration::from_secs(600),
            no_space_wait: Duration::from_secs(600),
            silent_device: SilentDevice::Refuse,
            creation: Creation::default(),
            limits: Limits::default(),
            access: Access::default(),
            socket_mode: None,
            socket_group: None,
            hook: Settings::default(),
            log_level: Level::INFO,
            metrics_listen: None,
        }
    }
}

impl Config {
    /// Reads `file`, if there is one to read, and puts the command line above it. Users and groups that it names
    /// are looked up, which may take as long as the host's user database likes.
    ///
    /// # Errors
    /// [`ConfigError`], with the line at fault.
    pub fn load(file: Option<&Path>, overrides: &Overrides) -> Result<Self, ConfigError> {
        let text = match file {
            None => String::new(),
            Some(path) => std::fs::read_to_string(path)
                .map_err(|source| ConfigError::Read { file: path.to_owned(), source })?,
        };
        Self::parse(&text, file.unwrap_or(Path::new("command line")), overrides, &System)
    }

    fn parse(
        text: &str,
        name: &Path,
        overrides: &Overrides,
        names: &dyn Names,
    ) -> Result<Self, ConfigError> {
        let file: File = toml::from_str(text).map_err(|error| ConfigError::Parse {
            place: place(name, text, error.span().map_or(text.len(), |span| span.start)),
            problem: error.message().trim_end().replace('\n', "; "),
        })?;
        merge::Merge { text, name, names }.merge(file, overrides)
    }

    /// What is said about the root that `path` is below.
    #[must_use]
    pub fn root_settings(&self, path: &Path) -> RootSettings {
        let root = self.roots.iter().find(|root| path.starts_with(root));
        root.and_then(|root| self.root_settings.get(root)).copied().unwrap_or_default()
    }

    /// The socket to listen on, unless systemd passes one.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        // systemd names the RuntimeDirectory= of a service so.
        let service = std::env::var_os("RUNTIME_DIRECTORY").filter(|dir| !dir.is_empty());
        match (&self.socket, service) {
            (Some(path), _) => path.clone(),
            (None, Some(dir)) => PathBuf::from(dir).join("freemkvd.sock"),
            (None, None) => crate::platform::user_socket(),
        }
    }

    /// Warns of roots that are not there. They may come later, as mounts do.
    pub fn warn_of_roots(&self) {
        for root in self.roots.iter().filter(|root| !root.is_dir()) {
            let root = root.display();
            warn!(
                "the root {root} is not a directory; streams below it are refused until it is made and the daemon restarted"
            );
        }
    }

    /// Of the sections that can all take effect at once, each key with its value.
    fn rows(&self) -> impl Iterator<Item = (&'static str, String)> + use<> {
        let limits = self.limits.rows().into_iter();
        limits.chain(self.access.rows()).chain(hook::rows(&self.hook))
    }

    /// What differs in `new`: first what can take effect at once, then what needs a restart.
    #[must_use]
    pub fn changes(&self, new: &Self) -> (Vec<String>, Vec<String>) {
        let mut now = Vec::new();
        let mut restart = Vec::new();
        let mut differ = |into_now: bool, key: &str, old: String, new: String| {
            if old != new {
                let list = if into_now { &mut now } else { &mut restart };
                list.push(format!("{key} from {old} to {new}"));
            }
        };
        let size = |bytes: u64| Size(bytes).to_string();
        let span = |time: Duration| Span(time).to_string();
        let roots = |config: &Self| {
            config
                .roots
                .iter()
                .map(|root| root.display().to_string())
                .collect::<Vec<_>>()
                .join(", ")
        };
        let socket = |config: &Self| config.socket().display().to_string();
        differ(true, "daemon.roots", roots(self), roots(new));
        let settings = |config: &Self| {
            let of = |(root, settings): (&PathBuf, &RootSettings)| {
                let drain = settings.drain.map_or("auto", Rung::name);
                let rotational = match settings.rotational {
                    None => "auto".to_owned(),
                    Some(rotational) => rotational.to_string(),
                };
                format!("{} (drain {drain}, rotational {rotational})", root.display())
            };
            let all: Vec<_> = config.root_settings.iter().map(of).collect();
            if all.is_empty() { "nothing".to_owned() } else { all.join(", ") }
        };
        differ(true, "root", settings(self), settings(new));
        differ(true, "daemon.drain_timeout", span(self.drain_timeout), span(new.drain_timeout));
        differ(true, "daemon.resume_grace", span(self.resume_grace), span(new.resume_grace));
        differ(true, "budget.total", self.budget.to_string(), new.budget.to_string());
        differ(true, "stream.queue", size(self.queue_bytes), size(new.queue_bytes));
        differ(
            true,
            "stream.queue_total",
            size(self.queue_total_bytes),
            size(new.queue_total_bytes),
        );
        differ(true, "stream.window", size(self.window_bytes), size(new.window_bytes));
        differ(true, "stream.keep_failed", span(self.keep_failed), span(new.keep_failed));
        differ(true, "stream.no_space_wait", span(self.no_space_wait), span(new.no_space_wait));
        let silent = |config: &Self| config.silent_device.to_string();
        differ(true, "stream.silent_device", silent(self), silent(new));
        let files = |config: &Self| config.creation.to_string();
        differ(true, "files", files(self), files(new));
        for ((key, old), (_, new)) in self.rows().zip(new.rows()) {
            differ(true, key, old, new);
        }
        differ(false, "daemon.socket", socket(self), socket(new));
        let mode =
            |config: &Self| config.socket_mode.map_or("auto".into(), |mode| format!("{mode:04o}"));
        differ(false, "access.socket_mode", mode(self), mode(new));
        let group = |config: &Self| access::or_none(config.socket_group.as_ref());
        differ(false, "access.socket_group", group(self), group(new));
        differ(true, "log.level", self.log_level.to_string(), new.log_level.to_string());
        let listen = |config: &Self| {
            config.metrics_listen.map_or("nowhere".to_owned(), |address| address.to_string())
        };
        differ(false, "metrics.listen", listen(self), listen(new));
        (now, restart)
    }
}

/// `FILE:LINE`, as editors and compilers have it.
fn place(name: &Path, text: &str, offset: usize) -> String {
    let before = text.get(..offset).unwrap_or(text);
    let line = 1 + before.matches('\n').count();
    format!("{}:{line}", name.display())
}

impl std::fmt::Display for SilentDevice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Refuse => "refuse",
            Self::Wait => "wait",
        })
    }
}

impl std::fmt::Display for Total {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Bytes(bytes) => Size(*bytes).fmt(f),
        }
    }
}

#[cfg(test)]
mod tests;
