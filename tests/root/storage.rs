//! What each verb of the storage does on each file system, on this kernel. Stacked file systems tell
//! nothing of pages, so the file below them is asked as well.
//!
//! A table, not a promise: where a newer kernel does more, the table is to be changed. The daemon finds
//! out by trying; these are the facts that it was made for.

use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use freemkvd::storage::{
    Content, Creation, Device, Disk, Manner, Medium, Open, Opened, Pages, Storage,
};
use freemkvd_proto::OpenMode;

use super::{MIB, mount};

/// What a file system does, in truth: by what is left of the file below it, where there is one.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    /// `cachestat` on the file itself counts what a cached write dirtied.
    dirty_is_seen: bool,
    /// `sync_file_range` made it clean.
    range_cleans: bool,
    /// `fadvise(DONTNEED)` dropped the clean pages.
    evicts: bool,
    /// `RWF_DONTCACHE` is there, and does what it says.
    uncached: bool,
    /// What a direct write is to be aligned to. Where there is one, it gets past the page cache.
    direct_align_bytes: Option<u64>,
    /// To clean by range is offered.
    by_range: bool,
    /// The name is believed to do it.
    trusted: bool,
}

/// What a local file system with everything does.
const ALL: Found = Found {
    dirty_is_seen: true,
    range_cleans: true,
    evicts: true,
    uncached: true,
    direct_align_bytes: Some(512),
    by_range: true,
    trusted: true,
};

const LEN: u64 = 8 * MIB;

fn open(path: &Path, mode: OpenMode) -> Opened {
    Disk.open(&[path.parent().unwrap().to_owned()], path, mode, Creation::default()).unwrap()
}

fn pages(file: &mut dyn Storage, range: Range<u64>) -> Pages {
    file.pages(range).expect("cachestat, Linux 6.5")
}

fn is_clean(file: &mut dyn Storage, range: Range<u64>) -> bool {
    let pages = pages(file, range);
    pages.dirty_bytes + pages.writeback_bytes == 0
}

/// `len` bytes that start with a page. `memory` is a page longer.
fn aligned(memory: &[u8], len: u64) -> &[u8] {
    let start = memory.as_ptr().align_offset(4096);
    &memory[start..start + usize::try_from(len).unwrap()]
}

/// Tries every verb in a new file on the file system of this name; `below` is where its files really
/// are.
fn found_on(filesystem: &str, below: &str) -> Found {
    let dir = tempfile::tempdir_in(mount(filesystem)).unwrap();
    let path = dir.path().join("film.mkv");
    let mut file = open(&path, OpenMode::CreateNew).storage;
    let file = file.as_mut();
    let real = mount(below).join(path.strip_prefix(mount(filesystem)).unwrap());
    let mut real = open(&real, OpenMode::Existing).storage;
    let real = real.as_mut();
    let memory = vec![7; usize::try_from(LEN).unwrap() + 4096];
    let bytes = aligned(&memory, LEN);
    let in_memory = file.abilities().in_memory;

    file.write_at(0, Content::Bytes(bytes), Manner::Cached).unwrap();
    let dirty_is_seen = pages(file, 0..LEN).dirty_bytes == LEN;
    assert!(in_memory || pages(real, 0..LEN).dirty_bytes > 0);
    file.start_writeback(0..LEN).unwrap();
    file.wait_writeback(0..LEN).unwrap();
    let range_cleans = is_clean(real, 0..LEN);
    file.sync_data().unwrap();
    assert!(is_clean(real, 0..LEN), "fdatasync works everywhere");
    file.evict(0..LEN).unwrap();
    let evicts = pages(real, 0..LEN).cached_bytes == 0;

    let uncached = try_uncached(file, real, bytes);
    let abilities = file.abilities();
    if let Some(align_bytes) = abilities.direct_align_bytes {
        try_direct(file, real, bytes, align_bytes);
        patch_directly(file, &path, bytes, align_bytes);
    }
    file.sync().unwrap();
    let content = std::fs::read(&path).unwrap();
    assert!(content[..2 * bytes.len()].iter().all(|byte| *byte == 7));
    Found {
        dirty_is_seen,
        range_cleans,
        evicts,
        uncached,
        direct_align_bytes: abilities.direct_align_bytes,
        by_range: abilities.by_range,
        trusted: abilities.trusted_by_range,
    }
}

/// Writes the second part of the file.
fn try_uncached(file: &mut dyn Storage, real: &mut dyn Storage, bytes: &[u8]) -> bool {
    let (at, content) = (LEN..2 * LEN, Content::Bytes(bytes));
    match file.write_at(LEN, content.clone(), Manner::Uncached) {
        Ok(()) => {
            assert_eq!(pages(real, at.clone()).dirty_bytes, 0, "writeback starts within the write");
            file.wait_writeback(at.clone()).unwrap();
            assert!(is_clean(real, at.clone()));
            vanish(real, at);
        }
        Err(error) => {
            assert_eq!(error.kind(), std::io::ErrorKind::Unsupported);
            assert_eq!(file.len_bytes().unwrap(), LEN, "nothing may have been written");
            file.write_at(LEN, content, Manner::Cached).unwrap();
            assert!(!file.abilities().uncached);
            return false;
        }
    }
    file.abilities().uncached
}

/// Writes the third part.
fn try_direct(file: &mut dyn Storage, real: &mut dyn Storage, bytes: &[u8], align_bytes: u64) {
    let at = 2 * LEN..3 * LEN;
    file.write_at(at.start, Content::Bytes(bytes), Manner::Direct).unwrap();
    assert_eq!(pages(real, at.clone()), Pages::default());
    let short = &bytes[1..=usize::try_from(align_bytes).unwrap()];
    let result = file.write_at(at.end, Content::Bytes(short), Manner::Direct);
    assert_eq!(result.unwrap_err().kind(), std::io::ErrorKind::Unsupported);
    assert_eq!(file.len_bytes().unwrap(), at.end);
}

/// Writes the fourth part into the page cache, and the least that can be written directly over it
/// while it is dirty.
fn patch_directly(file: &mut dyn Storage, path: &Path, bytes: &[u8], align_bytes: u64) {
    let offset = 3 * LEN;
    file.write_at(offset, Content::Bytes(bytes), Manner::Cached).unwrap();
    let eights = vec![8; 4096 + 4096];
    let patch = Content::Bytes(aligned(&eights, align_bytes));
    file.write_at(offset + align_bytes, patch, Manner::Direct).unwrap();
    let align = usize::try_from(align_bytes).unwrap();
    let mut read = vec![0; 4 * 4096];
    std::fs::File::open(path).unwrap().read_exact_at(&mut read, offset).unwrap();
    let mut wanted = vec![7; 4 * 4096];
    wanted[align..2 * align].fill(8);
    assert!(read == wanted, "a direct write over dirty pages");
}

/// Waits until uncached pages have been dropped, which a kernel thread does after their writeback.
fn vanish(file: &mut dyn Storage, range: Range<u64>) {
    let end = Instant::now() + Duration::from_secs(60);
    while pages(file, range.clone()).cached_bytes > 0 {
        assert!(Instant::now() < end, "{:?}", pages(file, range));
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The loop device's own word; it repeats that of the disk below.
fn medium_of(device: &Device) -> Medium {
    let name = device.source.strip_prefix("/dev/").expect("a loop device");
    let file = format!("/sys/block/{name}/queue/rotational");
    match std::fs::read_to_string(file).unwrap().trim() {
        "0" => Medium::Flash,
        _ => Medium::Rotational,
    }
}

fn device_of(filesystem: &str) -> Device {
    let dir = tempfile::tempdir_in(mount(filesystem)).unwrap();
    let device = open(&dir.path().join("film.mkv"), OpenMode::CreateNew).device;
    assert_eq!(Path::new(&device.mount), mount(filesystem));
    device
}

#[test]
#[ignore = "needs root: loop devices"]
fn ext4_and_xfs_can_everything() {
    for filesystem in ["ext4", "xfs"] {
        assert_eq!(found_on(filesystem, filesystem), ALL, "{filesystem}");
        let device = device_of(filesystem);
        assert_eq!((device.filesystem.as_str(), device.medium), (filesystem, medium_of(&device)));
    }
}

#[test]
#[ignore = "needs root: loop devices"]
fn btrfs_has_no_uncached_write_and_does_not_tell_its_alignment() {
    let found = found_on("btrfs", "btrfs");
    assert_eq!(found, Found { uncached: false, direct_align_bytes: Some(4096), ..ALL });
    let device = device_of("btrfs");
    assert_eq!(device.medium, medium_of(&device), "its device number says nothing");
}

#[test]
#[ignore = "needs root: loop devices"]
fn subvolumes_of_one_btrfs_are_one_device() {
    let dir = tempfile::tempdir_in(mount("btrfs")).unwrap();
    let one = open(&dir.path().join("film.mkv"), OpenMode::CreateNew);
    let made = std::process::Command::new("btrfs")
        .args(["-q", "subvolume", "create"])
        .arg(dir.path().join("two"))
        .status();
    assert!(made.unwrap().success());
    let two = open(&dir.path().join("two/film.mkv"), OpenMode::CreateNew);
    assert_ne!(one.id.device, two.id.device);
    assert_eq!(one.device, two.device);
}

#[test]
#[ignore = "needs root: an overlay mount"]
fn overlayfs_has_direct_writes_and_tells_nothing() {
    let wanted =
        Found { dirty_is_seen: false, range_cleans: false, uncached: false, trusted: false, ..ALL };
    assert_eq!(found_on("overlay", "overlay-below"), wanted);
    assert_eq!(device_of("overlay").medium, Medium::Unknown);
}

#[test]
#[ignore = "needs root: a FUSE mount"]
fn fuse_has_nothing_but_fdatasync() {
    // Not even eviction: it drops the pages above, and those of the file below stay.
    let wanted = Found {
        dirty_is_seen: false,
        range_cleans: false,
        evicts: false,
        uncached: false,
        direct_align_bytes: None,
        by_range: false,
        trusted: false,
    };
    assert_eq!(found_on("fuse", "fuse-below"), wanted);
    let device = device_of("fuse");
    assert_eq!((device.filesystem.as_str(), device.medium), ("fuse.mergerfs", Medium::Unknown));
    assert_eq!(Path::new(&device.source), mount("fuse-below"));
}

#[test]
#[ignore = "needs root: a tmpfs of limited size"]
fn tmpfs_has_nothing_to_write_back() {
    let wanted = Found {
        dirty_is_seen: false,
        range_cleans: true,
        evicts: false,
        uncached: false,
        direct_align_bytes: None,
        by_range: false,
        trusted: false,
    };
    assert_eq!(found_on("tmpfs", "tmpfs"), wanted);
    assert_eq!(device_of("tmpfs").medium, Medium::Memory);
}

#[test]
#[ignore = "needs root: a tmpfs of limited size"]
fn what_fits_is_written_before_no_space_is_said() {
    let dir = tempfile::tempdir_in(mount("tmpfs")).unwrap();
    let mut file = open(&dir.path().join("film.mkv"), OpenMode::CreateNew).storage;
    // One call that the kernel does in part, so that the rest is a second one.
    let bytes = vec![7; usize::try_from(65 * MIB).unwrap()];
    let error = file.write_at(0, Content::Bytes(&bytes), Manner::Cached).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
    assert!(file.len_bytes().unwrap() > 50 * MIB);
}
