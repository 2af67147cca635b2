//! How the command ends: the exit codes that scripts rely on, and what is printed on failure.

use std::io::{self, Write};
use std::process::ExitCode;

use freemkvd_client::{Error, ErrorCode};

use crate::group;
use crate::table::plain;

/// The exit codes. Their numbers are fixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Fine = 0,
    Failed = 1,
    Usage = 2,
    NoDaemon = 3,
    Degraded = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a subcommand did not do what it should.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failed {
    #[error("{}", in_words(.0))]
    Client(#[from] Error),
    #[error("{}{}", in_words(.0), instead(.0))]
    Open(Error),
    #[error("{0}")]
    Stream(io::Error),
    #[error("{cause}; {left}")]
    Incomplete { cause: String, left: String },
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
    #[error("cannot catch signals: {0}")]
    Signals(io::Error),
    #[error(
        "this draws on a terminal, and standard output is none; use `freemkvctl status` or `watch` there"
    )]
    NoTerminal,
    #[error("cannot draw on the terminal: {0}")]
    Terminal(io::Error),
    #[error("{0}")]
    Doctor(String),
    #[error("cannot put the status into JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl Failed {
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Client(Error::NoDaemon { .. }) | Self::Open(Error::NoDaemon { .. }) => {
                Exit::NoDaemon
            }
            // `status` and the like are answered from memory: who does not answer is not there.
            Self::Client(Error::TimedOut { .. }) => Exit::NoDaemon,
            Self::NoTerminal => Exit::Usage,
            _ => Exit::Failed,
        }
    }

    /// Tells the person, with what they can do about it.
    pub(crate) fn print(&self) {
        // What the daemon says quotes paths, which others may have chosen.
        let mut text = format!("freemkvctl: {}\n", plain(&self.to_string()));
        match self {
            Self::Client(Error::NoDaemon { source, .. })
            | Self::Open(Error::NoDaemon { source, .. })
                if !is_denied(source) =>
            {
                text.push_str(HINT);
            }
            _ => {}
        }
        // There is nobody left to tell that standard error is closed.
        let _ = io::stderr().write_all(text.as_bytes());
    }
}

const HINT: &str = "\
\x20 to start it:           systemctl start freemkvd, or `freemkvd --root DIR` for yourself alone
  if it runs elsewhere:  freemkvctl --socket PATH, or set FREEMKVD_SOCKET to PATH
";

fn is_denied(source: &io::Error) -> bool {
    source.kind() == io::ErrorKind::PermissionDenied
}

/// The library's advice is for muxers, which can do without a daemon; here it is replaced by
/// [`HINT`], and by what the system said.
pub(crate) fn in_words(error: &Error) -> String {
    match error {
        Error::NoDaemon { socket, source } if is_denied(source) => {
            let join = match group::of_socket(socket) {
                Some(group) => format!("join the group of its socket, {group} (usermod -aG)"),
                None => "join the group of its socket".to_owned(),
            };
            format!(
                "you may not use the freemkvd at {}: {source}; {join}, and log in again, as it counts from then on; or \
                 run this as the user that runs freemkvd",
                socket.display()
            )
        }
        Error::NoDaemon { socket, source } => {
            format!("no freemkvd at {}: {source}", socket.display())
        }
        error => error.to_string(),
    }
}

/// What else there is to do about a file that could not be opened.
fn instead(error: &Error) -> &'static str {
    if error.code() == Some(ErrorCode::BAD_FILE) {
        return "; write it to another file system, or have freemkvd open it: --open-by path";
    }
    match error.kind() {
        io::ErrorKind::AlreadyExists => "; --overwrite empties and writes it",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use freemkvd_proto::Failure;

    use super::*;

    #[test]
    fn who_may_not_use_a_socket_is_told_to_log_in_again() {
        let source = Arc::new(io::ErrorKind::PermissionDenied.into());
        let error = Error::NoDaemon { socket: "/nowhere/s".into(), source };
        let said = Failed::Client(error).to_string();
        assert!(said.contains("join the group of its socket, and log in again"), "{said}");
    }

    #[test]
    fn a_file_that_can_not_be_opened_has_an_option() {
        let cause = Arc::new(io::ErrorKind::AlreadyExists.into());
        let (path, operation) = ("/rips/a".into(), "open, in this process,");
        let exists = Error::Io { path, operation, offset: None, cause };
        let said = Failed::Open(exists).to_string();
        assert!(said.ends_with("; --overwrite empties and writes it"), "{said}");
        let failure = Failure::new(ErrorCode::BAD_FILE, "no".to_owned());
        let refused = Error::Failed { path: "/rips/a".into(), operation: "open", failure };
        let said = Failed::Open(refused).to_string();
        assert!(said.ends_with("--open-by path"), "{said}");
    }
}
