//! Files that get their names when they are complete, and what is left of those that never are, on real file
//! systems: each makes a rename that replaces nothing in its own way, or not at all.
//!
//! Injected: somebody else makes a file of the name while it is written.

use std::fs;
use std::path::{Path, PathBuf};

use freemkvd_client::{Error, ErrorCode, Leftover, Options};
use freemkvd_tests::daemon::Daemon;
use freemkvd_tests::pattern;

use super::support::write_pattern;
use super::{MIB, mount};

const LEN: u64 = 3 * MIB + 1234;

struct Films {
    daemon: Daemon,
    dir: tempfile::TempDir,
}

impl Films {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn options(&self) -> Options {
        self.daemon.options().window_bytes(MIB).publish(true)
    }

    /// The names there are, sorted; and then they are removed.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names.iter().for_each(|name| fs::remove_file(self.path(name)).unwrap());
        names
    }

    fn whole(&self, name: &str) {
        assert_eq!(pattern::prefix_len(1, &self.path(name)).unwrap(), LEN, "{name}");
    }
}

fn old(path: &Path) {
    fs::write(path, b"old").unwrap();
}

fn is_old(path: &Path) -> bool {
    fs::read(path).unwrap() == b"old"
}

fn code(error: &std::io::Error) -> Option<ErrorCode> {
    Error::inside(error).and_then(Error::code)
}

/// `create` replaces the file of the name in the end, and not before.
fn create(films: &Films) {
    let name = films.path("film");
    for replaces in [false, true] {
        if replaces {
            old(&name);
        }
        let mut file = films.options().create(&name).unwrap();
        write_pattern(&mut file, 1, 0, LEN).unwrap();
        file.sync_all().unwrap();
        films.whole("film.partial");
        assert!(if replaces { is_old(&name) } else { !name.exists() });
        file.finish().unwrap();
        films.whole("film");
        assert_eq!(films.names(), ["film"]);
    }
}

/// `create_new` replaces nothing, neither at its start nor at its end.
fn create_new(films: &Films) {
    let name = films.path("film");
    let options = films.options().create_new(true);
    for taken in ["film", "film.partial"] {
        old(&films.path(taken));
        let error = options.create(&name).unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::EXISTS), "{error}");
        assert!(is_old(&films.path(taken)));
        assert_eq!(films.names(), [taken]);
    }
    let mut file = options.create(&name).unwrap();
    write_pattern(&mut file, 1, 0, LEN).unwrap();
    old(&name);
    let error = file.finish().unwrap_err();
    assert_eq!(code(&error), Some(ErrorCode::NOT_PUBLISHED), "{error}");
    assert!(error.to_string().contains("is complete and durable"), "{error}");
    assert!(is_old(&name));
    films.whole("film.partial");
    assert_eq!(films.names(), ["film", "film.partial"]);
    let mut file = options.create(&name).unwrap();
    write_pattern(&mut file, 1, 0, LEN).unwrap();
    file.finish().unwrap();
    films.whole("film");
    assert_eq!(films.names(), ["film"]);
}

/// `open` goes on with what a stream before has left.
fn open(films: &Films) {
    let name = films.path("film");
    let error = films.options().open(&name).unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::NOT_FOUND), "{error}");
    let mut file = films.options().create(&name).unwrap();
    write_pattern(&mut file, 1, 0, MIB).unwrap();
    file.abort().unwrap();
    fs::File::options().write(true).open(films.path("film.partial")).unwrap().set_len(0).unwrap();
    let mut file = films.options().open(&name).unwrap();
    write_pattern(&mut file, 1, 0, LEN).unwrap();
    file.finish().unwrap();
    films.whole("film");
    assert_eq!(films.names(), ["film"]);
}

/// What a stream that is given up leaves.
fn leftovers(films: &Films) {
    let name = films.path("film");
    for (publish, leftover, left) in [
        (false, Leftover::Keep, &["film"][..]),
        (false, Leftover::Partial, &["film.partial"]),
        (false, Leftover::Remove, &[]),
        (true, Leftover::Keep, &["film.partial"]),
        (true, Leftover::Partial, &["film.partial"]),
        (true, Leftover::Remove, &[]),
    ] {
        let options = films.options().publish(publish).leftover(leftover);
        let mut file = options.create(&name).unwrap();
        write_pattern(&mut file, 1, 0, LEN).unwrap();
        file.abort().unwrap();
        films.daemon.wait_for("its end", |status| {
            status.devices.is_empty() && status.budget.charged_bytes == 0
        });
        assert_eq!(films.names(), left, "{publish} {leftover:?}");
        // One that is finished is none.
        let mut file = options.create(&name).unwrap();
        write_pattern(&mut file, 1, 0, LEN).unwrap();
        file.finish().unwrap();
        films.whole("film");
        assert_eq!(films.names(), ["film"], "{publish} {leftover:?}");
    }
}

fn films_are_published_on(filesystem: &str) {
    let dir = tempfile::tempdir_in(mount(filesystem)).unwrap();
    let films = Films { daemon: Daemon::start(dir.path(), ""), dir };
    create(&films);
    create_new(&films);
    open(&films);
    leftovers(&films);
}

#[test]
#[ignore = "needs root: loop devices"]
fn films_are_published_on_ext4() {
    films_are_published_on("ext4");
}

#[test]
#[ignore = "needs root: loop devices"]
fn films_are_published_on_xfs() {
    films_are_published_on("xfs");
}

#[test]
#[ignore = "needs root: loop devices"]
fn films_are_published_on_btrfs() {
    films_are_published_on("btrfs");
}

#[test]
#[ignore = "needs root: an overlay mount"]
fn films_are_published_on_overlayfs() {
    films_are_published_on("overlay");
}

#[test]
#[ignore = "needs root: a FUSE mount"]
fn films_are_published_on_fuse() {
    films_are_published_on("fuse");
}

#[test]
#[ignore = "needs root: a tmpfs of limited size"]
fn films_are_published_on_tmpfs() {
    films_are_published_on("tmpfs");
}
