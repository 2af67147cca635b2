//! A daemon that does what a test tells it: it speaks the wire and writes into memory.
//!
//! What it can be told: to stop and go on reading, answering, and syncing; to say what is durable; to fail after so many
//! bytes; to close after so many bytes, or at one frame of all; to answer the hello, `Open` or `Resume` in
//! another way, or never; to be away.
//!
//! What it has executed it remembers over connections, as the kernel does, and what it had said it does not,
//! as a daemon that was killed. Each `Resume` says where it goes on.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use freemkvd_proto::hello::{ClientHello, DaemonHello, HELLO_BYTES};
use freemkvd_proto::{
    Command, Decoder, Kind, Mark, Open, OpenGiven, Progress, Reply, Resume, Sender, Step, Token,
};
use interprocess::local_socket::{
    GenericFilePath, ListenerOptions, Stream, ToFsName,
    traits::{Listener, Stream as _},
};

mod gate;
mod given;
mod obey;
mod requests;
mod script;
#[cfg_attr(target_os = "linux", path = "slots/linux.rs")]
#[cfg_attr(not(target_os = "linux"), path = "slots/none.rs")]
mod slots;

use self::gate::{Gate, park};
use self::given::Given;
pub(crate) use self::script::{OnResume, Script};

/// One frame as it arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) kind: Kind,
    pub(crate) sequence: u64,
    /// Where a write went, or where a seek went to.
    pub(crate) offset: u64,
    pub(crate) len: u64,
    /// True for content in shared slots, whose kind is `Write` here too.
    pub(crate) is_shared: bool,
    /// Of the content.
    pub(crate) sum: u64,
}

/// Any other content has another one, in all likelihood.
pub(crate) fn sum(content: &[u8]) -> u64 {
    content.iter().fold(0, |sum: u64, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)))
}

#[derive(Debug, Default)]
struct File {
    content: Vec<u8>,
    position: usize,
    progress: Progress,
    seen: Vec<Seen>,
    is_over: bool,
    out: Option<Arc<Stream>>,
    open: Option<Open>,
    token: Option<Token>,
    /// Of the connection that the last frame came from.
    shares_slots: bool,
    frames: usize,
    on_resume: VecDeque<OnResume>,
    resumes: Vec<Resume>,
    drains: u64,
    /// The stream's own file, if it came with one, and how.
    given: Option<Given>,
    opened_given: Option<OpenGiven>,
}

#[derive(Debug)]
struct State {
    script: Script,
    reading: Gate,
    answering: Gate,
    syncing: Gate,
    file: Mutex<File>,
    /// Nobody is served any more.
    is_gone: AtomicBool,
}

/// See the module's page.
#[derive(Debug)]
pub(crate) struct Daemon {
    _dir: tempfile::TempDir,
    socket: PathBuf,
    state: Arc<State>,
}

impl Daemon {
    pub(crate) fn healthy() -> Self {
        Self::start(Script::default())
    }

    pub(crate) fn start(script: Script) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = if cfg!(windows) {
            let unique = dir.path().file_name().unwrap().to_owned();
            Path::new(r"\\.\pipe").join(unique)
        } else {
            dir.path().join("freemkvd.sock")
        };
        let on_resume = script.on_resume.clone();
        let file = File { content: script.content.clone(), on_resume, ..File::default() };
        let state = Arc::new(State {
            script,
            reading: Gate::new(),
            answering: Gate::new(),
            syncing: Gate::new(),
            file: Mutex::new(file),
            is_gone: AtomicBool::new(false),
        });
        let name = socket.as_path().to_fs_name::<GenericFilePath>().unwrap();
        let listener = ListenerOptions::new().name(name).create_sync().unwrap();
        let serving = Arc::clone(&state);
        thread::spawn(move || {
            while let Ok(stream) = listener.accept() {
                if serving.is_gone.load(Ordering::Relaxed) {
                    return;
                }
                let state = Arc::clone(&serving);
                thread::spawn(move || {
                    // A client that hangs up is what some tests are about.
                    let stream = Arc::new(stream);
                    let _ = state.serve(&stream);
                    let mut file = state.file.lock().unwrap();
                    // Of a stream that has not gone on elsewhere.
                    if file.out.as_ref().is_none_or(|out| Arc::ptr_eq(out, &stream)) {
                        file.is_over = true;
                        file.out = None;
                    }
                });
            }
        });
        Self { _dir: dir, socket, state }
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    pub(crate) fn set_reading(&self, is_open: bool) {
        self.state.reading.set(is_open);
    }

    /// What was not answered meanwhile is answered now.
    pub(crate) fn set_answering(&self, is_open: bool) {
        self.state.answering.set(is_open);
        let file = self.state.file.lock().unwrap();
        if let (true, Some(out)) = (is_open, file.out.as_ref()) {
            let frame = Reply::Progress(file.progress).encode(0).unwrap();
            let _ = (&**out).write_all(&frame);
        }
    }

    pub(crate) fn set_syncing(&self, is_open: bool) {
        self.state.syncing.set(is_open);
    }

    /// It says that everything up to this number is durable, unasked.
    pub(crate) fn make_durable(&self, sequence: u64) {
        let mut file = self.state.file.lock().unwrap();
        let bytes = file.progress.written.bytes.min(sequence);
        file.progress.durable = Mark { sequence, bytes };
        let frame = Reply::Progress(file.progress).encode(0).unwrap();
        file.out.as_deref().unwrap().write_all(&frame).unwrap();
    }

    pub(crate) fn content(&self) -> Vec<u8> {
        self.state.file.lock().unwrap().content.clone()
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.file.lock().unwrap().seen.clone()
    }

    pub(crate) fn seen_of(&self, kind: Kind) -> Vec<Seen> {
        let mut seen = self.seen();
        seen.retain(|frame| frame.kind == kind);
        seen
    }

    /// How the file was opened.
    pub(crate) fn open(&self) -> Option<Open> {
        self.state.file.lock().unwrap().open.clone()
    }

    /// How it was opened by its client, if it was.
    #[cfg(target_os = "linux")]
    pub(crate) fn opened_given(&self) -> Option<OpenGiven> {
        self.state.file.lock().unwrap().opened_given.clone()
    }

    /// Every `Resume` that came.
    pub(crate) fn resumes(&self) -> Vec<Resume> {
        self.state.file.lock().unwrap().resumes.clone()
    }

    /// How often it was asked to drain.
    pub(crate) fn drains(&self) -> u64 {
        self.state.file.lock().unwrap().drains
    }

    /// The connection of the stream ends, now.
    #[cfg(unix)]
    pub(crate) fn cut(&self) {
        let file = self.state.file.lock().unwrap();
        if let Some(Stream::UdSocket(socket)) = file.out.as_deref() {
            socket.inner().shutdown(std::net::Shutdown::Both).unwrap();
        }
    }

    /// It is not there for new connections, or there again.
    #[cfg(unix)]
    pub(crate) fn set_away(&self, is_away: bool) {
        let elsewhere = self.socket.with_extension("away");
        let (from, to) = match is_away {
            true => (&self.socket, &elsewhere),
            false => (&elsewhere, &self.socket),
        };
        std::fs::rename(from, to).unwrap();
    }

    /// The connection has ended.
    pub(crate) fn is_over(&self) -> bool {
        self.state.file.lock().unwrap().is_over
    }
}

/// It begins a stream, or goes on with one.
fn is_first(command: &Command) -> bool {
    use Command::{Open, OpenFile, OpenGiven, OpenResumable, Resume};
    matches!(command, Open(_) | OpenResumable(_) | OpenFile(_) | OpenGiven(_) | Resume(_))
}

impl Drop for Daemon {
    /// Ends the thread that accepts: the tests of one process are many, and its descriptors may be few.
    fn drop(&mut self) {
        self.state.is_gone.store(true, Ordering::Relaxed);
        if let Ok(name) = self.socket.as_path().to_fs_name::<GenericFilePath>() {
            let _ = Stream::connect(name);
        }
    }
}

impl State {
    fn serve(&self, stream: &Arc<Stream>) -> io::Result<()> {
        let mut hello = [0; HELLO_BYTES];
        (&**stream).read_exact(&mut hello)?;
        if self.script.never_greets {
            return park(stream);
        }
        let answer = ClientHello::decode(&hello).unwrap().answer();
        let is_old = {
            let mut file = self.file.lock().unwrap();
            let is_old = matches!(file.on_resume.front(), Some(OnResume::Old));
            // Only after the stream was opened is there something to resume.
            let is_old = is_old && file.open.is_some();
            is_old.then(|| file.on_resume.pop_front()).is_some()
        };
        let old = DaemonHello::Accepted { version: 2 };
        let answer = self.script.hello.unwrap_or(if is_old { old } else { answer });
        (&**stream).write_all(&answer.encode())?;
        let mut decoder = Decoder::new(Sender::Client);
        let (mut passed, mut slots) = (Vec::new(), None);
        loop {
            self.reading.pass();
            let count = slots::read(stream, decoder.space(), &mut passed)?;
            if count == 0 {
                return Ok(());
            }
            // Again: the gate may have been closed while this waited for the first byte.
            self.reading.pass();
            let mut is_cut = false;
            let (sequence, replies) = match decoder.advance(count).unwrap() {
                Step::More => continue,
                Step::Write(header) => {
                    let mut body = vec![0; header.body_bytes() as usize];
                    (&**stream).read_exact(&mut body)?;
                    let Some(number) = self.next_frame() else { return Ok(()) };
                    is_cut |= self.script.cuts_after.contains(&number);
                    (header.sequence(), self.write(header.sequence(), &body, false))
                }
                Step::Control(header, body) => {
                    let command = Command::decode(&header, body).unwrap();
                    let Some(number) = self.next_frame() else { return Ok(()) };
                    is_cut |= self.script.cuts_after.contains(&number);
                    if is_first(&command) {
                        slots = self.unpack(&command, &mut passed);
                    }
                    if let Command::Resume(resume) = &command {
                        let Some(reply) = self.resume(stream, resume) else {
                            return Ok(());
                        };
                        let goes_on = matches!(reply, Reply::Resumed(_));
                        if !is_cut {
                            (&**stream).write_all(&reply.encode(0).unwrap())?;
                        }
                        if is_cut || !goes_on {
                            return Ok(());
                        }
                        continue;
                    }
                    if is_first(&command) {
                        if self.script.never_opens {
                            return park(stream);
                        }
                        self.file.lock().unwrap().out = Some(Arc::clone(stream));
                    }
                    if matches!(command, Command::Sync) {
                        self.syncing.pass();
                        // The stream may have gone on elsewhere meanwhile.
                        if !self.is_current(stream) {
                            return Ok(());
                        }
                    }
                    let sequence = header.sequence();
                    let replies = match command {
                        Command::WriteSlots(write) => {
                            let content = slots::content(slots.as_ref(), &write)?;
                            self.write(sequence, &content, true)
                        }
                        command => self.command(sequence, command),
                    };
                    (sequence, replies)
                }
            };
            let Some(replies) = replies.filter(|_| !is_cut) else {
                return Ok(());
            };
            let mut is_over = false;
            for reply in replies {
                is_over |= matches!(reply, Reply::Finished(_) | Reply::Aborted);
                let _guard = self.file.lock().unwrap();
                (&**stream).write_all(&reply.encode(sequence).unwrap())?;
            }
            if is_over {
                return Ok(());
            }
        }
    }

    fn is_current(&self, stream: &Arc<Stream>) -> bool {
        let file = self.file.lock().unwrap();
        file.out.as_ref().is_some_and(|out| Arc::ptr_eq(out, stream))
    }

    /// The number of a frame that has come; `None` closes the connection.
    fn next_frame(&self) -> Option<usize> {
        let mut file = self.file.lock().unwrap();
        file.frames += 1;
        let number = file.frames - 1;
        (!self.script.cuts_before.contains(&number)).then_some(number)
    }
}
