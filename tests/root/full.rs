//! A file system that has become full while no daemon ran.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use freemkvd_client::Error;
use freemkvd_proto::ErrorCode;
use freemkvd_tests::daemon::Daemon;
use freemkvd_tests::pattern;

use super::MIB;
use super::support::write_pattern;

/// A small file system in memory.
struct Small(PathBuf);

impl Small {
    fn new(home: &Path, mib: u64) -> Self {
        let place = home.join("small");
        fs::create_dir(&place).unwrap();
        let options = format!("size={mib}m");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "small"]).arg(&place);
        assert!(mount.status().unwrap().success());
        Self(place)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("--lazy").arg(&self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

#[test]
#[ignore = "needs root"]
fn a_disk_that_is_full_on_return_is_an_error_with_its_number_and_place_and_keeps_what_was_written()
{
    let home = tempfile::tempdir().unwrap();
    let small = Small::new(home.path(), 64);
    let path = small.0.join("film");
    let mut daemon = Daemon::start(&small.0, "");
    let mut file = daemon.options().window_bytes(MIB).create(&path).unwrap();
    write_pattern(&mut file, 1, 0, 8 * MIB).unwrap();
    file.flush().unwrap();
    daemon.kill();
    // Whoever else writes there takes all of it.
    let mut other = fs::File::create(small.0.join("other")).unwrap();
    let taken = std::iter::repeat_with(|| other.write_all(&[7; 4096])).take_while(Result::is_ok);
    let taken = taken.count() as u64 * 4096;
    daemon.start_again();
    let _ = write_pattern(&mut file, 1, 8 * MIB, 12 * MIB);
    let error = file.finish().unwrap_err();
    let error = Error::inside(&error).unwrap();
    assert_eq!((error.code(), error.errno()), (Some(ErrorCode::NO_SPACE), Some(28)), "{error}");
    assert!(error.offset().is_some_and(|offset| offset >= 8 * MIB), "{error}");
    assert!(pattern::prefix_len(1, &path).unwrap() >= 8 * MIB, "what was written before is there");
    assert_eq!(fs::metadata(small.0.join("other")).unwrap().len() / 4096 * 4096, taken);
}
