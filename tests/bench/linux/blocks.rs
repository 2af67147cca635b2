//! The requests that a disk gets, from the kernel's tracepoint. Root only.
//!
//! Owns an instance of the tracer, so that nobody else's tracing is in the way, or disturbed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::requests::{Pattern, Request};

/// For each processor. A request takes about 100 bytes, so this holds 40 000 of them.
const BUFFER_KIB: u32 = 4096;

/// Before the number of the process that made an instance.
const PREFIX: &str = "freemkvd-bench-";

/// A trace of one disk.
#[derive(Debug)]
pub(crate) struct Trace {
    instance: PathBuf,
}

impl Trace {
    /// `tracefs` is where that is mounted.
    pub(crate) fn new(tracefs: &Path, disk: (u32, u32)) -> io::Result<Self> {
        let instances = tracefs.join("instances");
        remove_orphans(&instances);
        let instance = instances.join(format!("{PREFIX}{}", std::process::id()));
        fs::create_dir(&instance)?;
        let trace = Self { instance };
        trace.set("buffer_size_kb", &BUFFER_KIB.to_string())?;
        // The kernel's own form of a device number.
        let number = (u64::from(disk.0) << 20) | u64::from(disk.1);
        trace.set("events/block/block_rq_issue/filter", &format!("dev == {number}"))?;
        Ok(trace)
    }

    /// Forgets what was, and begins.
    pub(crate) fn start(&self) -> io::Result<()> {
        self.set("trace", "")?;
        self.set("events/block/block_rq_issue/enable", "1")
    }

    /// Ends, and says what came; `None` when some of it was lost.
    pub(crate) fn stop(&self) -> io::Result<Option<Pattern>> {
        self.set("events/block/block_rq_issue/enable", "0")?;
        let text = fs::read_to_string(self.instance.join("trace"))?;
        Ok((!self.has_lost()?).then(|| Pattern::of(text.lines().filter_map(Request::parse))))
    }

    fn has_lost(&self) -> io::Result<bool> {
        for processor in fs::read_dir(self.instance.join("per_cpu"))? {
            let stats = fs::read_to_string(processor?.path().join("stats"))?;
            let lost = stats.lines().filter_map(|line| line.strip_prefix("overrun: "));
            if lost.into_iter().any(|count| count.trim() != "0") {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn set(&self, name: &str, value: &str) -> io::Result<()> {
        fs::write(self.instance.join(name), value)
    }
}

/// A benchmark that was killed can't remove its instance; no namespace does it for it.
fn remove_orphans(instances: &Path) {
    for entry in fs::read_dir(instances).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        if number.is_some_and(|number| !Path::new("/proc").join(number).exists()) {
            // If it can't be removed it is in nobody's way either.
            let _ = fs::remove_dir(entry.path());
        }
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.instance) {
            eprintln!("bench: {} stays: {error}", self.instance.display());
        }
    }
}
