//! The mount that a file lies in, from `fstatfs`, which has its names.

use std::ffi::c_char;
use std::fs::File;

/// Where it is mounted, what is mounted there, and the file system's name; empty where nobody says.
pub(in super::super) fn of(file: &File) -> (String, String, String) {
    let Ok(found) = rustix::fs::fstatfs(file) else { return Default::default() };
    (text(&found.f_mntonname), text(&found.f_mntfromname), text(&found.f_fstypename))
}

fn text(characters: &[c_char]) -> String {
    let bytes: Vec<u8> = characters
        .iter()
        .map(|character| character.to_ne_bytes()[0])
        .take_while(|byte| *byte != 0)
        .collect();
    String::from_utf8_lossy(&bytes).into_owned()
}
