//! Each call of the storage fails once, in a run of its own, with each error: every run has to end with an
//! `Ok` that is true, or with the error at its muxer.

use std::collections::BTreeMap;

use freemkvd_client::{Error, Leftover};
use freemkvd_tests::faults::{Call, Fault, FaultDisk, Fired, Served};
use rustix::io::Errno;

use crate::ground::Place;
use crate::images::Images;
use crate::model::partial;
use crate::run::{Bench, Ran, clean};
use crate::workload::{self, End, Workload};

const EIO: i32 = Errno::IO.raw_os_error();

/// What a call may fail with.
const ERRNOS: [Errno; 6] =
    [Errno::IO, Errno::NOSPC, Errno::DQUOT, Errno::STALE, Errno::ROFS, Errno::NODEV];

/// What else may become of it.
fn others(call: Call) -> Vec<Fault> {
    let mut all = vec![Fault::Vanish(Errno::NODEV.raw_os_error()), Fault::ReadOnly];
    if call.is_interruptible() {
        all.push(Fault::Error(Errno::INTR.raw_os_error()));
    }
    if call.is_write() {
        all.extend([Fault::Short(None), Fault::Short(Some(EIO))]);
    }
    all
}

/// A daemon that runs one workload after the other.
struct Rig {
    place: Place,
    disk: FaultDisk,
    daemon: Served,
    runs: u64,
    power_cuts: u64,
    /// How often each call was made to fail.
    covered: BTreeMap<Call, u64>,
}

impl Rig {
    fn new(place: Place, resumable: bool) -> Self {
        let disk = place.disk("/rips");
        let daemon = place.serve(&disk, resumable);
        Self { place, disk, daemon, runs: 0, power_cuts: 0, covered: BTreeMap::new() }
    }

    /// True when the fault has struck.
    fn run(&mut self, workload: &Workload, rule: Option<(Call, u64, Fault)>) -> bool {
        self.runs += 1;
        let what = format!("{:?}, {rule:?}, {workload:?}", self.place);
        self.disk.script().clear();
        if let Some((call, nth, fault)) = rule {
            self.disk.script().fail(call, nth, fault);
        }
        let images = Images::new(&self.disk, self.runs);
        let name = format!("{}.mkv", self.runs);
        let looks = |model: &_| images.look(model, 3);
        let bench = Bench::new((&self.daemon, &self.disk), &name, workload, &looks);
        let ran = bench.run(workload);
        bench.assert_no_leak();
        images.look(&bench.model, 2);
        assert_eq!(images.wrong(), Vec::<String>::new(), "{what}");
        self.power_cuts += images.taken();
        let fired = self.disk.script().fired();
        if let (Some(first), Some((_, _, fault))) = (fired.first(), rule) {
            *self.covered.entry(first.call).or_default() += 1;
            self.check(&ran, workload, fault, &fired, &bench, &what);
        } else {
            assert!(ran.error.is_none(), "nothing has failed, but {:?}: {what}", ran.error);
        }
        self.check_leftover(&ran, workload, &bench, &what);
        self.disk.heal();
        self.disk.script().clear();
        // It let go of the file, too.
        if self.runs % 8 == 0 {
            let again = self.daemon.options().create(&bench.path).expect("nobody has it");
            again.abort().unwrap();
            bench.assert_no_leak();
        }
        clean(&self.disk, &bench.path);
        !fired.is_empty()
    }

    /// The error that was injected is the one that the muxer was told.
    fn check(
        &self,
        ran: &Ran,
        workload: &Workload,
        fault: Fault,
        fired: &[Fired],
        bench: &Bench<'_>,
        what: &str,
    ) {
        let interrupted = Errno::INTR.raw_os_error();
        let told = ran.error.as_ref();
        let errno =
            fired.iter().find_map(|fired| fired.errno).filter(|errno| *errno != interrupted);
        let call = fired[0].call;
        let Some(errno) = errno else {
            assert!(told.is_none(), "what can be gone on with ended the stream: {told:?}, {what}");
            return;
        };
        // Writeback to a device that is gone is EIO, whatever else it says.
        let is_for_ever = matches!(fault, Fault::Vanish(_) | Fault::ReadOnly);
        let errnos = if is_for_ever { vec![errno, EIO] } else { vec![errno] };
        let changes = call.is_write()
            || matches!(call, Call::WriteZeroes | Call::SetLen | Call::Reserve | Call::Rename);
        if fault == Fault::ReadOnly && told.is_none() && !changes && call != Call::Medium {
            // Nothing was to be changed any more.
            return;
        }
        // Counting pages is for status alone; and who has given up is told nothing any more.
        let is_told = call != Call::Pages && (ran.at < workload.steps.len() || ran.was_refused);
        let is_needed = workload.end == End::Finish && call != Call::Pages && call != Call::Unlink;
        let Some(told) = told else {
            assert!(!is_told && !is_needed, "{fired:?} was kept from the muxer: {what}");
            return;
        };
        assert!(told.errno().is_some_and(|seen| errnos.contains(&seen)), "{told}: {what}");
        assert_eq!(told.path(), bench.path, "{told}: {what}");
        assert!(told.to_string().contains(&bench.path.display().to_string()), "{told}: {what}");
        if !is_for_ever {
            check_offset(told, fault, &fired[0], what);
        }
    }

    /// What is left is what was chosen.
    fn check_leftover(&self, ran: &Ran, workload: &Workload, bench: &Bench<'_>, what: &str) {
        let is_healthy = self.disk.script().fired().is_empty();
        let names = self.disk.names();
        let partial = partial(&bench.path);
        let (named, partly) = (names.contains(&bench.path), names.contains(&partial));
        if ran.is_finished {
            assert!(named && !partly, "{names:?}: {what}");
            let content = self.disk.read(&bench.path).unwrap();
            assert!(content == bench.model.lock().unwrap().content(), "read back: {what}");
        } else if workload.replaces {
            assert!(named, "what was to be replaced is gone: {what}");
        } else if is_healthy && !ran.was_refused {
            let expected = match workload.leftover {
                Leftover::Keep => (!workload.publish, workload.publish),
                Leftover::Partial => (false, true),
                Leftover::Remove => (false, false),
            };
            assert_eq!((named, partly), expected, "{what}");
        }
    }

    /// Fails each call of these kinds, up to the `most`th.
    fn fail_each(&mut self, workload: &Workload, calls: &[Call], most: u64) {
        self.run(workload, None);
        let all = std::env::var_os("FAULTS_ALL").is_some();
        let mut turn = 0;
        for call in calls.iter().copied() {
            let others = others(call);
            for nth in 1..=if all { u64::MAX } else { most } {
                let errors = ERRNOS.map(|errno| Fault::Error(errno.raw_os_error()));
                let mut faults = match all {
                    true => errors.to_vec(),
                    // One at this call, another at the next.
                    false => vec![errors[turn % errors.len()]],
                };
                match all {
                    true => faults.extend(&others),
                    false if nth == 1 => faults.push(others[turn % others.len()]),
                    false => {}
                }
                turn += 1;
                let strikes =
                    faults.into_iter().map(|fault| self.run(workload, Some((call, nth, fault))));
                if strikes.filter(|has_struck| *has_struck).count() == 0 {
                    break;
                }
            }
        }
    }
}

fn check_offset(told: &Error, fault: Fault, fired: &Fired, what: &str) {
    let by_place = fired.call.is_write()
        || matches!(fired.call, Call::WriteZeroes | Call::StartWriteback | Call::WaitWriteback);
    match (by_place, fault) {
        // It is told where the write began, all of which is in doubt.
        (true, Fault::Short(_)) => assert!(told.offset() <= fired.offset, "{told}: {what}"),
        (true, _) => assert_eq!(told.offset(), fired.offset, "{told}: {what}"),
        (false, _) => {}
    }
}

/// What a stream does with its pages.
const DRAIN: [Call; 5] =
    [Call::StartWriteback, Call::WaitWriteback, Call::SyncData, Call::Evict, Call::Medium];

/// What has to be called at `place`, or nothing of it was tried.
fn expected(place: Place) -> Vec<Call> {
    use Call::{Close, Evict, Medium, Open, SyncContent, SyncName, SyncSentinel, Write};
    let by_place = match place {
        Place::Current => vec![Call::WriteUncached, Call::WaitWriteback, Call::Pages],
        Place::ByRange | Place::Uncounted | Place::Turns => {
            vec![Call::StartWriteback, Call::WaitWriteback, Evict]
        }
        Place::WholeFile | Place::Stacked => vec![Call::SyncData, Evict],
        Place::Direct => vec![Call::WriteDirect],
        Place::Memory => vec![Call::WriteZeroes, Call::SetLen, Call::Reserve, Call::Available],
    };
    let always = [Open, Write, Medium, SyncContent, SyncSentinel, SyncName];
    let all = always.into_iter().chain(by_place);
    all.chain([Close]).collect()
}

/// Fails each call of `workloads` at `place`, and says how many there were.
fn at(place: Place, workloads: &[Workload]) {
    let mut covered = BTreeMap::new();
    let (mut runs, mut power_cuts) = (0, 0);
    let mut each = |workload: &Workload, resumable, calls: &[Call], most| {
        let mut rig = Rig::new(place, resumable);
        rig.fail_each(workload, calls, most);
        for (call, count) in rig.covered {
            *covered.entry(call).or_insert(0) += count;
        }
        (runs, power_cuts) = (runs + rig.runs, power_cuts + rig.power_cuts);
    };
    for (nth, workload) in workloads.iter().enumerate() {
        each(workload, nth % 2 == 0, &Call::ALL, u64::MAX);
    }
    if !matches!(place, Place::Direct | Place::Memory) {
        each(&workload::long(), true, &DRAIN, 3);
    }
    let missing: Vec<_> =
        expected(place).into_iter().filter(|call| !covered.contains_key(call)).collect();
    assert!(missing.is_empty(), "{place:?}: never failed: {missing:?} (of {covered:?})");
    let calls: u64 = covered.values().sum();
    println!("{place:?}: {runs} runs, {calls} calls failed, {power_cuts} power cuts; {covered:?}");
}

#[test]
fn on_a_current_kernel() {
    at(Place::Current, &[workload::rip(), workload::odd()]);
}

#[test]
fn where_pages_are_written_back_by_range() {
    at(Place::ByRange, &[workload::rip(), workload::replacing()]);
}

#[test]
fn where_the_kernel_cannot_count() {
    at(Place::Uncounted, &[workload::rip()]);
}

#[test]
fn where_streams_take_turns() {
    at(Place::Turns, &[workload::rip()]);
}

#[test]
fn where_only_the_whole_file_can_be_synced() {
    at(Place::WholeFile, &[workload::publishing(), workload::rip()]);
}

#[test]
fn where_nothing_by_range_does_anything() {
    at(Place::Stacked, &[workload::rip(), workload::replacing()]);
}

#[test]
fn past_the_page_cache() {
    at(Place::Direct, &[workload::rip()]);
}

#[test]
fn in_memory() {
    at(Place::Memory, &[workload::odd()]);
}

#[test]
fn what_is_left_of_a_stream_that_was_given_up() {
    use End::{Abort, Drop};
    // The last one is finished.
    let ends = [
        (End::Finish, Leftover::Keep),
        (Abort, Leftover::Remove),
        (Drop, Leftover::Partial),
        (Drop, Leftover::Remove),
    ];
    at(Place::ByRange, &ends.map(|(end, leftover)| workload::given_up(end, leftover)));
}
