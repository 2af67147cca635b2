//! One connection: hello, the first frame within its deadline, and then either requests or a stream.

use std::sync::Arc;
use std::time::Duration;

use freemkvd_proto::{Command, ErrorCode, Failure, Reply};
use tokio::time::{Instant, timeout, timeout_at};
use tracing::warn;

use super::control::Asking;
use super::guarded::{Socket, unexpected};
use super::opening::{self, is_opening};
use super::socket::{self, Broken, Received, Receiver};
use super::{Server, control, crowd, peer, transfer};
use crate::access::{Crowded, Peer};
use crate::user;
use crate::writer::Client;

/// How long a refused or failed peer may take to close before the daemon does.
const LINGER: Duration = Duration::from_secs(5);

/// The same for one that is too many.
const REFUSED_LINGER: Duration = Duration::from_secs(1);

/// Tells a connection that is one too many, without waiting for what it has to say.
pub(super) async fn refuse(server: Arc<Server>, socket: Socket, peer: Peer, crowded: Crowded) {
    let code = ErrorCode::TOO_MANY_CONNECTIONS;
    // The client gets the code alone: a hello has no room for more.
    let why = crowd::connections(crowded, peer.uid, &server.config().limits);
    if server.shop.may_say(peer.uid) {
        warn!(
            client_pid = peer.pid,
            client_uid = user::logged(peer.uid),
            code = code.0,
            "refused a connection: {why}"
        );
    }
    let tell = async {
        if socket::refuse(&socket, code).await.is_ok() {
            socket::linger(&socket).await;
        }
    };
    let _ = timeout(REFUSED_LINGER, tell).await;
}

/// Serves a connection to its end.
pub(super) async fn serve(server: Arc<Server>, mut socket: Socket, peer: Peer) {
    let config = server.config();
    let deadline = Instant::now() + config.limits.handshake_timeout;
    let Some(version) = greet(&server, &socket, (&peer).into(), deadline).await else {
        return;
    };
    let peer = peer::heard(peer, socket.stream());
    let client = Client::from(&peer);
    if let Err(crowded) = socket.belongs_to(peer.uid, config.limits.connections_per_user_max) {
        let why = crowd::connections(crowded, peer.uid, &config.limits);
        return tell(&server, &socket, client, Failure::new(ErrorCode::TOO_MANY_CONNECTIONS, why))
            .await;
    }
    let socket = socket;
    // As the configuration is now: a reload changes nothing for those who are let in.
    let rights = config.access.rights(&peer, user::ours());
    let mut receiver = Receiver::new(&socket, version);
    let first = timeout_at(deadline, receiver.receive_first()).await;
    let failure = match first {
        Ok(Ok((Received::Command(_, command), _))) if is_opening(&command) && !rights.write => {
            Some(config.access.refusal(&peer, "write through freemkvd"))
        }
        Ok(Ok((Received::Command(0, command), passed))) if is_opening(&command) => {
            match opening::check(&server, client, command, passed) {
                Ok(opening) => transfer::open(&server, &socket, receiver, client, opening).await,
                Err(failure) => Some(failure),
            }
        }
        Ok(Ok((Received::Command(0, Command::Resume(from)), passed))) => {
            match opening::check_resume(&server, client, from, passed) {
                Ok(from) => transfer::resume(&server, &socket, receiver, client, from).await,
                Err(failure) => Some(failure),
            }
        }
        Ok(Ok((_, passed))) if passed.files.count() > 0 => Some(unexpected()),
        Ok(Ok((Received::Command(id, command), passed))) if control::is_request(&command) => {
            drop(passed);
            let asking = Asking { peer, rights };
            control::run(&server, &socket, receiver, &asking, (id, command)).await
        }
        Ok(Ok((Received::Gone, _))) | Ok(Err(Broken::Io)) => None,
        Ok(Err(Broken::Rule(failure))) => Some(failure),
        Ok(Ok((Received::Command(..) | Received::Write(_), _))) => {
            let rule = "a connection begins with Open or Resume, numbered 0, or with a request";
            Some(Failure::new(ErrorCode::OUT_OF_SEQUENCE, rule))
        }
        Err(_) => {
            let wait = config.limits.handshake_timeout.as_millis();
            let message = format!(
                "no request within {wait} ms (limits.handshake_timeout); open a stream or ask for status"
            );
            Some(Failure::new(ErrorCode::HANDSHAKE_TIMEOUT, message))
        }
    };
    if let Some(failure) = failure {
        tell(&server, &socket, client, failure).await;
    }
}

/// Agrees on a version; `None` when there is nothing more to say.
async fn greet(server: &Server, socket: &Socket, client: Client, deadline: Instant) -> Option<u16> {
    if server.closer.is_behind(client.uid) {
        if server.shop.may_say(client.uid) {
            warn!(
                client_pid = client.pid,
                client_uid = user::logged(client.uid),
                "closed a connection unheard: what this user has passed takes long to be closed"
            );
        }
        return None;
    }
    match timeout_at(deadline, socket::hello(socket)).await {
        Ok(Ok(Ok(version))) => Some(version),
        Ok(Ok(Err(code))) => {
            if server.shop.may_say(client.uid) {
                warn!(
                    client_pid = client.pid,
                    client_uid = user::logged(client.uid),
                    code = code.0,
                    "refused a connection: {code}"
                );
            }
            None
        }
        Ok(Err(_)) | Err(_) => None,
    }
}

/// Tells a client what it did wrong, and waits for it to close.
async fn tell(server: &Server, socket: &Socket, client: Client, failure: Failure) {
    // A muxer that only asks whether its daemon is still there is no news.
    if failure.code != ErrorCode::ATTACHED && server.shop.may_say(client.uid) {
        warn!(
            client_pid = client.pid,
            client_uid = user::logged(client.uid),
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
