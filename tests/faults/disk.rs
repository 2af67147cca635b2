//! The disk itself does what a kernel does, and the daemon's steps over it do what they are for.

use std::path::{Path, PathBuf};

use freemkvd::storage::{Content, Creation, Manner, Open, Opened, Storage};
use freemkvd_proto::OpenMode;
use freemkvd_tests::faults::{Call, Fault, FaultDisk, Ground};
use rustix::io::Errno;

use crate::model::content;

const LEN: u64 = 64 << 10;
const EIO: Fault = Fault::Error(Errno::IO.raw_os_error());

fn open(disk: &FaultDisk, mode: OpenMode) -> Opened {
    let roots = [disk.root().to_owned()];
    disk.open(&roots, &disk.root().join("film.mkv"), mode, Creation::default()).unwrap()
}

fn new_file() -> (FaultDisk, PathBuf, Box<dyn Storage>) {
    let disk = FaultDisk::new("/rips", Ground::default());
    let file = open(&disk, OpenMode::CreateNew).storage;
    (disk, "/rips/film.mkv".into(), file)
}

fn write(file: &mut dyn Storage, seed: u64) {
    file.write_at(0, Content::Bytes(&content(seed, 0, LEN)), Manner::Cached).unwrap();
}

/// What a power cut leaves of the file, for many seeds.
fn remains(disk: &FaultDisk, path: &Path) -> Vec<Option<Vec<u8>>> {
    (0..100).map(|seed| disk.crash(seed).file(path).map(|file| file.bytes())).collect()
}

#[test]
fn an_error_that_a_wait_has_taken_is_still_told_by_the_sync() {
    let (disk, path, mut file) = new_file();
    file.sync().unwrap();
    write(&mut *file, 1);
    disk.script().fail(Call::Medium, 1, EIO);
    let waited = file.wait_writeback(0..LEN).unwrap_err();
    assert_eq!(waited.raw_os_error(), Some(Errno::IO.raw_os_error()));
    let synced = file.sync().expect_err("the sentinel was not told by the wait");
    assert_eq!(synced.raw_os_error(), Some(Errno::IO.raw_os_error()));
    // From here on nobody knows any more, and nothing of it is there.
    file.sync().unwrap();
    let lost = remains(&disk, &path).into_iter().flatten();
    assert!(lost.flatten().all(|byte| byte == 0), "it came to the medium all the same");
    file.evict(0..LEN).unwrap();
    assert!(disk.read(&path).unwrap().iter().all(|byte| *byte == 0));
}

#[test]
fn an_error_that_nobody_has_heard_of_is_told_to_who_opens_the_file_next() {
    let (disk, _, mut file) = new_file();
    write(&mut *file, 1);
    disk.script().fail(Call::Medium, 1, EIO);
    file.start_writeback(0..LEN).unwrap();
    // Somebody looks, and the writeback has ended.
    assert_eq!(file.pages(0..LEN).unwrap().writeback_bytes, LEN);
    assert_eq!(file.pages(0..LEN).unwrap().writeback_bytes, 0);
    drop(file);
    let mut next = open(&disk, OpenMode::Existing).storage;
    assert!(next.sync().is_err());
    let mut last = open(&disk, OpenMode::Existing).storage;
    last.sync().unwrap();
}

#[test]
fn a_power_cut_takes_anything_that_is_not_synced_and_nothing_that_is() {
    let (disk, path, mut file) = new_file();
    write(&mut *file, 1);
    file.wait_writeback(0..LEN).unwrap();
    let (first, second) = (content(1, 0, LEN), content(2, 0, LEN));
    let left = remains(&disk, &path);
    assert!(left.iter().any(Option::is_none), "the name was there each time");
    assert!(left.iter().flatten().any(|bytes| *bytes == first), "never all of it");
    assert!(left.iter().flatten().any(|bytes| bytes.is_empty()), "the length was there each time");
    file.sync().unwrap();
    assert!(remains(&disk, &path).iter().all(|bytes| bytes.as_ref() == Some(&first)));
    write(&mut *file, 2);
    let left: Vec<Vec<u8>> = remains(&disk, &path).into_iter().flatten().collect();
    assert_eq!(left.len(), 100, "its name is durable");
    assert!(left.iter().any(|bytes| *bytes != first && *bytes != second), "pages go one by one");
    // A wait is no sync, and gives no promise of its own.
    file.wait_writeback(0..LEN).unwrap();
    assert!(remains(&disk, &path).iter().flatten().any(|bytes| *bytes != second));
}

#[test]
fn a_new_name_is_durable_only_with_its_directory_and_metadata_comes_in_its_order() {
    let (disk, old, mut file) = new_file();
    write(&mut *file, 1);
    file.sync().unwrap();
    file.set_len(LEN / 2).unwrap();
    file.set_len(LEN).unwrap();
    file.rename("other.mkv".as_ref(), false).unwrap();
    let new = Path::new("/rips/other.mkv");
    let mut renamed = 0;
    for seed in 0..100 {
        let image = disk.crash(seed);
        let (was, is) = (image.file(&old), image.file(new));
        assert!(was.is_some() != is.is_some(), "it has one name");
        if let Some(file) = is {
            renamed += 1;
            // Both lengths came before.
            assert!(
                file.bytes()[usize::try_from(LEN / 2).unwrap()..].iter().all(|byte| *byte == 0)
            );
        }
    }
    assert!((1..100).contains(&renamed), "{renamed} of 100");
    file.sync().unwrap();
    assert!(remains(&disk, new).iter().all(Option::is_some));
}

#[test]
fn interrupted_and_short_calls_are_gone_on_with() {
    let (disk, path, mut file) = new_file();
    let interrupted = Fault::Error(Errno::INTR.raw_os_error());
    let calls = Call::ALL.into_iter().filter(|call| call.is_interruptible());
    calls.for_each(|call| disk.script().fail(call, 1, interrupted));
    disk.script().fail(Call::Write, 2, Fault::Short(None));
    write(&mut *file, 1);
    assert!(file.reserve(2 * LEN).unwrap());
    file.start_writeback(0..LEN).unwrap();
    file.wait_writeback(0..LEN).unwrap();
    file.sync_data().unwrap();
    file.release_surplus().unwrap();
    file.sync().unwrap();
    assert_eq!(disk.script().counts()[&Call::Write], 3, "interrupted, a half, the rest");
    assert!(remains(&disk, &path).iter().all(|bytes| *bytes == Some(content(1, 0, LEN))));
    // One that writes nothing at all is an error, not a loop.
    disk.set_capacity(LEN);
    let full = file.write_at(LEN, Content::Bytes(&[1; 8192]), Manner::Cached).unwrap_err();
    assert_eq!(full.raw_os_error(), Some(Errno::NOSPC.raw_os_error()));
}

#[test]
fn a_device_that_is_gone_fails_every_call_and_one_that_is_read_only_those_that_change_it() {
    let (disk, _, mut file) = new_file();
    write(&mut *file, 1);
    disk.script().fail(Call::Len, 1, Fault::ReadOnly);
    assert_eq!(file.len_bytes().unwrap(), LEN);
    let refused = file.set_len(1).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(Errno::ROFS.raw_os_error()));
    assert!(file.sync().is_err(), "what is dirty can't be written");
    disk.heal();
    disk.script().clear();
    disk.script().fail(Call::Len, 1, Fault::Vanish(Errno::NODEV.raw_os_error()));
    for result in [file.len_bytes().map(drop), file.sync(), file.unlink(), file.closing()] {
        assert_eq!(result.unwrap_err().raw_os_error(), Some(Errno::NODEV.raw_os_error()));
    }
}
