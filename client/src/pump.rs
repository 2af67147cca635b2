//! The two threads of a remote stream, and what they share with the muxer's.
//!
//! 1. The sender alone writes to the socket, the receiver alone reads from it. The muxer's thread
//!    only touches memory and waits on `progress`, so a blocked socket never blocks a halt.
//! 2. No lock is held during I/O.
//! 3. The receiver alone says that the connection is lost: when the sender fails, an answer that
//!    says why may still be unread.
//! 4. Both threads return when the link has ended or failed, or the daemon closes the connection.
//!    They may outlive the `RipFile`, to hand over what it held.

use std::io::{self, IoSlice, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use freemkvd_proto::{Failure, Reply};
use interprocess::local_socket::Stream;

use crate::connection::{Answers, io_error};
use crate::link::{Answered, Link, Part};
use crate::memory::{Memory, send_with};
use crate::outlet::Patience;
use crate::{Error, platform};

/// What the muxer's thread, the sender and the receiver share.
#[derive(Debug)]
pub(crate) struct Shared {
    path: PathBuf,
    stream: Arc<Stream>,
    /// Goes with the first frame.
    memory: Option<Memory>,
    link: Mutex<Link>,
    /// The outbox is not empty, or the link has ended.
    work: Condvar,
    /// An answer came, or a slot is free.
    progress: Condvar,
    /// `Link::failed` is set; to be read without the lock.
    failed: AtomicBool,
}

impl Shared {
    /// Starts both threads.
    pub(crate) fn start(
        path: &Path,
        stream: Arc<Stream>,
        memory: Option<Memory>,
        link: Link,
    ) -> Result<Arc<Self>, Error> {
        let shared = Arc::new(Self {
            path: path.to_owned(),
            stream,
            memory,
            link: Mutex::new(link),
            work: Condvar::new(),
            progress: Condvar::new(),
            failed: AtomicBool::new(false),
        });
        let spawn = |name: &str, run: fn(&Self)| {
            let shared = Arc::clone(&shared);
            thread::Builder::new()
                .name(name.into())
                .spawn(move || run(&shared))
                .map_err(|cause| io_error(path, "start a thread for", cause))
        };
        spawn("freemkv-send", Self::send_all)
            .and_then(|_| spawn("freemkv-receive", Self::receive_all))
            .inspect_err(|_| shared.give_up())?;
        Ok(shared)
    }

    /// The link. A thread that panicked while it held it left nothing half done that matters more
    /// than not panicking in a muxer's drop.
    pub(crate) fn link(&self) -> MutexGuard<'_, Link> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the link and wakes the sender if there is work for it.
    pub(crate) fn with<T>(&self, change: impl FnOnce(&mut Link) -> T) -> T {
        let mut link = self.link();
        let result = change(&mut link);
        if link.has_work() {
            self.work.notify_one();
        }
        result
    }

    pub(crate) fn is_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Waits until `ready` has something, the stream has failed, or patience ends.
    pub(crate) fn wait<T>(
        &self,
        patience: &Patience,
        mut ready: impl FnMut(&mut Link) -> Option<T>,
    ) -> Result<T, Error> {
        let mut link = self.link();
        loop {
            if let Some(error) = &link.failed {
                return Err(error.clone());
            }
            if let Some(result) = ready(&mut link) {
                return Ok(result);
            }
            if link.has_work() {
                self.work.notify_one();
            }
            let left = patience.next(&self.path)?;
            (link, _) =
                self.progress.wait_timeout(link, left).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Ends both threads and the connection, whatever is unsent.
    pub(crate) fn give_up(&self) {
        self.link().ended = true;
        self.work.notify_one();
        platform::hang_up(&self.stream);
    }

    fn fail(&self, link: &mut Link, error: Error) {
        link.failed.get_or_insert(error);
        link.ended = true;
        self.failed.store(true, Ordering::Relaxed);
    }

    fn send_all(&self) {
        let mut head = Vec::new();
        let mut memory = self.memory.as_ref();
        while let Some(body) = self.next_frames(&mut head) {
            let mut slices = vec![IoSlice::new(&head)];
            slices.extend(body.iter().map(|part| IoSlice::new(&part.slot[part.range.clone()])));
            if write_all(&self.stream, memory.take(), &mut slices).is_err() {
                // The receiver reads what is left and then the end (rule 3).
                platform::hang_up(&self.stream);
                return;
            }
            if body.is_empty() {
                continue;
            }
            let mut link = self.link();
            let mut is_one_free = false;
            for part in body {
                is_one_free |= link.pool.put(part.slot);
            }
            drop(link);
            if is_one_free {
                self.progress.notify_one();
            }
        }
    }

    /// The next bytes for the socket, or `None` when there will be no more.
    fn next_frames(&self, head: &mut Vec<u8>) -> Option<Vec<Part>> {
        head.clear();
        let mut link = self.link();
        loop {
            if link.ended {
                return None;
            }
            if link.has_work() {
                return match link.send(head) {
                    Ok(body) => Some(body),
                    Err(error) => {
                        let cause = io::Error::new(io::ErrorKind::InvalidInput, error);
                        self.fail(&mut link, io_error(&self.path, "encode a command for", cause));
                        self.progress.notify_one();
                        None
                    }
                };
            }
            link = self.work.wait(link).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn receive_all(&self) {
        let mut answers = Answers::new(Arc::clone(&self.stream));
        loop {
            let answer = answers.next();
            let mut link = self.link();
            let answered = match answer {
                Ok((_, Reply::Failed(failure))) => {
                    let error = self.refusal(&link, failure);
                    self.fail(&mut link, error);
                    Ok(Answered::Ended)
                }
                Ok((sequence, reply)) => link.answer(sequence, reply),
                Err(error) => Err(error),
            };
            let is_over = match answered {
                Ok(answered) => answered == Answered::Ended,
                Err(cause) => {
                    let error = self.lost(&link, cause);
                    self.fail(&mut link, error);
                    true
                }
            };
            drop(link);
            self.progress.notify_one();
            if is_over {
                self.work.notify_one();
                return;
            }
        }
    }

    fn refusal(&self, link: &Link, failure: Failure) -> Error {
        Error::Failed {
            path: self.path.clone(),
            operation: if link.opened.is_some() { "write" } else { "open" },
            failure,
        }
    }

    fn lost(&self, link: &Link, cause: io::Error) -> Error {
        let marks = link.marks();
        let cause = match cause.kind() {
            _ if link.going_away => io::Error::new(cause.kind(), "it was shutting down"),
            // Which of them depends on what was unread when it closed.
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe => io::Error::new(cause.kind(), "it closed the connection"),
            _ => cause,
        };
        Error::Lost {
            path: self.path.clone(),
            written_bytes: marks.written.bytes,
            durable_bytes: marks.durable.bytes,
            cause: Arc::new(cause),
        }
    }
}

/// Writes the frames' heads and the content, in one system call where the socket takes it all; with
/// their first byte goes the memory.
fn write_all(
    mut stream: &Stream,
    mut memory: Option<&Memory>,
    mut left: &mut [IoSlice<'_>],
) -> io::Result<()> {
    IoSlice::advance_slices(&mut left, 0);
    while !left.is_empty() {
        let written = match memory {
            Some(memory) => send_with(stream, memory, &left[0]),
            None => stream.write_vectored(left),
        };
        match written {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                memory = None;
                IoSlice::advance_slices(&mut left, count);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
