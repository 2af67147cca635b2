//! What systemd is told. Without systemd, and on other platforms, all of it does nothing.

use std::time::Duration;

#[cfg(target_os = "linux")]
use sd_notify::NotifyState;

/// The daemon serves.
pub fn ready() {
    #[cfg(target_os = "linux")]
    notify(&[NotifyState::Ready]);
}

/// The configuration is being read again; [`ready`] follows.
pub fn reloading() {
    #[cfg(target_os = "linux")]
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(_) => notify(&[NotifyState::Reloading]),
    }
}

/// The daemon drains.
pub fn stopping() {
    #[cfg(target_os = "linux")]
    notify(&[NotifyState::Stopping]);
}

/// The drain may take that much longer from now on.
pub fn extend(time: Duration) {
    #[cfg(target_os = "linux")]
    notify(&[NotifyState::ExtendTimeoutUsec(u32::try_from(time.as_micros()).unwrap_or(u32::MAX))]);
    #[cfg(not(target_os = "linux"))]
    let _ = time;
}

/// The control loop runs, and how things are. Also feeds the watchdog, where there is one.
pub fn alive(sentence: &str) {
    #[cfg(target_os = "linux")]
    notify(&[NotifyState::Watchdog, NotifyState::Status(sentence)]);
    #[cfg(not(target_os = "linux"))]
    let _ = sentence;
}

#[cfg(target_os = "linux")]
fn notify(states: &[NotifyState<'_>]) {
    // A manager that does not listen is no reason to stop writing.
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!("systemd can't be told: {error}");
    }
}
