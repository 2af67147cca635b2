//! How far a stream has come, as a muxer is told.

/// How far the content of a stream has come. Bytes are content as it was handed over, patches
/// counted again; what is still in the patch window is in none of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes in the daemon's queue, or further. It goes back when the daemon is restarted: what it had
    /// only accepted is sent again.
    pub accepted_bytes: u64,
    /// Bytes handed to the kernel: they survive the daemon, not a power cut.
    pub written_bytes: u64,
    /// Bytes covered by an fsync that returned success.
    pub durable_bytes: u64,
    /// Frames sent to the daemon.
    pub frames_sent: u64,
    /// How often the stream went on with another connection, because the daemon was restarted or the
    /// connection was lost. Nothing of the content was lost by it.
    pub resumes: u64,
    /// How many of those found that the file had been closed in between. The kernel tells an error of
    /// writing back to whoever has the file open; one that struck while nobody had is not known to the
    /// daemon that came after. It syncs the whole file before it says *durable*, and a disk that goes on
    /// failing fails that. But an error that came and went in between may have been missed: if this is
    /// not 0, compare the file with its source where that matters.
    pub unwatched_restarts: u64,
    /// Memory that holds content which would be sent again after a restart, or waits to be sent, in bytes.
    /// It is part of the stream's memory limit, never more.
    pub kept_bytes: u64,
}

/// A file that is complete and durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished {
    /// The file's length in bytes.
    pub len_bytes: u64,
    /// The last word on its progress.
    pub progress: Progress,
}
