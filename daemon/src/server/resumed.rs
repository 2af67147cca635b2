//! Streams of the daemon before: taken over at the start, and given to the clients that come back for them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use freemkvd_proto::{ErrorCode, Failure, Finished, Mark, Reply, Resume, Resumed};
use tracing::{error, info, warn};

use super::Server;
use super::opening::{self, Opening, Resuming};
use super::transfer;
use crate::budget::StreamId;
use crate::ledger::{Entry, Outcome};
use crate::log::event;
use crate::storage::{Descriptors, FileId};
use crate::stream::command::Commands;
use crate::supervisor::{self, Passed};
use crate::user::{self, UserId};
use crate::writer::{self, By, Client, End, Origin, Queue, Record, Target};

/// What a token leads to.
pub(super) enum Found {
    /// A stream that goes on.
    Stream(Arc<Record>, Commands),
    /// A file that was complete; only its client had not heard of it.
    Finished(u64, Finished),
}

/// Streams of the daemon before that had come to their end, and whose clients may not have heard how.
#[derive(Debug, Default)]
pub(super) struct Ended {
    entries: Mutex<Vec<Entry>>,
}

impl Ended {
    fn put(&self, entry: Entry) {
        self.lock().push(entry);
    }

    /// The one that `client` asks for.
    fn find(&self, from: &Resume, client: Client) -> Option<Entry> {
        let entries = self.lock();
        let asked =
            |entry: &&Entry| entry.token == from.token && is_owner(client.uid, entry.client_uid);
        entries.iter().find(asked).cloned()
    }

    /// The client of this one has heard.
    pub(super) fn remove(&self, stream: StreamId) {
        self.lock().retain(|entry| entry.stream != stream);
    }

    fn take_all(&self) -> Vec<Entry> {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes over what the daemon before has left: each stream gets its thread, which waits for its client.
pub fn adopt(server: &Arc<Server>, entries: Vec<Entry>, mut passed: Passed) {
    let numbers = entries.iter().map(|entry| entry.stream).chain(passed.files.keys().copied());
    numbers.for_each(|stream| server.streams.begin_after(stream));
    for entry in entries {
        let stream = entry.stream;
        let mut kept = passed.files.remove(&stream);
        if entry.outcome.is_some() && !is_still_to_end(&entry) {
            server.ended.put(entry);
        } else if entry.is_given {
            // Its client brings it; this may hang, and who has put it there is unknown.
            adopt_or_forget(server, entry, &mut None);
        } else {
            adopt_or_forget(server, entry, &mut kept);
        }
        if let Some(kept) = kept {
            let_go(server, stream, kept);
        }
    }
    // Streams of which nothing else is known: what they were written is the kernel's business now.
    for (stream, kept) in passed.files {
        warn!(
            event = event::STREAM_LOST,
            stream,
            "nothing is known any more of stream {stream}, whose file systemd has kept open; its muxer will \
             be told that it can't go on"
        );
        let_go(server, stream, kept);
    }
    passed.rest.into_iter().for_each(|rest| server.closer.close(None, rest));
}

/// What was kept of a stream is of no use. To close it asks its file system, which may not answer.
fn let_go(server: &Server, stream: StreamId, kept: impl Send + 'static) {
    supervisor::forget(stream);
    server.closer.close(None, kept);
}

fn adopt_or_forget(server: &Arc<Server>, entry: Entry, kept: &mut Option<Descriptors>) {
    let stream = entry.stream;
    if let Err(problem) = adopt_one(server, entry, kept) {
        error!(
            event = event::STREAM_LOST,
            stream, "stream {stream} of the daemon before can't go on: {problem}"
        );
        server.shop.ledger.forget(stream);
        supervisor::forget(stream);
    }
}

/// It has failed, or was aborted, and that is not all: its file has still to become what its client chose, or
/// its thread hangs in a call that may still write, so that nobody else may have the file.
fn is_still_to_end(entry: &Entry) -> bool {
    let is_failed = matches!(entry.outcome, Some(Outcome::Failed(_)));
    let hangs = || entry.thread.is_some_and(|thread| thread.exists());
    is_failed && (entry.ending.disposes() || hangs())
}

/// Takes what was kept only when nothing can go wrong any more.
fn adopt_one(
    server: &Arc<Server>,
    entry: Entry,
    kept: &mut Option<Descriptors>,
) -> Result<(), String> {
    let stream = entry.stream;
    let path = entry.path.clone().into_path().ok_or("its path is none of this platform")?;
    let config = server.config();
    let client = Client { pid: entry.client_pid, uid: entry.client_uid };
    let queue = Queue::new(Arc::clone(&server.queues), client.uid);
    let record = Record::new(stream, path.clone(), client, queue, server.shop.clock);
    let record = Arc::new(record.with_given_file(entry.is_given));
    record.set_weight(entry.weight);
    record.pause(entry.is_paused);
    // Whatever comes of it: the stream is there.
    let _ = record.queue.reserve();
    // Of a file that its client has opened, the client has kept the same descriptors open, which it passes again.
    let watched = (kept.is_some() || entry.is_given) && !entry.is_unwatched;
    record.suspend(entry.token, watched, (entry.len_bytes, entry.window_bytes));
    if entry.is_given {
        record.lacks_file();
    }
    if let Some(Outcome::Failed(failure)) = &entry.outcome {
        record.abort(failure.clone());
    }
    // Before any client is served: nobody else may begin to write this file.
    let id = FileId { device: entry.device, inode: entry.inode };
    let claim = server
        .shop
        .files
        .claim(id, stream)
        .map_err(|other| format!("its file is that of stream {other} as well"))?;
    server.streams.adopt(&record);
    let target = Target {
        roots: config.roots.clone(),
        settings: transfer::settings(&config, &path, entry.is_given),
        creation: config.creation,
        path,
        window_bytes: entry.window_bytes,
        ending: entry.ending,
        no_space_wait: config.no_space_wait,
        silent_device: config.silent_device,
    };
    let origin = Origin::Kept { entry: Box::new(entry), descriptors: kept.take(), claim };
    let shop = Arc::clone(&server.shop);
    let descriptors = server.descriptors.for_stream_of_before();
    writer::spawn(shop, Arc::clone(&record), target, origin, descriptors).map_err(|error| {
        record.end(None);
        format!("there is no thread for it: {error}")
    })
}

/// Gives a stream to its client, with a connection's wake.
pub(super) fn attach(
    server: &Server,
    client: Client,
    Resuming { from, slots, rest }: Resuming,
    wake: impl Fn() + Send + Sync + 'static,
) -> Result<Found, Failure> {
    let from = &from;
    if let Some(entry) = server.ended.find(from, client) {
        return match entry.outcome {
            Some(Outcome::Finished(finished)) => Ok(Found::Finished(entry.stream, finished)),
            Some(Outcome::Failed(failure)) => Err(failure),
            None => Err(unknown()),
        };
    }
    let record = server.streams.called(&from.token).ok_or_else(unknown)?;
    if !is_owner(client.uid, record.client.uid) {
        return Err(unknown());
    }
    if let Some(failure) = record.failure() {
        // Now it has heard.
        record.expire();
        return Err(failure);
    }
    if record.has_ended() {
        return Err(unknown());
    }
    match record.is_given {
        true => opening::a_file(&rest)?,
        false => opening::none_beside_slots(from.transfer, rest.files.count())?,
    }
    let commands = Commands::resumed(slots.as_ref().map_or(0, |slots| slots.count()), from)?;
    let shared = slots.is_some();
    let watched = record.resume(from, slots, wake).ok_or_else(|| not_now(&record))?;
    record.give(rest.files);
    let _ = server.shop.ledger.change(record.id, |entry| entry.is_unwatched = false);
    info!(
        event = event::STREAM_RESUMED,
        stream = record.id,
        client_pid = client.pid,
        written_bytes = from.written.bytes,
        "stream {} was resumed by its muxer: {}",
        record.id,
        record.path.display()
    );
    let queue_limit_bytes = record.queue.limit_bytes();
    let resumed = Resumed { stream: record.id, queue_limit_bytes, shared, watched };
    record.answer(0, Reply::Resumed(resumed));
    Ok(Found::Stream(record, commands))
}

/// The stream that the daemon before has opened for this very `Open`, of which the client has not heard.
pub(super) fn opened_before(
    server: &Server,
    client: Client,
    opening: &Opening,
) -> Result<Option<Arc<Record>>, Failure> {
    let Some(record) = opening.token.and_then(|token| server.streams.called(&token)) else {
        return Ok(None);
    };
    let is_same = record.path == opening.path && record.is_given == opening.by.is_descriptor();
    if !is_owner(client.uid, record.client.uid) || !is_same {
        return Err(unknown());
    }
    Ok(Some(record))
}

/// Answers it as the daemon before would have.
pub(super) fn begin_again(
    record: &Record,
    opening: Opening,
    wake: impl Fn() + Send + Sync + 'static,
) -> Result<(), Failure> {
    if let Some(failure) = record.failure() {
        record.expire();
        return Err(failure);
    }
    let token = opening.token.ok_or_else(unknown)?;
    let transfer = opening.transfer;
    let (written, durable) = (Mark::default(), Mark::default());
    let start = Resume { token, written, durable, position: 0, transfer };
    record.resume(&start, opening.slots, wake).ok_or_else(|| not_now(record))?;
    if let By::Descriptor { files, .. } = opening.by {
        record.give(files);
    }
    let (len_bytes, window_bytes) = record.opened_as();
    record.answer_open(len_bytes, window_bytes);
    Ok(())
}

/// Nobody waits for a client there.
fn not_now(record: &Record) -> Failure {
    if record.is_attached() {
        let message = format!("stream {} has a connection; try again soon", record.id);
        return Failure::new(ErrorCode::ATTACHED, message);
    }
    // Its time has passed, and it is being closed.
    unknown()
}

/// Lets go of streams whose clients have not come back within `grace`.
pub(super) fn expire(server: &Server, now: Duration, grace: Duration) {
    for record in server.streams.all() {
        if record.expire_after(grace, now) && !record.has_ended() {
            warn!(
                stream = record.id,
                "the muxer of stream {} has not come back: {}",
                record.id,
                record.path.display()
            );
            record.queue.end(End::ClientGone);
        }
    }
    if now >= grace {
        for entry in server.ended.take_all() {
            server.shop.ledger.forget(entry.stream);
        }
    }
}

fn unknown() -> Failure {
    let message = "the daemon knows nothing of this stream any more: it has ended, its muxer came back too \
                   late, or what the daemon had kept of it is lost; write the file again";
    Failure::new(ErrorCode::NO_SUCH_TOKEN, message)
}

/// Whether a user may go on with `owner`'s stream.
fn is_owner(user: Option<UserId>, owner: Option<UserId>) -> bool {
    user.is_some_and(|user| Some(user) == owner || user::is_root(user))
}
