//! By which means the pages of a file are written back: the best that works there, or what the
//! configuration says. The file is right in any case.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use freemkvd_tests::daemon::Daemon;
use freemkvd_tests::pattern;
use freemkvd_tests::trace::{Kind, Trace};
use freemkvd_tests::verify::verify;

use super::support::{write_patched, write_pattern};
use super::{MIB, mount};

/// The rungs in use on the only device.
fn drain(daemon: &Daemon) -> String {
    let status = daemon.status();
    assert_eq!(status.devices.len(), 1, "{status:?}");
    status.devices[0].drain.clone()
}

/// What the log says of rungs that were left.
fn steps(log: &str) -> Vec<&str> {
    log.lines().filter(|line| line.contains("the drain of ")).collect()
}

/// What a file system is called, and what its files end on.
struct Wanted {
    mount: &'static str,
    filesystem: &'static str,
    drain: &'static str,
    /// The steps to it, as they are logged.
    steps: &'static [&'static str],
    content_seconds: f64,
    size_hint_bytes: u64,
}

const EXT4: Wanted = Wanted {
    mount: "ext4",
    filesystem: "ext4",
    drain: "dontcache",
    steps: &[],
    content_seconds: 30.0,
    size_hint_bytes: 300 * MIB,
};

/// A rip comes out right under a small budget, its reserved surplus is given back, and the drain is
/// the best one that works there; the way to it is logged once, also when there are two files.
fn a_rip_comes_out_right_on(wanted: &Wanted) {
    let dir = tempfile::tempdir_in(mount(wanted.mount)).unwrap();
    let daemon = Daemon::start(dir.path(), "[budget]\ntotal = \"16MiB\"\n");
    let options = daemon.options().daemon_window_bytes(0);
    let path = dir.path().join("film.mkv");
    let trace = Trace { kind: Kind::Bd, seed: 7, content_seconds: wanted.content_seconds };
    let mut file = options.clone().size_hint(wanted.size_hint_bytes).create(&path).unwrap();
    trace.run_unbuffered(&mut file, &mut |_| ()).unwrap();
    let seen = daemon.wait_for("the stream's device", |status| status.devices.len() == 1);
    let device = &seen.devices[0];
    let mount = device.mount.as_deref().unwrap();
    let filesystem = device.filesystem.as_deref();
    assert_eq!((filesystem, &*device.drain), (Some(wanted.filesystem), wanted.drain));
    assert!(dir.path().starts_with(mount), "{device:?}");
    assert!(seen.budget.charged_bytes <= seen.budget.limit_bytes, "{seen:?}");
    let mut second = options.create(dir.path().join("second.mkv")).unwrap();
    write_pattern(&mut second, 1, 0, 16 * MIB).unwrap();
    second.flush().unwrap();
    assert_eq!(drain(&daemon), wanted.drain);
    second.finish().unwrap();
    file.finish().unwrap();
    assert_eq!(verify(&trace, &path).unwrap(), std::fs::metadata(&path).unwrap().len());
    // btrfs and overlayfs round up generously; much more was reserved than written.
    let metadata = std::fs::metadata(&path).unwrap();
    let taken = metadata.blocks() * 512;
    assert!(taken < metadata.len() + 8 * MIB, "{taken} bytes taken for {}", metadata.len());
    assert_eq!(daemon.status().budget.charged_bytes, 0);
    let (status, log) = daemon.stop();
    assert!(status.success());
    let steps = steps(&log);
    assert_eq!(steps.len(), wanted.steps.len(), "{log}");
    for (line, step) in steps.iter().zip(wanted.steps) {
        assert!(line.contains(&format!("the drain of {mount} is {step}: ")), "{line}");
    }
}

#[test]
#[ignore = "needs root: loop devices"]
fn a_rip_comes_out_right_on_ext4() {
    a_rip_comes_out_right_on(&EXT4);
}

#[test]
#[ignore = "needs root: loop devices"]
fn a_rip_comes_out_right_on_xfs() {
    a_rip_comes_out_right_on(&Wanted { mount: "xfs", filesystem: "xfs", ..EXT4 });
}

#[test]
#[ignore = "needs root: loop devices"]
fn a_rip_comes_out_right_on_btrfs() {
    a_rip_comes_out_right_on(&Wanted {
        mount: "btrfs",
        filesystem: "btrfs",
        drain: "sync_file_range",
        steps: &["sync_file_range instead of dontcache"],
        ..EXT4
    });
}

#[test]
#[ignore = "needs root: an overlay mount"]
fn a_rip_comes_out_right_on_overlayfs() {
    a_rip_comes_out_right_on(&Wanted {
        mount: "overlay",
        filesystem: "overlay",
        drain: "fdatasync",
        steps: &["sync_file_range instead of dontcache", "fdatasync instead of sync_file_range"],
        ..EXT4
    });
}

#[test]
#[ignore = "needs root: a FUSE mount"]
fn a_rip_comes_out_right_on_fuse() {
    a_rip_comes_out_right_on(&Wanted {
        mount: "fuse",
        filesystem: "fuse.mergerfs",
        drain: "fdatasync",
        ..EXT4
    });
}

#[test]
#[ignore = "needs root: a tmpfs of limited size"]
fn a_rip_comes_out_right_on_tmpfs() {
    a_rip_comes_out_right_on(&Wanted {
        mount: "tmpfs",
        filesystem: "tmpfs",
        drain: "none",
        content_seconds: 6.0,
        size_hint_bytes: 36 * MIB,
        ..EXT4
    });
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
    let told = (device.filesystem.as_deref(), device.drain.as_str());
    assert_eq!(told, (Some("ext4"), "sync_file_range"));
    file.finish().unwrap();
}

#[test]
#[ignore = "needs root: loop devices"]
fn a_stream_with_far_patches_keeps_its_pages_and_one_without_does_not() {
    let dir = tempfile::tempdir_in(mount("ext4")).unwrap();
    let daemon = Daemon::start(dir.path(), "");
    let options = daemon.options().window_bytes(MIB);
    let (patched, plain) = (dir.path().join("patched.mkv"), dir.path().join("plain.mkv"));
    let (len, mut seen) = (280 * MIB + 777, 0);
    let mut file = options.create(&patched).unwrap();
    write_patched(&mut file, 1, len, || {
        assert_eq!(drain(&daemon), "sync_file_range");
        seen += 1;
    })
    .unwrap();
    assert_eq!(seen, 8);
    // Twice the window without a patch is what makes the difference.
    let mut other = options.create(&plain).unwrap();
    write_pattern(&mut other, 2, 0, 100 * MIB).unwrap();
    other.flush().unwrap();
    assert_eq!(drain(&daemon), "sync_file_range");
    write_pattern(&mut other, 2, 100 * MIB, len).unwrap();
    other.flush().unwrap();
    assert_eq!(drain(&daemon), "dontcache+sync_file_range");
    file.finish().unwrap();
    other.finish().unwrap();
    assert_eq!(pattern::prefix_len(1, &patched).unwrap(), len);
    assert_eq!(pattern::prefix_len(2, &plain).unwrap(), len);
}

/// With far patches and a tail that is no whole page, or block.
fn a_pinned_drain_comes_out_right(rung: &str, root: &Path) {
    let config =
        format!("[budget]\ntotal = \"32MiB\"\n[root.{:?}]\ndrain = \"{rung}\"\n", root.display());
    let daemon = Daemon::start(root, &config);
    let path = root.join(format!("{rung}.mkv"));
    let mut file = daemon.options().window_bytes(MIB).create(&path).unwrap();
    let len = 120 * MIB + 777;
    write_patched(&mut file, 3, len, || assert_eq!(drain(&daemon), rung)).unwrap();
    file.flush().unwrap();
    let status = daemon.status();
    assert_eq!(status.devices[0].drain, rung);
    assert_eq!(status.streams[0].drain.as_deref(), Some(rung));
    file.finish().unwrap();
    assert_eq!(pattern::prefix_len(3, &path).unwrap(), len);
    assert_eq!(daemon.status().budget.charged_bytes, 0);
    let (status, log) = daemon.stop();
    assert!(status.success() && steps(&log).is_empty(), "{log}");
}

#[test]
#[ignore = "needs root: loop devices"]
fn every_drain_that_is_pinned_comes_out_right() {
    let dir = tempfile::tempdir_in(mount("ext4")).unwrap();
    for rung in ["direct", "dontcache", "sync_file_range", "fdatasync"] {
        a_pinned_drain_comes_out_right(rung, dir.path());
    }
}
