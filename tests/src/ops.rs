//! Random calls, for "leaves the same bytes as a file" tests.
//!
//! Owns a generator of what no muxer would do but a file allows. It tracks position and length, so
//! that every call has one right outcome, and it likes the edges: lengths around pages, slots and the
//! largest frame, offsets at both ends of the file, holes, overwrites, and empty writes behind the end.

use std::io::{self, SeekFrom};

use crate::sink::Sink;
use crate::trace::{Payload, Random};

/// Lengths at which implementations change their mind, in bytes.
pub const EDGE_LENGTHS: [u64; 9] =
    [0, 1, 4095, 4096, 64 << 10, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 8 << 20];

/// One call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// `write_all` of `len` bytes, which `seed` determines.
    Write {
        /// In bytes.
        len: u64,
        /// Chooses the bytes.
        seed: u64,
    },
    /// `seek`, which has to reach `reached`.
    Seek {
        /// Start, current or end.
        to: SeekFrom,
        /// In bytes from the start.
        reached: u64,
    },
    /// `seek` to before the start, which has to fail and move nothing.
    SeekBeforeStart(SeekFrom),
    /// `stream_position`, which has to be this many bytes from the start.
    Position(u64),
    /// `set_len`, in bytes.
    SetLen(u64),
    /// `write_zeroes`, in bytes.
    WriteZeroes(u64),
    /// `flush`.
    Flush,
    /// `sync`.
    Sync,
}

/// How far a sequence may go.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How many calls.
    pub ops: usize,
    /// How long the file may get, in bytes.
    pub len: u64,
    /// How many bytes may be written in all: a sequence of large writes takes its time.
    pub written: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { ops: 200, len: 48 << 20, written: 128 << 20 }
    }
}

/// The calls that `seed` gives.
pub fn sequence(seed: u64, limits: Limits) -> Vec<Op> {
    let random = Random::new(seed ^ 0x006f_7073);
    let mut state = State { random, limits, position: 0, len: 0, left: limits.written };
    (0..limits.ops).map(|_| state.next()).collect()
}

struct State {
    random: Random,
    limits: Limits,
    position: u64,
    len: u64,
    left: u64,
}

impl State {
    fn next(&mut self) -> Op {
        match self.random.below(100) {
            0..45 => {
                let len = self.room(self.position);
                self.advance(len);
                Op::Write { len, seed: self.random.below(1 << 32) }
            }
            45..75 => self.seek(),
            75..83 => Op::Position(self.position),
            83..88 => {
                self.len = self.target();
                Op::SetLen(self.len)
            }
            88..93 => {
                let len = self.room(self.position);
                self.advance(len);
                Op::WriteZeroes(len)
            }
            93..98 => Op::Flush,
            _ => Op::Sync,
        }
    }

    /// A length: small, exactly at an edge, or anything up to 256 KiB, as far as there is room.
    fn room(&mut self, from: u64) -> u64 {
        let edge = EDGE_LENGTHS[self.random.index(EDGE_LENGTHS.len())];
        let len = match self.random.below(10) {
            0..4 => self.random.between(1, 40),
            4..8 => edge,
            _ => self.random.below(256 << 10),
        };
        len.min(self.limits.len.saturating_sub(from)).min(self.left)
    }

    fn advance(&mut self, len: u64) {
        self.left -= len;
        if len > 0 {
            self.position += len;
            self.len = self.len.max(self.position);
        }
    }

    /// An offset: near the position, near the end, near the start, or anywhere.
    fn target(&mut self) -> u64 {
        let edge = EDGE_LENGTHS[self.random.index(EDGE_LENGTHS.len())];
        let target = match self.random.below(10) {
            0..4 => self.position.saturating_sub(edge.min(self.random.below(16 << 10))),
            4 => self.position.saturating_sub(edge),
            5 => self.position + edge,
            6 => self.len,
            7 => self.len + edge,
            8 => edge,
            _ => self.random.below(self.len + 1),
        };
        target.min(self.limits.len)
    }

    fn seek(&mut self) -> Op {
        let target = self.target();
        let way = self.random.below(3);
        if self.random.one_in(25) {
            let before = signed(self.random.between(1, 1 << 20));
            return Op::SeekBeforeStart(match way {
                0 => SeekFrom::Current(i64::MIN),
                1 => SeekFrom::Current(-signed(self.position) - before),
                _ => SeekFrom::End(-signed(self.len) - before),
            });
        }
        let to = match way {
            0 => SeekFrom::Start(target),
            1 => SeekFrom::Current(signed(target) - signed(self.position)),
            _ => SeekFrom::End(signed(target) - signed(self.len)),
        };
        self.position = target;
        Op::Seek { to, reached: target }
    }
}

fn signed(offset: u64) -> i64 {
    i64::try_from(offset).expect("a test file is shorter than 8 EiB")
}

/// What a sink did wrong.
#[derive(Debug, thiserror::Error)]
pub enum OpError {
    /// A call failed that must not.
    #[error("op {nth} ({op:?}) failed")]
    Failed {
        /// Index into the sequence.
        nth: usize,
        /// The call.
        op: Op,
        /// What it said.
        source: io::Error,
    },
    /// A call led to the wrong position, or succeeded when it must not.
    #[error("op {nth} ({op:?}) reached {reached}")]
    WrongPosition {
        /// Index into the sequence.
        nth: usize,
        /// The call.
        op: Op,
        /// In bytes from the start.
        reached: u64,
    },
}

/// Makes the calls, in order, up to the first that does not do what a file does.
pub fn apply(ops: &[Op], sink: &mut impl Sink) -> Result<(), OpError> {
    let mut payload = Payload::new(0);
    for (nth, op) in ops.iter().enumerate() {
        match op.apply(sink, &mut payload) {
            Ok(None) => (),
            Ok(Some(reached)) => {
                return Err(OpError::WrongPosition { nth, op: op.clone(), reached });
            }
            Err(source) => {
                return Err(OpError::Failed { nth, op: op.clone(), source });
            }
        }
    }
    Ok(())
}

impl Op {
    /// Returns the position if it is not the right one.
    fn apply(&self, sink: &mut impl Sink, payload: &mut Payload) -> io::Result<Option<u64>> {
        match *self {
            Self::Write { len, seed } => {
                payload.restart(seed);
                let len = usize::try_from(len).map_err(|_| io::ErrorKind::OutOfMemory)?;
                sink.write_all(&payload.long(len))?;
            }
            Self::Seek { to, reached } => {
                return Ok(Some(sink.seek(to)?).filter(|found| *found != reached));
            }
            Self::SeekBeforeStart(to) => return Ok(sink.seek(to).ok()),
            Self::Position(expected) => {
                return Ok(Some(sink.stream_position()?).filter(|found| *found != expected));
            }
            Self::SetLen(len) => sink.set_len(len)?,
            Self::WriteZeroes(len) => sink.write_zeroes(len)?,
            Self::Flush => sink.flush()?,
            Self::Sync => sink.sync()?,
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
