//! Pipes and directories of Windows.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

/// The pipe of a daemon that a person has started: there is one directory of pipes.
#[must_use]
pub fn user_socket() -> PathBuf {
    freemkvd_proto::socket::system_socket()
}

/// Where a daemon that listens on the pipe `socket` keeps what the next one has to know: below the directory for
/// local data of its own account, which nobody else can write, in one of the pipe's own name. `None` when the system
/// does not say where that is.
#[must_use]
pub fn ledger_directory(socket: &Path) -> Option<PathBuf> {
    let local = std::env::var_os("LOCALAPPDATA").filter(|local| !local.is_empty())?;
    // A pipe may have any character in its name, and another case of it is the same pipe.
    let name: String = socket
        .to_string_lossy()
        .to_lowercase()
        .trim_start_matches(r"\\.\pipe\")
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => char::from(byte).to_string(),
            byte => format!("%{byte:02x}"),
        })
        .collect();
    Some(Path::new(&local).join("freemkvd").join("streams").join(name))
}

/// There is no such limit.
#[must_use]
pub fn raise_descriptor_limit() -> Option<u64> {
    None
}

/// True when the system has no memory for what was to be sent: nothing was, and later it may be.
#[must_use]
pub fn is_short_of_buffers(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::OutOfMemory
}

/// Makes a directory, with the access list of the one that it is in: the account's own.
///
/// # Errors
/// It can't be made, or is something else.
pub fn make_private_directory(path: &Path) -> io::Result<()> {
    std::fs::create_dir_all(path)
}

/// True when there is no memory; of files there can be any number.
#[must_use]
pub fn is_short_of_files(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::OutOfMemory
}

/// True when another process has the file open, and shares it less than was asked for.
#[must_use]
pub fn is_sharing_violation(error: &io::Error) -> bool {
    const ERROR_SHARING_VIOLATION: i32 = 32;
    error.raw_os_error() == Some(ERROR_SHARING_VIOLATION)
}

/// The first `len` bytes of a name, which is text: the wire has no other paths here.
#[must_use]
pub fn name_prefix(name: &OsStr, len: usize) -> Option<&OsStr> {
    name.to_str()?.get(..len).map(OsStr::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_pipes_never_share_a_ledger_and_one_pipe_has_one() {
        let of = |pipe: &str| ledger_directory(Path::new(pipe));
        assert_eq!(of(r"\\.\pipe\Freemkvd"), of(r"\\.\PIPE\freemkvd"));
        assert_ne!(of(r"\\.\pipe\a\b"), of(r"\\.\pipe\a-b"));
        assert!(of(r"\\.\pipe\..\x").is_none_or(|directory| directory.ends_with(r"%2e%2e%5cx")));
    }
}
