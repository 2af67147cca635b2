//! One file, one stream, whatever name it goes by.

use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;

use freemkvd_proto::ErrorCode;
use freemkvd_tests::daemon::Daemon;

use crate::support::scratch;

#[test]
fn a_file_that_is_being_written_is_refused_under_every_name_it_has() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let path = root.path().join("film.mkv");
    let mut file = daemon.options().create(&path).unwrap();
    file.write_all(b"first").unwrap();
    file.flush().unwrap();
    let stream = file.stream_id().unwrap();
    let [hard, soft, directory] = ["hard", "soft", "dir"].map(|name| root.path().join(name));
    let refused = |name: &Path, code, why: &str| {
        for error in [daemon.options().create(name), daemon.options().open(name)] {
            let error = error.unwrap_err();
            assert_eq!(error.code(), Some(code), "{error}");
            let why = format!("{} {why}", name.display());
            assert!(error.to_string().contains(&why), "{error}");
        }
    };
    symlink("film.mkv", &soft).unwrap();
    symlink(".", &directory).unwrap();
    for name in [&path, &soft, &directory.join("film.mkv")] {
        let by = format!("is already being written by stream {stream}");
        refused(name, ErrorCode::IN_USE, &by);
    }
    // A second name is a reason by itself.
    std::fs::hard_link(&path, &hard).unwrap();
    for name in [&path, &hard] {
        refused(name, ErrorCode::LINKED, "has 2 names");
    }
    file.write_all(b" and only").unwrap();
    file.finish().unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"first and only");
    std::fs::remove_file(&path).unwrap();
    daemon.options().open(&hard).unwrap().abort().unwrap();
}

#[test]
fn a_new_file_is_not_made_of_one_that_exists() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let path = root.path().join("film.mkv");
    let new = || daemon.options().create_new(true).create(&path);
    new().unwrap().finish().unwrap();
    std::fs::write(&path, b"precious").unwrap();
    let error = new().unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::EXISTS), "{error}");
    assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists);
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
}

#[test]
fn of_many_that_create_one_file_at_once_the_winner_keeps_it() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    for round in 0..40 {
        let path = root.path().join(format!("film-{round}.mkv"));
        let barrier = std::sync::Barrier::new(4);
        let finished = std::thread::scope(|scope| {
            let rivals: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        barrier.wait();
                        let mut file = daemon.options().create(&path).ok()?;
                        file.write_all(b"film").ok()?;
                        file.finish().ok()
                    })
                })
                .collect();
            rivals.into_iter().filter_map(|rival| rival.join().unwrap()).count()
        });
        assert!(finished > 0, "nobody got the file in round {round}");
        assert_eq!(std::fs::read(&path).unwrap(), b"film", "round {round}");
    }
}

#[test]
fn a_file_is_written_by_a_link_to_it_below_the_root() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let (real, link) = (root.path().join("real.mkv"), root.path().join("link.mkv"));
    std::fs::write(&real, b"old").unwrap();
    symlink("real.mkv", &link).unwrap();
    for content in [b"first", b"again"] {
        let mut file = daemon.options().create(&link).unwrap();
        file.write_all(content).unwrap();
        file.finish().unwrap();
        assert_eq!(std::fs::read(&real).unwrap(), content);
    }
    assert!(link.symlink_metadata().unwrap().is_symlink());
}
