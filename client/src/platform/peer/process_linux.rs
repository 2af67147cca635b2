//! What `/proc` tells of another process: whether it is there, and where it has which file system mounted.

use std::fs;
use std::path::Path;

use crate::mounts;

pub(super) fn is_of_before(process: i32) -> bool {
    process == 1 || !Path::new("/proc").join(process.to_string()).exists()
}

pub(super) fn has_our_mounts(process: Option<i32>) -> bool {
    let of = |process: &str| fs::read_link(format!("/proc/{process}/ns/mnt")).ok();
    let theirs = process.and_then(|process| of(&process.to_string()));
    theirs.is_some() && theirs == of("self")
}

pub(super) fn finds_the_same(process: Option<i32>, path: &Path) -> bool {
    let of = |process: &str| fs::read_to_string(format!("/proc/{process}/mountinfo")).ok();
    let theirs = process.and_then(|process| of(&process.to_string()));
    match (of("self"), theirs, mounts::stations(path)) {
        (Some(ours), Some(theirs), Some(stations)) => {
            stations.iter().all(|path| mounts::same(&ours, &theirs, path))
        }
        _ => false,
    }
}
