//! On the volume of temporary files.

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::windows::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::slice::from_ref;

use freemkvd_proto::OpenMode;
use windows_sys::Win32::Foundation::GENERIC_READ;
use windows_sys::Win32::Storage::FileSystem::{FILE_SHARE_READ, FILE_SHARE_WRITE};

use super::Disk;
use crate::storage::{
    Content, Creation, Known, Manner, Open, OpenError, Opened, Storage, is_no_space,
};

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

fn is_outside(result: &Result<Opened, OpenError>) -> bool {
    matches!(result, Err(OpenError::OutsideRoots { .. }))
}

/// wine lays files out on a file system of Unix, and leaves out what that has no word for.
fn is_wine() -> bool {
    std::env::var_os("WINEPREFIX").is_some()
        || Path::new(r"C:\windows\system32\winecfg.exe").exists()
}

#[test]
fn bytes_go_where_they_belong_and_a_player_reads_them_meanwhile() {
    let (_dir, root) = folder();
    let mut file = new_file(&root);
    write(&mut file, 3, b"film");
    write(&mut file, 0, b"the");
    let player = OpenOptions::new()
        .read(true)
        .share_mode(FILE_SHARE_READ | FILE_SHARE_WRITE)
        .open(root.join("film.mkv"));
    let mut read = String::new();
    player.unwrap().read_to_string(&mut read).unwrap();
    assert_eq!(read, "thefilm");
    for manner in [Manner::Uncached, Manner::Direct] {
        let refused = file.write_at(0, Content::Bytes(b"x"), manner).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::Unsupported);
    }
    file.set_len(5).unwrap();
    assert_eq!(file.len_bytes().unwrap(), 5);
    file.wait_writeback(0..5).unwrap();
    file.sync_data().unwrap();
    file.sync().unwrap();
    assert_eq!(fs::read(root.join("film.mkv")).unwrap(), b"thefi");
}

#[test]
fn nobody_else_writes_a_file_that_is_being_written() {
    let (_dir, root) = folder();
    let file = new_file(&root);
    let other = OpenOptions::new().write(true).open(root.join("film.mkv"));
    assert!(super::naming::is_in_use(&other.unwrap_err()));
    let Err(error) = open(&root, "film.mkv", OpenMode::Existing) else { panic!("written by two") };
    let failure = error.failure();
    assert_eq!(failure.code, freemkvd_proto::ErrorCode::IN_USE, "{failure:?}");
    drop(file);
    assert!(open(&root, "film.mkv", OpenMode::Existing).is_ok());
}

#[test]
fn what_does_not_share_for_writing_keeps_a_file_from_being_written_and_says_so() {
    let (_dir, root) = folder();
    drop(new_file(&root));
    let reader = OpenOptions::new()
        .access_mode(GENERIC_READ)
        .share_mode(FILE_SHARE_READ)
        .open(root.join("film.mkv"));
    let _reader = reader.unwrap();
    let Err(error) = open(&root, "film.mkv", OpenMode::Existing) else { panic!("opened") };
    assert!(error.to_string().contains("another program has it open"), "{error}");
}

#[test]
fn the_modes_of_opening_make_replace_and_find() {
    let (_dir, root) = folder();
    let opened =
        |name, mode| open(&root, name, mode).map(|opened| (opened.created, opened.len_bytes));
    assert_eq!(opened("film", OpenMode::Create).unwrap(), (true, 0));
    fs::write(root.join("film"), "old").unwrap();
    assert_eq!(opened("film", OpenMode::Create).unwrap(), (false, 3), "emptied by nobody");
    assert_eq!(opened("film", OpenMode::Existing).unwrap(), (false, 3));
    for (name, mode, code) in [
        ("film", OpenMode::CreateNew, freemkvd_proto::ErrorCode::EXISTS),
        ("other", OpenMode::Existing, freemkvd_proto::ErrorCode::NOT_FOUND),
        ("no/such", OpenMode::Create, freemkvd_proto::ErrorCode::NOT_FOUND),
    ] {
        assert_eq!(opened(name, mode).unwrap_err().failure().code, code, "{name}");
    }
}

#[test]
fn nothing_is_made_outside_of_the_roots() {
    let (_dir, root) = folder();
    let (_other_dir, other) = folder();
    let path = other.join("film");
    assert!(is_outside(&Disk.open(from_ref(&root), &path, OpenMode::Create, Creation::default())));
    assert!(!path.exists());
    fs::create_dir(root.join("below")).unwrap();
    let up = root.join("below").join("..").join("..").join("film");
    let refused = Disk.open(&[root.join("below")], &up, OpenMode::Create, Creation::default());
    assert!(matches!(refused, Err(OpenError::NotAFile { .. })));
    // A link to a directory: the privilege for it may be missing. (wine has links of Unix below its names, and
    // tells no final path.)
    if std::os::windows::fs::symlink_dir(&other, root.join("link")).is_ok() && !is_wine() {
        let path = root.join("link").join("film");
        assert!(is_outside(&Disk.open(
            from_ref(&root),
            &path,
            OpenMode::Create,
            Creation::default()
        )));
        assert!(!other.join("film").exists());
    }
}

#[test]
fn what_is_no_file_of_its_own_is_refused() {
    let (_dir, root) = folder();
    fs::create_dir(root.join("folder")).unwrap();
    for name in ["folder", "nul", "film:stream", "film."] {
        let refused = open(&root, name, OpenMode::Create);
        assert!(matches!(refused, Err(OpenError::NotAFile { .. })), "{name}");
    }
    fs::write(root.join("one"), "").unwrap();
    if fs::hard_link(root.join("one"), root.join("two")).is_ok() {
        let refused = open(&root, "two", OpenMode::Existing);
        assert!(matches!(refused, Err(OpenError::Linked { names: 2, .. })));
    }
}

#[test]
fn the_case_of_a_name_makes_no_other_file() {
    let (_dir, root) = folder();
    let first = open(&root, "Film.mkv", OpenMode::CreateNew).unwrap().id;
    let shouted = PathBuf::from(root.to_string_lossy().to_uppercase());
    let again = open(&shouted, "FILM.MKV", OpenMode::Existing).unwrap();
    assert_eq!(again.id, first);
}

#[test]
fn missing_directories_are_made_below_the_root_when_that_is_wanted() {
    let (_dir, root) = folder();
    let path = root.join("a").join("b").join("film");
    let creation = Creation { directory_mode: Some(0o777), ..Creation::default() };
    assert!(Disk.open(from_ref(&root), &path, OpenMode::Create, Creation::default()).is_err());
    assert!(!root.join("a").exists());
    assert!(Disk.open(from_ref(&root), &path, OpenMode::Create, creation).unwrap().created);
    let deep = (0..40).fold(root.clone(), |path, _| path.join("d"));
    let refused = Disk.open(from_ref(&root), &deep, OpenMode::Create, creation);
    assert!(refused.is_err() && !root.join("d").exists());
    let (_other_dir, other) = folder();
    let refused = Disk.open(&[root], &other.join("x").join("film"), OpenMode::Create, creation);
    assert!(is_outside(&refused) && !other.join("x").exists());
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
    write(&mut file, 3, b"er");
    file.sync().unwrap();
    assert_eq!(fs::read(root.join("taken")).unwrap(), b"newer");
    assert!(file.is_named().unwrap());
}

#[test]
fn only_a_name_of_the_file_itself_is_taken_away() {
    let (_dir, root) = folder();
    let mut file = new_file(&root);
    fs::rename(root.join("film.mkv"), root.join("moved")).unwrap();
    fs::write(root.join("film.mkv"), "another").unwrap();
    file.unlink().unwrap();
    assert_eq!(fs::read(root.join("film.mkv")).unwrap(), b"another");
    let refused = file.rename("third".as_ref(), true).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::NotFound);
}

#[test]
fn a_file_whose_name_is_taken_away_has_none() {
    let (_dir, root) = folder();
    let mut file = new_file(&root);
    assert!(file.is_named().unwrap());
    file.unlink().unwrap();
    // wine takes the name away at the end, and does not say that it will.
    assert!(is_wine() || !file.is_named().unwrap());
    drop(file);
    assert!(!root.join("film.mkv").exists());
}

#[test]
fn a_file_is_gone_on_with_by_its_number() {
    let (_dir, root) = folder();
    let Opened { id, born, storage, .. } = open(&root, "film.mkv", OpenMode::Create).unwrap();
    let roots = [root.clone()];
    let known = |other: Option<&str>| Known {
        id,
        born,
        other_path: other.map(|name| root.join(name)),
        reserved_bytes: 0,
        descriptors: None,
    };
    drop(storage);
    let reopened = Disk.reopen(&roots, &root.join("film.mkv"), known(None)).unwrap();
    assert!(reopened.id == id && !reopened.is_renamed);
    drop(reopened);
    fs::rename(root.join("film.mkv"), root.join("done.mkv")).unwrap();
    let reopened = Disk.reopen(&roots, &root.join("film.mkv"), known(Some("done.mkv"))).unwrap();
    assert!(reopened.is_renamed);
    drop(reopened);
    let gone = Disk.reopen(&roots, &root.join("film.mkv"), known(None));
    assert!(matches!(gone, Err(OpenError::Changed { what: "was removed", .. })));
    fs::write(root.join("film.mkv"), "another").unwrap();
    let another = Disk.reopen(&roots, &root.join("film.mkv"), known(None));
    assert!(matches!(another, Err(OpenError::Changed { .. })));
    assert_eq!(fs::read(root.join("film.mkv")).unwrap(), b"another");
}

#[test]
fn a_file_of_a_process_that_is_about_to_end_is_waited_for() {
    let (_dir, root) = folder();
    let Opened { id, born, storage, .. } = open(&root, "film.mkv", OpenMode::Create).unwrap();
    let known = Known { id, born, other_path: None, reserved_bytes: 0, descriptors: None };
    std::thread::scope(|scope| {
        let next =
            scope.spawn(|| Disk.reopen(from_ref(&root), &root.join("film.mkv"), known).is_ok());
        std::thread::sleep(std::time::Duration::from_millis(100));
        drop(storage);
        assert!(next.join().unwrap());
    });
}

#[test]
fn space_is_reserved_without_a_length_and_given_back() {
    let (_dir, root) = folder();
    let mut file = new_file(&root);
    write(&mut file, 0, b"film");
    let is_reserved = file.reserve(8 << 20).unwrap();
    assert_eq!(file.len_bytes().unwrap(), 4);
    assert!(file.available_bytes().unwrap() > 0);
    // wine takes the order, and its file system has none.
    assert!(is_reserved || is_wine());
    file.release_surplus().unwrap();
    assert_eq!(file.len_bytes().unwrap(), 4);
    assert_eq!(fs::read(root.join("film.mkv")).unwrap(), b"film");
}

#[test]
fn the_volume_has_a_name_and_a_file_system() {
    let (_dir, root) = folder();
    let device = open(&root, "film", OpenMode::Create).unwrap().device;
    assert!(root.starts_with(&device.mount), "{device:?}");
    assert!(!device.filesystem.is_empty() && !device.id.is_empty(), "{device:?}");
}

#[test]
fn a_full_volume_is_one() {
    for code in [112, 39] {
        assert!(is_no_space(&io::Error::from_raw_os_error(code)), "{code}");
    }
}
