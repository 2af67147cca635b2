//! The command line.

#[cfg_attr(unix, path = "cli/unix.rs")]
#[cfg_attr(windows, path = "cli/windows.rs")]
mod platform;

use std::error::Error;
use std::path::PathBuf;

use clap::Parser;

use crate::config::Overrides;
use crate::server::Source;

/// The write daemon for rip hosts: takes files from muxers over a socket and writes them under one
/// budget of dirty memory, so that no rip stalls another.
#[derive(Debug, Parser)]
#[command(name = "freemkvd", version, after_help = platform::AFTER_HELP)]
pub struct Cli {
    /// Configuration file; without one every key has its default
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Listen here, instead of where the configuration says
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,

    /// Write below this directory; any number of times; replaces daemon.roots
    #[arg(long = "root", value_name = "DIR")]
    pub roots: Vec<PathBuf>,

    /// Check the configuration and exit: 0 when it is valid
    #[arg(long)]
    pub check_config: bool,

    /// What else can be done here
    #[command(flatten)]
    pub other: platform::Other,
}

/// What there is to say of something else that was done, or why it was not.
pub type Said = Result<String, Box<dyn Error>>;

impl Cli {
    /// Where the configuration comes from.
    #[must_use]
    pub fn source(&self) -> Source {
        let overrides = Overrides { socket: self.socket.clone(), roots: self.roots.clone() };
        Source { file: self.config.clone(), overrides }
    }
}
