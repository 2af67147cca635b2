//! Reading the configuration again. A thread of its own does that: users and groups are looked up, and the server
//! that knows them may not answer, while the control loop has a watchdog to feed. Until it is read everything
//! goes by the one before.

use std::future::pending;
use std::io;
use std::sync::Arc;

use tokio::task::{JoinHandle, spawn_blocking};
use tracing::{error, info};

use super::{Server, Source};
use crate::config::{Config, ConfigError};
use crate::log::{self, event};
use crate::sizes::Sizes;
use crate::supervisor;

/// The reading that is under way, if one is.
#[derive(Debug, Default)]
pub(super) struct Reading {
    thread: Option<JoinHandle<Result<Config, ConfigError>>>,
    /// The file may have changed since this one has begun.
    is_asked_again: bool,
}

impl Reading {
    /// Reads the configuration, or once more when it is being read.
    pub(super) fn begin(&mut self, source: &Source) {
        if source.file.is_none() {
            info!("nothing to reload: the daemon was started without --config");
            return;
        }
        if self.thread.is_some() {
            self.is_asked_again = true;
            return;
        }
        supervisor::reloading();
        let source = source.clone();
        let read = move || Config::load(source.file.as_deref(), &source.overrides);
        self.thread = Some(spawn_blocking(read));
    }

    /// Returns when one has come to its end. Nothing is lost when this is given up before.
    pub(super) async fn result(&mut self, source: &Source) -> Result<Config, ConfigError> {
        let Some(thread) = &mut self.thread else {
            return pending().await;
        };
        let result = thread.await;
        self.thread = None;
        result.unwrap_or_else(|ended| {
            let file = source.file.clone().unwrap_or_default();
            Err(ConfigError::Read { file, source: io::Error::other(ended) })
        })
    }
}

impl Server {
    /// Takes what was read into use.
    pub(super) fn reloaded(
        &self,
        result: Result<Config, ConfigError>,
        reading: &mut Reading,
        source: &Source,
    ) {
        match result {
            Ok(new) => self.use_config(new),
            Err(refused) => error!(
                event = event::CONFIGURATION_REFUSED,
                "the configuration is kept as it was: {refused}"
            ),
        }
        supervisor::ready();
        if std::mem::take(&mut reading.is_asked_again) {
            reading.begin(source);
        }
    }

    fn use_config(&self, new: Config) {
        new.warn_of_roots();
        let old = self.config();
        let (now, restart) = old.changes(&new);
        let sizes = Sizes::now(&new);
        sizes.warn_of_less(&new);
        self.use_sizes(&new, &sizes);
        log::set_level(new.log_level);
        // What can't change while running stays as it is, also for the next comparison.
        let kept = Config {
            socket: old.socket.clone(),
            socket_mode: old.socket_mode,
            socket_group: old.socket_group.clone(),
            metrics_listen: old.metrics_listen,
            ..new
        };
        self.config.send_replace(Arc::new(kept));
        let list = |changes: &[String]| match changes {
            [] => "nothing".to_owned(),
            changes => changes.join("; "),
        };
        info!(
            event = event::CONFIGURATION_RELOADED,
            "configuration reloaded; changed: {}; needs a restart: {}",
            list(&now),
            list(&restart)
        );
    }
}
