//! Where nobody tells of threads of other processes.

pub(super) fn current() -> Option<(i32, i32, u64)> {
    None
}

pub(super) fn exists(_process: i32, _thread: i32, _began: u64) -> bool {
    false
}
