//! A file that gets its name when it is complete, and what becomes of one that never is.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{self, Stdio};

use freemkvd_client::{Leftover, OpenBy, Options, RipFile};
use freemkvd_proto::{Command, ErrorCode, OpenFile, OpenMode, Reply, Token, Transfer};
use freemkvd_tests::daemon::{Daemon, wait_until};
use freemkvd_tests::peer::{Peer, opening};
use freemkvd_tests::{pattern, programs};

use crate::support::{MIB, inside, scratch, write_pattern};

/// What is in a directory.
fn names(root: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap());
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn film(root: &Path) -> (PathBuf, PathBuf) {
    (root.join("film.mkv"), root.join("film.mkv.partial"))
}

/// Local files do the same as the daemon's, whoever has opened those: each of these runs all three ways.
fn each_way(test: impl Fn(Options, &Path)) {
    for open_by in [OpenBy::Path, OpenBy::Descriptor] {
        let root = scratch();
        let daemon = Daemon::start(root.path(), "");
        test(daemon.options().open_by(open_by), root.path());
        daemon.wait_for("all streams gone", |status| {
            status.devices.is_empty() && status.budget.charged_bytes == 0
        });
    }
    let root = scratch();
    let local = RipFile::options().socket(root.path().join("nobody")).fallback_to_local(true);
    test(local, root.path());
}

#[test]
fn a_published_file_is_partial_until_it_is_complete() {
    each_way(|options, root| {
        let (path, partial) = film(root);
        let mut file = options.publish(true).size_hint(MIB).create(&path).unwrap();
        write_pattern(&mut file, 1, 0, 4 * MIB).unwrap();
        file.sync_all().unwrap();
        assert_eq!(names(root), ["film.mkv.partial"]);
        assert_eq!(pattern::prefix_len(1, &partial).unwrap(), 4 * MIB);
        write_pattern(&mut file, 1, 4 * MIB, MIB).unwrap();
        assert_eq!(file.finish().unwrap().len_bytes, 5 * MIB);
        assert_eq!(names(root), ["film.mkv"]);
        assert_eq!(pattern::prefix_len(1, &path).unwrap(), 5 * MIB);
    });
}

#[test]
fn what_is_replaced_stays_whole_until_then() {
    each_way(|options, root| {
        let (path, partial) = film(root);
        std::fs::write(&path, b"old film").unwrap();
        std::fs::write(&partial, b"left from before, and longer than what comes").unwrap();
        let mut file = options.publish(true).create(&path).unwrap();
        file.write_all(b"new film").unwrap();
        file.sync_all().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"old film");
        file.finish().unwrap();
        assert_eq!((names(root).len(), std::fs::read(&path).unwrap()), (1, b"new film".to_vec()));
    });
}

#[test]
fn a_new_name_must_be_free_and_so_must_the_partial_one() {
    each_way(|options, root| {
        let options = options.publish(true).create_new(true);
        let (path, partial) = film(root);
        for taken in [&path, &partial] {
            std::fs::write(taken, b"precious").unwrap();
            let error = options.create(&path).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists, "{error}");
            assert_eq!(names(root), [taken.file_name().unwrap().to_str().unwrap()]);
            assert_eq!(std::fs::read(taken).unwrap(), b"precious");
            std::fs::remove_file(taken).unwrap();
        }
        options.create(&path).unwrap().finish().unwrap();
        assert_eq!(names(root), ["film.mkv"]);
    });
}

#[test]
fn a_name_that_is_taken_meanwhile_is_not_replaced_and_the_file_is_complete() {
    each_way(|options, root| {
        let (path, partial) = film(root);
        let options = options.publish(true).create_new(true).leftover(Leftover::Remove);
        let mut file = options.create(&path).unwrap();
        write_pattern(&mut file, 1, 0, MIB).unwrap();
        std::fs::write(&path, b"somebody's").unwrap();
        let error = file.finish().unwrap_err();
        assert!(error.to_string().contains("film.mkv"), "{error}");
        if let Some(code) = inside(&error).code() {
            assert_eq!(code, ErrorCode::NOT_PUBLISHED);
            assert!(error.to_string().contains("is complete and durable, but"), "{error}");
        }
        // A complete file is not removed, whatever was asked for.
        assert_eq!(pattern::prefix_len(1, &partial).unwrap(), MIB);
        assert_eq!(std::fs::read(&path).unwrap(), b"somebody's");
    });
}

#[test]
fn a_partial_file_is_gone_on_with_and_published() {
    each_way(|options, root| {
        let (path, partial) = film(root);
        let options = options.publish(true);
        assert_eq!(options.open(&path).unwrap_err().kind(), std::io::ErrorKind::NotFound);
        std::fs::write(&partial, b"half a ").unwrap();
        let mut file = options.open(&path).unwrap();
        std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0)).unwrap();
        file.write_all(b"film").unwrap();
        file.finish().unwrap();
        assert_eq!(
            (names(root).len(), std::fs::read(&path).unwrap()),
            (1, b"half a film".to_vec())
        );
    });
}

#[test]
fn what_is_left_of_a_file_is_what_its_muxer_chose() {
    each_way(|options, root| {
        let (path, _) = film(root);
        for (publish, leftover, left) in [
            (false, Leftover::Keep, vec!["film.mkv"]),
            (true, Leftover::Keep, vec!["film.mkv.partial"]),
            (false, Leftover::Partial, vec!["film.mkv.partial"]),
            (true, Leftover::Partial, vec!["film.mkv.partial"]),
            (false, Leftover::Remove, vec![]),
            (true, Leftover::Remove, vec![]),
        ] {
            for aborts in [true, false] {
                let options = options.clone().publish(publish).leftover(leftover);
                let mut file = options.create(&path).unwrap();
                write_pattern(&mut file, 1, 0, 2 * MIB).unwrap();
                file.flush().unwrap();
                match aborts {
                    true => file.abort().unwrap(),
                    false => drop(file),
                }
                let found = wait_until(|| names(root) == left);
                assert!(found, "{publish} {leftover:?} {aborts}: {:?}", names(root));
                names(root).iter().for_each(|name| std::fs::remove_file(root.join(name)).unwrap());
            }
            // A complete one is as it should be.
            let options = options.clone().publish(publish).leftover(leftover);
            options.create(&path).unwrap().finish().unwrap();
            assert_eq!(names(root), ["film.mkv"], "{publish} {leftover:?}");
            std::fs::remove_file(&path).unwrap();
        }
    });
}

#[test]
fn a_removed_file_frees_its_name_and_its_space_before_the_daemon_is_done_with_it() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let (path, _) = film(root.path());
    let options = daemon.options().leftover(Leftover::Remove);
    for round in 0..10 {
        let mut file = options.clone().create_new(true).create(&path).unwrap();
        // A hole costs nothing, and has to be cut off in many steps.
        file.set_len(64 << 30).unwrap();
        write_pattern(&mut file, round, 0, MIB).unwrap();
        file.abort().unwrap();
    }
    daemon.wait_for("all streams gone", |status| {
        status.streams.is_empty() && status.devices.is_empty() && status.budget.charged_bytes == 0
    });
    assert!(names(root.path()).is_empty());
}

#[test]
fn a_muxer_that_is_killed_leaves_what_it_chose() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let (path, partial) = film(root.path());
    let mut child = process::Command::new(programs::freemkvctl())
        .arg("--socket")
        .arg(daemon.socket())
        .args(["write", "--quiet", "--publish", "--leftover", "remove"])
        .arg(&path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    write_pattern(child.stdin.as_mut().unwrap(), 1, 0, 20 * MIB).unwrap();
    let begun = wait_until(|| partial.metadata().is_ok_and(|file| file.len() > MIB));
    assert!(begun && !path.exists());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(wait_until(|| names(root.path()).is_empty()), "{:?}", names(root.path()));
}

#[test]
fn a_file_is_published_across_kills_whatever_name_the_dead_daemon_left_it_under() {
    for is_renamed in [false, true] {
        let root = scratch();
        let mut daemon = Daemon::start(root.path(), "");
        let (path, partial) = film(root.path());
        let options = daemon.options().publish(true).create_new(true).leftover(Leftover::Remove);
        let mut file = options.create(&path).unwrap();
        write_pattern(&mut file, 1, 0, 8 * MIB).unwrap();
        file.flush().unwrap();
        daemon.kill();
        if is_renamed {
            // As a daemon that is killed between the renaming and its answer.
            std::fs::rename(&partial, &path).unwrap();
        }
        daemon.start_again();
        write_pattern(&mut file, 1, 8 * MIB, MIB).unwrap();
        let finished = file.finish().unwrap();
        assert_eq!(finished.progress.resumes, 1);
        assert_eq!(names(root.path()), ["film.mkv"], "{is_renamed}");
        assert_eq!(pattern::prefix_len(1, &path).unwrap(), 9 * MIB);
    }
}

#[test]
fn a_file_that_another_stream_is_writing_is_not_replaced() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let (path, partial) = film(root.path());
    let mut direct = daemon.options().leftover(Leftover::Partial).create(&path).unwrap();
    write_pattern(&mut direct, 1, 0, MIB).unwrap();
    let mut published = daemon.options().publish(true).create(&path).unwrap();
    write_pattern(&mut published, 2, 0, MIB).unwrap();
    let stream = direct.stream_id().unwrap();
    let error = published.finish().unwrap_err();
    assert_eq!(inside(&error).code(), Some(ErrorCode::NOT_PUBLISHED), "{error}");
    let by = format!("is being written by stream {stream}");
    assert!(error.to_string().contains(&by), "{error}");
    // And the other way round: what is left of one takes no name away from another.
    // Its thread lets go of it a moment after its muxer has heard.
    let mut published = None;
    wait_until(|| {
        published = daemon.options().publish(true).open(&path).ok();
        published.is_some()
    });
    direct.abort().unwrap();
    daemon.wait_for_log(&["cannot rename what is left", "is being written by stream"]);
    assert_eq!(names(root.path()), ["film.mkv", "film.mkv.partial"]);
    drop(published);
    assert_eq!(pattern::prefix_len(2, &partial).unwrap(), MIB);
}

#[test]
fn a_complete_file_is_not_removed_though_its_muxer_never_heard_of_it() {
    let root = scratch();
    let grace = "[daemon]\nresume_grace = \"1s\"\n";
    let mut daemon = Daemon::start(root.path(), grace);
    let (path, partial) = film(root.path());
    let mut peer = Peer::greet(daemon.socket());
    let open = OpenFile {
        token: Some(Token([7; 16])),
        open: opening(&path, OpenMode::Create, Transfer::Inline),
        publish: true,
        leftover: Leftover::Remove,
    };
    peer.command(0, &Command::OpenFile(open));
    assert_eq!(peer.reply(), Some((0, Reply::Resumable)));
    peer.opened();
    peer.content(1, b"a whole film");
    peer.command(2, &Command::Sync);
    peer.until(|_, reply| matches!(reply, Reply::Synced).then_some(()));
    daemon.kill();
    // As a daemon that is killed between the renaming and its answer; and then its muxer goes, too.
    std::fs::rename(&partial, &path).unwrap();
    drop(peer);
    daemon.start_again();
    daemon.wait_for_log(&["the muxer of stream 1 has not come back"]);
    daemon.wait_for("the stream gone", |status| {
        status.devices.is_empty() && status.streams.iter().all(|stream| stream.device.is_none())
    });
    assert_eq!(names(root.path()), ["film.mkv"]);
    assert_eq!(std::fs::read(&path).unwrap(), b"a whole film");
}

#[test]
fn a_file_that_has_another_name_by_now_is_not_removed() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let (path, _) = film(root.path());
    for is_linked in [false, true] {
        let rescue = root.path().join(format!("rescue-{is_linked}.mkv"));
        let mut file = daemon.options().leftover(Leftover::Remove).create(&path).unwrap();
        write_pattern(&mut file, 1, 0, 4 * MIB).unwrap();
        file.flush().unwrap();
        match is_linked {
            true => std::fs::hard_link(&path, &rescue).unwrap(),
            false => std::fs::rename(&path, &rescue).unwrap(),
        }
        file.abort().unwrap();
        daemon.wait_for("the stream gone", |status| status.streams.is_empty());
        assert!(!path.exists());
        assert_eq!(pattern::prefix_len(1, &rescue).unwrap(), 4 * MIB, "{is_linked}");
    }
}
