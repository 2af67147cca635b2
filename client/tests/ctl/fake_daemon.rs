//! A daemon that answers `Status` with the snapshot that it was given last and keeps what streams write in memory.
//! Everything written counts as durable only once a `Sync` or `Finish` has asked for it.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
#[cfg(unix)]
use std::time::Duration;

use freemkvd_proto::hello::{ClientHello, DaemonHello, HELLO_BYTES};
use freemkvd_proto::status::Status;
use freemkvd_proto::waits::Waits;
use freemkvd_proto::{
    Command, Decoder, ErrorCode, Failure, Finished, Leftover, Mark, Open, OpenMode, OpenResumable,
    Opened, Progress, Reloaded, Reply, Resume, Resumed, Sender, Step,
};
use interprocess::local_socket::traits::Listener as _;
use interprocess::local_socket::{GenericFilePath, ListenerOptions, Stream, ToFsName};

/// Longer than anything here takes on the slowest machine.
#[cfg(unix)]
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct FakeDaemon {
    directory: tempfile::TempDir,
    shared: Arc<Shared>,
}

struct Shared {
    status: Mutex<Status>,
    /// What it knows of stream 1.
    waits: Mutex<Waits>,
    /// Connections are dropped, and the open ones with the next request.
    hidden: AtomicBool,
    files: Mutex<BTreeMap<PathBuf, File>>,
    /// Streams and the weights that were asked for.
    weights: Mutex<Vec<(u64, u32)>>,
    drains: Mutex<u64>,
    needs_restart: Mutex<Vec<String>>,
    /// Streams that were to be aborted.
    aborts: Mutex<Vec<u64>>,
    pauses: Mutex<Vec<(u64, bool)>>,
    /// What files were to become at their ends.
    openings: Mutex<Vec<(bool, Leftover)>>,
    /// It speaks no newer version of the protocol.
    is_old: AtomicBool,
    /// It gives tokens, and loses so many connections, each instead of the first content that comes.
    is_restarted: AtomicBool,
    losses: Mutex<u32>,
    changed: Condvar,
}

#[derive(Clone, Default)]
pub(crate) struct File {
    pub(crate) content: Vec<u8>,
    pub(crate) size_hint: Option<u64>,
    pub(crate) weight: u32,
    pub(crate) window_bytes: Option<u64>,
    pub(crate) finished: bool,
}

impl FakeDaemon {
    pub(crate) fn start(status: Status) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let shared = Arc::new(Shared {
            status: Mutex::new(status),
            waits: Mutex::new(crate::why::waits()),
            hidden: AtomicBool::new(false),
            files: Mutex::default(),
            weights: Mutex::default(),
            drains: Mutex::default(),
            needs_restart: Mutex::default(),
            aborts: Mutex::default(),
            pauses: Mutex::default(),
            openings: Mutex::default(),
            is_old: AtomicBool::new(false),
            is_restarted: AtomicBool::new(false),
            losses: Mutex::new(0),
            changed: Condvar::new(),
        });
        let daemon = Self { directory, shared };
        let socket = daemon.socket();
        let name = socket.as_path().to_fs_name::<GenericFilePath>().unwrap();
        let listener = ListenerOptions::new().name(name).create_sync().unwrap();
        let shared = Arc::clone(&daemon.shared);
        thread::spawn(move || {
            while let Ok(stream) = listener.accept() {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    // The client may leave whenever it wants.
                    let _ = serve(&shared, &stream);
                });
            }
        });
        daemon
    }

    pub(crate) fn socket(&self) -> PathBuf {
        if cfg!(windows) {
            let name = self.directory.path().file_name().unwrap();
            Path::new(r"\\.\pipe").join(name)
        } else {
            self.directory.path().join("freemkvd.sock")
        }
    }

    /// From now on this is what it says.
    pub(crate) fn say(&self, status: Status) {
        *self.shared.status.lock().unwrap() = status;
    }

    /// From now on this is what it knows of stream 1.
    pub(crate) fn account(&self, waits: Waits) {
        *self.shared.waits.lock().unwrap() = waits;
    }

    /// From now on it is as if it were not there.
    #[cfg(unix)]
    pub(crate) fn hide(&self) {
        self.shared.hidden.store(true, Ordering::SeqCst);
    }

    #[cfg(unix)]
    pub(crate) fn show_again(&self) {
        self.shared.hidden.store(false, Ordering::SeqCst);
    }

    /// A directory for the test's own files, which the daemon never touches.
    #[cfg(unix)]
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn put(&self, path: &str, content: &[u8]) {
        let file = File { content: content.to_vec(), ..File::default() };
        let mut files = self.shared.files.lock().unwrap();
        files.insert(std::path::absolute(path).unwrap(), file);
    }

    pub(crate) fn weights(&self) -> Vec<(u64, u32)> {
        self.shared.weights.lock().unwrap().clone()
    }

    /// Which streams were to be paused, or to go on.
    pub(crate) fn pauses(&self) -> Vec<(u64, bool)> {
        self.shared.pauses.lock().unwrap().clone()
    }

    pub(crate) fn aborts(&self) -> Vec<u64> {
        self.shared.aborts.lock().unwrap().clone()
    }

    /// How files were opened that were to become something special.
    pub(crate) fn openings(&self) -> Vec<(bool, Leftover)> {
        self.shared.openings.lock().unwrap().clone()
    }

    pub(crate) fn drains(&self) -> u64 {
        *self.shared.drains.lock().unwrap()
    }

    /// What it says of a reload from now on.
    pub(crate) fn needs_restart(&self, what: &[&str]) {
        *self.shared.needs_restart.lock().unwrap() = what.iter().map(|&what| what.into()).collect();
    }

    /// From now on it speaks version 2 of the protocol and no other.
    pub(crate) fn grow_old(&self) {
        self.shared.is_old.store(true, Ordering::SeqCst);
    }

    /// From now on its streams can be resumed, and so many connections are lost.
    pub(crate) fn restart_during_writes(&self, losses: u32) {
        self.shared.is_restarted.store(true, Ordering::SeqCst);
        *self.shared.losses.lock().unwrap() = losses;
    }

    /// Losses that are still to come.
    pub(crate) fn losses_left(&self) -> u32 {
        *self.shared.losses.lock().unwrap()
    }

    pub(crate) fn file(&self, path: &str) -> Option<File> {
        let files = self.shared.files.lock().unwrap();
        files.get(&std::path::absolute(path).unwrap()).cloned()
    }

    /// Waits until the file is as it should be.
    #[cfg(unix)]
    pub(crate) fn wait_for(&self, path: &str, is: impl Fn(&File) -> bool) {
        let path = std::path::absolute(path).unwrap();
        let files = self.shared.files.lock().unwrap();
        let is_not = |files: &mut BTreeMap<PathBuf, File>| !files.get(&path).is_some_and(&is);
        let waited = self.shared.changed.wait_timeout_while(files, PATIENCE, is_not);
        let (_files, late) = waited.unwrap();
        assert!(!late.timed_out(), "{} is not as it should be", path.display());
    }
}

/// One connection, between two frames.
struct Session<'a> {
    shared: &'a Shared,
    stream: &'a Stream,
    path: PathBuf,
    position: usize,
    progress: Progress,
}

fn serve(shared: &Shared, mut stream: &Stream) -> io::Result<()> {
    if shared.hidden.load(Ordering::SeqCst) {
        return Ok(());
    }
    let mut hello = [0; HELLO_BYTES];
    stream.read_exact(&mut hello)?;
    let hello = ClientHello::decode(&hello).unwrap();
    let answer = match shared.is_old.load(Ordering::SeqCst) {
        true => DaemonHello::Accepted { version: 2 },
        false => hello.answer(),
    };
    stream.write_all(&answer.encode())?;
    let mut session = Session {
        shared,
        stream,
        path: PathBuf::new(),
        position: 0,
        progress: Progress::default(),
    };
    let mut decoder = Decoder::new(Sender::Client);
    loop {
        let count = stream.read(decoder.space())?;
        if count == 0 || shared.hidden.load(Ordering::SeqCst) {
            return Ok(());
        }
        match decoder.advance(count).unwrap() {
            Step::More => {}
            Step::Write(header) => {
                let mut content = vec![0; header.body_bytes() as usize];
                stream.read_exact(&mut content)?;
                let mut losses = shared.losses.lock().unwrap();
                if *losses > 0 {
                    *losses -= 1;
                    return Ok(());
                }
                drop(losses);
                session.write(header.sequence(), &content)?;
            }
            Step::Control(header, body) => {
                let command = Command::decode(&header, body).unwrap();
                session.obey(header.sequence(), command)?;
            }
        }
    }
}

impl Session<'_> {
    fn answer(&self, sequence: u64, reply: &Reply) -> io::Result<()> {
        let mut stream = self.stream;
        stream.write_all(&reply.encode(sequence).unwrap())
    }

    fn has(&self, stream: u64) -> bool {
        self.shared.status.lock().unwrap().streams.iter().any(|other| other.id == stream)
    }

    fn with_file<T>(&self, change: impl FnOnce(&mut File) -> T) -> T {
        let mut files = self.shared.files.lock().unwrap();
        let result = change(files.get_mut(&self.path).expect("opened before"));
        self.shared.changed.notify_all();
        result
    }

    fn write(&mut self, sequence: u64, content: &[u8]) -> io::Result<()> {
        let start = self.position;
        let end = start + content.len();
        self.with_file(|file| {
            file.content.resize(file.content.len().max(end), 0);
            file.content[start..end].copy_from_slice(content);
        });
        self.position = end;
        self.advance(sequence, content.len() as u64);
        self.answer(sequence, &Reply::Progress(self.progress))
    }

    fn advance(&mut self, sequence: u64, bytes: u64) {
        let bytes = self.progress.written.bytes + bytes;
        let mark = Mark { sequence, bytes };
        self.progress.accepted = mark;
        self.progress.written = mark;
    }

    fn obey(&mut self, sequence: u64, command: Command) -> io::Result<()> {
        self.advance(sequence, 0);
        match command {
            Command::Status => {
                let status = self.shared.status.lock().unwrap().clone();
                self.answer(sequence, &Reply::FullReport(status))
            }
            Command::SetWeight(set) => {
                let is_there = self.has(set.stream);
                let failure = Failure::new(ErrorCode::NO_SUCH_STREAM, "there is no such stream");
                let answer = if is_there { Reply::Done } else { Reply::Failed(failure) };
                self.shared.weights.lock().unwrap().push((set.stream, set.weight));
                self.answer(sequence, &answer)
            }
            Command::Drain => {
                *self.shared.drains.lock().unwrap() += 1;
                self.answer(sequence, &Reply::Done)
            }
            Command::Reload => {
                let changed = vec!["budget.total from 64.0 MiB to 16.0 MiB".to_owned()];
                let needs_restart = self.shared.needs_restart.lock().unwrap().clone();
                self.answer(sequence, &Reply::Reloaded(Reloaded { changed, needs_restart }))
            }
            Command::AbortStream(abort) => {
                let is_there = self.has(abort.stream);
                let failure = Failure::new(ErrorCode::NO_SUCH_STREAM, "there is no such stream");
                let answer = if is_there { Reply::Done } else { Reply::Failed(failure) };
                self.shared.aborts.lock().unwrap().push(abort.stream);
                self.answer(sequence, &answer)
            }
            Command::PauseStream(set) => {
                let is_there = self.has(set.stream);
                let failure = Failure::new(ErrorCode::NO_SUCH_STREAM, "there is no such stream");
                let answer = if is_there { Reply::Done } else { Reply::Failed(failure) };
                self.shared.pauses.lock().unwrap().push((set.stream, set.pause));
                self.answer(sequence, &answer)
            }
            Command::Why(why) if why.stream == 1 => {
                let waits = self.shared.waits.lock().unwrap().clone();
                self.answer(sequence, &Reply::Waits(waits))
            }
            Command::Why(_) => {
                let failure = Failure::new(ErrorCode::NO_SUCH_STREAM, "there is no such stream");
                self.answer(sequence, &Reply::Failed(failure))
            }
            Command::Metrics => {
                self.answer(sequence, &Reply::MetricsText(crate::metrics::TEXT.into()))
            }
            Command::OpenFile(file) => {
                self.shared.openings.lock().unwrap().push((file.publish, file.leftover));
                self.open(file.open, file.token.is_some())
            }
            Command::Resume(resume) => self.resume(&resume),
            Command::Open(open) => self.open(open, false),
            Command::OpenResumable(OpenResumable { open, .. }) => self.open(open, true),
            Command::Seek(seek) => {
                self.position = usize::try_from(seek.offset).unwrap();
                Ok(())
            }
            Command::Abort => self.answer(sequence, &Reply::Aborted),
            Command::Flush => self.answer(sequence, &Reply::Progress(self.progress)),
            Command::Sync => {
                self.progress.durable = self.progress.written;
                self.answer(sequence, &Reply::Progress(self.progress))?;
                self.answer(sequence, &Reply::Synced)
            }
            Command::Finish => {
                self.progress.durable = self.progress.written;
                let len_bytes = self.with_file(|file| {
                    file.finished = true;
                    file.content.len() as u64
                });
                let progress = self.progress;
                let finished = Finished { len_bytes, progress };
                self.answer(sequence, &Reply::Finished(finished))
            }
            other => panic!("nobody taught this daemon {:?}", other.kind()),
        }
    }

    /// There is one file, and this is about it.
    fn resume(&mut self, resume: &Resume) -> io::Result<()> {
        self.path = self.shared.files.lock().unwrap().keys().next().unwrap().clone();
        self.position = usize::try_from(resume.position).unwrap();
        let (accepted, written, durable) = (resume.written, resume.written, resume.durable);
        self.progress = Progress { accepted, written, durable };
        let (stream, queue_limit_bytes, shared, watched) = (1, 32 << 20, false, true);
        let resumed = Resumed { stream, queue_limit_bytes, shared, watched };
        self.answer(0, &Reply::Resumed(resumed))
    }

    fn open(&mut self, open: Open, is_resumable: bool) -> io::Result<()> {
        self.path = open.path.into_path().unwrap();
        let mut files = self.shared.files.lock().unwrap();
        if open.mode == OpenMode::CreateNew && files.contains_key(&self.path) {
            let failure = Failure::new(ErrorCode::EXISTS, "the file exists, says the fake daemon");
            return self.answer(0, &Reply::Failed(failure));
        }
        let file = File {
            size_hint: open.size_hint_bytes,
            weight: open.weight,
            window_bytes: open.window_bytes,
            ..File::default()
        };
        files.insert(self.path.clone(), file);
        drop(files);
        if is_resumable && self.shared.is_restarted.load(Ordering::SeqCst) {
            self.answer(0, &Reply::Resumable)?;
        }
        let opened = Opened {
            stream: 1,
            len_bytes: 0,
            queue_limit_bytes: 32 << 20,
            window_bytes: open.window_bytes.unwrap_or(64 << 20),
            // What it was offered it has not even looked at.
            shared: false,
        };
        self.answer(0, &Reply::Opened(opened))
    }
}
