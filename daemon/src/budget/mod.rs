//! The budget: how many bytes may be dirty or in writeback at once, over all streams, and who may
//! have the next ones. Pure: no clock, no thread, no I/O.
//!
//! Invariants, asserted where they could break:
//! 1. The sum of all charges never exceeds the limit, except by what was granted before the limit
//!    was lowered.
//! 2. A stream's charge is what it was granted minus what it released; it is zero when it leaves.
//! 3. No stream that can be granted waits: whoever frees bytes is told whom they went to.
//! 4. Waiters are served in the order in which they began to wait, but for those over their share.
//!
//! The share: a stream may hold `limit / active`, where the active streams are those that hold a
//! charge or wait for one. So an idle stream takes nothing from the others, and a stream whose
//! device stands still keeps at most what its share was when it stopped.

use std::collections::{BTreeMap, VecDeque};

/// A stream's number.
pub type StreamId = u64;

/// Smallest limit: below it four streams could not have an extent in writeback each while they fill
/// the next one.
pub const LIMIT_BYTES_MIN: u64 = 8 << 20;

/// Smallest share, however many streams there are: one queued write, and the pages that its edges
/// touch. The limit holds all the same, so that beyond `limit / SHARE_BYTES_MIN` streams take turns.
pub const SHARE_BYTES_MIN: u64 = 2 << 20;

/// What became of a request.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserve {
    /// Charged.
    Granted,
    /// The stream waits in line; [`Budget::release`] will name it.
    Throttled,
}

#[derive(Debug, Default)]
struct Account {
    charged_bytes: u64,
    /// Bytes it waits for.
    waits_for: Option<u64>,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Budget {
    limit_bytes: u64,
    charged_bytes: u64,
    accounts: BTreeMap<StreamId, Account>,
    line: VecDeque<StreamId>,
}

impl Budget {
    /// A budget of `limit_bytes`, at least [`LIMIT_BYTES_MIN`].
    #[must_use]
    pub fn new(limit_bytes: u64) -> Self {
        Self {
            limit_bytes: limit_bytes.max(LIMIT_BYTES_MIN),
            charged_bytes: 0,
            accounts: BTreeMap::new(),
            line: VecDeque::new(),
        }
    }

    /// Most bytes that may be charged at once.
    #[must_use]
    pub fn limit_bytes(&self) -> u64 {
        self.limit_bytes
    }

    /// Bytes charged now.
    #[must_use]
    pub fn charged_bytes(&self) -> u64 {
        self.charged_bytes
    }

    /// Bytes that `stream` has charged now.
    #[must_use]
    pub fn charged_bytes_of(&self, stream: StreamId) -> u64 {
        self.accounts.get(&stream).map_or(0, |account| account.charged_bytes)
    }

    /// Most bytes that an active stream may hold now.
    #[must_use]
    pub fn share_bytes(&self) -> u64 {
        let active = self
            .accounts
            .values()
            .filter(|account| account.charged_bytes > 0 || account.waits_for.is_some())
            .count();
        (self.limit_bytes / (active.max(1) as u64)).max(SHARE_BYTES_MIN)
    }

    /// Changes the limit. A lower one takes nothing back; it grants nothing until there is room.
    /// Names the streams that got what they waited for.
    pub fn set_limit(&mut self, limit_bytes: u64) -> Vec<StreamId> {
        self.limit_bytes = limit_bytes.max(LIMIT_BYTES_MIN);
        self.serve_line()
    }

    /// Takes a stream in.
    ///
    /// # Panics
    /// When it is in already.
    pub fn join(&mut self, stream: StreamId) {
        let before = self.accounts.insert(stream, Account::default());
        assert!(before.is_none(), "stream {stream} joined the budget twice");
    }

    /// Lets a stream go, and names those that got what they waited for, since all shares grow.
    ///
    /// # Panics
    /// When it still has something charged (invariant 2).
    pub fn leave(&mut self, stream: StreamId) -> Vec<StreamId> {
        let account = self.accounts.remove(&stream).expect("a stream leaves once");
        assert_eq!(account.charged_bytes, 0, "stream {stream} left with bytes charged");
        self.line.retain(|waiting| *waiting != stream);
        self.serve_line()
    }

    /// Charges `bytes` to `stream`, or puts it in line. A stream that is in line already keeps its
    /// place, and asks for the same again.
    ///
    /// # Panics
    /// When a stream in line asks for something else: those behind it were measured against it.
    pub fn reserve(&mut self, stream: StreamId, bytes: u64) -> Reserve {
        let account = self.accounts.get_mut(&stream).expect("a stream joins before it reserves");
        let waited_for = account.waits_for.replace(bytes);
        assert!(waited_for.is_none_or(|before| before == bytes), "changed its mind in line");
        let others_are_first = !self.line.is_empty() && self.line.front() != Some(&stream);
        if !others_are_first && self.fits(stream, bytes) {
            self.charge(stream, bytes);
            self.line.retain(|waiting| *waiting != stream);
            return Reserve::Granted;
        }
        if waited_for.is_none() {
            self.line.push_back(stream);
        }
        // Those in front may all be over their share, and then this one need not wait for them.
        // Nobody else can be served here: one stream more has made no share larger.
        let granted = self.serve_line();
        assert!(granted.iter().all(|served| *served == stream), "somebody had waited for nothing");
        if granted.is_empty() { Reserve::Throttled } else { Reserve::Granted }
    }

    /// Takes a stream out of the line.
    pub fn cancel(&mut self, stream: StreamId) -> Vec<StreamId> {
        if let Some(account) = self.accounts.get_mut(&stream) {
            account.waits_for = None;
        }
        self.line.retain(|waiting| *waiting != stream);
        self.serve_line()
    }

    /// Gives back `bytes` of `stream` that are known to be clean, and names the streams that got
    /// what they waited for.
    ///
    /// # Panics
    /// When the stream gives back more than it has (invariant 2).
    pub fn release(&mut self, stream: StreamId, bytes: u64) -> Vec<StreamId> {
        let account = self.accounts.get_mut(&stream).expect("a stream joins before it releases");
        account.charged_bytes = account
            .charged_bytes
            .checked_sub(bytes)
            .expect("a stream never releases more than it was granted");
        self.charged_bytes -= bytes;
        self.serve_line()
    }

    /// Within the limit, and within the share; a stream that holds nothing always fits the latter,
    /// so that one large write can't wait for ever.
    fn fits(&self, stream: StreamId, bytes: u64) -> bool {
        let held = self.charged_bytes_of(stream);
        let room = self.charged_bytes.saturating_add(bytes) <= self.limit_bytes;
        room && (held == 0 || held + bytes <= self.share_bytes())
    }

    fn charge(&mut self, stream: StreamId, bytes: u64) {
        let account = self.accounts.get_mut(&stream).expect("only streams in the budget wait");
        account.waits_for = None;
        account.charged_bytes += bytes;
        self.charged_bytes += bytes;
        assert!(self.charged_bytes <= self.limit_bytes, "granted beyond the limit (invariant 1)");
    }

    fn serve_line(&mut self) -> Vec<StreamId> {
        let mut granted = Vec::new();
        let mut kept = VecDeque::with_capacity(self.line.len());
        // One that the limit keeps waiting keeps all behind it waiting too: otherwise many small
        // requests could pass a large one for ever.
        let mut limit_reached = false;
        while let Some(stream) = self.line.pop_front() {
            let bytes = self.accounts[&stream].waits_for.expect("only waiting streams are in line");
            if !limit_reached && self.fits(stream, bytes) {
                self.charge(stream, bytes);
                granted.push(stream);
            } else {
                limit_reached |= self.charged_bytes.saturating_add(bytes) > self.limit_bytes;
                kept.push_back(stream);
            }
        }
        self.line = kept;
        granted
    }
}

#[cfg(test)]
mod tests;
