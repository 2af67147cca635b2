//! The process' table of descriptors: how many there may be, and who has a claim to how many of them. A
//! stream that would run out of them in the middle of a rip is refused when it is opened.
//!
//! 1. A stream claims for its whole life all that its thread ever has open at once, also for a moment.
//! 2. All claims together never exceed the limit. The streams of the daemon before are the exception: they
//!    are there, and it is new ones that have to wait.
//! 3. The last `RESERVE` are for connections alone, so that status, and muxers that come back, are
//!    answered also when no stream can be opened any more.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use freemkvd_proto::limits::DESCRIPTORS_MAX;

/// A stream's file: data, sentinel, direct, directory. And three that its thread has for a moment, while it
/// looks up a mount or a thread, changes the ledger, or tells systemd.
const PER_STREAM: u64 = 4 + 3;

/// A connection's socket.
const PER_CONNECTION: u64 = 1;

/// What may come with the first frame of a connection, until that was looked at.
pub const WITH_FIRST_FRAME: u8 = 4;

const _: () = assert!(WITH_FIRST_FRAME as usize >= DESCRIPTORS_MAX, "all that there is a use for");

/// See rule 3: half a dozen clients that come at the same moment.
const RESERVE: u64 = 32;

/// What the process has open beside that, for a moment: figures of the kernel, the configuration, the
/// notifications to systemd, long messages to the journal.
const FOR_A_MOMENT: u64 = 16;

/// See the module's documentation.
#[derive(Debug)]
pub struct Table {
    /// `u64::MAX` where there is no limit.
    limit: u64,
    /// What is open for the process itself.
    own: u64,
    claimed: Mutex<u64>,
}

/// Descriptors that somebody may open, given back when this is dropped.
#[derive(Debug)]
pub struct Claim {
    table: Arc<Table>,
    count: AtomicU64,
}

/// Why there are none for another stream.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "freemkvd has no descriptors for another stream: it may have {limit} open files, {claimed} of them are \
     taken or set aside, and a stream needs {PER_STREAM} beside the {RESERVE} that are kept for clients; raise \
     LimitNOFILE= of its unit (or ulimit -n) and restart it, or wait until a stream has ended"
)]
pub struct Full {
    limit: u64,
    claimed: u64,
}

impl Table {
    /// A table of at most `limit`, of which the process itself has `open` already.
    #[must_use]
    pub fn new(limit: Option<u64>, open: u64) -> Arc<Self> {
        let limit = limit.unwrap_or(u64::MAX);
        Arc::new(Self { limit, own: open + FOR_A_MOMENT, claimed: Mutex::default() })
    }

    /// How many there may be, and how many so many connections and streams may need together.
    #[must_use]
    pub fn limit_and_need(&self, connections: u32, streams: u32) -> (u64, u64) {
        let connections = u64::from(connections) * PER_CONNECTION;
        (self.limit, self.own + RESERVE + connections + u64::from(streams) * PER_STREAM)
    }

    /// The least that is of any use: for one stream, its connection, and those who ask what it does.
    #[must_use]
    pub fn least(&self) -> u64 {
        self.limit_and_need(1 + u32::from(WITH_FIRST_FRAME), 1).1
    }

    /// Those of a new stream; its connection has a claim of its own.
    ///
    /// # Errors
    /// [`Full`].
    pub fn for_stream(self: &Arc<Self>) -> Result<Claim, Full> {
        self.claim(PER_STREAM, RESERVE)
    }

    /// Those of a stream that the daemon before had open.
    #[must_use]
    pub fn for_stream_of_before(self: &Arc<Self>) -> Claim {
        *self.lock() += PER_STREAM;
        Claim { table: Arc::clone(self), count: AtomicU64::new(PER_STREAM) }
    }

    /// Those of a connection and what comes with its first frame.
    ///
    /// # Errors
    /// [`Full`]; a connection that was accepted is to be closed at once.
    pub fn for_connection(self: &Arc<Self>) -> Result<Claim, Full> {
        self.claim(PER_CONNECTION + u64::from(WITH_FIRST_FRAME), 0)
    }

    /// That of a connection that is closed at once: it is there, whatever the limit is.
    #[must_use]
    pub fn for_one_too_many(self: &Arc<Self>) -> Claim {
        *self.lock() += PER_CONNECTION;
        Claim { table: Arc::clone(self), count: AtomicU64::new(PER_CONNECTION) }
    }

    fn claim(self: &Arc<Self>, count: u64, reserve: u64) -> Result<Claim, Full> {
        let mut claimed = self.lock();
        let taken = *claimed + self.own;
        if taken.saturating_add(count + reserve) > self.limit {
            return Err(Full { limit: self.limit, claimed: taken });
        }
        *claimed += count;
        Ok(Claim { table: Arc::clone(self), count: AtomicU64::new(count) })
    }

    /// How many are claimed.
    #[must_use]
    pub fn claimed(&self) -> u64 {
        *self.lock()
    }

    fn lock(&self) -> MutexGuard<'_, u64> {
        self.claimed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Claim {
    /// So many are open: whatever the limit is, they count. No peer can pass more than that at once, and the next
    /// connection is one too many.
    pub fn cover(&self, open: u64) {
        let before = self.count.fetch_max(open, Ordering::Relaxed);
        *self.table.lock() += open.saturating_sub(before);
    }

    /// The part of a connection's claim that is for what comes with its first frame: it lasts until all of that
    /// is closed, or somebody else's. The second time it is none.
    #[must_use]
    pub fn for_first_frame(&self) -> Self {
        let before = self.count.swap(PER_CONNECTION, Ordering::Relaxed);
        Self { table: Arc::clone(&self.table), count: AtomicU64::new(before - PER_CONNECTION) }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        *self.table.lock() -= self.count.load(Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Room for exactly three streams, each with its connection.
    fn table() -> Arc<Table> {
        let need = Table::new(None, 10).limit_and_need(3, 3).1;
        Table::new(Some(need + u64::from(WITH_FIRST_FRAME)), 10)
    }

    fn open(table: &Arc<Table>) -> Result<(Claim, Claim), Full> {
        let connection = table.for_connection()?;
        let stream = table.for_stream()?;
        drop(connection.for_first_frame());
        Ok((connection, stream))
    }

    #[test]
    fn as_many_streams_as_fit_and_one_more_when_one_has_ended() {
        let table = table();
        let mut open_ones: Vec<_> = (0..3).map(|_| open(&table).unwrap()).collect();
        let full = open(&table).unwrap_err();
        assert!(full.to_string().contains("LimitNOFILE="), "{full}");
        open_ones.pop();
        open_ones.push(open(&table).unwrap());
        drop(open_ones);
        assert_eq!(table.claimed(), 0, "all of it was given back");
    }

    #[test]
    fn connections_are_served_when_no_stream_can_be_opened() {
        let table = table();
        let _streams: Vec<_> = (0..3).map(|_| open(&table).unwrap()).collect();
        let connections: Vec<_> = std::iter::from_fn(|| table.for_connection().ok()).collect();
        assert_eq!(connections.len(), 7);
        let came: Vec<_> = connections.iter().map(Claim::for_first_frame).collect();
        assert!(table.for_connection().is_err(), "what came with them is not closed yet");
        drop(came);
        assert!(table.for_connection().is_ok(), "their first frames are over");
    }

    #[test]
    fn streams_of_before_are_there_whatever_the_limit_is_now() {
        let table = Table::new(Some(20), 3);
        let claims: Vec<_> = (0..9).map(|_| table.for_stream_of_before()).collect();
        assert!(table.for_stream().is_err() && table.for_connection().is_err());
        drop(claims);
        assert_eq!(table.claimed(), 0);
    }

    #[test]
    fn without_a_limit_there_are_always_enough() {
        let table = Table::new(None, 10);
        assert_eq!((0..100_000).filter_map(|_| table.for_stream().ok()).count(), 100_000);
    }
}
