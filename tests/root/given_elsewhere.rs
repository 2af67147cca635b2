//! Files that come with their streams, on a mount that is none of the daemon's: which device that is, is told
//! without a path.
//!
//! Injected: mounts that go away while their files are open. They are in nobody's table then, as those of another
//! mount namespace are not in the daemon's.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command as Program;

use freemkvd_proto::{Command, ErrorCode, Reply};
use freemkvd_tests::daemon::Daemon;
use freemkvd_tests::peer::{Peer, giving};

use super::MIB;
use super::place::{Place, Pool, image, run, work};
use super::support::write_pattern;

/// A stream on a file below `dir`, whose mount goes away before the daemon sees the file.
fn opened_on_what_was_mounted(daemon: &Daemon, dir: &Path) -> (Peer, [File; 2]) {
    let data = File::create(dir.join("film")).unwrap();
    let sentinel = File::options().write(true).open(dir.join("film")).unwrap();
    run(Program::new("umount").arg("--lazy").arg(dir));
    let mut peer = Peer::greet(daemon.socket());
    peer.give(giving("/no/such/place/film"), &[data.as_fd(), sentinel.as_fd()]);
    peer.opened();
    (peer, [data, sentinel])
}

fn write_and_finish(mut peer: Peer, bytes: u64) {
    let piece = vec![7; 1 << 20];
    let count = bytes / MIB;
    (1..=count).for_each(|sequence| peer.content(sequence, &piece));
    peer.command(count + 1, &Command::Finish);
    let len = peer.until(|_, reply| match reply {
        Reply::Finished(finished) => Some(finished.len_bytes),
        Reply::Failed(failure) => panic!("{failure:?}"),
        _ => None,
    });
    assert_eq!(len, count * MIB);
}

#[test]
#[ignore = "needs root: mounts"]
fn a_file_on_a_mount_that_the_daemon_can_not_see_is_on_the_device_that_it_is_on() {
    let place = Place::new("ext4", 128);
    let daemon = Daemon::start(&work(), "");
    let home = tempfile::tempdir_in(work()).unwrap();
    let other = home.path().join("other");
    std::fs::create_dir(&other).unwrap();
    run(Program::new("mount").arg("--bind").arg(place.dir()).arg(&other));
    let (peer, files) = opened_on_what_was_mounted(&daemon, &other);
    let mut by_path = daemon.options().create(place.dir().join("by path")).unwrap();
    write_pattern(&mut by_path, 1, 0, MIB).unwrap();
    let status = daemon.status();
    let device = &status.devices[0];
    assert_eq!(
        (status.devices.len(), device.filesystem.as_deref()),
        (1, Some("ext4")),
        "{status:?}"
    );
    assert_eq!(device.mount.as_deref(), place.dir().to_str());
    by_path.finish().unwrap();
    write_and_finish(peer, 32 * MIB);
    drop(files);

    // And one of a device that is mounted nowhere here.
    let file = home.path().join("image");
    image("ext4", 128, &file);
    run(Program::new("mount").args(["-o", "loop"]).arg(&file).arg(&other));
    let (mut peer, files) = opened_on_what_was_mounted(&daemon, &other);
    peer.content(1, &vec![7; 1 << 20]);
    let status = daemon.wait_for("its drain", |status| {
        status.devices.iter().any(|device| device.mount.as_deref() == Some("(mounted elsewhere)"))
    });
    let device = &status.devices[0];
    assert!(
        device.filesystem.as_deref() == Some("ext4") && device.id.starts_with("7:"),
        "{device:?}"
    );
    assert_ne!(
        device.drain, "fdatasync",
        "by what it is, and not by what nobody calls it: {device:?}"
    );
    peer.command(2, &Command::Finish);
    peer.until(|_, reply| matches!(reply, Reply::Finished(_)).then_some(()));
    drop(files);
}

#[test]
#[ignore = "needs root: mounts"]
fn an_overlay_that_the_daemon_can_not_see_is_refused_since_it_may_lie_in_memory() {
    let daemon = Daemon::start(&work(), "");
    let home = tempfile::tempdir_in(work()).unwrap();
    let (memory, other) = (home.path().join("memory"), home.path().join("other"));
    for dir in [&memory, &other] {
        std::fs::create_dir(dir).unwrap();
    }
    run(Program::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(&memory));
    let [lower, upper, scratch] = ["lower", "upper", "work"].map(|name| {
        std::fs::create_dir(memory.join(name)).unwrap();
        memory.join(name).display().to_string()
    });
    let layers = format!("lowerdir={lower},upperdir={upper},workdir={scratch}");
    run(Program::new("mount").args(["-t", "overlay", "overlay", "-o", &layers]).arg(&other));
    let open = || File::options().write(true).create(true).truncate(false).open(other.join("film"));
    let (data, sentinel) = (open().unwrap(), open().unwrap());
    let give = || {
        let mut peer = Peer::greet(daemon.socket());
        peer.give(giving("film"), &[data.as_fd(), sentinel.as_fd()]);
        peer
    };
    // Who may mount where the daemon is, is root.
    let mut peer = give();
    peer.opened();
    peer.command(1, &Command::Abort);
    peer.hang_up();
    daemon.wait_for("its end", |status| status.devices.is_empty());
    run(Program::new("umount").arg("--lazy").arg(&other));
    let failure = give().failure();
    assert_eq!(failure.code, ErrorCode::BAD_FILE, "{failure:?}");
    assert!(failure.message.contains("overlay that is mounted elsewhere"), "{failure:?}");
    drop((data, sentinel));
    run(Program::new("umount").arg(&memory));
}

/// As those that a user mounts in a namespace of his own, of which he may have any number.
#[test]
#[ignore = "needs root: FUSE mounts"]
fn all_mounts_of_a_user_are_one_device() {
    let below = Place::new("ext4", 128);
    let daemon = Daemon::start(&work(), "");
    let pools = [Pool::over(below.dir()), Pool::over(below.dir())];
    let opened: Vec<_> = pools
        .iter()
        .enumerate()
        .map(|(number, pool)| {
            let path = pool.dir().join(number.to_string());
            let data = File::create(&path).unwrap();
            let sentinel = File::options().write(true).open(&path).unwrap();
            run(Program::new("umount").arg("--lazy").arg(pool.dir()));
            let mut peer = Peer::greet(daemon.socket());
            peer.give(giving(number.to_string()), &[data.as_fd(), sentinel.as_fd()]);
            peer.opened();
            (peer, [data, sentinel])
        })
        .collect();
    let status = daemon.status();
    let devices: Vec<_> =
        status.devices.iter().filter_map(|device| device.mount.as_deref()).collect();
    assert_eq!(devices, ["(mounts of user 0)"], "{status:?}");
    assert_eq!(status.streams.len(), 2);
    for (peer, files) in opened {
        write_and_finish(peer, 2 * MIB);
        drop(files);
    }
}
