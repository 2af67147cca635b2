//! Descriptors that take as long to be closed as their sender likes. Here they are TCP connections with bytes that
//! nobody reads and `SO_LINGER`: whoever closes the last descriptor of one waits. A file that its sender serves
//! himself, by FUSE, does as well. Passed at any moment of a connection, with a byte like any other or with an urgent
//! one, they must keep nobody waiting.

use std::fs::File;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use freemkvd_proto::hello::ClientHello;
use freemkvd_proto::{Command, ErrorCode, Kind};
use freemkvd_tests::daemon::{Daemon, wait_until};
use freemkvd_tests::peer::{Peer, giving};
use rustix::net::sockopt::{
    set_socket_linger, set_socket_recv_buffer_size, set_socket_send_buffer_size,
};
use rustix::process::Signal;

use crate::support::scratch;

/// How long a close would take.
const LINGER: Duration = Duration::from_secs(60);

/// More than the daemon has threads for connections.
const TIMES: usize = 4;

/// Connections that take long to be closed, until this is dropped.
#[derive(Default)]
struct Unread(Vec<TcpStream>);

impl Unread {
    /// The one end of one.
    fn socket(&mut self) -> OwnedFd {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        // Few bytes are as good as many.
        set_socket_recv_buffer_size(&listener, 1).unwrap();
        let mut socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        set_socket_send_buffer_size(&socket, 1).unwrap();
        self.0.push(listener.accept().unwrap().0);
        socket.set_nonblocking(true).unwrap();
        while socket.write(&[0; 1 << 16]).is_ok() {}
        set_socket_linger(&socket, Some(LINGER)).unwrap();
        socket.into()
    }
}

/// Panics unless others are served as if nothing were.
fn assert_serves(daemon: &Daemon, root: &Path) {
    let since = Instant::now();
    for number in 0..TIMES {
        assert!(daemon.try_status().is_some(), "no status");
        let mut file = daemon.options().create(root.join(number.to_string())).unwrap();
        file.write_all(b"film").unwrap();
        file.finish().unwrap();
    }
    assert!(since.elapsed() < LINGER / 4, "{:?}", since.elapsed());
}

/// Sends bytes, and descriptors with the first one.
type Pass = fn(&mut Peer, &[u8], &[BorrowedFd<'_>]);

/// Passes such descriptors by `send`, on connections that have come as far as `begin`, and looks how others are
/// served meanwhile.
fn check(begin: impl Fn(&Daemon) -> Peer, send: impl Fn(&mut Peer, Pass, BorrowedFd<'_>)) {
    check_by(Peer::send_with, &begin, &send);
    check_by(Peer::send_urgently_with, &begin, &send);
}

fn check_by(
    pass: Pass,
    begin: impl Fn(&Daemon) -> Peer,
    send: impl Fn(&mut Peer, Pass, BorrowedFd<'_>),
) {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let before = daemon.descriptors();
    let mut unread = Unread::default();
    let mut peers: Vec<_> = (0..TIMES).map(|_| begin(&daemon)).collect();
    // While it can't receive: it is to be the last one that has them.
    daemon.signal(Signal::STOP);
    for peer in &mut peers {
        send(peer, pass, unread.socket().as_fd());
    }
    daemon.signal(Signal::CONT);
    assert_serves(&daemon, root.path());
    drop(peers);
    assert_serves(&daemon, root.path());
    let is_closing = |threads: Vec<(String, i32)>| {
        threads.iter().any(|(name, _)| name.starts_with("close:") || name.ends_with(":film"))
    };
    assert!(is_closing(daemon.threads()), "nothing was closed slowly");
    drop(unread);
    let left = wait_until(|| daemon.descriptors() <= before);
    assert!(left, "{} descriptors, and {before} before", daemon.descriptors());
}

#[test]
fn with_the_hello() {
    check(
        |daemon| Peer::connect(daemon.socket()),
        |peer, pass, socket| pass(peer, &ClientHello::THIS.encode(), &[socket]),
    );
}

#[test]
fn with_a_request() {
    check(
        |daemon| Peer::greet(daemon.socket()),
        |peer, pass, socket| pass(peer, &Command::Status.encode(1).unwrap(), &[socket]),
    );
}

#[test]
fn in_the_middle_of_a_first_frame_and_more_than_there_is_room_for() {
    check(
        |daemon| Peer::greet(daemon.socket()),
        |peer, pass, socket| {
            let frame = Command::OpenGiven(giving("film")).encode(0).unwrap();
            peer.send(&frame[..20]);
            pass(peer, &frame[20..], &[socket; 8]);
        },
    );
}

#[test]
fn as_a_file() {
    check(
        |daemon| Peer::greet(daemon.socket()),
        |peer, pass, socket| {
            let frame = Command::OpenGiven(giving("film")).encode(0).unwrap();
            pass(peer, &frame, &[socket, socket]);
        },
    );
}

#[test]
fn with_a_later_request() {
    check(
        |daemon| {
            let mut peer = Peer::greet(daemon.socket());
            peer.command(1, &Command::Status);
            peer.reply().unwrap();
            peer
        },
        |peer, pass, socket| pass(peer, &Command::Status.encode(2).unwrap(), &[socket]),
    );
}

#[test]
fn with_content() {
    let root = scratch();
    let file = File::options().write(true).create_new(true).open(root.path().join("a")).unwrap();
    let again = File::options().write(true).open(root.path().join("a")).unwrap();
    let at = AtomicUsize::new(0);
    check(
        |daemon| {
            let mut peer = Peer::greet(daemon.socket());
            let name = at.fetch_add(1, Ordering::Relaxed).to_string();
            peer.give(giving(name), &[file.as_fd(), again.as_fd()]);
            // The file is that of the first one.
            peer.reply().unwrap();
            peer
        },
        |peer, pass, socket| {
            peer.header(Kind::Write as u16, 0, 4, 1);
            pass(peer, b"film", &[socket]);
        },
    );
}

#[test]
fn where_nobody_reads_any_more() {
    check(
        |daemon| {
            let mut peer = Peer::greet(daemon.socket());
            peer.header(0x7f, 0, 0, 0);
            peer.failure();
            peer
        },
        |peer, pass, socket| {
            // The daemon hangs up at the first one, and does not read the second.
            pass(peer, b"a", &[socket]);
            pass(peer, b"b", &[socket]);
        },
    );
}

#[test]
fn one_user_does_not_fill_the_table_with_what_is_not_closed() {
    const PEERS: usize = 32;
    /// As many as the kernel takes at once.
    const DESCRIPTORS: usize = 253;
    /// So many of one user the daemon lets wait; a message for each of its two threads that receive comes on top.
    const WAITING: usize = 512 + 2 * DESCRIPTORS;
    const LOOKS: usize = 20;
    let root = scratch();
    let daemon = Daemon::start(root.path(), "[limits]\nhandshake_timeout = \"10min\"");
    let before = daemon.descriptors();
    let mut unread = Unread::default();
    let mut peers: Vec<_> = (0..PEERS).map(|_| Peer::greet(daemon.socket())).collect();
    let request = Command::Status.encode(1).unwrap();
    daemon.signal(Signal::STOP);
    peers[0].send_with(&request, &[unread.socket().as_fd()]);
    daemon.signal(Signal::CONT);
    // Before the others come, which would be closed in no time if they were first.
    let is_closing = || daemon.threads().iter().any(|(name, _)| name.starts_with("close:"));
    assert!(wait_until(is_closing), "nothing is closed");
    let null = File::open("/dev/null").unwrap();
    // The system allows some users only so many that are on their way.
    let has_sent = |peer: &mut Peer| peer.try_send_with(&request, &[null.as_fd(); DESCRIPTORS]);
    let sent = 1 + peers[1..].iter_mut().map(has_sent).take_while(Result::is_ok).count();
    let is_behind = || Peer::connect(daemon.socket()).hello(&ClientHello::THIS.encode()).is_none();
    assert!(wait_until(is_behind), "{sent} messages, {} descriptors", daemon.descriptors());
    // All that there is to be received is ready, and others are served in their turn.
    assert!((0..LOOKS).all(|_| is_behind()));
    let most = before + PEERS + WAITING + 2 * LOOKS;
    assert!(daemon.descriptors() <= most, "{} descriptors", daemon.descriptors());
    drop(unread);
    for peer in &mut peers[..sent] {
        let code = peer.failure().code;
        assert!(matches!(code, ErrorCode::BAD_SLOTS | ErrorCode::BAD_FILE), "{code:?}");
    }
    drop(peers);
    // What was set free is closed by threads of its own.
    assert!(wait_until(|| !is_behind()));
    assert_serves(&daemon, root.path());
    let left = wait_until(|| daemon.descriptors() <= before);
    assert!(left, "{} descriptors, and {before} before", daemon.descriptors());
}

#[test]
fn on_a_connection_that_is_still_to_be_accepted_when_the_daemon_stops() {
    const PEERS: usize = 100;
    let root = scratch();
    let mut daemon = Daemon::start(root.path(), "");
    let mut unread = Unread::default();
    daemon.signal(Signal::STOP);
    let peers: Vec<_> = (0..PEERS)
        .map(|_| {
            let mut peer = Peer::connect(daemon.socket());
            peer.send_with(&ClientHello::THIS.encode(), &[unread.socket().as_fd()]);
            peer
        })
        .collect();
    // Both are there when it goes on, and the connections are more than it takes before it hears of the signal.
    daemon.signal(Signal::TERM);
    daemon.signal(Signal::CONT);
    let since = Instant::now();
    let end = daemon.wait_for_end();
    assert!(
        end.success() && since.elapsed() < LINGER / 4,
        "{:?}: {}",
        since.elapsed(),
        daemon.log()
    );
    assert!(!daemon.socket().exists(), "its file is left");
    drop((peers, unread));
}
