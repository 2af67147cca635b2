//! Files that this process opens, and passes on: the fake daemon writes them through what it was given.

use std::collections::BTreeSet;
use std::fs;
use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use freemkvd_client::{Error, ErrorCode, Leftover, OpenBy, OpenedBy, Options, RipFile};
use freemkvd_proto::hello::DaemonHello;
use freemkvd_proto::{Failure, Kind};

use super::options;
use crate::fake::{Daemon, OnResume, Script};
use crate::{MIB, pattern, wait_until};

/// A directory for the files, with a daemon that has nothing to do with it.
struct Ground {
    dir: tempfile::TempDir,
    daemon: Daemon,
}

impl Ground {
    fn new(script: Script) -> Self {
        Self { dir: tempfile::tempdir().unwrap(), daemon: Daemon::start(script) }
    }

    /// Another daemon, since each has one stream.
    fn next(&mut self) {
        self.daemon = Daemon::healthy();
    }

    fn options(&self) -> Options {
        let options = options(&self.daemon).open_by(OpenBy::Descriptor);
        options.window_bytes(MIB as u64).memory_limit_bytes(5 * MIB as u64)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What is in the directory, with the contents.
    fn files(&self) -> Vec<(String, Vec<u8>)> {
        let entries = fs::read_dir(self.dir.path()).unwrap().map(Result::unwrap);
        let of = |entry: fs::DirEntry| {
            (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
        };
        let mut files: Vec<_> = entries.map(of).collect();
        files.sort();
        files
    }

    fn assert_files(&self, expected: &[(&str, &[u8])]) {
        let files = self.files();
        let found: Vec<_> =
            files.iter().map(|(name, content)| (name.as_str(), content.as_slice())).collect();
        assert!(found == expected, "{:?}", found.iter().map(|(name, _)| name).collect::<Vec<_>>());
    }
}

fn code(error: &std::io::Error) -> Option<ErrorCode> {
    Error::inside(error).and_then(Error::code)
}

/// Content that crosses the wire in several pieces, with a patch. Returns what the file should be.
fn rip(file: &mut RipFile) -> Vec<u8> {
    let mut expected = pattern(3 * MIB, 1);
    file.write_all(&expected).unwrap();
    file.seek(SeekFrom::Start(10)).unwrap();
    file.write_all(b"patched").unwrap();
    expected[10..17].copy_from_slice(b"patched");
    file.sync_all().unwrap();
    file.seek(SeekFrom::End(0)).unwrap();
    file.write_zeroes(100_000).unwrap();
    expected.resize(expected.len() + 100_000, 0);
    file.set_len(expected.len() as u64 - 5).unwrap();
    expected.truncate(expected.len() - 5);
    expected
}

#[test]
fn the_daemon_writes_the_file_that_it_was_given() {
    let ground = Ground::new(Script::default());
    let mut file = ground.options().size_hint(7).weight(50).create(ground.path("film")).unwrap();
    assert_eq!(file.opened_by(), OpenedBy::Descriptor);
    assert_eq!((file.len_bytes(), file.is_local()), (0, false));
    let expected = rip(&mut file);
    assert_eq!(file.finish().unwrap().len_bytes, expected.len() as u64);
    ground.assert_files(&[("film", &expected)]);
    let open = ground.daemon.opened_given().unwrap();
    assert_eq!(open.label.into_path(), Some(ground.path("film")));
    assert!(!open.empties && open.passes_directory);
    assert_eq!((open.size_hint_bytes, open.weight), (Some(7), 50));
}

#[test]
fn what_was_there_is_emptied_by_the_daemon_or_gone_on_with() {
    let mut ground = Ground::new(Script::default());
    fs::write(ground.path("film"), b"content").unwrap();
    let mut file = ground.options().open(ground.path("film")).unwrap();
    assert_eq!(file.len_bytes(), 7);
    file.write_all(b"C").unwrap();
    file.finish().unwrap();
    assert!(!ground.daemon.opened_given().unwrap().empties);
    ground.assert_files(&[("film", b"Content")]);
    ground.next();
    let file = ground.options().create(ground.path("film")).unwrap();
    assert_eq!(file.len_bytes(), 0);
    assert!(ground.daemon.opened_given().unwrap().empties);
    file.finish().unwrap();
    ground.assert_files(&[("film", b"")]);
}

#[test]
fn a_daemon_of_the_same_user_opens_by_path_unless_told_otherwise() {
    let mut ground = Ground::new(Script::default());
    for (open_by, opened_by) in [
        (OpenBy::Auto, OpenedBy::Path),
        (OpenBy::Path, OpenedBy::Path),
        (OpenBy::Descriptor, OpenedBy::Descriptor),
    ] {
        let file = options(&ground.daemon).open_by(open_by).create(ground.path("film")).unwrap();
        assert_eq!(file.opened_by(), opened_by);
        assert_eq!(ground.files().is_empty(), opened_by == OpenedBy::Path);
        drop(file);
        ground.next();
    }
}

#[test]
fn a_daemon_that_does_not_know_how_is_an_error_only_if_it_has_to() {
    let hello = Some(DaemonHello::Accepted { version: 4 });
    let ground = Ground::new(Script { hello, ..Script::default() });
    let error = ground.options().create(ground.path("film")).unwrap_err();
    assert_eq!((error.code(), error.kind()), (Some(ErrorCode::VERSION), ErrorKind::Unsupported));
    let text = error.to_string();
    assert!(text.contains("version 4 and can't take a file that its client has opened"), "{text}");
    assert!(ground.files().is_empty());
    let file = ground.options().open_by(OpenBy::Auto).create(ground.path("film")).unwrap();
    assert_eq!(file.opened_by(), OpenedBy::Path);
}

#[test]
fn errors_of_opening_are_those_of_this_process_and_reach_no_daemon() {
    let ground = Ground::new(Script::default());
    fs::write(ground.path("old"), b"dear").unwrap();
    fs::create_dir(ground.path("dir")).unwrap();
    let new = ground.options().create_new(true);
    for (result, kind) in [
        (ground.options().open(ground.path("none")), ErrorKind::NotFound),
        (ground.options().create(ground.path("no/where")), ErrorKind::NotFound),
        (new.create(ground.path("old")), ErrorKind::AlreadyExists),
        (new.publish(true).create(ground.path("old")), ErrorKind::AlreadyExists),
        (ground.options().create(ground.path("dir")), ErrorKind::InvalidInput),
    ] {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().starts_with("cannot open, in this process, "), "{error}");
    }
    assert!(ground.daemon.opened_given().is_none());
    fs::remove_dir(ground.path("dir")).unwrap();
    ground.assert_files(&[("old", b"dear")]);
}

#[test]
fn a_refusal_takes_a_new_file_away_and_leaves_an_old_one() {
    let refusal = Failure::new(ErrorCode::IN_USE, "stream 3 writes it");
    let script = Script { refuses_open: Some(refusal), ..Script::default() };
    for (name, publish) in [("old", false), ("old", true), ("new", false), ("new", true)] {
        let ground = Ground::new(script.clone());
        fs::write(ground.path("old"), b"dear").unwrap();
        let error = ground.options().publish(publish).create(ground.path(name)).unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::IN_USE), "{error}");
        assert!(ground.daemon.opened_given().is_some(), "it was asked");
        ground.assert_files(&[("old", b"dear")]);
    }
}

#[test]
fn a_file_gets_its_name_when_it_is_complete() {
    let ground = Ground::new(Script::default());
    fs::write(ground.path("film"), b"old").unwrap();
    let mut file = ground.options().publish(true).create(ground.path("film")).unwrap();
    let expected = rip(&mut file);
    file.flush().unwrap();
    ground.assert_files(&[("film", b"old"), ("film.partial", &expected)]);
    file.finish().unwrap();
    ground.assert_files(&[("film", &expected)]);
}

#[test]
fn a_name_that_is_taken_or_a_file_that_was_exchanged_is_left_alone() {
    let mut ground = Ground::new(Script::default());
    let new = ground.options().publish(true).create_new(true);
    let mut file = new.create(ground.path("film")).unwrap();
    file.write_all(b"content").unwrap();
    fs::write(ground.path("film"), b"others").unwrap();
    let error = file.finish().unwrap_err();
    assert_eq!(code(&error), Some(ErrorCode::NOT_PUBLISHED));
    assert!(error.to_string().contains("is complete and durable, but "), "{error}");
    ground.assert_files(&[("film", b"others"), ("film.partial", b"content")]);

    for leftover in [Leftover::Keep, Leftover::Remove] {
        ground.next();
        let publish = ground.options().publish(true).leftover(leftover);
        let mut file = publish.create(ground.path("film")).unwrap();
        file.write_all(b"content").unwrap();
        fs::remove_file(ground.path("film.partial")).unwrap();
        fs::write(ground.path("film.partial"), b"exchanged").unwrap();
        if leftover == Leftover::Keep {
            assert_eq!(code(&file.finish().unwrap_err()), Some(ErrorCode::NOT_PUBLISHED));
        } else {
            file.abort().unwrap_err();
        }
        ground.assert_files(&[("film", b"others"), ("film.partial", b"exchanged")]);
    }
}

#[test]
fn what_is_left_becomes_what_was_chosen_however_it_ends() {
    let failure = Failure::new(ErrorCode::IO, "input/output error");
    let failing = Script { fails_after: Some((4, failure)), ..Script::default() };
    for leftover in [Leftover::Keep, Leftover::Partial, Leftover::Remove] {
        for publish in [false, true] {
            for how in ["abort", "drop", "fail and drop", "fail and abort", "fail to finish"] {
                let is_failing = how.starts_with("fail");
                let script = if is_failing { failing.clone() } else { Script::default() };
                let ground = Ground::new(script);
                let chosen = ground.options().publish(publish).leftover(leftover);
                let mut file = chosen.create(ground.path("film")).unwrap();
                file.write_all(b"half").unwrap();
                file.flush().unwrap();
                if is_failing {
                    file.write_all(b"more").unwrap();
                }
                match how {
                    "fail to finish" => drop(file.finish().unwrap_err()),
                    "fail and abort" => {
                        file.flush().unwrap_err();
                        file.abort().unwrap_err();
                    }
                    "fail and drop" => {
                        file.flush().unwrap_err();
                        drop(file);
                    }
                    "abort" => file.abort().unwrap(),
                    _ => drop(file),
                }
                let is_partial = publish || leftover == Leftover::Partial;
                let name = if is_partial { "film.partial" } else { "film" };
                match leftover {
                    Leftover::Remove => ground.assert_files(&[]),
                    _ => ground.assert_files(&[(name, b"half")]),
                }
            }
        }
    }
}

#[test]
fn what_was_linked_or_has_no_free_name_stays_as_it_is() {
    for (leftover, other) in [(Leftover::Remove, "link"), (Leftover::Partial, "film.partial")] {
        let ground = Ground::new(Script::default());
        let chosen = ground.options().create_new(true).leftover(leftover);
        let mut file = chosen.create(ground.path("film")).unwrap();
        file.write_all(b"half").unwrap();
        file.flush().unwrap();
        match leftover {
            Leftover::Remove => fs::hard_link(ground.path("film"), ground.path(other)).unwrap(),
            _ => fs::write(ground.path(other), b"half").unwrap(),
        }
        file.abort().unwrap_err();
        let files: &[(&str, &[u8])] = &[("film", b"half"), (other, b"half")];
        ground.assert_files(files);
    }
}

#[test]
fn what_is_late_is_done_when_nobody_waits_any_more() {
    let mut ground = Ground::new(Script::default());
    let options = ground.options().publish(true).sync_timeout(Duration::from_millis(50));
    let mut file = options.create(ground.path("film")).unwrap();
    file.write_all(b"content").unwrap();
    file.flush().unwrap();
    ground.daemon.set_reading(false);
    let error = file.finish().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    ground.assert_files(&[("film.partial", b"content")]);
    ground.daemon.set_reading(true);
    wait_until("it has its name", || ground.path("film").exists());
    ground.assert_files(&[("film", b"content")]);

    ground.next();
    let removed = ground.options().leftover(Leftover::Remove);
    let mut file = removed.drop_wait(Duration::from_millis(50)).create(ground.path("b")).unwrap();
    file.write_all(b"content").unwrap();
    ground.daemon.set_reading(false);
    drop(file);
    assert!(ground.path("b").exists(), "the daemon may still want to write it");
    ground.daemon.set_reading(true);
    wait_until("it is removed", || !ground.path("b").exists());
}

fn survives(ground: &Ground, path: &Path) -> u64 {
    let options = ground.options().publish(true).resume_timeout(Duration::from_secs(10));
    let mut file = options.create(path).unwrap();
    let expected = rip(&mut file);
    let progress = file.finish().unwrap().progress;
    ground.assert_files(&[("film", &expected)]);
    progress.resumes
}

#[test]
fn the_same_descriptors_go_with_every_connection() {
    let ground = Ground::new(Script::resumable());
    survives(&ground, &ground.path("film"));
    let frames = ground.daemon.seen().len();
    for frame in 0..=frames {
        let cuts = BTreeSet::from([frame]);
        // The fake daemon sees whether they are the same.
        for script in [
            Script { cuts_before: cuts.clone(), ..Script::resumable() },
            Script { cuts_after: cuts, ..Script::resumable() },
        ] {
            let ground = Ground::new(script);
            let resumes = survives(&ground, &ground.path("film"));
            assert!(resumes <= 1);
            assert_eq!(ground.daemon.resumes().len(), usize::try_from(resumes).unwrap());
        }
    }
}

#[test]
fn a_finish_that_was_done_and_not_told_is_published() {
    let on_resume = [OnResume::Finished].into();
    let daemon = Script { on_resume, ..Script::resumable() };
    let frames = {
        let ground = Ground::new(Script::resumable());
        let mut file = ground.options().create(ground.path("film")).unwrap();
        file.write_all(b"content").unwrap();
        file.sync_all().unwrap();
        file.finish().unwrap();
        ground.daemon.seen().len()
    };
    let ground = Ground::new(Script { cuts_after: BTreeSet::from([frames - 1]), ..daemon });
    let options = ground.options().publish(true).resume_timeout(Duration::from_secs(10));
    let mut file = options.create(ground.path("film")).unwrap();
    file.write_all(b"content").unwrap();
    file.sync_all().unwrap();
    file.finish().unwrap();
    assert_eq!(ground.daemon.seen_of(Kind::Finish).len(), 1);
    assert_eq!(ground.daemon.resumes().len(), 1);
    ground.assert_files(&[("film", b"content")]);
}

#[test]
fn nothing_stays_open_when_the_stream_has_ended() {
    let ground = Ground::new(Script::default());
    let open = |name: &str| {
        let links = fs::read_dir("/proc/self/fd").unwrap().flatten();
        let path = ground.path(name);
        links.filter(|link| fs::read_link(link.path()).is_ok_and(|to| to == path)).count()
    };
    let mut file = ground.options().create(ground.path("film")).unwrap();
    file.write_all(b"content").unwrap();
    file.flush().unwrap();
    // Here and at the daemon, which is this process too.
    assert_eq!(open("film"), 4);
    file.finish().unwrap();
    wait_until("only the daemon has it", || open("film") <= 2);
}
