//! Files that their client has opened itself, by hand: what is taken, what is refused (and then nothing was
//! touched, and nothing is left open), and what goes on after a restart.

use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use freemkvd_proto::hello::{ClientHello, DaemonHello};
use freemkvd_proto::limits::{LABEL_BYTES_MAX, SLOT_BYTES};
use freemkvd_proto::{Command, ErrorCode, OpenGiven, OpenMode, Reply, Seek, WirePath};
use freemkvd_tests::daemon::{Daemon, wait_until};
use freemkvd_tests::pattern;
use freemkvd_tests::peer::{Peer, giving};
use freemkvd_tests::slots::Slots;
use rustix::fs::{FileType, Mode, OFlags};
use tempfile::TempDir;

use crate::support::{MIB, Neighbour, scratch};

/// A file as a client has it open, in a place of which the daemon knows nothing.
struct Given {
    path: PathBuf,
    data: File,
    sentinel: File,
    directory: File,
    _place: TempDir,
}

impl Given {
    fn new(content: &[u8]) -> Self {
        let place = scratch();
        let path = place.path().join("film.mkv");
        fs::write(&path, content).unwrap();
        let open = || File::options().write(true).open(&path).unwrap();
        let directory = File::open(place.path()).unwrap();
        Self { data: open(), sentinel: open(), directory, path, _place: place }
    }

    fn both(&self) -> [BorrowedFd<'_>; 2] {
        [self.data.as_fd(), self.sentinel.as_fd()]
    }

    fn all(&self) -> [BorrowedFd<'_>; 3] {
        [self.data.as_fd(), self.sentinel.as_fd(), self.directory.as_fd()]
    }

    fn content(&self) -> Vec<u8> {
        fs::read(&self.path).unwrap()
    }

    /// A stream on it.
    fn open(&self, daemon: &Daemon, open: OpenGiven) -> Peer {
        let mut peer = Peer::greet(daemon.socket());
        let with_directory = OpenGiven { passes_directory: true, ..open };
        peer.give(with_directory, &self.all());
        peer
    }
}

fn finish(peer: &mut Peer, sequence: u64) -> u64 {
    peer.command(sequence, &Command::Finish);
    peer.until(|_, reply| match reply {
        Reply::Finished(finished) => Some(finished.len_bytes),
        Reply::Failed(failure) => panic!("{failure:?}"),
        _ => None,
    })
}

/// How often a file is open in the daemon.
fn open_in(daemon: &Daemon, path: &Path) -> usize {
    let entries = fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap().flatten();
    entries.filter(|entry| fs::read_link(entry.path()).is_ok_and(|link| link == path)).count()
}

#[test]
fn a_file_outside_of_all_roots_is_written_by_descriptor() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let file = Given::new(b"old content");
    let mut peer = file.open(&daemon, giving("/somewhere/in a container/film.mkv"));
    let opened = peer.opened();
    assert_eq!((opened.len_bytes, opened.shared), (11, false));
    daemon.wait_for_log(&["opened by descriptor", "/somewhere/in a container/film.mkv"]);
    let status = daemon.status();
    assert_eq!(status.streams[0].path, "/somewhere/in a container/film.mkv");
    peer.content(1, b"new");
    peer.command(2, &Command::Sync);
    peer.until(|sequence, reply| (sequence == 2 && *reply == Reply::Synced).then_some(()));
    assert_eq!(file.content(), b"new content");
    peer.command(3, &Command::Seek(Seek { offset: 4 }));
    peer.content(4, b"bytes!!");
    assert_eq!(finish(&mut peer, 5), 11);
    assert_eq!(file.content(), b"new bytes!!");
    assert!(wait_until(|| open_in(&daemon, &file.path) == 0), "it is closed");
}

#[test]
fn content_in_shared_slots_goes_to_a_file_that_was_emptied() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let file = Given::new(&vec![9; 5 << 20]);
    let slots = Slots::new(2);
    let open = OpenGiven { empties: true, transfer: slots.transfer(), ..giving("film") };
    let mut peer = Peer::greet(daemon.socket());
    let [data, sentinel] = file.both();
    peer.give(open, &[slots.descriptor(), data, sentinel]);
    let opened = peer.opened();
    assert!(opened.shared && opened.len_bytes == 0, "{opened:?}");
    let content = pattern::bytes(1, 0, 2 << 20);
    slots.put(0, 0, &content[..1 << 20]);
    slots.put(1, 0, &content[1 << 20..]);
    peer.slots(1, &[(0, 0, SLOT_BYTES), (1, 0, SLOT_BYTES)]);
    assert_eq!(finish(&mut peer, 2), 2 * MIB);
    assert!(file.content() == content);
}

#[test]
fn what_is_no_file_opened_twice_is_refused_and_nothing_is_left_open() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let neighbour = Neighbour::start(&daemon, root.path());
    let (file, other) = (Given::new(b"dear"), Given::new(b"other"));
    let open = |flags| rustix::fs::open(&file.path, flags, Mode::empty()).unwrap();
    let (reader, append) = (open(OFlags::RDONLY), open(OFlags::WRONLY | OFlags::APPEND));
    let named = open(OFlags::PATH);
    let fifo = file.path.with_file_name("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, FileType::Fifo, Mode::RWXU, 0).unwrap();
    let fifo = rustix::fs::open(&fifo, OFlags::RDWR, Mode::empty()).unwrap();
    let null: OwnedFd = File::options().write(true).open("/dev/null").unwrap().into();
    let (socket, _socket) = UnixStream::pair().unwrap();
    let copy = file.data.try_clone().unwrap();
    let memory = Slots::new(1);
    let [data, sentinel] = file.both();
    let directory = file.directory.as_fd();
    let two = giving("/film");
    let three = OpenGiven { passes_directory: true, ..two.clone() };
    let shared = OpenGiven { transfer: memory.transfer(), ..two.clone() };
    let cases: [(&OpenGiven, Vec<BorrowedFd<'_>>, &str); 18] = [
        (&two, vec![], "0 descriptors came where there should be 2"),
        (&two, vec![data], "1 descriptors came"),
        (&two, vec![data, sentinel, directory], "3 descriptors came"),
        (&three, vec![data, sentinel], "where there should be 3"),
        (&three, vec![data, sentinel, directory, directory], "4 descriptors came"),
        (&shared, vec![data, sentinel], "the memory of the shared slots, the file"),
        (&two, vec![data; 8], "8 descriptors came"),
        (&two, vec![reader.as_fd(), sentinel], "not open for writing"),
        (&two, vec![data, reader.as_fd()], "not open for writing"),
        (&two, vec![append.as_fd(), sentinel], "O_APPEND"),
        (&two, vec![named.as_fd(), sentinel], "O_PATH"),
        (&two, vec![fifo.as_fd(), sentinel], "a pipe"),
        (&two, vec![data, socket.as_fd()], "a socket"),
        (&two, vec![null.as_fd(), sentinel], "a device"),
        (&two, vec![data, other.sentinel.as_fd()], "two different files"),
        (&two, vec![data, copy.as_fd()], "a copy of the first"),
        (&three, vec![data, sentinel, reader.as_fd()], "what came as its directory is none"),
        (&two, vec![memory.descriptor(), memory.descriptor()], ""),
    ];
    let before = daemon.descriptors();
    for _round in 0..20 {
        for (open, descriptors, words) in &cases {
            let mut peer = Peer::greet(daemon.socket());
            let empties = OpenGiven { empties: true, ..(*open).clone() };
            peer.give(empties, descriptors);
            let failure = peer.failure();
            assert_eq!(failure.code, ErrorCode::BAD_FILE, "{failure:?}");
            assert!(failure.message.contains(words), "{failure:?}");
            peer.hang_up();
        }
    }
    let mut peer = Peer::greet(daemon.socket());
    let [data, sentinel] = file.both();
    peer.give(shared, &[data, sentinel, directory]);
    assert_eq!(peer.failure().code, ErrorCode::BAD_SLOTS, "a file is no memory");
    peer.hang_up();
    assert_eq!((file.content(), other.content()), (b"dear".to_vec(), b"other".to_vec()));
    let left = wait_until(|| daemon.descriptors() <= before);
    assert!(left, "{} descriptors, and {before} before", daemon.descriptors());
    assert!(wait_until(|| !daemon.threads().iter().any(|(name, _)| name.starts_with("close"))));
    neighbour.assert_unharmed();
}

#[test]
fn what_is_said_of_a_file_has_to_make_sense() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let file = Given::new(b"dear");
    let label = |bytes: Vec<u8>| OpenGiven { label: WirePath(bytes), ..giving("x") };
    for (open, code) in [
        (label(vec![]), ErrorCode::BAD_PATH),
        (label(vec![b'a'; LABEL_BYTES_MAX + 1]), ErrorCode::BAD_PATH),
        (label(b"a\0b".to_vec()), ErrorCode::BAD_PATH),
        (OpenGiven { weight: 9, ..giving("x") }, ErrorCode::BAD_WEIGHT),
    ] {
        let mut peer = file.open(&daemon, OpenGiven { empties: true, ..open });
        assert_eq!(peer.failure().code, code);
        peer.hang_up();
    }
    let mut old = Peer::connect(daemon.socket());
    let hello = old.hello(&ClientHello { lowest: 2, highest: 4 }.encode());
    assert_eq!(hello, Some(DaemonHello::Accepted { version: 4 }));
    old.give(giving("x"), &file.both());
    assert_eq!(old.failure().code, ErrorCode::UNKNOWN_KIND);
    assert_eq!(file.content(), b"dear");
    // It need not be a path, and may be as long as one.
    for bytes in [vec![b'a'; LABEL_BYTES_MAX], b"\xff film".to_vec()] {
        let mut peer = file.open(&daemon, label(bytes));
        assert_eq!(peer.opened().len_bytes, 4);
        peer.command(1, &Command::Abort);
        peer.until(|_, reply| (*reply == Reply::Aborted).then_some(()));
    }
    assert!(wait_until(|| open_in(&daemon, &file.path) == 0));
}

#[test]
fn nobody_writes_a_file_that_another_stream_has_however_it_is_opened() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let mut file = Given::new(b"dear");
    let named = root.path().join("film.mkv");
    fs::rename(&file.path, &named).unwrap();
    file.path.clone_from(&named);
    let mut given = file.open(&daemon, giving("film"));
    given.opened();
    let refused = |mut peer: Peer| assert_eq!(peer.failure().code, ErrorCode::IN_USE);
    refused(file.open(&daemon, OpenGiven { empties: true, ..giving("the same one") }));
    let mut by_path = Peer::greet(daemon.socket());
    by_path.ask_to_open(&named, OpenMode::Create);
    refused(by_path);
    assert_eq!(finish(&mut given, 1), 4);
    let mut by_path = Peer::greet(daemon.socket());
    by_path.open(&named, OpenMode::Existing);
    refused(file.open(&daemon, OpenGiven { empties: true, ..giving("film") }));
    assert_eq!(finish(&mut by_path, 1), 4);
    assert_eq!(file.content(), b"dear");
}

#[test]
fn what_its_client_does_to_its_own_file_hurts_nobody() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let neighbour = Neighbour::start(&daemon, root.path());
    let file = Given::new(b"");
    let mut peer = file.open(&daemon, OpenGiven { size_hint_bytes: Some(8 * MIB), ..giving("a") });
    peer.opened();
    let content = pattern::bytes(3, 0, 2 << 20);
    peer.content(1, &content);
    fs::set_permissions(&file.path, fs::Permissions::from_mode(0o000)).unwrap();
    peer.content(2, &content);
    peer.command(3, &Command::Sync);
    peer.until(|sequence, reply| (sequence == 3 && *reply == Reply::Synced).then_some(()));
    file.data.set_len(MIB).unwrap();
    fs::remove_file(&file.path).unwrap();
    peer.content(4, &content);
    assert_eq!(finish(&mut peer, 5), 6 * MIB);
    let mut read = vec![0; 2 << 20];
    file.data.set_permissions(fs::Permissions::from_mode(0o600)).unwrap();
    let again = File::open(format!("/proc/self/fd/{}", raw(&file.data))).unwrap();
    std::os::unix::fs::FileExt::read_exact_at(&again, &mut read, 4 * MIB).unwrap();
    assert!(read == content);
    neighbour.assert_unharmed();
}

fn raw(file: &File) -> i32 {
    std::os::fd::AsRawFd::as_raw_fd(file)
}

#[test]
fn a_file_without_a_name_is_written_too() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let place = scratch();
    let flags = OFlags::TMPFILE | OFlags::RDWR;
    let data = rustix::fs::open(place.path(), flags, Mode::RUSR | Mode::WUSR).unwrap();
    let data = File::from(data);
    let sentinel = File::options().write(true).open(format!("/proc/self/fd/{}", raw(&data)));
    let sentinel = sentinel.unwrap();
    let mut peer = Peer::greet(daemon.socket());
    peer.give(giving("no name"), &[data.as_fd(), sentinel.as_fd()]);
    peer.opened();
    peer.content(1, b"film");
    assert_eq!(finish(&mut peer, 2), 4);
    let mut read = [0; 4];
    std::os::unix::fs::FileExt::read_exact_at(&data, &mut read, 0).unwrap();
    assert_eq!(read, *b"film");
}
