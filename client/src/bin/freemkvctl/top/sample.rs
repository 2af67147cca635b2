//! Reports for tests, those of this directory above all.

use freemkvd_proto::status::{
    Budget, DaemonState, Device, DeviceState, Status, Stream, StreamError, StreamState, WaitingFor,
};

pub(super) const MIB: u64 = 1 << 20;

pub(crate) fn stream(id: u64) -> Stream {
    Stream {
        id,
        client_pid: Some(4001),
        client_uid: Some(1000),
        client_user: None,
        paused: None,
        held: None,
        path: format!("/rips/The Third Man (1949)/title_t{id:02}.mkv"),
        device: Some("8:17".into()),
        state: StreamState::Writing,
        state_seconds: 61,
        blocked_in: None,
        accepted_bytes: 22_000 * MIB,
        written_bytes: 21_990 * MIB,
        durable_bytes: 0,
        in_bytes_per_second: 72 * MIB,
        out_bytes_per_second: 71 * MIB,
        queued_bytes: 10 * MIB,
        dirty_bytes: 24 * MIB,
        window_bytes: 64 * MIB,
        seeks: 0,
        patches: 0,
        error: None,
        waiting_for: None,
        kernel_dirty_bytes: None,
        drain: Some("dontcache".into()),
        weight: 100,
        shared: true,
    }
}

pub(crate) fn device(state: DeviceState) -> Device {
    Device {
        id: "8:17".into(),
        mount: Some("/rips".into()),
        filesystem: Some("ext4".into()),
        state,
        drain: "dontcache".into(),
        limit_bytes: 256 * MIB,
        charged_bytes: 48 * MIB,
        rate_bytes_per_second: 143 * MIB,
        completion_ms_p95: 48,
        kernel_dirty_bytes: None,
        extent_bytes: 8 * MIB,
        turns: false,
        state_seconds: 95,
    }
}

pub(crate) fn status(streams: Vec<Stream>) -> Status {
    Status {
        version: "0.1.0".into(),
        protocol: 7,
        pid: 811,
        uptime_seconds: 3 * 3600 + 12 * 60,
        state: DaemonState::Running,
        budget: Budget {
            limit_bytes: 512 * MIB,
            charged_bytes: 100 * MIB,
            kernel_dirty_bytes: Some(45 * MIB),
            queued_bytes: 20 * MIB,
            queue_limit_bytes: 256 * MIB,
        },
        devices: vec![device(DeviceState::Healthy)],
        streams,
    }
}

/// Four streams, of which one has failed and one hangs with its device.
pub(super) fn degraded() -> Status {
    let (errno, offset) = (Some(5), Some(4096));
    let error = StreamError { errno, offset, message: "input/output error".into() };
    let mut status = status(vec![
        stream(1),
        Stream { state: StreamState::Idle, ..stream(2) },
        Stream {
            state: StreamState::Failed,
            error: Some(error),
            in_bytes_per_second: 0,
            out_bytes_per_second: 0,
            dirty_bytes: 0,
            ..stream(3)
        },
        Stream {
            device: Some("0:52".into()),
            path: "/mnt/nas/disc.iso".into(),
            state: StreamState::Syncing,
            state_seconds: 95,
            blocked_in: Some("fdatasync".into()),
            waiting_for: Some(WaitingFor { what: "fdatasync on nas:/rips".into(), ms: 95_000 }),
            out_bytes_per_second: 0,
            ..stream(14)
        },
    ]);
    status.devices.push(Device {
        id: "0:52".into(),
        mount: Some("/mnt/nas".into()),
        filesystem: Some("nfs4".into()),
        drain: "fdatasync".into(),
        ..device(DeviceState::Wedged)
    });
    status
}
