//! Where a path leads on Unix: below which root, and to what.

use std::path::{Path, PathBuf};

use rustix::fs::FileType;

/// Says what it is, with its article; `None` for a file.
pub(super) fn not_a_file(kind: FileType) -> Option<&'static str> {
    match kind {
        FileType::RegularFile => None,
        FileType::Directory => Some("a directory"),
        FileType::Fifo => Some("a FIFO"),
        FileType::Socket => Some("a socket"),
        FileType::Symlink => Some("a link"),
        _ => Some("a device"),
    }
}

/// The root that `path` names a file below, and the rest of the path.
pub(super) fn below<'a>(roots: &'a [PathBuf], path: &'a Path) -> Option<(&'a Path, &'a Path)> {
    roots.iter().find_map(|root| {
        let rest = path.strip_prefix(root).ok()?;
        (!rest.as_os_str().is_empty()).then_some((root.as_path(), rest))
    })
}
