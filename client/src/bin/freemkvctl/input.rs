//! Standard input, read by a thread of its own into buffers that go round.

use std::io::{self, ErrorKind, Read};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

/// As large as the pieces that the library sends.
const BUFFER_BYTES: usize = 1 << 20;

/// One buffer is read into, one waits, one is being written.
const BUFFERS: usize = 3;

/// The reading thread's other end.
#[derive(Debug)]
pub(crate) struct Input {
    full: Receiver<io::Result<Vec<u8>>>,
    empty: Sender<Vec<u8>>,
}

impl Input {
    pub(crate) fn start() -> io::Result<Self> {
        let (give, empty) = mpsc::channel();
        let (sender, full) = mpsc::channel();
        for _ in 0..BUFFERS {
            // It can't fail: the receiver is right here.
            let _ = give.send(Vec::with_capacity(BUFFER_BYTES));
        }
        thread::Builder::new()
            .name("input".into())
            .spawn(move || read_all(&empty, &sender))?;
        Ok(Self { full, empty: give })
    }

    /// The next piece; an empty one is the end. Nothing comes after that or after an error.
    pub(crate) fn next(&self, wait: Duration) -> Result<io::Result<Vec<u8>>, RecvTimeoutError> {
        self.full.recv_timeout(wait)
    }

    /// Takes a buffer back, to be filled again.
    pub(crate) fn give_back(&self, buffer: Vec<u8>) {
        // The thread may have come to the end of the input.
        let _ = self.empty.send(buffer);
    }
}

fn read_all(empty: &Receiver<Vec<u8>>, full: &Sender<io::Result<Vec<u8>>>) {
    let mut stdin = io::stdin().lock();
    while let Ok(mut buffer) = empty.recv() {
        buffer.resize(BUFFER_BYTES, 0);
        let piece = read(&mut stdin, &mut buffer).map(|count| {
            buffer.truncate(count);
            buffer
        });
        let is_last = !matches!(&piece, Ok(bytes) if !bytes.is_empty());
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
