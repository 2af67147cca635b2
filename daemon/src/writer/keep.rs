//! What a stream leaves to the daemon that comes next, from its opening to its end: an entry in the ledger,
//! and its file's descriptors with systemd. What its client has opened is not passed on: systemd asks each
//! descriptor what it is, and must not wait for a server that a client runs. The client brings it again.

use std::io;
use std::path::Path;

use freemkvd_proto::{ErrorCode, Failure, Reply, Token, WirePath};

use super::life::Shop;
use super::open::Target;
use super::record::Record;
use crate::ledger::{Entry, Outcome};
use crate::storage::Opened;
use crate::supervisor;
use crate::thread::Thread;

/// Takes the space for all that will be kept of a stream, before its file is opened. False where streams end
/// with the daemon, as all did once.
///
/// # Errors
/// What to tell the client.
pub(super) fn reserve(shop: &Shop, record: &Record, target: &Target) -> Result<bool, Failure> {
    // A thread that can't be named could not be waited for.
    let is_possible = Thread::current().is_some() || !Thread::CAN_BE_TOLD;
    let path = WirePath::from_path(&target.path).filter(|_| is_possible);
    match (shop.ledger.directory(), path) {
        (Some(_), Some(path)) => shop
            .ledger
            .reserve(record.id, path.0.len())
            .map(|()| true)
            .map_err(|error| cannot_keep(shop, target, &error)),
        _ => Ok(false),
    }
}

fn cannot_keep(shop: &Shop, target: &Target, error: &io::Error) -> Failure {
    let directory = shop.ledger.directory().unwrap_or(Path::new("nowhere"));
    let message = format!(
        "{} was not opened: freemkvd cannot keep in {} what it would have to know after a restart: {error}; \
         make room there (df, df -i), or set daemon.resume_grace to \"0s\" for streams that end with it",
        target.path.display(),
        directory.display()
    );
    Failure { errno: error.raw_os_error(), ..Failure::new(ErrorCode::CANNOT_KEEP, message) }
}

/// Keeps a stream that was just opened, and lets its client know by what to resume it. Its space is reserved.
///
/// # Errors
/// What to tell the client; then nothing is kept.
pub(super) fn begin(
    shop: &Shop,
    record: &Record,
    target: &Target,
    opened: &Opened,
    (token, hint): (Token, u64),
) -> Result<(), Failure> {
    let thread = Thread::current();
    if thread.is_none() && Thread::CAN_BE_TOLD {
        shop.ledger.forget(record.id);
        let unknown = io::Error::other("the thread that writes it cannot be told from others");
        return Err(cannot_keep(shop, target, &unknown));
    }
    let chosen = || (record.weight(), record.queue.is_paused());
    let (weight, is_paused) = chosen();
    let kept = shop.ledger.keep(Entry {
        stream: record.id,
        token,
        path: WirePath::from_path(&target.path).unwrap_or_else(|| WirePath(Vec::new())),
        client_pid: record.client.pid,
        client_uid: record.client.uid,
        weight,
        is_paused,
        window_bytes: target.window_bytes,
        device: opened.id.device,
        inode: opened.id.inode,
        born: opened.born,
        len_bytes: opened.len_bytes,
        reserved_bytes: hint,
        is_given: record.is_given,
        ending: target.ending,
        thread,
        is_unwatched: false,
        outcome: None,
    });
    if let Err(error) = kept {
        shop.ledger.forget(record.id);
        return Err(cannot_keep(shop, target, &error));
    }
    // Who has changed one of these in between has found no entry to change.
    if chosen() != (weight, is_paused) {
        let _ = shop.ledger.change(record.id, |entry| (entry.weight, entry.is_paused) = chosen());
    }
    if !record.is_given {
        supervisor::keep(record.id, &opened.storage.lend());
    }
    record.resumable(token);
    Ok(())
}

/// This thread writes the stream now. `was_kept` says that its file came from systemd, which has it then.
pub(super) fn take_over(shop: &Shop, record: &Record, opened: &Opened, was_kept: bool) {
    let kept = shop.ledger.change(record.id, |entry| {
        entry.thread = Thread::current();
        // What a client has brought again it has kept open itself.
        entry.is_unwatched |= !was_kept && !entry.is_given;
    });
    if !kept {
        // The next daemon would not know for whom to wait.
        shop.ledger.forget(record.id);
    }
    if !was_kept && !record.is_given {
        supervisor::keep(record.id, &opened.storage.lend());
    }
}

/// The stream has failed; whatever becomes of this daemon, its client hears of it.
pub(super) fn failed(shop: &Shop, record: &Record, failure: &Failure) {
    let outcome = Some(Outcome::Failed(failure.clone()));
    if !shop.ledger.change(record.id, |entry| entry.outcome = outcome) {
        // A client that has not heard and comes to the next daemon must not go on as if nothing were lost.
        shop.ledger.forget(record.id);
    }
}

/// The stream has ended, and its client has still to hear how.
pub(super) fn ended(shop: &Shop, record: &Record, last: Option<&(u64, Reply)>) {
    let outcome = match (last, record.failure()) {
        (Some((_, Reply::Finished(finished))), _) => Some(Outcome::Finished(*finished)),
        (_, Some(failure)) => Some(Outcome::Failed(failure)),
        _ => None,
    };
    // Who is gone, and can't come back, has heard all there is to hear.
    let outcome = outcome.filter(|_| record.is_attached() || record.suspended().is_some());
    // First this: whoever comes between the two finds a stream that goes on, or its end.
    match outcome {
        Some(Outcome::Failed(failure)) => failed(shop, record, &failure),
        // Where it can't be kept the client comes again with its `Finish`, and it is done once more.
        Some(finished) => {
            let _ = shop.ledger.change(record.id, |entry| entry.outcome = Some(finished));
        }
        None => shop.ledger.forget(record.id),
    }
    if !record.is_given {
        supervisor::forget(record.id);
    }
}
