//! Going on with another connection, and what is kept for that.
//!
//! 1. What the daemon before said stays true: what is written is not sent again, and an answer that came
//!    is not asked for again. What it did not say is not assumed.
//! 2. Everything else is sent again, as it was, in the same order and with the same numbers; what was not
//!    sent yet follows it.
//! 3. A `Sync` or `Finish` can be written and not answered: then it is known to be in the file, so to speak,
//!    and has left. It is asked for again with a new number at the end, which covers more, never less.
//! 4. A slot stays with its command, also while there is no connection.

use std::io;

use freemkvd_proto as proto;
use freemkvd_proto::{ErrorCode, Kind, Reply};

use super::{Command, Link, nonsense};
use crate::slot::SLOT_BYTES;

impl Link {
    /// What a new connection begins with; `None` when there is nothing to go on with: the daemon can't, the
    /// file is not open yet, or the stream is over.
    pub(crate) fn resume(&self) -> Option<proto::Resume> {
        if self.ended || self.opened.is_none() || !self.is_resumable {
            return None;
        }
        Some(proto::Resume {
            token: self.token?,
            written: self.written,
            durable: self.durable,
            position: self.settled_position,
            transfer: self.transfer,
        })
    }

    /// The file may be opened or not, and the same `OpenResumable` finds out.
    pub(crate) fn is_to_be_opened_again(&self) -> bool {
        self.opened.is_none() && self.token.is_some()
    }

    /// Takes the answer to what [`resume`](Self::resume) has said, and queues what is to be sent again.
    ///
    /// # Errors
    /// The answer can't be (rule 5 of the link); nothing was changed.
    pub(crate) fn resumed(&mut self, resumed: proto::Resumed) -> io::Result<()> {
        let Some(opened) = self.opened.as_mut() else {
            return Err(nonsense(&format!("unexpected {:?}", Kind::Resumed)));
        };
        if resumed.shared && !self.pool.is_shared() {
            return Err(nonsense("that it shares slots which it was not offered"));
        }
        opened.stream = resumed.stream;
        opened.queue_limit_bytes = resumed.queue_limit_bytes;
        opened.shared = resumed.shared;
        self.resumes += 1;
        self.unwatched_restarts += u64::from(!resumed.watched);
        self.frames_sent += 1;
        self.going_away = false;
        // What was accepted and not written is gone; from here nothing goes back.
        self.marks.accepted = self.written;
        self.marks.written = self.written;
        self.marks.durable = self.durable;
        self.sent = self.written.sequence;
        while let Some(again) = self.in_flight.pop_back() {
            self.outbox.push_front(again);
        }
        self.ask_again();
        Ok(())
    }

    /// Takes another answer to what [`resume`](Self::resume) has said: that the file is complete.
    ///
    /// # Errors
    /// It says something else, or nobody has asked for that.
    pub(crate) fn finish_instead(&mut self, sequence: u64, reply: Reply) -> io::Result<()> {
        match reply {
            Reply::Finished(_) => self.answer(sequence, reply).map(|_| ()),
            other => Err(nonsense(&format!("unexpected {:?}", other.kind()))),
        }
    }

    /// True when the daemon knows nothing of the stream any more, and that is what was asked for: the answer
    /// to an `Abort` was lost.
    pub(crate) fn is_given_up_by(&self, code: ErrorCode) -> bool {
        self.is_aborting && code == ErrorCode::NO_SUCH_TOKEN
    }

    /// The stream was aborted, and the answer was lost.
    pub(crate) fn aborted_instead(&mut self) {
        self.aborted = true;
        self.ended = true;
    }

    /// Rule 3.
    fn ask_again(&mut self) {
        let settled = self.written.sequence;
        if self.is_aborting {
            // Nothing before it matters any more.
            self.abort();
        } else if let Some(finish) = self.finish {
            // Whoever waits for a `Sync` that went before it is content with this.
            if finish <= settled {
                self.number(Command::Finish);
            }
        } else if self.last_sync > self.synced && self.last_sync <= settled {
            self.last_sync = self.number(Command::Sync);
        }
    }

    /// Memory of content that may have to be sent again, or was not sent yet, in bytes: whole slots, each
    /// counted once.
    pub(crate) fn kept_bytes(&self) -> u64 {
        let kept = self.in_flight.iter().chain(&self.outbox);
        let parts = kept.flat_map(|kept| kept.command.parts());
        let mut slots: Vec<_> = parts.map(|part| part.slot.as_ptr()).collect();
        slots.sort_unstable();
        slots.dedup();
        slots.len() as u64 * SLOT_BYTES as u64
    }
}
