//! A file that its client has opened: whether it can be written by what came, and what there is to know of it.
//!
//! 1. Whatever is asked here may never return: the file may be one of a server that is dead, or that its client
//!    runs itself. It is asked in the stream's own thread.
//! 2. Which device it counts for must not be for its client to choose: users can mount as many as they like, and each
//!    device has a floor in the budget. Those that may be a user's count as one.
//! 3. Nothing is opened that the client has not open. (The one more for direct writes is the same file again.)
//! 4. What comes later is found out by writing: a file that became immutable, a swap file, a sealed memfd. What the
//!    client does later to the open description, which it shares, is not found out: with `O_APPEND` set then, all lands
//!    at the end. It spoils its own file, as it could without the daemon.

use std::ffi::OsString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    CWD, FileType, Mode, OFlags, Stat, fcntl_getfl, fcntl_setfl, fstat, major, openat as open_at,
};

use super::super::beneath;
use super::super::mount::{self, Mount};
use super::super::{OpenError, Opened};
use super::kind::{self, Kind};
use super::{Descriptors, describe_on, device_number};

/// What stands for the mount of a file that this process can't see.
const ELSEWHERE: &str = "(mounted elsewhere)";

/// Takes a file that came by descriptors.
///
/// # Errors
/// [`OpenError`].
pub(super) fn check(given: Descriptors, label: &Path) -> Result<beneath::Opened, OpenError> {
    let io = |operation, source: rustix::io::Errno| {
        let (path, source) = (label.to_owned(), source.into());
        OpenError::Io { path, operation, source }
    };
    let bad = |what| OpenError::BadGiven { path: label.to_owned(), what };
    let Descriptors { data, sentinel, directory } = given;
    for file in [&data, &sentinel] {
        let flags = fcntl_getfl(file).map_err(|errno| io("ask about", errno))?;
        not_writable(flags).map_or(Ok(()), |what| Err(bad(what)))?;
    }
    let stat = fstat(&data).map_err(|errno| io("ask about", errno))?;
    let other = fstat(&sentinel).map_err(|errno| io("ask about", errno))?;
    for stat in [&stat, &other] {
        not_a_file(stat).map_or(Ok(()), |what| Err(bad(what)))?;
    }
    if (stat.st_dev, stat.st_ino) != (other.st_dev, other.st_ino) {
        return Err(bad("they are two different files"));
    }
    if beneath::is_set_id(&stat) {
        return Err(OpenError::SetId { path: label.to_owned() });
    }
    if is_one_description(&data, &sentinel).map_err(|errno| io("ask about", errno))? {
        return Err(bad("the second one is a copy of the first"));
    }
    let magic = kind::magic(&data);
    // Some look at who writes, and that would be the daemon.
    if beneath::is_view(magic) {
        return Err(OpenError::NotAFile { path: label.to_owned(), what: beneath::A_VIEW });
    }
    if Kind::of(magic) == Kind::Memory {
        return Err(bad("it lies in memory, which would count as freemkvd's"));
    }
    // A user may mount one over memory in a namespace of his own. One that is mounted here, root has mounted.
    let is_elsewhere = || mount::of_number(&data, &device_number(stat.st_dev)).is_none();
    if kind::is_overlay(magic) && is_elsewhere() {
        return Err(bad(
            "it lies on an overlay that is mounted elsewhere, and its content may lie in memory",
        ));
    }
    if let Some(directory) = &directory {
        let flags = fcntl_getfl(directory).map_err(|errno| io("ask about", errno))?;
        let stat = fstat(directory).map_err(|errno| io("ask about", errno))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Err(bad("what came as its directory is none"));
        }
        if flags.contains(OFlags::PATH) {
            return Err(bad("its directory was opened with O_PATH, and can't be synced"));
        }
    }
    let direct = reopened(&data, &stat);
    // No name: what becomes of it is the client's business.
    let name = OsString::new();
    Ok(beneath::Opened { data, sentinel, direct, directory, name, stat, created: false })
}

/// What there is to know of it. What its client calls it leads elsewhere here, or nowhere, so that the table of
/// mounts is asked by numbers alone.
pub(super) fn describe(file: beneath::Opened) -> Opened {
    let device = device_number(file.stat.st_dev);
    let mount = mount::of_number(&file.data, &device).unwrap_or_else(|| Mount {
        device,
        point: PathBuf::from(ELSEWHERE),
        // What is on no disk, anybody can mount in a namespace of his own.
        is_a_users: major(file.stat.st_dev) == 0,
        ..Mount::default()
    });
    describe_on(mount, file)
}

/// Why a file with these flags can't be written at any offset.
fn not_writable(flags: OFlags) -> Option<&'static str> {
    if flags.contains(OFlags::PATH) {
        return Some("one of them was opened with O_PATH");
    }
    if !matches!(flags & OFlags::RWMODE, OFlags::WRONLY | OFlags::RDWR) {
        return Some("one of them is not open for writing");
    }
    if flags.contains(OFlags::APPEND) {
        return Some(
            "one of them was opened with O_APPEND, and would write at the end whatever the place",
        );
    }
    flags.contains(OFlags::DIRECT).then_some("one of them was opened with O_DIRECT")
}

fn not_a_file(stat: &Stat) -> Option<&'static str> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => None,
        FileType::Directory => Some("one of them is a directory"),
        FileType::Fifo => Some("one of them is a pipe"),
        FileType::Socket => Some("one of them is a socket"),
        _ => Some("one of them is a device"),
    }
}

/// True when one is a copy of the other (`dup`, or passed twice): they have one cursor into the kernel's record of
/// writeback errors, and what a wait on the first has consumed the second does not know any more either.
///
/// A flag that means nothing to a regular file is changed on the one, and looked for on the other. The kernel has a
/// call for it (`kcmp`), which a filter of system calls may refuse.
fn is_one_description(data: &OwnedFd, sentinel: &OwnedFd) -> rustix::io::Result<bool> {
    let (before, other) = (fcntl_getfl(data)?, fcntl_getfl(sentinel)?);
    fcntl_setfl(data, before ^ OFlags::NONBLOCK)?;
    let now = fcntl_getfl(sentinel);
    fcntl_setfl(data, before)?;
    Ok((now? ^ other).contains(OFlags::NONBLOCK))
}

/// The same file once more, for direct writes, where this process may open it. It goes without otherwise.
fn reopened(data: &OwnedFd, stat: &Stat) -> Option<OwnedFd> {
    let link = format!("/proc/self/fd/{}", data.as_raw_fd());
    // Not waiting for the client to give up a lease.
    let flags = OFlags::WRONLY | OFlags::DIRECT | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let direct = open_at(CWD, link, flags, Mode::empty()).ok()?;
    let found = fstat(&direct).ok()?;
    ((found.st_dev, found.st_ino) == (stat.st_dev, stat.st_ino)).then_some(direct)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::OpenOptionsExt;
    use std::path::Path;

    use freemkvd_proto::{ErrorCode, OpenMode};
    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

    use super::super::super::{Content, Creation, FileId, Known, Manner, Open};
    use super::super::Disk;
    use super::*;

    const LABEL: &str = "what the client calls it";

    fn opened(path: &Path, flags: OFlags) -> OwnedFd {
        let flags = flags | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty()).unwrap()
    }

    /// A file with content, and the place that it is in.
    fn place() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir_in(".").unwrap();
        let path = dir.path().canonicalize().unwrap().join("film");
        std::fs::write(&path, b"dear").unwrap();
        (dir, path)
    }

    fn adopt(data: OwnedFd, sentinel: OwnedFd) -> Result<Opened, OpenError> {
        Disk.adopt(Descriptors { data, sentinel, directory: None }, Path::new(LABEL), None)
    }

    fn refusal(data: OwnedFd, sentinel: OwnedFd) -> String {
        let error = adopt(data, sentinel).err().expect("it is refused");
        let failure = error.failure();
        assert_eq!(failure.code, ErrorCode::BAD_FILE, "{failure:?}");
        assert!(failure.message.contains(LABEL), "{failure:?}");
        failure.message
    }

    #[test]
    fn a_file_that_was_opened_twice_is_written_and_made_durable() {
        let (dir, path) = place();
        let directory = Some(opened(dir.path(), OFlags::RDONLY | OFlags::DIRECTORY));
        let (data, sentinel) = (opened(&path, OFlags::WRONLY), opened(&path, OFlags::RDWR));
        let given = Descriptors { data, sentinel, directory };
        let mut file = Disk.adopt(given, Path::new(LABEL), None).unwrap();
        assert_eq!((file.len_bytes, file.created), (4, false));
        let by_path = Disk.open(
            &[path.parent().unwrap().into()],
            &path,
            OpenMode::Existing,
            Creation::default(),
        );
        let by_path = by_path.unwrap();
        assert_eq!((file.id, file.born), (by_path.id, by_path.born), "the same file");
        assert_eq!(file.device, by_path.device, "on the same device, with one limit");
        assert_eq!(file.storage.abilities(), by_path.storage.abilities(), "direct writes too");
        file.storage.write_at(4, Content::Bytes(b" film"), Manner::Cached).unwrap();
        file.storage.sync().unwrap();
        file.storage.unlink().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"dear film", "its name is its client's");
        std::fs::remove_file(&path).unwrap();
        assert!(file.storage.is_named().unwrap(), "and whether it has one, too");
    }

    #[test]
    fn what_can_not_be_written_anywhere_is_refused() {
        let (dir, path) = place();
        let good = || opened(&path, OFlags::WRONLY);
        let append = File::options().append(true).open(&path).unwrap();
        let direct = File::options().write(true).custom_flags(libc::O_DIRECT).open(&path).unwrap();
        let fifo = dir.path().join("fifo");
        rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::RWXU, 0).unwrap();
        let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let null = opened(Path::new("/dev/null"), OFlags::WRONLY);
        for (bad, words) in [
            (opened(&path, OFlags::RDONLY), "not open for writing"),
            (opened(&path, OFlags::PATH), "O_PATH"),
            (append.into(), "O_APPEND"),
            (direct.into(), "O_DIRECT"),
            (opened(dir.path(), OFlags::RDONLY), "not open for writing"),
            (opened(&fifo, OFlags::RDWR), "a pipe"),
            (socket.into(), "a socket"),
            (null, "a device"),
        ] {
            let copy = bad.try_clone().unwrap();
            for message in [refusal(copy, good()), refusal(good(), bad)] {
                assert!(message.contains(words), "{message}");
            }
        }
        assert_eq!(std::fs::read(&path).unwrap(), b"dear");
    }

    #[test]
    fn two_files_and_a_copy_are_no_file_opened_twice() {
        let (dir, path) = place();
        let other = dir.path().join("other");
        std::fs::write(&other, b"").unwrap();
        let open = |path: &Path, flags| opened(path, OFlags::WRONLY | flags);
        let different = refusal(open(&path, OFlags::empty()), open(&other, OFlags::empty()));
        assert!(different.contains("two different files"), "{different}");
        // Whatever the flag is by which that is found out.
        for flags in [OFlags::empty(), OFlags::NONBLOCK] {
            let data = open(&path, flags);
            let copy = data.try_clone().unwrap();
            let message = refusal(data, copy);
            assert!(message.contains("a copy of the first"), "{message}");
            let (data, sentinel) = (open(&path, flags), open(&path, OFlags::NONBLOCK));
            let watched = data.try_clone().unwrap();
            assert!(adopt(data, sentinel).is_ok());
            let nonblock = fcntl_getfl(&watched).unwrap() & OFlags::NONBLOCK;
            assert_eq!(nonblock, flags, "it is as it was");
        }
    }

    #[test]
    fn memory_is_no_place_for_a_file() {
        let memory = memfd_create("film", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&memory, 4).unwrap();
        let link = format!("/proc/self/fd/{}", memory.as_raw_fd());
        let again = opened(Path::new(&link), OFlags::WRONLY);
        let message = refusal(memory, again);
        assert!(message.contains("lies in memory"), "{message}");
        // Pages of another size, where the kernel has them. None is taken.
        let Ok(memory) = memfd_create("film", MemfdFlags::CLOEXEC | MemfdFlags::HUGETLB) else {
            return;
        };
        let link = format!("/proc/self/fd/{}", memory.as_raw_fd());
        let message = refusal(memory, opened(Path::new(&link), OFlags::WRONLY));
        assert!(message.contains("lies in memory"), "{message}");
    }

    #[test]
    fn a_file_that_runs_as_another_is_refused() {
        let (_dir, path) = place();
        let is_refused = |mode| {
            std::fs::remove_file(&path).unwrap();
            File::options().write(true).create_new(true).mode(mode).open(&path).unwrap();
            let (data, sentinel) = (opened(&path, OFlags::WRONLY), opened(&path, OFlags::WRONLY));
            adopt(data, sentinel).err().is_some_and(|error| {
                assert!(matches!(error, OpenError::SetId { .. }), "{error}");
                error.failure().code == ErrorCode::BAD_FILE
            })
        };
        let refused = [0o644, 0o4644, 0o4755, 0o2775, 0o2664].map(is_refused);
        assert_eq!(refused, [false, true, true, true, false]);
    }

    #[test]
    fn a_view_into_the_kernel_is_no_file() {
        let path = Path::new("/proc/self/oom_score_adj");
        let before = std::fs::read(path).unwrap();
        let opened = || opened(path, OFlags::WRONLY);
        let error = adopt(opened(), opened()).err().expect("it is refused").failure();
        assert_eq!(error.code, ErrorCode::NOT_A_FILE, "{error:?}");
        assert!(error.message.contains("a view into the kernel"), "{error:?}");
        assert_eq!(std::fs::read(path).unwrap(), before);
    }

    #[test]
    fn a_directory_is_one_that_can_be_synced() {
        let (dir, path) = place();
        let refused = |directory| {
            let (data, sentinel) = (opened(&path, OFlags::WRONLY), opened(&path, OFlags::WRONLY));
            let given = Descriptors { data, sentinel, directory: Some(directory) };
            let error = Disk.adopt(given, Path::new(LABEL), None).err().expect("it is refused");
            assert_eq!(error.failure().code, ErrorCode::BAD_FILE);
            error.to_string()
        };
        assert!(refused(opened(&path, OFlags::RDONLY)).contains("is none"));
        let unsyncable = refused(opened(dir.path(), OFlags::PATH | OFlags::DIRECTORY));
        assert!(unsyncable.contains("can't be synced"), "{unsyncable}");
    }

    #[test]
    fn a_file_that_comes_back_is_the_one_that_it_was() {
        let (dir, path) = place();
        let file = || Descriptors {
            data: opened(&path, OFlags::WRONLY),
            sentinel: opened(&path, OFlags::WRONLY),
            directory: None,
        };
        let first = Disk.adopt(file(), Path::new(LABEL), None).unwrap();
        let known = |id| Known {
            id,
            born: first.born,
            other_path: None,
            reserved_bytes: 0,
            descriptors: None,
        };
        let again = Disk.adopt(file(), Path::new(LABEL), Some(known(first.id)));
        assert_eq!(again.unwrap().id, first.id);
        let other = FileId { inode: first.id.inode + 1, ..first.id };
        let changed = Disk.adopt(file(), Path::new(LABEL), Some(known(other))).err();
        assert_eq!(changed.map(|error| error.failure().code), Some(ErrorCode::FILE_CHANGED));
        drop(dir);
    }

    #[test]
    fn too_few_and_too_many_are_no_file() {
        let (_dir, path) = place();
        let given = |count: usize| {
            Descriptors::given((0..count).map(|_| opened(&path, OFlags::WRONLY)).collect())
        };
        assert!([0, 1, 4].into_iter().all(|count| given(count).is_none()));
        assert_eq!(given(2).map(|file| file.count()), Some(2));
        assert_eq!(given(3).map(|file| file.count()), Some(3));
    }
}
