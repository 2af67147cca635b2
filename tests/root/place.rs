//! File systems of a test's own: small ones that become full, ones that are to be broken, ones that are looked
//! at after their power was cut. They lie below the directory of `tests/root/loops.sh`, which unmounts what a
//! test that was killed has left; otherwise a value that is dropped leaves nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use freemkvd_tests::daemon::wait_until;

use super::disk::Disk;
use super::{MIB, mount};

/// The smallest image of each, in MiB: `mkfs.xfs` makes nothing smaller.
const XFS_MIB_MIN: u64 = 300;
const BTRFS_MIB_MIN: u64 = 128;

/// A mounted file system.
#[derive(Debug)]
pub(crate) struct Place {
    filesystem: &'static str,
    dir: PathBuf,
    /// Below it are the mount and, unless that lies elsewhere, the image.
    home: Option<tempfile::TempDir>,
}

/// Where `tests/root/loops.sh` has everything.
pub(crate) fn work() -> PathBuf {
    mount("ext4").parent().unwrap().to_owned()
}

pub(crate) fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}

/// An image of `mib` MiB, or as many as there must be, that takes no space yet.
pub(crate) fn image(filesystem: &str, mib: u64, path: &Path) {
    let mib = match filesystem {
        "xfs" => mib.max(XFS_MIB_MIN),
        "btrfs" => mib.max(BTRFS_MIB_MIN),
        _ => mib,
    };
    fs::File::create(path).unwrap().set_len(mib * MIB).unwrap();
    let mut mkfs = Command::new(format!("mkfs.{filesystem}"));
    mkfs.arg("-q");
    if filesystem.starts_with("ext") {
        mkfs.args(["-e", "remount-ro"]);
        // Its reserve for root would be the daemon's, and a background thread would write the rest of it.
        mkfs.args(["-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0"]);
    }
    run(mkfs.arg(path));
}

impl Place {
    /// A new file system of this kind, of at least `mib` MiB: ext3, ext4, xfs, btrfs (on a loop device of its own)
    /// or tmpfs.
    pub(crate) fn new(filesystem: &'static str, mib: u64) -> Self {
        if filesystem != "tmpfs" {
            return Self::with_image(filesystem, mib, None);
        }
        let place = Self::unmounted(filesystem);
        let options = format!("size={mib}m");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&place.dir));
        place
    }

    /// The same, whose device is a file in `below`.
    pub(crate) fn on(below: &Path, filesystem: &'static str, mib: u64) -> Self {
        Self::with_image(filesystem, mib, Some(below))
    }

    fn with_image(filesystem: &'static str, mib: u64, below: Option<&Path>) -> Self {
        let place = Self::unmounted(filesystem);
        let home = place.home.as_ref().map(tempfile::TempDir::path);
        let file = below.or(home).unwrap().join(format!("{filesystem}.img"));
        image(filesystem, mib, &file);
        place.mount(&file, &[]);
        place
    }

    fn unmounted(filesystem: &'static str) -> Self {
        let home = tempfile::tempdir_in(work()).unwrap();
        let dir = home.path().join(filesystem);
        fs::create_dir(&dir).unwrap();
        Self { filesystem, dir, home: Some(home) }
    }

    /// What an image holds. Fails as `mount` does.
    pub(crate) fn of_image(filesystem: &'static str, file: &Path) -> Self {
        if filesystem == "btrfs" {
            // It knows the volume of this name, and would take an older state of it for another disk's.
            run(Command::new("btrfs").args(["device", "scan", "--forget"]));
        }
        let place = Self::unmounted(filesystem);
        place.mount(file, if filesystem == "xfs" { &["-o", "nouuid"] } else { &[] });
        place
    }

    fn mount(&self, image: &Path, options: &[&str]) {
        let mut mount = Command::new("mount");
        mount.args(["-t", self.filesystem, "-o", "loop"]).args(options);
        run(mount.arg(image).arg(&self.dir));
    }

    pub(crate) fn filesystem(&self) -> &'static str {
        self.filesystem
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn disk(&self) -> Disk {
        Disk::at(&self.dir)
    }

    /// What root may still write, in bytes.
    pub(crate) fn free_bytes(&self) -> u64 {
        let stat = rustix::fs::statvfs(&self.dir).unwrap();
        stat.f_bfree * stat.f_frsize
    }

    /// Takes all of it but `mib` MiB. Dropping what it returns gives it back.
    pub(crate) fn fill_up_to(&self, mib: u64) -> Filler {
        use rustix::fs::{FallocateFlags, fallocate};
        let path = self.dir.join("filler");
        let file = fs::File::create(&path).unwrap();
        let mut taken = 0;
        while let Some(more) = self.free_bytes().checked_sub(mib * MIB).filter(|more| *more > 0) {
            if fallocate(&file, FallocateFlags::empty(), taken, more.min(64 * MIB)).is_err() {
                break;
            }
            taken += more.min(64 * MIB);
            super::support::sync_file_system(&self.dir);
        }
        Filler(path)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        unmount(&self.dir);
        drop(self.home.take());
    }
}

fn is_mounted(dir: &Path) -> bool {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    table.lines().any(|line| line.split(' ').nth(4) == dir.to_str())
}

/// Whoever had it open may be ending just now.
fn unmount(dir: &Path) {
    let once = |option: &[&str]| {
        let mut umount = Command::new("umount");
        let status = umount.args(option).arg(dir).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    let done = wait_until(|| once(&[]));
    assert!(done || once(&["--lazy"]) && std::thread::panicking(), "{dir:?} is in use");
}

/// A file that takes space.
#[derive(Debug)]
pub(crate) struct Filler(PathBuf);

impl Drop for Filler {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// A mergerfs over a directory: a server that can be stopped, so that every call into it hangs, or killed.
#[derive(Debug)]
pub(crate) struct Pool {
    dir: PathBuf,
    server: Child,
    _home: tempfile::TempDir,
}

impl Pool {
    pub(crate) fn over(below: &Path) -> Self {
        let home = tempfile::tempdir_in(work()).unwrap();
        let dir = home.path().join("fuse");
        fs::create_dir(&dir).unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "mergerfs", "-f", "-o", "minfreespace=0"]);
        let server = command.arg(below).arg(&dir).stdin(Stdio::null()).spawn().unwrap();
        assert!(wait_until(|| is_mounted(&dir)), "mergerfs did not mount");
        Self { dir, server, _home: home }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.server);
        let _ = rustix::process::kill_process(pid, signal);
    }

    /// The server's process.
    pub(crate) fn pid(&self) -> u32 {
        self.server.id()
    }

    /// It answers nothing, as long as what this returns lives.
    pub(crate) fn stop(&self) -> Stopped<'_> {
        self.signal(rustix::process::Signal::STOP);
        Stopped(self)
    }

    /// It is gone.
    pub(crate) fn kill(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.signal(rustix::process::Signal::CONT);
        // A test may have taken it out of the table.
        if is_mounted(&self.dir) {
            unmount(&self.dir);
        }
        self.kill();
    }
}

/// See [`Pool::stop`].
#[derive(Debug)]
pub(crate) struct Stopped<'a>(&'a Pool);

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        self.0.signal(rustix::process::Signal::CONT);
    }
}
