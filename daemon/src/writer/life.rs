//! The life of a writer thread: it opens the stream's file, runs the loop, and says what came of it.
//!
//! Whatever way it ends, a panic included, the record says so and the account is empty.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use freemkvd_proto::{ErrorCode, Failure, Reply, Token};
use tracing::{error, info, warn};

use super::file::File;
use super::gate::Gate;
use super::keep;
use super::open::{self, By, Claim, Kept, OpenFiles, Origin, Ready, Target};
use super::openings::Openings;
use super::queue::{End, Next};
use super::record::{Activity, Record};
use super::run::{self, Outcome, Stop, Writer};
use crate::budget::StreamId;
use crate::clock::Clock;
use crate::config::{Size, Span};
use crate::descriptors;
use crate::device::{Device, Devices};
use crate::ledger::{Entry, Ledger};
use crate::log::event;
use crate::messages::Messages;
use crate::space::Announcement;
use crate::storage::{self, Descriptors, Medium, Open};
use crate::user;
use crate::user::UserId;

/// How often a stream looks whether the thread that wrote it before is gone. Nearly always it is, at once.
const OLD_THREAD_POLL: Duration = Duration::from_millis(20);

/// What all writers share.
pub struct Shop {
    /// Opens files.
    pub disk: Arc<dyn Open>,
    /// The way to the budget.
    pub gate: Arc<Gate>,
    /// The devices in use.
    pub devices: Devices,
    /// The files in use.
    pub files: Arc<OpenFiles>,
    /// The files that are being opened.
    pub openings: Openings,
    /// What the next daemon has to know.
    pub ledger: Ledger,
    /// How many lines of the log users have caused.
    pub messages: Messages,
    /// The time.
    pub clock: Clock,
}

impl Shop {
    /// Whether one more line of the log that `user` has caused is said.
    #[must_use]
    pub fn may_say(&self, user: Option<UserId>) -> bool {
        self.messages.may_say(user, self.clock.now())
    }
}

/// Starts the writer thread of `record`, which opens `target` and answers the client's `Open`. It may have
/// `descriptors` open.
///
/// # Errors
/// The system has no thread to give.
pub fn spawn(
    shop: Arc<Shop>,
    record: Arc<Record>,
    target: Target,
    origin: Origin,
    descriptors: descriptors::Claim,
) -> io::Result<()> {
    let thread = thread::Builder::new().name(record.thread_name());
    thread.spawn(move || {
        let life = AssertUnwindSafe(|| live(&shop, &record, &target, origin));
        let last = catch_unwind(life).unwrap_or_else(|_| {
            record.fail(fault(&record));
            None
        });
        // What goes on with the next daemon stays as it is.
        if record.is_resumable() && !record.is_left_open() {
            keep::ended(&shop, &record, last.as_ref());
        }
        // Whoever hears of the end may open the next file at once.
        drop(descriptors);
        record.unmap();
        record.end(last);
    })?;
    Ok(())
}

/// What is told of a stream whose thread has panicked. What it was is on standard error.
fn fault(record: &Record) -> Failure {
    let (stream, path) = (record.id, record.path.display().to_string());
    let message = format!(
        "cannot go on with {path}: a fault of freemkvd itself, which its log has as \"panicked at\"; write the file \
         again"
    );
    error!(event = event::STREAM_FAILED, stream, path, "stream {stream} failed: {message}");
    Failure::new(ErrorCode::INTERNAL, message)
}

/// Returns the answer that ends the stream; by then its file is closed and free for others.
fn live(
    shop: &Shop,
    record: &Arc<Record>,
    target: &Target,
    origin: Origin,
) -> Option<(u64, Reply)> {
    let path = target.path.display().to_string();
    let is_new = matches!(origin, Origin::New { .. });
    let ready = match origin {
        Origin::New { by, size_hint_bytes, token } => {
            open_new(shop, record, target, by, (size_hint_bytes.unwrap_or(0), token))
        }
        Origin::Kept { entry, descriptors, claim } => {
            match kept(shop, record, &entry, descriptors) {
                Some(file) => go_on(shop, record, target, &entry, file, claim),
                None => return end_without_file(record, &path),
            }
        }
    };
    let ready = match ready {
        Ok(ready) => ready,
        Err(failure) => {
            let (stream, code, message) = (record.id, failure.code.0, &failure.message);
            match is_new {
                // What has failed before is known; nothing is left to be made of its file.
                _ if record.failure().is_some() => {}
                true if !shop.may_say(record.client.uid) => {}
                true => {
                    info!(event = event::STREAM_REFUSED, stream, path, code, "refused: {message}");
                }
                false => error!(
                    event = event::STREAM_LOST,
                    stream,
                    path,
                    code,
                    "stream {stream} of the daemon before can't go on: {message}"
                ),
            }
            record.fail(failure);
            return None;
        }
    };
    let verb = if is_new { "opened" } else { "goes on" };
    write(shop, record, target, ready, (&path, verb))
}

/// Opens the file of a new stream and tells its client.
fn open_new(
    shop: &Shop,
    record: &Record,
    target: &Target,
    by: By,
    (hint, token): (u64, Option<Token>),
) -> Result<Ready, Failure> {
    let token = match token {
        Some(token) => keep::reserve(shop, record, target)?.then_some(token),
        None => None,
    };
    let ready =
        record.calling("open", shop.clock.now(), || open::open(shop, record, target, by, hint));
    let mut ready = ready.inspect_err(|_| shop.ledger.forget(record.id))?;
    if let Some(token) = token {
        let Ready { opened, .. } = &mut ready;
        keep::begin(shop, record, target, opened, (token, hint)).inspect_err(|_| {
            if opened.created {
                // The refusal is what the client has to hear; an empty file is no harm.
                let _ = opened.storage.unlink();
            }
        })?;
    }
    record.set_activity(Activity::Idle);
    record.answer_open(ready.opened.len_bytes, target.window_bytes);
    Ok(ready)
}

/// The file of a stream that the daemon before had open, once nobody else can write to it; `None` when its client,
/// who has it, does not come.
fn kept(
    shop: &Shop,
    record: &Record,
    entry: &Entry,
    descriptors: Option<Descriptors>,
) -> Option<Kept> {
    record.calling("a call of the daemon before", shop.clock.now(), || {
        while entry.thread.is_some_and(|thread| thread.exists()) {
            thread::sleep(OLD_THREAD_POLL);
        }
    });
    match descriptors {
        Some(file) => Some(Kept::Systemd(file)),
        None if entry.is_given => record.wait_for_file().map(Kept::Client),
        None => Some(Kept::Nobody),
    }
}

/// Nobody brings the file of this stream any more, so that there is nothing to be done for it.
fn end_without_file(record: &Record, path: &str) -> Option<(u64, Reply)> {
    let stream = record.id;
    match record.queue.pop(None) {
        Next::End(End::Aborted(sequence)) => {
            record.set_activity(Activity::Aborted);
            record.failure().is_none().then_some((sequence, Reply::Aborted))
        }
        Next::End(End::GoingAway) => {
            record.leave_open();
            None
        }
        _ => {
            record.set_activity(Activity::Abandoned);
            warn!(
                event = event::STREAM_LOST,
                stream,
                path,
                "stream {stream} of the daemon before ends here: its muxer, who has its file, has not come back \
                 with it; what was written of it is in the kernel's hands: {path}"
            );
            None
        }
    }
}

/// Opens the file of a stream that the daemon before had open.
fn go_on(
    shop: &Shop,
    record: &Record,
    target: &Target,
    entry: &Entry,
    file: Kept,
    claim: Claim,
) -> Result<Ready, Failure> {
    let was_kept = matches!(file, Kept::Systemd(_));
    let mut opened = record.calling("open", shop.clock.now(), || {
        let _opening = shop.openings.note(shop, record, &target.path);
        open::reopen(shop, target, entry, file)
    })?;
    keep::take_over(shop, record, &opened, was_kept);
    // What the daemon before left dirty is in nobody's account; it is to be gone soon.
    if opened.storage.abilities().by_range {
        let all = 0..opened.len_bytes;
        let started = record
            .calling("sync_file_range", shop.clock.now(), || opened.storage.start_writeback(all));
        started.map_err(|error| run::failure(&target.path, "start writeback of", None, &error))?;
    }
    let device = shop.devices.of(opened.device.clone());
    let announcement = record.calling("fallocate", shop.clock.now(), || {
        announce_again(&mut opened, record.id, &device, entry.reserved_bytes)
    });
    Ok(Ready { opened, claim, device, announcement })
}

/// What the daemon before had announced. Whether it fits was looked at then; what is in the file already takes
/// nothing more.
fn announce_again(
    opened: &mut storage::Opened,
    stream: StreamId,
    device: &Device,
    hint_bytes: u64,
) -> Option<Announcement> {
    if hint_bytes == 0 {
        return None;
    }
    let announcement = device.space.announce(stream, hint_bytes, u64::MAX, 0).ok()?;
    announcement.taken(opened.len_bytes);
    let is_reserved = opened.storage.reserve(hint_bytes).unwrap_or_else(|error| {
        warn!(stream, "the space of stream {stream} can't be set aside again: {error}");
        false
    });
    announcement.asked(is_reserved);
    Some(announcement)
}

/// Writes the stream to its end.
fn write(
    shop: &Shop,
    record: &Arc<Record>,
    target: &Target,
    Ready { opened, claim, device, announcement }: Ready,
    (path, verb): (&str, &str),
) -> Option<(u64, Reply)> {
    let by = if record.is_given { " by descriptor" } else { "" };
    info!(
        event = event::STREAM_OPENED,
        stream = record.id,
        path,
        device = device.info.id,
        filesystem = device.info.filesystem,
        client_pid = record.client.pid,
        client_uid = user::logged(record.client.uid),
        "stream {} {verb}{by}: {path}",
        record.id
    );
    record.opened(Arc::clone(&device));
    let seeks = target
        .settings
        .rotational
        .unwrap_or(matches!(device.info.medium, Medium::Rotational | Medium::Unknown));
    let account = shop.gate.join(record.id, &device.info.id, seeks, record.weight());
    // It may have been changed since; from here on the gate hears of it.
    shop.gate.set_weight(record.id, record.weight());
    let settings = (target.settings.drain, target.window_bytes);
    let storage = opened.storage;
    let file = File::new(record, device, storage, account, shop.clock, settings, announcement);
    let mut writer = Writer::new(record, file, shop.clock, target, (claim, opened.is_renamed));
    let result = writer.serve();
    if let Err(Stop::Failed(failure)) = &result {
        // Before anything is synced again, which takes the kernel's memory of the error away.
        keep::failed(shop, record, failure);
    }
    tell(record, path, &result, target.ending.disposes());
    writer.conclude(result)
}

/// One line about how it ended.
fn tell(record: &Record, path: &str, result: &Result<Outcome, Stop>, disposes: bool) {
    let (stream, progress) = (record.id, record.progress());
    let (accepted, written, durable) =
        (progress.accepted.bytes, progress.written.bytes, progress.durable.bytes);
    match result {
        Ok(Outcome::Finished(..)) => {
            let (took, held) = record.took();
            info!(
                event = event::STREAM_FINISHED,
                stream,
                path,
                written,
                seconds = took.as_secs(),
                held_seconds = held.as_secs(),
                "stream {stream} finished: {path}, {} in {}, its muxer held up for {}",
                Size(written),
                Span::about(took),
                Span::about(held)
            );
        }
        Ok(Outcome::Ended(End::Aborted(_))) | Err(Stop::Aborted) => {
            let by = if record.failure().is_some() { "from outside" } else { "by its muxer" };
            info!(
                event = event::STREAM_ABORTED,
                stream, path, accepted, written, "stream {stream} aborted {by}: {path}"
            );
        }
        Ok(Outcome::Ended(End::GoingAway)) if record.is_left_open() => {
            info!(
                event = event::STREAM_LEFT,
                stream, path, written, durable, "stream {stream} waits for the next daemon: {path}"
            );
        }
        Ok(Outcome::Ended(End::GoingAway)) => {
            info!(
                event = event::STREAM_LEFT,
                stream, path, written, durable, "stream {stream} drained for shutdown: {path}"
            );
        }
        Ok(Outcome::Ended(End::ClientGone)) => warn!(
            event = event::STREAM_ABANDONED,
            stream,
            path,
            written,
            durable,
            "the muxer of stream {stream} is gone; {}: {path}",
            match disposes {
                true => "its file is renamed or removed, as it was opened for",
                false => "what was written of it is on disk",
            }
        ),
        Err(Stop::Failed(failure)) => {
            let Failure { errno, offset, message, .. } = failure;
            error!(
                event = event::STREAM_FAILED,
                stream,
                path,
                accepted,
                written,
                durable,
                errno,
                offset,
                "stream {stream} failed: {message}"
            );
        }
    }
}
