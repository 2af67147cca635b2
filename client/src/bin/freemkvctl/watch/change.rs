//! What has changed from one report of the daemon to the next. It has no clock and asks nobody: how long something
//! has lasted is in the reports.
//!
//! 1. What lasts is told once, when it begins, and once when it is over. What began and ended between two reports is
//!    not told, except that a stream is there or is not.
//! 2. A stream is the same as long as number and path are: numbers go on over a restart of the daemon.
//! 3. A daemon that drains leaves streams to the next one, and its report does not tell those from the ones that have
//!    ended. Whatever is missing there is kept, and what became of it is told with the next daemon's report.
//! 4. A stream that is slow is that until its muxer is clearly held up less, so that it does not flap.

use std::collections::BTreeSet;

use freemkvd_proto::status::{DaemonState, Device, DeviceState, Status, Stream, StreamState};
use freemkvd_proto::waits::{Cause, Waits};
use serde::Serialize;

use crate::problems::{
    abandonment, failure, is_slow, name, no_space, sickness, slowness, stalled, word,
};
use crate::units::seconds;

/// From when on it is worth a line that a stream hangs in a call, or waits for the budget or its turn: shorter ones are
/// how a slow disk is, and how the streams of a disk share it.
const LASTING_SECONDS: u64 = 5;

/// Below this its muxer is not held up any more, in percent of the time. From when on it is, `problems` knows.
const HELD_NO_MORE_PERCENT: u8 = 30;

/// For how long a daemon may not say how much muxers are held up: a stream has to be ten seconds old in it.
const NOT_TOLD_SECONDS: u64 = 15;

/// What has happened. The names are those of `--json` and stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    DaemonGone,
    DaemonBack,
    DaemonDraining,
    DeviceState,
    StreamOpened,
    StreamStalled,
    StreamNoSpace,
    StreamThrottled,
    StreamSlow,
    StreamSuspended,
    StreamPaused,
    StreamAbandoned,
    StreamAborted,
    StreamFailed,
    StreamGoesOn,
    StreamEnded,
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum How {
    Finished,
    Failed,
    Aborted,
    Abandoned,
}

/// One change. The fields are those of `--json`, in this order; what does not apply is `None`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Change {
    pub(crate) event: Kind,
    pub(crate) stream: Option<u64>,
    pub(crate) path: Option<String>,
    pub(crate) device: Option<String>,
    /// The state that it has now, as in the status; of an end the last that was seen.
    pub(crate) state: Option<String>,
    pub(crate) how: Option<How>,
    /// One sentence.
    pub(crate) message: String,
}

impl Change {
    /// It is about the daemon.
    pub(crate) fn of_daemon(event: Kind, message: String) -> Self {
        let (stream, path, device, state, how) = (None, None, None, None, None);
        Self { event, stream, path, device, state, how, message }
    }

    fn of_stream(event: Kind, stream: &Stream, message: String) -> Self {
        Self {
            stream: Some(stream.id),
            path: Some(stream.path.clone()),
            device: stream.device.clone(),
            state: Some(word(&stream.state)),
            ..Self::of_daemon(event, message)
        }
    }

    fn of_device(device: &Device, state: Option<DeviceState>, message: String) -> Self {
        Self {
            path: device.mount.clone(),
            device: Some(device.id.clone()),
            state: state.map(|state| word(&state)),
            ..Self::of_daemon(Kind::DeviceState, message)
        }
    }

    /// Somebody should look.
    pub(crate) fn is_trouble(&self) -> bool {
        match self.event {
            Kind::DaemonGone | Kind::StreamStalled | Kind::StreamNoSpace => true,
            Kind::StreamFailed | Kind::StreamAbandoned => true,
            Kind::DeviceState => self.state.as_ref().is_some_and(|state| state != "healthy"),
            _ => false,
        }
    }

    /// Says how the stream ended, as far as its own account tells.
    pub(crate) fn explain(&mut self, waits: &Waits) {
        let how = match (&waits.error, waits.now) {
            (Some(_), _) => self.how.or(Some(How::Failed)),
            // The last it did was to make all of it durable, and nothing was wrong with that.
            (None, Cause::Sync) => self.how.or(Some(How::Finished)),
            (None, Cause::Ending) => self.how.or(Some(How::Aborted)),
            _ => self.how,
        };
        self.how = how;
        if let (Some(stream), Some(path)) = (self.stream, &self.path) {
            self.message = ending(how, stream, path, waits.error.as_deref());
        }
    }
}

/// What was told, as far as it decides what is told next.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// The last report, with the streams of rule 3.
    status: Option<Status>,
    /// The streams of that which are slow (rule 4).
    slow: BTreeSet<u64>,
}

impl Known {
    /// The last report.
    pub(crate) fn status(&self) -> Option<&Status> {
        self.status.as_ref()
    }

    /// The streams that are gone by this report, and do not only wait for the next daemon.
    pub(crate) fn gone(&self, after: &Status) -> Vec<&Stream> {
        let is_left = |stream: &Stream| is_left(stream, after);
        self.missing(after).filter(|stream| !is_left(stream)).collect()
    }

    fn streams(&self) -> &[Stream] {
        self.status.as_ref().map_or(&[], |status| &status.streams)
    }

    fn missing(&self, after: &Status) -> impl Iterator<Item = &Stream> {
        let is_there = |one: &Stream| after.streams.iter().any(|other| is_same(one, other));
        self.streams().iter().filter(move |stream| !is_there(stream))
    }

    /// What has to be told of this report; of the first one, what is wrong.
    pub(crate) fn learn(&mut self, mut after: Status) -> Vec<Change> {
        let mut told = daemon_changes(self.status.as_ref(), &after);
        told.extend(device_changes(self.status.as_ref(), &after));
        told.extend(self.gone(&after).into_iter().map(ended));
        let mut slow = BTreeSet::new();
        for stream in &after.streams {
            let was = self.streams().iter().find(|other| is_same(other, stream));
            let was_slow = was.is_some() && self.slow.contains(&stream.id);
            let goes_on = is_held_up(stream) || is_not_told_yet(stream, &after);
            let is_slow = is_slow(stream, &after.devices) || was_slow && goes_on;
            slow.extend(is_slow.then_some(stream.id));
            if self.status.is_some() && was.is_none() {
                let message = format!("opened: {}", name(stream));
                told.push(Change::of_stream(Kind::StreamOpened, stream, message));
            }
            let was = was.map_or(Condition::Fine, |was| condition(was, was_slow));
            told.extend(stream_change(was, condition(stream, is_slow), stream, &after));
        }
        let left = self.missing(&after).filter(|stream| is_left(stream, &after));
        let left: Vec<_> = left.cloned().collect();
        slow.extend(left.iter().map(|stream| stream.id).filter(|id| self.slow.contains(id)));
        after.streams.extend(left);
        (self.status, self.slow) = (Some(after), slow);
        told
    }
}

fn is_same(one: &Stream, other: &Stream) -> bool {
    one.id == other.id && one.path == other.path
}

/// A daemon that has just begun does not know; that is no end of it.
fn is_not_told_yet(stream: &Stream, status: &Status) -> bool {
    stream.held.is_none() && status.uptime_seconds < NOT_TOLD_SECONDS
}

fn is_held_up(stream: &Stream) -> bool {
    stream.held.is_some_and(|held| held.percent >= HELD_NO_MORE_PERCENT)
}

/// Rule 3. No daemon goes on with what has failed or was given up.
fn is_left(stream: &Stream, status: &Status) -> bool {
    let is_over = matches!(condition(stream, false), Condition::Failed | Condition::Aborted);
    status.state == DaemonState::Draining && !is_over
}

fn daemon_changes(before: Option<&Status>, after: &Status) -> Vec<Change> {
    let mut told = Vec::new();
    let is_another = before.is_some_and(|before| before.pid != after.pid);
    if is_another {
        told.push(back(after));
    }
    let was = before.filter(|_| !is_another).map_or(DaemonState::Running, |before| before.state);
    if was != after.state && after.state == DaemonState::Draining {
        let message = "freemkvd takes no new streams and writes what is queued".to_owned();
        told.push(Change::of_daemon(Kind::DaemonDraining, message));
    }
    told
}

fn device_changes(before: Option<&Status>, after: &Status) -> Vec<Change> {
    let devices = before.map_or(&[][..], |before| &before.devices);
    let mut told: Vec<_> = after
        .devices
        .iter()
        .filter_map(|device| {
            let was = devices.iter().find(|other| other.id == device.id);
            device_change(was.map_or(DeviceState::Healthy, |was| was.state), device)
        })
        .collect();
    let is_gone = |device: &&Device| after.devices.iter().all(|other| other.id != device.id);
    let gone = devices.iter().filter(is_gone).filter(|one| one.state != DeviceState::Healthy);
    told.extend(gone.map(|device| {
        let message = format!("device {} has no streams any more", device.id);
        Change::of_device(device, None, message)
    }));
    told
}

/// The daemon answers again.
pub(crate) fn back(status: &Status) -> Change {
    let age = seconds(status.uptime_seconds);
    let message = format!("freemkvd {} is there, for {age}, pid {}", status.version, status.pid);
    Change::of_daemon(Kind::DaemonBack, message)
}

fn device_change(was: DeviceState, device: &Device) -> Option<Change> {
    (was != device.state).then(|| {
        let place = device.mount.as_deref().unwrap_or("it");
        let well = || format!("device {} is healthy again: {place}", device.id);
        Change::of_device(device, Some(device.state), sickness(device).unwrap_or_else(well))
    })
}

/// What a stream's state comes to for somebody who watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition<'a> {
    Fine,
    Throttled,
    Slow,
    Suspended,
    Paused,
    Stalled(&'a str),
    NoSpace,
    Abandoned,
    Aborted,
    Failed,
}

fn condition(stream: &Stream, is_slow: bool) -> Condition<'_> {
    let call = stream.blocked_in.as_deref();
    match (stream.state, call) {
        (StreamState::Aborted, _) => Condition::Aborted,
        (StreamState::Failed, _) => Condition::Failed,
        _ if stream.error.is_some() => Condition::Failed,
        (StreamState::Abandoned, _) => Condition::Abandoned,
        (StreamState::NoSpace, _) => Condition::NoSpace,
        (StreamState::Suspended, _) => Condition::Suspended,
        (StreamState::Paused, _) => Condition::Paused,
        (_, Some(call)) if stream.state_seconds >= LASTING_SECONDS => Condition::Stalled(call),
        // It lasts longer than what holds the stream up at a moment.
        _ if is_slow => Condition::Slow,
        (StreamState::Throttled, _) if throttled_seconds(stream) >= LASTING_SECONDS => {
            Condition::Throttled
        }
        _ => Condition::Fine,
    }
}

/// The wait goes on where the state is left for a moment only.
fn throttled_seconds(stream: &Stream) -> u64 {
    let waiting_ms = stream.waiting_for.as_ref().map_or(0, |waiting| waiting.ms);
    stream.state_seconds.max(waiting_ms / 1000)
}

fn stream_change(
    was: Condition<'_>,
    now: Condition<'_>,
    stream: &Stream,
    status: &Status,
) -> Option<Change> {
    let or_name = |said: Option<String>, what: &str| {
        said.unwrap_or_else(|| format!("{what}: {}", name(stream)))
    };
    let (event, message) = match now {
        _ if was == now => return None,
        Condition::Fine => (Kind::StreamGoesOn, format!("goes on: {}", name(stream))),
        Condition::Throttled => (Kind::StreamThrottled, throttled(stream)),
        Condition::Slow => (Kind::StreamSlow, or_name(slowness(stream, &status.devices), "slow")),
        Condition::Suspended => {
            let message = format!("waiting for its muxer after a restart: {}", name(stream));
            (Kind::StreamSuspended, message)
        }
        Condition::Paused => {
            let message = format!("paused from outside: {}", name(stream));
            (Kind::StreamPaused, message)
        }
        Condition::Stalled(_) => {
            (Kind::StreamStalled, or_name(stalled(stream, &status.devices), "stalled"))
        }
        Condition::NoSpace => (Kind::StreamNoSpace, or_name(no_space(stream), "no space")),
        Condition::Abandoned => (Kind::StreamAbandoned, or_name(abandonment(stream), "abandoned")),
        Condition::Aborted => (Kind::StreamAborted, or_name(failure(stream), "aborted")),
        Condition::Failed => (Kind::StreamFailed, or_name(failure(stream), "failed")),
    };
    Some(Change::of_stream(event, stream, message))
}

fn throttled(stream: &Stream) -> String {
    let what = stream.waiting_for.as_ref().map_or("the budget", |waiting| waiting.what.as_str());
    format!("throttled for {}, by {what}: {}", seconds(throttled_seconds(stream)), name(stream))
}

/// It is in the list no more. What it was last says how it ended, unless it was in the middle of something.
fn ended(stream: &Stream) -> Change {
    let how = match condition(stream, false) {
        Condition::Failed => Some(How::Failed),
        Condition::Aborted => Some(How::Aborted),
        Condition::Abandoned => Some(How::Abandoned),
        _ => None,
    };
    let error = stream.error.as_ref().map(|error| error.message.as_str());
    let message = ending(how, stream.id, &stream.path, error);
    Change { how, ..Change::of_stream(Kind::StreamEnded, stream, message) }
}

fn ending(how: Option<How>, stream: u64, path: &str, error: Option<&str>) -> String {
    let how = how.map_or_else(|| "ended".to_owned(), |how| format!("ended, {}", word(&how)));
    let error = error.map_or_else(String::new, |error| format!(": {error}"));
    format!("{how}: stream {stream}, {path}{error}")
}

#[cfg(test)]
mod tests;
