//! The second and third stage of a configuration: values over defaults, then checks, each of which
//! names the place of what is wrong.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use tracing::Level;

use super::file::{self, File};
use super::{Config, ConfigError, Overrides, RootSettings, SilentDevice, Size, Span, Total};
use crate::access::Names;
use crate::budget::LIMIT_BYTES_MIN;
use crate::stream::ladder::Rung;
use crate::writer::SEGMENT_BYTES;

/// A file's text and name, for saying where, and what its words mean on this host.
pub(super) struct Merge<'a> {
    pub(super) text: &'a str,
    pub(super) name: &'a Path,
    /// The users and groups that there are.
    pub(super) names: &'a dyn Names,
}

impl Merge<'_> {
    pub(super) fn merge(&self, file: File, overrides: &Overrides) -> Result<Config, ConfigError> {
        let default = Config::default();
        let root_settings = self.root_settings(&file, overrides)?;
        let socket = match (&overrides.socket, file.daemon.socket) {
            (Some(path), _) => Some(std::path::absolute(path).unwrap_or_else(|_| path.clone())),
            (None, Some(path)) => Some(self.socket(&path)?),
            (None, None) => default.socket,
        };
        let roots = match file.daemon.roots {
            _ if !overrides.roots.is_empty() => {
                let absolute =
                    |root: &PathBuf| std::path::absolute(root).unwrap_or_else(|_| root.clone());
                overrides.roots.iter().map(absolute).collect()
            }
            Some(roots) if roots.as_ref().is_empty() => {
                let problem = "is empty; name at least one directory to write below";
                return Err(self.invalid("daemon.roots", &roots, problem));
            }
            Some(roots) => {
                let check = |root: &PathBuf| self.absolute("daemon.roots", &roots, root);
                roots.as_ref().iter().map(check).collect::<Result<_, _>>()?
            }
            None => default.roots,
        };
        let access = self.access(&file.access)?;
        let mut limits = self.limits(&file.limits)?;
        let (queue_bytes, queue_total_bytes) = self.queues(&file.stream, limits.streams_max)?;
        self.queue_per_user(&file.limits, queue_total_bytes, &mut limits)?;
        let window = &file.stream.window;
        Ok(Config {
            socket,
            roots,
            root_settings,
            drain_timeout: span(file.daemon.drain_timeout, default.drain_timeout),
            resume_grace: span(file.daemon.resume_grace, default.resume_grace),
            budget: self.total(file.budget.total, default.budget)?,
            queue_bytes,
            queue_total_bytes,
            window_bytes: self.size(0..=4 << 30, "stream.window", window, default.window_bytes)?,
            keep_failed: span(file.stream.keep_failed, default.keep_failed),
            no_space_wait: span(file.stream.no_space_wait, default.no_space_wait),
            silent_device: self.silent_device(file.stream.silent_device)?,
            creation: self.creation(&file.files)?,
            limits,
            access,
            socket_mode: self.socket_mode(file.access.socket_mode.as_ref())?,
            socket_group: self.socket_group(file.access.socket_group.as_ref())?,
            hook: self.hook(&file.hook)?,
            log_level: self.level(file.log.level)?,
            metrics_listen: self.metrics_listen(file.metrics.listen.as_ref())?,
        })
    }

    /// A table about a root that is none would be a typing error that nobody notices.
    fn root_settings(
        &self,
        file: &File,
        overrides: &Overrides,
    ) -> Result<BTreeMap<PathBuf, RootSettings>, ConfigError> {
        let default = Config::default().roots;
        let roots = file.daemon.roots.as_ref().map_or(&default, |roots| roots.as_ref());
        let settings = |(path, root): (&PathBuf, &Spanned<file::Root>)| {
            if !roots.contains(path) && !overrides.roots.contains(path) {
                let problem = format!(
                    "is about \"{}\", which is not in daemon.roots; add it there, or correct the name",
                    path.display()
                );
                return Err(self.invalid("root", root, problem));
            }
            let root = root.as_ref();
            let drain = root.drain.as_ref().map(|drain| self.drain(drain)).transpose()?.flatten();
            let rotational = root.rotational.as_ref().map(|rotational| *rotational.as_ref());
            Ok((path.clone(), RootSettings { drain, rotational }))
        };
        file.root.iter().map(settings).collect()
    }

    fn drain(&self, drain: &Spanned<String>) -> Result<Option<Rung>, ConfigError> {
        let name = drain.as_ref();
        let rung = Rung::ALL.into_iter().find(|rung| rung.name() == name);
        if rung.is_some() || name == "auto" {
            return Ok(rung);
        }
        let names: Vec<_> = Rung::ALL.iter().map(|rung| format!("\"{}\"", rung.name())).collect();
        let problem = format!("is \"{name}\"; write \"auto\", {}", names.join(", "));
        Err(self.invalid("root.drain", drain, problem))
    }

    /// The limits of one queue and of all, which have to go together with the number of streams.
    fn queues(&self, stream: &file::Stream, streams_max: u32) -> Result<(u64, u64), ConfigError> {
        let (default, segment) = (Config::default(), SEGMENT_BYTES as u64);
        let (queue, total) = (&stream.queue, &stream.queue_total);
        let range = segment..=1 << 30;
        let queue_bytes = self.size(range, "stream.queue", queue, default.queue_bytes)?;
        let total_bytes = total.as_ref().map_or(default.queue_total_bytes, |t| t.as_ref().0);
        let least = segment * u64::from(streams_max);
        if total_bytes < least {
            let problem = format!(
                "is {}, but {streams_max} streams (limits.streams) need at least {}; raise it or \
                 allow fewer streams",
                Size(total_bytes),
                Size(least)
            );
            return Err(self.invalid_or("stream.queue_total", total.as_ref(), problem));
        }
        if queue_bytes > total_bytes {
            let problem = format!(
                "is {}, more than the {} of stream.queue_total that all streams share",
                Size(queue_bytes),
                Size(total_bytes)
            );
            return Err(self.invalid_or("stream.queue", queue.as_ref(), problem));
        }
        Ok((queue_bytes, total_bytes))
    }

    fn total(&self, total: Option<Spanned<String>>, default: Total) -> Result<Total, ConfigError> {
        let Some(total) = total else {
            return Ok(default);
        };
        let key = "budget.total";
        if total.as_ref() == "auto" {
            return Ok(Total::Auto);
        }
        match total.as_ref().parse::<Size>() {
            Ok(Size(bytes)) if bytes >= LIMIT_BYTES_MIN => Ok(Total::Bytes(bytes)),
            Ok(size) => {
                let least = Size(LIMIT_BYTES_MIN);
                Err(self.invalid(key, &total, format!("is {size}; it must be at least {least}")))
            }
            Err(_) => {
                let text = total.as_ref();
                let problem = format!(
                    "is \"{text}\"; write \"auto\", or a number and a unit, like \"512MiB\""
                );
                Err(self.invalid(key, &total, problem))
            }
        }
    }

    fn silent_device(&self, word: Option<Spanned<String>>) -> Result<SilentDevice, ConfigError> {
        let Some(word) = word else {
            return Ok(Config::default().silent_device);
        };
        match word.as_ref().as_str() {
            "refuse" => Ok(SilentDevice::Refuse),
            "wait" => Ok(SilentDevice::Wait),
            other => {
                let problem = format!("is \"{other}\"; write \"refuse\" or \"wait\"");
                Err(self.invalid("stream.silent_device", &word, problem))
            }
        }
    }

    fn level(&self, level: Option<Spanned<String>>) -> Result<Level, ConfigError> {
        let Some(level) = level else {
            return Ok(Config::default().log_level);
        };
        level.as_ref().parse().map_err(|_| {
            let problem = "must be \"error\", \"warn\", \"info\", \"debug\" or \"trace\"";
            self.invalid("log.level", &level, problem)
        })
    }

    /// An address of this host alone: what is served there is for everybody who can reach it.
    fn metrics_listen(
        &self,
        listen: Option<&Spanned<String>>,
    ) -> Result<Option<SocketAddr>, ConfigError> {
        let Some(listen) = listen else { return Ok(None) };
        let text = listen.as_ref();
        match text.parse::<SocketAddr>() {
            Ok(address) if address.ip().is_loopback() => Ok(Some(address)),
            _ => {
                let problem = format!(
                    "is \"{text}\"; write a loopback address and a port, like \"127.0.0.1:9101\" or \"[::1]:9101\""
                );
                Err(self.invalid("metrics.listen", listen, problem))
            }
        }
    }

    pub(super) fn size(
        &self,
        range: RangeInclusive<u64>,
        key: &'static str,
        size: &Option<Spanned<Size>>,
        default: u64,
    ) -> Result<u64, ConfigError> {
        let (low, high) = (Size(*range.start()), Size(*range.end()));
        Ok(self.ranged(low..=high, key, size.as_ref(), Size(default))?.0)
    }

    /// What is written there, which has to be in `range`, or what is meant when nothing is.
    pub(super) fn ranged<T: Copy + PartialOrd + Display>(
        &self,
        range: RangeInclusive<T>,
        key: &'static str,
        value: Option<&Spanned<T>>,
        default: T,
    ) -> Result<T, ConfigError> {
        match value {
            Some(value) if !range.contains(value.as_ref()) => {
                let (low, high) = (range.start(), range.end());
                let problem = format!("is {}; it must be from {low} to {high}", value.as_ref());
                Err(self.invalid(key, value, problem))
            }
            value => Ok(value.map_or(default, |value| *value.as_ref())),
        }
    }

    fn socket(&self, at: &Spanned<PathBuf>) -> Result<PathBuf, ConfigError> {
        let path = at.as_ref();
        match cfg!(windows) && !freemkvd_proto::socket::is_pipe(path) {
            false => self.absolute("daemon.socket", at, path),
            true => {
                let problem = format!(
                    r"has '{}'; write the name of a pipe, like '\\.\pipe\freemkvd'",
                    path.display()
                );
                Err(self.invalid("daemon.socket", at, problem))
            }
        }
    }

    fn absolute<T>(
        &self,
        key: &'static str,
        at: &Spanned<T>,
        path: &Path,
    ) -> Result<PathBuf, ConfigError> {
        if path.is_absolute() {
            return Ok(path.to_owned());
        }
        let problem = format!("has \"{}\"; write an absolute path", path.display());
        Err(self.invalid(key, at, problem))
    }

    pub(super) fn invalid<T>(
        &self,
        key: &'static str,
        at: &Spanned<T>,
        problem: impl Into<String>,
    ) -> ConfigError {
        ConfigError::Invalid {
            place: super::place(self.name, self.text, at.span().start),
            key,
            problem: problem.into(),
        }
    }

    /// For a sum that may be wrong because of a default.
    pub(super) fn invalid_or<T>(
        &self,
        key: &'static str,
        at: Option<&Spanned<T>>,
        problem: String,
    ) -> ConfigError {
        match at {
            Some(at) => self.invalid(key, at, problem),
            None => {
                let place = self.name.display().to_string();
                ConfigError::Invalid { place, key, problem: format!("(default) {problem}") }
            }
        }
    }
}

fn span(span: Option<Spanned<Span>>, default: Duration) -> Duration {
    span.map_or(default, |span| span.as_ref().0)
}
