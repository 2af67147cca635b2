//! Where two names can't change their files at once: the file that had the name is gone.

use std::fs;
use std::io;
use std::path::Path;

pub(super) fn exchange(next: &Path, current: &Path) -> io::Result<()> {
    fs::rename(next, current)
}
