//! A connection that writes a stream: commands in, watermarks and answers out. Backpressure is not
//! reading: nothing here waits for a disk, only for room in the queue.

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use freemkvd_proto::{Command, ErrorCode, Failure, GoingAway, Header, Kind, Reply};
use tokio::sync::Notify;
use tokio::time::timeout;
use tracing::warn;

use super::guarded::Socket;
use super::opening::{Opening, Resuming};
use super::resumed::{self, Found};
use super::socket::{self, Broken, Received, Receiver};
use super::{Phase, Server, crowd};
use crate::config::{Config, RootSettings, SilentDevice};
use crate::stream::command::{Commands, Request};
use crate::writer::{
    self, Client, End, Job, Origin, Queue, Record, Room, SEGMENT_BYTES, Segment, SlotsWrite, Target,
};

/// How long a client may take to close after its stream has ended.
const LINGER: Duration = Duration::from_secs(5);

/// Answers that wait to be sent before the next command is received: a client that asks and never
/// listens would have them pile up.
const ANSWERS_MAX: usize = 64;

/// Why nothing more is received.
enum Stopped {
    /// The last command was received; its answer is still to come.
    Complete,
    /// The client is gone, or has been told all there is to tell.
    Gone,
    /// The client broke a rule.
    Rule(Failure),
    /// The stream takes nothing more: it failed, and the client is still to be told.
    Closed,
}

/// What wakes the two halves of a connection: there is something to send; there is room in the queue.
#[derive(Default)]
struct Wakes {
    outgoing: Arc<Notify>,
    room: Arc<Notify>,
}

impl Wakes {
    fn both(&self) -> impl Fn() + Send + Sync + 'static {
        let (outgoing, room) = (Arc::clone(&self.outgoing), Arc::clone(&self.room));
        move || {
            outgoing.notify_one();
            room.notify_one();
        }
    }
}

/// Opens a stream and serves it to its end. Returns what to tell the client when no stream came of it.
pub(super) async fn open(
    server: &Arc<Server>,
    socket: &Socket,
    receiver: Receiver<'_>,
    client: Client,
    opening: Opening,
) -> Option<Failure> {
    let wakes = Wakes::default();
    let begun = match resumed::opened_before(server, client, &opening) {
        Ok(Some(record)) => {
            resumed::begin_again(&record, opening, wakes.both()).map(|()| (record, Some(0)))
        }
        Ok(None) => begin(server, client, opening, wakes.both()).map(|record| (record, None)),
        Err(failure) => Err(failure),
    };
    match begun {
        Ok((record, resumed_at)) => {
            let commands = Commands::new(record.slots().map_or(0, |slots| slots.count()));
            let end = EndOfConnection::new(server, &record, resumed_at);
            serve(server, socket, receiver, end, commands, &wakes).await;
            None
        }
        Err(failure) => Some(failure),
    }
}

/// Goes on with a stream of the daemon before, to its end. Returns what to tell the client when it can't.
pub(super) async fn resume(
    server: &Arc<Server>,
    socket: &Socket,
    receiver: Receiver<'_>,
    client: Client,
    resuming: Resuming,
) -> Option<Failure> {
    let wakes = Wakes::default();
    let written = resuming.from.written.sequence;
    match resumed::attach(server, client, resuming, wakes.both()) {
        Ok(Found::Stream(record, commands)) => {
            let end = EndOfConnection::new(server, &record, Some(written));
            serve(server, socket, receiver, end, commands, &wakes).await;
            None
        }
        Ok(Found::Finished(stream, finished)) => {
            if socket::send(socket, 0, &Reply::Finished(finished)).await.is_ok() {
                let _ = timeout(LINGER, socket::linger(socket)).await;
                server.ended.remove(stream);
                server.shop.ledger.forget(stream);
            }
            None
        }
        Err(failure) => Some(failure),
    }
}

async fn serve(
    server: &Arc<Server>,
    socket: &Socket,
    mut receiver: Receiver<'_>,
    mut end: EndOfConnection<'_>,
    commands: Commands,
    Wakes { outgoing, room }: &Wakes,
) {
    let record = end.record;
    let mut phase = server.phase.subscribe();
    let mut sending = pin!(send_all(socket, record, outgoing, room));
    let stopped = tokio::select! {
        stopped = receive_all(socket, &mut receiver, commands, record, room) => stopped,
        // Either the last answer was sent, or there is nobody to send it to.
        has_heard = &mut sending => {
            end.has_heard = has_heard;
            Stopped::Gone
        }
        _ = phase.wait_for(|phase| *phase >= Phase::Draining) => {
            let limit = server.config().drain_timeout;
            let drain_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
            record.answer(0, Reply::GoingAway(GoingAway { drain_ms }));
            record.queue.end(End::GoingAway);
            Stopped::Complete
        }
    };
    match stopped {
        Stopped::Complete | Stopped::Closed => tokio::select! {
            // First this: the last answer may be ready as well.
            biased;
            has_heard = sending => end.has_heard = has_heard,
            // Its writer hangs, and will be gone with the process.
            _ = phase.wait_for(|phase| *phase == Phase::Leaving) => {}
        },
        Stopped::Gone => {}
        Stopped::Rule(failure) => {
            if server.shop.may_say(record.client.uid) {
                warn!(
                    stream = record.id,
                    client_pid = record.client.pid,
                    code = failure.code.0,
                    "disconnected a muxer: {}",
                    failure.message
                );
            }
            record.queue.end(End::ClientGone);
            record.answer(0, Reply::Failed(failure));
            // It may not be listening either.
            let _ = timeout(LINGER, sending).await;
        }
    }
    // All is said.
    drop(phase);
    end.nothing_more_comes();
    let _ = timeout(LINGER, socket::linger(socket)).await;
}

/// What is to be done when a connection is over. Whatever becomes of its task, the writer must hear that
/// nothing more comes.
struct EndOfConnection<'a> {
    server: &'a Server,
    record: &'a Arc<Record>,
    /// Number of the last command before this connection, where the stream is older than it.
    resumed_at: Option<u64>,
    /// The client has been sent the last answer.
    has_heard: bool,
    is_over: bool,
}

impl<'a> EndOfConnection<'a> {
    fn new(server: &'a Server, record: &'a Arc<Record>, resumed_at: Option<u64>) -> Self {
        Self { server, record, resumed_at, has_heard: false, is_over: false }
    }

    fn nothing_more_comes(&mut self) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        let record = self.record;
        let accepted = record.progress().accepted.sequence;
        let said_nothing = self.resumed_at == Some(accepted) && !record.queue.is_ended();
        if said_nothing && !record.has_ended() && !self.server.is_draining() {
            // It may not have heard that it was let in, and come again.
            record.suspend_again();
        } else {
            record.queue.end(End::ClientGone);
        }
    }
}

impl Drop for EndOfConnection<'_> {
    fn drop(&mut self) {
        self.nothing_more_comes();
        // A daemon that leaves has closed it, and not its client: what comes of the stream in the last moment is for
        // the next daemon to tell.
        if !self.server.is_leaving() {
            self.record.detach();
        }
        if self.has_heard && self.record.has_ended() && !self.record.is_left_open() {
            self.server.shop.ledger.forget(self.record.id);
        }
    }
}

/// Takes a stream in and starts its writer thread, which opens the file and answers.
fn begin(
    server: &Server,
    client: Client,
    opening: Opening,
    wake: impl Fn() + Send + Sync + 'static,
) -> Result<Arc<Record>, Failure> {
    let config = server.config();
    let Opening { by, path, ending, token, slots, .. } = opening;
    let is_given = by.is_descriptor();
    if config.silent_device == SilentDevice::Refuse {
        let given_by = is_given.then_some(client);
        if let Some(silence) = server.shop.openings.silence(&server.shop, &path, given_by) {
            return Err(silence.failure());
        }
    }
    let lacking = |what: String| Failure::new(ErrorCode::NO_RESOURCES, what);
    let descriptors = server.descriptors.for_stream().map_err(|full| lacking(full.to_string()))?;
    let refused = |record: &Record, what: String| {
        record.end(None);
        // It has a connection, and would be remembered until that has heard of its end.
        server.streams.remove(record.id);
        lacking(what)
    };
    let queue = Queue::new(Arc::clone(&server.queues), client.uid);
    let id = server.streams.next_id();
    let record = Record::new(id, path.clone(), client, queue, server.shop.clock);
    let record = Arc::new(record.with_given_file(is_given));
    record.set_weight(opening.weight);
    record.attach(slots, wake);
    if let Err(crowded) = server.streams.insert(&record, &config.limits) {
        return Err(crowd::streams(crowded, client.uid, &config.limits));
    }
    if let Err(lacking) = record.queue.reserve() {
        return Err(refused(&record, crowd::queue(lacking).to_owned()));
    }
    let window_bytes = opening.window_bytes.unwrap_or(u64::MAX).min(config.window_bytes);
    let target = Target {
        roots: config.roots.clone(),
        settings: settings(&config, &path, is_given),
        creation: config.creation,
        path,
        window_bytes,
        ending,
        no_space_wait: config.no_space_wait,
        silent_device: config.silent_device,
    };
    let origin = Origin::New {
        by,
        size_hint_bytes: opening.size_hint_bytes,
        token: token.filter(|_| !config.resume_grace.is_zero()),
    };
    let shop = Arc::clone(&server.shop);
    if let Err(error) = writer::spawn(shop, Arc::clone(&record), target, origin, descriptors) {
        let what = format!(
            "freemkvd has no thread for another stream: {error}; raise TasksMax= or LimitNPROC= of its unit \
             (or ulimit -u), or wait until another stream has ended"
        );
        return Err(refused(&record, what));
    }
    Ok(record)
}

/// What the configuration says of a file's root. What a client calls a file that it has opened itself may look
/// like a path below one, and says nothing.
pub(super) fn settings(config: &Config, path: &Path, is_given: bool) -> RootSettings {
    if is_given { RootSettings::default() } else { config.root_settings(path) }
}

/// Sends whatever there is to send until an answer that ends the stream, or until there can be none. True when
/// all of it was sent.
async fn send_all(socket: &Socket, record: &Record, outgoing: &Notify, room: &Notify) -> bool {
    loop {
        // First this, then the answers: an answer that comes in between is sent in the next round.
        let ended = record.has_ended();
        for (sequence, reply) in record.take_outgoing() {
            if socket::send(socket, sequence, &reply).await.is_err() {
                return false;
            }
            if matches!(reply.kind(), Kind::Finished | Kind::Aborted | Kind::Failed) {
                return true;
            }
        }
        if ended {
            return true;
        }
        room.notify_one();
        outgoing.notified().await;
    }
}

async fn receive_all(
    socket: &Socket,
    receiver: &mut Receiver<'_>,
    mut commands: Commands,
    record: &Record,
    room: &Notify,
) -> Stopped {
    loop {
        while record.answers() >= ANSWERS_MAX {
            room.notified().await;
        }
        let received = match receiver.receive().await {
            Ok(received) => received,
            Err(Broken::Io) => return Stopped::Gone,
            Err(Broken::Rule(failure)) => return Stopped::Rule(failure),
        };
        let result = match received {
            Received::Gone => return Stopped::Gone,
            Received::Write(header) => {
                receive_write(socket, &mut commands, record, room, &header).await
            }
            Received::Command(sequence, command) => {
                receive_command(&mut commands, record, room, sequence, &command).await
            }
        };
        record.count_seeks(commands.seeks(), commands.patches());
        if let Err(stopped) = result {
            return stopped;
        }
    }
}

async fn receive_command(
    commands: &mut Commands,
    record: &Record,
    room: &Notify,
    sequence: u64,
    command: &Command,
) -> Result<(), Stopped> {
    let request = commands.accept(sequence, command).map_err(Stopped::Rule)?;
    let (mut bytes, is_last) = (0, request == Request::Finish);
    let job = match request {
        // Takes effect here and now; the next job's number covers it.
        Request::Moved => {
            record.accept(sequence, 0);
            return Ok(());
        }
        Request::WriteSlots { offset, parts, len } => {
            bytes = len;
            Job::WriteSlots(SlotsWrite { offset, parts, sequence, content_bytes: len })
        }
        Request::WriteZeroes { offset, len } => {
            bytes = len;
            Job::WriteZeroes { range: offset..offset + len, sequence }
        }
        Request::SetLen(len) => Job::SetLen { len, sequence },
        Request::Flush => Job::Flush { sequence },
        Request::Sync => Job::Sync { sequence },
        Request::Finish => Job::Finish { sequence },
        Request::Abort => {
            record.queue.end(End::Aborted(sequence));
            return Err(Stopped::Complete);
        }
    };
    loop {
        let answer = match &job {
            Job::WriteSlots(_) => record.queue.charge_slots(bytes, commands.slots_bytes()),
            _ => record.queue.charge_command(),
        };
        match answer {
            Room::Granted => break,
            Room::Full => for_room(record, room).await,
            Room::Closed => return Err(Stopped::Closed),
        }
    }
    if matches!(job, Job::Sync { .. } | Job::Finish { .. }) {
        record.owes(sequence);
    }
    record.accept(sequence, bytes);
    record.queue.push_command(job);
    if is_last { Err(Stopped::Complete) } else { Ok(()) }
}

/// Reads the content of a `Write` from the socket to where the writer will take it from.
async fn receive_write(
    socket: &Socket,
    commands: &mut Commands,
    record: &Record,
    room: &Notify,
    header: &Header,
) -> Result<(), Stopped> {
    let len = header.body_bytes() as usize;
    let range = commands.write(header.sequence(), len as u64).map_err(Stopped::Rule)?;
    let (mut offset, mut left) = (range.start, len);
    while left > 0 {
        let piece = left.min(SEGMENT_BYTES);
        let mut filling = Filling::begin(record, room, offset, piece).await?;
        let mut to_come = piece;
        while to_come > 0 {
            let came = filling.segment.len();
            let space = filling.segment.space(to_come);
            let count = match socket.read(space).await {
                Ok(0) | Err(Broken::Io) => return Err(Stopped::Gone),
                Err(Broken::Rule(failure)) => return Err(Stopped::Rule(failure)),
                Ok(count) => count,
            };
            filling.segment.truncate(came + count);
            to_come -= count;
        }
        offset += piece as u64;
        left -= piece;
        if left == 0 {
            // Only now is the command accepted as a whole, and counted.
            record.accept(header.sequence(), len as u64);
            filling.segment.content_bytes += len as u64;
        }
        filling.complete(header.sequence() - u64::from(left > 0));
    }
    Ok(())
}

/// The queue is full. What wakes it may also be something else.
async fn for_room(record: &Record, room: &Notify) {
    record.refused(true);
    room.notified().await;
    record.refused(false);
}

/// A segment that is being filled. If the connection ends or the task is dropped in the middle, what
/// was in it before goes back to the queue: it was accepted.
struct Filling<'a> {
    queue: &'a Queue,
    segment: Segment,
    accepted_len: usize,
    done: bool,
}

impl<'a> Filling<'a> {
    async fn begin(
        record: &'a Record,
        room: &Notify,
        offset: u64,
        piece: usize,
    ) -> Result<Self, Stopped> {
        let queue = &record.queue;
        loop {
            let segment = match queue.take_tail(offset, piece) {
                Some(tail) => Ok(tail),
                None => queue.new_segment(offset, piece),
            };
            match segment {
                Ok(segment) => {
                    let accepted_len = segment.content().len();
                    return Ok(Self { queue, segment, accepted_len, done: false });
                }
                Err(Room::Closed) => return Err(Stopped::Closed),
                Err(_) => for_room(record, room).await,
            }
        }
    }

    /// The piece is whole; commands up to `sequence` are in it or before it.
    fn complete(mut self, sequence: u64) {
        self.segment.sequence = sequence;
        self.done = true;
    }
}

impl Drop for Filling<'_> {
    fn drop(&mut self) {
        let mut segment = std::mem::replace(&mut self.segment, Segment::empty());
        if !self.done {
            segment.truncate(self.accepted_len);
        }
        if segment.content().is_empty() {
            self.queue.done(Job::Write(segment));
        } else {
            self.queue.push_segment(segment);
        }
    }
}

#[cfg(test)]
mod tests;
