//! The service control manager of Windows. In the foreground nobody listens, and all of it does nothing.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use windows_service::service::{
    ServiceControlAccept, ServiceExitCode, ServiceState, ServiceStatus, ServiceType,
};
use windows_service::service_control_handler::ServiceStatusHandle;

pub use super::nothing_kept::*;

/// How a daemon is stopped.
pub const HOW_TO_STOP: &str = "sc stop freemkvd";
/// What helps when a file may not be opened.
pub const HOW_TO_ALLOW: &str =
    "; let the daemon's account write there: as a service that is NT SERVICE\\freemkvd";
/// What helps when a file lies where nothing can be written.
pub const HOW_TO_MAKE_WRITABLE: &str = "; remount it writable";
/// What helps when there is no room for one more file.
pub const HOW_TO_MAKE_ROOM: &str = "; wait until another stream has ended";

static MANAGER: Mutex<Option<ServiceStatusHandle>> = Mutex::new(None);

/// Counted up with each report of a stop that is under way: it shows that something is.
static CHECKPOINT: AtomicU32 = AtomicU32::new(0);

/// How long a start may take, and a drain before it says more.
const HINT: Duration = Duration::from_secs(30);

/// Who is told from now on.
pub fn report_to(manager: ServiceStatusHandle) {
    *MANAGER.lock().unwrap_or_else(PoisonError::into_inner) = Some(manager);
    report(ServiceState::StartPending, ServiceExitCode::NO_ERROR, HINT);
}

/// The daemon serves.
pub fn ready() {
    report(ServiceState::Running, ServiceExitCode::NO_ERROR, Duration::ZERO);
}

/// The configuration is being read again; the manager has no word for that.
pub fn reloading() {}

/// The daemon drains.
pub fn stopping() {
    report(ServiceState::StopPending, ServiceExitCode::NO_ERROR, HINT);
}

/// The drain may take that much longer from now on.
pub fn extend(time: Duration) {
    report(ServiceState::StopPending, ServiceExitCode::NO_ERROR, time);
}

/// The control loop runs: the manager has no watchdog, and shows no sentence.
pub fn alive(_sentence: &str) {}

/// The daemon has ended, well if `code` is 0. The process may be ended any moment now.
pub fn ended(code: u32) {
    let code = match code {
        0 => ServiceExitCode::NO_ERROR,
        code => ServiceExitCode::ServiceSpecific(code),
    };
    report(ServiceState::Stopped, code, Duration::ZERO);
}

fn report(state: ServiceState, exit_code: ServiceExitCode, wait_hint: Duration) {
    let manager = MANAGER.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(manager) = &*manager else { return };
    let is_pending = matches!(state, ServiceState::StartPending | ServiceState::StopPending);
    let checkpoint = if is_pending { CHECKPOINT.fetch_add(1, Ordering::Relaxed) + 1 } else { 0 };
    let controls_accepted = match state {
        ServiceState::Running => {
            ServiceControlAccept::STOP
                | ServiceControlAccept::PRESHUTDOWN
                | ServiceControlAccept::PARAM_CHANGE
        }
        _ => ServiceControlAccept::empty(),
    };
    let status = ServiceStatus {
        service_type: ServiceType::OWN_PROCESS,
        current_state: state,
        controls_accepted,
        exit_code,
        checkpoint,
        wait_hint,
        process_id: None,
    };
    // A manager that does not listen is no reason to stop writing.
    if let Err(error) = manager.set_service_status(status) {
        tracing::debug!("the service control manager can't be told: {error}");
    }
}
