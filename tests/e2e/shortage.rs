//! What a stream needs of the system and cannot have is said when it is opened; streams that are open
//! already do not feel it.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use freemkvd_client::{Error, RipFile};
use freemkvd_proto::hello::ClientHello;
use freemkvd_proto::{Command, ErrorCode, Failure, OpenMode, Reply, Transfer};
use freemkvd_tests::daemon::{Daemon, wait_until};
use freemkvd_tests::pattern;
use freemkvd_tests::peer::{Peer, opening};
use freemkvd_tests::slots::Slots;
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::support::{MIB, Neighbour, Way, scratch, write_pattern};

/// What a running daemon may have of something, until this is dropped.
struct Limited {
    pid: Pid,
    resource: Resource,
    before: Rlimit,
}

impl Limited {
    fn new(daemon: &Daemon, resource: Resource, most: u64) -> Self {
        let pid = Pid::from_raw(daemon.pid().try_into().unwrap()).unwrap();
        let before = rustix::process::getrlimit(resource);
        let limit = Rlimit { current: Some(most), maximum: before.maximum };
        let before = prlimit(Some(pid), resource, limit).unwrap();
        Self { pid, resource, before }
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        let given_back = prlimit(Some(self.pid), self.resource, self.before);
        assert!(given_back.is_ok() || std::thread::panicking());
    }
}

/// A figure that the kernel has of a process, in bytes: `VmSize:` is its address space, `VmData:` what of it
/// is memory of its own.
fn figure(daemon: &Daemon, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

fn assert_refused(error: &Error, path: &Path, words: &[&str]) {
    assert_eq!(error.code(), Some(ErrorCode::NO_RESOURCES), "{error}");
    let text = error.to_string();
    for word in words.iter().copied().chain([path.to_str().unwrap()]) {
        assert!(text.contains(word), "{word} is not in: {text}");
    }
    assert!(!path.exists(), "a refused stream left a file behind");
}

/// What the next daemon would find of streams.
fn kept(daemon: &Daemon) -> usize {
    fs::read_dir(directory_of(daemon)).map_or(0, Iterator::count)
}

fn directory_of(daemon: &Daemon) -> PathBuf {
    let mut directory = daemon.socket().as_os_str().to_owned();
    directory.push(".streams");
    directory.into()
}

fn open_until_refused(daemon: &Daemon, way: Way, path: impl Fn(usize) -> PathBuf) -> Vec<RipFile> {
    let mut files = Vec::new();
    loop {
        match way.options(daemon).window_bytes(MIB).create(path(files.len())) {
            Ok(file) => files.push(file),
            Err(error) => {
                assert_refused(&error, &path(files.len()), &["160", "LimitNOFILE="]);
                return files;
            }
        }
        assert!(files.len() < 160, "more streams than descriptors");
    }
}

#[test]
fn a_stream_too_many_for_the_descriptors_is_refused_and_those_before_come_out_right() {
    for way in [Way::Inline, Way::Shared] {
        let root = scratch();
        let launcher = ["prlimit", "--nofile=160:160"];
        let mut daemon = Daemon::start_under(&launcher, root.path(), "");
        daemon.wait_for_log(&["WARN", "limits.streams", "LimitNOFILE="]);
        let path = |number: usize| root.path().join(number.to_string());
        let mut files = open_until_refused(&daemon, way, path);
        assert!(files.len() >= 8, "only {} streams", files.len());
        assert_eq!(daemon.status().streams.len(), files.len());
        for (number, file) in files.iter_mut().enumerate() {
            write_pattern(file, number as u64, 0, MIB).unwrap();
            file.sync_all().unwrap();
        }
        // All of them come back at once, and have room for it.
        daemon.kill();
        daemon.start_again();
        let last = files.len();
        std::thread::scope(|scope| {
            let halves: Vec<_> = files
                .into_iter()
                .enumerate()
                .map(|(number, mut file)| {
                    scope.spawn(move || {
                        write_pattern(&mut file, number as u64, MIB, MIB).unwrap();
                        file.flush().unwrap();
                        file
                    })
                })
                .collect();
            let files: Vec<_> = halves.into_iter().map(|half| half.join().unwrap()).collect();
            let error = way.options(&daemon).create(path(last)).unwrap_err();
            assert_refused(&error, &path(last), &["LimitNOFILE="]);
            assert_eq!(daemon.status().streams.len(), last);
            for (number, file) in files.into_iter().enumerate() {
                assert_eq!(file.finish().unwrap().len_bytes, 2 * MIB);
                assert_eq!(pattern::prefix_len(number as u64, &path(number)).unwrap(), 2 * MIB);
            }
        });
        let mut late = None;
        assert!(wait_until(|| {
            late = way.options(&daemon).create(path(last)).ok();
            late.is_some()
        }));
        late.unwrap().finish().unwrap();
        let log = daemon.log();
        assert!(!log.contains("cannot accept") && !log.contains("ERROR"), "{log}");
    }
}

#[test]
fn a_stream_that_cannot_be_kept_for_a_restart_is_refused_and_leaves_nothing() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let neighbour = Neighbour::start(&daemon, root.path());
    let (new, old) = (root.path().join("new.mkv"), root.path().join("old.mkv"));
    fs::write(&old, b"precious").unwrap();
    // Also for root, whom no permission stops.
    let directory = directory_of(&daemon);
    let aside = directory.with_extension("aside");
    fs::rename(&directory, &aside).unwrap();
    fs::write(&directory, b"in the way").unwrap();
    for path in [&new, &old] {
        let error = daemon.options().create(path).unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::CANNOT_KEEP), "{error}");
        let text = error.to_string();
        for words in [path.to_str().unwrap(), directory.to_str().unwrap(), "resume_grace"] {
            assert!(text.contains(words), "{words} is not in: {text}");
        }
    }
    assert!(!new.exists(), "a refused stream left a file behind");
    assert_eq!(fs::read(&old).unwrap(), b"precious");
    // One that does not want to be resumed has no need of it.
    let options = daemon.options().resume_timeout(std::time::Duration::ZERO);
    options.create(&new).unwrap().finish().unwrap();
    fs::remove_file(&directory).unwrap();
    fs::rename(&aside, &directory).unwrap();
    for path in [&new, &old] {
        let mut file = daemon.options().create(path).unwrap();
        file.write_all(b"content").unwrap();
        file.finish().unwrap();
        assert_eq!(fs::read(path).unwrap(), b"content");
    }
    neighbour.assert_unharmed();
    daemon.wait_for("no streams", |status| status.streams.is_empty());
    assert!(wait_until(|| kept(&daemon) == 0), "something is kept of streams that are over");
}

#[test]
fn memory_that_finds_no_descriptor_is_refused_as_that() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let neighbour = Neighbour::start(&daemon, root.path());
    let path = root.path().join("film.mkv");
    let slots = Slots::new(1);
    let open = opening(&path, OpenMode::Create, slots.transfer());
    // Until the connections of those who were served before are closed: theirs are free for the memory.
    let mut peers = Vec::new();
    let mut told = None;
    assert!(
        wait_until(|| {
            let mut peer = Peer::greet(daemon.socket());
            let is_free = |number: &u64| {
                let link = format!("/proc/{}/fd/{number}", daemon.pid());
                fs::symlink_metadata(link).is_err()
            };
            let limited = Limited::new(&daemon, Resource::Nofile, (0..).find(is_free).unwrap());
            peer.ask_to_open_with(open.clone(), &[slots.descriptor()]);
            let failure = peer.failure();
            drop(limited);
            // It stays, or its own would be the next that is free.
            peers.push(peer);
            let is_it = failure.message.contains("what came with the frame");
            told = Some(failure);
            is_it
        }),
        "{told:?}"
    );
    let failure: Failure = told.unwrap();
    assert_eq!(failure.code, ErrorCode::NO_RESOURCES, "{failure:?}");
    assert!(failure.message.contains("LimitNOFILE="), "{failure:?}");
    assert!(!path.exists());
    let mut peer = Peer::greet(daemon.socket());
    peer.ask_to_open_with(open, &[slots.descriptor()]);
    assert!(peer.opened().shared);
    neighbour.assert_unharmed();
}

#[test]
fn a_socket_that_takes_next_to_nothing_loses_no_frame() {
    const FRAME: usize = 3_000_001;
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    for way in [Way::Inline, Way::Shared] {
        let path = root.path().join(format!("{way:?}"));
        let slots = Slots::new(1);
        let mut peer = Peer::connect(daemon.socket());
        peer.with_small_buffers();
        peer.hello(&ClientHello::THIS.encode()).unwrap();
        let (transfer, descriptors) = match way {
            Way::Inline => (Transfer::Inline, vec![]),
            Way::Shared => (slots.transfer(), vec![slots.descriptor()]),
        };
        peer.ask_to_open_with(opening(&path, OpenMode::Create, transfer), &descriptors);
        assert_eq!(peer.opened().shared, way == Way::Shared);
        let len = match way {
            Way::Inline => {
                (0..4).for_each(|number| {
                    let content = pattern::bytes(3, number * FRAME as u64, FRAME);
                    peer.content(number + 1, &content);
                });
                4 * FRAME as u64
            }
            Way::Shared => {
                slots.put(0, 0, &pattern::bytes(3, 0, 1 << 20));
                // As many frames as there are answers that may wait, and more.
                (0..4096).for_each(|at| peer.slots(u64::from(at) + 1, &[(0, at * 256, 256)]));
                1 << 20
            }
        };
        let last = if way == Way::Inline { 5 } else { 4097 };
        peer.command(last, &Command::Finish);
        let finished = peer.until(|sequence, reply| match reply {
            Reply::Finished(finished) => Some((sequence, finished.len_bytes)),
            _ => None,
        });
        assert_eq!(finished, (last, len));
        assert_eq!(pattern::prefix_len(3, &path).unwrap(), len);
    }
}

#[test]
fn without_memory_no_stream_is_opened_and_one_that_is_open_goes_on_with_its_own() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let (film, other) = (root.path().join("film.mkv"), root.path().join("other.mkv"));
    let mut file = Way::Inline.options(&daemon).window_bytes(MIB).create(&film).unwrap();
    // Less than a segment; what is smaller than that is found in what the process has.
    let limited = Limited::new(&daemon, Resource::Data, figure(&daemon, "VmData:") + MIB / 2);
    let error = Way::Inline.options(&daemon).create(&other).unwrap_err();
    assert_refused(&error, &other, &["no memory", "MemoryMax="]);
    write_pattern(&mut file, 5, 0, 64 * MIB).unwrap();
    file.sync_all().unwrap();
    assert_eq!(daemon.status().streams.len(), 1);
    drop(limited);
    Way::Inline.options(&daemon).create(&other).unwrap().finish().unwrap();
    assert_eq!(file.finish().unwrap().len_bytes, 64 * MIB);
    assert_eq!(pattern::prefix_len(5, &film).unwrap(), 64 * MIB);
}

#[test]
fn a_stream_for_which_there_is_no_thread_is_refused_and_leaves_nothing() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let neighbour = Neighbour::start(&daemon, root.path());
    let before = daemon.wait_for("the neighbour", |status| status.streams.len() == 1);
    let (threads, entries) = (daemon.threads().len(), kept(&daemon));
    let path = root.path().join("film.mkv");
    // More than the first segment of a queue, and less than the stack of a thread.
    let bytes = figure(&daemon, "VmSize:") + 3 * MIB / 2;
    let limited = Limited::new(&daemon, Resource::As, bytes);
    for way in [Way::Inline, Way::Shared] {
        for _ in 0..5 {
            let error = way.options(&daemon).create(&path).unwrap_err();
            assert_refused(&error, &path, &["no thread", "TasksMax="]);
        }
    }
    let after = daemon.status();
    assert_eq!(after.streams.len(), 1, "a refused stream is still there: {after:?}");
    assert_eq!(after.budget.queue_limit_bytes, before.budget.queue_limit_bytes);
    assert_eq!((daemon.threads().len(), kept(&daemon)), (threads, entries));
    drop(limited);
    let mut file = daemon.options().create(&path).unwrap();
    file.write_all(b"content").unwrap();
    file.finish().unwrap();
    neighbour.assert_unharmed();
}

#[test]
fn a_daemon_that_could_not_serve_one_stream_does_not_start() {
    let root = scratch();
    let output = std::process::Command::new("prlimit")
        .arg("--nofile=30:30")
        .arg(freemkvd_tests::programs::freemkvd())
        .args(["--socket".as_ref(), root.path().join("s").as_os_str()])
        .args(["--root".as_ref(), root.path().as_os_str()])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("may have 30 open files, and needs "), "{said}");
    assert!(said.contains("LimitNOFILE="), "{said}");
}
