//! On the file system of the checkout, and on that of temporary files.

use std::io;
use std::os::unix::fs::MetadataExt;

use super::super::{Content, Manner, Storage};
use super::*;

/// Memory that a direct write takes.
struct Aligned {
    memory: Vec<u8>,
    start: usize,
    len: usize,
}

impl Aligned {
    fn new(byte: u8, len: usize) -> Self {
        let memory = vec![byte; len + 4096];
        let start = memory.as_ptr().align_offset(4096);
        Self { memory, start, len }
    }

    fn bytes(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.len]
    }
}

/// A new file where temporary files of the checkout go.
fn new_file() -> (tempfile::TempDir, PathBuf, Box<dyn Storage>) {
    let dir = tempfile::tempdir_in(".").unwrap();
    let path = dir.path().canonicalize().unwrap().join("a");
    let file = open(&path, OpenMode::CreateNew).unwrap().storage;
    (dir, path, file)
}

fn is_unsupported(result: io::Result<()>) -> bool {
    result.is_err_and(|error| error.kind() == io::ErrorKind::Unsupported)
}

fn open(path: &Path, mode: OpenMode) -> Result<Opened, OpenError> {
    Disk.open(&[path.parent().unwrap().to_owned()], path, mode, Creation::default())
}

#[test]
fn a_reserved_surplus_is_given_back() {
    let (_dir, path, mut file) = new_file();
    file.reserve(8 << 20).unwrap();
    file.write_at(0, Content::Bytes(&[7; 4096]), Manner::Cached).unwrap();
    file.release_surplus().unwrap();
    file.sync().unwrap();
    let metadata = std::fs::metadata(&path).unwrap();
    assert_eq!(metadata.len(), 4096);
    assert!(metadata.blocks() * 512 <= 64 << 10, "{} blocks remain", metadata.blocks());
}

#[test]
fn zeroes_are_written_without_space() {
    let (_dir, path, mut file) = new_file();
    file.write_at(0, Content::Bytes(&[7; 8192]), Manner::Cached).unwrap();
    file.set_len(1 << 30).unwrap();
    match file.write_zeroes(4096..1 << 30) {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => return,
        result => result.unwrap(),
    }
    assert!(std::fs::metadata(&path).unwrap().blocks() * 512 < 1 << 20);
    let mut head = [1; 8192];
    std::os::unix::fs::FileExt::read_exact_at(&std::fs::File::open(&path).unwrap(), &mut head, 0)
        .unwrap();
    assert!(head[..4096] == [7; 4096] && head[4096..] == [0; 4096]);
}

#[test]
fn writeback_that_was_waited_for_leaves_nothing_dirty() {
    let (_dir, _path, mut file) = new_file();
    file.write_at(0, Content::Bytes(&vec![7; 4 << 20]), Manner::Cached).unwrap();
    file.start_writeback(0..4 << 20).unwrap();
    file.wait_writeback(0..4 << 20).unwrap();
    file.evict(0..4 << 20).unwrap();
    if let Some(pages) = file.pages(0..4 << 20) {
        assert_eq!(pages.dirty_bytes + pages.writeback_bytes, 0);
    }
}

#[test]
fn an_uncached_write_is_done_or_refused_and_remembered() {
    let (_dir, path, mut file) = new_file();
    let result = file.write_at(3, Content::Bytes(b"film"), Manner::Uncached);
    let content = std::fs::read(&path).unwrap();
    if result.is_ok() {
        assert!(file.abilities().uncached);
        assert_eq!(content, b"\0\0\0film");
    } else {
        assert!(is_unsupported(result) && !file.abilities().uncached);
        assert_eq!(content, b"");
    }
}

#[test]
fn a_direct_write_does_not_round_the_length_up() {
    let (_dir, path, mut file) = new_file();
    let body = Aligned::new(7, 64 << 10);
    if file.abilities().direct_align_bytes.is_none() {
        let result = file.write_at(0, Content::Bytes(body.bytes()), Manner::Direct);
        assert!(is_unsupported(result));
        assert_eq!(file.len_bytes().unwrap(), 0);
        return;
    }
    file.write_at(0, Content::Bytes(body.bytes()), Manner::Direct).unwrap();
    file.write_at(64 << 10, Content::Bytes(&[8; 777]), Manner::Cached).unwrap();
    assert_eq!(file.len_bytes().unwrap(), (64 << 10) + 777);
    // Over a page with a tail in the cache, dirty.
    file.write_at(64 << 10, Content::Bytes(&body.bytes()[..4096]), Manner::Direct).unwrap();
    assert_eq!(file.len_bytes().unwrap(), (64 << 10) + 4096);
    file.set_len((64 << 10) + 778).unwrap();
    file.sync().unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), vec![7; (64 << 10) + 778]);
}

#[test]
fn what_is_not_aligned_is_not_written_directly_and_the_next_may_be() {
    let (_dir, path, mut file) = new_file();
    let before = file.abilities();
    let body = Aligned::new(7, 8192);
    let bytes = body.bytes();
    for (offset, bytes) in [(8, &bytes[..4096]), (0, &bytes[..4095]), (0, &bytes[8..4104])] {
        let result = file.write_at(offset, Content::Bytes(bytes), Manner::Direct);
        assert!(is_unsupported(result), "{} bytes at {offset}", bytes.len());
    }
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
    assert_eq!(file.abilities(), before);
}

#[test]
fn patches_and_direct_writes_come_out_in_their_order() {
    const PAGE: usize = 4096;
    let (_dir, path, mut file) = new_file();
    let (one, two) = (Aligned::new(1, 16 * PAGE), Aligned::new(2, 4 * PAGE));
    let direct = file.abilities().direct_align_bytes.map_or(Manner::Cached, |_| Manner::Direct);
    let mut write = |offset: usize, bytes: &[u8], manner| {
        file.write_at(offset as u64, Content::Bytes(bytes), manner)
    };
    write(0, one.bytes(), direct).unwrap();
    // Patches into pages that were never cached: one stays, one is overwritten, one goes over the edge.
    write(PAGE + 5, b"patch", Manner::Cached).unwrap();
    write(5 * PAGE + 5, b"patch", Manner::Cached).unwrap();
    write(8 * PAGE - 2, b"patch", Manner::Cached).unwrap();
    write(4 * PAGE, two.bytes(), direct).unwrap();
    write(9 * PAGE, b"patch", Manner::Uncached)
        .or_else(|_| write(9 * PAGE, b"patch", Manner::Cached))
        .unwrap();
    file.sync().unwrap();
    let mut wanted = vec![1; 16 * PAGE];
    wanted[PAGE + 5..][..5].copy_from_slice(b"patch");
    wanted[8 * PAGE - 2..][..5].copy_from_slice(b"patch");
    wanted[4 * PAGE..8 * PAGE].fill(2);
    wanted[9 * PAGE..][..5].copy_from_slice(b"patch");
    assert!(std::fs::read(&path).unwrap() == wanted);
}

#[test]
fn memory_has_nothing_to_write_back() {
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let opened = open(&dir.path().join("a"), OpenMode::CreateNew).unwrap();
    assert_eq!(opened.device.medium, Medium::Memory);
    let abilities = opened.storage.abilities();
    assert!(abilities.in_memory && !abilities.by_range && !abilities.uncached);
}

#[test]
fn nothing_is_a_range_of_its_own() {
    let (_dir, _path, mut file) = new_file();
    file.write_at(0, Content::Bytes(&[7; 8192]), Manner::Cached).unwrap();
    let (before, all) = (file.pages(0..8192), 4096..4096);
    file.start_writeback(all.clone()).unwrap();
    file.wait_writeback(all.clone()).unwrap();
    file.evict(all.clone()).unwrap();
    file.write_at(5, Content::Bytes(b""), Manner::Cached).unwrap();
    assert_eq!(file.pages(0..8192).map(|now| now.cached_bytes), before.map(|was| was.cached_bytes));
    assert_eq!(file.pages(all), before.map(|_| super::super::Pages::default()));
}

#[test]
fn modes_do_what_they_say_and_truncate_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().canonicalize().unwrap().join("a");
    let code = |result: Result<Opened, OpenError>| result.err().unwrap().failure().code;
    assert_eq!(code(open(&path, OpenMode::Existing)), freemkvd_proto::ErrorCode::NOT_FOUND);
    assert!(open(&path, OpenMode::CreateNew).unwrap().created);
    assert_eq!(code(open(&path, OpenMode::CreateNew)), freemkvd_proto::ErrorCode::EXISTS);
    std::fs::write(&path, b"film").unwrap();
    for mode in [OpenMode::Create, OpenMode::Existing] {
        let opened = open(&path, mode).unwrap();
        assert!(!opened.created && opened.len_bytes == 4);
    }
    assert_eq!(std::fs::read(&path).unwrap(), b"film");
}

#[test]
fn nothing_outside_the_root_and_nothing_but_files() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().canonicalize().unwrap();
    let root = base.join("root");
    std::fs::create_dir_all(root.join("sub")).unwrap();
    std::fs::write(base.join("secret"), b"x").unwrap();
    std::os::unix::fs::symlink("../secret", root.join("out")).unwrap();
    std::os::unix::fs::symlink("sub/in", root.join("inside")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        root.join("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    let code = |path: PathBuf| {
        let opened =
            Disk.open(std::slice::from_ref(&root), &path, OpenMode::Create, Creation::default());
        opened.err().map(|error| error.failure().code)
    };
    use freemkvd_proto::ErrorCode as Code;
    assert_eq!(code(base.join("secret")), Some(Code::OUTSIDE_ROOTS));
    assert_eq!(code(root.join("../secret")), Some(Code::OUTSIDE_ROOTS));
    assert_eq!(code(root.join("out")), Some(Code::OUTSIDE_ROOTS));
    assert_eq!(code(root.clone()), Some(Code::OUTSIDE_ROOTS));
    assert_eq!(code(root.join("sub")), Some(Code::NOT_A_FILE));
    assert_eq!(code(root.join("fifo")), Some(Code::NOT_A_FILE));
    assert_eq!(code(root.join("missing/a")), Some(Code::NOT_FOUND));
    assert_eq!(code(root.join("inside")), Some(Code::NOT_A_FILE), "it leads nowhere yet");
    std::fs::write(root.join("sub/in"), b"x").unwrap();
    assert_eq!(code(root.join("inside")), None);
    assert_eq!(std::fs::read(base.join("secret")).unwrap(), b"x");
}

/// Takes a lease, as Samba does for an oplock: whoever opens the file to write waits for its owner.
#[expect(unsafe_code, reason = "no binding offers leases")]
fn lease(file: &OwnedFd) {
    use std::os::fd::AsRawFd;
    // No signal that ends this process, as the usual one does. `F_SETSIG` is missing in the crate.
    const F_SETSIG: i32 = 10;
    // SAFETY: both take numbers and touch no memory.
    let set = unsafe { libc::fcntl(file.as_raw_fd(), F_SETSIG, libc::SIGURG) };
    // SAFETY: as above.
    let taken = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK) };
    assert_eq!((set, taken), (0, 0), "{}", io::Error::last_os_error());
}

#[test]
fn whoever_has_a_lease_on_a_file_is_not_waited_for() {
    let dir = tempfile::tempdir_in(".").unwrap();
    let path = dir.path().canonicalize().unwrap().join("a");
    let holder: OwnedFd = std::fs::File::create(&path).unwrap().into();
    lease(&holder);
    for mode in [OpenMode::Create, OpenMode::Existing] {
        let before = std::time::Instant::now();
        let error = open(&path, mode).err().unwrap().failure();
        assert!(error.message.contains("wants to be asked first"), "{error:?}");
        // The kernel's own patience is 45 seconds.
        assert!(before.elapsed() < std::time::Duration::from_secs(20));
    }
    drop(holder);
    assert!(open(&path, OpenMode::Create).is_ok());
}

/// A file that was written, and what is known of it.
fn known(path: &Path) -> (Opened, Known) {
    let mut opened = open(path, OpenMode::CreateNew).unwrap();
    opened.storage.write_at(0, Content::Bytes(b"film"), Manner::Cached).unwrap();
    let copies: Vec<_> =
        opened.storage.lend().iter().map(|(_, lent)| lent.try_clone_to_owned().unwrap()).collect();
    let [data, sentinel] = <[_; 2]>::try_from(copies).unwrap();
    let known = Known {
        id: opened.id,
        born: opened.born,
        other_path: None,
        reserved_bytes: 0,
        descriptors: Some(Descriptors { data, sentinel, directory: None }),
    };
    (opened, known)
}

fn reopen(path: &Path, known: Known) -> Result<Opened, OpenError> {
    Disk.reopen(&[path.parent().unwrap().to_owned()], path, known)
}

#[test]
fn a_file_that_was_kept_open_goes_on_wherever_it_was_moved_to() {
    let dir = tempfile::tempdir_in(".").unwrap();
    let path = dir.path().canonicalize().unwrap().join("a");
    let (opened, known) = known(&path);
    drop(opened);
    let moved = path.with_file_name("b");
    std::fs::rename(&path, &moved).unwrap();
    std::fs::write(&path, b"another").unwrap();
    let mut again = reopen(&path, known).unwrap();
    assert_eq!(again.len_bytes, 4);
    again.storage.write_at(4, Content::Bytes(b", part 2"), Manner::Cached).unwrap();
    again.storage.sync().unwrap();
    assert_eq!(std::fs::read(&moved).unwrap(), b"film, part 2");
    assert_eq!(std::fs::read(&path).unwrap(), b"another");
    // Its directory has no such name of it any more: nothing is removed there.
    again.storage.unlink().unwrap();
    assert!(path.exists());
}

#[test]
fn a_file_that_was_kept_open_and_removed_can_not_go_on() {
    let dir = tempfile::tempdir_in(".").unwrap();
    let path = dir.path().canonicalize().unwrap().join("a");
    let (opened, known) = known(&path);
    drop(opened);
    std::fs::remove_file(&path).unwrap();
    let again = reopen(&path, known);
    // NFS gives a file that is open another name instead of removing it.
    let is_renamed = std::fs::read_dir(dir.path()).unwrap().count() > 0;
    assert_eq!(again.is_ok(), is_renamed);
    if let Err(error) = again {
        assert!(matches!(error, OpenError::Changed { what: "was removed", .. }), "{error}");
    }
}

#[test]
fn a_file_that_was_closed_is_known_by_more_than_its_number() {
    let dir = tempfile::tempdir_in(".").unwrap();
    let path = dir.path().canonicalize().unwrap().join("a");
    let (opened, known) = known(&path);
    let closed = |known: &Known| Known { other_path: None, descriptors: None, ..*known };
    drop(opened);
    let again = reopen(&path, closed(&known));
    if known.born.is_none() {
        // Nobody can tell whether it is another one with the same number.
        assert!(matches!(again, Err(OpenError::Changed { .. })));
        return;
    }
    let again = again.unwrap();
    assert_eq!((again.len_bytes, again.created), (4, false));
    let replaced = |known| {
        let error = reopen(&path, known);
        matches!(error, Err(OpenError::Changed { what: "was replaced by another file", .. }))
    };
    let inode = known.id.inode + 1;
    assert!(replaced(Known { id: FileId { inode, ..known.id }, ..closed(&known) }));
    // The number of a removed file goes to the next one.
    if let Some((seconds, nanoseconds)) = known.born {
        assert!(replaced(Known { born: Some((seconds - 1, nanoseconds)), ..closed(&known) }));
    }
    std::fs::remove_file(&path).unwrap();
    let gone = reopen(&path, closed(&known));
    assert!(matches!(gone, Err(OpenError::Changed { what: "was removed", .. })));
}

fn create(path: &Path) -> Opened {
    Disk.open(&[path.parent().unwrap().to_owned()], path, OpenMode::CreateNew, Creation::default())
        .unwrap()
}

#[test]
fn a_name_that_is_taken_is_replaced_only_if_that_is_wanted() {
    let dir = tempfile::tempdir_in(".").unwrap();
    let dir = dir.path().canonicalize().unwrap();
    let (partial, film) = (dir.join("film.partial"), dir.join("film"));
    let mut opened = create(&partial);
    opened.storage.write_at(0, Content::Bytes(b"new"), Manner::Cached).unwrap();
    assert_eq!(opened.storage.taken_by("film".as_ref()).unwrap(), None);
    std::fs::write(&film, b"old").unwrap();
    let old = MetadataExt::ino(&film.metadata().unwrap());
    let taken_by = opened.storage.taken_by("film".as_ref()).unwrap();
    assert_eq!(taken_by, Some(FileId { device: opened.id.device, inode: old }));
    assert_eq!(opened.storage.taken_by("film.partial".as_ref()).unwrap(), None, "it is this file");
    let refused = opened.storage.rename("film".as_ref(), false).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!((std::fs::read(&film).unwrap(), partial.exists()), (b"old".to_vec(), true));
    opened.storage.rename("film".as_ref(), true).unwrap();
    assert_eq!((std::fs::read(&film).unwrap(), partial.exists()), (b"new".to_vec(), false));
    // A second time, as after a crash between the renaming and the answer.
    opened.storage.rename("film".as_ref(), false).unwrap();
    opened.storage.sync().unwrap();
    opened.storage.closing().unwrap();
    std::fs::remove_file(&film).unwrap();
    let gone = opened.storage.rename("other".as_ref(), false).unwrap_err();
    assert_eq!(gone.kind(), io::ErrorKind::NotFound);
}

#[test]
fn a_file_that_got_its_other_name_under_a_dying_daemon_is_found() {
    let dir = tempfile::tempdir_in(".").unwrap();
    let path = dir.path().canonicalize().unwrap().join("film.partial");
    let (opened, kept) = known(&path);
    let other = path.with_file_name("film");
    std::fs::rename(&path, &other).unwrap();
    drop(opened);
    let was_kept = kept.descriptors.is_some();
    let mut again = reopen(&path, Known { other_path: Some(other.clone()), ..kept }).unwrap();
    again.storage.rename("film".as_ref(), false).unwrap();
    again.storage.unlink().unwrap();
    assert!(was_kept && !other.exists(), "it knows its name");
}
