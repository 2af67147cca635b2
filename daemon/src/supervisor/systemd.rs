//! What systemd is told, and what it keeps. Without systemd all of it does nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::budget::StreamId;
use crate::storage::{Descriptors, Lent};

use sd_notify::NotifyState;

/// How a daemon is stopped.
pub const HOW_TO_STOP: &str = "systemctl stop freemkvd";
/// What helps when a file may not be opened.
pub const HOW_TO_ALLOW: &str =
    "; let the daemon's user write there; below /home its unit hides everything (ProtectHome=)";
/// What helps when a file lies where nothing can be written.
pub const HOW_TO_MAKE_WRITABLE: &str = "; name the place in ReadWritePaths= of freemkvd's unit (systemctl edit freemkvd) and restart it, or \
     remount it writable if it is read-only for everybody";
/// What helps when there is no room for one more file.
pub const HOW_TO_MAKE_ROOM: &str = "; raise LimitNOFILE= or MemoryMax= of freemkvd's unit, or fs.file-max of the host, or wait until another \
     stream has ended";

/// The daemon serves.
pub fn ready() {
    notify(&[NotifyState::Ready]);
}

/// The configuration is being read again; [`ready`] follows.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(_) => notify(&[NotifyState::Reloading]),
    }
}

/// The daemon drains.
pub fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// The drain may take that much longer from now on.
pub fn extend(time: Duration) {
    notify(&[NotifyState::ExtendTimeoutUsec(u32::try_from(time.as_micros()).unwrap_or(u32::MAX))]);
}

/// The control loop runs, and how things are. Also feeds the watchdog, where there is one.
pub fn alive(sentence: &str) {
    notify(&[NotifyState::Watchdog, NotifyState::Status(sentence)]);
}

/// The name of the socket for metrics (FileDescriptorName= of its unit).
const METRICS: &str = "metrics";

/// What this process was started with.
#[derive(Debug, Default)]
pub struct Passed {
    /// The listening socket.
    pub socket: Option<std::os::fd::OwnedFd>,
    /// The socket for metrics.
    pub metrics: Option<std::os::fd::OwnedFd>,
    /// The files of streams that it is to go on with.
    pub files: BTreeMap<StreamId, Descriptors>,
    /// What nobody needs. Nobody may wait for the close of one: it may be the file of a server that is dead.
    pub rest: Vec<crate::storage::Descriptor>,
}

impl Passed {
    /// The socket for metrics, if one was passed.
    pub fn take_metrics(&mut self) -> Option<std::net::TcpListener> {
        self.metrics.take().map(std::net::TcpListener::from)
    }

    /// How many descriptors there are of files.
    #[must_use]
    pub fn count(&self) -> u64 {
        let of_files: u64 = self.files.values().map(Descriptors::count).sum();
        of_files + self.rest.len() as u64
    }
}

/// Takes what this process was started with.
///
/// # Errors
/// It can't be taken.
pub fn passed() -> std::io::Result<Passed> {
    {
        let mut passed = Passed::default();
        let mut halves = BTreeMap::new();
        for (name, descriptor) in crate::storage::passed()? {
            match stream_of(&name) {
                Some((stream, role)) => {
                    let roles = halves.entry(stream).or_insert_with(BTreeMap::new);
                    passed.rest.extend(roles.insert(role.to_owned(), descriptor));
                }
                None if name == METRICS && passed.metrics.is_none() => {
                    passed.metrics = Some(descriptor);
                }
                None if passed.socket.is_none() => passed.socket = Some(descriptor),
                None => passed.rest.push(descriptor),
            }
        }
        for (stream, mut roles) in halves {
            match (roles.remove("data"), roles.remove("sentinel")) {
                (Some(data), Some(sentinel)) => {
                    passed.files.insert(stream, Descriptors { data, sentinel, directory: None });
                }
                // It was killed between the two, before the client had a token.
                (data, sentinel) => {
                    passed.rest.extend(data.into_iter().chain(sentinel));
                    forget(stream);
                }
            }
            passed.rest.extend(roles.into_values());
        }
        Ok(passed)
    }
}

/// The stream and the role of a descriptor that was kept under this name.
fn stream_of(name: &str) -> Option<(StreamId, &str)> {
    let (stream, role) = name.strip_prefix("stream-")?.split_once('-')?;
    Some((stream.parse().ok()?, role))
}

fn name_of(stream: StreamId, role: &str) -> String {
    format!("stream-{stream}-{role}")
}

/// Has the file of a stream kept open, whatever becomes of this process.
pub fn keep(stream: StreamId, lent: &Lent<'_>) {
    for (role, descriptor) in lent {
        let name = name_of(stream, role);
        // Without FDPOLL=0 a file would be watched for its end, which it can't have.
        let states =
            [NotifyState::FdStore, NotifyState::FdName(&name), NotifyState::Custom("FDPOLL=0")];
        if let Err(error) = sd_notify::notify_with_fds(&states, &[*descriptor]) {
            tracing::warn!(stream, "systemd can't be given the file of stream {stream}: {error}");
        }
    }
}

/// The file of a stream need not be kept open any longer.
pub fn forget(stream: StreamId) {
    for role in ["data", "sentinel"] {
        notify(&[NotifyState::FdStoreRemove, NotifyState::FdName(&name_of(stream, role))]);
    }
}

fn notify(states: &[NotifyState<'_>]) {
    // A manager that does not listen is no reason to stop writing.
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!("systemd can't be told: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_descriptor_tells_its_stream_and_role() {
        assert_eq!(stream_of(&name_of(17, "data")), Some((17, "data")));
        for other in ["freemkvd", "stream-", "stream-x-data", "stream-7", "7-data"] {
            assert_eq!(stream_of(other), None, "{other}");
        }
    }
}
