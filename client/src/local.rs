//! [`Local`]: an [`Outlet`] into a plain file, for hosts without a daemon. The same window, the same
//! latched errors, the same meaning of `Ok`; but every write waits for the kernel, and the halt flag
//! and deadlines bound only the syncs.
//!
//! 1. The first failure is latched: nothing is written after it, and no fsync is tried again in the
//!    hope of a better answer.
//! 2. An fsync runs in a thread of its own, because nothing ends one on a dead mount. Its result is
//!    always collected before another begins: the kernel tells an error once.
//! 3. A file that was created is durable with its name: its directory is synced too.
//! 4. A sync that nobody waits for is looked after by whatever is called next, also by a mere question.

mod syncs;

use std::cell::{OnceCell, RefCell};
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use freemkvd_proto::{Mark, OpenMode};

use self::syncs::Syncs;
use crate::connection::io_error;
use crate::directory::Directory;
use crate::ending::Ending;
use crate::journal::Journal;
use crate::outlet::{Outlet, Patience};
use crate::progress::Progress;
use crate::slot::{Pool, Slot};
use crate::window::{Leaving, Window};
use crate::{Error, OpenedBy};

/// What fills a range with zeros. Bigger blocks are not faster.
static ZEROES: [u8; 64 << 10] = [0; 64 << 10];

/// A plain file.
#[derive(Debug)]
pub(crate) struct Local {
    path: PathBuf,
    /// `None` once the file has become what it is to be.
    ending: Option<Ending>,
    file: Arc<File>,
    /// The file's own position.
    position: u64,
    pool: Pool,
    halt: Option<Arc<AtomicBool>>,
    /// Its number counts what was handed over.
    written: Mark,
    syncs: RefCell<Syncs>,
    failed: OnceCell<Error>,
}

impl Local {
    /// Opens the file. With it comes its length in bytes.
    pub(crate) fn open(
        ending: Ending,
        mode: OpenMode,
        window_bytes: u64,
        halt: Option<Arc<AtomicBool>>,
    ) -> Result<(Self, u64), Error> {
        let path = &*ending.opened_path();
        let mut options = OpenOptions::new();
        match mode {
            OpenMode::CreateNew => options.write(true).create_new(true),
            OpenMode::Create => options.write(true).create(true).truncate(true),
            OpenMode::Existing => options.write(true),
        };
        let open = || {
            ending.check()?;
            let file = options.open(path)?;
            let len_bytes = file.metadata()?.len();
            Ok((file, len_bytes))
        };
        let (file, len_bytes) = open().map_err(|cause| io_error(path, "open", cause))?;
        let file = Arc::new(file);
        let directory = path.parent().filter(|_| mode != OpenMode::Existing);
        let syncs = Syncs::new(Arc::clone(&file), directory.map(Path::to_owned));
        let local = Self {
            path: path.to_owned(),
            ending: Some(ending),
            file,
            position: 0,
            pool: Pool::new(Window::slots_max(window_bytes, 1)),
            halt,
            written: Mark::default(),
            syncs: RefCell::new(syncs),
            failed: OnceCell::new(),
        };
        Ok((local, len_bytes))
    }

    fn check(&self) -> Result<(), Error> {
        self.failure().map_or(Ok(()), Err)
    }

    fn fail(&self, operation: &'static str, offset: Option<u64>, cause: io::Error) -> Error {
        let error =
            Error::Io { path: self.path.clone(), operation, offset, cause: Arc::new(cause) };
        self.failed.get_or_init(|| error).clone()
    }

    fn write_at(&mut self, mut offset: u64, mut bytes: &[u8]) -> Result<(), Error> {
        self.check()?;
        while !bytes.is_empty() {
            match self.write_some(offset, bytes) {
                Ok(count) => {
                    offset += count as u64;
                    self.position = offset;
                    self.written.bytes += count as u64;
                    bytes = &bytes[count..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.fail("write", Some(offset), error)),
            }
        }
        Ok(())
    }

    fn write_some(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        let mut file = &*self.file;
        if self.position != offset {
            file.seek(SeekFrom::Start(offset))?;
        }
        match file.write(bytes)? {
            0 => Err(io::ErrorKind::WriteZero.into()),
            count => Ok(count),
        }
    }

    fn directory(&self) -> io::Result<Directory> {
        Directory::at(self.path.parent().unwrap_or(Path::new("")))
    }

    /// The file will not be complete.
    fn dispose(&mut self) {
        let Some(ending) = self.ending.take().filter(Ending::is_work) else {
            return;
        };
        if let Err(cause) = self.directory().and_then(|directory| ending.dispose(&directory)) {
            self.fail("dispose of", None, cause);
        }
    }

    /// Rule 4.
    fn look_after_syncs(&self) {
        let mut syncs = self.syncs.borrow_mut();
        if let Some(Err(cause)) = syncs.ended() {
            self.fail("sync", None, cause);
        }
        if syncs.again && !syncs.is_running() && self.failed.get().is_none() {
            // Without a thread now, with the next look perhaps.
            let _ = syncs.begin(self.written);
        }
    }

    /// Waits until no fsync runs.
    fn end_sync(&self, syncs: &mut Syncs, patience: &Patience) -> Result<(), Error> {
        while syncs.is_running() {
            let left = patience.next(&self.path)?;
            if let Some(Err(cause)) = syncs.wait(left) {
                return Err(self.fail("sync", None, cause));
            }
        }
        Ok(())
    }

    fn begin_sync(&self, syncs: &mut Syncs) -> Result<(), Error> {
        let begun = syncs.begin(self.written);
        begun.map_err(|cause| io_error(&self.path, "start a thread for", cause))
    }
}

impl Outlet for Local {
    fn is_failed(&self) -> bool {
        self.look_after_syncs();
        self.failed.get().is_some()
    }

    fn failure(&self) -> Option<Error> {
        self.failed.get().cloned()
    }

    fn slot(&mut self) -> Result<Arc<Slot>, Error> {
        // The window never holds more than the pool's limit, and nothing else holds any.
        self.pool.take().ok_or_else(|| Error::Invalid {
            path: self.path.clone(),
            message: "the patch window holds more slots than it may",
        })
    }

    fn take(
        &mut self,
        leaving: &mut VecDeque<Leaving>,
        mut journal: Option<&mut Journal>,
    ) -> Result<(), Error> {
        let mut result = Ok(());
        for item in leaving.drain(..) {
            let slot = match item {
                Leaving::Write { offset, slot, range } => {
                    let end = offset + range.len() as u64;
                    self.written.sequence += 1;
                    result = result.and_then(|()| self.write_at(offset, &slot[range]));
                    if let (Some(journal), Ok(())) = (journal.as_mut(), &result) {
                        journal.send(offset..end, self.written.sequence);
                    }
                    slot
                }
                Leaving::Release(slot) => slot,
            };
            self.pool.put(slot);
        }
        result
    }

    fn write_zeroes(&mut self, offset: u64, len: u64) -> Result<u64, Error> {
        self.check()?;
        self.written.sequence += 1;
        let end = offset + len;
        let metadata = self.file.metadata();
        let len_bytes =
            metadata.map_err(|cause| self.fail("get the length of", None, cause))?.len();
        let mut at = offset;
        while at < end.min(len_bytes) {
            let left = usize::try_from(end.min(len_bytes) - at).unwrap_or(usize::MAX);
            let block = &ZEROES[..left.min(ZEROES.len())];
            self.write_at(at, block)?;
            at += block.len() as u64;
        }
        if end > len_bytes {
            // What is new in a file reads as zeros, without being written.
            self.set_len(end)?;
            self.written.bytes += end - at;
        }
        Ok(self.written.sequence)
    }

    fn set_len(&mut self, len: u64) -> Result<(), Error> {
        self.check()?;
        self.written.sequence += 1;
        let result = self.file.set_len(len);
        result.map_err(|cause| self.fail("set the length of", Some(len), cause))
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.check()
    }

    fn sync(&mut self, timeout: Duration) -> Result<(), Error> {
        self.check()?;
        let patience = Patience::new("syncing", self.halt.as_ref()).with_timeout(timeout);
        let syncs = &mut *self.syncs.borrow_mut();
        self.end_sync(syncs, &patience)?;
        self.begin_sync(syncs)?;
        self.end_sync(syncs, &patience)
    }

    fn sync_soon(&mut self) -> Result<(), Error> {
        self.check()?;
        let syncs = &mut *self.syncs.borrow_mut();
        if syncs.is_running() {
            syncs.again = true;
            return Ok(());
        }
        // Without any content there is still a name to sync.
        let is_new = self.written != syncs.durable() || self.written == Mark::default();
        if is_new { self.begin_sync(syncs) } else { Ok(()) }
    }

    fn handed(&self) -> u64 {
        self.written.sequence
    }

    fn durable(&self) -> u64 {
        self.look_after_syncs();
        self.syncs.borrow().durable().sequence
    }

    fn finish(&mut self, timeout: Duration) -> Result<u64, Error> {
        let synced = self.sync(timeout);
        if self.is_failed() {
            self.dispose();
        }
        synced?;
        // Whatever comes now, a complete file is not removed.
        if let Some(ending) = self.ending.take().filter(Ending::is_work) {
            match self.directory().and_then(|directory| ending.publish(&directory)) {
                Ok(false) => {}
                Ok(true) => {
                    self.syncs.borrow_mut().name_is_new(self.path.parent());
                    self.sync(timeout)?;
                }
                Err(cause) => return Err(self.fail("publish", None, cause)),
            }
        }
        let metadata = self.file.metadata();
        metadata
            .map(|metadata| metadata.len())
            .map_err(|cause| self.fail("get the length of", None, cause))
    }

    fn abort(&mut self, _timeout: Duration) -> Result<(), Error> {
        self.dispose();
        self.check()
    }

    /// Everything is written already.
    fn close(&mut self, _timeout: Duration) {
        self.dispose();
    }

    fn progress(&self) -> Progress {
        self.look_after_syncs();
        Progress {
            accepted_bytes: self.written.bytes,
            written_bytes: self.written.bytes,
            durable_bytes: self.syncs.borrow().durable().bytes,
            ..Progress::default()
        }
    }

    fn stream_id(&self) -> Option<u64> {
        None
    }

    fn opened_by(&self) -> OpenedBy {
        OpenedBy::Local
    }
}
