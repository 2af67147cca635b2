//! What only root can set up: real file systems on loop devices, and disks that are slow or stand still.
//! `tests/root/loops.sh` mounts them and names them in `FREEMKVD_TEST_MOUNTS`, as `ext4=PATH,xfs=PATH,...`.
//!
//! They share few devices and the processors: `--test-threads=1`. `--nocapture` shows the figures.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::PathBuf;

mod access;
mod dirty;
mod disk;
mod doctor;
mod drains;
mod freeze;
mod full;
mod given_elsewhere;
mod given_silent;
mod group;
mod hook;
mod immutable;
mod kill_at;
mod liar;
mod lost;
mod memory;
mod no_space;
mod own_files;
mod paths;
mod place;
mod power_cut;
mod publish;
mod refusals;
mod removal;
mod silent;
mod storage;
mod support;
mod tasks;
mod turns;
mod watch;
mod wedged;
mod wedged_restart;
mod window;

const MIB: u64 = 1 << 20;

/// Where the file system of this name is mounted.
fn mount(name: &str) -> PathBuf {
    let mounts = std::env::var("FREEMKVD_TEST_MOUNTS").expect("run by tests/root/loops.sh");
    mounts
        .split(',')
        .find_map(|mount| mount.strip_prefix(&format!("{name}=")))
        .unwrap_or_else(|| panic!("no {name} in {mounts}"))
        .into()
}
