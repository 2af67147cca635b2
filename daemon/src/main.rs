//! Parses the command line, runs the daemon, and says in one sentence why it could not.

use std::process::ExitCode;

use clap::Parser;
use freemkvd::cli::Cli;
use freemkvd::config::Config;
use freemkvd::{exit, hook};

fn main() -> ExitCode {
    if let Some(code) = hook::second_step() {
        return code.into();
    }
    let cli = Cli::parse();
    let source = cli.source();
    if cli.check_config {
        return match Config::load(source.file.as_deref(), &source.overrides) {
            Ok(_) => {
                println!("the configuration is valid");
                ExitCode::SUCCESS
            }
            Err(error) => fail(&error, exit::USAGE),
        };
    }
    match cli.other.run(&source) {
        None => {}
        Some(Ok(said)) => {
            print!("{said}");
            return ExitCode::SUCCESS;
        }
        Some(Err(error)) => return fail(&*error, exit::FAILED),
    }
    let ended = freemkvd::run(source);
    let code = exit::code_of(&ended);
    match ended {
        Ok(_) => code.into(),
        Err(error) => fail(&error, code),
    }
}

fn fail(error: &dyn std::error::Error, code: u8) -> ExitCode {
    eprintln!("freemkvd: {error}");
    code.into()
}
