//! What may be done with a file that is opened by its path, and what becomes of owner and mode.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use freemkvd_client::OpenBy;
use freemkvd_proto::ErrorCode;
use freemkvd_tests::daemon::Daemon;

use crate::support::{Neighbour, scratch};

/// Under a umask that takes something away from everybody but the owner.
fn start(root: &Path, config: &str) -> Daemon {
    let with_umask = ["sh", "-c", "umask 0027; exec \"$@\"", "sh"];
    Daemon::start_under(&with_umask, root, config)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn what_exists_is_emptied_refused_or_gone_on_with_and_stays_the_file_that_it_was() {
    let root = scratch();
    let daemon = start(root.path(), "[files]\nmode = \"0666\"\n");
    let path = root.path().join("film.mkv");
    fs::write(&path, b"precious").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).unwrap();
    let before = fs::metadata(&path).unwrap();

    let refused = daemon.options().create_new(true).create(&path).unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::EXISTS), "{refused}");
    assert_eq!(fs::read(&path).unwrap(), b"precious");

    let mut file = daemon.options().open(&path).unwrap();
    file.write_all(b"PRE").unwrap();
    file.finish().unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"PREcious");

    daemon.options().create(&path).unwrap().finish().unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"");
    let after = fs::metadata(&path).unwrap();
    assert_eq!((after.ino(), after.uid(), after.gid()), (before.ino(), before.uid(), before.gid()));
    assert_eq!(after.mode() & 0o7777, 0o604);

    fs::set_permissions(&path, fs::Permissions::from_mode(0o4755)).unwrap();
    for open_by in [OpenBy::Path, OpenBy::Descriptor] {
        let refused = daemon.options().open_by(open_by).open(&path).unwrap_err();
        assert_eq!(refused.code(), Some(ErrorCode::BAD_FILE), "{refused}");
        assert!(refused.to_string().contains("set-user-id"), "{refused}");
    }

    fs::remove_file(&path).unwrap();
    let missing = daemon.options().open(&path).unwrap_err();
    assert_eq!(missing.code(), Some(ErrorCode::NOT_FOUND), "{missing}");
    assert!(!path.exists());
}

#[test]
fn a_file_with_two_names_is_not_written_by_one_of_them_but_can_be_replaced() {
    let (root, outside) = (scratch(), scratch());
    let daemon = Daemon::start(root.path(), "");
    let neighbour = Neighbour::start(&daemon, root.path());
    let (path, secret) = (root.path().join("film.mkv"), outside.path().join("secret"));
    fs::write(&secret, b"precious").unwrap();
    fs::hard_link(&secret, &path).unwrap();
    let refusals = [
        (daemon.options().create(&path), ErrorCode::LINKED),
        (daemon.options().open(&path), ErrorCode::LINKED),
        (daemon.options().create_new(true).create(&path), ErrorCode::EXISTS),
    ];
    for (refused, code) in refusals {
        let error = refused.unwrap_err();
        assert_eq!(error.code(), Some(code), "{error}");
        if code == ErrorCode::LINKED {
            assert!(error.to_string().contains("has 2 names (hard links)"), "{error}");
        }
    }
    // A name is given to another file, and the file that had it is left alone.
    let mut file = daemon.options().publish(true).create(&path).unwrap();
    file.write_all(b"new").unwrap();
    file.finish().unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
    assert_eq!(fs::read(&secret).unwrap(), b"precious");
    neighbour.assert_unharmed();
}

#[test]
fn modes_are_those_of_the_configuration_less_the_umask() {
    let root = scratch();
    let path = |name: &str| root.path().join(name);
    let daemon = start(root.path(), "");
    daemon.options().create(path("default")).unwrap().finish().unwrap();
    assert_eq!(mode(&path("default")), 0o640);
    let refused = daemon.options().create(path("missing/film.mkv")).unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::NOT_FOUND), "{refused}");

    let config = "[files]\nmode = \"0664\"\nmake_directories = true\ndirectory_mode = \"0771\"\n";
    fs::write(daemon.config_file(), config).unwrap();
    daemon.signal(rustix::process::Signal::HUP);
    daemon.wait_for_log(&["configuration reloaded", "directories made with mode 0771"]);
    let film = path("a/b/film.mkv");
    let mut file = daemon.options().publish(true).create(&film).unwrap();
    file.write_all(b"film").unwrap();
    file.finish().unwrap();
    assert_eq!(fs::read(&film).unwrap(), b"film");
    assert_eq!(mode(&film), 0o640);
    assert_eq!((mode(&path("a")), mode(&path("a/b"))), (0o750, 0o750));
    let ours = fs::metadata(root.path()).unwrap();
    for name in ["a", "a/b", "a/b/film.mkv", "default"] {
        let made = fs::metadata(path(name)).unwrap();
        assert_eq!((made.uid(), made.gid()), (ours.uid(), ours.gid()), "{name}");
    }
    // Where there is nothing to be gone on with, nothing is made.
    assert!(daemon.options().open(path("c/film.mkv")).is_err());
    assert!(!path("c").exists());
}
