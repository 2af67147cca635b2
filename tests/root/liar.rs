//! A disk that takes every write and loses it at writeback: an ext4 larger than the tmpfs on which its
//! image lies. Each result that could tell must tell.

use std::io;

use freemkvd::storage::{Content, Creation, Disk, Manner, Open, Storage};
use freemkvd_proto::OpenMode;

use super::{MIB, mount};

/// More than its tmpfs has.
const LEN: u64 = 64 * MIB;

fn new_file(dir: &tempfile::TempDir) -> Box<dyn Storage> {
    let path = dir.path().join("film.mkv");
    Disk.open(&[dir.path().to_owned()], &path, OpenMode::CreateNew, Creation::default())
        .unwrap()
        .storage
}

/// Writes it all, a MiB at a time, up to the first error.
fn write(file: &mut dyn Storage, manner: Manner) -> io::Result<()> {
    let memory = vec![7; (1 << 20) + 4096];
    let start = memory.as_ptr().align_offset(4096);
    let bytes = &memory[start..start + (1 << 20)];
    (0..LEN / MIB).try_for_each(|at| file.write_at(at * MIB, Content::Bytes(bytes), manner))
}

fn assert_lost(result: io::Result<()>, what: &str) {
    let error = result.expect_err(what);
    // EIO, or what the disk said.
    let (eio, enospc) = (Some(5), Some(28));
    assert!([eio, enospc].contains(&error.raw_os_error()), "{what}: {error}");
}

/// After a wait has told of the loss, its descriptor knows of nothing any more; a sync still has to say
/// so, whatever was asked meanwhile.
fn the_wait_tells_and_the_sentinel_too(manner: Manner) {
    let dir = tempfile::tempdir_in(mount("liar")).unwrap();
    let mut file = new_file(&dir);
    write(file.as_mut(), manner).unwrap();
    assert_lost(file.wait_writeback(0..LEN), "a wait");
    // What these say depends on the file system; it does not matter.
    for _ in 0..2 {
        let _ = file.sync_data();
        let _ = file.wait_writeback(0..LEN);
    }
    assert_lost(file.sync(), "the sentinel");
}

#[test]
#[ignore = "needs root: a disk that lies"]
fn a_loss_of_cached_pages_is_told_by_the_wait_and_by_the_sentinel() {
    the_wait_tells_and_the_sentinel_too(Manner::Cached);
}

#[test]
#[ignore = "needs root: a disk that lies"]
fn a_loss_of_uncached_pages_is_told_by_the_wait_and_by_the_sentinel() {
    the_wait_tells_and_the_sentinel_too(Manner::Uncached);
}

#[test]
#[ignore = "needs root: a disk that lies"]
fn a_loss_is_told_by_fdatasync_and_by_the_sentinel() {
    let dir = tempfile::tempdir_in(mount("liar")).unwrap();
    let mut file = new_file(&dir);
    write(file.as_mut(), Manner::Cached).unwrap();
    assert_lost(file.sync_data(), "fdatasync");
    let _ = file.sync_data();
    assert_lost(file.sync(), "the sentinel");
}

#[test]
#[ignore = "needs root: a disk that lies"]
fn a_direct_write_tells_by_itself() {
    let dir = tempfile::tempdir_in(mount("liar")).unwrap();
    let mut file = new_file(&dir);
    assert!(file.abilities().direct_align_bytes.is_some());
    assert_lost(write(file.as_mut(), Manner::Direct), "a direct write");
}
