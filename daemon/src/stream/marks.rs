//! The three watermarks of one stream.
//!
//! Invariants, asserted: none goes back, and `durable <= written <= accepted`.

use freemkvd_proto::{Mark, Progress};

/// Accepted, written, durable.
#[derive(Clone, Copy, Debug, Default)]
pub struct Marks {
    progress: Progress,
}

impl Marks {
    /// Those of a stream that goes on where its client knows it to be.
    ///
    /// # Panics
    /// When more is durable than written; whoever decodes them has to look.
    #[must_use]
    pub fn resumed(written: Mark, durable: Mark) -> Self {
        assert!(durable.sequence <= written.sequence && durable.bytes <= written.bytes);
        Self { progress: Progress { accepted: written, written, durable } }
    }

    /// All three.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// The command `sequence` is in the queue, with `bytes` of content.
    pub fn accept(&mut self, sequence: u64, bytes: u64) {
        let accepted = &mut self.progress.accepted;
        assert!(sequence >= accepted.sequence, "accepted went back");
        *accepted = Mark { sequence, bytes: accepted.bytes + bytes };
    }

    /// Every command up to `sequence` was handed to the kernel, `bytes` of content more.
    pub fn write(&mut self, sequence: u64, bytes: u64) {
        let Progress { accepted, written, .. } = &mut self.progress;
        assert!(sequence >= written.sequence, "written went back");
        *written = Mark { sequence, bytes: written.bytes + bytes };
        assert!(written.sequence <= accepted.sequence && written.bytes <= accepted.bytes);
    }

    /// What was written when `covered` was taken is durable now.
    pub fn make_durable(&mut self, covered: Mark) {
        let Progress { written, durable, .. } = &mut self.progress;
        assert!(covered.sequence >= durable.sequence, "durable went back");
        assert!(covered.sequence <= written.sequence && covered.bytes <= written.bytes);
        *durable = covered;
    }
}
