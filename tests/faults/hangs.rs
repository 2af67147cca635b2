//! A call that does not return: others go on, status answers, the stream can be given up from outside, and
//! when the call returns everything goes on.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, Instant};

use freemkvd_client::{Error, ErrorCode};
use freemkvd_proto::status::StreamState;
use freemkvd_tests::daemon::wait_until;
use freemkvd_tests::faults::{Call, Fault, FaultDisk, Ground, Served};

use crate::ground::Place;
use crate::run::{Bench, clean};
use crate::workload::{self, MIB, Workload};

/// What must not wait for a disk takes less, on a busy machine too.
const AT_ONCE: Duration = Duration::from_secs(5);

/// Two disks, of which one hangs.
struct Rig {
    sick: FaultDisk,
    healthy: FaultDisk,
    daemon: Served,
}

impl Rig {
    fn new(place: Place) -> Self {
        let sick = place.disk("/sick");
        let healthy = FaultDisk::new("/healthy", Ground::default());
        let daemon = Served::start(&[&sick, &healthy], |_| {});
        Self { sick, healthy, daemon }
    }

    /// Hangs `call`, looks at everybody else, and lets it go on.
    fn hang(&self, call: Call, workload: &Workload, is_aborted: bool) {
        self.sick.script().clear();
        self.sick.script().fail_from(call, 1, Fault::Hang);
        // A name of its own: one that hung in its open may still come to its end.
        let name = format!("{call:?}.mkv");
        let bench = Bench::new((&self.daemon, &self.sick), &name, workload, &|_| {});
        std::thread::scope(|scope| {
            let muxer = scope.spawn(|| self.write(&bench, workload));
            let hangs = wait_until(|| self.sick.script().hanging() > 0);
            assert!(hangs, "{call:?} was never called");
            self.check_neighbour(call);
            let status = self.daemon.control().status().unwrap();
            let stream = status.streams.iter().find(|seen| seen.path.contains(&name));
            let stream = stream.unwrap_or_else(|| panic!("{call:?}: {status:#?}")).id;
            if is_aborted {
                let begun = Instant::now();
                self.daemon.control().abort(stream).unwrap();
                let told = muxer.join().unwrap().expect_err("it was given up");
                assert_eq!(told.code(), Some(ErrorCode::ABORTED), "{call:?}: {told}");
                assert!(begun.elapsed() < AT_ONCE, "{call:?}: abort waits for the disk");
                self.sick.script().release();
            } else {
                self.sick.script().release();
                muxer.join().unwrap().unwrap_or_else(|error| panic!("{call:?}: {error}"));
            }
        });
        assert!(wait_until(|| self.sick.script().hanging() == 0), "{call:?} still hangs");
        bench.assert_no_leak();
        clean(&self.sick, &bench.path);
    }

    /// Without the run's own checks, which know nothing of an abort from outside.
    fn write(&self, bench: &Bench<'_>, workload: &Workload) -> Result<(), Error> {
        let options = self.daemon.options().window_bytes(MIB).memory_limit_bytes(6 * MIB);
        let options = options.publish(workload.publish).daemon_window_bytes(0);
        let hint = workload.hint_bytes.unwrap_or(MIB);
        let mut file = options.size_hint(hint).create(&bench.path)?;
        let write = || -> std::io::Result<()> {
            for piece in 0..6 {
                file.write_all(&vec![piece; 1 << 20])?;
            }
            file.write_zeroes(MIB)?;
            file.set_len(13 * MIB / 2)?;
            file.sync_all()?;
            file.finish().map(drop)
        };
        write().map_err(|error| Error::inside(&error).expect("an error of ours").clone())
    }

    fn check_neighbour(&self, call: Call) {
        let begun = Instant::now();
        let path = self.healthy.root().join("film.mkv");
        let options = self.daemon.options().window_bytes(MIB).memory_limit_bytes(6 * MIB);
        let mut file = options.create(&path).unwrap();
        file.write_all(&vec![7; 5 << 20]).unwrap();
        file.finish().unwrap();
        assert!(begun.elapsed() < AT_ONCE, "{call:?} holds up the other disk");
        assert_eq!(self.healthy.read(&path).unwrap().len(), 5 << 20);
        self.healthy.remove(&path);
    }

    /// Which calls the workload makes.
    fn calls(&self, workload: &Workload) -> BTreeMap<Call, u64> {
        self.sick.script().clear();
        let bench = Bench::new((&self.daemon, &self.sick), "film.mkv", workload, &|_| {});
        self.write(&bench, workload).unwrap();
        bench.assert_no_leak();
        clean(&self.sick, &bench.path);
        self.sick.script().counts()
    }
}

fn hang_each(place: Place, is_aborted: bool) {
    let rig = Rig::new(place);
    let workload = Workload { publish: true, ..workload::odd() };
    let calls = rig.calls(&workload);
    let all: Vec<Call> = calls.into_keys().filter(|call| *call != Call::Medium).collect();
    all.iter().for_each(|call| rig.hang(*call, &workload, is_aborted));
    println!("{place:?}: hung in {all:?}");
}

#[test]
fn others_go_on_and_so_does_the_stream_when_the_call_returns() {
    [Place::ByRange, Place::WholeFile].into_iter().for_each(|place| hang_each(place, false));
}

#[test]
fn a_stream_that_hangs_can_be_given_up_from_outside() {
    [Place::Current, Place::ByRange].into_iter().for_each(|place| hang_each(place, true));
}

#[test]
fn status_says_what_a_stream_hangs_in() {
    let rig = Rig::new(Place::ByRange);
    rig.sick.script().fail(Call::SyncSentinel, 1, Fault::Hang);
    let workload = workload::rip();
    let bench = Bench::new((&rig.daemon, &rig.sick), "film.mkv", &workload, &|_| {});
    std::thread::scope(|scope| {
        let muxer = scope.spawn(|| rig.write(&bench, &workload));
        rig.daemon.wait_for("a stream that hangs in fsync", |status| {
            status.streams.iter().any(|stream| {
                stream.blocked_in.as_deref() == Some("fsync")
                    && stream.state == StreamState::Syncing
            })
        });
        rig.sick.script().release();
        muxer.join().unwrap().unwrap();
    });
}
