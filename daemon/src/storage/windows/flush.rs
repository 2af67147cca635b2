//! Writing back what a file has dirty, and waiting for it.

use std::fs::File;
use std::io;

use windows_sys::Win32::Foundation::{
    ERROR_CALL_NOT_IMPLEMENTED, ERROR_INVALID_FUNCTION, ERROR_INVALID_PARAMETER,
    ERROR_NOT_SUPPORTED, ERROR_PROC_NOT_FOUND,
};

use super::call;

/// How the data of one file is written back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Flush {
    /// `NtFlushBuffersFileEx`: the data, and neither metadata nor the device's cache.
    #[default]
    Data,
    /// `FlushFileBuffers`, where the file system or the system does not know the other.
    All,
}

impl Flush {
    /// Writes back the file's data and waits for it.
    ///
    /// # Errors
    /// The device lost data of this file.
    pub(super) fn data(&mut self, file: &File) -> io::Result<()> {
        self.by(file, call::flush_data)
    }

    fn by(&mut self, file: &File, flush_data: impl Fn(&File) -> io::Result<()>) -> io::Result<()> {
        if *self == Self::Data {
            match flush_data(file) {
                // It has flushed nothing then, so the other does all of it.
                Err(error) if is_unknown(&error) => *self = Self::All,
                result => return result,
            }
        }
        file.sync_data()
    }
}

/// True for what a system, or a file system, says of a call that it does not know.
pub(super) fn is_unknown(error: &io::Error) -> bool {
    let unknown = [
        ERROR_PROC_NOT_FOUND,
        ERROR_INVALID_FUNCTION,
        ERROR_INVALID_PARAMETER,
        ERROR_NOT_SUPPORTED,
        ERROR_CALL_NOT_IMPLEMENTED,
    ];
    error
        .raw_os_error()
        .and_then(|code| u32::try_from(code).ok())
        .is_some_and(|code| unknown.contains(&code))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use windows_sys::Win32::Foundation::ERROR_DISK_FULL;

    use super::*;

    fn answering(code: u32) -> impl Fn(&File) -> io::Result<()> {
        move |_| Err(io::Error::from_raw_os_error(code as i32))
    }

    #[test]
    fn a_call_that_is_not_known_is_made_once_and_the_other_flushes() {
        let file = tempfile::tempfile().unwrap();
        let mut flush = Flush::default();
        assert!(flush.by(&file, answering(ERROR_NOT_SUPPORTED)).is_ok());
        assert_eq!(flush, Flush::All);
        let calls = Cell::new(0);
        let counted = |_: &File| {
            calls.set(calls.get() + 1);
            Ok(())
        };
        assert!(flush.by(&file, counted).is_ok());
        assert_eq!(calls.get(), 0);
    }

    #[test]
    fn what_was_lost_is_said_and_not_flushed_away() {
        let file = tempfile::tempfile().unwrap();
        let mut flush = Flush::default();
        let error = flush.by(&file, answering(ERROR_DISK_FULL)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(flush, Flush::Data);
    }
}
