//! Shared slots, by hand: what is refused, what a client that does not keep the rules can do (spoil its
//! own file, and nothing else), and what is left of one that dies.

use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use freemkvd_proto::limits::{SLOT_BYTES, SLOTS_MAX};
use freemkvd_proto::status::StreamState;
use freemkvd_proto::{Command, ErrorCode, OpenMode, Reply, Seek, Transfer};
use freemkvd_tests::daemon::{Daemon, wait_until};
use freemkvd_tests::pattern;
use freemkvd_tests::peer::{Peer, opening};
use freemkvd_tests::slots::Slots;
use rustix::fs::SealFlags;
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::support::{MIB, Neighbour, scratch, write_pattern};

const BOTH: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW);

/// A stream at `path` whose content comes in `slots`.
fn open(daemon: &Daemon, path: &Path, slots: &Slots) -> Peer {
    let mut peer = Peer::greet(daemon.socket());
    let open = opening(path, OpenMode::Create, slots.transfer());
    peer.ask_to_open_with(open, &[slots.descriptor()]);
    assert!(peer.opened().shared);
    peer
}

/// Waits until so many commands are written.
fn until_written(peer: &mut Peer, sequence: u64) {
    peer.until(|_, reply| match reply {
        Reply::Progress(marks) => (marks.written.sequence >= sequence).then_some(()),
        Reply::Failed(failure) => panic!("{failure:?}"),
        _ => None,
    });
}

fn finish(mut peer: Peer, sequence: u64) -> u64 {
    peer.command(sequence, &Command::Finish);
    peer.until(|_, reply| match reply {
        Reply::Finished(finished) => Some(finished.len_bytes),
        Reply::Failed(failure) => panic!("{failure:?}"),
        _ => None,
    })
}

/// What the daemon still has of clients' memory: mappings and descriptors.
fn memory_of_clients(daemon: &Daemon) -> (usize, usize) {
    let proc = |name: &str| format!("/proc/{}/{name}", daemon.pid());
    let ours = |text: &str| text.contains("slots-of-a-test") || text.contains("freemkvd-slots");
    let maps = std::fs::read_to_string(proc("maps")).unwrap();
    let descriptors = std::fs::read_dir(proc("fd")).unwrap().flatten();
    let links = descriptors.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    (
        maps.lines().filter(|line| ours(line)).count(),
        links.filter(|link| ours(&link.to_string_lossy())).count(),
    )
}

/// Panics unless all of it is given back, which a thread of its own does.
fn assert_lets_go(daemon: &Daemon) {
    let is_gone = wait_until(|| memory_of_clients(daemon) == (0, 0));
    assert!(is_gone, "mapped and open: {:?}", memory_of_clients(daemon));
}

#[test]
fn content_comes_from_slots_and_inline_in_one_stream() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let path = root.path().join("film.mkv");
    let slots = Slots::new(2);
    let mut peer = open(&daemon, &path, &slots);
    let content = pattern::bytes(1, 0, 3 << 20);
    slots.put(0, 0, &content[..1 << 20]);
    slots.put(1, 0, &content[1 << 20..2 << 20]);
    // Two parts that continue each other, and two that don't.
    peer.slots(1, &[(0, 0, SLOT_BYTES), (1, 0, 1000)]);
    peer.content(2, &content[(1 << 20) + 1000..(1 << 20) + 5000]);
    peer.slots(3, &[(1, 5000, SLOT_BYTES - 5000)]);
    until_written(&mut peer, 3);
    let status = daemon.status();
    assert!(status.streams[0].shared);
    slots.put(0, 0, &content[2 << 20..]);
    peer.slots(4, &[(0, 0, SLOT_BYTES)]);
    peer.command(5, &Command::Seek(Seek { offset: 100 }));
    slots.put(1, 7, b"patch");
    peer.slots(6, &[(1, 7, 5)]);
    assert_eq!(finish(peer, 7), 3 << 20);
    let mut expected = content;
    expected[100..105].copy_from_slice(b"patch");
    assert!(std::fs::read(&path).unwrap() == expected);
    assert_lets_go(&daemon);
}

#[test]
fn what_is_not_usable_as_slots_is_refused_before_a_file_is_touched() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let neighbour = Neighbour::start(&daemon, root.path());
    let path = root.path().join("film.mkv");
    std::fs::write(&path, b"dear").unwrap();
    let good = Slots::new(2);
    let file = tempfile::tempfile_in(root.path()).unwrap();
    file.set_len(2 * MIB).unwrap();
    let slots = |bytes, seals| Slots::with(2, bytes, seals);
    let (unsealed, half) = (slots(2 * MIB, SealFlags::empty()), slots(2 * MIB, SealFlags::SHRINK));
    let (short, long) = (slots(2 * MIB - 1, BOTH), slots(3 * MIB, BOTH));
    let (none, most) = (Slots::new(0), Slots::new(SLOTS_MAX + 1));
    let two = Transfer::Shared { slots: 2 };
    let cases = [
        (two, vec![], "come as one descriptor"),
        (two, vec![file.as_fd()], "pass a memfd"),
        (two, vec![unsealed.descriptor()], "seal it with F_SEAL_SHRINK and F_SEAL_GROW"),
        (two, vec![half.descriptor()], "can still shrink or grow"),
        (two, vec![short.descriptor()], "has 2097151 bytes; 2 slots take 2097152"),
        (two, vec![long.descriptor()], "has 3145728 bytes"),
        (two, vec![good.descriptor(); 2], "and 2 came"),
        (two, vec![good.descriptor(); 8], "and 8 came"),
        (none.transfer(), vec![none.descriptor()], "0 slots are offered; offer 1 to 1024"),
        (most.transfer(), vec![most.descriptor()], "1025 slots are offered"),
        (Transfer::Inline, vec![good.descriptor()], "without an Open that shares slots"),
    ];
    for (transfer, descriptors, words) in cases {
        let mut peer = Peer::greet(daemon.socket());
        peer.ask_to_open_with(opening(&path, OpenMode::Create, transfer), &descriptors);
        let failure = peer.failure();
        assert_eq!(failure.code, ErrorCode::BAD_SLOTS, "{failure:?}");
        assert!(failure.message.contains(words), "{failure:?}");
        peer.hang_up();
    }
    let mut peer = Peer::greet(daemon.socket());
    peer.send_with(&Command::Status.encode(1).unwrap(), &[good.descriptor()]);
    assert_eq!(peer.failure().code, ErrorCode::BAD_SLOTS);
    peer.hang_up();
    assert_eq!(std::fs::read(&path).unwrap(), b"dear");
    neighbour.assert_unharmed();
    assert_lets_go(&daemon);
}

/// Parts of two slots that there are not.
const NO_PARTS: [&[(u32, u32, u32)]; 7] = [
    &[],
    &[(2, 0, 1)],
    &[(u32::MAX, 0, 1)],
    &[(0, 0, 0)],
    &[(1, SLOT_BYTES - 1, 2)],
    &[(0, 0, 5), (1, u32::MAX, u32::MAX)],
    &[(0, 0, 1); 17],
];

#[test]
fn a_slot_that_there_is_not_ends_the_stream_and_keeps_what_came_before() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let neighbour = Neighbour::start(&daemon, root.path());
    let slots = Slots::new(2);
    slots.put(1, 9, b"hello");
    let refused = NO_PARTS.iter().enumerate().map(|(number, parts)| {
        let path = root.path().join(number.to_string());
        let mut peer = open(&daemon, &path, &slots);
        peer.slots(1, &[(1, 9, 5)]);
        peer.slots(2, parts);
        let failure = peer.failure();
        assert_eq!(failure.code, ErrorCode::BAD_SLOT, "{failure:?}");
        (peer, path, parts)
    });
    // All first: the daemon gives each of them some seconds to hear of it.
    for (mut peer, path, parts) in refused.collect::<Vec<_>>() {
        peer.wait_for_end();
        assert_eq!(std::fs::read(&path).unwrap(), b"hello", "{parts:?}");
    }
    let mut peer = Peer::greet(daemon.socket());
    assert!(!peer.open(root.path().join("inline"), OpenMode::Create).shared);
    peer.slots(1, &[(0, 0, 1)]);
    assert_eq!(peer.failure().code, ErrorCode::OUT_OF_SEQUENCE);
    peer.wait_for_end();
    neighbour.assert_unharmed();
    assert_lets_go(&daemon);
}

/// Sends 256 MiB from four slots while `spoil` changes them, and returns the file.
fn spoiled(name: &str, spoil: impl Fn(&Slots, &AtomicBool) + Sync) -> Vec<u8> {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let neighbour = Neighbour::start(&daemon, root.path());
    let path = root.path().join(name);
    let slots = Slots::new(4);
    let mut peer = open(&daemon, &path, &slots);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| spoil(&slots, &stop));
        for sequence in 1..=64 {
            peer.slots(sequence, &[0, 1, 2, 3].map(|slot| (slot, 0, SLOT_BYTES)));
        }
        assert_eq!(finish(peer, 65), 256 * MIB);
        stop.store(true, Ordering::Relaxed);
    });
    neighbour.assert_unharmed();
    let end = daemon.wait_for("no charges", |status| status.devices.is_empty());
    assert_eq!((end.budget.charged_bytes, end.budget.queued_bytes), (0, 0));
    assert_lets_go(&daemon);
    std::fs::read(path).unwrap()
}

#[test]
fn a_client_that_changes_bytes_in_flight_spoils_its_own_file_alone() {
    let file = spoiled("changed.mkv", |slots, stop| {
        for round in (1..=250).cycle() {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            for slot in 0..4 {
                slots.put(slot, 0, &[round; SLOT_BYTES as usize]);
            }
        }
    });
    assert!(file.iter().all(|byte| *byte <= 250), "bytes that nobody has ever written");
}

#[test]
fn a_slot_that_is_reused_too_early_has_either_content() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let neighbour = Neighbour::start(&daemon, root.path());
    let path = root.path().join("film.mkv");
    let slots = Slots::new(1);
    let mut peer = open(&daemon, &path, &slots);
    for number in 1..=200_u8 {
        // It does not wait for *written*.
        slots.put(0, 0, &[number; SLOT_BYTES as usize]);
        peer.slots(u64::from(number), &[(0, 0, SLOT_BYTES)]);
    }
    assert_eq!(finish(peer, 201), 200 * MIB);
    let file = std::fs::read(&path).unwrap();
    for (number, slot) in (1..).zip(file.chunks(SLOT_BYTES as usize)) {
        assert!(slot.iter().all(|byte| (number..=200).contains(byte)), "MiB {number} is older");
    }
    neighbour.assert_unharmed();
}

#[test]
fn nothing_is_left_of_two_hundred_clients_that_died_with_slots_in_flight() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let status = daemon.status();
    assert!(status.streams.is_empty());
    let baseline = daemon.descriptors();
    let paths: Vec<_> = (0..200).map(|number| root.path().join(number.to_string())).collect();
    for (number, path) in (0..).zip(&paths) {
        let slots = Slots::new(3);
        let mut peer = open(&daemon, path, &slots);
        let content = pattern::bytes(number, 0, 3 << 19);
        slots.put(2, 0, &content[..1 << 20]);
        slots.put(0, 64, &content[1 << 20..]);
        peer.slots(1, &[(2, 0, SLOT_BYTES)]);
        peer.slots(2, &[(0, 64, SLOT_BYTES / 2)]);
        // Of every other one all is accepted. The memory goes with the client, but for what the
        // daemon has mapped.
        if number % 2 == 0 {
            peer.say_no_more();
            drop(slots);
            peer.wait_for_end();
        }
    }
    let end = daemon.wait_for("the end of all of them", |status| {
        status.devices.is_empty()
            && status.streams.iter().all(|stream| stream.state == StreamState::Abandoned)
    });
    assert_eq!((end.budget.charged_bytes, end.budget.queued_bytes), (0, 0));
    for (number, path) in (0..).zip(&paths) {
        let len = pattern::prefix_len(number, path).unwrap();
        let whole: &[u64] = if number % 2 == 0 { &[3 << 19] } else { &[0, 1 << 20, 3 << 19] };
        assert!(whole.contains(&len), "{len} bytes of stream {number}");
    }
    // Though many of them are remembered.
    assert!(end.streams.iter().any(|stream| stream.shared));
    assert_lets_go(&daemon);
    let settled = wait_until(|| daemon.descriptors() <= baseline);
    assert!(settled, "{} descriptors, {baseline} before", daemon.descriptors());
}

#[test]
fn a_stream_takes_no_memory_of_the_daemons_for_content() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    drop(daemon.status());
    let before = daemon.resident_bytes().unwrap();
    let mut most = before;
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|number| {
                let mut file =
                    daemon.options().create(root.path().join(number.to_string())).unwrap();
                scope.spawn(move || {
                    write_pattern(&mut file, number, 0, 128 * MIB).unwrap();
                    file.finish().unwrap();
                })
            })
            .collect();
        while !writers.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            most = most.max(daemon.resident_bytes().unwrap());
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    });
    let per_stream = (most - before) / 4;
    assert!(per_stream <= 8 * MIB, "{per_stream} bytes per stream");
    for number in 0..4 {
        let path = root.path().join(number.to_string());
        assert_eq!(pattern::prefix_len(number, &path).unwrap(), 128 * MIB);
    }
}

#[test]
fn a_daemon_without_room_for_the_mapping_takes_content_inline() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    // Room for threads, and not for a GiB.
    let most = Some((kib << 10) + 512 * MIB);
    let pid = i32::try_from(daemon.pid()).ok().and_then(Pid::from_raw);
    prlimit(pid, Resource::As, Rlimit { current: most, maximum: most }).unwrap();
    let slots = Slots::new(SLOTS_MAX);
    let path = root.path().join("film.mkv");
    let mut peer = Peer::greet(daemon.socket());
    peer.ask_to_open_with(
        opening(&path, OpenMode::Create, slots.transfer()),
        &[slots.descriptor()],
    );
    assert!(!peer.opened().shared);
    peer.content(1, b"content");
    assert_eq!(finish(peer, 2), 7);
    assert_eq!(std::fs::read(&path).unwrap(), b"content");
    assert_lets_go(&daemon);
}
