//! Two names change their files at once.

use std::fs;
use std::io;
use std::path::Path;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

pub(super) fn exchange(next: &Path, current: &Path) -> io::Result<()> {
    match renameat_with(CWD, next, CWD, current, RenameFlags::EXCHANGE) {
        // There is nothing in its place yet, or the file system can't.
        Err(Errno::NOENT | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            fs::rename(next, current)
        }
        result => Ok(result?),
    }
}
