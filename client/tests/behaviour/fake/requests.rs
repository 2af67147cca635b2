//! What the fake daemon answers to requests.

use freemkvd_proto::status::{Budget, DaemonState, Status};
use freemkvd_proto::{AbortStream, ErrorCode, Failure, PauseStream, Reply, SetWeight};

pub(super) fn status() -> Status {
    Status {
        version: "fake".into(),
        protocol: 2,
        pid: 1,
        uptime_seconds: 1,
        state: DaemonState::Running,
        budget: Budget {
            limit_bytes: 1,
            charged_bytes: 0,
            kernel_dirty_bytes: None,
            queued_bytes: 0,
            queue_limit_bytes: 1,
        },
        devices: Vec::new(),
        streams: Vec::new(),
    }
}

pub(super) fn weighed(set: SetWeight) -> Reply {
    done_with(set.stream)
}

pub(super) fn aborted(abort: AbortStream) -> Reply {
    done_with(abort.stream)
}

pub(super) fn paused(pause: PauseStream) -> Reply {
    done_with(pause.stream)
}

fn done_with(stream: u64) -> Reply {
    match stream {
        7 => Reply::Done,
        _ => unknown(),
    }
}

pub(super) fn unknown() -> Reply {
    Reply::Failed(Failure::new(ErrorCode::NO_SUCH_STREAM, "no such stream here"))
}
