//! What a stream leaves to the daemon that comes next, from its opening to its end: an entry in the ledger,
//! and its file's descriptors with systemd.

use freemkvd_proto::{Failure, Reply, Token, WirePath};
use tracing::warn;

use super::life::Shop;
use super::open::Target;
use super::record::Record;
use crate::ledger::{Entry, Outcome};
use crate::storage::Opened;
use crate::systemd;
use crate::thread::Thread;

/// Keeps a stream that was just opened, and lets its client know by what to resume it. Where that can't be
/// done the stream ends with the daemon, as all did once.
pub(super) fn begin(
    shop: &Shop,
    record: &Record,
    target: &Target,
    opened: &Opened,
    (token, hint): (Token, u64),
) {
    let thread = Thread::current();
    // A thread that can't be named could not be waited for.
    let is_possible = shop.ledger.is_kept() && (thread.is_some() || !Thread::CAN_BE_TOLD);
    let Some(path) = WirePath::from_path(&target.path).filter(|_| is_possible) else {
        return;
    };
    let kept = shop.ledger.keep(Entry {
        stream: record.id,
        token,
        path,
        client_pid: record.client.pid,
        client_uid: record.client.uid,
        weight: record.weight(),
        window_bytes: target.window_bytes,
        device: opened.id.device,
        inode: opened.id.inode,
        born: opened.born,
        len_bytes: opened.len_bytes,
        reserved_bytes: hint,
        ending: target.ending,
        thread,
        is_unwatched: false,
        outcome: None,
    });
    match kept {
        Ok(()) => {
            systemd::keep(record.id, &opened.storage.lend());
            record.resumable(token);
        }
        Err(error) => warn!(
            stream = record.id,
            "stream {} cannot be kept for a restart, and will end with the daemon: {error}",
            record.id
        ),
    }
}

/// This thread writes the stream now.
pub(super) fn take_over(shop: &Shop, record: &Record, opened: &Opened, was_kept: bool) {
    let kept = shop.ledger.change(record.id, |entry| {
        entry.thread = Thread::current();
        entry.is_unwatched |= !was_kept;
    });
    if !kept {
        // The next daemon would not know for whom to wait.
        shop.ledger.forget(record.id);
    }
    if !was_kept {
        systemd::keep(record.id, &opened.storage.lend());
    }
}

/// The stream has failed; whatever becomes of this daemon, its client hears of it.
pub(super) fn failed(shop: &Shop, record: &Record, failure: &Failure) {
    let outcome = Some(Outcome::Failed(failure.clone()));
    let _ = shop.ledger.change(record.id, |entry| entry.outcome = outcome);
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
        Some(outcome) => {
            let _ = shop.ledger.change(record.id, |entry| entry.outcome = Some(outcome));
        }
        None => shop.ledger.forget(record.id),
    }
    systemd::forget(record.id);
}
