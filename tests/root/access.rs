//! Peers of several users: who may write, look, decide, and how much each may have. A peer is a thread of this
//! process that has become somebody else, which is all that the kernel asks for.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command as Program, Output};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use freemkvd_proto::hello::{ClientHello, DaemonHello};
use freemkvd_proto::{
    AbortStream, Command, ErrorCode, Failure, Mark, OpenMode, PauseStream, Reply, Resume,
    SetWeight, Token, Transfer,
};
use freemkvd_tests::daemon::{Daemon, wait_until};
use freemkvd_tests::peer::Peer;
use freemkvd_tests::programs;
use rustix::process::{Gid, Signal, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

/// Users and groups that no host has.
const OWNER: User = User { uid: 61_001, groups: &[61_101] };
const MEMBER: User = User { uid: 61_002, groups: &[61_102, 5, WRITERS] };
const OTHER: User = User { uid: 61_003, groups: &[61_103] };
const ADMINISTRATOR: User = User { uid: 61_004, groups: &[61_104, ADMINISTRATORS] };
const ROOT: User = User { uid: 0, groups: &[0] };
const WRITERS: u32 = 61_200;
const ADMINISTRATORS: u32 = 61_300;

/// The first group is its own, the others are supplementary.
#[derive(Clone, Copy, Debug)]
struct User {
    uid: u32,
    groups: &'static [u32],
}

impl User {
    /// What comes of `act` when this user does it.
    fn does<T: Send>(self, act: impl FnOnce() -> T + Send) -> T {
        let become_it = move || {
            let (own, others) = self.groups.split_first().unwrap();
            let others: Vec<_> = others.iter().map(|group| Gid::from_raw(*group)).collect();
            set_thread_groups(&others)?;
            let gid = Some(Gid::from_raw(*own));
            set_thread_res_gid(gid, gid, gid)?;
            let uid = Some(Uid::from_raw(self.uid));
            set_thread_res_uid(uid, uid, uid)
        };
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                become_it().expect("run as root");
                act()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn greets(self, daemon: &Daemon) -> Peer {
        self.does(|| Peer::greet(daemon.socket()))
    }

    /// Opens a stream, which goes on for as long as the peer is there.
    fn opens(self, daemon: &Daemon, path: &Path) -> Result<(Peer, u64), Failure> {
        let mut peer = self.greets(daemon);
        peer.ask_to_open(path, OpenMode::Create);
        match peer.reply() {
            Some((0, Reply::Opened(opened))) => Ok((peer, opened.stream)),
            Some((0, Reply::Failed(failure))) => {
                peer.hang_up();
                Err(failure)
            }
            other => panic!("Open was answered by {other:?}"),
        }
    }

    fn asks(self, daemon: &Daemon, command: &Command) -> Reply {
        let mut peer = self.greets(daemon);
        peer.command(1, command);
        peer.reply().expect("an answer").1
    }

    fn is_refused(self, daemon: &Daemon, command: &Command, code: ErrorCode) -> String {
        match self.asks(daemon, command) {
            Reply::Failed(failure) if failure.code == code => failure.message,
            other => panic!("{self:?}: {command:?} was answered by {other:?}, not by {code}"),
        }
    }

    /// Runs `freemkvctl`.
    fn runs(self, daemon: &Daemon, arguments: &[&str]) -> Output {
        // Built before, by who may.
        let program = programs::freemkvctl();
        self.does(|| {
            let mut program = Program::new(program);
            program.arg("--socket").arg(daemon.socket()).args(arguments).output().unwrap()
        })
    }
}

fn config(access: &str) -> String {
    format!("[access]\nsocket_mode = \"0666\"\n{access}\n")
}

/// A daemon whose socket everybody can reach.
fn daemon(root: &Path, access: &str) -> Daemon {
    let daemon = Daemon::start(root, &config(access));
    let home = daemon.socket().parent().unwrap();
    std::fs::set_permissions(home, PermissionsExt::from_mode(0o711)).unwrap();
    daemon
}

fn reload(daemon: &Daemon, access: &str) {
    std::fs::write(daemon.config_file(), config(access)).unwrap();
    daemon.signal(Signal::HUP);
    daemon.wait_for_log(&["configuration reloaded", "access."]);
}

fn weight(stream: u64) -> Command {
    Command::SetWeight(SetWeight { stream, weight: 50 })
}

#[test]
#[ignore = "needs root"]
fn those_who_are_named_may_write_and_nobody_else() {
    let root = tempfile::tempdir().unwrap();
    let access = format!("users = [{}]\ngroups = [{WRITERS}]", OWNER.uid);
    let daemon = daemon(root.path(), &access);
    let own_group = User { uid: 61_009, groups: &[WRITERS] };
    for user in [OWNER, MEMBER, own_group, ROOT] {
        let path = root.path().join(user.uid.to_string());
        let (_peer, stream) = user.opens(&daemon, &path).unwrap();
        let status = daemon.status();
        let shown = status.streams.iter().find(|shown| shown.id == stream).unwrap();
        assert_eq!(shown.client_uid, Some(user.uid));
        assert_eq!(shown.client_pid, Some(std::process::id()));
        assert!(matches!(user.asks(&daemon, &Command::Status), Reply::FullReport(_)));
    }
    // The number of a group is none of a user, and the other way round.
    let confused = User { uid: WRITERS, groups: &[61_001] };
    for user in [OTHER, ADMINISTRATOR, confused] {
        let path = root.path().join(user.uid.to_string());
        let failure = user.opens(&daemon, &path).err().unwrap();
        assert_eq!(failure.code, ErrorCode::NOT_ALLOWED, "{failure:?}");
        let expected = format!(
            "user {} may not write through freemkvd; ask for membership in group {WRITERS}, and log in again, \
             or to be added to access.users in the configuration of freemkvd",
            user.uid
        );
        assert_eq!(failure.message, expected);
        assert!(!path.exists());
        user.is_refused(&daemon, &Command::Status, ErrorCode::NOT_ALLOWED);
        user.is_refused(&daemon, &Command::Drain, ErrorCode::NOT_YOURS);
    }
    let uid = format!("client_uid={}", OTHER.uid);
    daemon.wait_for_log(&["WARN", "may not write through freemkvd", &uid]);
}

#[test]
#[ignore = "needs root"]
fn a_group_counts_also_as_the_last_of_many() {
    const MANY: &[u32] = &{
        let (mut groups, mut at, mut group) = ([0; 300], 0, 70_000);
        while at < groups.len() {
            (groups[at], at, group) = (group, at + 1, group + 1);
        }
        groups
    };
    let root = tempfile::tempdir().unwrap();
    let daemon = daemon(root.path(), "groups = [70299]");
    let user = User { uid: 61_010, groups: MANY };
    user.opens(&daemon, &root.path().join("all")).unwrap();
    let less = User { uid: 61_010, groups: &MANY[..299] };
    assert!(less.opens(&daemon, &root.path().join("film")).is_err());
}

#[test]
#[ignore = "needs root"]
fn names_are_those_of_the_host() {
    let root = tempfile::tempdir().unwrap();
    let daemon = daemon(root.path(), "users = [\"daemon\"]\ngroups = [\"sys\"]");
    for user in [User { uid: 1, groups: &[1] }, User { uid: 61_001, groups: &[61_101, 3] }] {
        user.opens(&daemon, &root.path().join(user.uid.to_string())).unwrap();
    }
    assert!(OWNER.opens(&daemon, &root.path().join("film")).is_err());
    std::fs::write(daemon.config_file(), config("users = [\"nobody-has-this-name\"]")).unwrap();
    daemon.signal(Signal::HUP);
    let line = daemon.wait_for_log(&["kept as it was", "access.users"]);
    assert!(
        line.contains("config.toml:3: access.users names user \"nobody-has-this-name\""),
        "{line}"
    );
}

#[test]
#[ignore = "needs root"]
fn everybody_may_look_where_that_is_configured_and_do_nothing_else() {
    let root = tempfile::tempdir().unwrap();
    let access = format!("users = [{}]\nstatus_for_all = true", OWNER.uid);
    let daemon = daemon(root.path(), &access);
    let (_peer, stream) = OWNER.opens(&daemon, &root.path().join("film")).unwrap();
    let Reply::FullReport(status) = OTHER.asks(&daemon, &Command::Status) else {
        panic!("no status");
    };
    assert_eq!(status.streams[0].client_uid, Some(OWNER.uid));
    let output = OTHER.runs(&daemon, &["status"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let failure = OTHER.opens(&daemon, &root.path().join("other")).err().unwrap();
    assert_eq!(failure.code, ErrorCode::NOT_ALLOWED);
    let abort = Command::AbortStream(AbortStream { stream });
    let pause = Command::PauseStream(PauseStream { stream, pause: true });
    for command in [weight(stream), pause, abort] {
        let message = OTHER.is_refused(&daemon, &command, ErrorCode::NOT_YOURS);
        let expected = format!(
            "stream {stream} is another user's; that user may do it, and root and the user that freemkvd runs as"
        );
        assert_eq!(message, expected);
    }
    OTHER.is_refused(&daemon, &Command::Drain, ErrorCode::NOT_YOURS);
    let message = OTHER.is_refused(&daemon, &Command::Reload, ErrorCode::NOT_YOURS);
    assert_eq!(
        message,
        "its configuration may be reloaded by root and the user that freemkvd runs as"
    );
    assert_eq!(daemon.status().streams.len(), 1);
}

#[test]
#[ignore = "needs root"]
fn administrators_decide_about_all_streams_and_owners_about_their_own() {
    let root = tempfile::tempdir().unwrap();
    let access = format!("users = [{}, {}]\nadmin_group = {ADMINISTRATORS}", OWNER.uid, OTHER.uid);
    let mut daemon = daemon(root.path(), &access);
    let path = |name: &str| root.path().join(name);
    let (_mine, mine) = OWNER.opens(&daemon, &path("mine")).unwrap();
    let (mut theirs, stream) = OTHER.opens(&daemon, &path("theirs")).unwrap();
    let abort = Command::AbortStream(AbortStream { stream });
    for user in [OTHER, ADMINISTRATOR, ROOT] {
        assert_eq!(user.asks(&daemon, &weight(stream)), Reply::Done, "{user:?}");
    }
    let message = OWNER.is_refused(&daemon, &abort, ErrorCode::NOT_YOURS);
    assert!(message.ends_with(&format!("and the members of group {ADMINISTRATORS}")), "{message}");
    // To decide is not to write.
    let failure = ADMINISTRATOR.opens(&daemon, &path("new")).err().unwrap();
    assert_eq!(failure.code, ErrorCode::NOT_ALLOWED);
    assert!(matches!(ADMINISTRATOR.asks(&daemon, &Command::Status), Reply::FullReport(_)));
    assert_eq!(ADMINISTRATOR.asks(&daemon, &abort), Reply::Done);
    assert_eq!(theirs.failure().code, ErrorCode::ABORTED);
    let by = format!("client_uid={}", ADMINISTRATOR.uid);
    daemon.wait_for_log(&["WARN", "aborted", &by]);
    assert_eq!(
        OWNER.asks(&daemon, &Command::AbortStream(AbortStream { stream: mine })),
        Reply::Done
    );

    let output = OWNER.runs(&daemon, &["drain"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("it may be stopped by root, the user that freemkvd runs as, and the mem"),
        "{said}"
    );
    assert!(matches!(ADMINISTRATOR.asks(&daemon, &Command::Reload), Reply::Reloaded(_)));
    assert_eq!(ADMINISTRATOR.asks(&daemon, &Command::Drain), Reply::Done);
    daemon.wait_for_end();
}

#[test]
#[ignore = "needs root"]
fn the_user_that_the_daemon_runs_as_decides_about_all() {
    let home = freemkvd_tests::daemon::home();
    let root = tempfile::tempdir().unwrap();
    let (socket, file) = (home.path().join("s"), home.path().join("config.toml"));
    std::fs::write(&file, config(&format!("groups = [{WRITERS}]"))).unwrap();
    for directory in [home.path(), root.path()] {
        std::os::unix::fs::chown(directory, Some(OTHER.uid), Some(OTHER.groups[0])).unwrap();
        std::fs::set_permissions(directory, PermissionsExt::from_mode(0o711)).unwrap();
    }
    let mut program = Program::new("setpriv");
    program
        .args(["--reuid", &OTHER.uid.to_string(), "--regid", &OTHER.groups[0].to_string()])
        .arg("--clear-groups")
        .arg(programs::freemkvd())
        .args(["--config".as_ref(), file.as_os_str(), "--socket".as_ref(), socket.as_os_str()])
        .args(["--root".as_ref(), root.path().as_os_str()]);
    let mut daemon = Daemon::start_as(home, socket, program);
    let (_peer, stream) = MEMBER.opens(&daemon, &root.path().join("film")).unwrap();
    OWNER.is_refused(&daemon, &Command::Drain, ErrorCode::NOT_YOURS);
    OTHER.opens(&daemon, &root.path().join("own")).unwrap();
    assert_eq!(OTHER.asks(&daemon, &weight(stream)), Reply::Done);
    assert_eq!(OTHER.asks(&daemon, &Command::Drain), Reply::Done);
    daemon.wait_for_end();
}

#[test]
#[ignore = "needs root"]
fn a_reload_counts_for_who_comes_and_what_is_open_goes_on() {
    let root = tempfile::tempdir().unwrap();
    let mut daemon = daemon(root.path(), &format!("users = [{}]", OWNER.uid));
    let path = |name: &str| root.path().join(name);
    let token = Token([7; 16]);
    let mut peer = OWNER.greets(&daemon);
    let stream = peer.open_resumable(path("film"), OpenMode::Create, token).stream;
    peer.content(1, b"content");
    let mut looking = OWNER.greets(&daemon);
    looking.command(1, &Command::Status);
    assert!(matches!(looking.reply(), Some((1, Reply::FullReport(_)))));
    assert!(OTHER.opens(&daemon, &path("other")).is_err());

    reload(&daemon, &format!("users = [{}]", OTHER.uid));
    OTHER.opens(&daemon, &path("other")).unwrap();
    assert_eq!(OWNER.opens(&daemon, &path("new")).err().unwrap().code, ErrorCode::NOT_ALLOWED);
    OWNER.is_refused(&daemon, &Command::Status, ErrorCode::NOT_ALLOWED);
    looking.command(2, &Command::Status);
    assert!(matches!(looking.reply(), Some((2, Reply::FullReport(_)))), "it was let in before");
    assert_eq!(OWNER.asks(&daemon, &weight(stream)), Reply::Done, "its own");

    // Also with the daemon that comes next, and for nobody else.
    daemon.replace(Signal::TERM);
    let (written, durable) = (Mark::default(), Mark::default());
    let resume = Resume { token, written, durable, position: 0, transfer: Transfer::Inline };
    let mut thief = OTHER.greets(&daemon);
    thief.command(0, &Command::Resume(resume));
    assert_eq!(thief.failure().code, ErrorCode::NO_SUCH_TOKEN);
    let mut peer = OWNER.greets(&daemon);
    assert_eq!(peer.resume(resume).stream, stream);
    peer.content(1, b"content");
    peer.command(2, &Command::Finish);
    peer.until(|_, reply| matches!(reply, Reply::Finished(_)).then_some(()));
    assert_eq!(std::fs::read(path("film")).unwrap(), b"content");
}

#[test]
#[ignore = "needs root"]
fn what_one_user_has_taken_no_other_lacks() {
    let root = tempfile::tempdir().unwrap();
    let limits =
        "[limits]\nconnections_per_user = 4\nstreams_per_user = 2\nqueue_per_user = \"2MiB\"\n";
    let daemon = daemon(root.path(), limits);
    let path = |name: &str| root.path().join(name);
    let fill = |user: User, name: &str| {
        let open = |number: usize| user.opens(&daemon, &path(&format!("{name}{number}")));
        let streams = [open(1).unwrap(), open(2).unwrap()];
        let failure = open(3).err().unwrap();
        assert_eq!(failure.code, ErrorCode::TOO_MANY_STREAMS, "{failure:?}");
        let mut others = Vec::new();
        assert!(wait_until(|| {
            let mut peer = user.does(|| Peer::connect(daemon.socket()));
            match peer.hello(&ClientHello::THIS.encode()) {
                Some(DaemonHello::Accepted { .. }) => others.push(peer),
                answer => {
                    let refusal = DaemonHello::refuse(ErrorCode::TOO_MANY_CONNECTIONS);
                    assert_eq!(answer, Some(refusal));
                }
            }
            others.len() == 2
        }));
        let answer =
            user.does(|| Peer::connect(daemon.socket()).hello(&ClientHello::THIS.encode()));
        assert!(matches!(answer, Some(DaemonHello::Refused { .. })), "{answer:?}");
        (streams, others)
    };
    let owners = fill(OWNER, "owner");
    let _others = fill(OTHER, "other");
    let _roots = fill(ROOT, "root");
    // What is free again is so for who had it. The daemon learns of that a moment later.
    drop(owners);
    let is_answered = || {
        let mut peer = Peer::connect(daemon.socket());
        matches!(peer.hello(&ClientHello::THIS.encode()), Some(DaemonHello::Accepted { .. }))
    };
    assert!(wait_until(|| OWNER.does(is_answered)));
    assert!(wait_until(|| OWNER.opens(&daemon, &path("again")).is_ok()));
}

#[test]
#[ignore = "needs root"]
fn the_socket_is_for_the_group_that_is_configured() {
    let root = tempfile::tempdir().unwrap();
    let access = format!("[access]\nsocket_mode = \"0620\"\nsocket_group = {WRITERS}\n");
    let daemon = Daemon::start(root.path(), &access);
    let home = daemon.socket().parent().unwrap();
    std::fs::set_permissions(home, PermissionsExt::from_mode(0o711)).unwrap();
    let found = std::fs::metadata(daemon.socket()).unwrap();
    assert_eq!((found.mode() & 0o7777, found.gid()), (0o620, WRITERS));
    MEMBER.opens(&daemon, &root.path().join("film")).unwrap();
    let output = OWNER.runs(&daemon, &["status"]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("join the group of its socket"));
}

#[test]
#[ignore = "needs root"]
fn somebody_who_asks_without_a_pause_is_answered_and_holds_nobody_up() {
    let root = tempfile::tempdir().unwrap();
    let daemon = daemon(root.path(), "");
    let _streams: Vec<_> = (0..100)
        .map(|number| MEMBER.opens(&daemon, &root.path().join(number.to_string())).unwrap())
        .collect();
    let requests: Vec<_> =
        (0..2000).flat_map(|number| Command::Status.encode(number).unwrap()).collect();
    let mut flood: Vec<_> = (0..100).map(|_| OWNER.greets(&daemon)).collect();
    let (is_over, answers) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for peer in &mut flood {
            let (requests, is_over, answers) = (&requests, &is_over, &answers);
            scope.spawn(move || {
                peer.send(requests);
                while !is_over.load(Ordering::Relaxed) {
                    assert!(matches!(peer.reply(), Some((_, Reply::FullReport(_)))));
                    answers.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let begun = Instant::now();
        // Somebody else, meanwhile.
        let mut waits: Vec<_> = (0..50)
            .map(|_| {
                let since = Instant::now();
                let reply = OTHER.asks(&daemon, &Command::Status);
                assert!(matches!(reply, Reply::FullReport(_)));
                since.elapsed()
            })
            .collect();
        waits.sort_unstable();
        let rate = answers.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64();
        println!(
            "flood: {rate:.0} answers/s; others: median {:?}, longest {:?}",
            waits[25], waits[49]
        );
        assert!(waits[49] < Duration::from_secs(5), "{waits:?}");
        let (mut peer, _) = OTHER.opens(&daemon, &root.path().join("film")).unwrap();
        peer.content(1, &[7; 100_000]);
        peer.command(2, &Command::Finish);
        peer.until(|_, reply| matches!(reply, Reply::Finished(_)).then_some(()));
        is_over.store(true, Ordering::Relaxed);
    });
}
