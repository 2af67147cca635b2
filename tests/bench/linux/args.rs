//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use freemkvd::config::Size;

use super::contender::Contender;
use super::place::PlaceName;
use super::workload::Workload;

/// freemkvd beside what muxers do without it: speed, latency, CPU, memory, dirty pages, and what the
/// device gets to do. Contenders take turns, run by run; figures are medians.
#[derive(Debug, Parser)]
#[command(name = "bench")]
pub(crate) struct Args {
    /// Who takes part
    #[arg(long, value_delimiter = ',', value_name = "NAMES", default_values_t = Contender::USUAL)]
    pub(crate) contenders: Vec<Contender>,
    /// What is written; "all" for all of them
    #[arg(long, value_delimiter = ',', value_name = "NAMES", default_values_t = Workload::USUAL)]
    pub(crate) workloads: Vec<Workload>,
    /// Where: tmpfs, local, or ext4, xfs, btrfs, overlay or fuse on a loop device of its own, which
    /// "-40" throttles to 40 MB/s (root only). "all": tmpfs, local, and each of them at 40 and 150
    #[arg(long, value_delimiter = ',', value_name = "PLACES", default_value = "all")]
    pub(crate) places: Vec<PlaceName>,
    /// Bytes that a run writes, all streams together
    #[arg(long, default_value = "1GiB")]
    pub(crate) size: Size,
    /// A run on a throttled device writes no more than this many seconds take
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub(crate) seconds: u32,
    /// Bytes of a write of the sequential workloads
    #[arg(long, value_name = "SIZE", default_value = "4MiB")]
    pub(crate) write_size: Size,
    /// Runs of each contender
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) repeats: u32,
    /// The daemon's budget.total
    #[arg(long, default_value = "auto")]
    pub(crate) budget: String,
    /// Directory on the local disk, also for the images of loop devices; the build directory if not
    /// given
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Compare the content of every file with what was written
    #[arg(long)]
    pub(crate) verify: bool,
    /// A look at whether it works: one short run of a few workloads on tmpfs and the local disk
    #[arg(long, conflicts_with_all = ["repeats", "places", "workloads"])]
    pub(crate) quick: bool,
    /// Write everything that was measured here
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) role: Option<Role>,
}

/// What this process is.
#[derive(Debug, Subcommand)]
pub(crate) enum Role {
    /// One stream of one run
    #[command(hide = true)]
    Writer {
        /// What to write, as JSON
        spec: String,
    },
}

impl Args {
    pub(crate) fn places(&self) -> Vec<PlaceName> {
        let asked = if self.quick { &PlaceName::ROOTLESS[..] } else { &self.places[..] };
        let mut places: Vec<_> = asked.iter().flat_map(|name| name.expand()).collect();
        dedup(&mut places);
        places
    }

    pub(crate) fn workloads(&self) -> Vec<Workload> {
        let asked = if self.quick { &Workload::QUICK[..] } else { &self.workloads[..] };
        let mut workloads: Vec<_> = asked.iter().flat_map(|workload| workload.expand()).collect();
        dedup(&mut workloads);
        workloads
    }

    pub(crate) fn repeats(&self) -> u32 {
        if self.quick { 1 } else { self.repeats }
    }

    /// Bytes of a run on a device of this speed.
    pub(crate) fn size_bytes(&self, bytes_per_second: Option<u64>) -> u64 {
        let size = if self.quick { self.size.0.min(128 << 20) } else { self.size.0 };
        let most = bytes_per_second.map(|rate| rate * u64::from(self.seconds.max(1)));
        most.map_or(size, |most| size.min(most)).max(1 << 20)
    }
}

/// Keeps the first of equals.
fn dedup<T: PartialEq + Clone>(all: &mut Vec<T>) {
    let mut kept: Vec<T> = Vec::new();
    for one in all.drain(..) {
        if !kept.contains(&one) {
            kept.push(one);
        }
    }
    *all = kept;
}
