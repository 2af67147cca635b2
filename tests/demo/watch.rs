//! What a person would see meanwhile: `freemkvctl status`, again and again.

use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use freemkvd_proto::socket::SOCKET_ENV;
use freemkvd_tests::daemon::Daemon;
use freemkvd_tests::programs;

use crate::rip::Rip;

/// How often the daemon is asked for the peaks.
const SAMPLE: Duration = Duration::from_millis(20);

/// How often the status is shown on a terminal, and elsewhere.
const SHOW_TERMINAL: Duration = Duration::from_secs(1);
const SHOW_PLAIN: Duration = Duration::from_secs(4);

/// The most that was seen at once, in bytes.
#[derive(Debug, Default)]
pub(crate) struct Peak {
    pub(crate) limit_bytes: u64,
    pub(crate) charged_bytes: u64,
    /// As the kernel counts it, where it does.
    pub(crate) kernel_dirty_bytes: Option<u64>,
    pub(crate) queued_bytes: u64,
    pub(crate) daemon_resident_bytes: u64,
    pub(crate) samples: u64,
}

/// Shows the status until every muxer has ended.
pub(crate) fn until_done(daemon: &Daemon, rips: &[Rip]) -> Result<Peak, Box<dyn Error>> {
    let is_terminal = io::stdout().is_terminal();
    let show = if is_terminal { SHOW_TERMINAL } else { SHOW_PLAIN };
    let mut peak = Peak::default();
    let mut next = Instant::now() + SHOW_TERMINAL;
    while !rips.iter().all(Rip::is_done) {
        let budget = daemon.try_status().ok_or("freemkvd does not answer")?.budget;
        peak.limit_bytes = budget.limit_bytes;
        peak.charged_bytes = peak.charged_bytes.max(budget.charged_bytes);
        peak.kernel_dirty_bytes = peak.kernel_dirty_bytes.max(budget.kernel_dirty_bytes);
        peak.queued_bytes = peak.queued_bytes.max(budget.queued_bytes);
        let resident = daemon.resident_bytes().unwrap_or(0);
        peak.daemon_resident_bytes = peak.daemon_resident_bytes.max(resident);
        peak.samples += 1;
        if Instant::now() >= next {
            next += show;
            if is_terminal {
                // From the top of a cleared screen.
                print!("\x1b[H\x1b[2J");
            }
            println!("$ freemkvctl status");
            io::stdout().flush()?;
            status(daemon)?;
            println!();
        }
        thread::sleep(SAMPLE);
    }
    Ok(peak)
}

/// Prints to where the demo prints, so that it fits the terminal.
fn status(daemon: &Daemon) -> io::Result<()> {
    Command::new(programs::freemkvctl())
        .env(SOCKET_ENV, daemon.socket())
        .arg("status")
        .status()
        .map(|_| ())
}
