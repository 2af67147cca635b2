//! Reading and writing whole messages on one connection.

use std::io;

use freemkvd_proto::hello::{ClientHello, DaemonHello, HELLO_BYTES};
use freemkvd_proto::{
    Command, Decoder, ErrorCode, Failure, FrameError, Header, Reply, Sender, Step,
};
use interprocess::local_socket::tokio::Stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::passed;
use crate::storage::Descriptor;

/// What came with the first frame of a connection.
#[derive(Default)]
pub(super) struct Passed {
    pub(super) descriptors: Vec<Descriptor>,
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
    socket: &'a Stream,
    decoder: Decoder,
    /// What was agreed on; kinds that came later are unknown here.
    version: u16,
}

impl<'a> Receiver<'a> {
    /// For a connection after its hello, in which this version was agreed on.
    pub(super) fn new(socket: &'a Stream, version: u16) -> Self {
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
        let mut passed = Passed::default();
        loop {
            let space = self.decoder.space();
            let count = passed::read(self.socket, space, &mut passed).await?;
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
pub(super) async fn hello(socket: &Stream) -> io::Result<Result<u16, ErrorCode>> {
    let mut bytes = [0; HELLO_BYTES];
    (&*socket).read_exact(&mut bytes).await?;
    let answer = match ClientHello::decode(&bytes) {
        Err(code) => DaemonHello::refuse(code),
        Ok(hello) => hello.answer(),
    };
    (&*socket).write_all(&answer.encode()).await?;
    Ok(match answer {
        DaemonHello::Accepted { version } => Ok(version),
        DaemonHello::Refused { reason, .. } => Err(reason),
    })
}

/// Answers the hello with a refusal, whatever it will be.
pub(super) async fn refuse(socket: &Stream, reason: ErrorCode) -> io::Result<()> {
    (&*socket).write_all(&DaemonHello::refuse(reason).encode()).await
}

/// Sends one answer.
pub(super) async fn send(socket: &Stream, sequence: u64, reply: &Reply) -> Result<(), Broken> {
    (&*socket).write_all(&reply.encode(sequence)?).await?;
    Ok(())
}

/// Reads and drops what the peer still sends, until it closes: closing first could take away the
/// answer that it has not read yet.
pub(super) async fn linger(socket: &Stream) {
    let mut dropped = [0; 4096];
    while !matches!((&*socket).read(&mut dropped).await, Ok(0) | Err(_)) {}
}
