//! The state of one stream's connection, without I/O, threads or a clock: what is to be sent, what
//! was sent and is not yet written, and what the daemon has said.
//!
//! 1. Every command is kept, in `outbox` or `in_flight`, until the daemon says *written*. A `Write`
//!    carries its absolute offset and its slots, so what is kept can be told again from the start, and
//!    no slot that the daemon may still read is free for anything else.
//! 2. Numbers go up by one, in the order of sending.
//! 3. A `Seek` goes before a command only if the daemon's position is not its offset already.
//! 4. The first failure is latched. Afterwards nothing is sent and no answer changes anything.
//! 5. A daemon that says what can't be (a watermark beyond what was sent, or one that goes back; an
//!    ending that nobody asked for) is not believed; the connection ends.
//! 6. A command is settled when it is known to be written; then `written` and `settled_position` say how
//!    far the file is, together, and that is where another connection goes on (`resume`).

mod command;
mod resume;

use std::collections::VecDeque;
use std::io;

use freemkvd_proto as proto;
use freemkvd_proto::limits::{SLOT_PARTS_MAX, WRITE_BYTES_MAX};
use freemkvd_proto::{FrameError, Header, Kind, Mark, Reply};

pub(crate) use self::command::{Command, Part};
use self::command::{Numbered, in_slots, wire};
use crate::Error;
use crate::slot::Pool;

/// Whether more answers are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Answered {
    GoesOn,
    Ended,
}

/// See the module's page.
#[derive(Debug)]
pub(crate) struct Link {
    outbox: VecDeque<Numbered>,
    in_flight: VecDeque<Numbered>,
    /// Number of the last command pushed, and of the last one sent.
    last: u64,
    sent: u64,
    /// The highest number that was ever sent, on any connection.
    told: u64,
    /// Numbers of the last `Flush` and `Sync` pushed; 0 for none.
    last_flush: u64,
    last_sync: u64,
    /// What was pushed after `last_sync` is to be synced too, once that was answered.
    sync_again: bool,
    finish: Option<u64>,
    is_aborting: bool,
    /// Where the daemon's position is after everything in `outbox`.
    position: u64,
    /// Every command up to this one is written: the watermark, or a `Sync` that was answered. What is
    /// above the watermark's bytes was counted here, as the daemon does.
    written: Mark,
    /// Where the daemon's position is after what is written.
    settled_position: u64,
    /// Number of the last `Sync` that was answered.
    synced: u64,
    /// What is known to be durable: the watermark, or what a `Sync` covers that was answered.
    durable: Mark,
    /// What this connection's daemon has said.
    marks: proto::Progress,
    /// How content was offered to travel.
    transfer: proto::Transfer,
    /// What it was opened with, and whether the daemon has said that it can be resumed by that.
    token: Option<proto::Token>,
    is_resumable: bool,
    /// Set when nobody will push any more; the connection ends once this command is written.
    closing: Option<u64>,
    pub(crate) pool: Pool,
    pub(crate) opened: Option<proto::Opened>,
    pub(crate) finished: Option<proto::Finished>,
    pub(crate) aborted: bool,
    pub(crate) going_away: bool,
    pub(crate) failed: Option<Error>,
    /// Both threads are to return.
    pub(crate) ended: bool,
    pub(crate) frames_sent: u64,
    /// How often it went on with another connection, and how often of these the file was not watched.
    pub(crate) resumes: u64,
    pub(crate) unwatched_restarts: u64,
}

impl Link {
    /// A link whose first frame is `open`, as the simplest kind that says all of it: daemons of all
    /// versions know what they can.
    pub(crate) fn new(pool: Pool, open: proto::OpenFile) -> Self {
        let (transfer, token) = (open.open.transfer, open.token);
        let command = match token {
            _ if !open.is_plain() => Command::OpenFile(open),
            Some(token) => Command::OpenResumable(proto::OpenResumable { token, open: open.open }),
            None => Command::Open(open.open),
        };
        Self::begin(pool, command, transfer, token)
    }

    /// A link whose file comes with its first frame.
    pub(crate) fn with_file(pool: Pool, open: proto::OpenGiven) -> Self {
        let (transfer, token) = (open.transfer, open.token);
        Self::begin(pool, Command::OpenGiven(open), transfer, token)
    }

    fn begin(
        pool: Pool,
        command: Command,
        transfer: proto::Transfer,
        token: Option<proto::Token>,
    ) -> Self {
        let open = Numbered { sequence: 0, command };
        Self {
            outbox: VecDeque::from([open]),
            in_flight: VecDeque::new(),
            last: 0,
            sent: 0,
            told: 0,
            last_flush: 0,
            last_sync: 0,
            sync_again: false,
            finish: None,
            is_aborting: false,
            position: 0,
            written: Mark::default(),
            settled_position: 0,
            synced: 0,
            durable: Mark::default(),
            marks: proto::Progress::default(),
            transfer,
            token,
            is_resumable: false,
            closing: None,
            pool,
            opened: None,
            finished: None,
            aborted: false,
            going_away: false,
            failed: None,
            ended: false,
            frames_sent: 0,
            resumes: 0,
            unwatched_restarts: 0,
        }
    }

    /// Queues a command, with a `Seek` before it where it needs one (rule 3). Returns its number.
    pub(crate) fn push(&mut self, command: Command) -> u64 {
        if let Command::WriteZeroes { offset, len } = &command {
            self.seek(*offset, *len);
        }
        self.number(command)
    }

    /// Queues content for `offset`. What continues a `Write` that was not sent yet goes with it, up
    /// to as much as a frame holds. Returns the number that it goes under.
    pub(crate) fn push_write(&mut self, offset: u64, part: Part) -> u64 {
        let len = part.range.len();
        // What was sent once is sent again as it was.
        let last = self.outbox.back_mut().filter(|last| last.sequence > self.told);
        if let Some(Command::Write { offset: begin, parts }) = last.map(|last| &mut last.command) {
            let so_far: usize = parts.iter().map(|part| part.range.len()).sum();
            if *begin + so_far as u64 == offset
                && so_far + len <= WRITE_BYTES_MAX as usize
                && parts.len() < SLOT_PARTS_MAX
            {
                parts.push(part);
                self.position += len as u64;
                return self.last;
            }
        }
        self.seek(offset, len as u64);
        let parts = vec![part];
        self.number(Command::Write { offset, parts })
    }

    /// The daemon's position is to be `offset`, and `len` further after what comes there.
    fn seek(&mut self, offset: u64, len: u64) {
        if offset != self.position {
            self.number(Command::Seek { offset });
        }
        self.position = offset + len;
    }

    fn number(&mut self, command: Command) -> u64 {
        self.last += 1;
        let sequence = self.last;
        if matches!(command, Command::Finish) {
            self.finish = Some(sequence);
        }
        self.outbox.push_back(Numbered { sequence, command });
        sequence
    }

    /// Sees to it that a `Flush` covers everything, and returns its number.
    pub(crate) fn flush(&mut self) -> u64 {
        if self.last_flush != self.last || self.last == 0 {
            self.last_flush = self.push(Command::Flush);
        }
        self.last_flush
    }

    /// Asks for progress when nobody has asked and been answered since. For a caller that waits for
    /// a slot while the daemon takes its time with telling that some are written.
    pub(crate) fn nudge(&mut self) {
        if self.is_written(self.last_flush) && !self.is_all_written() {
            self.flush();
        }
    }

    /// Sees to it that a `Sync` covers everything, and returns its number. One that was asked for
    /// and not answered in time serves again when nothing was written since.
    pub(crate) fn sync(&mut self) -> u64 {
        if self.last_sync != self.last || self.last == 0 {
            self.last_sync = self.push(Command::Sync);
        }
        self.sync_again = false;
        self.last_sync
    }

    /// Sees to it that a `Sync` will cover everything: one now, or one when that which is on its way was
    /// answered. A disk has nothing of a row of them.
    pub(crate) fn sync_soon(&mut self) {
        if self.last_sync > self.synced {
            self.sync_again = self.last_sync != self.last;
        } else {
            self.sync();
        }
    }

    /// Drops what was not sent yet and gives the stream up. The numbers stay without a gap.
    pub(crate) fn abort(&mut self) {
        self.is_aborting = true;
        while let Some(dropped) = self.outbox.pop_front() {
            self.release(dropped.command);
        }
        self.last = self.sent;
        self.number(Command::Abort);
    }

    /// Lets the connection end when everything is written, and returns the number of the `Flush`
    /// that makes the daemon say so. Without one a receiver that nothing is sent to would wait for
    /// ever, and with it the pipe would stay open.
    pub(crate) fn close(&mut self) -> u64 {
        let sequence = self.push(Command::Flush);
        self.closing = Some(sequence);
        sequence
    }

    /// The daemon has something to answer.
    pub(crate) fn is_owed_an_answer(&self) -> bool {
        !self.in_flight.is_empty() || self.last_sync > self.synced || self.finish.is_some()
    }

    /// Commands that are kept.
    pub(crate) fn kept(&self) -> usize {
        self.outbox.len() + self.in_flight.len()
    }

    pub(crate) fn has_work(&self) -> bool {
        !self.outbox.is_empty()
    }

    pub(crate) fn is_written(&self, sequence: u64) -> bool {
        self.written.sequence >= sequence
    }

    pub(crate) fn is_all_written(&self) -> bool {
        self.written.sequence == self.last
    }

    pub(crate) fn is_synced(&self, sequence: u64) -> bool {
        self.synced >= sequence
    }

    /// Number of the last command pushed.
    pub(crate) fn last_sequence(&self) -> u64 {
        self.last
    }

    /// Everything up to this number is known to be durable.
    pub(crate) fn durable_sequence(&self) -> u64 {
        match self.finished {
            Some(_) => self.last,
            // A `Sync` may be answered before the watermark has moved.
            None => self.durable.sequence.max(self.synced),
        }
    }

    /// What the daemon has said; after it was lost, what is known of that.
    pub(crate) fn marks(&self) -> proto::Progress {
        self.marks
    }

    /// Number of the last command that is known to be written.
    pub(crate) fn written_sequence(&self) -> u64 {
        self.written.sequence
    }

    /// Bytes that are known to be written.
    pub(crate) fn written_bytes(&self) -> u64 {
        self.written.bytes
    }

    /// Bytes that are known to be durable.
    pub(crate) fn durable_bytes(&self) -> u64 {
        self.durable.bytes
    }

    /// Moves the next commands from the outbox to what is in flight: their bytes are put behind
    /// `head`, up to and with the header of a `Write`, whose content is returned. In shared slots
    /// content stays where it is, and there is none to return.
    pub(crate) fn send(&mut self, head: &mut Vec<u8>) -> Result<Vec<Part>, FrameError> {
        while let Some(next) = self.outbox.pop_front() {
            let Numbered { sequence, command } = &next;
            let mut body = Vec::new();
            match command {
                Command::Write { parts, .. } if self.is_shared() => {
                    head.extend(in_slots(parts).encode(*sequence)?);
                }
                Command::Write { parts, .. } => {
                    let len = parts.iter().map(|part| part.range.len()).sum();
                    head.extend(Header::new(Kind::Write, len, *sequence)?.encode());
                    body.clone_from(parts);
                }
                control => head.extend(wire(control).encode(*sequence)?),
            }
            self.sent = *sequence;
            self.told = self.told.max(self.sent);
            self.frames_sent += 1;
            self.in_flight.push_back(next);
            if !body.is_empty() {
                return Ok(body);
            }
        }
        Ok(Vec::new())
    }

    /// The daemon has said that it uses the slots that it was offered.
    fn is_shared(&self) -> bool {
        self.opened.is_some_and(|opened| opened.shared)
    }

    /// Takes an answer to the command of that number.
    pub(crate) fn answer(&mut self, sequence: u64, reply: Reply) -> io::Result<Answered> {
        match reply {
            Reply::Opened(opened) if self.opened.is_none() => {
                if opened.shared && !self.pool.is_shared() {
                    return Err(nonsense("that it shares slots which it was not offered"));
                }
                self.opened = Some(opened);
                // The `Open` has done what it could, and is never sent again.
                self.settle(0);
            }
            Reply::Resumable if self.opened.is_none() && self.token.is_some() => {
                self.is_resumable = true;
            }
            Reply::Progress(marks) => self.progress(marks)?,
            Reply::Synced if sequence <= self.sent => {
                self.synced = self.synced.max(sequence);
                self.settle(sequence);
                // When more is settled than it covers, nobody has counted what that is in bytes.
                if self.written.sequence == sequence && sequence > self.durable.sequence {
                    self.durable = self.written;
                }
                let is_ending = self.finish.is_some() || self.closing.is_some() || self.is_aborting;
                if self.sync_again && self.synced >= self.last_sync && !is_ending {
                    self.sync();
                }
            }
            Reply::Finished(finished) if self.finish.is_some() => {
                self.progress(finished.progress)?;
                self.finished = Some(finished);
            }
            Reply::Aborted if self.is_aborting => self.aborted = true,
            Reply::GoingAway(_) => self.going_away = true,
            other => return Err(nonsense(&format!("unexpected {:?}", other.kind()))),
        }
        let is_closed = self.closing.is_some_and(|last| self.is_written(last));
        if is_closed || self.aborted || self.finished.is_some() {
            self.ended = true;
            return Ok(Answered::Ended);
        }
        Ok(Answered::GoesOn)
    }

    fn progress(&mut self, marks: proto::Progress) -> io::Result<()> {
        let old = self.marks;
        let goes_back = marks.accepted.sequence < old.accepted.sequence
            || marks.written.sequence < old.written.sequence
            || marks.durable.sequence < old.durable.sequence;
        let is_ordered = marks.durable.sequence <= marks.written.sequence;
        if goes_back || !is_ordered || marks.written.sequence > self.sent {
            return Err(nonsense("watermarks that can't be"));
        }
        self.marks = marks;
        self.settle(marks.written.sequence);
        if marks.written.sequence == self.written.sequence {
            self.written = marks.written;
        }
        if marks.durable.sequence > self.durable.sequence {
            self.durable = marks.durable;
        }
        Ok(())
    }

    /// Commands up to `written` need not be kept any longer (rule 6).
    fn settle(&mut self, written: u64) {
        while self.in_flight.front().is_some_and(|oldest| oldest.sequence <= written) {
            let Some(Numbered { sequence, command }) = self.in_flight.pop_front() else {
                return;
            };
            self.written.sequence = sequence;
            self.written.bytes += command.content_bytes();
            if let Some(position) = command.moves_to() {
                self.settled_position = position;
            }
            self.release(command);
        }
    }

    /// Its slots are nobody's, as far as this command goes.
    fn release(&mut self, command: Command) {
        if let Command::Write { parts, .. } = command {
            for part in parts {
                self.pool.put(part.slot);
            }
        }
    }
}

fn nonsense(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the daemon sent {what}"))
}

#[cfg(test)]
mod replay;
#[cfg(test)]
mod tests;
