//! Muxers, as they look from below their client's patch window: frames of whole slots in file order, and
//! the few patches that go back farther than the window.
//!
//! Sizes, distances and rates are those of the muxers' traces. A UHD rip is sequential here, since all
//! but its last patches happen within the window; with the largest clusters one patch goes back 30 to 52
//! MiB at the end of each. A sweep has gaps, a patch pass nothing else.

use std::ops::Range;
use std::time::Duration;

use crate::device::time_of;
use crate::queue::{End, Job, Sender};
use crate::random::Random;

const MIB: u64 = 1 << 20;

/// Longest frame of a client.
const FRAME_BYTES: u64 = 4 << 20;

/// What a muxer does with its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Head to tail, then patches of the head and a new tail.
    Sequential,
    /// The same, and a patch after every cluster of so many MiB.
    Clusters(u64),
    /// A disc: blocks of 64 KiB in frames of a slot, with gaps; its length is known before.
    Sweep,
    /// 2 to 64 KiB anywhere, with pauses.
    Patches,
    /// A hole for the index in front, filled at the end.
    Mp4,
}

/// How it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Finished,
    /// After so many percent.
    Gone(u64),
    /// After so many percent.
    Aborted(u64),
}

/// One muxer.
#[derive(Clone, Copy, Debug)]
pub struct Muxer {
    pub kind: Kind,
    pub bytes: u64,
    /// `None` is as fast as it can.
    pub bytes_per_second: Option<u64>,
    /// Pauses, of so many percent of its frames.
    pub pauses: u64,
    /// How many percent of its frames are followed by a sync.
    pub syncs: u64,
    pub ending: Ending,
}

/// One at work.
pub struct Work {
    pub sender: Sender,
    pub muxer: Muxer,
    pub random: Random,
    pub sent_bytes: u64,
    /// When the next frame is due.
    pub due: Duration,
}

/// The muxer is gone.
struct Over;

impl Work {
    pub fn new(sender: Sender, muxer: Muxer, random: Random) -> Self {
        let due = sender.task.now();
        Self { sender, muxer, random, sent_bytes: 0, due }
    }

    /// All that it does.
    pub async fn run(mut self) {
        if self.write_file().await.is_ok() {
            self.sender.push(Job::Finish).await;
        }
    }

    async fn write_file(&mut self) -> Result<(), Over> {
        let len = self.muxer.bytes;
        match self.muxer.kind {
            Kind::Sequential => self.sequential(0..len).await?,
            Kind::Clusters(cluster_mib) => self.clusters(cluster_mib * MIB).await?,
            Kind::Sweep => return self.sweep().await,
            Kind::Patches => return self.patches().await,
            Kind::Mp4 => {
                self.sequential(8 * MIB..8 * MIB + len).await?;
                let moov = self.random.between(MIB, 8 * MIB - 8);
                return self.sequential(32..moov).await;
            }
        }
        // Cues, tags, and what the head of the file says of them.
        let tail = self.random.between(1000, 200_000);
        self.sequential(len..len + tail).await?;
        for _ in 0..self.random.between(2, 6) {
            let at = self.random.between(60, 5000);
            self.frame(at..at + 8).await?;
        }
        Ok(())
    }

    async fn sequential(&mut self, range: Range<u64>) -> Result<(), Over> {
        let mut at = range.start;
        while at < range.end {
            let end = range.end.min((at + FRAME_BYTES) / MIB * MIB);
            self.frame(at..end).await?;
            at = end;
        }
        Ok(())
    }

    async fn clusters(&mut self, cluster_bytes: u64) -> Result<(), Over> {
        let mut at = 0;
        while at < self.muxer.bytes {
            let end = self.muxer.bytes.min(at + cluster_bytes);
            self.sequential(at..end).await?;
            self.frame(at + 5..at + 13).await?;
            at = end;
        }
        Ok(())
    }

    async fn sweep(&mut self) -> Result<(), Over> {
        self.sender.push(Job::SetLen(self.muxer.bytes)).await;
        let mut at = 0;
        while at < self.muxer.bytes {
            let block = if self.random.percent(5) { 64 << 10 } else { MIB };
            let end = self.muxer.bytes.min(at + block);
            self.frame(at..end).await?;
            at = end;
            if self.random.percent(1) {
                at += self.random.between(1, 64) * MIB;
                self.rest(20, 2000).await;
            }
        }
        Ok(())
    }

    async fn patches(&mut self) -> Result<(), Over> {
        let mut left = self.muxer.bytes;
        while left > 0 {
            let len = self.random.between(1, 32) * 2048;
            let at = self.random.below(self.muxer.bytes * 16) / 2048 * 2048;
            self.frame(at..at + len).await?;
            left = left.saturating_sub(len.max(256 << 10));
            if self.random.percent(20) {
                self.rest(10, 3000).await;
            }
        }
        Ok(())
    }

    async fn rest(&mut self, low_ms: u64, high_ms: u64) {
        let time = self.random.ms(low_ms, high_ms);
        self.sender.task.sleep(time).await;
        self.due = self.due.max(self.sender.task.now());
    }

    /// Hands over one frame, when it is due.
    async fn frame(&mut self, range: Range<u64>) -> Result<(), Over> {
        let len = range.end - range.start;
        if let Some(bytes_per_second) = self.muxer.bytes_per_second {
            self.sender.task.sleep_until(self.due).await;
            self.due += time_of(len, bytes_per_second);
        }
        self.sender.push(Job::Write(range)).await;
        self.sent_bytes += len;
        if self.random.percent(self.muxer.syncs) {
            self.sender.push(Job::Sync).await;
            self.sender.settle().await;
        }
        if self.random.percent(self.muxer.pauses) {
            self.rest(500, 8000).await;
        }
        let (part, end) = match self.muxer.ending {
            Ending::Finished => return Ok(()),
            Ending::Gone(part) => (part, End::ClientGone),
            Ending::Aborted(part) => (part, End::Aborted),
        };
        if self.sent_bytes * 100 >= self.muxer.bytes * part {
            self.sender.end(end);
            return Err(Over);
        }
        Ok(())
    }
}
