//! Standard input, read by a thread of its own into buffers that go round.

use std::io::{self, ErrorKind, Read};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

/// As large as the pieces that the library sends.
const BUFFER_BYTES: usize = 1 << 20;

/// One buffer is read into, one waits, one is being written.
const BUFFERS: usize = 3;

/// What one read has brought. The buffer keeps its length: a pipe brings 64 KiB at a time, and
/// clearing the rest again and again would cost more than the copy.
#[derive(Debug)]
pub(crate) struct Piece {
    buffer: Box<[u8]>,
    len: usize,
}

impl Piece {
    /// The content; nothing at the end of the input.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer[..self.len]
    }
}

/// The reading thread's other end.
#[derive(Debug)]
pub(crate) struct Input {
    full: Receiver<io::Result<Piece>>,
    empty: Sender<Box<[u8]>>,
}

impl Input {
    pub(crate) fn start() -> io::Result<Self> {
        let (give, empty) = mpsc::channel();
        let (sender, full) = mpsc::channel();
        for _ in 0..BUFFERS {
            // It can't fail: the receiver is right here.
            let _ = give.send(vec![0; BUFFER_BYTES].into_boxed_slice());
        }
        thread::Builder::new().name("input".into()).spawn(move || read_all(&empty, &sender))?;
        Ok(Self { full, empty: give })
    }

    /// The next piece; an empty one is the end. Nothing comes after that or after an error.
    pub(crate) fn next(&self, wait: Duration) -> Result<io::Result<Piece>, RecvTimeoutError> {
        self.full.recv_timeout(wait)
    }

    /// Takes the buffer back, to be filled again.
    pub(crate) fn give_back(&self, piece: Piece) {
        // The thread may have come to the end of the input.
        let _ = self.empty.send(piece.buffer);
    }
}

fn read_all(empty: &Receiver<Box<[u8]>>, full: &Sender<io::Result<Piece>>) {
    let mut stdin = io::stdin().lock();
    while let Ok(mut buffer) = empty.recv() {
        let piece = read(&mut stdin, &mut buffer).map(|len| Piece { buffer, len });
        let is_last = !matches!(&piece, Ok(piece) if piece.len > 0);
        if full.send(piece).is_err() || is_last {
            return;
        }
    }
}

fn read(stdin: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match stdin.read(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
