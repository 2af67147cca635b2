//! The fsyncs of a local file: one at a time, each in a thread of its own.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, sync_channel};
use std::thread;
use std::time::Duration;

use freemkvd_proto::Mark;

use crate::platform;

/// See the module's page.
#[derive(Debug)]
pub(super) struct Syncs {
    file: Arc<File>,
    /// Its directory has still to be synced.
    directory: Option<PathBuf>,
    durable: Mark,
    running: Option<Running>,
    /// Another one is to begin when that has ended.
    pub(super) again: bool,
}

#[derive(Debug)]
struct Running {
    result: Receiver<io::Result<()>>,
    /// How much was written when it began.
    covers: Mark,
}

impl Syncs {
    pub(super) fn new(file: Arc<File>, directory: Option<PathBuf>) -> Self {
        Self { file, directory, durable: Mark::default(), running: None, again: false }
    }

    /// The file has another name now, in this directory.
    pub(super) fn name_is_new(&mut self, directory: Option<&Path>) {
        self.directory = directory.map(Path::to_owned);
    }

    pub(super) fn durable(&self) -> Mark {
        self.durable
    }

    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Begins one, of what is written now. None may be running.
    ///
    /// # Errors
    /// The system has no thread to give; nothing was begun.
    pub(super) fn begin(&mut self, covers: Mark) -> io::Result<()> {
        debug_assert!(self.running.is_none(), "its result would be lost");
        let (sender, result) = sync_channel(1);
        let (file, directory) = (Arc::clone(&self.file), self.directory.clone());
        thread::Builder::new().name("freemkv-sync".into()).spawn(move || {
            let synced = file.sync_all().and_then(|()| match &directory {
                Some(directory) => platform::sync_directory(directory),
                None => Ok(()),
            });
            // Kept for the next one to ask; nobody is left only when the stream was dropped.
            let _ = sender.send(synced);
        })?;
        self.running = Some(Running { result, covers });
        self.again = false;
        Ok(())
    }

    /// Whether the one that runs has ended by now, and how; `None` if it has not, or none runs.
    pub(super) fn ended(&mut self) -> Option<io::Result<()>> {
        let result = match self.running.as_ref()?.result.try_recv() {
            Ok(result) => result,
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => Err(io::ErrorKind::Other.into()),
        };
        Some(self.end(result))
    }

    /// The same, after at most so long.
    pub(super) fn wait(&mut self, timeout: Duration) -> Option<io::Result<()>> {
        let result = match self.running.as_ref()?.result.recv_timeout(timeout) {
            Ok(result) => result,
            Err(RecvTimeoutError::Timeout) => return None,
            Err(RecvTimeoutError::Disconnected) => Err(io::ErrorKind::Other.into()),
        };
        Some(self.end(result))
    }

    fn end(&mut self, result: io::Result<()>) -> io::Result<()> {
        let running = self.running.take();
        result?;
        self.durable = running.map_or(self.durable, |running| running.covers);
        self.directory = None;
        Ok(())
    }
}
