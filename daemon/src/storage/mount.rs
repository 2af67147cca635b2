//! Which mount a file lies on. Reads only the kernel's own table: asking a mount about itself may
//! hang when its server is dead.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use procfs::process::{MountInfo, Process};
use rustix::fs::{AtFlags, StatxFlags, statx};

/// A line of the table. Everything is empty where nothing is known.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Mount {
    /// The file system's device number, `MAJOR:MINOR`. On btrfs a file's `st_dev` is its subvolume's;
    /// this one all subvolumes have in common.
    pub(super) device: String,
    /// Where it is mounted.
    pub(super) point: PathBuf,
    /// What is mounted there: a device's node, a server's export, or any word.
    pub(super) source: String,
    /// The file system's name.
    pub(super) filesystem: String,
    /// Whoever has mounted it is not root, says FUSE.
    pub(super) is_a_users: bool,
}

impl From<&MountInfo> for Mount {
    fn from(line: &MountInfo) -> Self {
        let source = line.mount_source.as_deref().unwrap_or_default();
        Self {
            device: line.majmin.clone(),
            point: unescaped(&line.mount_point),
            source: unescaped(Path::new(source)).display().to_string(),
            filesystem: line.fs_type.clone(),
            is_a_users: line.fs_type.starts_with("fuse") && !is_roots(line),
        }
    }
}

/// Also where the option is missing.
fn is_roots(line: &MountInfo) -> bool {
    match line.super_options.get("user_id") {
        Some(Some(user)) => user == "0",
        _ => true,
    }
}

/// The mount of an open file.
///
/// By the mount's id rather than by `st_dev`: btrfs gives each subvolume a device number that the
/// table does not list. Linux before 5.8 does not tell the id; there the longest mount point in
/// `path` has to do, which a link on the way can mislead.
pub(super) fn of(file: &OwnedFd, path: &Path) -> Mount {
    let Ok(mounts) = Process::myself().and_then(|process| process.mountinfo()) else {
        return Mount::default();
    };
    let id = id_of(file);
    match mounts.iter().find(|mount| Some(mount.mnt_id) == id) {
        Some(mount) => mount.into(),
        None => longest(mounts.iter().map(Mount::from), path),
    }
}

/// The mount of a file that somebody else has opened: the one by which it was opened, or, if that is one that
/// only others see, another one of the same device. `None` if there is none here.
pub(super) fn of_number(file: &OwnedFd, device: &str) -> Option<Mount> {
    let mounts = Process::myself().and_then(|process| process.mountinfo()).ok()?;
    let id = id_of(file);
    let by_id = mounts.iter().find(|mount| Some(mount.mnt_id) == id);
    by_id.or_else(|| mounts.iter().find(|mount| mount.majmin == device)).map(Mount::from)
}

/// The number of its mount, where the kernel tells.
fn id_of(file: &OwnedFd) -> Option<i32> {
    let stat = statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).ok()?;
    let is_told = stat.stx_mask & StatxFlags::MNT_ID.bits() != 0;
    i32::try_from(stat.stx_mnt_id).ok().filter(|_| is_told)
}

/// The mount that a path leads to, by its words alone: nothing is asked but the table.
pub(super) fn at(path: &Path) -> Mount {
    match Process::myself().and_then(|process| process.mountinfo()) {
        Ok(mounts) => longest(mounts.iter().map(Mount::from), path),
        Err(_) => Mount::default(),
    }
}

fn longest(mounts: impl Iterator<Item = Mount>, path: &Path) -> Mount {
    mounts
        .filter(|mount| path.starts_with(&mount.point))
        // Of two mounts on one place the later one is on top; max_by_key keeps the last.
        .max_by_key(|mount| mount.point.components().count())
        .unwrap_or_default()
}

/// The table writes space, tab, newline and backslash as three octal digits.
fn unescaped(path: &Path) -> PathBuf {
    let mut bytes = path.as_os_str().as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    while let Some((&byte, rest)) = bytes.split_first() {
        let code = rest.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(escaped) if byte == b'\\' => {
                plain.push(escaped);
                bytes = &rest[3..];
            }
            _ => {
                plain.push(byte);
                bytes = rest;
            }
        }
    }
    OsString::from_vec(plain).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fuse_mount_says_whose_it_is() {
        let is_a_users = |filesystem: &str, options: &str| {
            let line = format!("20 1 0:50 / /mnt rw - {filesystem} source {options}");
            Mount::from(&MountInfo::from_line(&line).unwrap()).is_a_users
        };
        assert!(is_a_users("fuse.sshfs", "rw,user_id=1000,group_id=0"));
        assert!(!is_a_users("fuse.mergerfs", "rw,user_id=0,group_id=0"));
        assert!(!is_a_users("fuse", "rw") && !is_a_users("ext4", "rw,user_id=1000"));
    }

    #[test]
    fn the_innermost_and_topmost_mount_counts() {
        let table = "\
            20 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
            21 20 0:30 / /rips rw - xfs /dev/sdb1 rw\n\
            22 20 0:31 / /rips\\040two rw - btrfs /dev/mapper/disk\\040two rw\n\
            23 20 0:32 / /rips rw - nfs4 nas:/rips rw\n";
        let of = |path: &str| {
            let lines = table.lines().map(|line| MountInfo::from_line(line).unwrap());
            longest(lines.map(|line| Mount::from(&line)), Path::new(path))
        };
        let found = |device: &str, point: &str, source: &str, filesystem: &str| Mount {
            device: device.to_owned(),
            point: point.into(),
            source: source.to_owned(),
            filesystem: filesystem.to_owned(),
            is_a_users: false,
        };
        assert_eq!(of("/rips/a.mkv"), found("0:32", "/rips", "nas:/rips", "nfs4"));
        let two = found("0:31", "/rips two", "/dev/mapper/disk two", "btrfs");
        assert_eq!(of("/rips two/a.mkv"), two);
        assert_eq!(of("/ripsody/a.mkv"), found("8:1", "/", "/dev/sda1", "ext4"));
    }
}
