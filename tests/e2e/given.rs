//! Files that their client has opened itself, by hand: what is taken, what is refused (and then nothing was
//! touched, and nothing is left open), and what goes on after a restart.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use freemkvd_proto::limits::SLOT_BYTES;
use freemkvd_proto::status::StreamState;
use freemkvd_proto::{
    Command, ErrorCode, Mark, OpenGiven, OpenMode, Reply, Resume, Seek, Token, Transfer, WirePath,
};
use freemkvd_tests::daemon::{Daemon, wait_until};
use freemkvd_tests::pattern;
use freemkvd_tests::peer::{Peer, giving, opening};
use freemkvd_tests::slots::Slots;
use tempfile::TempDir;

use crate::support::{MIB, Neighbour, scratch};

const TOKEN: Token = Token(*b"a streams secret");

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
    let line = daemon.wait_for_log(&["opened by descriptor", "/somewhere/in a container/film.mkv"]);
    assert!(line.contains("ext4") || !line.contains("filesystem=\"\""), "{line}");
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
