//! Parses the command line, runs the daemon, and says in one sentence why it could not.

use std::process::ExitCode;

use clap::Parser;
use freemkvd::StartError;
use freemkvd::cli::Cli;
use freemkvd::config::Config;
use freemkvd::server::Ending;

/// Exit codes, as freemkvctl has them.
const FAILED: u8 = 1;
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let source = cli.source();
    if cli.check_config {
        return match Config::load(source.file.as_deref(), &source.overrides) {
            Ok(_) => {
                println!("the configuration is valid");
                ExitCode::SUCCESS
            }
            Err(error) => fail(&error, USAGE),
        };
    }
    match freemkvd::run(source) {
        Ok(Ending::Drained) => ExitCode::SUCCESS,
        Ok(Ending::Lost) => ExitCode::FAILURE,
        // systemd does not restart the unit for this one: it would fail the same way.
        Err(error @ StartError::Config(_)) => fail(&error, USAGE),
        Err(error) => fail(&error, FAILED),
    }
}

fn fail(error: &dyn std::error::Error, code: u8) -> ExitCode {
    eprintln!("freemkvd: {error}");
    code.into()
}
