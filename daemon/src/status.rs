//! Puts the status report together, from memory alone: no lock in here is ever held while somebody
//! waits for a disk, so that it answers with every device wedged.

mod sentence;

use std::sync::Arc;
use std::time::Duration;

use freemkvd_proto::hello::VERSION_HIGHEST;
use freemkvd_proto::status::{
    Budget, DaemonState, Device, DeviceState, Status, Stream, StreamError, StreamState, WaitingFor,
};

pub use self::sentence::sentence;
use crate::budget::{DeviceView, Hold, State};
use crate::config::{Size, Span};
use crate::stream::ladder::Rung;
use crate::user;
use crate::writer::{Queues, Record, Shop, Snapshot};

/// From when on a system call counts as blocking.
const BLOCKED: Duration = Duration::from_secs(1);

/// From when on a wait is worth a word.
const WAITING: Duration = Duration::from_millis(50);

type Seen = (Arc<Record>, Snapshot);

/// The whole report.
#[must_use]
pub fn assemble(shop: &Shop, queues: &Queues, records: &[Arc<Record>], draining: bool) -> Status {
    let seen: Vec<Seen> =
        records.iter().map(|record| (Arc::clone(record), record.snapshot())).collect();
    let (limit_bytes, charged_bytes) = shop.gate.limit_and_charged_bytes();
    let snapshots = || seen.iter().map(|(_, snapshot)| snapshot);
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        protocol: VERSION_HIGHEST,
        pid: std::process::id(),
        uptime_seconds: shop.clock.now().as_secs(),
        state: if draining { DaemonState::Draining } else { DaemonState::Running },
        budget: Budget {
            limit_bytes,
            charged_bytes,
            kernel_dirty_bytes: kernel_dirty_bytes(snapshots()),
            queued_bytes: snapshots().map(queued_bytes).sum(),
            // What lies in shared slots is queued in the memory of its client.
            queue_limit_bytes: queues.total_bytes()
                + records.iter().map(|record| record.slots_bytes()).sum::<u64>(),
        },
        devices: shop
            .devices
            .all()
            .iter()
            .filter_map(|known| Some(device(known, shop.gate.device(&known.info.id)?, &seen, shop)))
            .collect(),
        // A stream that ended well is gone, though its record is kept until the next tick.
        streams: seen
            .iter()
            .filter(|(_, snapshot)| snapshot.ended.is_none() || ended_badly(snapshot))
            .map(|(record, snapshot)| stream(record, snapshot))
            .collect(),
    }
}

fn device(
    known: &Arc<crate::device::Device>,
    view: DeviceView,
    seen: &[Seen],
    shop: &Shop,
) -> Device {
    let on_it = |snapshot: &&Snapshot| {
        snapshot.device.as_ref().is_some_and(|other| Arc::ptr_eq(known, other))
    };
    let rungs: Vec<_> = known.rungs().into_iter().map(Rung::name).collect();
    Device {
        id: known.info.id.clone(),
        mount: told(&known.info.mount),
        filesystem: told(&known.info.filesystem),
        state: match view.state {
            State::Starting { .. } | State::Healthy => DeviceState::Healthy,
            State::Suspect => DeviceState::Suspect,
            State::Wedged => DeviceState::Wedged,
            State::Recovering { .. } => DeviceState::Recovering,
        },
        drain: rungs.join("+"),
        limit_bytes: view.limit_bytes,
        charged_bytes: view.charged_bytes,
        rate_bytes_per_second: view.bytes_per_second,
        completion_ms_p95: millis(view.completion_p95),
        kernel_dirty_bytes: kernel_dirty_bytes(seen.iter().map(|(_, seen)| seen).filter(on_it)),
        extent_bytes: view.extent_bytes,
        turns: view.takes_turns,
        state_seconds: shop.clock.now().saturating_sub(view.since).as_secs(),
    }
}

/// A text that the platform has told.
fn told(text: &str) -> Option<String> {
    Some(text).filter(|text| !text.is_empty()).map(str::to_owned)
}

fn ended_badly(snapshot: &Snapshot) -> bool {
    let badly = matches!(snapshot.activity, StreamState::Failed | StreamState::Abandoned);
    // A refused Open never was a stream.
    badly && snapshot.was_opened
}

fn stream(record: &Record, seen: &Snapshot) -> Stream {
    let blocked = seen.call.filter(|(_, age)| *age >= BLOCKED);
    let ended = seen.ended.is_some();
    Stream {
        id: record.id,
        client_pid: record.client.pid,
        client_uid: user::number_of(record.client.uid),
        client_user: user::name_of(record.client.uid),
        paused: Some(seen.is_paused),
        held: seen.held,
        path: shown(&record.path.display().to_string()),
        device: seen.device.as_ref().map(|device| device.info.id.clone()),
        state: seen.activity,
        state_seconds: blocked.map_or(seen.activity_age, |(_, age)| age).as_secs(),
        blocked_in: blocked.map(|(name, _)| name.to_owned()),
        accepted_bytes: seen.progress.accepted.bytes,
        written_bytes: seen.progress.written.bytes,
        durable_bytes: seen.progress.durable.bytes,
        in_bytes_per_second: if ended { 0 } else { seen.in_bytes_per_second },
        out_bytes_per_second: if ended { 0 } else { seen.out_bytes_per_second },
        queued_bytes: queued_bytes(seen),
        dirty_bytes: seen.charged_bytes,
        window_bytes: seen.window_bytes,
        seeks: seen.seeks,
        patches: seen.patches,
        error: seen.failure.as_ref().map(|failure| StreamError {
            errno: failure.errno,
            offset: failure.offset,
            message: failure.message.clone(),
        }),
        waiting_for: waiting_for(record.id, seen),
        kernel_dirty_bytes: seen.kernel_dirty_bytes,
        drain: seen.rung.map(|rung| rung.name().to_owned()),
        weight: record.weight(),
        shared: seen.is_shared,
    }
}

/// What holds it up, as it would be said.
fn waiting_for(stream: u64, seen: &Snapshot) -> Option<WaitingFor> {
    if seen.ended.is_some() {
        return None;
    }
    let mount = seen.device.as_ref().map_or("", |device| device.info.place());
    let on = if mount.is_empty() { String::new() } else { format!(" on {mount}") };
    let age = seen.activity_age;
    let (what, age) = match (seen.call, seen.activity, seen.hold) {
        (Some((call, age)), ..) => (format!("{call}{on}"), age),
        (None, StreamState::Throttled, Some(Hold::Turn)) => (format!("its turn{on}"), age),
        (None, StreamState::Throttled, Some(Hold::Sick)) => {
            (format!("{mount}, which does not answer"), age)
        }
        (None, StreamState::Throttled, Some(Hold::Total)) => ("the total budget".to_owned(), age),
        (None, StreamState::Throttled, _) => (format!("the budget{on}"), age),
        (None, StreamState::NoSpace, _) => (no_space(seen, &on), age),
        (None, StreamState::Paused, _) => (format!("freemkvctl resume {stream}"), age),
        (None, StreamState::Idle, _) => ("its muxer".to_owned(), age),
        _ => return None,
    };
    (age >= WAITING).then(|| WaitingFor { what, ms: millis(age) })
}

/// As in "space on /rips (at least 3.1 GiB more, gives up in 7m)".
fn no_space(seen: &Snapshot, on: &str) -> String {
    let Some((missing_bytes, left)) = seen.no_space else {
        return format!("space{on}");
    };
    let left = Span::about(left);
    match missing_bytes {
        0 => format!("space{on} (gives up in {left})"),
        bytes => format!("space{on} (at least {} more, gives up in {left})", Size(bytes)),
    }
}

/// Longest path in a report, in bytes. A report has to fit a frame with some thousand streams, and the
/// end of a path says more than its beginning.
const PATH_BYTES_SHOWN: usize = 512;

/// The end of a path, if it is very long.
#[must_use]
pub fn shown(path: &str) -> String {
    let excess = path.len().saturating_sub(PATH_BYTES_SHOWN);
    match (excess..path.len()).find(|at| path.is_char_boundary(*at)) {
        Some(at) if at > 0 => format!("...{}", &path[at..]),
        _ => path.to_owned(),
    }
}

fn queued_bytes(seen: &Snapshot) -> u64 {
    // What a failed stream had queued was dropped.
    match seen.ended.is_some() || seen.failure.is_some() {
        true => 0,
        false => seen.progress.accepted.bytes - seen.progress.written.bytes,
    }
}

/// `None` when one of those that hold something can't be asked: a part is not the whole.
fn kernel_dirty_bytes<'a>(seen: impl Iterator<Item = &'a Snapshot>) -> Option<u64> {
    seen.filter(|seen| seen.charged_bytes > 0).map(|seen| seen.kernel_dirty_bytes).sum()
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
