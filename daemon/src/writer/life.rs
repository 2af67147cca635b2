//! The life of a writer thread: it opens the stream's file, runs the loop, and says what came of it.
//!
//! Whatever way it ends, a panic included, the record says so and the account is empty.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use freemkvd_proto::{ErrorCode, Failure, Opened, Reply};
use tracing::{error, info, warn};

use super::file::File;
use super::gate::Gate;
use super::open::{self, OpenFiles, Target};
use super::queue::End;
use super::record::{Activity, Record};
use super::run::{Outcome, Stop, Writer};
use crate::clock::Clock;
use crate::device::Devices;
use crate::storage::{Medium, Open};

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
    /// The time.
    pub clock: Clock,
}

/// Starts the writer thread of `record`, which opens `target` and answers the client's `Open`.
///
/// # Errors
/// The system has no thread to give.
pub fn spawn(shop: Arc<Shop>, record: Arc<Record>, target: Target) -> io::Result<()> {
    let thread = thread::Builder::new().name(record.thread_name());
    thread.spawn(move || {
        let life = AssertUnwindSafe(|| live(&shop, &record, &target));
        let last = catch_unwind(life).unwrap_or_else(|_| {
            let message = format!("a fault in the daemon ended the stream {}", record.id);
            record.fail(Failure::new(ErrorCode::INTERNAL, message));
            None
        });
        record.end(last);
    })?;
    Ok(())
}

/// Returns the answer that ends the stream; by then its file is closed and free for others.
fn live(shop: &Shop, record: &Arc<Record>, target: &Target) -> Option<(u64, Reply)> {
    let path = target.path.display().to_string();
    let opened = record.calling("open", shop.clock.now(), || {
        open::open(&*shop.disk, &shop.files, record.id, target)
    });
    let (file, _claim) = match opened {
        Ok(opened) => opened,
        Err(failure) => {
            info!(stream = record.id, path, code = failure.code.0, "refused: {}", failure.message);
            record.fail(failure);
            return None;
        }
    };
    let device = shop.devices.of(file.device);
    info!(
        stream = record.id,
        path,
        device = device.info.id,
        filesystem = device.info.filesystem,
        client_pid = record.client.pid,
        client_uid = record.client.uid,
        "stream {} opened: {path}",
        record.id
    );
    record.opened(Arc::clone(&device));
    record.set_activity(Activity::Idle);
    record.answer(
        0,
        Reply::Opened(Opened {
            stream: record.id,
            len_bytes: file.len_bytes,
            queue_limit_bytes: record.queue.limit_bytes(),
            window_bytes: target.window_bytes,
            shared: record.is_shared,
        }),
    );
    let seeks = target
        .settings
        .rotational
        .unwrap_or(matches!(device.info.medium, Medium::Rotational | Medium::Unknown));
    let account = shop.gate.join(record.id, &device.info.id, seeks, record.weight());
    // It may have been changed since; from here on the gate hears of it.
    shop.gate.set_weight(record.id, record.weight());
    let settings = (target.settings.drain, target.window_bytes);
    let file = File::new(record, device, file.storage, account, shop.clock, settings);
    let mut writer = Writer::new(record, file, shop.clock);
    let result = writer.serve();
    tell(record, &path, &result);
    writer.conclude(result)
}

/// One line about how it ended.
fn tell(record: &Record, path: &str, result: &Result<Outcome, Stop>) {
    let (stream, progress) = (record.id, record.progress());
    let (accepted, written, durable) =
        (progress.accepted.bytes, progress.written.bytes, progress.durable.bytes);
    match result {
        Ok(Outcome::Finished(..)) => {
            info!(stream, path, written, "stream {stream} finished: {path}");
        }
        Ok(Outcome::Ended(End::Aborted(_))) | Err(Stop::Aborted) => {
            info!(stream, path, accepted, written, "stream {stream} aborted by its muxer: {path}");
        }
        Ok(Outcome::Ended(End::GoingAway)) => {
            info!(stream, path, written, durable, "stream {stream} drained for shutdown: {path}");
        }
        Ok(Outcome::Ended(End::ClientGone)) => warn!(
            stream,
            path,
            written,
            durable,
            "the muxer of stream {stream} is gone; what it had handed over is on disk: {path}"
        ),
        Err(Stop::Failed(failure)) => {
            let Failure { errno, offset, message, .. } = failure;
            error!(
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
