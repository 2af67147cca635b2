//! One connection: hello, the first frame within its deadline, and then either requests or a stream.

use std::sync::Arc;
use std::time::Duration;

use freemkvd_proto::{Command, ErrorCode, Failure, Reply};
use interprocess::local_socket::tokio::{Stream, prelude::*};
use tokio::time::{timeout, timeout_at};
use tracing::warn;

use super::opening::{self, is_opening};
use super::socket::{self, Broken, Received, Receiver};
use super::{Server, control, transfer};
use crate::descriptors::Claim;
use crate::foreign::Foreign;
use crate::writer::Client;

/// How long a refused or failed peer may take to close before the daemon does.
const LINGER: Duration = Duration::from_secs(5);

/// The same for one that is too many.
const REFUSED_LINGER: Duration = Duration::from_secs(1);

/// Tells a connection that is one too many, without waiting for what it has to say.
pub(super) async fn refuse(socket: Stream, _claim: Claim) {
    let client = client_of(&socket);
    let code = ErrorCode::TOO_MANY_CONNECTIONS;
    warn!(
        client_pid = client.pid,
        client_uid = client.uid,
        code = code.0,
        "refused a connection: {code}, as many as limits.connections allows"
    );
    let tell = async {
        if socket::refuse(&socket, code).await.is_ok() {
            socket::linger(&socket).await;
        }
    };
    let _ = timeout(REFUSED_LINGER, tell).await;
}

/// Serves a connection to its end.
pub(super) async fn serve(server: Arc<Server>, socket: Stream, claim: Claim) {
    let client = client_of(&socket);
    let deadline = tokio::time::Instant::now() + server.config().handshake_timeout;
    let version = match timeout_at(deadline, socket::hello(&socket)).await {
        Ok(Ok(Ok(version))) => version,
        Ok(Ok(Err(code))) => {
            warn!(
                client_pid = client.pid,
                client_uid = client.uid,
                code = code.0,
                "refused a connection: {code}"
            );
            return;
        }
        Ok(Err(_)) | Err(_) => return,
    };
    let mut receiver = Receiver::new(&socket, version);
    let none = Foreign::none(&server.closer, client.uid, claim.for_first_frame());
    let first = timeout_at(deadline, receiver.receive_first(none)).await;
    let failure = match first {
        Ok(Ok((Received::Command(0, command), passed))) if is_opening(&command) => {
            match opening::check(&server, command, passed) {
                Ok(opening) => transfer::open(&server, &socket, receiver, client, opening).await,
                Err(failure) => Some(failure),
            }
        }
        Ok(Ok((Received::Command(0, Command::Resume(from)), passed))) => {
            match opening::check_resume(&server, from, passed) {
                Ok(from) => transfer::resume(&server, &socket, receiver, client, from).await,
                Err(failure) => Some(failure),
            }
        }
        Ok(Ok((_, passed))) if passed.files.count() > 0 => Some(opening::unexpected()),
        Ok(Ok((Received::Command(id, command), passed))) if control::is_request(&command) => {
            drop(passed);
            control::run(&server, &socket, receiver, client, (id, command)).await
        }
        Ok(Ok((Received::Gone, _))) | Ok(Err(Broken::Io)) => None,
        Ok(Err(Broken::Rule(failure))) => Some(failure),
        Ok(Ok((Received::Command(..) | Received::Write(_), _))) => {
            let rule = "a connection begins with Open or Resume, numbered 0, or with a request";
            Some(Failure::new(ErrorCode::OUT_OF_SEQUENCE, rule))
        }
        Err(_) => {
            let wait = server.config().handshake_timeout.as_millis();
            let message = format!("no request within {wait} ms; open a stream or ask for status");
            Some(Failure::new(ErrorCode::HANDSHAKE_TIMEOUT, message))
        }
    };
    if let Some(failure) = failure {
        tell(&socket, client, failure).await;
    }
}

/// Tells a client what it did wrong, and waits for it to close.
async fn tell(socket: &Stream, client: Client, failure: Failure) {
    // A muxer that only asks whether its daemon is still there is no news.
    if failure.code != ErrorCode::ATTACHED {
        warn!(
            client_pid = client.pid,
            client_uid = client.uid,
            code = failure.code.0,
            "disconnected a client: {}",
            failure.message
        );
    }
    // The peer may be gone, or not reading; then there is nobody to tell.
    let tell = async {
        if socket::send(socket, 0, &Reply::Failed(failure)).await.is_ok() {
            socket::linger(socket).await;
        }
    };
    let _ = timeout(LINGER, tell).await;
}

fn client_of(socket: &Stream) -> Client {
    let Ok(creds) = socket.peer_creds() else {
        return Client::default();
    };
    #[cfg(unix)]
    let (pid, uid) = (creds.pid().and_then(|pid| u32::try_from(pid).ok()), creds.euid());
    #[cfg(not(unix))]
    let (pid, uid) = (creds.pid(), None);
    Client { pid, uid }
}
