//! Devices that lose what they were given, or go away. Every stream on them hears of it, with the error's number
//! and the file; nobody else does.
//!
//! Injected, each under two streams in the middle of their films:
//! * writeback that loses pages: an ext4 larger than the tmpfs on which its image lies (ENOSPC, then EIO);
//! * a file system that has found itself damaged, and is read-only from then on (ext4's `trigger_fs_error`);
//! * a disk that is pulled out: an ext4 and an xfs whose image lies on a FUSE server that is killed (EIO);
//! * a FUSE server that is killed (ENOTCONN).
//!
//! A dead NFS server is in `kernels.sh`.

use std::path::Path;

use freemkvd_client::ErrorCode;
use freemkvd_proto::status::StreamState;
use freemkvd_tests::daemon::{Daemon, wait_until};

use super::place::{Place, Pool, work};
use super::support::{Muxer, freemkvctl_status};
use super::{MIB, mount};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const EROFS: i32 = 30;
const ENOTCONN: i32 = 107;
/// FUSE says this of a request that was with the server when that went.
const ECONNABORTED: i32 = 103;

/// Two streams in `dir` and one elsewhere; then something `happens` to the first two, whose numbers then are
/// one of `errnos`.
fn a_loss_is_told(what: &str, dir: &Path, errnos: &[i32], happens: impl FnOnce()) {
    let _ = freemkvd_tests::programs::freemkvctl();
    let daemon = Daemon::start(&work(), "");
    let well_dir = tempfile::tempdir_in(mount("btrfs")).unwrap();
    let start = |path, seed| {
        let options = daemon.options().window_bytes(MIB).memory_limit_bytes(8 * MIB);
        Muxer::start(&options, path, seed, 400 * MIB)
    };
    let well = start(well_dir.path().join("film"), 3);
    let sick = [("one", 1), ("two", 2)].map(|(name, seed)| start(dir.join(name), seed));
    daemon.wait_for("something written everywhere", |status| {
        let some =
            status.streams.iter().filter(|s| s.written_bytes >= 4 * MIB || s.error.is_some());
        some.count() == 3
    });
    happens();
    assert!(wait_until(|| sick.iter().all(Muxer::is_over)), "{:#?}", daemon.status());
    for muxer in sick {
        let (stream, path) = (muxer.stream, muxer.path().to_owned());
        let error = muxer.error();
        eprintln!("lost, {what}: {error} (errno {:?}, offset {:?})", error.errno(), error.offset());
        assert!(error.errno().is_some_and(|errno| errnos.contains(&errno)), "{error}");
        assert_eq!(error.path(), path);
        let expected = match error.errno() {
            Some(ENOSPC) => ErrorCode::NO_SPACE,
            Some(EROFS) => ErrorCode::READ_ONLY,
            _ => ErrorCode::IO,
        };
        assert_eq!(error.code(), Some(expected), "{error}");
        let status = daemon.wait_for("a failed stream", |status| {
            let failed = |s: &&_| {
                matches!(s, freemkvd_proto::status::Stream { state: StreamState::Failed, .. })
            };
            status.streams.iter().filter(failed).any(|s| s.id == stream)
        });
        let seen = status.streams.iter().find(|s| s.id == stream).unwrap();
        let told = seen.error.as_ref().unwrap();
        assert_eq!((told.errno, told.offset), (error.errno(), error.offset()), "{told:?}");
        let (text, code) = freemkvctl_status(&daemon);
        let line =
            text.lines().find(|line| line.starts_with(&format!("failed: stream {stream}, ")));
        assert!(code == Some(4) && line.is_some(), "{text}");
    }
    // The other one never noticed, and neither does a new one.
    well.enough();
    well.finish();
    start(well_dir.path().join("another"), 4).abort();
    // On the sick one it is told, or opens: it does not hang.
    let _ = daemon.options().create(dir.join("another")).map(freemkvd_client::RipFile::abort);
    let status = daemon.wait_for("an empty budget", |status| status.budget.charged_bytes == 0);
    assert!(status.streams.iter().all(|stream| stream.error.is_some()), "{status:#?}");
}

#[test]
#[ignore = "needs root: a disk that lies"]
fn pages_that_are_lost_at_writeback_are_told_to_their_streams() {
    let dir = tempfile::tempdir_in(mount("liar")).unwrap();
    a_loss_is_told("writeback", dir.path(), &[EIO, ENOSPC], || ());
}

#[test]
#[ignore = "needs root: loop devices"]
fn a_file_system_that_becomes_read_only_is_told_to_its_streams() {
    let place = Place::new("ext4", 1024);
    let trigger = format!("/sys/fs/ext4/{}/trigger_fs_error", place.disk().name());
    a_loss_is_told("read-only", place.dir(), &[EROFS, EIO], || {
        std::fs::write(trigger, "1").unwrap();
    });
}

fn a_disk_that_is_pulled_out_is_told_on(filesystem: &'static str, errnos: &[i32]) {
    let below = Place::new("ext4", 2048);
    let mut pool = Pool::over(below.dir());
    let place = Place::on(pool.dir(), filesystem, 1024);
    a_loss_is_told(filesystem, place.dir(), errnos, || pool.kill());
    drop(place);
}

#[test]
#[ignore = "needs root: loop devices and a FUSE mount"]
fn a_disk_that_is_pulled_out_is_told_to_its_streams_on_ext4() {
    a_disk_that_is_pulled_out_is_told_on("ext4", &[EIO, EROFS]);
}

#[test]
#[ignore = "needs root: loop devices and a FUSE mount"]
fn a_disk_that_is_pulled_out_is_told_to_its_streams_on_xfs() {
    a_disk_that_is_pulled_out_is_told_on("xfs", &[EIO]);
}

#[test]
#[ignore = "needs root: a FUSE mount"]
fn a_server_that_is_gone_is_told_to_its_streams() {
    let below = Place::new("ext4", 1024);
    let mut pool = Pool::over(below.dir());
    let dir = pool.dir().to_owned();
    a_loss_is_told("server gone", &dir, &[ENOTCONN, ECONNABORTED, EIO], || pool.kill());
}
