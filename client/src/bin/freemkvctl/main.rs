//! `freemkvctl`: what a person, a script or a health check asks of freemkvd. One file for each
//! subcommand; this one picks it, and prints the error of the one that failed.

mod abort;
mod cli;
mod completions;
mod doctor;
mod drain;
mod exit;
mod group;
mod hangup;
mod input;
mod interrupt;
mod metrics;
mod pause;
mod problems;
mod reload;
mod report;
mod screen;
mod status;
mod table;
mod top;
mod units;
mod utc;
mod waiting;
mod watch;
mod weight;
mod why;
mod write;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Arguments, Subcommand};

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(usage) => {
            // Help is asked for through the same door. A closed terminal is nobody's loss.
            let _ = usage.print();
            return if usage.use_stderr() {
                exit::Exit::Usage.into()
            } else {
                exit::Exit::Fine.into()
            };
        }
    };
    let socket = arguments.socket.as_deref();
    let outcome = match &arguments.command {
        Subcommand::Abort(options) => abort::run(socket, options),
        Subcommand::Completions(options) => completions::run(options),
        Subcommand::Doctor(options) => doctor::run(socket, options),
        Subcommand::Drain(_) => drain::run(socket),
        Subcommand::Metrics(_) => metrics::run(socket),
        Subcommand::Pause(options) => pause::pause(socket, options),
        Subcommand::Reload(_) => reload::run(socket),
        Subcommand::Resume(options) => pause::resume(socket, options),
        Subcommand::Status(options) => status::run(socket, options),
        Subcommand::Top(options) => top::run(socket, options),
        Subcommand::Watch(options) => watch::run(socket, options),
        Subcommand::Weight(options) => weight::run(socket, options),
        Subcommand::Why(options) => why::run(socket, options),
        Subcommand::Write(options) => write::run(socket, options),
    };
    match outcome {
        Ok(exit) => exit.into(),
        Err(failed) => {
            failed.print();
            failed.exit().into()
        }
    }
}
