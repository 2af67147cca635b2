//! The volume that a file lies on.

use std::fs::{File, OpenOptions};
use std::os::windows::fs::OpenOptionsExt;
use std::path::Path;

use windows_sys::Win32::Storage::FileSystem::{
    FILE_SHARE_DELETE, FILE_SHARE_READ, FILE_SHARE_WRITE,
};

use super::call;
use crate::storage::{Device, Medium};

/// The volume with this serial number, on which `directory` lies. What it does not tell is left empty: nothing
/// depends on it but words.
pub(super) fn of(directory: &Path, serial: u64) -> Device {
    let root = call::volume_of(directory).unwrap_or_default();
    Device {
        id: format!("{:04X}-{:04X}", serial >> 16 & 0xffff, serial & 0xffff),
        mount: plain(&root),
        source: String::new(),
        filesystem: call::filesystem(&root).unwrap_or_default(),
        medium: medium(&root).unwrap_or(Medium::Unknown),
        is_a_users: false,
    }
}

/// Without the prefix that only the system wants to see.
pub(super) fn plain(path: &Path) -> String {
    let text = path.to_string_lossy();
    match (text.strip_prefix(r"\\?\UNC\"), text.strip_prefix(r"\\?\")) {
        (Some(share), _) => format!(r"\\{share}"),
        (None, Some(rest)) => rest.to_owned(),
        (None, None) => text.into_owned(),
    }
}

/// Asked of the volume, which passes it on to its disk. A share or a pool may not answer.
fn medium(root: &Path) -> Option<Medium> {
    let name = plain(root);
    let volume = open_volume(&format!(r"\\.\{}", name.trim_end_matches('\\')))?;
    match call::has_seek_penalty(&volume).ok()? {
        true => Some(Medium::Rotational),
        false => Some(Medium::Flash),
    }
}

/// Without any access, for which nobody needs a right.
fn open_volume(path: &str) -> Option<File> {
    let share = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE;
    OpenOptions::new().access_mode(0).share_mode(share).open(path).ok()
}
