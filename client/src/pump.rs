//! The two threads of a remote stream, and what they share with the muxer's.
//!
//! 1. The sender alone sends commands, the receiver alone reads answers. The muxer's thread only touches
//!    memory and waits on `progress`, so neither a blocked socket nor a missing daemon blocks a halt.
//! 2. No lock is held during I/O.
//! 3. The receiver alone says that the connection is lost: when the sender fails, an answer that
//!    says why may still be unread.
//! 4. The receiver alone gets another connection (`reconnect`). It has let go of the old one before, so no
//!    answer of that is taken for one of the new. A line's generation tells the sender which of them it
//!    was that failed.
//! 5. While there is no line nothing is sent, and nothing moves from the outbox. What the sender is still
//!    busy with is in flight already, and is told again from there.
//! 6. Both threads return when the link has ended or failed, or the connection is lost and the stream can't
//!    go on. They may outlive the `RipFile`, to hand over what it held.

mod reconnect;
mod silence;

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use freemkvd_proto::{Failure, Reply};
use interprocess::local_socket::Stream;

use self::reconnect::Outage;
pub(crate) use self::reconnect::{Backoff, Route, passes};
use self::silence::Silence;
use crate::connection::{Answers, io_error, write_all};
use crate::link::{Answered, Link, Part};
use crate::luggage::Luggage;
use crate::outlet::Patience;
use crate::{Error, platform};

/// What the muxer's thread, the sender and the receiver share.
#[derive(Debug)]
pub(crate) struct Shared {
    path: PathBuf,
    route: Route,
    /// Goes with the first frame of each connection.
    luggage: Option<Arc<Luggage>>,
    state: Mutex<State>,
    /// The outbox is not empty and there is a line, or the link has ended.
    work: Condvar,
    /// An answer came, or a slot is free.
    progress: Condvar,
    /// The link has ended.
    ending: Condvar,
    /// `Link::failed` is set; to be read without the lock.
    failed: AtomicBool,
    /// `Link::durable_sequence`; to be read without the lock.
    durable: AtomicU64,
}

#[derive(Debug)]
struct State {
    link: Link,
    /// Where frames go; `None` while there is no connection.
    line: Option<Line>,
    /// What the system was short of when the sender gave its line up. The other side then only sees an end.
    short_of: Option<io::Error>,
}

/// One connection of a stream.
#[derive(Clone, Debug)]
struct Line {
    stream: Arc<Stream>,
    /// Counts the stream's connections.
    generation: u64,
}

impl Shared {
    /// Starts both threads.
    pub(crate) fn start(
        path: &Path,
        stream: Arc<Stream>,
        luggage: Option<Arc<Luggage>>,
        link: Link,
        route: Route,
    ) -> Result<Arc<Self>, Error> {
        let line = Some(Line { stream: Arc::clone(&stream), generation: 0 });
        let shared = Arc::new(Self {
            path: path.to_owned(),
            route,
            luggage,
            state: Mutex::new(State { link, line, short_of: None }),
            work: Condvar::new(),
            progress: Condvar::new(),
            ending: Condvar::new(),
            failed: AtomicBool::new(false),
            durable: AtomicU64::new(0),
        });
        let (sending, receiving) = (Arc::clone(&shared), Arc::clone(&shared));
        let send = thread::Builder::new().name("freemkv-send".into());
        let receive = thread::Builder::new().name("freemkv-receive".into());
        send.spawn(move || sending.send_all())
            .and_then(|_| receive.spawn(move || receiving.receive_all(stream)))
            .map_err(|cause| io_error(path, "start a thread for", cause))
            .inspect_err(|_| shared.give_up())?;
        Ok(shared)
    }

    /// The link and its line. A thread that panicked while it held them left nothing half done that
    /// matters more than not panicking in a muxer's drop.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the link and wakes the sender if there is work for it.
    pub(crate) fn with<T>(&self, change: impl FnOnce(&mut Link) -> T) -> T {
        let mut state = self.state();
        let result = change(&mut state.link);
        if state.link.has_work() {
            self.work.notify_one();
        }
        result
    }

    pub(crate) fn is_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Everything up to this number is durable.
    pub(crate) fn durable(&self) -> u64 {
        self.durable.load(Ordering::Relaxed)
    }

    /// The link was told something. Before its lock is given back, so that whoever has seen a sync come to
    /// its end sees what it has made durable.
    fn has_answered(&self, link: &Link) {
        self.durable.store(link.durable_sequence(), Ordering::Relaxed);
        if link.has_work() {
            self.work.notify_one();
        }
    }

    /// Waits until `ready` has something, the stream has failed, or patience ends.
    pub(crate) fn wait<T>(
        &self,
        patience: &Patience,
        mut ready: impl FnMut(&mut Link) -> Option<T>,
    ) -> Result<T, Error> {
        let mut state = self.state();
        loop {
            if let Some(error) = &state.link.failed {
                return Err(error.clone());
            }
            if let Some(result) = ready(&mut state.link) {
                return Ok(result);
            }
            if state.link.has_work() {
                self.work.notify_one();
            }
            let left = patience.next(&self.path)?;
            (state, _) =
                self.progress.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Ends both threads and the connection, whatever is unsent.
    pub(crate) fn give_up(&self) {
        let mut state = self.state();
        state.link.ended = true;
        if let Some(line) = state.line.take() {
            platform::hang_up(&line.stream);
        }
        self.wake();
    }

    fn fail(&self, link: &mut Link, error: Error) {
        link.failed.get_or_insert(error);
        link.ended = true;
        self.failed.store(true, Ordering::Relaxed);
        self.wake();
    }

    /// Something has changed that everybody has to know.
    fn wake(&self) {
        self.work.notify_one();
        self.progress.notify_one();
        self.ending.notify_one();
    }

    fn send_all(&self) {
        let mut head = Vec::new();
        // With the first frame of a later connection it goes before that has a line.
        let mut luggage = self.luggage.as_deref();
        while let Some((line, body)) = self.next_frames(&mut head) {
            let mut slices = vec![IoSlice::new(&head)];
            slices.extend(body.iter().map(|part| IoSlice::new(&part.slot[part.range.clone()])));
            let sent = write_all(&line.stream, luggage.take(), &mut slices);
            let mut state = self.state();
            if let Err(error) = sent {
                state.short_of = Some(error).filter(platform::is_shortage);
                // The receiver reads what is left and then the end (rule 3).
                platform::hang_up(&line.stream);
                state.line.take_if(|current| current.generation == line.generation);
            }
            // Also when it was not sent: what is in flight has references of its own.
            let mut is_one_free = false;
            for part in body {
                is_one_free |= state.link.pool.put(part.slot);
            }
            drop(state);
            if is_one_free {
                self.progress.notify_one();
            }
        }
    }

    /// The next bytes for the socket, or `None` when there will be no more.
    fn next_frames(&self, head: &mut Vec<u8>) -> Option<(Line, Vec<Part>)> {
        head.clear();
        let mut state = self.state();
        loop {
            if state.link.ended {
                return None;
            }
            if let Some(line) = state.line.clone().filter(|_| state.link.has_work()) {
                return match state.link.send(head) {
                    Ok(body) => Some((line, body)),
                    Err(error) => {
                        let cause = io::Error::new(io::ErrorKind::InvalidInput, error);
                        let error = io_error(&self.path, "encode a command for", cause);
                        self.fail(&mut state.link, error);
                        None
                    }
                };
            }
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn receive_all(&self, stream: Arc<Stream>) {
        let mut answers = Answers::new(stream);
        answers.look_up_after(silence::LOOK);
        let mut outage = Outage::none_yet();
        while let Some(cause) = self.receive(&mut answers) {
            match self.go_on(cause, &mut outage) {
                Some(next) => {
                    answers = next;
                    answers.look_up_after(silence::LOOK);
                }
                None => return,
            }
        }
    }

    /// Takes the answers of one connection. Returns how it was lost if the stream may go on with another
    /// one.
    fn receive(&self, answers: &mut Answers) -> Option<io::Error> {
        let mut silence = Silence::none_yet();
        loop {
            let answer = answers.next();
            if answer.as_ref().is_err_and(is_silence) {
                if let Some(next) = self.ask_elsewhere(&mut silence) {
                    *answers = next;
                    answers.look_up_after(silence::LOOK);
                    silence = Silence::none_yet();
                }
                if self.state().link.ended {
                    return None;
                }
                continue;
            }
            silence = Silence::none_yet();
            let mut state = self.state();
            let link = &mut state.link;
            let answered = match answer {
                Ok((_, Reply::Failed(failure))) => {
                    let operation = if link.opened.is_some() { "write" } else { "open" };
                    self.fail(link, self.refusal(operation, failure));
                    Ok(Answered::Ended)
                }
                Ok((sequence, reply)) => link.answer(sequence, reply),
                Err(cause) => Err(cause),
            };
            self.has_answered(link);
            match answered {
                Ok(Answered::GoesOn) => {
                    drop(state);
                    self.progress.notify_one();
                }
                Ok(Answered::Ended) => {
                    self.wake();
                    return None;
                }
                Err(cause) => {
                    let cause = state.short_of.take().unwrap_or(cause);
                    if let Some(line) = state.line.take() {
                        platform::hang_up(&line.stream);
                    }
                    if self.may_go_on(&state.link, &cause) {
                        return Some(cause);
                    }
                    let error = self.lost(&state.link, cause);
                    self.fail(&mut state.link, error);
                    return None;
                }
            }
        }
    }

    fn refusal(&self, operation: &'static str, failure: Failure) -> Error {
        Error::Failed { path: self.path.clone(), operation, failure }
    }

    fn lost(&self, link: &Link, cause: io::Error) -> Error {
        let cause = match cause.kind() {
            _ if link.going_away => io::Error::new(cause.kind(), "it was shutting down"),
            // Which of them depends on what was unread when it closed.
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe => io::Error::new(cause.kind(), "it closed the connection"),
            _ => cause,
        };
        self.lost_because(link, cause)
    }

    fn lost_because(&self, link: &Link, cause: io::Error) -> Error {
        Error::Lost {
            path: self.path.clone(),
            written_bytes: link.written_bytes(),
            durable_bytes: link.durable_bytes(),
            cause: Arc::new(cause),
        }
    }
}

/// Nothing has come within the time that a read may take.
fn is_silence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
