//! The benchmark on Linux.
//!
//! 1. Every stream of every run is a process of its own ([`writer`]), and so is the daemon: memory,
//!    CPU time and the cost of touching memory first are those of the run and of nobody else.
//! 2. Contenders take turns run by run ([`plan`]), so that a slow minute of the machine hits all.
//! 3. Whatever is set up is owned by a value whose drop removes it; an interrupt ends the run at its
//!    next look at [`interrupt`], and drops do the rest.

mod args;
mod blocks;
mod check;
mod contender;
mod dirty;
mod figures;
mod goals;
mod interrupt;
mod kernel;
mod memory;
mod place;
mod plan;
mod play;
mod report;
mod requests;
mod run;
mod sample;
mod seed;
mod spec;
mod stats;
mod summary;
mod table;
mod uncached;
mod workload;
mod writer;

use std::process::ExitCode;

use clap::Parser;

use args::{Args, Role};

/// What a shell gives a process that Ctrl-C ended.
const EXIT_INTERRUPTED: u8 = 130;

pub(crate) fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(Role::Writer { spec }) = &args.role {
        return writer::main(spec);
    }
    match plan::benchmark(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) if interrupt::happened() => {
            eprintln!("bench: interrupted; everything that was set up is removed");
            ExitCode::from(EXIT_INTERRUPTED)
        }
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}
