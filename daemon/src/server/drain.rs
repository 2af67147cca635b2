//! The planned stop: nothing new is taken, muxers are told, what was accepted is written.
//!
//! A stream that its muxer can resume loses nothing by the stop, whatever is written of it: the muxer still
//! has what is not. So it is waited for only while it gets on; one that hangs on a dead disk must not hold
//! up all others. One that can't be resumed is waited for to the deadline.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{JoinSet, block_in_place};
use tokio::time::{Instant, interval, sleep_until, timeout};
use tracing::{error, info, warn};

use super::{Ending, Phase, Server, Signal, TICK};
use crate::budget::StreamId;
use crate::config::Size;
use crate::log::event;
use crate::supervisor;
use crate::writer::{Activity, Record};

/// How long muxers may take to read the last answers after everything is written.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// How long systemd is asked to wait at a time, and how often it is asked. Short: what is left of the last
/// time is waited for in vain when a thread hangs in the kernel and the process can't end.
const EXTENSION: Duration = Duration::from_secs(1);
const EXTEND_AGAIN: Duration = Duration::from_millis(200);

/// How long a stream that can be resumed may stand still before nobody waits for it: about as long as a healthy
/// disk takes for what it may hold at once.
const STILL: Duration = Duration::from_millis(500);

/// How often it is looked.
const LOOK: Duration = Duration::from_millis(20);

/// Writes what was accepted. Stops early at the deadline, or when asked a second time.
pub(super) async fn run(
    server: &Server,
    signals: &mut mpsc::UnboundedReceiver<Signal>,
    mut connections: JoinSet<()>,
) -> Ending {
    let deadline = Instant::now() + server.config().drain_timeout;
    server.phase.send_replace(Phase::Draining);
    let mut records = server.streams.open();
    // What has failed before is not of this.
    records.retain(|record| !is_over(record));
    info!(
        event = event::DAEMON_STOPPING,
        streams = records.len(),
        "stopping: taking no new streams, writing what was accepted"
    );
    supervisor::stopping();
    // At once: the unit allows a second, so that a thread stuck in the kernel delays little.
    supervisor::extend(EXTENSION);
    let mut ticks = interval(LOOK);
    let mut looks = 0;
    let mut still = Still::default();
    let why = loop {
        let now = server.shop.clock.now();
        // All of them: the time of each counts from the beginning.
        let waited_for = |record: &&Arc<Record>| still.is_worth_waiting_for(record, now);
        if server.streams.open().iter().filter(waited_for).count() == 0 {
            break None;
        }
        tokio::select! {
            _ = ticks.tick() => {
                looks += 1;
                if looks % per_look(EXTEND_AGAIN) == 0 {
                    supervisor::extend(EXTENSION);
                }
                if looks % per_look(TICK) == 0 {
                    server.tick();
                }
            }
            () = sleep_until(deadline) => break Some("daemon.drain_timeout has passed"),
            signal = signals.recv() => if signal != Some(Signal::Reload) {
                break Some("asked a second time");
            },
        }
    };
    server.look_for_hook();
    server.phase.send_replace(Phase::Leaving);
    // That all is durable is of use to a muxer only if it hears of it.
    let _ = timeout(LAST_ANSWERS, server.phase.closed()).await;
    // Closed here, and not by the end of the process: a thread that hangs in the kernel keeps all of its
    // descriptors open, and muxers would wait for a daemon that is dead.
    connections.shutdown().await;
    // For the hook, which is waited for as long, and for the last words.
    supervisor::extend(2 * EXTENSION);
    block_in_place(|| server.hook.finish());
    report(server, &records, why)
}

/// How many looks that long a time has.
fn per_look(time: Duration) -> u128 {
    time.as_millis() / LOOK.as_millis()
}

/// How far each stream has come, and when that was seen first.
#[derive(Default)]
struct Still {
    seen: BTreeMap<StreamId, (u64, Duration)>,
}

impl Still {
    fn is_worth_waiting_for(&mut self, record: &Record, now: Duration) -> bool {
        if is_over(record) {
            return false;
        }
        let has_taken_anything = record.progress().accepted.sequence > 0;
        if !record.is_resumable() && has_taken_anything {
            return true;
        }
        if record.suspended().is_some() {
            // It waits for its muxer, here or with the next daemon.
            return false;
        }
        // Also one whose file is being opened, perhaps on a dead mount: nothing of it can be lost.
        let written = record.written_mark().sequence;
        let (last, since) = self.seen.entry(record.id).or_insert((written, now));
        if *last != written {
            (*last, *since) = (written, now);
        }
        now.saturating_sub(*since) < STILL
    }
}

/// It has failed or was given up: what its thread still does is no matter of bytes.
fn is_over(record: &Record) -> bool {
    record.failure().is_some() || record.queue.aborted_by().is_some()
}

/// What came of the streams that were open when the drain began.
fn report(server: &Server, records: &[Arc<Record>], why: Option<&str>) -> Ending {
    let mut ending = Ending::Drained;
    let mut stood_still = 0;
    let is_awaited = |record: &Arc<Record>| record.suspended().is_none() && !is_over(record);
    for record in server.streams.open().into_iter().filter(is_awaited) {
        let seen = record.snapshot();
        let left = seen.progress.accepted.bytes - seen.progress.written.bytes;
        let (stream, path) = (record.id, record.path.display().to_string());
        if !record.is_resumable() && seen.progress.accepted.sequence == 0 {
            warn!(stream, path, "stopped before stream {stream} had taken anything");
            continue;
        }
        if record.is_resumable() {
            stood_still += 1;
            if left == 0 {
                continue;
            }
            let call = match seen.activity {
                Activity::NoSpace => "waiting for space",
                _ => seen.call.map_or("waiting for the budget", |(name, _)| name),
            };
            warn!(
                stream,
                path,
                left_bytes = left,
                "stopped while stream {stream} stood still ({call}): {} that were accepted will come again from its \
                 muxer",
                Size(left)
            );
            continue;
        }
        ending = Ending::Lost;
        error!(
            stream,
            path,
            lost_bytes = left,
            not_durable_bytes = seen.progress.accepted.bytes - seen.progress.durable.bytes,
            "stopped at once ({}): {} accepted from the muxer were never written",
            why.unwrap_or("asked to"),
            Size(left)
        );
    }
    let failed = records.iter().filter(|record| record.failure().is_some()).count();
    if failed > 0 {
        ending = Ending::Lost;
    }
    last_words(records, (failed, stood_still), ending);
    ending
}

/// One message about all of them; where something was lost, there is one about each already.
fn last_words(records: &[Arc<Record>], (failed, stood_still): (usize, u64), ending: Ending) {
    let event = event::DAEMON_STOPPED;
    if failed > 0 {
        error!(event, "stopped: streams that failed meanwhile, see above: {failed}");
        return;
    }
    if ending != Ending::Drained {
        error!(event, "stopped: of some streams not all was written, see above");
        return;
    }
    let goes_on = |record: &&Arc<Record>| record.is_left_open() || !record.has_ended();
    match records.iter().filter(goes_on).count() {
        left if stood_still > 0 => info!(
            event,
            streams = left,
            "stopped: streams that wait for the next daemon: {left}; what {stood_still} of them had not written \
             comes again from their muxers"
        ),
        0 => info!(event, "stopped: everything that was accepted is durable"),
        left => info!(
            event,
            streams = left,
            "stopped: everything that was accepted is written; streams that wait for the next daemon: {left}"
        ),
    }
}
