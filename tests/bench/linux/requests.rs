//! What the requests that a device gets say about a disk that has to seek. Pure.

/// Milliseconds that a disk of a NAS box takes for a seek, with the turn of the platter.
const SEEK_SECONDS: f64 = 0.008;
/// Bytes per second of the same disk on a long run, in the middle of the platter.
const RUN_BYTES_PER_SECOND: f64 = 180e6;
const MIB: f64 = 1_048_576.0;
const GIB: f64 = 1_073_741_824.0;
/// Bytes of the sectors that the kernel counts in, whatever the device has.
const SECTOR_BYTES: u64 = 512;

/// A write request, in sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) sector: u64,
    pub(crate) sectors: u64,
}

impl Request {
    /// From a line of the kernel's `block_rq_issue`; `None` for reads, flushes and other lines.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let (_, event) = line.split_once("block_rq_issue: ")?;
        // 7,0 WS 524288 () 2048 + 1024 none,0,0 [kworker/u8:1]
        let (head, rest) = event.split_once('(')?;
        let operation = head.split_whitespace().nth(1)?;
        if !operation.contains('W') {
            return None;
        }
        let (_, place) = rest.split_once(") ")?;
        let mut words = place.split_whitespace();
        let sector = words.next()?.parse().ok()?;
        let sectors = words.nth(1)?.parse().ok()?;
        (sectors > 0).then_some(Self { sector, sectors })
    }
}

/// The requests of one run of the benchmark.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Pattern {
    pub(crate) requests: u64,
    pub(crate) bytes: u64,
    /// Stretches without a seek in between.
    pub(crate) runs: u64,
}

impl Pattern {
    /// A seek is a request that does not continue the one before it.
    pub(crate) fn of(requests: impl IntoIterator<Item = Request>) -> Self {
        let mut pattern = Self::default();
        let mut expected = None;
        for request in requests {
            pattern.requests += 1;
            pattern.bytes += request.sectors * SECTOR_BYTES;
            pattern.runs += u64::from(expected != Some(request.sector));
            expected = Some(request.sector + request.sectors);
        }
        pattern
    }

    pub(crate) fn seeks_per_gib(&self) -> Option<f64> {
        (self.bytes > 0).then(|| self.runs as f64 / (self.bytes as f64 / GIB))
    }

    pub(crate) fn mean_run_mib(&self) -> Option<f64> {
        (self.runs > 0).then(|| self.bytes as f64 / MIB / self.runs as f64)
    }

    /// What a disk would make of it.
    pub(crate) fn model_mib_per_s(&self) -> Option<f64> {
        let seconds = self.runs as f64 * SEEK_SECONDS + self.bytes as f64 / RUN_BYTES_PER_SECOND;
        (seconds > 0.0).then(|| self.bytes as f64 / MIB / seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_kernel_are_understood() {
        let line = "   kworker/u8:2-98   [001] ...1.  12.3: block_rq_issue: 7,0 W 1310720 () \
                    4096 + 2560 none,0,0 [kworker/u8:2]";
        assert_eq!(Request::parse(line), Some(Request { sector: 4096, sectors: 2560 }));
        let older = "x-1 [000] 1.0: block_rq_issue: 7,0 WS 512 () 8 + 1 [jbd2/loop0-8]";
        assert_eq!(Request::parse(older), Some(Request { sector: 8, sectors: 1 }));
        for other in [
            "x-1 [000] 1.0: block_rq_issue: 7,0 R 4096 () 8 + 8 none,0,0 [x]",
            "x-1 [000] 1.0: block_rq_issue: 7,0 FF 0 () 0 + 0 none,0,0 [x]",
            "# tracer: nop",
            "x-1 [000] 1.0: block_rq_issue: 7,0",
        ] {
            assert_eq!(Request::parse(other), None, "{other}");
        }
    }

    #[test]
    fn a_seek_is_what_does_not_continue() {
        let mib = 2048;
        let request = |at: u64, len: u64| Request { sector: at * mib, sectors: len * mib };
        // Two files of two requests each, one after the other, and then taking turns.
        let whole = Pattern::of([request(0, 8), request(8, 8), request(100, 8), request(108, 8)]);
        let turns = Pattern::of([request(0, 8), request(100, 8), request(8, 8), request(108, 8)]);
        assert_eq!((whole.runs, turns.runs, whole.bytes, whole.requests), (2, 4, 32 << 20, 4));
        assert_eq!(whole.mean_run_mib(), Some(16.0));
        assert_eq!(turns.seeks_per_gib(), Some(128.0));
        assert!(whole.model_mib_per_s() > turns.model_mib_per_s());
        let long = Pattern { requests: 1, bytes: 1 << 40, runs: 1 };
        assert!((long.model_mib_per_s().unwrap() - 171.66).abs() < 0.1, "180 MB/s and no seek");
        assert_eq!(Pattern::default().model_mib_per_s(), None);
    }
}
