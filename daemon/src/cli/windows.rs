//! On Windows it also makes, removes and is a service.

use clap::{Args, Subcommand};

use super::Said;
use crate::server::Source;
use crate::{log, service};

pub(super) const AFTER_HELP: &str = "\
Serve one folder to yourself, in the foreground:  freemkvd --root C:\\Rips
As a service of the system:                       freemkvd --root C:\\Rips service install
See what it does:                                 freemkvctl status";

/// What else can be done here.
#[derive(Debug, Args)]
pub struct Other {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// The service of Windows
    #[command(subcommand)]
    Service(Service),
}

#[derive(Clone, Copy, Debug, Subcommand)]
enum Service {
    /// Make it, with the options that stand before this command; start it with: sc start freemkvd
    Install,
    /// Remove it; it stops first
    Uninstall,
    /// How the service control manager starts it
    #[command(hide = true)]
    Run,
}

impl Other {
    /// Does it. `None`: it is to serve.
    #[must_use]
    pub fn run(self, source: &Source) -> Option<Said> {
        let Action::Service(command) = self.action?;
        let (name, account) = (service::NAME, service::ACCOUNT);
        let done = match command {
            Service::Install => service::install(source).map(|()| {
                format!(
                    "the service {name} is installed; let {account} write to the folder for rips, \
                     and start it: sc start {name}\n"
                )
            }),
            Service::Uninstall => {
                service::uninstall().map(|()| format!("the service {name} is removed\n"))
            }
            Service::Run => {
                log::to_file();
                service::run(source.clone()).map(|()| String::new())
            }
        };
        Some(done.map_err(Into::into))
    }
}
