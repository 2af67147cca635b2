//! A connection that consists of requests about the daemon. A request that is refused harms no other.

use std::sync::Arc;
use std::time::Duration;

use freemkvd_proto::limits::WEIGHTS;
use freemkvd_proto::waits::Waits;
use freemkvd_proto::{Command, ErrorCode, Failure, Kind, PauseStream, Reply, SetWeight};
use tokio::time::timeout;
use tracing::{info, warn};

use super::guarded::Socket;
use super::socket::{self, Broken, Received, Receiver};
use super::{Server, pace};
use crate::access::{Peer, Rights};
use crate::config::Span;
use crate::ledger::Outcome;
use crate::log::event;
use crate::status;
use crate::user;
use crate::writer::Record;

/// Who asks, and what they may do.
pub(super) struct Asking {
    pub(super) peer: Peer,
    pub(super) rights: Rights,
}

/// Answers `first` and the requests that follow. Returns what to tell a client that breaks a rule.
pub(super) async fn run(
    server: &Server,
    socket: &Socket,
    mut receiver: Receiver<'_>,
    asking: &Asking,
    first: (u64, Command),
) -> Option<Failure> {
    let (mut id, mut command) = first;
    let pace = server.paces.of(asking.peer.uid);
    loop {
        let idle = server.config().limits.idle_timeout;
        // A daemon that was asked to stop does not before the answer is out.
        let _last_answer = (command == Command::Drain).then(|| server.phase.subscribe());
        let version = receiver.version();
        // What takes a file and perhaps a server of users takes nobody's turn.
        let reloaded = match command {
            Command::Reload => Some(reload(server, asking, idle).await),
            _ => None,
        };
        let answered = pace::in_turn(&pace, || {
            let reply = match reloaded {
                Some(reply) => reply,
                None => answer(server, asking, &command, version)?,
            };
            Ok((reply == Reply::Done, reply.encode(id)))
        });
        let (is_done, frame) = match answered.await {
            Ok((is_done, frame)) => (is_done, frame.ok()?),
            Err(failure) => return Some(failure),
        };
        timeout(idle, socket::send_frame(socket, &frame)).await.ok()?.ok()?;
        if command == Command::Drain && is_done {
            return None;
        }
        (id, command) = match timeout(idle, receiver.receive()).await {
            Ok(Ok(Received::Command(id, command))) => (id, command),
            Ok(Ok(Received::Write(_))) => return Some(not_a_request()),
            Ok(Ok(Received::Gone) | Err(Broken::Io)) => return None,
            Ok(Err(Broken::Rule(failure))) => return Some(failure),
            Err(_) => {
                // No rule was broken, and it need not even be there to hear it.
                let _ = timeout(idle, socket::send(socket, 0, &idle_for(idle))).await;
                return None;
            }
        };
    }
}

/// True for a command that is about the daemon and not about a stream of this connection.
pub(super) fn is_request(command: &Command) -> bool {
    matches!(
        command.kind(),
        Kind::Status
            | Kind::Why
            | Kind::Metrics
            | Kind::Reload
            | Kind::SetWeight
            | Kind::Drain
            | Kind::AbortStream
            | Kind::PauseStream
    )
}

/// The answer to a request; or what to tell a client that may not ask here, or anything of that kind.
fn answer(
    server: &Server,
    asking: &Asking,
    command: &Command,
    version: u16,
) -> Result<Reply, Failure> {
    Ok(match command {
        Command::Status if asking.rights.status => {
            let status = server.status().for_version(version);
            match version >= Kind::FullReport.since() {
                true => Reply::FullReport(status),
                false => Reply::StatusReport(status),
            }
        }
        Command::Why(why) if asking.rights.status => waits(server, why.stream),
        Command::Metrics if asking.rights.status => Reply::MetricsText(server.metrics()),
        Command::Status | Command::Why(_) | Command::Metrics => {
            let access = &server.config().access;
            return Err(access.refusal(&asking.peer, "ask freemkvd for its status"));
        }
        Command::Drain => done(drain(server, asking)),
        Command::SetWeight(set) => done(set_weight(server, asking, *set)),
        Command::AbortStream(abort) => done(abort_stream(server, asking, abort.stream)),
        Command::PauseStream(set) => done(pause_stream(server, asking, *set)),
        _ => return Err(not_a_request()),
    })
}

fn waits(server: &Server, stream: u64) -> Reply {
    match server.streams.waits(stream, server.shop.clock.now()) {
        Some(waits) => Reply::Waits(Waits { path: status::shown(&waits.path), ..waits }),
        None => Reply::Failed(Failure::new(
            ErrorCode::NO_SUCH_STREAM,
            format!(
                "there is no stream {stream}, and none of that number has ended within a day in this daemon; \
                 freemkvctl status shows those that are open"
            ),
        )),
    }
}

fn done(result: Result<(), Failure>) -> Reply {
    result.map_or_else(Reply::Failed, |()| Reply::Done)
}

fn not_a_request() -> Failure {
    let rule = "a connection that has begun with a request can only make requests";
    Failure::new(ErrorCode::OUT_OF_SEQUENCE, rule)
}

fn idle_for(time: Duration) -> Reply {
    let message = format!("no request within {} (limits.idle_timeout); connect again", Span(time));
    Reply::Failed(Failure::new(ErrorCode::HANDSHAKE_TIMEOUT, message))
}

fn drain(server: &Server, asking: &Asking) -> Result<(), Failure> {
    if !asking.rights.admin {
        let administrators = server.config().access.administrators();
        let message = format!("it may be stopped by {administrators}");
        return Err(Failure::new(ErrorCode::NOT_YOURS, message));
    }
    let client = &asking.peer;
    info!(
        client_pid = client.pid,
        client_uid = user::logged(client.uid),
        "asked to drain and stop"
    );
    server.stop.notify_one();
    Ok(())
}

/// Has the configuration read again, and waits for what comes of it.
async fn reload(server: &Server, asking: &Asking, patience: Duration) -> Reply {
    let client = &asking.peer;
    if !asking.rights.admin {
        let administrators = server.config().access.administrators();
        let message = format!("its configuration may be reloaded by {administrators}");
        return Reply::Failed(Failure::new(ErrorCode::NOT_YOURS, message));
    }
    info!(client_pid = client.pid, client_uid = user::logged(client.uid), "asked to reload");
    match timeout(patience, server.reloads.ask()).await {
        Ok(Some(Ok(reloaded))) => Reply::Reloaded(reloaded),
        Ok(Some(Err(refused))) => {
            let message = format!("the configuration is kept as it was: {refused}");
            Reply::Failed(Failure::new(ErrorCode::BAD_CONFIGURATION, message))
        }
        Ok(None) => {
            let message = "the daemon is stopping and reads its configuration when it starts";
            Reply::Failed(Failure::new(ErrorCode::GOING_AWAY, message))
        }
        Err(_) => {
            let message = format!(
                "the configuration has not been read within {}; it goes on, and the log says what comes of it",
                Span(patience)
            );
            Reply::Failed(Failure::new(ErrorCode::INTERNAL, message))
        }
    }
}

fn set_weight(server: &Server, asking: &Asking, set: SetWeight) -> Result<(), Failure> {
    let SetWeight { stream, weight } = set;
    if !WEIGHTS.contains(&weight) {
        return Err(Failure::new(ErrorCode::BAD_VALUE, out_of_range(weight)));
    }
    let record = one_to_change(server, asking, stream)?;
    // The record first: a stream that is being opened takes its weight from there.
    record.set_weight(weight);
    let _ = server.shop.gate.set_weight(stream, weight);
    let _ = server.shop.ledger.change(stream, |entry| entry.weight = weight);
    let client_uid = asking.peer.uid;
    if server.shop.may_say(client_uid) {
        info!(
            stream,
            weight,
            client_uid = user::logged(client_uid),
            "stream {stream} has weight {weight} now"
        );
    }
    Ok(())
}

fn pause_stream(server: &Server, asking: &Asking, set: PauseStream) -> Result<(), Failure> {
    let PauseStream { stream, pause } = set;
    let record = one_to_change(server, asking, stream)?;
    record.pause(pause);
    // Of two who differ the last one, here as there.
    let _ = server.shop.ledger.change(stream, |entry| entry.is_paused = record.queue.is_paused());
    let client_uid = asking.peer.uid;
    if server.shop.may_say(client_uid) {
        let what = if pause { "is paused" } else { "is to go on" };
        info!(
            event = event::STREAM_PAUSED,
            stream,
            client_uid = user::logged(client_uid),
            "stream {stream} {what}"
        );
    }
    Ok(())
}

/// Nothing here waits for the stream's thread, which may be in a call that never returns.
fn abort_stream(server: &Server, asking: &Asking, stream: u64) -> Result<(), Failure> {
    let record = one_to_change(server, asking, stream)?;
    let client = &asking.peer;
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
        event = event::STREAM_ABORTED,
        stream,
        client_pid = client.pid,
        client_uid = user::logged(client.uid),
        "stream {stream} aborted: {message}"
    );
    let failure = Failure::new(ErrorCode::ABORTED, message);
    // Its thread may never come to that; the next daemon is to know it as well.
    let outcome = Some(Outcome::Failed(failure.clone()));
    let _ = server.shop.ledger.change(stream, |entry| entry.outcome = outcome);
    record.abort(failure);
    Ok(())
}

/// The open stream of this number, if the one who asks may decide about it.
fn one_to_change(server: &Server, asking: &Asking, stream: u64) -> Result<Arc<Record>, Failure> {
    let record = server.streams.open().into_iter().find(|record| record.id == stream);
    let record = record.ok_or_else(|| {
        let message = format!("there is no open stream {stream}; freemkvctl status shows them");
        Failure::new(ErrorCode::NO_SUCH_STREAM, message)
    })?;
    if !asking.rights.include(asking.peer.uid, record.client.uid) {
        let message = format!(
            "stream {stream} is another user's; that user may do it, and {}",
            server.config().access.administrators()
        );
        return Err(Failure::new(ErrorCode::NOT_YOURS, message));
    }
    Ok(record)
}

/// What is said about a weight that there is not.
pub(super) fn out_of_range(weight: u32) -> String {
    format!("a weight is {} to {}, not {weight}", WEIGHTS.start(), WEIGHTS.end())
}
