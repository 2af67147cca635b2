//! What is measured of a run, and how it is shown.

use std::collections::BTreeMap;

use serde::Serialize;

/// One figure. Its name in JSON, with the unit last, is its own in lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Figure {
    /// All streams together, from the first call until the last write came back.
    InMbPerS,
    /// The same until everything was durable.
    DurableMbPerS,
    /// From the last write to durable, the slowest stream.
    SyncSeconds,
    /// How long write() took, over the calls of all streams.
    WriteP50Us,
    WriteP99Us,
    WriteP999Us,
    WriteMaxUs,
    /// Writers and daemon, not the kernel's own threads.
    CpuSecondsPerGib,
    CpuCores,
    /// What the largest writer took on top of what it had before it opened the file.
    WriterMib,
    /// What the daemon has for itself at its peak.
    DaemonMib,
    /// What that is more than before the first stream, for each stream.
    DaemonMibPerStream,
    /// Dirty and in writeback, as the kernel counts, at the worst sample.
    DirtyPeakMib,
    /// The daemon's limit for it.
    BudgetMib,
    /// Jain's index over the streams while all of them wrote.
    Jain,
    FramesSent,
    FramesPerTwoMinutes,
    SeeksSent,
    /// What the disk was asked to do.
    DiskSeeksPerGib,
    DiskRunMib,
    DiskModelMibPerS,
    /// Of the finished files.
    FragmentMib,
}

/// Heading and digits behind the point, in the order of the tables. What has none is in JSON only.
const COLUMNS: [(Figure, &str, usize); 19] = [
    (Figure::InMbPerS, "in MB/s", 0),
    (Figure::DurableMbPerS, "durable", 0),
    (Figure::SyncSeconds, "sync s", 2),
    (Figure::WriteP50Us, "p50 us", 1),
    (Figure::WriteP99Us, "p99 us", 0),
    (Figure::WriteP999Us, "p99.9 us", 0),
    (Figure::WriteMaxUs, "max us", 0),
    (Figure::CpuSecondsPerGib, "s/GiB", 2),
    (Figure::CpuCores, "cores", 2),
    (Figure::WriterMib, "writer", 0),
    (Figure::DaemonMib, "daemon", 0),
    (Figure::DirtyPeakMib, "dirty", 0),
    (Figure::Jain, "Jain", 3),
    (Figure::FramesSent, "frames", 0),
    (Figure::SeeksSent, "seeks", 0),
    (Figure::DiskSeeksPerGib, "seeks/GiB", 0),
    (Figure::DiskRunMib, "run", 1),
    (Figure::DiskModelMibPerS, "model", 0),
    (Figure::FragmentMib, "fragment", 1),
];

impl Figure {
    pub(crate) fn columns() -> impl Iterator<Item = (Self, &'static str, usize)> {
        COLUMNS.into_iter()
    }
}

/// The figures of one run. What could not be measured is missing.
pub(crate) type Figures = BTreeMap<Figure, f64>;

pub(crate) const MB: f64 = 1e6;
pub(crate) const MIB: f64 = 1_048_576.0;
pub(crate) const GIB: f64 = 1_073_741_824.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_end_with_their_unit() {
        let name = |figure: Figure| serde_json::to_string(&figure).unwrap();
        assert_eq!(name(Figure::DurableMbPerS), "\"durable_mb_per_s\"");
        assert_eq!(name(Figure::WriteP999Us), "\"write_p999_us\"");
        assert_eq!(name(Figure::CpuSecondsPerGib), "\"cpu_seconds_per_gib\"");
    }
}
