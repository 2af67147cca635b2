//! A peer that speaks the wire by hand, for everything that the client library would never do. It
//! blocks, and gives up with a panic when the daemon does not answer.

use std::io::{self, Read, Write};
#[cfg(target_os = "linux")]
use std::mem::MaybeUninit;
use std::net::Shutdown;
#[cfg(target_os = "linux")]
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use freemkvd_proto::hello::{ClientHello, DaemonHello, HELLO_BYTES};
use freemkvd_proto::limits::WEIGHT_DEFAULT;
use freemkvd_proto::{
    Command, Decoder, Failure, Header, Kind, Open, OpenGiven, OpenMode, OpenResumable, Opened,
    Reply, Resume, Resumed, Sender, SlotPart, Step, Token, Transfer, WirePath, WriteSlots,
};

#[cfg(target_os = "linux")]
use crate::daemon::wait_until;
#[cfg(target_os = "linux")]
use rustix::{
    cmsg_space,
    io::Errno,
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg},
};

/// Longer than any answer takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// One connection.
#[derive(Debug)]
pub struct Peer {
    stream: UnixStream,
    decoder: Decoder,
}

impl Peer {
    /// Connects and says nothing.
    ///
    /// # Panics
    /// When nobody listens.
    #[must_use]
    pub fn connect(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).expect("freemkvd listens");
        let timeouts = stream
            .set_read_timeout(Some(PATIENCE))
            .and_then(|()| stream.set_write_timeout(Some(PATIENCE)));
        timeouts.expect("a socket has timeouts");
        Self { stream, decoder: Decoder::new(Sender::Daemon) }
    }

    /// Its socket takes as little at once as the system allows.
    ///
    /// # Panics
    /// When the system does not know such a thing.
    #[cfg(target_os = "linux")]
    pub fn with_small_buffers(&self) {
        use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_send_buffer_size};
        set_socket_send_buffer_size(&self.stream, 1).expect("a socket has a buffer");
        set_socket_recv_buffer_size(&self.stream, 1).expect("a socket has a buffer");
    }

    /// Connects and agrees on a version.
    ///
    /// # Panics
    /// When the daemon refuses.
    #[must_use]
    pub fn greet(socket: &Path) -> Self {
        let mut peer = Self::connect(socket);
        let answer = peer.hello(&ClientHello::THIS.encode());
        assert!(matches!(answer, Some(DaemonHello::Accepted { .. })), "{answer:?}");
        peer
    }

    /// Sends `bytes` in place of a hello; `None` when the daemon hangs up without an answer.
    pub fn hello(&mut self, bytes: &[u8]) -> Option<DaemonHello> {
        self.send(bytes);
        let mut answer = [0; HELLO_BYTES];
        self.stream.read_exact(&mut answer).ok()?;
        DaemonHello::decode(&answer).ok()
    }

    /// Sends any bytes. That the daemon has hung up already is found out by reading.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Sends a header, however wrong.
    pub fn header(&mut self, kind: u16, flags: u16, length: u32, sequence: u64) {
        let mut bytes = Vec::with_capacity(16);
        bytes.extend(kind.to_le_bytes());
        bytes.extend(flags.to_le_bytes());
        bytes.extend(length.to_le_bytes());
        bytes.extend(sequence.to_le_bytes());
        self.send(&bytes);
    }

    /// Sends a command.
    ///
    /// # Panics
    /// When it does not fit a frame.
    pub fn command(&mut self, sequence: u64, command: &Command) {
        self.send(&command.encode(sequence).expect("it fits a frame"));
    }

    /// Sends a `Write`.
    ///
    /// # Panics
    /// When there is more than one frame can carry.
    pub fn content(&mut self, sequence: u64, content: &[u8]) {
        let header = Header::new(Kind::Write, content.len(), sequence);
        self.send(&header.expect("it fits a frame").encode());
        self.send(content);
    }

    /// Sends a `WriteSlots` of such parts: slot, start and length.
    ///
    /// # Panics
    /// When there are more than fit a frame.
    pub fn slots(&mut self, sequence: u64, parts: &[(u32, u32, u32)]) {
        let parts = parts.iter().map(|&(slot, start, len)| SlotPart { slot, start, len });
        self.command(sequence, &Command::WriteSlots(WriteSlots { parts: parts.collect() }));
    }

    /// Opens a stream, and leaves the answer on the connection.
    pub fn ask_to_open(&mut self, path: impl AsRef<Path>, mode: OpenMode) {
        self.command(0, &Command::Open(opening(path, mode, Transfer::Inline)));
    }

    /// Opens a stream and passes descriptors with it, whatever they are; leaves the answer on the
    /// connection.
    ///
    /// # Panics
    /// When the system does not send them.
    #[cfg(target_os = "linux")]
    pub fn ask_to_open_with(&mut self, open: Open, descriptors: &[BorrowedFd<'_>]) {
        self.send_with(&Command::Open(open).encode(0).expect("it fits a frame"), descriptors);
    }

    /// Opens a stream on a file that goes with it; leaves the answer on the connection.
    ///
    /// # Panics
    /// When the system does not send it.
    #[cfg(target_os = "linux")]
    pub fn give(&mut self, open: OpenGiven, descriptors: &[BorrowedFd<'_>]) {
        let frame = Command::OpenGiven(open).encode(0).expect("it fits a frame");
        self.send_with(&frame, descriptors);
    }

    /// Goes on with a stream, and brings its file again; leaves the answer on the connection.
    ///
    /// # Panics
    /// When the system does not send it.
    #[cfg(target_os = "linux")]
    pub fn give_again(&mut self, from: Resume, descriptors: &[BorrowedFd<'_>]) {
        let frame = Command::Resume(from).encode(0).expect("it fits a frame");
        self.send_with(&frame, descriptors);
    }

    /// Sends any bytes, and descriptors with them.
    ///
    /// # Panics
    /// When the system does not send them, or there are more than the kernel takes at once.
    #[cfg(target_os = "linux")]
    pub fn send_with(&mut self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) {
        let sent = self.try_send_with(bytes, descriptors);
        assert_eq!(sent, Ok(bytes.len()), "what is so short goes in one piece");
    }

    /// The same, with the first byte as an urgent one (`MSG_OOB`), which has the descriptors.
    ///
    /// # Panics
    /// When the system does not send them, or there are more than the kernel takes at once.
    #[cfg(target_os = "linux")]
    pub fn send_urgently_with(&mut self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) {
        let (first, rest) = bytes.split_at(1);
        match self.send_flagged(first, descriptors, SendFlags::OOB) {
            // A kernel that has no urgent bytes here has nothing of this to be tried.
            Err(Errno::OPNOTSUPP) => self.send_with(first, descriptors),
            sent => assert_eq!(sent, Ok(1)),
        }
        self.send(rest);
    }

    /// The same as [`Peer::send_with`], which tells how many bytes the system has sent: the daemon may have hung up.
    ///
    /// # Errors
    /// What the system says.
    ///
    /// # Panics
    /// When there are more than the kernel takes at once.
    #[cfg(target_os = "linux")]
    pub fn try_send_with(
        &mut self,
        bytes: &[u8],
        descriptors: &[BorrowedFd<'_>],
    ) -> rustix::io::Result<usize> {
        self.send_flagged(bytes, descriptors, SendFlags::empty())
    }

    #[cfg(target_os = "linux")]
    fn send_flagged(
        &mut self,
        bytes: &[u8],
        descriptors: &[BorrowedFd<'_>],
        flags: SendFlags,
    ) -> rustix::io::Result<usize> {
        let flags = flags | SendFlags::NOSIGNAL;
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(253))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            let fits = ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
            assert!(fits, "more descriptors than the kernel takes at once");
        }
        let slices = [io::IoSlice::new(bytes)];
        let mut sent = Err(Errno::TOOMANYREFS);
        // A user may have no more descriptors on their way than open ones, and other tests have some, too.
        wait_until(|| {
            sent = sendmsg(&self.stream, &slices, &mut ancillary, flags);
            sent != Err(Errno::TOOMANYREFS)
        });
        sent
    }

    /// Opens a stream.
    ///
    /// # Panics
    /// When the daemon refuses.
    pub fn open(&mut self, path: impl AsRef<Path>, mode: OpenMode) -> Opened {
        self.ask_to_open(path, mode);
        self.opened()
    }

    /// The answer to an `Open`.
    ///
    /// # Panics
    /// When the daemon refuses.
    pub fn opened(&mut self) -> Opened {
        match self.reply() {
            Some((0, Reply::Opened(opened))) => opened,
            other => panic!("Open was answered by {other:?}"),
        }
    }

    /// Opens a stream that can be resumed by `token`.
    ///
    /// # Panics
    /// When the daemon refuses, or can't have it resumed.
    pub fn open_resumable(
        &mut self,
        path: impl AsRef<Path>,
        mode: OpenMode,
        token: Token,
    ) -> Opened {
        let open = opening(path, mode, Transfer::Inline);
        self.command(0, &Command::OpenResumable(OpenResumable { token, open }));
        assert_eq!(self.reply(), Some((0, Reply::Resumable)));
        self.opened()
    }

    /// Goes on with a stream.
    ///
    /// # Panics
    /// When the daemon refuses.
    pub fn resume(&mut self, from: Resume) -> Resumed {
        self.command(0, &Command::Resume(from));
        self.resumed()
    }

    /// The answer to a `Resume`.
    ///
    /// # Panics
    /// When the daemon refuses.
    pub fn resumed(&mut self) -> Resumed {
        match self.reply() {
            Some((0, Reply::Resumed(resumed))) => resumed,
            other => panic!("Resume was answered by {other:?}"),
        }
    }

    /// Reads bytes that are no answer yet.
    ///
    /// # Panics
    /// When they do not come.
    pub fn read_exact(&mut self, bytes: &mut [u8]) {
        self.stream.read_exact(bytes).expect("freemkvd answers");
    }

    /// The next answer and its number; `None` when the daemon has hung up.
    ///
    /// # Panics
    /// When nothing comes, or something that is no answer.
    pub fn reply(&mut self) -> Option<(u64, Reply)> {
        loop {
            let count = match self.stream.read(self.decoder.space()) {
                Ok(0) => return None,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("freemkvd does not answer: {error}"),
            };
            match self.decoder.advance(count).expect("a frame") {
                Step::More => {}
                Step::Write(header) => panic!("a daemon does not write: {header:?}"),
                Step::Control(header, body) => {
                    let reply = Reply::decode(&header, body).expect("an answer");
                    return Some((header.sequence(), reply));
                }
            }
        }
    }

    /// Reads answers until one is wanted.
    ///
    /// # Panics
    /// When the daemon hangs up before.
    pub fn until<T>(&mut self, mut wanted: impl FnMut(u64, &Reply) -> Option<T>) -> T {
        loop {
            let (sequence, reply) = self.reply().expect("the wanted answer before the end");
            if let Some(found) = wanted(sequence, &reply) {
                return found;
            }
        }
    }

    /// Reads answers until the daemon says what is wrong.
    ///
    /// # Panics
    /// When it never does.
    pub fn failure(&mut self) -> Failure {
        self.until(|_, reply| match reply {
            Reply::Failed(failure) => Some(failure.clone()),
            _ => None,
        })
    }

    /// Says that nothing more will come: what was sent is received to its end.
    pub fn say_no_more(&mut self) {
        // It fails when the daemon was first, which is as good.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Says that nothing more will come, and waits until the daemon has hung up too.
    ///
    /// # Panics
    /// When it does not.
    pub fn hang_up(mut self) {
        self.say_no_more();
        self.wait_for_end();
    }

    /// Waits until the daemon hangs up by itself.
    ///
    /// # Panics
    /// When it does not.
    pub fn wait_for_end(&mut self) {
        let mut dropped = [0; 4096];
        loop {
            match self.stream.read(&mut dropped) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return,
                Err(error) => panic!("freemkvd does not hang up: {error}"),
            }
        }
    }
}

/// An `OpenGiven` that asks for nothing special, of a file that is called `label`.
///
/// # Panics
/// When this platform can't send such a label.
pub fn giving(label: impl AsRef<Path>) -> OpenGiven {
    OpenGiven {
        token: None,
        label: WirePath::from_path(label.as_ref()).expect("a path is bytes here"),
        empties: false,
        passes_directory: false,
        size_hint_bytes: None,
        transfer: Transfer::Inline,
        weight: WEIGHT_DEFAULT,
        window_bytes: None,
    }
}

/// An `Open` that asks for nothing special.
///
/// # Panics
/// When this platform can't send such a path.
pub fn opening(path: impl AsRef<Path>, mode: OpenMode, transfer: Transfer) -> Open {
    let path = WirePath::from_path(path.as_ref()).expect("a path is bytes here");
    let (size_hint_bytes, window_bytes) = (None, None);
    Open { path, mode, size_hint_bytes, transfer, weight: WEIGHT_DEFAULT, window_bytes }
}
