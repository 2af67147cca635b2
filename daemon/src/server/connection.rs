//! One connection: hello, the first request within its deadline, and then either status reports or a
//! stream.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use freemkvd_proto::limits::PATH_BYTES_MAX;
use freemkvd_proto::{Command, ErrorCode, Failure, Open, Reply};
use interprocess::local_socket::tokio::{Stream, prelude::*};
use tokio::time::{timeout, timeout_at};
use tracing::warn;

use super::Server;
use super::socket::{self, Broken, Received, Receiver};
use super::transfer;
use crate::writer::Client;

/// How long a refused or failed peer may take to close before the daemon does.
const LINGER: Duration = Duration::from_secs(5);

/// The same for one that is too many.
const REFUSED_LINGER: Duration = Duration::from_secs(1);

/// How long a status connection may be silent, or not listen.
const STATUS_IDLE: Duration = Duration::from_secs(60);

/// Tells a connection that is one too many, without waiting for what it has to say.
pub(super) async fn refuse(socket: Stream) {
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
pub(super) async fn serve(server: Arc<Server>, socket: Stream) {
    let client = client_of(&socket);
    let deadline = tokio::time::Instant::now() + server.config().handshake_timeout;
    match timeout_at(deadline, socket::hello(&socket)).await {
        Ok(Ok(None)) => {}
        Ok(Ok(Some(code))) => {
            warn!(
                client_pid = client.pid,
                client_uid = client.uid,
                code = code.0,
                "refused a connection: {code}"
            );
            return;
        }
        Ok(Err(_)) | Err(_) => return,
    }
    let mut receiver = Receiver::new(&socket);
    let failure = match timeout_at(deadline, receiver.receive()).await {
        Ok(Ok(Received::Command(0, Command::Open(open)))) => match check_open(&server, open) {
            Ok(opening) => transfer::run(&server, &socket, receiver, client, opening).await,
            Err(failure) => Some(failure),
        },
        Ok(Ok(Received::Command(id, Command::Status))) => {
            reports(&server, &socket, receiver, id).await
        }
        Ok(Ok(Received::Gone)) | Ok(Err(Broken::Io)) => None,
        Ok(Err(Broken::Rule(failure))) => Some(failure),
        Ok(Ok(Received::Command(..) | Received::Write(_))) => {
            let rule = "a connection begins with Open, numbered 0, or with Status";
            Some(Failure::new(ErrorCode::OUT_OF_SEQUENCE, rule))
        }
        Err(_) => {
            let wait = server.config().handshake_timeout.as_millis();
            let message = format!("no request within {wait} ms; open a stream or ask for status");
            Some(Failure::new(ErrorCode::HANDSHAKE_TIMEOUT, message))
        }
    };
    if let Some(failure) = failure {
        warn!(
            client_pid = client.pid,
            client_uid = client.uid,
            code = failure.code.0,
            "disconnected a client: {}",
            failure.message
        );
        // The peer may be gone, or not reading; then there is nobody to tell.
        let tell = async {
            if socket::send(&socket, 0, &Reply::Failed(failure)).await.is_ok() {
                socket::linger(&socket).await;
            }
        };
        let _ = timeout(LINGER, tell).await;
    }
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

fn check_open(server: &Server, open: Open) -> Result<(Open, PathBuf), Failure> {
    if server.is_draining() {
        let message = "the daemon is shutting down and takes no new streams; try again soon";
        return Err(Failure::new(ErrorCode::GOING_AWAY, message));
    }
    let bad = |what: &str| {
        let message =
            format!("the path {what}; send an absolute path of at most {PATH_BYTES_MAX} bytes");
        Failure::new(ErrorCode::BAD_PATH, message)
    };
    if open.path.0.len() > PATH_BYTES_MAX {
        return Err(bad("is too long"));
    }
    let path = open.path.clone().into_path().ok_or_else(|| bad("holds a NUL byte"))?;
    if !path.is_absolute() {
        return Err(bad("is not absolute"));
    }
    Ok((open, path))
}

async fn reports(
    server: &Server,
    socket: &Stream,
    mut receiver: Receiver<'_>,
    mut id: u64,
) -> Option<Failure> {
    loop {
        let report = Reply::StatusReport(server.status());
        let sent = timeout(STATUS_IDLE, socket::send(socket, id, &report)).await;
        sent.ok()?.ok()?;
        match timeout(STATUS_IDLE, receiver.receive()).await {
            Ok(Ok(Received::Command(next, Command::Status))) => id = next,
            Ok(Ok(Received::Gone) | Err(Broken::Io)) | Err(_) => return None,
            Ok(Err(Broken::Rule(failure))) => return Some(failure),
            Ok(Ok(_)) => {
                let rule = "a connection that has asked for status can only ask for status";
                return Some(Failure::new(ErrorCode::OUT_OF_SEQUENCE, rule));
            }
        }
    }
}
