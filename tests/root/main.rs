//! What only root can set up: real file systems on loop devices. `tests/root/loops.sh` mounts them
//! and names them in `FREEMKVD_TEST_MOUNTS`, as `ext4=PATH,xfs=PATH,...`.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "tests")]

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use freemkvd_client::Error;
use freemkvd_tests::daemon::Daemon;
use freemkvd_tests::trace::{Kind, Trace};
use freemkvd_tests::verify::verify;

mod liar;
mod storage;

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

/// A rip comes out right under a small budget, its reserved surplus is given back, and the drain is
/// the one that works there.
fn a_rip_comes_out_right_on(name: &str, filesystem: &str, drain: &str) {
    let dir = tempfile::tempdir_in(mount(name)).unwrap();
    let daemon = Daemon::start(dir.path(), "[budget]\ntotal = \"16MiB\"\n");
    let path = dir.path().join("film.mkv");
    let trace = Trace { kind: Kind::Bd, seed: 7, content_seconds: 30.0 };
    let mut file = daemon.options().size_hint(300 * MIB).create(&path).unwrap();
    trace.run_unbuffered(&mut file, &mut |_| ()).unwrap();
    let seen = daemon.wait_for("the stream's device", |status| status.devices.len() == 1);
    let device = &seen.devices[0];
    assert_eq!((device.filesystem.as_str(), device.drain.as_str()), (filesystem, drain));
    assert!(dir.path().starts_with(&device.mount), "{device:?}");
    assert!(seen.budget.charged_bytes <= seen.budget.limit_bytes, "{seen:?}");
    file.finish().unwrap();
    assert_eq!(verify(&trace, &path).unwrap(), std::fs::metadata(&path).unwrap().len());
    // btrfs and overlayfs round up generously; 300 MiB were reserved for 120.
    let metadata = std::fs::metadata(&path).unwrap();
    let taken = metadata.blocks() * 512;
    assert!(taken < metadata.len() + 8 * MIB, "{taken} bytes taken for {}", metadata.len());
    assert_eq!(daemon.status().budget.charged_bytes, 0);
    let (status, _) = daemon.stop();
    assert!(status.success());
}

#[test]
#[ignore = "needs root: loop devices"]
fn a_rip_comes_out_right_on_ext4() {
    a_rip_comes_out_right_on("ext4", "ext4", "sync_file_range");
}

#[test]
#[ignore = "needs root: loop devices"]
fn a_rip_comes_out_right_on_xfs() {
    a_rip_comes_out_right_on("xfs", "xfs", "sync_file_range");
}

#[test]
#[ignore = "needs root: loop devices"]
fn a_rip_comes_out_right_on_btrfs() {
    a_rip_comes_out_right_on("btrfs", "btrfs", "sync_file_range");
}

#[test]
#[ignore = "needs root: an overlay mount"]
fn a_rip_comes_out_right_on_overlayfs() {
    a_rip_comes_out_right_on("overlay", "overlay", "fdatasync");
}

#[test]
#[ignore = "needs root: a FUSE mount"]
fn a_rip_comes_out_right_on_mergerfs() {
    a_rip_comes_out_right_on("fuse", "fuse.mergerfs", "fdatasync");
}

#[test]
#[ignore = "needs root: several mounts"]
fn the_drain_is_that_of_the_mount_and_not_of_the_name() {
    let ext4 = mount("ext4");
    let dir = tempfile::tempdir_in(&ext4).unwrap();
    let daemon = Daemon::start(ext4.parent().unwrap(), "");
    // By its text it begins on the tmpfs, and that one drains nothing.
    let inside = dir.path().strip_prefix(ext4.parent().unwrap()).unwrap();
    let path = mount("tmpfs").join("..").join(inside).join("film.mkv");
    let mut file = daemon.options().create(&path).unwrap();
    file.write_all(b"film").unwrap();
    file.flush().unwrap();
    let device = &daemon.status().devices[0];
    assert_eq!((device.filesystem.as_str(), device.drain.as_str()), ("ext4", "sync_file_range"));
    file.finish().unwrap();
}

/// Writes until it is told that there is no more space, and returns what it was told.
fn fill(daemon: &Daemon, path: &Path) -> Error {
    let mut file = daemon.options().create(path).unwrap();
    let piece = vec![7; 1 << 20];
    let error = loop {
        if let Err(error) = file.write_all(&piece) {
            break error;
        }
        assert!(file.progress().accepted_bytes < 1 << 30, "the file system never got full");
    };
    let first = Error::inside(&error).unwrap().clone();
    // Latched: whatever is called afterwards says the same.
    let again = file.flush().unwrap_err();
    assert_eq!(Error::inside(&again).unwrap().errno(), first.errno());
    let last = file.finish().unwrap_err();
    assert_eq!(Error::inside(&last).unwrap().offset(), first.offset());
    first
}

#[test]
#[ignore = "needs root: a tmpfs of limited size"]
fn a_full_file_system_is_told_with_errno_offset_and_path() {
    let dir = tempfile::tempdir_in(mount("tmpfs")).unwrap();
    let daemon = Daemon::start(dir.path(), "");
    let path = dir.path().join("film.mkv");
    let error = fill(&daemon, &path);
    assert_eq!(error.errno(), Some(28), "{error}");
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    assert!(error.offset().is_some() && error.to_string().contains("film.mkv"), "{error}");
    let seen = daemon.wait_for("the failed stream", |status| {
        status.streams.iter().any(|stream| stream.error.is_some())
    });
    assert_eq!(seen.streams[0].error.as_ref().unwrap().errno, Some(28));
    assert!(seen.is_degraded());
    // What was said to be written is there.
    let len = std::fs::metadata(&path).unwrap().len();
    assert!(len >= error.offset().unwrap(), "{len} bytes, {error}");
}

#[test]
#[ignore = "needs root: loop devices"]
fn a_read_only_file_system_is_refused_as_such() {
    let mount = mount("ext4");
    let dir = tempfile::tempdir_in(&mount).unwrap();
    let daemon = Daemon::start(dir.path(), "");
    let remount = |how: &str| {
        let options = format!("remount,{how}");
        let status = Command::new("mount").args(["-o", &options]).arg(&mount).status().unwrap();
        assert!(status.success());
    };
    remount("ro");
    let result = daemon.options().create(dir.path().join("film.mkv"));
    remount("rw");
    let error = result.unwrap_err();
    assert_eq!(error.errno(), Some(30), "{error}");
    assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    assert!(error.to_string().contains("film.mkv"), "{error}");
}
