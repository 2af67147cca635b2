//! Parses the command line, runs the daemon, and says in one sentence why it could not.

use std::process::ExitCode;

use clap::Parser;
use freemkvd::cli::Cli;
use freemkvd::config::Config;
use freemkvd::server::Ending;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let source = cli.source();
    if cli.check_config {
        return match Config::load(source.file.as_deref(), &source.overrides) {
            Ok(_) => {
                println!("the configuration is valid");
                ExitCode::SUCCESS
            }
            Err(error) => fail(&error),
        };
    }
    match freemkvd::run(source) {
        Ok(Ending::Drained) => ExitCode::SUCCESS,
        Ok(Ending::Lost) => ExitCode::FAILURE,
        Err(error) => fail(&error),
    }
}

fn fail(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("freemkvd: {error}");
    ExitCode::FAILURE
}
