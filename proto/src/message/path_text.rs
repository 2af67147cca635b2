//! Elsewhere a path is text, and what is none can't be told in bytes.

use std::path::{Path, PathBuf};

pub(super) fn to_bytes(path: &Path) -> Option<Vec<u8>> {
    path.to_str().map(|text| text.as_bytes().to_vec())
}

pub(super) fn from_bytes(bytes: Vec<u8>) -> Option<PathBuf> {
    String::from_utf8(bytes).ok().map(PathBuf::from)
}
