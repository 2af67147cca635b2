//! Reading the configuration again. A thread of its own does that: users and groups are looked up, and the server
//! that knows them may not answer, while the control loop has a watchdog to feed. Until it is read everything
//! goes by the one before.

use std::future::pending;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use freemkvd_proto::Reloaded;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, spawn_blocking};
use tracing::{error, info};

use super::{Server, Source};
use crate::config::{Config, ConfigError};
use crate::log::{self, event};
use crate::sizes::Sizes;
use crate::supervisor;

/// What came of it, or why the configuration is kept as it was.
type Outcome = Result<Reloaded, String>;

/// Somebody who waits for that.
pub(super) type Asking = oneshot::Sender<Outcome>;

/// The way from the clients that ask for it to the control loop.
#[derive(Debug)]
pub(super) struct Reloads {
    ask: UnboundedSender<Asking>,
    /// Until the control loop takes it, which has it to its end.
    asked: Mutex<Option<UnboundedReceiver<Asking>>>,
}

impl Default for Reloads {
    fn default() -> Self {
        let (ask, asked) = unbounded_channel();
        Self { ask, asked: Mutex::new(Some(asked)) }
    }
}

impl Reloads {
    /// Asks for it, and returns what came of it; `None` when the daemon stops instead.
    pub(super) async fn ask(&self) -> Option<Outcome> {
        let (asking, outcome) = oneshot::channel();
        self.ask.send(asking).ok()?;
        outcome.await.ok()
    }

    /// The control loop's end of it.
    pub(super) fn asked(&self) -> UnboundedReceiver<Asking> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.take().expect("a server runs once")
    }
}

/// The reading that is under way, if one is.
#[derive(Debug, Default)]
pub(super) struct Reading {
    thread: Option<JoinHandle<Result<Config, ConfigError>>>,
    /// Those who wait for this one.
    asking: Vec<Asking>,
    /// The file may have changed since this one has begun; those who wait for the next.
    again: Option<Vec<Asking>>,
}

impl Reading {
    /// Reads the configuration, or once more when it is being read.
    pub(super) fn begin(&mut self, source: &Source, asking: Vec<Asking>) {
        if source.file.is_none() {
            let nothing = "there is nothing to reload: the daemon was started without --config";
            info!("{nothing}");
            return tell(asking, &Err(nothing.to_owned()));
        }
        if self.thread.is_some() {
            return self.again.get_or_insert_default().extend(asking);
        }
        supervisor::reloading();
        let source = source.clone();
        let read = move || Config::load(source.file.as_deref(), &source.overrides);
        self.thread = Some(spawn_blocking(read));
        self.asking = asking;
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

fn tell(asking: Vec<Asking>, outcome: &Outcome) {
    for one in asking {
        // Who has gone meanwhile has the log.
        let _ = one.send(outcome.clone());
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
        let outcome = match result {
            Ok(new) => Ok(self.use_config(new)),
            Err(refused) => {
                error!(
                    event = event::CONFIGURATION_REFUSED,
                    "the configuration is kept as it was: {refused}"
                );
                Err(refused.to_string())
            }
        };
        supervisor::ready();
        tell(std::mem::take(&mut reading.asking), &outcome);
        if let Some(asking) = reading.again.take() {
            reading.begin(source, asking);
        }
    }

    fn use_config(&self, new: Config) -> Reloaded {
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
        Reloaded { changed: now, needs_restart: restart }
    }
}
