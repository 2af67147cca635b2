//! Says what a stream waits for, when it has waited for a while: the daemon is asked on a connection of its own,
//! since the one that writes can only wait.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use freemkvd_client::Error;
use freemkvd_client::control::Control;
use freemkvd_proto::status::{Status, Stream, StreamState};

use crate::table::plain;

/// How often the daemon is asked, and how long it may take.
const TICK: Duration = Duration::from_secs(2);
const TIMEOUT: Duration = Duration::from_secs(1);

/// How long it is left alone after it has refused to answer: each refusal is a line in its log.
const REFUSED_PAUSE: Duration = Duration::from_secs(60);

/// From when on a wait is worth a line.
const LONG_MS: u64 = 5000;

/// Looks until it is dropped.
pub(crate) struct Waiting {
    _stop: Sender<()>,
}

impl Waiting {
    /// Begins to look after a stream of the daemon at `socket`.
    pub(crate) fn watch(socket: Option<&Path>, stream: u64) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let socket = socket.map(Path::to_owned);
        thread::Builder::new().name("waiting".into()).spawn(move || {
            let (mut said, mut pause) = (None, TICK);
            while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                let asked = Control::connect(socket.as_deref(), TIMEOUT)
                    .and_then(|mut control| control.status());
                pause = if is_refusal(&asked) { REFUSED_PAUSE } else { TICK };
                let reason = reason(&asked, stream);
                let kind = reason.as_ref().map(|(kind, _)| kind.clone());
                if kind == said {
                    continue;
                }
                match reason {
                    Some((_, text)) => say(&text),
                    None => say("it goes on"),
                }
                said = kind;
            }
        })?;
        Ok(Self { _stop: stop })
    }
}

/// The daemon is there and does not say: there are too many connections, or this user may not ask any more.
fn is_refusal(asked: &Result<Status, Error>) -> bool {
    matches!(asked, Err(Error::Refused { .. } | Error::Failed { .. }))
}

/// What it waits for: a word that does not change while it does, and a sentence.
fn reason(asked: &Result<Status, Error>, stream: u64) -> Option<(String, String)> {
    match asked {
        Ok(status) => of(status.streams.iter().find(|other| other.id == stream)?),
        Err(_) if is_refusal(asked) => None,
        Err(_) => Some(("daemon".to_owned(), "waiting for the daemon, which is away".to_owned())),
    }
}

fn of(stream: &Stream) -> Option<(String, String)> {
    let waiting = stream.waiting_for.as_ref()?;
    match stream.state {
        StreamState::NoSpace => {
            Some(("space".to_owned(), format!("waiting for {}; free some", waiting.what)))
        }
        StreamState::Idle => None,
        StreamState::Paused => {
            let text = format!("paused from outside; {} has it go on", waiting.what);
            Some(("paused".to_owned(), text))
        }
        _ if waiting.ms < LONG_MS => None,
        _ => Some((waiting.what.clone(), format!("waiting for {}", waiting.what))),
    }
}

fn say(text: &str) {
    // Over the line that shows how far it is.
    let erase = if io::stderr().is_terminal() { "\r\x1b[K" } else { "" };
    let _ = writeln!(io::stderr(), "{erase}freemkvctl: {}", plain(text));
}

#[cfg(test)]
mod tests {
    use freemkvd_client::ErrorCode;

    use super::*;

    #[test]
    fn a_daemon_that_refuses_to_say_is_there() {
        let socket = || "/run/freemkvd.sock".into();
        let (code, message) = (ErrorCode::TOO_MANY_CONNECTIONS, "too many".to_owned());
        let refused = Err(Error::Refused { socket: socket(), code, message });
        assert!(is_refusal(&refused) && reason(&refused, 1).is_none());
        let source = io::Error::from(io::ErrorKind::NotFound).into();
        let away = Err(Error::NoDaemon { socket: socket(), source });
        assert!(!is_refusal(&away));
        assert!(reason(&away, 1).is_some_and(|(_, text)| text.contains("away")));
    }
}
