//! How far a stream has come, as a muxer is told.

/// How far the content of a stream has come. Bytes are content as it was handed over, patches
/// counted again; what is still in the patch window is in none of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes in the daemon's queue, or further.
    pub accepted_bytes: u64,
    /// Bytes handed to the kernel: they survive the daemon, not a power cut.
    pub written_bytes: u64,
    /// Bytes covered by an fsync that returned success.
    pub durable_bytes: u64,
    /// Frames sent to the daemon.
    pub frames_sent: u64,
}

/// A file that is complete and durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished {
    /// The file's length in bytes.
    pub len_bytes: u64,
    /// The last word on its progress.
    pub progress: Progress,
}
