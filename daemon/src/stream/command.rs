//! The connection's side of a stream: which commands are legal, and what they mean once the stream's
//! position is known. Pure: a fuzzer can run every sequence of commands through it.
//!
//! Invariants:
//! 1. Commands are numbered without a gap, from 1.
//! 2. Nothing is legal after `Finish` or `Abort`.
//! 3. No offset beyond [`OFFSET_MAX`] leaves this module.

use std::ops::Range;

use freemkvd_proto::limits::OFFSET_MAX;
use freemkvd_proto::{Command, ErrorCode, Failure};

/// What a command asks of the writer. Offsets are absolute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Nothing: the position moved.
    Moved,
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
}

impl Commands {
    /// A stream just opened, at position 0.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
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
        if matches!(command, Command::Open(_) | Command::Status | Command::SetWeight(_)) {
            return Err(out_of_sequence(format!(
                "{:?} on a connection that has a stream",
                command.kind()
            )));
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
            Command::WriteSlots(_) => unreachable!("its caller asks `write`"),
            Command::Open(_) | Command::Status | Command::SetWeight(_) => {
                unreachable!("refused above")
            }
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

#[cfg(test)]
mod tests {
    use freemkvd_proto::{Seek, SetLen, WriteZeroes};

    use super::*;

    fn code<T: std::fmt::Debug>(result: Result<T, Failure>) -> ErrorCode {
        result.unwrap_err().code
    }

    #[test]
    fn writes_follow_the_position() {
        let mut commands = Commands::new();
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
        let mut commands = Commands::new();
        assert_eq!(code(commands.write(0, 1)), ErrorCode::OUT_OF_SEQUENCE);
        assert_eq!(code(commands.write(2, 1)), ErrorCode::OUT_OF_SEQUENCE);
        assert!(commands.write(1, 1).is_ok());
        assert_eq!(code(commands.accept(1, &Command::Sync)), ErrorCode::OUT_OF_SEQUENCE);
        assert_eq!(commands.accept(2, &Command::Sync), Ok(Request::Sync));
    }

    #[test]
    fn nothing_is_legal_after_finish_or_abort() {
        for last in [Command::Finish, Command::Abort] {
            let mut commands = Commands::new();
            assert!(commands.accept(1, &last).is_ok());
            assert_eq!(code(commands.write(2, 1)), ErrorCode::OUT_OF_SEQUENCE);
            assert_eq!(code(commands.accept(2, &Command::Flush)), ErrorCode::OUT_OF_SEQUENCE);
        }
    }

    #[test]
    fn no_zeros_are_nothing_and_too_many_are_refused() {
        let mut commands = Commands::new();
        let zeroes = |len| Command::WriteZeroes(WriteZeroes { len });
        assert_eq!(commands.accept(1, &zeroes(0)), Ok(Request::Moved));
        assert!(commands.accept(2, &zeroes(OFFSET_MAX)).is_ok());
        assert_eq!(commands.accept(3, &Command::Seek(Seek { offset: 0 })), Ok(Request::Moved));
        assert_eq!(code(commands.accept(4, &zeroes(OFFSET_MAX))), ErrorCode::OFFSET_RANGE);
    }

    #[test]
    fn a_second_open_and_status_are_refused() {
        let mut commands = Commands::new();
        assert_eq!(code(commands.accept(1, &Command::Status)), ErrorCode::OUT_OF_SEQUENCE);
    }

    #[test]
    fn no_offset_beyond_the_end_of_any_file_comes_through() {
        let mut commands = Commands::new();
        assert_eq!(
            code(commands.accept(1, &Command::Seek(Seek { offset: OFFSET_MAX + 1 }))),
            ErrorCode::OFFSET_RANGE
        );
        let mut commands = Commands::new();
        assert_eq!(
            code(commands.accept(1, &Command::SetLen(SetLen { len: u64::MAX }))),
            ErrorCode::OFFSET_RANGE
        );
        let mut commands = Commands::new();
        assert!(commands.accept(1, &Command::Seek(Seek { offset: OFFSET_MAX })).is_ok());
        assert_eq!(code(commands.write(2, 1)), ErrorCode::OFFSET_RANGE);
        let mut commands = Commands::new();
        assert!(commands.accept(1, &Command::Seek(Seek { offset: 1 })).is_ok());
        let all = Command::WriteZeroes(WriteZeroes { len: u64::MAX });
        assert_eq!(code(commands.accept(2, &all)), ErrorCode::OFFSET_RANGE);
    }
}
