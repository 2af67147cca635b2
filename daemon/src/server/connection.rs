//! One connection: hello, the first frame within its deadline, and then either requests or a stream.

use std::sync::Arc;
use std::time::Duration;

use freemkvd_proto::limits::WEIGHTS;
use freemkvd_proto::{
    Command, ErrorCode, Failure, Kind, Leftover, OpenFile, OpenResumable, Reply, Resume, Transfer,
};
use interprocess::local_socket::tokio::Stream;
use tokio::time::{timeout, timeout_at};
use tracing::warn;

use super::control::Asking;
use super::socket::{self, Broken, Passed, Received, Receiver};
use super::transfer::{self, Opening};
use super::{Server, control, crowd};
use crate::access::{Crowded, Peer, Place};
use crate::descriptors::Claim;
use crate::platform;
use crate::storage::{BadSlots, Slots};
use crate::writer::{Client, Ending, going_away};

/// How long a refused or failed peer may take to close before the daemon does.
const LINGER: Duration = Duration::from_secs(5);

/// The same for one that is too many.
const REFUSED_LINGER: Duration = Duration::from_secs(1);

/// Tells a connection that is one too many, without waiting for what it has to say.
pub(super) async fn refuse(
    server: Arc<Server>,
    socket: Stream,
    peer: Peer,
    crowded: Crowded,
    _claim: Claim,
) {
    let code = ErrorCode::TOO_MANY_CONNECTIONS;
    // The client gets the code alone: a hello has no room for more.
    let why = crowd::connections(crowded, peer.uid, &server.config().limits);
    warn!(
        client_pid = peer.pid,
        client_uid = peer.uid,
        code = code.0,
        "refused a connection: {why}"
    );
    let tell = async {
        if socket::refuse(&socket, code).await.is_ok() {
            socket::linger(&socket).await;
        }
    };
    let _ = timeout(REFUSED_LINGER, tell).await;
}

/// Serves a connection to its end.
pub(super) async fn serve(
    server: Arc<Server>,
    socket: Stream,
    peer: Peer,
    claim: Claim,
    _place: Place,
) {
    let config = server.config();
    let client = Client { pid: peer.pid, uid: peer.uid };
    // As the configuration is now: a reload changes nothing for those who are let in.
    let rights = config.access.rights(&peer, platform::uid());
    let deadline = tokio::time::Instant::now() + config.limits.handshake_timeout;
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
    let first = timeout_at(deadline, receiver.receive_first()).await;
    let failure = match first.map(|first| first.map(with_one_way_to_open)) {
        Ok(Ok((Received::Command(_, command), _))) if opens(&command) && !rights.write => {
            Some(config.access.refusal(&peer, "write through freemkvd"))
        }
        Ok(Ok((Received::Command(0, Command::OpenFile(file)), passed))) => {
            let opening = check_open(&server, file, passed);
            claim.first_frame_is_over();
            match opening {
                Ok(opening) => transfer::open(&server, &socket, receiver, client, opening).await,
                Err(failure) => Some(failure),
            }
        }
        Ok(Ok((Received::Command(0, Command::Resume(from)), passed))) => {
            let from = check_resume(&server, from, passed);
            claim.first_frame_is_over();
            match from {
                Ok(from) => transfer::resume(&server, &socket, receiver, client, from).await,
                Err(failure) => Some(failure),
            }
        }
        Ok(Ok((_, passed))) if !passed.descriptors.is_empty() => Some(unexpected()),
        Ok(Ok((Received::Command(id, command), _))) if control::is_request(&command) => {
            claim.first_frame_is_over();
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

/// True for a first frame by which a stream begins. One that goes on was let in when it began.
fn opens(command: &Command) -> bool {
    matches!(command.kind(), Kind::Open | Kind::OpenResumable | Kind::OpenFile | Kind::OpenGiven)
}

/// Of the three ways to open a stream the most general one says all; whatever else came stays as it is.
fn with_one_way_to_open((received, passed): (Received, Passed)) -> (Received, Passed) {
    let (number, token, open) = match received {
        Received::Command(number, Command::Open(open)) => (number, None, open),
        Received::Command(number, Command::OpenResumable(OpenResumable { token, open })) => {
            (number, Some(token), open)
        }
        other => return (other, passed),
    };
    let file = OpenFile { token, open, publish: false, leftover: Leftover::Keep };
    (Received::Command(number, Command::OpenFile(file)), passed)
}

/// Everything about an `Open` that can be refused without a look at the disk.
fn check_open(server: &Server, file: OpenFile, passed: Passed) -> Result<Opening, Failure> {
    refuse_while_draining(server)?;
    let ending = Ending::of(&file);
    let OpenFile { token, open, .. } = file;
    let most = server.config().limits.path_bytes_max;
    let bad = |what: &str| {
        let message = format!(
            "the path {what}; send an absolute path of at most {most} bytes (limits.path_length)"
        );
        Failure::new(ErrorCode::BAD_PATH, message)
    };
    if open.path.0.len() > most {
        return Err(bad("is too long"));
    }
    let path = open.path.clone().into_path().ok_or_else(|| bad("holds a NUL byte"))?;
    if !path.is_absolute() {
        return Err(bad("is not absolute"));
    }
    if !WEIGHTS.contains(&open.weight) {
        return Err(Failure::new(ErrorCode::BAD_WEIGHT, control::out_of_range(open.weight)));
    }
    let path = ending.opened_path(path);
    let slots = slots(open.transfer, passed)?;
    Ok(Opening { open, path, ending, slots, token })
}

/// The same for a `Resume`.
fn check_resume(
    server: &Server,
    from: Resume,
    passed: Passed,
) -> Result<(Resume, Option<Slots>), Failure> {
    refuse_while_draining(server)?;
    let slots = slots(from.transfer, passed)?;
    Ok((from, slots))
}

fn refuse_while_draining(server: &Server) -> Result<(), Failure> {
    if server.is_draining() { Err(going_away()) } else { Ok(()) }
}

fn slots(transfer: Transfer, passed: Passed) -> Result<Option<Slots>, Failure> {
    let Passed { descriptors, is_cut } = passed;
    match transfer {
        Transfer::Shared { .. } if descriptors.is_empty() && is_cut => {
            let message = "freemkvd has no free descriptor for the memory that came with it; raise \
                           LimitNOFILE= of its unit (or ulimit -n) and restart it, or try again later";
            Err(Failure::new(ErrorCode::NO_RESOURCES, message))
        }
        Transfer::Inline if descriptors.is_empty() => Ok(None),
        Transfer::Inline => Err(unexpected()),
        Transfer::Shared { slots } => {
            Slots::offered(descriptors, slots).map_err(|bad: BadSlots| bad.failure())
        }
    }
}

fn unexpected() -> Failure {
    let message = "a descriptor came without an Open that shares slots";
    Failure::new(ErrorCode::BAD_SLOTS, message)
}
