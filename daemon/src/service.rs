//! The daemon as a service of Windows: making and removing it, and running under the service control manager.
//!
//! The service runs as a virtual account of its own, `NT SERVICE\freemkvd`, which has no password and no right but to
//! run: whoever installs it gives that account the folder for rips. It starts with the system, and again when it fails.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use tracing::error;
use windows_service::service::{
    ServiceAccess, ServiceAction, ServiceActionType, ServiceControl, ServiceErrorControl,
    ServiceFailureActions, ServiceFailureResetPeriod, ServiceInfo, ServiceStartType, ServiceType,
};
use windows_service::service_control_handler::{self, ServiceControlHandlerResult};
use windows_service::service_manager::{ServiceManager, ServiceManagerAccess};
use windows_service::{define_windows_service, service_dispatcher};

use crate::server::{Signal, Source};
use crate::{exit, signal, supervisor};

/// Its name for the service control manager.
pub const NAME: &str = "freemkvd";

/// The account that it runs as.
pub const ACCOUNT: &str = r"NT SERVICE\freemkvd";

/// After a failure it is started again so much later, and its failures are forgotten after a day.
const RESTART: Duration = Duration::from_secs(5);
const FORGET: Duration = Duration::from_secs(24 * 60 * 60);

/// Why it can't be made, removed or run.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The service control manager said no.
    #[error("cannot {operation} the service {NAME}: {}; do it as an administrator", said(source))]
    Refused {
        /// What was tried.
        operation: &'static str,
        /// What it said.
        source: windows_service::Error,
    },
    /// The path of this program is not known.
    #[error(
        "cannot install the service {NAME}: the system does not tell where this program is: {0}"
    )]
    Program(std::io::Error),
    /// It would not start.
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
}

/// The manager's own words: those of its binding say only that it has said some.
fn said(source: &windows_service::Error) -> String {
    match source {
        windows_service::Error::Winapi(error) => error.to_string(),
        other => other.to_string(),
    }
}

fn manager(operation: &'static str) -> impl FnOnce(windows_service::Error) -> ServiceError {
    move |source| ServiceError::Refused { operation, source }
}

/// Makes the service, which will run with these options.
///
/// # Errors
/// [`ServiceError`]; then there is none, or the one from before.
pub fn install(source: &Source) -> Result<(), ServiceError> {
    // A service that can't start is found out about now, and not in a log.
    crate::config::Config::load(source.file.as_deref(), &source.overrides)?;
    let executable_path = std::env::current_exe().map_err(ServiceError::Program)?;
    let info = ServiceInfo {
        name: NAME.into(),
        display_name: "freemkvd, the write daemon for rips".into(),
        service_type: ServiceType::OWN_PROCESS,
        start_type: ServiceStartType::AutoStart,
        error_control: ServiceErrorControl::Normal,
        executable_path,
        launch_arguments: arguments(source),
        dependencies: Vec::new(),
        account_name: Some(ACCOUNT.into()),
        account_password: None,
    };
    let access = ServiceManagerAccess::CONNECT | ServiceManagerAccess::CREATE_SERVICE;
    let services =
        ServiceManager::local_computer(None::<&str>, access).map_err(manager("install"))?;
    let access = ServiceAccess::CHANGE_CONFIG | ServiceAccess::START;
    let service = services.create_service(&info, access).map_err(manager("install"))?;
    // What comes now makes it better; without it, it is there.
    let _ = service.set_description("Writes what muxers rip, under one budget of dirty memory.");
    let again = ServiceAction { action_type: ServiceActionType::Restart, delay: RESTART };
    let _ = service.update_failure_actions(ServiceFailureActions {
        reset_period: ServiceFailureResetPeriod::After(FORGET),
        reboot_msg: None,
        command: None,
        actions: Some(vec![again.clone(), again.clone(), again]),
    });
    let _ = service.set_failure_actions_on_non_crash_failures(true);
    Ok(())
}

/// Absolute, because a service starts in the directory of the system.
fn arguments(source: &Source) -> Vec<OsString> {
    let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
    let mut arguments = Vec::new();
    let mut add = |option: &str, value: PathBuf| arguments.extend([option.into(), value.into()]);
    if let Some(file) = &source.file {
        add("--config", absolute(file));
    }
    if let Some(socket) = &source.overrides.socket {
        add("--socket", socket.clone());
    }
    for root in &source.overrides.roots {
        add("--root", absolute(root));
    }
    arguments.extend(["service".into(), "run".into()]);
    arguments
}

/// Stops and removes the service.
///
/// # Errors
/// [`ServiceError`]: it is not there, or nothing was changed.
pub fn uninstall() -> Result<(), ServiceError> {
    let services = ServiceManager::local_computer(None::<&str>, ServiceManagerAccess::CONNECT)
        .map_err(manager("remove"))?;
    let access = ServiceAccess::STOP | ServiceAccess::DELETE;
    let service = services.open_service(NAME, access).map_err(manager("remove"))?;
    // One that does not run can't be stopped. One that drains is removed when it has ended.
    let _ = service.stop();
    service.delete().map_err(manager("remove"))
}

static SOURCE: OnceLock<Source> = OnceLock::new();

/// Runs under the service control manager, which has started this process.
///
/// # Errors
/// [`ServiceError`]: somebody else has started it.
pub fn run(source: Source) -> Result<(), ServiceError> {
    let _ = SOURCE.set(source);
    service_dispatcher::start(NAME, ffi_main).map_err(manager("run"))
}

define_windows_service!(ffi_main, serve);

fn serve(_arguments: Vec<OsString>) {
    let handled = |control| match control {
        ServiceControl::Stop | ServiceControl::Preshutdown => {
            signal::send(Signal::Stop);
            ServiceControlHandlerResult::NoError
        }
        ServiceControl::ParamChange => {
            signal::send(Signal::Reload);
            ServiceControlHandlerResult::NoError
        }
        ServiceControl::Interrogate => ServiceControlHandlerResult::NoError,
        _ => ServiceControlHandlerResult::NotImplemented,
    };
    // Without a handler the manager could neither be told anything nor stop it.
    let Ok(handle) = service_control_handler::register(NAME, handled) else { return };
    supervisor::report_to(handle);
    let ended = crate::run(SOURCE.get().cloned().unwrap_or_default());
    if let Err(error) = &ended {
        error!("{error}");
    }
    supervisor::ended(exit::code_of(&ended).into());
}
