//! Files as they are opened for the daemon.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::sync::mpsc;
use std::time::Duration;

use rustix::fs::fcntl_getfl;

use super::*;

const BY: OpenBy = OpenBy::Descriptor;

struct Dir(tempfile::TempDir);

impl Dir {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn put(&self, name: &str, content: &[u8]) -> PathBuf {
        fs::write(self.path(name), content).unwrap();
        self.path(name)
    }
}

fn kind(result: io::Result<Given>) -> io::ErrorKind {
    result.unwrap_err().kind()
}

#[test]
fn each_mode_opens_what_it_says_and_changes_nothing_that_was_there() {
    let place = Dir::new();
    let (old, new) = (place.put("old", b"content"), place.path("new"));
    assert_eq!(kind(Given::open(&new, OpenMode::Existing, BY)), io::ErrorKind::NotFound);
    assert_eq!(kind(Given::open(&old, OpenMode::CreateNew, BY)), io::ErrorKind::AlreadyExists);
    for mode in [OpenMode::Existing, OpenMode::Create] {
        assert!(!Given::open(&old, mode, BY).unwrap().is_new());
    }
    assert!(Given::open(&new, OpenMode::CreateNew, BY).unwrap().is_new());
    assert!(Given::open(&place.path("newer"), OpenMode::Create, BY).unwrap().is_new());
    assert_eq!(fs::read(&old).unwrap(), b"content");
    // A link to nothing is followed, as by any other open, and nobody knows who made the file.
    symlink("newest", place.path("link")).unwrap();
    assert!(!Given::open(&place.path("link"), OpenMode::Create, BY).unwrap().is_new());
    assert!(place.path("newest").exists());
}

#[test]
fn both_descriptors_write_one_file_and_are_two() {
    let place = Dir::new();
    let given = Given::open(&place.path("film"), OpenMode::CreateNew, BY).unwrap();
    assert!(given.has_directory());
    assert_eq!(given.descriptors().count(), 3);
    assert!(given.files[2].metadata().unwrap().is_dir());
    (&given.files[0]).write_all(b"hello").unwrap();
    // Of a copy the position would have moved.
    (&given.files[1]).write_all(b"J").unwrap();
    assert_eq!(fs::read(place.path("film")).unwrap(), b"Jello");
    for file in &given.files[..2] {
        let flags = fcntl_getfl(file).unwrap();
        assert!(flags.contains(OFlags::WRONLY) && !flags.contains(OFlags::APPEND), "{flags:?}");
    }
    given.sync_name().unwrap();
}

#[test]
fn what_is_no_regular_file_is_refused_at_once() {
    let place = Dir::new();
    let pipe = place.path("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let socket = place.path("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    for path in [&pipe, &socket, Path::new("/dev/null"), place.0.path()] {
        let (sender, refused) = mpsc::channel();
        let target = path.to_owned();
        thread::spawn(move || sender.send(kind(Given::open(&target, OpenMode::Create, BY))));
        let refused = refused.recv_timeout(Duration::from_secs(30)).expect("it hangs");
        assert_eq!(refused, io::ErrorKind::InvalidInput, "{path:?}");
    }
    // Also one that took the place of a file at the last moment, with somebody who reads it.
    let _reader = OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
    let (raced, _) = Place::of(&pipe, BY).unwrap().open_data(OpenMode::Existing).unwrap();
    assert!(raced.metadata().unwrap().file_type().is_fifo());
}

#[test]
fn a_file_that_was_made_is_taken_back_while_it_is_empty_and_the_same() {
    let place = Dir::new();
    let open = |name: &str, mode| Given::open(&place.path(name), mode, BY).unwrap();
    open("made", OpenMode::Create).take_back();
    assert!(!place.path("made").exists());

    place.put("old", b"");
    open("old", OpenMode::Create).take_back();
    assert!(place.path("old").exists(), "somebody else has made it");

    let written = open("written", OpenMode::CreateNew);
    (&written.files[0]).write_all(b"x").unwrap();
    written.take_back();
    assert!(place.path("written").exists());

    let moved = open("moved", OpenMode::CreateNew);
    fs::rename(place.path("moved"), place.path("elsewhere")).unwrap();
    place.put("moved", b"");
    moved.take_back();
    assert!(!moved.has_its_name());
    assert!(place.path("moved").exists() && place.path("elsewhere").exists());
}

#[test]
fn whoever_was_not_told_to_open_it_himself_follows_no_link_and_shares_no_file() {
    let place = Dir::new();
    let victim = place.put("victim", b"content");
    symlink("victim", place.path("link")).unwrap();
    symlink("nothing", place.path("dangling")).unwrap();
    fs::hard_link(&victim, place.path("second")).unwrap();
    for mode in [OpenMode::Create, OpenMode::Existing] {
        for (name, what) in [("link", "symbolic link"), ("dangling", "symbolic link")]
            .into_iter()
            .chain([("second", "hard links"), ("victim", "hard links")])
        {
            let error = Given::open(&place.path(name), mode, OpenBy::Auto).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{name}");
            assert!(error.to_string().contains(what), "{error}");
        }
        // Whoever was told gets what he says.
        for name in ["link", "second"] {
            assert!(!Given::open(&place.path(name), mode, BY).unwrap().is_new());
        }
    }
    // A link that takes the place of the file after it was looked at.
    let raced = Place::of(&place.path("link"), OpenBy::Auto).unwrap();
    assert!(raced.open_data(OpenMode::Existing).is_err());
    assert!(!place.path("nothing").exists());
    fs::remove_file(place.path("second")).unwrap();
    assert!(!Given::open(&victim, OpenMode::Create, OpenBy::Auto).unwrap().is_new());
}
