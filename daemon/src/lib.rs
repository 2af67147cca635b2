//! freemkvd, the write daemon for rip hosts.
//!
//! Muxers hand over their bytes through a socket; one thread per stream writes them; one budget
//! bounds what is dirty over all streams. Who owns what:
//!
//! * [`server`]: connections, and nothing of files. It reads a socket only while the stream's queue
//!   has room, which is all the backpressure there is.
//! * [`writer`]: one thread per stream, which owns the stream's file, executes decisions, and is the
//!   only one that may ever wait for a disk.
//! * [`budget`] and [`stream`]: the decisions. Pure: no clock, no thread, no I/O.
//! * [`storage`]: the operating system's verbs, behind a trait, with the only `unsafe`.
//! * [`access`], [`user`]: who may connect, and do what.
//! * [`descriptors`], [`sizes`]: who may have how many of them open, and how much memory.
//! * [`hook`]: a program that is run when something deserves a notification.
//! * [`messages`]: how much one user can have said in the log.
//! * [`metrics`]: what a monitoring system reads.
//! * [`config`], [`status`], [`supervisor`], [`log`], [`signal`]: around it.
//!
//! Dependencies point downward only: `main`, `server`, `writer`, then `stream`, `budget` and
//! `storage`. `docs/ARCHITECTURE.md` tells the life of a write.

pub mod access;
pub mod budget;
pub mod cgroup;
pub mod cli;
pub mod clock;
pub mod config;
pub mod descriptors;
pub mod device;
pub mod exit;
pub mod foreign;
pub mod hook;
pub mod ledger;
pub mod log;
pub mod messages;
pub mod metrics;
pub mod platform;
pub mod rate;
pub mod server;
#[cfg(windows)]
pub mod service;
pub mod signal;
pub mod sizes;
pub mod space;
pub mod status;
pub mod storage;
pub mod stream;
pub mod supervisor;
pub mod thread;
pub mod user;
pub mod writer;

use std::io;
use std::path::Path;
use std::sync::Arc;

use tracing::{info, warn};

use crate::config::{Config, ConfigError, Size};
use crate::descriptors::Table;
use crate::ledger::{Entry, Ledger};
use crate::server::scrape::Endpoint;
use crate::server::{Ending, ListenError, Server, Source};

/// Why the daemon did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is not valid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There is no socket.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Not even one stream would fit.
    #[error(
        "cannot start: this process may have {most} open files, and needs {least} to serve a single stream; raise \
         LimitNOFILE= of its unit, or ulimit -n"
    )]
    Descriptors {
        /// How many it may have.
        most: u64,
        /// How many it takes.
        least: u64,
    },
    /// The system lacks something.
    #[error("cannot start: {what}: {source}")]
    System {
        /// Of what there is none.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// The system lacks `what`.
fn without(what: &'static str) -> impl FnOnce(io::Error) -> StartError {
    move |source| StartError::System { what, source }
}

/// Threads of the runtime: one reads sockets while the other answers status.
const RUNTIME_THREADS: usize = 2;

/// Runs the daemon until a signal stops it.
///
/// # Errors
/// [`StartError`]; nothing was served then.
pub fn run(source: Source) -> Result<Ending, StartError> {
    let config = Config::load(source.file.as_deref(), &source.overrides)?;
    log::start(config.log_level).map_err(without("there is no thread for the log"))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(RUNTIME_THREADS)
        .thread_name("connections")
        .enable_all()
        .build()
        .map_err(without("there are no threads for connections"))?;
    let ending = runtime.block_on(serve(config, source));
    // A writer thread that hangs in the kernel must not keep the process.
    runtime.shutdown_background();
    log::finish();
    ending
}

async fn serve(config: Config, source: Source) -> Result<Ending, StartError> {
    let signals = signal::listen().map_err(without("signals cannot be caught"))?;
    let mut passed =
        supervisor::passed().map_err(without("what systemd passed cannot be taken"))?;
    let (listener, socket) = server::listen(&config, &mut passed)?;
    // Whoever rips has no use for metrics, and must not stand still for want of them.
    let endpoint = server::listen_for_metrics(&config, &mut passed).unwrap_or_else(|error| {
        warn!("{error}; everything else is served");
        None
    });
    let (ledger, entries) = ledger(&config, &socket);
    let table = descriptors(&config, passed.count(), endpoint.is_some())?;
    config.warn_of_roots();
    let roots: Vec<_> = config.roots.iter().map(|root| root.display().to_string()).collect();
    let server = Server::new(config, Arc::new(storage::Disk), ledger, table);
    let budget = server.status().budget.limit_bytes;
    info!(
        event = log::event::DAEMON_READY,
        version = env!("CARGO_PKG_VERSION"),
        socket = %socket.display(),
        roots = roots.join(", "),
        budget_bytes = budget,
        "freemkvd serves {} on {}, at most {} dirty",
        roots.join(", "),
        socket.display(),
        Size(budget)
    );
    if let Some(endpoint) = endpoint {
        serve_metrics(&server, endpoint);
    }
    server::adopt(&server, entries, passed);
    Ok(server::run(server, listener, signals, source).await)
}

/// Where that fails all else goes on, as without an endpoint.
fn serve_metrics(server: &Arc<Server>, endpoint: Endpoint) {
    let address = endpoint.address;
    let text = {
        let server = Arc::clone(server);
        move || server.metrics()
    };
    match server::scrape::serve(endpoint, text) {
        Ok(()) => info!("metrics are at http://{address}/metrics"),
        Err(error) => {
            warn!("cannot serve metrics at {address}: {error}; everything else is served");
        }
    }
}

/// What outlives the daemon goes by its socket, so that two daemons never share it.
fn ledger(config: &Config, socket: &Path) -> (Ledger, Vec<Entry>) {
    let Some(directory) = platform::ledger_directory(socket) else {
        return Default::default();
    };
    let directory = directory.as_path();
    // Where nothing is to be kept, there may still be what a daemon before has kept; it expires at once.
    if config.resume_grace.is_zero() && !directory.exists() {
        return Default::default();
    }
    Ledger::open(directory).unwrap_or_else(|error| {
        let place = directory.display();
        // It may not be full for ever. Whatever else it is was set up like that.
        if storage::is_no_space(&error) {
            warn!(
                "cannot keep what a restart has to know in {place}: {error}; streams are refused until there \
                 is room"
            );
            return (Ledger::to_be_made(directory), Vec::new());
        }
        warn!(
            "cannot keep what a restart has to know in {place}: {error}; streams will end with this daemon"
        );
        Default::default()
    })
}

/// The table of descriptors. Those that were passed are their streams' own.
fn descriptors(config: &Config, passed: u64, has_metrics: bool) -> Result<Arc<Table>, StartError> {
    let limit = platform::raise_descriptor_limit();
    let of_metrics = match has_metrics {
        true => server::scrape::CONNECTIONS_MAX as u64 + server::scrape::OWN_DESCRIPTORS,
        false => 0,
    };
    let open = platform::open_descriptors().saturating_sub(passed) + of_metrics;
    let open = open + log::DESCRIPTORS + hook::DESCRIPTORS;
    let table = Table::new(limit, open);
    let (connections, streams) = (config.limits.connections_max, config.limits.streams_max);
    let (most, needed) = table.limit_and_need(connections, streams);
    if table.least() > most {
        return Err(StartError::Descriptors { most, least: table.least() });
    }
    if needed > most {
        warn!(
            "limits.streams = {streams} and limits.connections = {connections} may need {needed} open files, \
             and this process may have {most}; streams that do not fit are refused; raise LimitNOFILE= or \
             lower the limits"
        );
    }
    Ok(table)
}
