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
    #[cfg(windows)]
    if let Some(freemkvd::service::Action::Service(command)) = cli.action {
        return service(command, source);
    }
    match freemkvd::run(source) {
        Ok(Ending::Drained) => ExitCode::SUCCESS,
        Ok(Ending::Lost) => ExitCode::FAILURE,
        // systemd does not restart the unit for this one: it would fail the same way.
        Err(error @ StartError::Config(_)) => fail(&error, USAGE),
        Err(error) => fail(&error, FAILED),
    }
}

#[cfg(windows)]
fn service(
    command: freemkvd::service::ServiceCommand,
    source: freemkvd::server::Source,
) -> ExitCode {
    use freemkvd::service::{self, ServiceCommand};

    let (done, said) = match command {
        ServiceCommand::Install => {
            let said = format!(
                "the service {} is installed; let {} write to the folder for rips, and start it: sc start {0}",
                service::NAME,
                service::ACCOUNT
            );
            (service::install(&source), said)
        }
        ServiceCommand::Uninstall => {
            (service::uninstall(), format!("the service {} is removed", service::NAME))
        }
        ServiceCommand::Run => {
            freemkvd::log::to_file();
            (service::run(source), String::new())
        }
    };
    match done {
        Ok(()) if said.is_empty() => ExitCode::SUCCESS,
        Ok(()) => {
            println!("{said}");
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error, FAILED),
    }
}

fn fail(error: &dyn std::error::Error, code: u8) -> ExitCode {
    eprintln!("freemkvd: {error}");
    code.into()
}
