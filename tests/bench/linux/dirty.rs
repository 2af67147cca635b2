//! How much is dirty or in writeback at this moment, as the kernel counts it.

use std::fs;
use std::path::PathBuf;

use freemkvd::storage::{Creation, Disk, Open, Storage};
use freemkvd_proto::OpenMode;
use serde::Serialize;

use super::kernel;

/// Who is asked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Source {
    /// The device's own counters, at this path: no one else uses it.
    Device(PathBuf),
    /// `cachestat` of the files that are written: others use the device too.
    Files,
    /// The whole host, less what there was before.
    Host,
    /// Nobody: memory is all there is.
    Nothing,
}

/// What was asked in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Asked {
    Device,
    Files,
    Host,
    Nobody,
}

/// Asks, again and again.
pub(crate) struct Gauge {
    source: Source,
    /// Opened once they are there.
    files: Vec<(PathBuf, Option<Box<dyn Storage>>)>,
    before_bytes: u64,
}

impl Gauge {
    /// For files that will be at `paths`. What is dirty now does not count, unless the device is ours.
    pub(crate) fn new(source: Source, paths: &[PathBuf]) -> Self {
        let before_bytes = kernel::host_dirty_bytes().unwrap_or(0);
        Self {
            source,
            files: paths.iter().map(|path| (path.clone(), None)).collect(),
            before_bytes,
        }
    }

    pub(crate) fn asked(&self) -> Asked {
        match self.source {
            Source::Device(_) => Asked::Device,
            Source::Files => Asked::Files,
            Source::Host => Asked::Host,
            Source::Nothing => Asked::Nobody,
        }
    }

    pub(crate) fn bytes(&mut self) -> Option<u64> {
        match &self.source {
            Source::Device(path) => {
                let table = fs::read_to_string(path).ok()?;
                let part = |name| kernel::kib_bytes(&table, name);
                Some(part("BdiReclaimable:")? + part("BdiWriteback:")?)
            }
            Source::Files => {
                let sum = self.files_bytes();
                if sum.is_none() {
                    // A kernel, or a file system, that does not tell.
                    self.source = Source::Host;
                }
                sum
            }
            Source::Host => Some(kernel::host_dirty_bytes()?.saturating_sub(self.before_bytes)),
            Source::Nothing => None,
        }
    }

    fn files_bytes(&mut self) -> Option<u64> {
        let mut sum = 0;
        for (path, file) in &mut self.files {
            if file.is_none() {
                let roots = [path.parent()?.to_owned()];
                let opened = Disk.open(&roots, path, OpenMode::Existing, Creation::default());
                *file = opened.ok().map(|opened| opened.storage);
            }
            if let Some(file) = file {
                // A stacked file system tells of pages that are never there.
                let told = file.pages(0..i64::MAX.unsigned_abs());
                let pages = told.filter(|_| file.abilities().trusted_by_range)?;
                sum += pages.dirty_bytes + pages.writeback_bytes;
            }
        }
        Some(sum)
    }
}
