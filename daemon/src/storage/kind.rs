//! What has a name, if it is no file that can be written at an offset.

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
