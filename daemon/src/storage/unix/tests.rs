//! On the file system of temporary files; on Linux, too, where only these tests use this storage.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use freemkvd_proto::{ErrorCode, OpenMode};

use super::Disk;
use crate::storage::{Content, Creation, Known, Manner, Open, OpenError, Opened, Storage};

fn folder() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().to_owned();
    (dir, root)
}

fn open(root: &Path, name: &str, mode: OpenMode) -> Result<Opened, OpenError> {
    Disk.open(&[root.to_owned()], &root.join(name), mode, Creation::default())
}

fn new_file(root: &Path) -> Box<dyn Storage> {
    open(root, "film.mkv", OpenMode::CreateNew).unwrap().storage
}

fn write(file: &mut Box<dyn Storage>, offset: u64, bytes: &[u8]) {
    file.write_at(offset, Content::Bytes(bytes), Manner::Cached).unwrap();
}

fn code(result: Result<Opened, OpenError>) -> ErrorCode {
    result.map(|opened| opened.id).unwrap_err().failure().code
}

#[test]
fn bytes_go_where_they_belong_and_are_drained_and_durable() {
    let (_dir, root) = folder();
    let mut file = new_file(&root);
    write(&mut file, 3, b"film");
    write(&mut file, 0, b"the");
    for manner in [Manner::Uncached, Manner::Direct] {
        let refused = file.write_at(0, Content::Bytes(b"x"), manner).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::Unsupported);
    }
    file.set_len(5).unwrap();
    file.start_writeback(0..5).unwrap();
    file.wait_writeback(0..5).unwrap();
    file.sync_data().unwrap();
    file.sync().unwrap();
    assert_eq!(file.len_bytes().unwrap(), 5);
    assert!(file.available_bytes().unwrap() > 0);
    assert_eq!(fs::read(root.join("film.mkv")).unwrap(), b"thefi");
}

#[test]
fn the_modes_of_opening_make_and_find_and_empty_nothing() {
    let (_dir, root) = folder();
    let opened = |mode| open(&root, "film", mode).map(|opened| (opened.created, opened.len_bytes));
    assert_eq!(opened(OpenMode::Create).unwrap(), (true, 0));
    fs::write(root.join("film"), "old").unwrap();
    assert_eq!(opened(OpenMode::Create).unwrap(), (false, 3));
    assert_eq!(opened(OpenMode::Existing).unwrap(), (false, 3));
    assert_eq!(code(open(&root, "film", OpenMode::CreateNew)), ErrorCode::EXISTS);
    assert_eq!(code(open(&root, "other", OpenMode::Existing)), ErrorCode::NOT_FOUND);
    assert_eq!(code(open(&root, "no/such", OpenMode::Create)), ErrorCode::NOT_FOUND);
}

#[test]
fn no_link_and_no_step_up_leads_anywhere() {
    let (_dir, root) = folder();
    let (_other_dir, other) = folder();
    symlink(&other, root.join("out")).unwrap();
    fs::create_dir(root.join("in")).unwrap();
    symlink(root.join("in"), root.join("link")).unwrap();
    let outside = other.join("film");
    let outside = outside.to_str().unwrap();
    for name in ["out/film", "link/film", "in/../../film", outside] {
        assert_eq!(code(open(&root, name, OpenMode::Create)), ErrorCode::OUTSIDE_ROOTS, "{name}");
    }
    assert!(!other.join("film").exists() && !root.join("in/film").exists());
    fs::write(other.join("secret"), "kept").unwrap();
    symlink(other.join("secret"), root.join("secret")).unwrap();
    for mode in [OpenMode::Create, OpenMode::Existing] {
        assert_eq!(code(open(&root, "secret", mode)), ErrorCode::NOT_A_FILE);
    }
}

#[test]
fn what_is_no_file_of_its_own_is_refused_and_not_opened() {
    let (_dir, root) = folder();
    fs::create_dir(root.join("folder")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
    for name in ["folder", "socket"] {
        assert_eq!(code(open(&root, name, OpenMode::Create)), ErrorCode::NOT_A_FILE, "{name}");
    }
    fs::write(root.join("one"), "").unwrap();
    fs::hard_link(root.join("one"), root.join("two")).unwrap();
    assert_eq!(code(open(&root, "two", OpenMode::Existing)), ErrorCode::LINKED);
    fs::write(root.join("tool"), "").unwrap();
    fs::set_permissions(root.join("tool"), fs::Permissions::from_mode(0o4755)).unwrap();
    assert_eq!(code(open(&root, "tool", OpenMode::Existing)), ErrorCode::BAD_FILE);
}

#[test]
fn missing_directories_are_made_below_the_root_when_that_is_wanted() {
    let (_dir, root) = folder();
    let roots = [root.clone()];
    let creation = Creation { directory_mode: Some(0o750), ..Creation::default() };
    let path = root.join("a/b/film");
    assert!(Disk.open(&roots, &path, OpenMode::Create, Creation::default()).is_err());
    assert!(!root.join("a").exists());
    assert!(Disk.open(&roots, &path, OpenMode::Create, creation).unwrap().created);
    assert_eq!(fs::metadata(root.join("a/b")).unwrap().permissions().mode() & 0o777, 0o750);
    let deep = (0..40).fold(root.clone(), |path, _| path.join("d"));
    assert!(Disk.open(&roots, &deep, OpenMode::Create, creation).is_err());
    assert!(!root.join("d").exists());
}

#[test]
fn a_file_gets_a_name_that_is_free_or_is_to_be_replaced() {
    let (_dir, root) = folder();
    let mut file = new_file(&root);
    write(&mut file, 0, b"new");
    fs::write(root.join("taken"), "old").unwrap();
    assert!(file.taken_by("free".as_ref()).unwrap().is_none());
    assert!(file.taken_by("taken".as_ref()).unwrap().is_some());
    let refused = file.rename("taken".as_ref(), false).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(fs::read(root.join("taken")).unwrap(), b"old");
    file.rename("free".as_ref(), false).unwrap();
    file.rename("free".as_ref(), false).unwrap();
    assert!(!root.join("film.mkv").exists());
    file.rename("taken".as_ref(), true).unwrap();
    file.sync().unwrap();
    assert_eq!(fs::read(root.join("taken")).unwrap(), b"new");
}

#[test]
fn only_a_name_of_the_file_itself_is_taken_away() {
    let (_dir, root) = folder();
    let mut file = new_file(&root);
    fs::rename(root.join("film.mkv"), root.join("moved")).unwrap();
    fs::write(root.join("film.mkv"), "another").unwrap();
    file.unlink().unwrap();
    assert_eq!(file.rename("x".as_ref(), true).unwrap_err().kind(), io::ErrorKind::NotFound);
    assert_eq!(fs::read(root.join("film.mkv")).unwrap(), b"another");
    assert!(file.is_named().unwrap());
    fs::remove_file(root.join("moved")).unwrap();
    assert!(!file.is_named().unwrap());
}

#[test]
fn a_file_is_gone_on_with_by_its_number_and_its_time_of_birth() {
    let (_dir, root) = folder();
    let roots = [root.clone()];
    let Opened { id, born, .. } = open(&root, "film", OpenMode::Create).unwrap();
    let known = |other: Option<&str>| Known {
        id,
        born,
        other_path: other.map(|name| root.join(name)),
        reserved_bytes: 0,
        descriptors: None,
    };
    let path = root.join("film");
    if born.is_none() {
        assert_eq!(code(Disk.reopen(&roots, &path, known(None))), ErrorCode::FILE_CHANGED);
        return;
    }
    let reopened = Disk.reopen(&roots, &path, known(None)).unwrap();
    assert!(reopened.id == id && !reopened.is_renamed);
    fs::rename(&path, root.join("done")).unwrap();
    assert!(Disk.reopen(&roots, &path, known(Some("done"))).unwrap().is_renamed);
    for _ in 0..2 {
        assert_eq!(code(Disk.reopen(&roots, &path, known(None))), ErrorCode::FILE_CHANGED);
        fs::write(&path, "another").unwrap();
    }
    assert_eq!(fs::read(path).unwrap(), b"another");
}
