//! Peers that do their worst, thousands of times: nothing of them is left, and nobody else is hurt.
//!
//! `HOSTILE_ROUNDS=10000` for more rounds than the few of a quick test.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use freemkvd_proto::hello::ClientHello;
use freemkvd_proto::status::{Stream, StreamState};
use freemkvd_proto::{
    Command, ErrorCode, Header, Kind, OpenMode, Reply, SetLen, Transfer, partial_path,
};
use freemkvd_tests::daemon::{Daemon, wait_until};
use freemkvd_tests::pattern;
use freemkvd_tests::peer::{Peer, giving, opening};
use freemkvd_tests::slots::Slots;

use crate::support::{MIB, Neighbour, inside, scratch, write_pattern};

/// As many as the kernel takes at once.
const DESCRIPTORS: usize = 253;

/// Peers at once.
const WORKERS: u64 = 4;

/// One way to misbehave, with a file of one's own to do it to.
type Way = fn(&Daemon, &Path) -> Option<()>;

const WAYS: [Way; 16] = [
    connect_and_say_nothing,
    half_a_hello,
    half_an_open,
    descriptors_with_the_hello,
    wrong_descriptors_with_the_open,
    descriptors_with_a_request,
    descriptors_within_a_stream,
    vanish_within_a_write,
    vanish_with_answers_unread,
    ask_and_never_read,
    break_a_rule,
    empty_the_file_and_remove_it,
    offer_slots_and_vanish,
    give_what_is_no_file,
    give_a_file_and_cut_it_off,
    give_a_file_and_vanish,
];

/// Says hello. `None` for one who is not heard: what its user has passed has still to be closed.
fn greet(daemon: &Daemon) -> Option<Peer> {
    let mut peer = Peer::connect(daemon.socket());
    peer.hello(&ClientHello::THIS.encode()).map(|_| peer)
}

fn connect_and_say_nothing(daemon: &Daemon, _: &Path) -> Option<()> {
    drop(Peer::connect(daemon.socket()));
    Some(())
}

fn half_a_hello(daemon: &Daemon, _: &Path) -> Option<()> {
    Peer::connect(daemon.socket()).send(&ClientHello::THIS.encode()[..9]);
    Some(())
}

fn half_an_open(daemon: &Daemon, path: &Path) -> Option<()> {
    let mut peer = greet(daemon)?;
    let frame = Command::Open(opening(path, OpenMode::Create, Transfer::Inline)).encode(0).unwrap();
    peer.send(&frame[..frame.len() - 1]);
    Some(())
}

fn descriptors_with_the_hello(daemon: &Daemon, _: &Path) -> Option<()> {
    let null = File::open("/dev/null").unwrap();
    let mut peer = Peer::connect(daemon.socket());
    peer.try_send_with(&ClientHello::THIS.encode(), &[null.as_fd(); DESCRIPTORS]).ok()?;
    peer.wait_for_end();
    Some(())
}

fn wrong_descriptors_with_the_open(daemon: &Daemon, path: &Path) -> Option<()> {
    let (null, directory) = (File::open("/dev/null").unwrap(), File::open("/").unwrap());
    for descriptors in
        [vec![null.as_fd()], vec![directory.as_fd(), null.as_fd()], vec![null.as_fd(); DESCRIPTORS]]
    {
        let mut peer = greet(daemon)?;
        let open = opening(path, OpenMode::Create, Transfer::Shared { slots: 2 });
        peer.ask_to_open_with(open, &descriptors);
        let code = peer.failure().code;
        let expected = [ErrorCode::BAD_SLOTS, ErrorCode::BAD_FILE, ErrorCode::NO_RESOURCES];
        assert!(expected.contains(&code), "{code:?}");
    }
    Some(())
}

fn descriptors_with_a_request(daemon: &Daemon, _: &Path) -> Option<()> {
    let null = File::open("/dev/null").unwrap();
    let mut peer = greet(daemon)?;
    peer.try_send_with(&Command::Status.encode(1).unwrap(), &[null.as_fd(); DESCRIPTORS]).ok()?;
    peer.failure();
    Some(())
}

fn descriptors_within_a_stream(daemon: &Daemon, path: &Path) -> Option<()> {
    let null = File::open("/dev/null").unwrap();
    let mut peer = greet(daemon)?;
    peer.ask_to_open(path, OpenMode::Create);
    peer.content(1, b"content");
    peer.try_send_with(&Command::Flush.encode(2).unwrap(), &[null.as_fd(); DESCRIPTORS]).ok()?;
    peer.failure();
    Some(())
}

fn give_what_is_no_file(daemon: &Daemon, path: &Path) -> Option<()> {
    let (null, directory) = (File::open("/dev/null").unwrap(), File::open("/").unwrap());
    let (reads, writes) = pipe();
    let (null, directory) = (null.as_fd(), directory.as_fd());
    for files in [[null, null], [directory, directory], [reads.as_fd(), writes.as_fd()]] {
        let mut peer = greet(daemon)?;
        peer.give(giving(path), &files);
        let code = peer.failure().code;
        assert!(matches!(code, ErrorCode::BAD_FILE | ErrorCode::NO_RESOURCES), "{code:?}");
    }
    Some(())
}

/// A file as a client has it open, twice.
fn own_file(path: &Path) -> [File; 2] {
    let create = || File::options().write(true).create(true).truncate(true).open(path).unwrap();
    [create(), create()]
}

fn give_a_file_and_cut_it_off(daemon: &Daemon, path: &Path) -> Option<()> {
    let files = own_file(path);
    let mut peer = greet(daemon)?;
    peer.give(giving(path), &[files[0].as_fd(), files[1].as_fd()]);
    peer.content(1, &[1; 100_000]);
    peer.command(2, &Command::Flush);
    let _ = peer.reply();
    files[0].set_len(0).unwrap();
    std::fs::remove_file(path).unwrap();
    peer.content(3, &[2; 100_000]);
    peer.command(4, &Command::Finish);
    peer.hang_up();
    Some(())
}

fn give_a_file_and_vanish(daemon: &Daemon, path: &Path) -> Option<()> {
    let files = own_file(path);
    let mut peer = greet(daemon)?;
    peer.give(giving(path), &[files[0].as_fd(), files[1].as_fd()]);
    // Its side is closed, that of the daemon is not.
    drop(files);
    peer.content(1, &[1; 10_000]);
    Some(())
}

fn vanish_within_a_write(daemon: &Daemon, path: &Path) -> Option<()> {
    let mut peer = greet(daemon)?;
    peer.ask_to_open(path, OpenMode::Create);
    peer.header(2, 0, 4 << 20, 1);
    // A byte at a time, as far as it gets.
    (0..20).for_each(|byte| peer.send(&[byte]));
    Some(())
}

fn vanish_with_answers_unread(daemon: &Daemon, path: &Path) -> Option<()> {
    let mut peer = greet(daemon)?;
    peer.ask_to_open(path, OpenMode::Create);
    for number in 0..16 {
        peer.content(number * 2 + 1, &[1; 4096]);
        peer.command(number * 2 + 2, &Command::Flush);
    }
    peer.command(33, &Command::Finish);
    Some(())
}

fn ask_and_never_read(daemon: &Daemon, _: &Path) -> Option<()> {
    let mut peer = greet(daemon)?;
    let requests = (0..200).map(|number| Command::Status.encode(number).unwrap());
    peer.send(&requests.collect::<Vec<_>>().concat());
    Some(())
}

fn break_a_rule(daemon: &Daemon, path: &Path) -> Option<()> {
    let mut peer = greet(daemon)?;
    peer.ask_to_open(path, OpenMode::Create);
    peer.content(1, b"content");
    peer.command(1, &Command::Sync);
    peer.failure();
    Some(())
}

fn empty_the_file_and_remove_it(daemon: &Daemon, path: &Path) -> Option<()> {
    let mut peer = greet(daemon)?;
    peer.ask_to_open(path, OpenMode::Create);
    peer.content(1, &[1; 100_000]);
    peer.command(2, &Command::Flush);
    // It may have been refused: there are many of its kind.
    let _ = peer.reply();
    let _ = File::options().write(true).open(path).and_then(|file| file.set_len(0));
    let _ = std::fs::remove_file(path);
    peer.content(3, &[2; 100_000]);
    peer.command(4, &Command::Finish);
    peer.hang_up();
    Some(())
}

fn offer_slots_and_vanish(daemon: &Daemon, path: &Path) -> Option<()> {
    let slots = Slots::new(2);
    let mut peer = greet(daemon)?;
    let open = opening(path, OpenMode::Create, slots.transfer());
    peer.ask_to_open_with(open, &[slots.descriptor()]);
    peer.slots(1, &[(0, 0, 4096), (1, 9, 70_000)]);
    peer.slots(2, &[(5, 0, 1)]);
    Some(())
}

/// How many streams can be open at once.
fn room(daemon: &Daemon, root: &Path) -> usize {
    let mut peers = Vec::new();
    loop {
        let mut peer = Peer::greet(daemon.socket());
        peer.ask_to_open(root.join(format!("room-{}", peers.len())), OpenMode::Create);
        match peer.reply() {
            Some((0, Reply::Opened(_))) => peers.push(peer),
            Some((0, Reply::Failed(failure))) => {
                let expected = [ErrorCode::NO_RESOURCES, ErrorCode::TOO_MANY_STREAMS];
                assert!(expected.contains(&failure.code), "{failure:?}");
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    let count = peers.len();
    for mut peer in peers {
        peer.command(1, &Command::Abort);
        peer.hang_up();
    }
    daemon.wait_for("all of them gone", |status| status.devices.is_empty());
    count
}

fn rounds() -> u64 {
    std::env::var("HOSTILE_ROUNDS").map_or(2000, |rounds| rounds.parse().expect("a number"))
}

#[test]
fn nothing_is_left_of_peers_that_do_their_worst_and_nobody_is_hurt() {
    let root = scratch();
    // So few that whatever is kept of a round is missed before the last one.
    let daemon = Daemon::start_under(&["prlimit", "--nofile=2048"], root.path(), "");
    let room_before = room(&daemon, root.path());
    let before = (daemon.descriptors(), daemon.threads().len());
    let resident = daemon.resident_bytes().unwrap();
    let neighbour = Neighbour::start(&daemon, root.path());
    let (rounds, next) = (rounds(), AtomicU64::new(0));
    thread::scope(|scope| {
        for worker in 0..WORKERS {
            let (daemon, next, path) =
                (&daemon, &next, root.path().join(format!("hostile-{worker}")));
            scope.spawn(move || {
                loop {
                    let round = next.fetch_add(1, Ordering::Relaxed);
                    if round >= rounds {
                        break;
                    }
                    let way = usize::try_from(round).unwrap() % WAYS.len();
                    // At first it may not be: its user is behind with what others of it have passed.
                    let is_heard = wait_until(|| WAYS[way](daemon, &path).is_some());
                    assert!(is_heard, "round {round}, in way {way}, is never heard");
                }
            });
        }
    });
    let longest = neighbour.assert_unharmed();
    let end = daemon.wait_for("no charges", |status| {
        status.budget.charged_bytes == 0 && status.devices.is_empty()
    });
    assert_eq!(end.budget.queued_bytes, 0);
    let counts = || (daemon.descriptors(), daemon.threads().len());
    let given_back = wait_until(|| counts().0 <= before.0 && counts().1 <= before.1);
    assert!(given_back, "descriptors and threads were {before:?}, are {:?}", counts());
    assert_eq!(room(&daemon, root.path()), room_before, "claims on descriptors");
    println!(
        "{rounds} rounds: descriptors and threads {before:?}, then {:?}; room for {room_before} streams; private \
         memory {} KiB, then {} KiB; longest write() of a rip beside them {longest:?}",
        counts(),
        resident >> 10,
        daemon.resident_bytes().unwrap() >> 10,
    );
}

/// Both ends of a pipe: whoever has the second open keeps the first from its end.
fn pipe() -> (File, OwnedFd) {
    let (reads, writes) = rustix::pipe::pipe().unwrap();
    (File::from(reads), writes)
}

/// A way to send descriptors.
type Send = fn(&mut Peer, &[BorrowedFd<'_>]);

/// Where descriptors come that nobody has asked for, on a stream that has taken five bytes.
const PLACES: [(&str, Send); 5] = [
    ("in the head of a frame", |peer, all| {
        let frame = Command::Flush.encode(2).unwrap();
        peer.send(&frame[..1]);
        peer.send_with(&frame[1..], all);
    }),
    ("in its body", |peer, all| {
        let frame = Command::SetLen(SetLen { len: 300 }).encode(2).unwrap();
        peer.send(&frame[..17]);
        peer.send_with(&frame[17..], all);
    }),
    ("before content", |peer, all| {
        peer.header(2, 0, 70_000, 2);
        peer.send_with(&[2; 70_000], all);
    }),
    ("within it", |peer, all| {
        peer.header(2, 0, 70_000, 2);
        peer.send(&[2; 30_000]);
        peer.send_with(&[2; 40_000], all);
    }),
    ("with the last command", |peer, all| {
        peer.send_with(&Command::Finish.encode(2).unwrap(), all);
    }),
];

#[test]
fn a_descriptor_that_nobody_has_asked_for_is_closed_and_ends_its_stream() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let neighbour = Neighbour::start(&daemon, root.path());
    for (place, send) in PLACES {
        let path = root.path().join("film.mkv");
        let mut peer = Peer::greet(daemon.socket());
        let opened = peer.open(&path, OpenMode::Create);
        peer.content(1, b"hello");
        let (mut reads, writes) = pipe();
        send(&mut peer, &vec![writes.as_fd(); DESCRIPTORS]);
        drop(writes);
        let end = reads.read_to_end(&mut Vec::new());
        assert_eq!(end.unwrap(), 0, "{place}: nobody has written, and at last nobody can");
        assert_eq!(peer.failure().code, ErrorCode::BAD_SLOTS, "{place}");
        peer.hang_up();
        let is_open = |stream: &Stream| {
            let ended = [StreamState::Abandoned, StreamState::Failed];
            stream.id == opened.stream
                && !(stream.device.is_none() && ended.contains(&stream.state))
        };
        daemon.wait_for("the stream's end", |status| !status.streams.iter().any(is_open));
        assert_eq!(std::fs::read(&path).unwrap(), b"hello", "{place}");
    }
    neighbour.assert_unharmed();
}

#[test]
fn a_client_that_sends_single_bytes_is_served_as_any_other() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let neighbour = Neighbour::start(&daemon, root.path());
    let path = root.path().join("film.mkv");
    let content = pattern::bytes(1, 0, 3000);
    let mut frames = ClientHello::THIS.encode().to_vec();
    let open = Command::Open(opening(&path, OpenMode::Create, Transfer::Inline));
    frames.extend(open.encode(0).unwrap());
    frames.extend(Header::new(Kind::Write, 3000, 1).unwrap().encode());
    frames.extend(&content);
    frames.extend(Command::Finish.encode(2).unwrap());
    let mut peer = Peer::connect(daemon.socket());
    frames.chunks(1).for_each(|byte| peer.send(byte));
    let mut answer = [0; 16];
    peer.read_exact(&mut answer);
    let finished = |reply: &Reply| match reply {
        Reply::Finished(finished) => Some(finished.len_bytes),
        _ => None,
    };
    assert_eq!(peer.until(|_, reply| finished(reply)), 3000);
    peer.hang_up();
    assert_eq!(std::fs::read(&path).unwrap(), content);
    neighbour.assert_unharmed();
}

/// What a client does to its own file while the daemon writes it, and whether the name is gone with it.
type Change = (&'static str, fn(&Path), bool);

const CHANGES: [Change; 7] = [
    ("empties it", |path| set_len(path, 0), false),
    ("makes it longer", |path| set_len(path, 64 * MIB), false),
    ("takes blocks out of it", punch, false),
    ("takes all rights away", |path| set_mode(path, 0), false),
    ("removes it", |path| std::fs::remove_file(path).unwrap(), true),
    ("puts another one in its place", replace, true),
    ("puts a directory in its place", put_directory, true),
];

fn set_len(path: &Path, len: u64) {
    File::options().write(true).open(path).unwrap().set_len(len).unwrap();
}

fn put_directory(path: &Path) {
    std::fs::remove_file(path).unwrap();
    std::fs::create_dir(path).unwrap();
}

fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn replace(path: &Path) {
    let other = path.with_extension("other");
    std::fs::write(&other, b"other").unwrap();
    std::fs::rename(&other, path).unwrap();
}

fn punch(path: &Path) {
    use rustix::fs::{FallocateFlags, fallocate};
    let file = File::options().write(true).open(path).unwrap();
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    fallocate(&file, flags, 0, MIB).unwrap();
}

#[test]
fn a_client_that_changes_its_file_under_the_daemon_harms_that_file_alone() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let neighbour = Neighbour::start(&daemon, root.path());
    let path = root.path().join("film.mkv");
    for publishes in [false, true] {
        let opened = if publishes { partial_path(&path) } else { path.clone() };
        for (what, change, takes_name) in CHANGES {
            let options = daemon.options().window_bytes(MIB).publish(publishes);
            let mut file = options.create(&path).unwrap();
            write_pattern(&mut file, 1, 0, 4 * MIB).unwrap();
            file.sync_all().unwrap();
            change(&opened);
            write_pattern(&mut file, 1, 4 * MIB, 4 * MIB).unwrap();
            match file.finish() {
                Ok(finished) => {
                    assert!(!(publishes && takes_name), "{what}: published");
                    assert!(finished.len_bytes >= 8 * MIB, "{what}: {finished:?}");
                }
                Err(error) => {
                    assert!(publishes && takes_name, "{what}: {error}");
                    assert_eq!(inside(&error).code(), Some(ErrorCode::NOT_PUBLISHED), "{what}");
                    assert!(error.to_string().contains("has taken its name away"), "{error}");
                }
            }
            for name in [&path, &opened] {
                let _ = std::fs::remove_file(name).or_else(|_| std::fs::remove_dir(name));
            }
        }
    }
    neighbour.assert_unharmed();
    let end = daemon.wait_for("no charges", |status| status.devices.is_empty());
    assert_eq!(end.budget.charged_bytes, 0);
}
