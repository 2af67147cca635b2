//! Reading and writing whole messages on one connection.

use std::io;
use std::time::Duration;

use freemkvd_proto::hello::{ClientHello, DaemonHello, HELLO_BYTES};
use freemkvd_proto::limits::DESCRIPTORS_MAX;
use freemkvd_proto::{
    Command, Decoder, ErrorCode, Failure, FrameError, Header, Reply, Sender, Step,
};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::sleep;

use super::guarded::Socket;
use crate::foreign::Foreign;
use crate::platform;

/// How often it is tried to send an answer while the system has no memory for that, and how long it is waited
/// in between: about ten seconds.
const SHORTAGE_TRIES: u32 = 1000;
const SHORTAGE_PAUSE: Duration = Duration::from_millis(10);

/// So many descriptors no first frame is read to its end with. A few more than there is a use for are told to be
/// too many in words that fit the frame.
const TOO_MANY: usize = 2 * DESCRIPTORS_MAX;

/// What came with the first frame of a connection.
pub(super) struct Passed {
    pub(super) files: Foreign,
    /// There were more, which this process had no place for.
    pub(super) is_cut: bool,
}

/// What the peer sent next.
pub(super) enum Received {
    /// A `Write`; its body is still on the connection.
    Write(Header),
    /// Another command, with its number.
    Command(u64, Command),
    /// The end.
    Gone,
}

/// Why nothing more can be received.
pub(super) enum Broken {
    /// The connection failed; the peer is gone.
    Io,
    /// The peer broke a rule.
    Rule(Failure),
}

impl From<io::Error> for Broken {
    fn from(_: io::Error) -> Self {
        Self::Io
    }
}

impl From<FrameError> for Broken {
    fn from(error: FrameError) -> Self {
        Self::Rule(Failure::new(error.code(), error.to_string()))
    }
}

/// Receives the commands of one connection.
pub(super) struct Receiver<'a> {
    socket: &'a Socket,
    decoder: Decoder,
    /// What was agreed on; kinds that came later are unknown here.
    version: u16,
}

impl<'a> Receiver<'a> {
    /// For a connection after its hello, in which this version was agreed on.
    pub(super) fn new(socket: &'a Socket, version: u16) -> Self {
        Self { socket, decoder: Decoder::new(Sender::Client), version }
    }

    /// The protocol version that was agreed on.
    pub(super) fn version(&self) -> u16 {
        self.version
    }

    /// The next command.
    pub(super) async fn receive(&mut self) -> Result<Received, Broken> {
        loop {
            let count = self.socket.read(self.decoder.space()).await?;
            if let Some(received) = self.advance(count)? {
                return Ok(received);
            }
        }
    }

    /// The first command, and the descriptors that came with it.
    pub(super) async fn receive_first(&mut self) -> Result<(Received, Passed), Broken> {
        let mut passed = self.socket.nothing_passed();
        loop {
            let space = self.decoder.space();
            let count = self.socket.read_with(space, &mut passed).await?;
            // Not more and more of them, byte by byte.
            if passed.files.count() > TOO_MANY {
                let message = "more descriptors came than any first frame has a use for";
                return Err(Broken::Rule(Failure::new(ErrorCode::BAD_FILE, message)));
            }
            if let Some(received) = self.advance(count)? {
                return Ok((received, passed));
            }
        }
    }

    fn advance(&mut self, count: usize) -> Result<Option<Received>, Broken> {
        if count == 0 {
            return match self.decoder.is_between_frames() {
                true => Ok(Some(Received::Gone)),
                false => Err(Broken::Io),
            };
        }
        Ok(match self.decoder.advance(count)? {
            Step::More => None,
            Step::Write(header) => Some(Received::Write(header)),
            Step::Control(header, _) if header.kind().since() > self.version => {
                return Err(FrameError::UnknownKind { number: header.kind() as u16 }.into());
            }
            Step::Control(header, body) => {
                let command = Command::decode(&header, body)?;
                Some(Received::Command(header.sequence(), command))
            }
        })
    }
}

/// Exchanges the hello. Returns the version that was agreed on, or why there is nothing more to say, which the
/// client has been told.
pub(super) async fn hello(socket: &Socket) -> Result<Result<u16, ErrorCode>, Broken> {
    let mut bytes = [0; HELLO_BYTES];
    let mut came = 0;
    while came < HELLO_BYTES {
        match socket.read(&mut bytes[came..]).await? {
            0 => return Err(Broken::Io),
            count => came += count,
        }
    }
    let answer = match ClientHello::decode(&bytes) {
        Err(code) => DaemonHello::refuse(code),
        Ok(hello) => hello.answer(),
    };
    socket.stream().write_all(&answer.encode()).await?;
    Ok(match answer {
        DaemonHello::Accepted { version } => Ok(version),
        DaemonHello::Refused { reason, .. } => Err(reason),
    })
}

/// Answers the hello with a refusal, whatever it will be.
pub(super) async fn refuse(socket: &Socket, reason: ErrorCode) -> io::Result<()> {
    socket.stream().write_all(&DaemonHello::refuse(reason).encode()).await
}

/// Sends one answer.
pub(super) async fn send(socket: &Socket, sequence: u64, reply: &Reply) -> Result<(), Broken> {
    send_frame(socket, &reply.encode(sequence)?).await
}

/// The same, which is a frame already.
pub(super) async fn send_frame(socket: &Socket, frame: &[u8]) -> Result<(), Broken> {
    write_all(&mut socket.stream(), frame, SHORTAGE_PAUSE).await?;
    Ok(())
}

/// Sends all of `left`. A connection is not given up because the system has no memory for a moment: with it
/// would go its stream.
async fn write_all(
    socket: &mut (impl AsyncWrite + Unpin),
    mut left: &[u8],
    pause: Duration,
) -> io::Result<()> {
    let mut tries = 0;
    while !left.is_empty() {
        match socket.write(left).await {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => (left, tries) = (&left[count..], 0),
            Err(error) if platform::is_short_of_buffers(&error) && tries < SHORTAGE_TRIES => {
                tries += 1;
                sleep(pause).await;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads and drops what the peer still sends, until it closes: closing first could take away the
/// answer that it has not read yet.
pub(super) async fn linger(socket: &Socket) {
    let mut dropped = [0; 4096];
    while !matches!(socket.read(&mut dropped).await, Ok(0) | Err(_)) {}
}

#[cfg(all(test, unix))]
mod tests {
    use std::collections::VecDeque;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use rustix::io::Errno;

    use super::*;

    /// Answers like that, and takes all of the rest.
    struct Scripted {
        answers: VecDeque<Result<usize, Errno>>,
        sent: Vec<u8>,
    }

    impl AsyncWrite for Scripted {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let this = self.get_mut();
            let count = match this.answers.pop_front() {
                Some(Err(errno)) => return Poll::Ready(Err(errno.into())),
                Some(Ok(count)) => count,
                None => bytes.len(),
            };
            this.sent.extend(&bytes[..count]);
            Poll::Ready(Ok(count))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn sent(answers: &[Result<usize, Errno>]) -> (Vec<u8>, io::Result<()>) {
        let mut socket = Scripted { answers: answers.iter().copied().collect(), sent: Vec::new() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let runtime = runtime.expect("a runtime");
        let result = runtime.block_on(write_all(&mut socket, b"answer", Duration::ZERO));
        (socket.sent, result)
    }

    #[test]
    fn an_answer_gets_out_whole_although_there_is_no_memory_for_a_moment() {
        let (no_buffers, no_memory) = (Err(Errno::NOBUFS), Err(Errno::NOMEM));
        for answers in [[no_buffers, no_memory, Ok(1)], [Ok(2), no_buffers, no_buffers]] {
            let (sent, result) = sent(&answers);
            assert!(result.is_ok() && sent == b"answer", "{answers:?}: {result:?}");
        }
        let error = sent(&[Ok(1), Err(Errno::PIPE)]).1.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
