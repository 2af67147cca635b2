//! The connection's side of a stream: which commands are legal, and what they mean once the stream's
//! position is known. Pure: a fuzzer can run every sequence of commands through it.
//!
//! Invariants:
//! 1. Commands are numbered without a gap, from 1.
//! 2. Nothing is legal after `Finish` or `Abort`.
//! 3. No offset beyond [`OFFSET_MAX`] leaves this module.
//! 4. No range that leaves it is outside of the stream's shared slots.

use std::ops::Range;

use freemkvd_proto::limits::{OFFSET_MAX, SLOT_BYTES, SLOT_PARTS_MAX, WRITE_BYTES_MAX};
use freemkvd_proto::{Command, ErrorCode, Failure, Kind, Resume, SlotPart};

/// What a command asks of the writer. Offsets are absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Nothing: the position moved.
    Moved,
    /// Content that lies in shared slots.
    WriteSlots {
        /// First byte.
        offset: u64,
        /// Where it lies in the shared memory, one part after the other.
        parts: Vec<Range<u64>>,
        /// How many bytes.
        len: u64,
    },
    /// Zero bytes from `offset` on.
    WriteZeroes {
        /// First byte.
        offset: u64,
        /// How many.
        len: u64,
    },
    /// The file's new length.
    SetLen(u64),
    /// Tell when all is written.
    Flush,
    /// Make all durable.
    Sync,
    /// Complete the file.
    Finish,
    /// Give up.
    Abort,
}

/// The stream as its connection sees it.
#[derive(Debug, Default)]
pub struct Commands {
    /// Number of the last command.
    sequence: u64,
    position: u64,
    /// Bytes of content so far.
    content: u64,
    /// End of the highest byte written.
    end: u64,
    seeks: u64,
    patches: u64,
    ended: bool,
    /// How many slots the client shares; 0 for none.
    slots: u32,
}

impl Commands {
    /// A stream just opened, at position 0, with so many shared slots.
    #[must_use]
    pub fn new(slots: u32) -> Self {
        Self { slots, ..Self::default() }
    }

    /// A stream that goes on after its connection was lost.
    ///
    /// # Errors
    /// As [`Commands::write`].
    pub fn resumed(slots: u32, from: &Resume) -> Result<Self, Failure> {
        in_range(from.position)?;
        in_range(from.written.bytes)?;
        // Numbers go on from here, and are counted by one.
        in_range(from.written.sequence)?;
        let (written, durable) = (from.written, from.durable);
        if durable.sequence > written.sequence || durable.bytes > written.bytes {
            return Err(out_of_sequence("more is durable than written".to_owned()));
        }
        Ok(Self {
            slots,
            sequence: written.sequence,
            position: from.position,
            content: written.bytes,
            ..Self::default()
        })
    }

    /// How much memory the client shares, in bytes.
    #[must_use]
    pub fn slots_bytes(&self) -> u64 {
        u64::from(self.slots) * u64::from(SLOT_BYTES)
    }

    /// Seeks that moved the position.
    #[must_use]
    pub fn seeks(&self) -> u64 {
        self.seeks
    }

    /// Writes that began below the highest byte written before them.
    #[must_use]
    pub fn patches(&self) -> u64 {
        self.patches
    }

    /// A `Write` of `len` bytes: the range it covers.
    ///
    /// # Errors
    /// A [`Failure`] with a code of the 100s when the command is not legal now.
    pub fn write(&mut self, sequence: u64, len: u64) -> Result<Range<u64>, Failure> {
        self.number(sequence)?;
        self.forward(len)
    }

    /// Any other command.
    ///
    /// # Errors
    /// As [`Commands::write`].
    pub fn accept(&mut self, sequence: u64, command: &Command) -> Result<Request, Failure> {
        let misplaced = || {
            let kind = command.kind();
            out_of_sequence(format!("{kind:?} on a connection that has a stream"))
        };
        if begins_a_connection(command) {
            return Err(misplaced());
        }
        self.number(sequence)?;
        Ok(match command {
            Command::Seek(seek) => {
                in_range(seek.offset)?;
                self.seeks += u64::from(seek.offset != self.position);
                self.position = seek.offset;
                Request::Moved
            }
            Command::WriteZeroes(zeroes) if zeroes.len == 0 => Request::Moved,
            Command::WriteZeroes(zeroes) => {
                let range = self.forward(zeroes.len)?;
                Request::WriteZeroes { offset: range.start, len: zeroes.len }
            }
            Command::SetLen(set) => {
                in_range(set.len)?;
                self.end = self.end.min(set.len);
                Request::SetLen(set.len)
            }
            Command::Flush => Request::Flush,
            Command::Sync => Request::Sync,
            Command::Finish => self.end_with(Request::Finish),
            Command::Abort => self.end_with(Request::Abort),
            Command::WriteSlots(write) => {
                let (parts, len) = self.in_slots(&write.parts)?;
                Request::WriteSlots { offset: self.forward(len)?.start, parts, len }
            }
            Command::Open(_)
            | Command::OpenResumable(_)
            | Command::OpenFile(_)
            | Command::OpenGiven(_)
            | Command::AbortStream(_)
            | Command::Why(_)
            | Command::PauseStream(_)
            | Command::Metrics
            | Command::Reload
            | Command::Resume(_)
            | Command::Status
            | Command::SetWeight(_)
            | Command::Drain => return Err(misplaced()),
        })
    }

    fn end_with(&mut self, request: Request) -> Request {
        self.ended = true;
        request
    }

    fn number(&mut self, sequence: u64) -> Result<(), Failure> {
        if self.ended {
            return Err(out_of_sequence("a command after the stream's last".to_owned()));
        }
        if sequence != self.sequence + 1 {
            let expected = self.sequence + 1;
            return Err(out_of_sequence(format!("command {sequence} where {expected} is due")));
        }
        self.sequence = sequence;
        Ok(())
    }

    /// Where the parts lie in the shared memory, and how many bytes they are.
    fn in_slots(&self, parts: &[SlotPart]) -> Result<(Vec<Range<u64>>, u64), Failure> {
        if self.slots == 0 {
            return Err(out_of_sequence("WriteSlots on a stream without shared slots".to_owned()));
        }
        if !(1..=SLOT_PARTS_MAX).contains(&parts.len()) {
            return Err(bad_slot(&format!("{} parts, 1 to {SLOT_PARTS_MAX} allowed", parts.len())));
        }
        let (mut ranges, mut total) = (Vec::with_capacity(parts.len()), 0);
        for part in parts {
            let SlotPart { slot, start, len } = *part;
            if slot >= self.slots {
                return Err(bad_slot(&format!("slot {slot} of {}", self.slots)));
            }
            let end = u64::from(start) + u64::from(len);
            if len == 0 || end > u64::from(SLOT_BYTES) {
                return Err(bad_slot(&format!(
                    "{len} bytes at {start} of slot {slot}, which has {SLOT_BYTES}"
                )));
            }
            let begin = u64::from(slot) * u64::from(SLOT_BYTES);
            ranges.push(begin + u64::from(start)..begin + end);
            total += u64::from(len);
        }
        if total > u64::from(WRITE_BYTES_MAX) {
            return Err(bad_slot(&format!("{total} bytes at once, at most {WRITE_BYTES_MAX}")));
        }
        Ok((ranges, total))
    }

    fn forward(&mut self, len: u64) -> Result<Range<u64>, Failure> {
        let start = self.position;
        let end = start.saturating_add(len);
        in_range(end)?;
        // Watermarks count it, and a zero byte costs nothing to send.
        self.content = self.content.saturating_add(len);
        in_range(self.content)?;
        self.patches += u64::from(start < self.end);
        self.position = end;
        self.end = self.end.max(end);
        Ok(start..end)
    }
}

/// Commands that are the first of a connection, or make it one of requests.
fn begins_a_connection(command: &Command) -> bool {
    matches!(
        command.kind(),
        Kind::Open
            | Kind::OpenResumable
            | Kind::OpenFile
            | Kind::OpenGiven
            | Kind::Resume
            | Kind::Status
            | Kind::SetWeight
            | Kind::Drain
            | Kind::AbortStream
            | Kind::Why
            | Kind::PauseStream
            | Kind::Metrics
            | Kind::Reload
    )
}

fn in_range(offset: u64) -> Result<(), Failure> {
    if offset <= OFFSET_MAX {
        return Ok(());
    }
    let message = format!("offset {offset} is beyond the end of any file");
    Err(Failure { offset: Some(offset), ..Failure::new(ErrorCode::OFFSET_RANGE, message) })
}

fn out_of_sequence(message: String) -> Failure {
    Failure::new(ErrorCode::OUT_OF_SEQUENCE, message)
}

fn bad_slot(what: &str) -> Failure {
    Failure::new(ErrorCode::BAD_SLOT, format!("no such part of the shared slots: {what}"))
}

#[cfg(test)]
mod tests {
    use freemkvd_proto::{Mark, Seek, SetLen, Token, Transfer, WriteSlots, WriteZeroes};

    use super::*;

    fn code<T: std::fmt::Debug>(result: Result<T, Failure>) -> ErrorCode {
        result.unwrap_err().code
    }

    #[test]
    fn writes_follow_the_position() {
        let mut commands = Commands::new(0);
        assert_eq!(commands.write(1, 10), Ok(0..10));
        assert_eq!(commands.accept(2, &Command::Seek(Seek { offset: 4 })), Ok(Request::Moved));
        assert_eq!(commands.write(3, 2), Ok(4..6));
        assert_eq!(
            commands.accept(4, &Command::WriteZeroes(WriteZeroes { len: 100 })),
            Ok(Request::WriteZeroes { offset: 6, len: 100 })
        );
        assert_eq!(commands.write(5, 1), Ok(106..107));
        assert_eq!((commands.seeks(), commands.patches()), (1, 2));
    }

    #[test]
    fn a_gap_or_a_repetition_in_the_numbers_is_refused() {
        let mut commands = Commands::new(0);
        assert_eq!(code(commands.write(0, 1)), ErrorCode::OUT_OF_SEQUENCE);
        assert_eq!(code(commands.write(2, 1)), ErrorCode::OUT_OF_SEQUENCE);
        assert!(commands.write(1, 1).is_ok());
        assert_eq!(code(commands.accept(1, &Command::Sync)), ErrorCode::OUT_OF_SEQUENCE);
        assert_eq!(commands.accept(2, &Command::Sync), Ok(Request::Sync));
    }

    #[test]
    fn a_resumed_stream_goes_on_with_number_and_position_and_believes_no_nonsense() {
        let mark = |sequence, bytes| Mark { sequence, bytes };
        let from = Resume {
            token: Token([0; 16]),
            written: mark(7, 100),
            durable: mark(3, 50),
            position: 4096,
            transfer: Transfer::Inline,
        };
        let mut commands = Commands::resumed(0, &from).unwrap();
        assert_eq!(code(commands.write(7, 1)), ErrorCode::OUT_OF_SEQUENCE);
        assert_eq!(commands.write(8, 10), Ok(4096..4106));
        for (nonsense, expected) in [
            (Resume { written: mark(u64::MAX, 100), ..from }, ErrorCode::OFFSET_RANGE),
            (Resume { written: mark(7, u64::MAX), ..from }, ErrorCode::OFFSET_RANGE),
            (Resume { position: OFFSET_MAX + 1, ..from }, ErrorCode::OFFSET_RANGE),
            (Resume { durable: mark(8, 50), ..from }, ErrorCode::OUT_OF_SEQUENCE),
            (Resume { durable: mark(3, 101), ..from }, ErrorCode::OUT_OF_SEQUENCE),
        ] {
            assert_eq!(code(Commands::resumed(0, &nonsense)), expected, "{nonsense:?}");
        }
    }

    #[test]
    fn nothing_is_legal_after_finish_or_abort() {
        for last in [Command::Finish, Command::Abort] {
            let mut commands = Commands::new(0);
            assert!(commands.accept(1, &last).is_ok());
            assert_eq!(code(commands.write(2, 1)), ErrorCode::OUT_OF_SEQUENCE);
            assert_eq!(code(commands.accept(2, &Command::Flush)), ErrorCode::OUT_OF_SEQUENCE);
        }
    }

    #[test]
    fn no_zeros_are_nothing_and_too_many_are_refused() {
        let mut commands = Commands::new(0);
        let zeroes = |len| Command::WriteZeroes(WriteZeroes { len });
        assert_eq!(commands.accept(1, &zeroes(0)), Ok(Request::Moved));
        assert!(commands.accept(2, &zeroes(OFFSET_MAX)).is_ok());
        assert_eq!(commands.accept(3, &Command::Seek(Seek { offset: 0 })), Ok(Request::Moved));
        assert_eq!(code(commands.accept(4, &zeroes(OFFSET_MAX))), ErrorCode::OFFSET_RANGE);
    }

    #[test]
    fn a_second_open_and_status_are_refused() {
        let mut commands = Commands::new(0);
        assert_eq!(code(commands.accept(1, &Command::Status)), ErrorCode::OUT_OF_SEQUENCE);
    }

    const SLOT: u64 = SLOT_BYTES as u64;

    /// What the second command comes to when it is such a `WriteSlots`, on a stream with two slots.
    fn write_slots(parts: &[(u32, u32, u32)]) -> Result<Request, Failure> {
        let mut commands = Commands::new(2);
        assert_eq!(commands.write(1, 10), Ok(0..10));
        let parts = parts.iter().map(|&(slot, start, len)| SlotPart { slot, start, len });
        let result =
            commands.accept(2, &Command::WriteSlots(WriteSlots { parts: parts.collect() }));
        if let Ok(Request::WriteSlots { len, .. }) = result {
            assert_eq!(commands.write(3, 1), Ok(10 + len..11 + len));
        }
        result
    }

    #[test]
    fn parts_of_slots_become_ranges_and_move_the_position() {
        assert_eq!(
            write_slots(&[(1, 4096, SLOT_BYTES - 4096), (0, 0, 1)]),
            Ok(Request::WriteSlots {
                offset: 10,
                parts: vec![SLOT + 4096..2 * SLOT, 0..1],
                len: SLOT - 4095,
            })
        );
    }

    #[test]
    fn every_limit_of_slots_is_exact() {
        let last = SLOT_BYTES - 1;
        assert!(write_slots(&[(1, last, 1)]).is_ok());
        assert!(write_slots(&[(1, 0, SLOT_BYTES)]).is_ok());
        assert!(write_slots(&[(0, 0, SLOT_BYTES); 4]).is_ok());
        assert!(write_slots(&[(0, 7, 1); SLOT_PARTS_MAX]).is_ok());
        let refused: [&[(u32, u32, u32)]; 11] = [
            &[],
            &[(0, 7, 1); SLOT_PARTS_MAX + 1],
            &[(2, 0, 1)],
            &[(u32::MAX, 0, 1)],
            &[(0, 0, 0)],
            &[(0, last, 2)],
            &[(0, 1, SLOT_BYTES)],
            &[(0, SLOT_BYTES, 1)],
            &[(0, u32::MAX, u32::MAX)],
            &[(0, 0, 1), (1, 0, SLOT_BYTES + 1)],
            &[
                (0, 0, SLOT_BYTES),
                (0, 0, SLOT_BYTES),
                (1, 0, SLOT_BYTES),
                (1, 0, SLOT_BYTES),
                (0, 0, 1),
            ],
        ];
        for parts in refused {
            assert_eq!(code(write_slots(parts)), ErrorCode::BAD_SLOT, "{parts:?}");
        }
    }

    #[test]
    fn slots_that_were_not_shared_are_refused_and_inline_content_never_is() {
        let parts = vec![SlotPart { slot: 0, start: 0, len: 1 }];
        let write = Command::WriteSlots(WriteSlots { parts });
        assert_eq!(code(Commands::new(0).accept(1, &write)), ErrorCode::OUT_OF_SEQUENCE);
        let mut shared = Commands::new(1);
        assert_eq!(shared.write(1, 1), Ok(0..1));
        assert!(shared.accept(2, &write).is_ok());
        assert_eq!(code(shared.accept(4, &write)), ErrorCode::OUT_OF_SEQUENCE);
        let mut shared = Commands::new(1);
        assert!(shared.accept(1, &Command::Seek(Seek { offset: OFFSET_MAX })).is_ok());
        assert_eq!(code(shared.accept(2, &write)), ErrorCode::OFFSET_RANGE);
    }

    #[test]
    fn no_offset_beyond_the_end_of_any_file_comes_through() {
        let mut commands = Commands::new(0);
        assert_eq!(
            code(commands.accept(1, &Command::Seek(Seek { offset: OFFSET_MAX + 1 }))),
            ErrorCode::OFFSET_RANGE
        );
        let mut commands = Commands::new(0);
        assert_eq!(
            code(commands.accept(1, &Command::SetLen(SetLen { len: u64::MAX }))),
            ErrorCode::OFFSET_RANGE
        );
        let mut commands = Commands::new(0);
        assert!(commands.accept(1, &Command::Seek(Seek { offset: OFFSET_MAX })).is_ok());
        assert_eq!(code(commands.write(2, 1)), ErrorCode::OFFSET_RANGE);
        let mut commands = Commands::new(0);
        assert!(commands.accept(1, &Command::Seek(Seek { offset: 1 })).is_ok());
        let all = Command::WriteZeroes(WriteZeroes { len: u64::MAX });
        assert_eq!(code(commands.accept(2, &all)), ErrorCode::OFFSET_RANGE);
    }
}
