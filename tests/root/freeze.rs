//! A file system that stands still holds up nobody but its own streams, is named, and goes on by itself.

use std::path::PathBuf;
use std::time::Duration;

use freemkvd_proto::status::{DeviceState, Status};
use freemkvd_tests::daemon::Daemon;

use super::disk::{Disk, Frozen};
use super::support::{Muxer, finish_all, written_bytes};
use super::watch::{Sample, blocked_on, device, progress, status_latency, watch};
use super::{MIB, mount};

/// Of each disk, so that two streams that write flat out do not fill it.
const BYTES_PER_SECOND: u64 = 40_000_000;

const BEFORE: Duration = Duration::from_secs(4);
const FROZEN: Duration = Duration::from_secs(12);

fn two_films(filesystem: &str) -> (tempfile::TempDir, [PathBuf; 2]) {
    let dir = tempfile::tempdir_in(mount(filesystem)).unwrap();
    let paths = ["one.mkv", "two.mkv"].map(|name| dir.path().join(name));
    (dir, paths)
}

/// Status was quick all the time, and says what it is that stands still.
fn assert_told(frozen: &[Sample]) {
    let (p99, most) = status_latency(frozen);
    eprintln!("freeze: status p99 {p99:?}, most {most:?} of {}", frozen.len());
    assert!(frozen.len() >= 200 && most < Duration::from_secs(1));
    let first = |what: &str, is_so: &dyn Fn(&Status) -> bool| {
        let found = frozen.iter().find(|sample| is_so(&sample.status));
        let found =
            found.unwrap_or_else(|| panic!("never {what}: {:#?}", frozen.last().unwrap().status));
        eprintln!("freeze: {what} after {:?}", found.at - frozen[0].at);
        found.status.clone()
    };
    first("suspect", &|status| device(status, "ext4").state == DeviceState::Suspect);
    let named = first("blocked_in", &|status| blocked_on(status, "ext4").count() > 0);
    let calls: Vec<_> = blocked_on(&named, "ext4").map(|stream| &stream.blocked_in).collect();
    eprintln!("freeze: blocked in {calls:?}");
    for Sample { status, .. } in frozen {
        assert_eq!(device(status, "xfs").state, DeviceState::Healthy);
    }
    let last = &frozen.last().unwrap().status;
    assert_eq!(device(last, "ext4").state, DeviceState::Suspect);
    assert!(blocked_on(last, "ext4").count() > 0 && last.is_degraded());
}

/// The other device goes on as before.
fn assert_isolated(before: &[Sample], frozen: &[Sample], muxers: &[Muxer]) {
    // The first second is a slow start.
    let steady = before.iter().position(|sample| sample.at - before[0].at > BEFORE / 2).unwrap();
    let (rate_before, gap_before) = progress(&before[steady..], muxers);
    let (rate, gap) = progress(frozen, muxers);
    eprintln!(
        "freeze: the other device {:.1} MB/s before and {:.1} during, longest gap {gap_before:?} \
         before and {gap:?} during",
        rate_before / 1e6,
        rate / 1e6
    );
    for muxer in muxers {
        let (_, gap) = progress(frozen, std::slice::from_ref(muxer));
        eprintln!("freeze: longest gap of {} {gap:?}", muxer.path().display());
    }
    let second = |sample: &Sample| (sample.at - frozen[0].at).as_secs();
    for span in frozen.chunk_by(|a, b| second(a) == second(b)).filter(|span| span.len() > 20) {
        assert!(progress(span, muxers).0 > 0.0, "no progress in second {}", second(&span[0]));
    }
    assert!(rate > 0.8 * rate_before, "{rate} instead of {rate_before}");
}

#[test]
#[ignore = "needs root: loop devices"]
fn a_frozen_file_system_holds_up_nobody_else_and_goes_on_by_itself() {
    let (ext4, xfs) = (Disk::below("ext4"), Disk::below("xfs"));
    let _throttled = [ext4.throttle(BYTES_PER_SECOND), xfs.throttle(BYTES_PER_SECOND)];
    let daemon = Daemon::start(mount("ext4").parent().unwrap(), "");
    let ((_sick_dir, sick_paths), (_well_dir, well_paths)) = (two_films("ext4"), two_films("xfs"));
    let sick = Muxer::start_all(&daemon, &sick_paths, 400 * MIB);
    let well = Muxer::start_all(&daemon, &well_paths, 430 * MIB);

    let before = watch(&daemon, BEFORE);
    let thaws = Frozen::new(ext4.mount());
    let frozen = watch(&daemon, FROZEN);
    let stood = written_bytes(&frozen.last().unwrap().status, &sick);
    // A moment ago, or a little more: what the freeze itself let through.
    let early = &frozen[frozen.len() / 4].status;
    assert_eq!(written_bytes(early, &sick), stood, "it was frozen");
    drop(thaws);
    daemon.wait_for("both streams to go on, and a healthy device", |status| {
        let now = written_bytes(status, &sick);
        let go_on = now.iter().zip(&stood).all(|(now, stood)| now > stood);
        go_on && device(status, "ext4").state == DeviceState::Healthy
    });
    assert_told(&frozen);
    assert_isolated(&before, &frozen, &well);
    finish_all(sick);
    finish_all(well);
    let status = daemon.status();
    assert_eq!((status.budget.charged_bytes, status.streams.len()), (0, 0));
}
