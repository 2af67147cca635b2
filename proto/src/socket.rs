//! Where the socket is, so that the daemon and its clients look in the same places. Pure: the
//! environment is an argument.

#[cfg_attr(target_os = "linux", path = "socket/linux.rs")]
#[cfg_attr(target_vendor = "apple", path = "socket/apple.rs")]
#[cfg_attr(windows, path = "socket/windows.rs")]
#[cfg_attr(
    not(any(target_os = "linux", target_vendor = "apple", windows)),
    path = "socket/unix.rs"
)]
mod platform;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

#[cfg(windows)]
pub use self::platform::PIPE_ACCESS;

/// Environment variable that names the socket for clients.
pub const SOCKET_ENV: &str = "FREEMKVD_SOCKET";

/// The system-wide daemon's socket, or pipe.
#[must_use]
pub fn system_socket() -> PathBuf {
    platform::SYSTEM_SOCKET.into()
}

/// True for the name of a pipe of Windows on this host, as in `\\\\.\\pipe\\freemkvd`.
#[must_use]
pub fn is_pipe(path: &Path) -> bool {
    const PREFIX: &str = r"\\.\pipe\";
    let text = path.to_string_lossy();
    let prefix = text.get(..PREFIX.len());
    let has_prefix = prefix.is_some_and(|prefix| prefix.eq_ignore_ascii_case(PREFIX));
    // The system knows no longer ones.
    has_prefix && text.len() > PREFIX.len() && text.len() <= 256
}

/// The socket of a daemon that a person started without a configuration.
///
/// `runtime_dir` is `XDG_RUNTIME_DIR`: a directory that only its user can enter and that is gone
/// after the last logout. Without one there is a directory of the user's own below `/tmp`, which the
/// daemon creates with mode 0700 and both sides check to be theirs. Root's is the system's.
#[must_use]
pub fn user_socket(runtime_dir: Option<&OsStr>, uid: u32) -> PathBuf {
    if cfg!(windows) || uid == 0 {
        return system_socket();
    }
    match runtime_dir {
        Some(dir) if !dir.is_empty() => PathBuf::from(dir).join("freemkvd.sock"),
        _ => PathBuf::from(format!("/tmp/freemkvd-{uid}/freemkvd.sock")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_has_a_name_below_the_systems_own_directory() {
        for path in [r"\\.\pipe\freemkvd", r"\\.\PIPE\other\freemkvd"] {
            assert!(is_pipe(Path::new(path)), "{path}");
        }
        for path in [r"\\.\pipe\", r"\\nas\pipe\freemkvd", r"C:\freemkvd.sock", "freemkvd", ""] {
            assert!(!is_pipe(Path::new(path)), "{path}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_user_has_a_socket_of_their_own_and_root_has_the_systems() {
        let path = |dir: Option<&str>, uid| user_socket(dir.map(OsStr::new), uid);
        assert_eq!(path(Some("/run/user/7"), 7), PathBuf::from("/run/user/7/freemkvd.sock"));
        assert_eq!(path(None, 7), PathBuf::from("/tmp/freemkvd-7/freemkvd.sock"));
        assert_eq!(path(Some(""), 7), PathBuf::from("/tmp/freemkvd-7/freemkvd.sock"));
        assert_eq!(path(Some("/run/user/0"), 0), system_socket());
    }
}
