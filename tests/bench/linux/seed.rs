//! The design that freemkvd came from, in one process: what it has to beat.
//!
//! Written from the description of its behaviour, its costs included. Each write is copied into a
//! command of its own on a bounded ring. A thread per file takes them off, joins what is contiguous
//! to 1 MiB, writes it, and keeps every byte again in a mirror of the newest 128 MiB, byte by byte.
//! When 128 MiB are written their writeback is started, the 128 MiB before are waited for, and
//! dropped from the page cache. A seek within the mirror drains nothing; one that leaves it forgets
//! what was not started.
//!
//! It is better than its original in one thing: errors are not lost, a benchmark has to notice them.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use freemkvd::storage::{Creation, Disk, Open, Storage};
use freemkvd_proto::OpenMode;
use freemkvd_tests::sink::Sink;

/// Bytes on the ring, in a chunk, and in the mirror.
const RING_BYTES: usize = 128 << 20;
const CHUNK_BYTES: u64 = 128 << 20;
const MIRROR_BYTES: usize = 128 << 20;
/// Bytes that commands are joined to.
const JOINED_BYTES: usize = 1 << 20;

enum Command {
    Write(Vec<u8>),
    Seek(u64),
    SetLen(u64),
}

/// What the caller and the thread share.
#[derive(Default)]
struct Ring {
    state: Mutex<State>,
    /// Something was put on the ring, or taken off.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    commands: VecDeque<Command>,
    bytes: usize,
    /// The thread has a command in its hands.
    busy: bool,
    closed: bool,
    /// The first failure; nothing more is written.
    failed: Option<(io::ErrorKind, String)>,
}

impl Ring {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(
        &self,
        state: MutexGuard<'a, State>,
        mut until: impl FnMut(&State) -> bool,
    ) -> MutexGuard<'a, State> {
        let waited = self.changed.wait_while(state, |state| !until(state));
        waited.unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn check(&self) -> io::Result<()> {
        match &self.failed {
            Some((kind, message)) => Err(io::Error::new(*kind, message.clone())),
            None => Ok(()),
        }
    }
}

/// A file behind a ring and a thread.
pub(crate) struct Seed {
    ring: Arc<Ring>,
    thread: Option<JoinHandle<()>>,
    /// For fsync.
    file: File,
    position: u64,
    len: u64,
}

impl Seed {
    /// `file` is the one at `path`, opened for writing.
    pub(crate) fn new(file: File, path: &Path) -> io::Result<Self> {
        let len = file.metadata()?.len();
        let ring = Arc::<Ring>::default();
        let drain = Drain::new(file.try_clone()?, path)?;
        let shared = Arc::clone(&ring);
        let thread = std::thread::Builder::new().spawn(move || drain.run(&shared))?;
        Ok(Self { ring, thread: Some(thread), file, position: 0, len })
    }

    fn put(&mut self, command: Command, bytes: usize) -> io::Result<()> {
        let state = self.ring.lock();
        let fits = |state: &State| state.bytes + bytes <= RING_BYTES || state.commands.is_empty();
        let mut state = self.ring.wait(state, |state| fits(state) || state.failed.is_some());
        state.check()?;
        state.bytes += bytes;
        state.commands.push_back(command);
        drop(state);
        self.ring.changed.notify_all();
        Ok(())
    }
}

impl Write for Seed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.put(Command::Write(bytes.to_vec()), bytes.len())?;
        self.position += bytes.len() as u64;
        self.len = self.len.max(self.position);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.ring.lock().check()
    }
}

impl Seek for Seed {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::Current(0) => return Ok(self.position),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => self.len.checked_add_signed(by),
        };
        let target = target.ok_or(io::ErrorKind::InvalidInput)?;
        self.put(Command::Seek(target), 0)?;
        self.position = target;
        Ok(target)
    }
}

impl Sink for Seed {
    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.len = len;
        self.put(Command::SetLen(len), 0)
    }

    fn write_zeroes(&mut self, mut len: u64) -> io::Result<()> {
        let zeroes = [0; 64 << 10];
        while len > 0 {
            let part = usize::try_from(len).unwrap_or(zeroes.len()).min(zeroes.len());
            self.write_all(&zeroes[..part])?;
            len -= part as u64;
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let state = self.ring.lock();
        let idle = |state: &State| state.commands.is_empty() && !state.busy;
        let state = self.ring.wait(state, |state| idle(state) || state.failed.is_some());
        state.check()?;
        drop(state);
        self.file.sync_all()
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        self.ring.lock().closed = true;
        self.ring.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic of it was printed.
            let _ = thread.join();
        }
    }
}

/// The thread's side.
struct Drain {
    file: File,
    /// `sync_file_range` and its kin, by the only safe names that this project has for them.
    calls: Box<dyn Storage>,
    position: u64,
    mirror: VecDeque<u8>,
    mirror_start: u64,
    chunk_start: u64,
    started: Option<Range<u64>>,
}

impl Drain {
    fn new(file: File, path: &Path) -> io::Result<Self> {
        let roots = [path.parent().unwrap_or(path).to_owned()];
        let opened = Disk
            .open(&roots, path, OpenMode::Existing, Creation::default())
            .map_err(io::Error::other)?;
        Ok(Self {
            file,
            calls: opened.storage,
            position: 0,
            mirror: VecDeque::new(),
            mirror_start: 0,
            chunk_start: 0,
            started: None,
        })
    }

    fn run(mut self, ring: &Ring) {
        loop {
            let state = ring.lock();
            let mut state = ring.wait(state, |state| state.closed || !state.commands.is_empty());
            let Some(command) = take(&mut state) else {
                return;
            };
            state.busy = true;
            drop(state);
            ring.changed.notify_all();
            let done = self.execute(command);
            let mut state = ring.lock();
            state.busy = false;
            if let Err(error) = done {
                state.failed = Some((error.kind(), error.to_string()));
                state.commands.clear();
            }
            let failed = state.failed.is_some();
            drop(state);
            ring.changed.notify_all();
            if failed {
                return;
            }
        }
    }

    fn execute(&mut self, command: Command) -> io::Result<()> {
        match command {
            Command::SetLen(len) => self.file.set_len(len),
            Command::Seek(target) => {
                self.seek(target);
                Ok(())
            }
            Command::Write(bytes) => {
                self.file.write_all_at(&bytes, self.position)?;
                self.mirror(&bytes);
                self.position += bytes.len() as u64;
                self.drain()
            }
        }
    }

    fn seek(&mut self, target: u64) {
        let mirrored = self.mirror_start..=self.mirror_start + self.mirror.len() as u64;
        self.position = target;
        if !mirrored.contains(&target) {
            self.mirror.clear();
            self.mirror_start = target;
            self.chunk_start = target;
        }
    }

    /// What lies within the mirror was there before: a patch changes it in place.
    fn mirror(&mut self, bytes: &[u8]) {
        let at = usize::try_from(self.position - self.mirror_start).unwrap_or(usize::MAX);
        let within = self.mirror.len().saturating_sub(at).min(bytes.len());
        for (old, new) in self.mirror.iter_mut().skip(at).zip(&bytes[..within]) {
            *old = *new;
        }
        self.mirror.extend(bytes[within..].iter().copied());
        while self.mirror.len() > MIRROR_BYTES {
            self.mirror.pop_front();
            self.mirror_start += 1;
        }
    }

    fn drain(&mut self) -> io::Result<()> {
        if self.position.saturating_sub(self.chunk_start) < CHUNK_BYTES {
            return Ok(());
        }
        let chunk = self.chunk_start..self.position;
        self.chunk_start = self.position;
        self.calls.start_writeback(chunk.clone())?;
        if let Some(before) = self.started.replace(chunk) {
            self.calls.wait_writeback(before.clone())?;
            self.calls.evict(before)?;
        }
        Ok(())
    }
}

/// The next command, with the writes behind it while they make no more than 1 MiB.
fn take(state: &mut State) -> Option<Command> {
    let mut command = state.commands.pop_front()?;
    if let Command::Write(bytes) = &mut command {
        while let Some(Command::Write(next)) = state.commands.front() {
            if bytes.len() + next.len() > JOINED_BYTES {
                break;
            }
            bytes.extend_from_slice(next);
            state.commands.pop_front();
        }
        state.bytes -= bytes.len();
    }
    Some(command)
}
