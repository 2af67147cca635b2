//! What only root can put below a root: other mounts, views into the kernel, and devices. All of it is mounted
//! in a namespace of the daemon's own, which ends with it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use freemkvd_client::{OpenBy, Options};
use freemkvd_proto::ErrorCode;
use freemkvd_tests::daemon::{self, Daemon};
use freemkvd_tests::programs;
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

use super::mount;

/// A daemon after `mounts` were made, by a shell to which `$1` is `base`, and `root` below that is the root.
fn start(base: &Path, mounts: &str) -> Daemon {
    let home = daemon::home();
    let socket = home.path().join("s");
    let script = format!("{mounts}\nexec \"$2\" --root \"$1/root\" --socket \"$3\"");
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--propagation", "private", "sh", "-ec", &script, "sh"])
        .arg(base)
        .arg(programs::freemkvd())
        .arg(&socket);
    Daemon::start_as(home, socket, command)
}

const MOUNTS: &str = "mount -t tmpfs tmpfs \"$1/root/disk\"
    mount --bind /proc \"$1/root/proc\"
    mount --bind /sys \"$1/root/sys\"
    mount --bind \"$1/outside\" \"$1/root/bound\"
    mount --bind \"$1/outside/file\" \"$1/root/file\"";

/// A daemon below whose root all of this is mounted, and what the root is called.
fn start_over_mounts(base: &Path) -> (Daemon, PathBuf) {
    for name in ["outside", "root/disk", "root/proc", "root/sys", "root/bound"] {
        std::fs::create_dir_all(base.join(name)).unwrap();
    }
    std::fs::write(base.join("outside/file"), b"").unwrap();
    std::fs::write(base.join("root/file"), b"").unwrap();
    (start(base, MOUNTS), base.join("root"))
}

/// The daemon has other mounts than we have, so the library would open the files itself.
fn by_path(daemon: &Daemon) -> Options {
    daemon.options().open_by(OpenBy::Path)
}

fn write(daemon: &Daemon, path: &Path) {
    let mut file = by_path(daemon).create(path).unwrap();
    file.write_all(b"film").unwrap();
    file.finish().unwrap();
}

#[test]
#[ignore = "needs root: mounts in a namespace of the daemon's"]
fn what_is_mounted_below_a_root_is_below_it() {
    let dir = tempfile::tempdir_in(mount("ext4")).unwrap();
    let (daemon, root) = start_over_mounts(dir.path());
    for name in ["disk/film.mkv", "bound/film.mkv", "file"] {
        write(&daemon, &root.join(name));
    }
    let seen = |name: &str| {
        let there = PathBuf::from(format!("/proc/{}/root", daemon.pid()));
        std::fs::read(there.join(root.join(name).strip_prefix("/").unwrap())).unwrap()
    };
    assert_eq!((seen("disk/film.mkv"), seen("bound/film.mkv")), (b"film".into(), b"film".into()));
    assert_eq!(std::fs::read(dir.path().join("outside/film.mkv")).unwrap(), b"film");
    assert_eq!(std::fs::read(dir.path().join("outside/file")).unwrap(), b"film");
    // Here nothing is mounted, and nothing was written to what lies under the mounts.
    assert_eq!(std::fs::read_dir(root.join("disk")).unwrap().count(), 0);
    let out = by_path(&daemon).create(root.join("bound/../../outside/x")).unwrap_err();
    assert_eq!(out.code(), Some(ErrorCode::OUTSIDE_ROOTS), "{out}");
}

#[test]
#[ignore = "needs root: mounts /proc and /sys below a root, and makes devices"]
fn no_device_and_no_view_into_the_kernel_is_a_file() {
    let dir = tempfile::tempdir_in(mount("ext4")).unwrap();
    let (daemon, root) = start_over_mounts(dir.path());
    let device = |name: &str, kind, number| {
        mknodat(CWD, root.join(name), kind, Mode::RWXU, number).unwrap();
    };
    device("null", FileType::CharacterDevice, makedev(1, 3));
    device("disk.img", FileType::BlockDevice, makedev(7, 0));
    let daemons = format!("proc/{}", daemon.pid());
    let cases = [
        ("null".to_owned(), ErrorCode::NOT_A_FILE),
        ("disk.img".to_owned(), ErrorCode::NOT_A_FILE),
        (format!("{daemons}/mem"), ErrorCode::NOT_A_FILE),
        ("proc/self/oom_score_adj".to_owned(), ErrorCode::NOT_A_FILE),
        ("proc/sys/kernel/core_pattern".to_owned(), ErrorCode::NOT_A_FILE),
        ("sys/kernel/profiling".to_owned(), ErrorCode::NOT_A_FILE),
        (format!("{daemons}/root{}/outside/file", dir.path().display()), ErrorCode::OUTSIDE_ROOTS),
        (format!("{daemons}/cwd/x"), ErrorCode::OUTSIDE_ROOTS),
        (format!("{daemons}/exe"), ErrorCode::OUTSIDE_ROOTS),
        (format!("{daemons}/fd/2"), ErrorCode::OUTSIDE_ROOTS),
    ];
    for (name, code) in cases {
        let refused = by_path(&daemon).create(root.join(&name)).unwrap_err();
        assert_eq!(refused.code(), Some(code), "{name}: {refused}");
    }
    write(&daemon, &root.join("film.mkv"));
}

#[test]
#[ignore = "needs root: mounts its root read-only"]
fn a_read_only_file_system_is_named() {
    let dir = tempfile::tempdir_in(mount("ext4")).unwrap();
    let root = dir.path().join("root");
    std::fs::create_dir(&root).unwrap();
    std::fs::write(root.join("film.mkv"), b"precious").unwrap();
    let mounts = "mount --bind \"$1/root\" \"$1/root\"; mount -o remount,ro,bind \"$1/root\"";
    let daemon = start(dir.path(), mounts);
    for name in ["film.mkv", "new.mkv"] {
        let refused = by_path(&daemon).create(root.join(name)).unwrap_err();
        assert_eq!(refused.code(), Some(ErrorCode::READ_ONLY), "{refused}");
        assert!(refused.to_string().contains("ReadWritePaths= of freemkvd's unit"), "{refused}");
    }
}
