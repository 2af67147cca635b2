//! A connection that consists of requests about the daemon. A request that is refused harms no other.

use std::sync::Arc;
use std::time::Duration;

use freemkvd_proto::limits::WEIGHTS;
use freemkvd_proto::{Command, ErrorCode, Failure, Kind, Reply, SetWeight};
use tokio::time::timeout;
use tracing::{info, warn};

use super::Server;
use super::guarded::Socket;
use super::socket::{self, Broken, Received, Receiver};
use crate::ledger::Outcome;
use crate::platform;
use crate::writer::{Client, Record};

/// How long such a connection may be silent, or not listen.
const IDLE: Duration = Duration::from_secs(60);

/// Answers `first` and the requests that follow. Returns what to tell a client that breaks a rule.
pub(super) async fn run(
    server: &Server,
    socket: &Socket,
    mut receiver: Receiver<'_>,
    client: Client,
    first: (u64, Command),
) -> Option<Failure> {
    let (mut id, mut command) = first;
    loop {
        // A daemon that was asked to stop does not before the answer is out.
        let _last_answer = (command == Command::Drain).then(|| server.phase.subscribe());
        let Some(reply) = answer(server, client, &command, receiver.version()) else {
            return Some(not_a_request());
        };
        timeout(IDLE, socket::send(socket, id, &reply)).await.ok()?.ok()?;
        if command == Command::Drain && reply == Reply::Done {
            return None;
        }
        (id, command) = match timeout(IDLE, receiver.receive()).await {
            Ok(Ok(Received::Command(id, command))) => (id, command),
            Ok(Ok(Received::Write(_))) => return Some(not_a_request()),
            Ok(Ok(Received::Gone) | Err(Broken::Io)) | Err(_) => return None,
            Ok(Err(Broken::Rule(failure))) => return Some(failure),
        };
    }
}

/// True for a command that is about the daemon and not about a stream of this connection.
pub(super) fn is_request(command: &Command) -> bool {
    matches!(command.kind(), Kind::Status | Kind::SetWeight | Kind::Drain | Kind::AbortStream)
}

/// `None` for a command of a stream.
fn answer(server: &Server, client: Client, command: &Command, version: u16) -> Option<Reply> {
    Some(match command {
        Command::Status => Reply::StatusReport(server.status().for_version(version)),
        Command::Drain => done(drain(server, client)),
        Command::SetWeight(set) => done(set_weight(server, client, *set)),
        Command::AbortStream(abort) => done(abort_stream(server, client, abort.stream)),
        _ => return None,
    })
}

fn done(result: Result<(), Failure>) -> Reply {
    result.map_or_else(Reply::Failed, |()| Reply::Done)
}

fn not_a_request() -> Failure {
    let rule = "a connection that has begun with a request can only make requests";
    Failure::new(ErrorCode::OUT_OF_SEQUENCE, rule)
}

fn drain(server: &Server, client: Client) -> Result<(), Failure> {
    if !may_change(client.uid, None, platform::uid()) {
        let message = "only root and the user that freemkvd runs as may stop it";
        return Err(Failure::new(ErrorCode::NOT_YOURS, message));
    }
    info!(client_pid = client.pid, client_uid = client.uid, "asked to drain and stop");
    server.stop.notify_one();
    Ok(())
}

fn set_weight(server: &Server, client: Client, set: SetWeight) -> Result<(), Failure> {
    let SetWeight { stream, weight } = set;
    if !WEIGHTS.contains(&weight) {
        return Err(Failure::new(ErrorCode::BAD_VALUE, out_of_range(weight)));
    }
    let record = one_to_change(server, client, stream)?;
    // The record first: a stream that is being opened takes its weight from there.
    record.set_weight(weight);
    let _ = server.shop.gate.set_weight(stream, weight);
    let _ = server.shop.ledger.change(stream, |entry| entry.weight = weight);
    info!(stream, weight, client_uid = client.uid, "stream {stream} has weight {weight} now");
    Ok(())
}

/// Nothing here waits for the stream's thread, which may be in a call that never returns.
fn abort_stream(server: &Server, client: Client, stream: u64) -> Result<(), Failure> {
    let record = one_to_change(server, client, stream)?;
    if record.failure().is_some() {
        // It is over; only its thread is not yet.
        return Ok(());
    }
    let by = client.uid.map(|uid| format!(" by user {uid}")).unwrap_or_default();
    let message = format!(
        "{} was given up from outside{by} (freemkvctl abort {stream}); what was not written of it is dropped",
        record.path.display()
    );
    warn!(
        stream,
        client_pid = client.pid,
        client_uid = client.uid,
        "stream {stream} aborted: {message}"
    );
    let failure = Failure::new(ErrorCode::ABORTED, message);
    // Its thread may never come to that; the next daemon is to know it as well.
    let outcome = Some(Outcome::Failed(failure.clone()));
    let _ = server.shop.ledger.change(stream, |entry| entry.outcome = outcome);
    record.abort(failure);
    Ok(())
}

/// The open stream of this number, if `client` may decide about it.
fn one_to_change(server: &Server, client: Client, stream: u64) -> Result<Arc<Record>, Failure> {
    let record = server.streams.open().into_iter().find(|record| record.id == stream);
    let record = record.ok_or_else(|| {
        let message = format!("there is no open stream {stream}; freemkvctl status shows them");
        Failure::new(ErrorCode::NO_SUCH_STREAM, message)
    })?;
    if !may_change(client.uid, record.client.uid, platform::uid()) {
        let message = format!(
            "stream {stream} is another user's; ask its user, or do it as root or as the user that \
             freemkvd runs as"
        );
        return Err(Failure::new(ErrorCode::NOT_YOURS, message));
    }
    Ok(record)
}

/// What is said about a weight that there is not.
pub(super) fn out_of_range(weight: u32) -> String {
    format!("a weight is {} to {}, not {weight}", WEIGHTS.start(), WEIGHTS.end())
}

/// Whether a user may change how `owner`'s stream is treated.
fn may_change(user: Option<u32>, owner: Option<u32>, daemon: u32) -> bool {
    match user {
        Some(user) => Some(user) == owner || user == 0 || user == daemon,
        // Without user ids the socket's own permissions are all there is.
        None => cfg!(not(unix)),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn only_the_owner_root_and_the_daemons_user_change_a_stream() {
        for (user, owner, expected) in [
            (Some(1000), Some(1000), true),
            (Some(0), Some(1000), true),
            (Some(77), Some(1000), true),
            (Some(1001), Some(1000), false),
            (Some(1001), None, false),
            (None, None, false),
            (None, Some(1000), false),
        ] {
            assert_eq!(may_change(user, owner, 77), expected, "{user:?} {owner:?}");
        }
    }
}
