//! Files that their client has opened itself, after a daemon was killed: the client brings them again.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::thread;

use freemkvd_proto::status::StreamState;
use freemkvd_proto::{
    Command, ErrorCode, Mark, OpenGiven, OpenMode, OpenResumable, Reply, Resume, Token, Transfer,
};
use freemkvd_tests::daemon::{Daemon, wait_until};
use freemkvd_tests::peer::{Peer, giving, opening};
use tempfile::TempDir;

use crate::support::scratch;

const TOKEN: Token = Token(*b"a streams secret");

/// A stream on a file of its client's that has `hello, ` in it.
struct Begun {
    root: TempDir,
    path: PathBuf,
    data: File,
    sentinel: File,
    daemon: Daemon,
    peer: Peer,
    stream: u64,
}

fn open(path: &PathBuf) -> File {
    File::options().write(true).open(path).unwrap()
}

fn given() -> OpenGiven {
    OpenGiven { token: Some(TOKEN), ..giving("/in a container/film") }
}

fn begun(config: &str) -> Begun {
    begun_under(&[], config)
}

/// Its daemon is started by `launcher`, which is told the root.
fn begun_under(launcher: &[&str], config: &str) -> Begun {
    let root = scratch();
    let mut launcher = launcher.to_vec();
    if !launcher.is_empty() {
        launcher.push(root.path().to_str().unwrap());
    }
    let daemon = Daemon::start_under(&launcher, root.path(), config);
    let path = root.path().join("film");
    fs::write(&path, b"").unwrap();
    let (data, sentinel) = (open(&path), open(&path));
    let mut peer = Peer::greet(daemon.socket());
    peer.give(given(), &[data.as_fd(), sentinel.as_fd()]);
    assert_eq!(peer.reply(), Some((0, Reply::Resumable)));
    let stream = peer.opened().stream;
    peer.content(1, b"hello, ");
    peer.command(2, &Command::Flush);
    peer.until(|_, reply| match reply {
        Reply::Progress(progress) => (progress.written.sequence >= 2).then_some(()),
        _ => None,
    });
    Begun { root, path, data, sentinel, daemon, peer, stream }
}

impl Begun {
    fn both(&self) -> [BorrowedFd<'_>; 2] {
        [self.data.as_fd(), self.sentinel.as_fd()]
    }

    fn kill(&mut self) {
        self.daemon.kill();
        self.daemon.start_again();
        let status = self.daemon.status();
        let states: Vec<_> =
            status.streams.iter().map(|stream| (stream.id, stream.state)).collect();
        assert_eq!(states, [(self.stream, StreamState::Suspended)]);
    }

    fn come_back_with(&self, descriptors: &[BorrowedFd<'_>]) -> Peer {
        let mut peer = Peer::greet(self.daemon.socket());
        peer.give_again(from(), descriptors);
        peer
    }
}

fn from() -> Resume {
    let (written, durable) = (Mark { sequence: 2, bytes: 7 }, Mark::default());
    Resume { token: TOKEN, written, durable, position: 7, transfer: Transfer::Inline }
}

fn finish(peer: &mut Peer, sequence: u64) -> u64 {
    peer.command(sequence, &Command::Finish);
    peer.until(|_, reply| match reply {
        Reply::Finished(finished) => Some(finished.len_bytes),
        Reply::Failed(failure) => panic!("{failure:?}"),
        _ => None,
    })
}

#[test]
fn a_stream_goes_on_with_the_file_that_its_client_has_kept_open() {
    let mut begun = begun("");
    for round in 0..3 {
        begun.kill();
        if round < 2 {
            // It hears that it was let in, and the daemon is killed again before it says anything.
            let mut peer = begun.come_back_with(&begun.both());
            let resumed = peer.resumed();
            assert_eq!((resumed.stream, resumed.watched), (begun.stream, true));
            begun.daemon.wait_for_log(&["goes on by descriptor"]);
        }
    }
    let directory = File::open(begun.root.path()).unwrap();
    let [data, sentinel] = begun.both();
    let mut peer = begun.come_back_with(&[data, sentinel, directory.as_fd()]);
    assert!(peer.resumed().watched);
    peer.content(3, b"world");
    assert_eq!(finish(&mut peer, 4), 12);
    assert_eq!(fs::read(&begun.path).unwrap(), b"hello, world");
    drop(peer);
    let kept = begun.daemon.socket().with_file_name("s.streams");
    assert!(wait_until(|| fs::read_dir(&kept).unwrap().count() == 0));
}

#[test]
fn a_client_that_comes_without_its_file_is_sent_back_for_it() {
    let mut begun = begun("");
    begun.kill();
    let [data, sentinel] = begun.both();
    for descriptors in [vec![], vec![data], vec![data, sentinel, data, sentinel]] {
        let mut peer = begun.come_back_with(&descriptors);
        assert_eq!(peer.failure().code, ErrorCode::BAD_FILE);
        peer.hang_up();
    }
    let mut peer = begun.come_back_with(&[data, sentinel]);
    peer.resumed();
    assert_eq!(finish(&mut peer, 3), 7);
}

#[test]
fn another_file_is_not_written_in_its_place() {
    let mut begun = begun("");
    begun.kill();
    let other = begun.path.with_file_name("other");
    fs::write(&other, b"dear").unwrap();
    let (data, sentinel) = (open(&other), open(&other));
    let mut peer = begun.come_back_with(&[data.as_fd(), sentinel.as_fd()]);
    peer.content(3, b"world");
    assert_eq!(peer.failure().code, ErrorCode::FILE_CHANGED);
    assert_eq!(
        (fs::read(&other).unwrap(), fs::read(&begun.path).unwrap()),
        (b"dear".to_vec(), b"hello, ".to_vec())
    );
}

#[test]
fn an_open_that_was_not_answered_is_asked_again_with_the_same_file() {
    let mut begun = begun("");
    let ask = |begun: &Begun, open: OpenGiven| {
        let mut peer = Peer::greet(begun.daemon.socket());
        peer.give(open, &begun.both());
        peer
    };
    assert_eq!(ask(&begun, given()).failure().code, ErrorCode::ATTACHED);
    begun.kill();
    let other = OpenGiven { token: Some(TOKEN), ..giving("another file") };
    assert_eq!(ask(&begun, other).failure().code, ErrorCode::NO_SUCH_TOKEN);
    let mut by_path = Peer::greet(begun.daemon.socket());
    let open = opening("/in a container/film", OpenMode::Create, Transfer::Inline);
    by_path.command(0, &Command::OpenResumable(OpenResumable { token: TOKEN, open }));
    assert_eq!(by_path.failure().code, ErrorCode::NO_SUCH_TOKEN);
    // As if it had not heard.
    let mut peer = ask(&begun, given());
    assert_eq!(peer.reply(), Some((0, Reply::Resumable)));
    assert_eq!(peer.opened().stream, begun.stream);
    peer.content(1, b"film");
    assert_eq!(finish(&mut peer, 2), 7);
    assert_eq!(fs::read(&begun.path).unwrap(), b"filmo, ");
}

#[test]
fn a_stream_whose_client_does_not_come_back_ends_and_its_file_stays_as_it_is() {
    let mut begun = begun("daemon.resume_grace = \"1s\"");
    begun.kill();
    // Nobody else gets it until then.
    let mut by_path = Peer::greet(begun.daemon.socket());
    by_path.ask_to_open(&begun.path, OpenMode::Create);
    assert_eq!(by_path.failure().code, ErrorCode::IN_USE);
    begun.daemon.wait_for("the end", |status| {
        status.streams.iter().all(|stream| stream.state == StreamState::Abandoned)
    });
    begun.daemon.wait_for_log(&["has not come back with it", "film"]);
    let mut peer = begun.come_back_with(&begun.both());
    assert_eq!(peer.failure().code, ErrorCode::NO_SUCH_TOKEN);
    assert_eq!(fs::read(&begun.path).unwrap(), b"hello, ");
    let mut by_path = Peer::greet(begun.daemon.socket());
    assert_eq!(by_path.open(&begun.path, OpenMode::Existing).len_bytes, 7);
    drop(begun.peer);
}

#[test]
fn a_planned_stop_is_no_other_matter() {
    let mut begun = begun("");
    begun.daemon.signal(rustix::process::Signal::TERM);
    assert!(begun.daemon.wait_for_end().success());
    begun.daemon.start_again();
    let mut peer = begun.come_back_with(&begun.both());
    assert!(peer.resumed().watched);
    peer.content(3, b"world");
    assert_eq!(finish(&mut peer, 4), 12);
    // And a stop while its file is not there.
    let mut begun = self::begun("");
    begun.kill();
    begun.daemon.signal(rustix::process::Signal::TERM);
    assert!(begun.daemon.wait_for_end().success());
    begun.daemon.start_again();
    let mut peer = begun.come_back_with(&begun.both());
    assert!(peer.resumed().watched);
    assert_eq!(finish(&mut peer, 3), 7);
}

/// Starts the daemon as a systemd does that was given a file under the name of stream 1: once that is there.
const WITH_KEPT_FILE: &str = r#"
    kept=$0/kept
    if [ -e "$kept" ]; then
        exec 3<>"$kept" 4<>"$kept" 5<"$0"
        export LISTEN_PID=$$ LISTEN_FDS=3
        export LISTEN_FDNAMES=stream-1-data:stream-1-sentinel:stream-1-directory
    fi
    exec "$@""#;

#[test]
fn a_file_that_systemd_has_is_not_written_in_the_place_of_the_clients() {
    let mut begun = begun_under(&["sh", "-c", WITH_KEPT_FILE], "");
    assert_eq!(begun.stream, 1);
    let before = begun.daemon.descriptors();
    let other = begun.root.path().join("kept");
    fs::write(&other, b"dear").unwrap();
    begun.kill();
    let mut peer = begun.come_back_with(&begun.both());
    assert!(peer.resumed().watched);
    peer.content(3, b"world");
    assert_eq!(finish(&mut peer, 4), 12);
    drop(peer);
    assert_eq!(fs::read(&begun.path).unwrap(), b"hello, world");
    assert_eq!(fs::read(&other).unwrap(), b"dear");
    let are_closed = wait_until(|| begun.daemon.descriptors() < before);
    assert!(are_closed, "{} descriptors, and {before} before", begun.daemon.descriptors());
}

/// The names of all that is put into the store of a systemd that listens on `socket`, until it hears `end`.
fn stored(socket: &UnixDatagram) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut buffer = [0; 4096];
    loop {
        let len = socket.recv(&mut buffer).unwrap();
        let message = String::from_utf8_lossy(&buffer[..len]);
        if message == "end" {
            return names;
        }
        if message.lines().any(|line| line == "FDSTORE=1") {
            let name = message.lines().find_map(|line| line.strip_prefix("FDNAME="));
            names.insert(name.unwrap().to_owned());
        }
    }
}

#[test]
fn systemd_is_given_no_file_that_its_client_has_opened() {
    let home = freemkvd_tests::daemon::home();
    let address = home.path().join("systemd");
    let socket = UnixDatagram::bind(&address).unwrap();
    let listens = thread::spawn(move || stored(&socket));
    let variable = format!("NOTIFY_SOCKET={}", address.display());
    let mut begun = begun_under(&["env", &variable, "sh", "-c", "exec \"$@\""], "");
    let mut by_path = Peer::greet(begun.daemon.socket());
    let path = begun.path.with_file_name("by path");
    let open = opening(&path, OpenMode::Create, Transfer::Inline);
    let token = Token(*b"another's secret");
    by_path.command(0, &Command::OpenResumable(OpenResumable { token, open }));
    assert_eq!(by_path.reply(), Some((0, Reply::Resumable)));
    let stream = by_path.opened().stream;
    begun.daemon.kill();
    begun.daemon.start_again();
    let mut peer = begun.come_back_with(&begun.both());
    assert!(peer.resumed().watched);
    assert_eq!(finish(&mut peer, 3), 7);
    begun.daemon.kill();
    UnixDatagram::unbound().unwrap().send_to(b"end", &address).unwrap();
    let of_path = ["data", "sentinel"].map(|role| format!("stream-{stream}-{role}"));
    assert_eq!(listens.join().unwrap(), BTreeSet::from(of_path));
}
