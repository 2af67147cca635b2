//! The only asynchronous part: connections, signals and the control loop. It decides nothing about
//! disks and never waits for one.
//!
//! The loop is `select`, then apply: one thing happens at a time, and everything that takes longer
//! than a moment belongs to a connection's task or a writer thread.

#[cfg_attr(target_os = "linux", path = "passed/linux.rs")]
#[cfg_attr(not(target_os = "linux"), path = "passed/none.rs")]
mod passed;

mod connection;
mod control;
mod crowd;
mod drain;
mod guarded;
mod listener;
mod opening;
mod pace;
mod peer;
mod reload;
mod resumed;
pub mod scrape;
mod socket;
mod streams;
mod transfer;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use freemkvd_proto::status::Status;
use interprocess::local_socket::tokio::{Listener, Stream, prelude::*};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tracing::{error, info, warn};

pub use listener::{ListenError, listen, listen_for_metrics};
pub use resumed::adopt;
pub use streams::Streams;

use self::guarded::Socket;
use crate::access::Places;
use crate::budget::State;
use crate::clock::Clock;
use crate::config::{Config, Overrides};
use crate::descriptors::Table;
use crate::device::Devices;
use crate::foreign::Closer;
use crate::hook::Hook;
use crate::ledger::Ledger;
use crate::log::event;
use crate::messages::Messages;
use crate::sizes::Sizes;
use crate::storage::Open;
use crate::user;
use crate::writer::{Gate, OpenFiles, Openings, Queues, Shop};
use crate::{metrics, status, supervisor};

/// How often rates are measured and systemd is told how things are.
const TICK: Duration = Duration::from_millis(500);

/// How often the totals of the budget and the queues are reviewed.
const REVIEW: Duration = Duration::from_secs(10);

/// Connections beyond the limit that are told so at the same time.
const REFUSALS_MAX: usize = 32;

/// What the outside wants of the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Read the configuration again.
    Reload,
    /// Drain and stop; a second time: stop at once.
    Stop,
}

/// How far the daemon has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// It takes streams.
    Serving,
    /// It takes no new ones, and writes what was accepted.
    Draining,
    /// It waits for no stream any more.
    Leaving,
}

/// How the daemon came to its end.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Everything that was accepted is on disk.
    Drained,
    /// Bytes that were accepted are lost; the log says whose.
    Lost,
}

/// Where the configuration comes from, for reading it again.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// The file.
    pub file: Option<PathBuf>,
    /// What the command line put above it.
    pub overrides: Overrides,
}

/// Everything that connections share.
pub struct Server {
    config: watch::Sender<Arc<Config>>,
    /// Whoever still has something to tell a muxer holds a receiver of it.
    phase: watch::Sender<Phase>,
    shop: Arc<Shop>,
    queues: Arc<Queues>,
    descriptors: Arc<Table>,
    /// Closes what clients have passed and nobody takes.
    closer: Arc<Closer>,
    places: Arc<Places>,
    /// The slots that clients share.
    slots: Arc<Places>,
    paces: pace::Paces,
    streams: Streams,
    ended: resumed::Ended,
    metrics: metrics::Latest,
    hook: Hook,
    /// A client has asked it to drain and stop.
    stop: Notify,
    /// Clients have asked it to read its configuration again.
    reloads: reload::Reloads,
    /// When the total was last looked at.
    reviewed: Mutex<Duration>,
}

impl Server {
    /// A server that opens its files with `disk`, keeps in `ledger` what outlives it, and has no more open
    /// than is in the table of `descriptors`.
    #[must_use]
    pub fn new(
        config: Config,
        disk: Arc<dyn Open>,
        ledger: Ledger,
        descriptors: Arc<Table>,
    ) -> Arc<Self> {
        let clock = Clock::start();
        let sizes = Sizes::now(&config);
        sizes.warn_of_less(&config);
        let shop = Shop {
            disk,
            gate: Gate::new(sizes.budget_bytes, clock),
            devices: Devices::default(),
            files: Arc::new(OpenFiles::default()),
            openings: Openings::default(),
            ledger,
            messages: Messages::default(),
            clock,
        };
        let queues = Queues::new(config.queue_bytes, sizes.queue_total_bytes);
        queues.set_user_limit(config.limits.queue_per_user_bytes);
        Arc::new(Self {
            queues,
            config: watch::Sender::new(Arc::new(config)),
            phase: watch::Sender::new(Phase::Serving),
            shop: Arc::new(shop),
            descriptors,
            closer: Arc::default(),
            places: Arc::default(),
            slots: Arc::default(),
            paces: pace::Paces::default(),
            streams: Streams::default(),
            ended: resumed::Ended::default(),
            metrics: metrics::Latest::default(),
            hook: Hook::default(),
            stop: Notify::new(),
            reloads: reload::Reloads::default(),
            reviewed: Mutex::default(),
        })
    }

    /// The configuration as it is now.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.borrow())
    }

    /// True once the daemon takes no new streams.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        *self.phase.borrow() != Phase::Serving
    }

    /// True once it waits for no stream any more.
    fn is_leaving(&self) -> bool {
        *self.phase.borrow() == Phase::Leaving
    }

    /// A snapshot, from memory alone.
    #[must_use]
    pub fn status(&self) -> Status {
        status::assemble(&self.shop, &self.queues, &self.streams.all(), self.is_draining())
    }

    /// What a monitoring system reads, from memory alone; put together anew only every so often.
    #[must_use]
    pub fn metrics(&self) -> String {
        self.metrics.text(self.shop.clock.now(), || {
            metrics::text(&self.status(), &self.streams.totals(), self.shop.devices.times())
        })
    }

    fn tick(&self) {
        let now = self.shop.clock.now();
        self.streams.all().iter().for_each(|record| record.sample(now));
        for (name, state) in self.shop.gate.tick() {
            self.tell_health(&name, state);
        }
        self.review_sizes(now);
        let config = self.config();
        self.look_for_hook();
        resumed::expire(self, now, config.resume_grace);
        for stream in self.streams.forget_ended(now, config.keep_failed) {
            self.shop.ledger.forget(stream);
        }
        for (client_uid, count) in self.shop.messages.left_out(now) {
            let user = client_uid.map(|user| format!(" {user}")).unwrap_or_default();
            warn!(
                client_uid = user::logged(client_uid),
                "{count} more messages that user{user} has caused are left out"
            );
        }
        supervisor::alive(&status::sentence(&self.status()));
    }

    /// Before streams that have ended are forgotten: one may have failed since the last tick.
    fn look_for_hook(&self) {
        self.hook.look(&self.streams.all(), self.shop.clock, &self.config().hook);
    }

    /// The totals depend on what memory is free and on what the kernel has been set to.
    fn review_sizes(&self, now: Duration) {
        let mut reviewed = self.reviewed.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_sub(*reviewed) >= REVIEW {
            *reviewed = now;
            let config = self.config();
            self.use_sizes(&config, &Sizes::now(&config));
        }
    }

    fn use_sizes(&self, config: &Config, sizes: &Sizes) {
        self.shop.gate.set_limit(sizes.budget_bytes);
        self.queues.set_limits(config.queue_bytes, sizes.queue_total_bytes);
        self.queues.set_user_limit(config.limits.queue_per_user_bytes);
    }

    fn tell_health(&self, device: &str, state: State) {
        let all = self.shop.devices.all();
        let Some(known) = all.iter().find(|known| known.info.id == device) else {
            return;
        };
        let mount = &known.info.mount;
        match state {
            State::Suspect => warn!(
                event = event::DEVICE_SILENT,
                device, "{mount} has not completed a write for seconds"
            ),
            State::Wedged => error!(
                event = event::DEVICE_SILENT,
                device,
                "{mount} does not answer; its streams stand still until it does, all others go on"
            ),
            State::Recovering { .. } => {
                info!(event = event::DEVICE_BACK, device, "{mount} answers again");
            }
            State::Starting { .. } | State::Healthy => {}
        }
    }

    /// Has a connection served, or told that it is one too many.
    fn admit(self: &Arc<Self>, stream: Stream, connections: &mut JoinSet<()>) {
        let peer = peer::peer(&stream);
        let in_line = passed::in_line(&stream);
        // From here on it is guarded: also one whose task is ended before it has begun.
        let guard = |claim, place| Socket::new(stream, peer.uid, &self.closer, (claim, place));
        let claim = match self.descriptors.for_connection() {
            Ok(claim) => claim,
            Err(full) => {
                if self.shop.may_say(peer.uid) {
                    warn!("closed a connection unheard: {full}");
                }
                return drop(guard(self.descriptors.for_one_too_many(), None));
            }
        };
        if let Err(error) = in_line {
            warn!("closed a connection unheard: its urgent bytes cannot be had in line: {error}");
            return drop(guard(claim, None));
        }
        let limits = &self.config().limits;
        let (most, most_of_user) = (limits.connections_max, limits.connections_per_user_max);
        let server = Arc::clone(self);
        match self.places.take(peer.uid, most, most_of_user) {
            Ok(place) => {
                let socket = guard(claim, Some(place));
                connections.spawn(connection::serve(server, socket, peer));
            }
            // Beyond that there is not even an answer: whoever comes in such numbers does not read it.
            Err(_) if connections.len() >= self.places.taken() as usize + REFUSALS_MAX => {
                drop(guard(claim, None));
            }
            Err(crowded) => {
                let socket = guard(claim, None);
                connections.spawn(connection::refuse(server, socket, peer, crowded));
            }
        }
    }
}

/// Serves `listener` until a signal says stop, and drains.
pub async fn run(
    server: Arc<Server>,
    listener: Listener,
    mut signals: mpsc::UnboundedReceiver<Signal>,
    source: Source,
) -> Ending {
    let mut connections = JoinSet::new();
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    supervisor::ready();
    let mut again = Instant::now();
    let mut reading = reload::Reading::default();
    let mut asked = server.reloads.asked();
    loop {
        tokio::select! {
            accepted = accept(&listener, again) => match accepted {
                Ok(socket) => server.admit(socket, &mut connections),
                Err(error) => {
                    // Mostly: no descriptor is free. Trying again at once would only burn a core.
                    warn!("cannot accept a connection: {error}");
                    again = Instant::now() + TICK;
                }
            },
            Some(_) = connections.join_next() => {}
            _ = ticks.tick() => server.tick(),
            signal = signals.recv() => match signal {
                Some(Signal::Reload) => reading.begin(&source, Vec::new()),
                Some(Signal::Stop) | None => break,
            },
            result = reading.result(&source) => server.reloaded(result, &mut reading, &source),
            Some(asking) = asked.recv() => reading.begin(&source, vec![asking]),
            () = server.stop.notified() => break,
        }
    }
    drop((asked, reading));
    // New connections are refused from here on: the socket's file is gone, or systemd keeps them.
    listener::close(listener);
    drain::run(&server, &mut signals, connections).await
}

async fn accept(listener: &Listener, not_before: Instant) -> std::io::Result<Stream> {
    sleep_until(not_before).await;
    listener.accept().await
}
