//! A disk that is full, or a quota that is used up, in the middle of a file.

use std::io::{Seek, SeekFrom, Write};
use std::time::{Duration, Instant};

use freemkvd_client::{Error, ErrorCode, RipFile};
use freemkvd_proto::status::StreamState;
use freemkvd_tests::faults::{Call, Fault, FaultDisk, Ground, Served};
use rustix::io::Errno;

use crate::model::content;
use crate::workload::MIB;

fn create(daemon: &Served, disk: &FaultDisk) -> RipFile {
    let options = daemon.options().window_bytes(MIB).memory_limit_bytes(16 * MIB);
    options.create(disk.root().join("film.mkv")).unwrap()
}

fn inside(error: &std::io::Error) -> Error {
    Error::inside(error).unwrap().clone()
}

#[test]
fn a_stream_without_space_waits_and_goes_on_when_there_is_some() {
    for quota in [false, true] {
        let disk = FaultDisk::new("/rips", Ground::default());
        let daemon = Served::start(&[&disk], |_| {});
        let limit = |bytes| if quota { disk.set_quota(bytes) } else { disk.set_capacity(bytes) };
        limit(3 * MIB + 4096);
        let mut file = create(&daemon, &disk);
        let bytes = content(5, 0, 6 * MIB);
        file.write_all(&bytes).unwrap();
        std::thread::scope(|scope| {
            let syncing = scope.spawn(|| file.sync_all());
            let status = daemon.wait_for("a stream that waits for space", |status| {
                status.streams.iter().any(|stream| stream.state == StreamState::NoSpace)
            });
            assert!(status.is_degraded());
            // What it holds is others'.
            daemon.wait_for("no budget held", |status| status.budget.charged_bytes == 0);
            assert!(!syncing.is_finished());
            limit(u64::MAX);
            syncing.join().unwrap().unwrap();
        });
        file.seek(SeekFrom::Start(10)).unwrap();
        file.write_all(b"patch").unwrap();
        let path = file.path().to_owned();
        file.finish().unwrap();
        let mut expected = bytes;
        expected[10..15].copy_from_slice(b"patch");
        assert!(disk.crash(1).file(&path).unwrap().bytes() == expected);
    }
}

#[test]
fn a_stream_without_space_fails_when_its_time_is_up() {
    for quota in [false, true] {
        let disk = FaultDisk::new("/rips", Ground::default());
        let wait = Duration::from_millis(1500);
        let daemon = Served::start(&[&disk], |config| config.no_space_wait = wait);
        let limit = 2 * MIB;
        match quota {
            true => disk.set_quota(limit),
            false => disk.set_capacity(limit),
        }
        let mut file = create(&daemon, &disk);
        file.write_all(&content(5, 0, 4 * MIB)).unwrap();
        let begun = Instant::now();
        let told = inside(&file.sync_all().unwrap_err());
        assert!(begun.elapsed() >= wait, "it gave up early");
        let errno = if quota { Errno::DQUOT } else { Errno::NOSPC };
        assert_eq!(told.errno(), Some(errno.raw_os_error()));
        assert_eq!(told.code(), Some(ErrorCode::NO_SPACE));
        assert!(told.offset().is_some_and(|offset| offset <= limit), "{told:?}");
        drop(file);
        daemon.wait_for("nothing held", |status| status.budget.charged_bytes == 0);
    }
}

#[test]
fn an_error_of_writing_back_ends_the_wait_for_space() {
    let disk = FaultDisk::new("/rips", Ground::default());
    let daemon = Served::start(&[&disk], |config| config.no_space_wait = Duration::from_secs(10));
    disk.set_capacity(3 * MIB);
    // What is given up before the wait is written back, and lost.
    disk.script().fail(Call::Medium, 1, Fault::Error(Errno::IO.raw_os_error()));
    let mut file = create(&daemon, &disk);
    let written = file.write_all(&content(5, 0, 6 * MIB)).and_then(|()| file.sync_all());
    assert_eq!(inside(&written.unwrap_err()).errno(), Some(Errno::IO.raw_os_error()));
}

#[test]
fn a_stream_that_waits_for_space_can_be_given_up() {
    let disk = FaultDisk::new("/rips", Ground::default());
    let daemon = Served::start(&[&disk], |_| {});
    disk.set_capacity(MIB);
    let mut file = create(&daemon, &disk);
    file.write_all(&content(5, 0, 4 * MIB)).unwrap();
    std::thread::scope(|scope| {
        let syncing = scope.spawn(|| file.sync_all());
        let waits = |stream: &freemkvd_proto::status::Stream| stream.state == StreamState::NoSpace;
        let status =
            daemon.wait_for("a stream without space", |status| status.streams.iter().any(waits));
        let stream = status.streams.iter().find(|stream| waits(stream)).unwrap().id;
        daemon.control().abort(stream).unwrap();
        let told = inside(&syncing.join().unwrap().unwrap_err());
        assert_eq!(told.code(), Some(ErrorCode::ABORTED));
    });
    daemon.wait_for("nothing open", |_| disk.open_files() == 0);
}

fn wait_for_state(daemon: &Served, state: StreamState) {
    daemon
        .wait_for("that state", |status| status.streams.iter().any(|stream| stream.state == state));
}

/// Has a stream come to wait for space, and paused; `then` is told its number, and the thread that waits for its sync.
fn paused_without_space(
    (daemon, disk): (&Served, &FaultDisk),
    then: impl FnOnce(u64, std::thread::ScopedJoinHandle<'_, std::io::Result<()>>),
) -> RipFile {
    disk.set_capacity(MIB);
    let mut file = create(daemon, disk);
    let stream = file.stream_id().unwrap();
    file.write_all(&content(5, 0, 4 * MIB)).unwrap();
    std::thread::scope(|scope| {
        let syncing = scope.spawn(|| file.sync_all());
        wait_for_state(daemon, StreamState::NoSpace);
        daemon.control().pause(stream).unwrap();
        wait_for_state(daemon, StreamState::Paused);
        then(stream, syncing);
    });
    file
}

#[test]
fn the_time_of_a_paused_stream_that_waits_for_space_stands_still() {
    let disk = FaultDisk::new("/rips", Ground::default());
    let wait = Duration::from_millis(1500);
    let daemon = Served::start(&[&disk], |config| config.no_space_wait = wait);
    let file = paused_without_space((&daemon, &disk), |stream, syncing| {
        // For longer than it would have waited.
        daemon.wait_for("a long pause", |status| {
            status.streams.iter().any(|stream| stream.state_seconds > 2)
        });
        daemon.control().resume(stream).unwrap();
        wait_for_state(&daemon, StreamState::NoSpace);
        assert!(!syncing.is_finished());
        disk.set_capacity(u64::MAX);
        syncing.join().unwrap().unwrap();
    });
    file.finish().unwrap();
}

#[test]
fn a_paused_stream_without_space_that_is_given_up_writes_nothing_more() {
    let disk = FaultDisk::new("/rips", Ground::default());
    let daemon = Served::start(&[&disk], |_| {});
    paused_without_space((&daemon, &disk), |stream, syncing| {
        disk.set_capacity(u64::MAX);
        let counts = || disk.script().counts().into_iter();
        let writes =
            || counts().filter(|(call, _)| call.is_write()).map(|(_, count)| count).sum::<u64>();
        let before = writes();
        daemon.control().abort(stream).unwrap();
        let told = inside(&syncing.join().unwrap().unwrap_err());
        assert_eq!(told.code(), Some(ErrorCode::ABORTED));
        daemon.wait_for("nothing open", |_| disk.open_files() == 0);
        assert_eq!(writes(), before);
    });
}

#[test]
fn a_file_that_is_all_holes_is_removed_as_others_are() {
    let disk = FaultDisk::new("/rips", Ground::default());
    let daemon = Served::start(&[&disk], |_| {});
    let options = daemon.options().leftover(freemkvd_client::Leftover::Remove);
    let mut file = options.create(disk.root().join("film.mkv")).unwrap();
    file.set_len(i64::MAX.unsigned_abs()).unwrap();
    file.flush().unwrap();
    file.abort().unwrap();
    daemon.wait_for("the file let go of", |_| disk.open_files() == 0);
    assert!(disk.names().is_empty());
    let steps = disk.script().counts()[&Call::SetLen];
    assert!((1000..12_000).contains(&steps), "{steps} steps");
}
