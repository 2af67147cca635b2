//! A client that makes its own file immutable while the daemon writes it has a failed stream, and nobody else.
//!
//! Injected: `FS_IMMUTABLE_FL` on a file that is open, by its inode's flags, as `chattr +i` sets it.

use std::fs::File;
use std::io::Write;

use freemkvd_client::Error;
use freemkvd_tests::daemon::Daemon;
use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
use rustix::io::Errno;

use super::support::write_pattern;
use super::{MIB, mount};

/// Takes the flag away again: nobody could remove the file.
struct Immutable(File);

impl Immutable {
    fn set(file: File) -> Self {
        let flags = ioctl_getflags(&file).unwrap();
        ioctl_setflags(&file, flags | IFlags::IMMUTABLE).unwrap();
        Self(file)
    }
}

impl Drop for Immutable {
    fn drop(&mut self) {
        let flags = ioctl_getflags(&self.0).unwrap();
        ioctl_setflags(&self.0, flags - IFlags::IMMUTABLE).unwrap();
    }
}

#[test]
#[ignore = "needs root: immutable files"]
fn a_file_that_becomes_immutable_under_the_daemon_fails_alone() {
    let root = tempfile::tempdir_in(mount("ext4")).unwrap();
    let daemon = Daemon::start(root.path(), "");
    let options = daemon.options().window_bytes(MIB);
    let (path, other) = (root.path().join("film.mkv"), root.path().join("other.mkv"));
    let mut file = options.create(&path).unwrap();
    let mut neighbour = options.create(other).unwrap();
    write_pattern(&mut file, 1, 0, 4 * MIB).unwrap();
    file.sync_all().unwrap();
    let immutable = Immutable::set(File::open(&path).unwrap());
    let written = write_pattern(&mut file, 1, 4 * MIB, 8 * MIB).and_then(|()| file.flush());
    let error = written.unwrap_err();
    let told = Error::inside(&error).unwrap();
    assert_eq!(told.errno(), Some(Errno::PERM.raw_os_error()), "{told}");
    assert_eq!(told.offset(), Some(4 * MIB), "{told}");
    drop((file, immutable));
    write_pattern(&mut neighbour, 2, 0, 4 * MIB).unwrap();
    assert_eq!(neighbour.finish().unwrap().len_bytes, 4 * MIB);
    let end = daemon.wait_for("nothing open", |status| status.devices.is_empty());
    assert_eq!(end.budget.charged_bytes, 0);
}
