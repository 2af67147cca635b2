//! One connection to the daemon: connect, hello, and reading answers.
//!
//! 1. [`connect`] and [`ask`] return by their deadline on every platform, and within a tick when nobody
//!    wants them any more. Named pipes have no timeouts, and a Unix connect waits while the daemon's backlog
//!    is full, so both happen in a thread of their own that is hung up on when it is late.
//! 2. What [`connect`] returns has agreed on a version.
//! 3. [`Answers::next`] believes no length before the decoder has checked it.

use std::io::{self, IoSlice, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use freemkvd_proto::hello::{ClientHello, DaemonHello, HELLO_BYTES};
use freemkvd_proto::{Decoder, ErrorCode, FrameError, Reply, Sender, Step};
use interprocess::local_socket::Stream;
use interprocess::local_socket::traits::Stream as _;

use crate::luggage::Luggage;
use crate::outlet::TICK;
use crate::{Error, platform};

/// A connection that has agreed on a version.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) stream: Arc<Stream>,
    pub(crate) version: u16,
}

/// How long a step may take, and whether anybody still waits for it.
#[derive(Clone, Copy)]
pub(crate) struct Limit<'a> {
    pub(crate) timeout: Duration,
    pub(crate) is_wanted: &'a dyn Fn() -> bool,
}

impl Limit<'_> {
    /// A step that is wanted until its end.
    pub(crate) fn of(timeout: Duration) -> Self {
        Self { timeout, is_wanted: &|| true }
    }

    /// What comes from a thread, or nothing when it is late or not wanted.
    fn wait<T>(self, deadline: Option<Instant>, from: &mpsc::Receiver<T>) -> Option<T> {
        while (self.is_wanted)() {
            let left = deadline.map_or(TICK, |at| at.saturating_duration_since(Instant::now()));
            match from.recv_timeout(left.min(TICK)) {
                Ok(value) => return Some(value),
                Err(RecvTimeoutError::Timeout) if left > TICK || deadline.is_none() => {}
                Err(_) => return None,
            }
        }
        None
    }
}

/// What the connecting thread has reached.
enum Reached {
    Connected(Arc<Stream>),
    Answered([u8; HELLO_BYTES]),
}

/// Connects and agrees on a version.
pub(crate) fn connect(socket: &Path, limit: Limit<'_>) -> Result<Connection, Error> {
    // A timeout beyond what the clock can count is none.
    let deadline = Instant::now().checked_add(limit.timeout);
    let (sender, reached) = mpsc::channel();
    let target = socket.to_owned();
    thread::Builder::new()
        .name("freemkv-connect".into())
        .spawn(move || {
            let result = greet(&target, &sender);
            if let Err(error) = result {
                // Nobody listens any more when the deadline has passed.
                let _ = sender.send(Err(error));
            }
        })
        .map_err(|cause| io_error(socket, "start a thread to connect to", cause))?;

    let mut connection = None;
    loop {
        match limit.wait(deadline, &reached) {
            Some(Ok(Reached::Connected(stream))) => connection = Some(stream),
            Some(Ok(Reached::Answered(bytes))) => {
                let version = check_answer(socket, &bytes)?;
                let connected = connection.map(|stream| Connection { stream, version });
                return connected.ok_or_else(|| late(socket, limit.timeout));
            }
            Some(Err(error)) if connection.is_none() => {
                return Err(Error::NoDaemon { socket: socket.to_owned(), source: Arc::new(error) });
            }
            Some(Err(error)) => return Err(io_error(socket, "greet freemkvd at", error)),
            None => {
                if let Some(stream) = connection {
                    platform::hang_up(&stream);
                }
                return Err(late(socket, limit.timeout));
            }
        }
    }
}

/// Sends the first frame of a connection, and what goes with it, and waits for its answer. More answers
/// may follow from what is returned.
pub(crate) fn ask(
    socket: &Path,
    stream: &Arc<Stream>,
    frame: Vec<u8>,
    luggage: Option<&Arc<Luggage>>,
    limit: Limit<'_>,
) -> Result<(Answers, u64, Reply), Error> {
    let deadline = Instant::now().checked_add(limit.timeout);
    let (sender, answered) = mpsc::channel();
    let (connection, luggage) = (Arc::clone(stream), luggage.cloned());
    thread::Builder::new()
        .name("freemkv-ask".into())
        .spawn(move || {
            // Nobody listens any more when the deadline has passed.
            let _ = sender.send(exchange(connection, &frame, luggage.as_deref()));
        })
        .map_err(|cause| io_error(socket, "start a thread to ask", cause))?;
    match limit.wait(deadline, &answered) {
        Some(Ok(answer)) => Ok(answer),
        Some(Err(cause)) => Err(io_error(socket, "talk to freemkvd at", cause)),
        None => {
            platform::hang_up(stream);
            Err(Error::TimedOut {
                path: socket.to_owned(),
                operation: "asking freemkvd at",
                after: limit.timeout,
            })
        }
    }
}

fn exchange(
    stream: Arc<Stream>,
    frame: &[u8],
    luggage: Option<&Luggage>,
) -> io::Result<(Answers, u64, Reply)> {
    write_all(&stream, luggage, &mut [IoSlice::new(frame)])?;
    let mut answers = Answers::new(stream);
    loop {
        match answers.next()? {
            // Before it stops, the daemon says so to everybody.
            (_, Reply::GoingAway(_)) => {}
            (sequence, reply) => return Ok((answers, sequence, reply)),
        }
    }
}

fn greet(socket: &Path, reached: &mpsc::Sender<io::Result<Reached>>) -> io::Result<()> {
    let stream = Arc::new(platform::dial(socket)?);
    if reached.send(Ok(Reached::Connected(Arc::clone(&stream)))).is_err() {
        return Ok(());
    }
    let mut connection = &*stream;
    connection.write_all(&ClientHello::THIS.encode())?;
    let mut answer = [0; HELLO_BYTES];
    connection.read_exact(&mut answer)?;
    let _ = reached.send(Ok(Reached::Answered(answer)));
    Ok(())
}

/// The version that the daemon chose.
fn check_answer(socket: &Path, bytes: &[u8; HELLO_BYTES]) -> Result<u16, Error> {
    let refused = |code, message| Err(Error::Refused { socket: socket.to_owned(), code, message });
    let ours = ClientHello::THIS;
    match DaemonHello::decode(bytes) {
        Ok(DaemonHello::Accepted { version })
            if (ours.lowest..=ours.highest).contains(&version) =>
        {
            Ok(version)
        }
        Ok(DaemonHello::Accepted { version }) => refused(
            ErrorCode::VERSION,
            format!("it chose protocol version {version}, which was not offered"),
        ),
        Ok(DaemonHello::Refused { reason: ErrorCode::VERSION, lowest, highest }) => refused(
            ErrorCode::VERSION,
            format!(
                "it speaks protocol versions {lowest} to {highest}, this client {} to {}; \
                 upgrade the older one",
                ours.lowest, ours.highest
            ),
        ),
        Ok(DaemonHello::Refused { reason, .. }) => refused(reason, reason.to_string()),
        Err(code) => refused(code, "what listens there is not freemkvd".to_owned()),
    }
}

fn late(socket: &Path, after: Duration) -> Error {
    Error::TimedOut { path: socket.to_owned(), operation: "connecting to freemkvd at", after }
}

pub(crate) fn io_error(path: &Path, operation: &'static str, cause: io::Error) -> Error {
    Error::Io { path: path.to_owned(), operation, offset: None, cause: Arc::new(cause) }
}

/// How often it is tried to send something while the system is short of what that takes, and how long it is
/// waited in between: about a second for memory to be free, or for the daemon to take in what others send it.
const SHORTAGE_TRIES: u32 = 100;
const SHORTAGE_PAUSE: Duration = Duration::from_millis(10);

/// Writes the frames' heads and the content, in one system call where the socket takes it all; with
/// their first byte goes the luggage.
pub(crate) fn write_all(
    mut stream: &Stream,
    mut luggage: Option<&Luggage>,
    left: &mut [IoSlice<'_>],
) -> io::Result<()> {
    write_all_by(left, SHORTAGE_PAUSE, |left| {
        let written = match luggage {
            Some(luggage) => luggage.send(stream, &left[0]),
            None => stream.write_vectored(left),
        }?;
        luggage = None;
        Ok(written)
    })
}

fn write_all_by(
    mut left: &mut [IoSlice<'_>],
    pause: Duration,
    mut write: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
) -> io::Result<()> {
    let mut tries = 0;
    IoSlice::advance_slices(&mut left, 0);
    while !left.is_empty() {
        match write(left) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                tries = 0;
                IoSlice::advance_slices(&mut left, count);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if platform::is_shortage(&error) && tries < SHORTAGE_TRIES => {
                tries += 1;
                thread::sleep(pause);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The answers of one connection, in order.
#[derive(Debug)]
pub(crate) struct Answers {
    stream: Arc<Stream>,
    decoder: Decoder,
}

impl Answers {
    pub(crate) fn new(stream: Arc<Stream>) -> Self {
        Self { stream, decoder: Decoder::new(Sender::Daemon) }
    }

    /// From now on [`next`](Self::next) returns `WouldBlock` or `TimedOut` when nothing has come for so long,
    /// where the platform can; nothing is lost by it.
    pub(crate) fn look_up_after(&self, time: Duration) {
        // Without it nobody looks up, and waits for the end of the connection as ever.
        let _ = self.stream.set_recv_timeout(Some(time));
    }

    /// Blocks until the next answer is whole; with it comes the sequence number that it is for. The
    /// end of the connection is `UnexpectedEof`, bytes that are no frame are `InvalidData`.
    pub(crate) fn next(&mut self) -> io::Result<(u64, Reply)> {
        loop {
            let count = match (&*self.stream).read(self.decoder.space()) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            match self.decoder.advance(count).map_err(bad_frame)? {
                // The decoder refuses a `Write` from a daemon, so what is left is an answer.
                Step::More | Step::Write(_) => {}
                Step::Control(header, body) => {
                    let reply = Reply::decode(&header, body).map_err(bad_frame)?;
                    return Ok((header.sequence(), reply));
                }
            }
        }
    }
}

fn bad_frame(error: FrameError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::collections::VecDeque;
    use std::mem::MaybeUninit;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    use rustix::io::Errno;
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg, sockopt};

    use super::*;

    /// What is sent when the system answers like that, and how it ends.
    fn sent(answers: &[Result<usize, Errno>]) -> (Vec<u8>, io::Result<()>) {
        let (mut sent, mut answers) = (Vec::new(), VecDeque::from(answers.to_vec()));
        let mut pieces = [IoSlice::new(b"head"), IoSlice::new(b""), IoSlice::new(b"content")];
        let result = write_all_by(&mut pieces, Duration::ZERO, |left| {
            let count = answers.pop_front().unwrap_or(Ok(usize::MAX))?;
            let all: Vec<u8> = left.iter().flat_map(|piece| piece.to_vec()).collect();
            let count = count.min(all.len());
            sent.extend(&all[..count]);
            Ok(count)
        });
        (sent, result)
    }

    #[test]
    fn what_the_system_is_short_of_for_a_moment_loses_no_byte() {
        for errno in [Errno::NOBUFS, Errno::NOMEM, Errno::TOOMANYREFS, Errno::INTR] {
            let short = Err(errno);
            for answers in [[short, short, Ok(1)], [Ok(1), short, Ok(1)], [Ok(4), Ok(2), short]] {
                let (sent, result) = sent(&answers);
                assert!(result.is_ok() && sent == b"headcontent", "{answers:?}: {result:?}");
            }
        }
    }

    #[test]
    fn what_it_stays_short_of_is_told_as_what_it_is() {
        let answers = [Err(Errno::TOOMANYREFS); SHORTAGE_TRIES as usize + 1];
        let error = sent(&answers).1.unwrap_err();
        assert_eq!(Errno::from_io_error(&error), Some(Errno::TOOMANYREFS));
        assert_eq!(sent(&[Ok(2), Err(Errno::PIPE)]).0, b"he");
    }

    #[test]
    fn a_socket_that_takes_next_to_nothing_gets_all_bytes_and_the_luggage_once() {
        let (here, there) = UnixStream::pair().unwrap();
        sockopt::set_socket_send_buffer_size(&here, 1).unwrap();
        sockopt::set_socket_recv_buffer_size(&there, 1).unwrap();
        let here = Stream::from(interprocess::os::unix::uds_local_socket::Stream::from(
            OwnedFd::from(here),
        ));
        let content: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect();
        let (memory, _pieces) = crate::memory::allocate(1, 1 << 20).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let mode = freemkvd_proto::OpenMode::CreateNew;
        let given =
            crate::given::Given::open(&dir.path().join("film"), mode, crate::OpenBy::Auto).unwrap();
        let luggage = Luggage::of(Some(memory), Some(Arc::new(given))).unwrap();
        thread::scope(|scope| {
            let reading = scope.spawn(|| {
                let (mut bytes, mut descriptors) = (Vec::<u8>::new(), 0);
                loop {
                    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
                    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
                    let mut piece = [0; 10_000];
                    let mut slices = [io::IoSliceMut::new(&mut piece)];
                    let flags = RecvFlags::CMSG_CLOEXEC;
                    let got = recvmsg(&there, &mut slices, &mut ancillary, flags).unwrap();
                    for message in ancillary.drain() {
                        if let RecvAncillaryMessage::ScmRights(passed) = message {
                            descriptors += passed.count();
                        }
                    }
                    if got.bytes == 0 {
                        return (bytes, descriptors);
                    }
                    bytes.extend(&piece[..got.bytes]);
                }
            });
            let mut slices = [IoSlice::new(b"head"), IoSlice::new(&content)];
            write_all(&here, Some(&luggage), &mut slices).unwrap();
            drop(here);
            let (bytes, descriptors) = reading.join().unwrap();
            assert_eq!(descriptors, 4);
            assert!(bytes[..4] == *b"head" && bytes[4..] == content);
        });
    }
}
