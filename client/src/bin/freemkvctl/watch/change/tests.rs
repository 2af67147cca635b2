//! Two reports, and what is told of them.

use freemkvd_proto::status::{Budget, Held, StreamError, WaitingFor};

use super::*;

fn stream(id: u64) -> Stream {
    Stream {
        id,
        client_pid: Some(4001),
        client_uid: Some(1000),
        client_user: None,
        paused: None,
        held: None,
        path: format!("/rips/{id}.mkv"),
        device: Some("8:17".into()),
        state: StreamState::Writing,
        state_seconds: 61,
        blocked_in: None,
        accepted_bytes: 2000,
        written_bytes: 1000,
        durable_bytes: 0,
        in_bytes_per_second: 72,
        out_bytes_per_second: 71,
        queued_bytes: 1000,
        dirty_bytes: 24,
        window_bytes: 64,
        seeks: 0,
        patches: 0,
        error: None,
        waiting_for: None,
        kernel_dirty_bytes: None,
        drain: None,
        weight: 100,
        shared: true,
    }
}

fn device(state: DeviceState) -> Device {
    Device {
        id: "8:17".into(),
        mount: Some("/rips".into()),
        filesystem: Some("ext4".into()),
        state,
        drain: "dontcache".into(),
        limit_bytes: 256,
        charged_bytes: 48,
        rate_bytes_per_second: 143,
        completion_ms_p95: 48,
        kernel_dirty_bytes: None,
        extent_bytes: 8,
        turns: false,
        state_seconds: 2,
    }
}

fn status(streams: Vec<Stream>) -> Status {
    Status {
        version: "0.1.0".into(),
        protocol: 7,
        pid: 811,
        uptime_seconds: 9,
        state: DaemonState::Running,
        budget: Budget {
            limit_bytes: 512,
            charged_bytes: 48,
            kernel_dirty_bytes: None,
            queued_bytes: 20,
            queue_limit_bytes: 256,
        },
        devices: vec![device(DeviceState::Healthy)],
        streams,
    }
}

fn waiting(stream: Stream, state: StreamState, what: &str, ms: u64) -> Stream {
    let waiting_for = Some(WaitingFor { what: what.into(), ms });
    Stream { state, state_seconds: ms / 1000, waiting_for, ..stream }
}

/// What is told of each report after the first.
fn told(reports: &[Status]) -> Vec<(Kind, String)> {
    let mut known = Known::default();
    let all = reports.iter().map(|report| known.learn(report.clone()));
    let later: Vec<_> = all.skip(1).flatten().collect();
    later.into_iter().map(|change| (change.event, change.message)).collect()
}

fn events(reports: &[Status]) -> Vec<Kind> {
    told(reports).into_iter().map(|(event, _)| event).collect()
}

fn changes(before: Option<&Status>, after: &Status) -> Vec<Change> {
    let mut known = Known { status: before.cloned(), ..Known::default() };
    known.learn(after.clone())
}

#[test]
fn a_report_that_only_counts_on_tells_nothing() {
    let later = Stream { accepted_bytes: 9999, state: StreamState::Idle, ..stream(1) };
    assert_eq!(told(&[status(vec![stream(1)]), status(vec![later])]), []);
    assert_eq!(changes(None, &status(vec![stream(1)])), []);
}

#[test]
fn a_stream_comes_and_goes() {
    let reports = [status(vec![]), status(vec![stream(1)]), status(vec![])];
    assert_eq!(
        told(&reports),
        [
            (Kind::StreamOpened, "opened: stream 1, /rips/1.mkv".to_owned()),
            (Kind::StreamEnded, "ended: stream 1, /rips/1.mkv".to_owned()),
        ]
    );
    let all = changes(Some(&reports[0]), &reports[1]);
    assert_eq!((all[0].stream, all[0].path.as_deref()), (Some(1), Some("/rips/1.mkv")));
    assert_eq!(
        (all[0].device.as_deref(), all[0].state.as_deref()),
        (Some("8:17"), Some("writing"))
    );
    // Another one with the same number is not the same.
    let other = Stream { path: "/rips/other.mkv".into(), ..stream(1) };
    let events = told(&[status(vec![stream(1)]), status(vec![other])]);
    let events: Vec<_> = events.into_iter().map(|(event, _)| event).collect();
    assert_eq!(events, [Kind::StreamEnded, Kind::StreamOpened]);
}

#[test]
fn what_lasts_is_told_at_its_beginning_and_at_its_end() {
    let hangs = |ms| {
        let hung = waiting(stream(1), StreamState::Writing, "pwrite on nas:/rips", ms);
        status(vec![Stream { blocked_in: Some("pwrite".into()), ..hung }])
    };
    let fine = || status(vec![stream(1)]);
    assert_eq!(
        told(&[fine(), hangs(1000), hangs(4999), hangs(5000), hangs(6500), fine(), fine()]),
        [
            (
                Kind::StreamStalled,
                "stalled in pwrite for 5 s on nas:/rips: stream 1, /rips/1.mkv".to_owned()
            ),
            (Kind::StreamGoesOn, "goes on: stream 1, /rips/1.mkv".to_owned()),
        ]
    );
    let full = status(vec![waiting(stream(1), StreamState::NoSpace, "space on /rips", 0)]);
    let events = told(&[hangs(7000), full, fine()]);
    assert_eq!(
        events[0],
        (
            Kind::StreamNoSpace,
            "waiting for space on /rips, for 0 s so far: stream 1, /rips/1.mkv".to_owned()
        )
    );
    assert_eq!((events[1].0, events.len()), (Kind::StreamGoesOn, 2));
}

#[test]
fn short_throttling_is_nobodys_business() {
    let throttled =
        |ms| status(vec![waiting(stream(1), StreamState::Throttled, "its turn on /rips", ms)]);
    let fine = || status(vec![stream(1)]);
    assert_eq!(told(&[fine(), throttled(4999), fine()]), []);
    assert_eq!(
        told(&[throttled(4999), throttled(5000), throttled(5500), fine()]),
        [
            (
                Kind::StreamThrottled,
                "throttled for 5 s, by its turn on /rips: stream 1, /rips/1.mkv".to_owned()
            ),
            (Kind::StreamGoesOn, "goes on: stream 1, /rips/1.mkv".to_owned()),
        ]
    );
}

#[test]
fn calls_of_a_slow_disk_are_nobodys_business() {
    let hangs = |ms| {
        let hung = waiting(stream(1), StreamState::Writing, "fdatasync on /rips", ms);
        status(vec![Stream { blocked_in: Some("fdatasync".into()), ..hung }])
    };
    let fine = || status(vec![stream(1)]);
    assert_eq!(told(&[fine(), hangs(1000), fine(), hangs(4000), hangs(1000), fine()]), []);
}

#[test]
fn a_muxer_that_is_held_up_is_told_of_and_does_not_flap() {
    let held = |percent| {
        let held = Some(Held { percent, of_seconds: 40, cause: Cause::DeviceBudget });
        Stream { held, ..stream(1) }
    };
    let report = |percent| status(vec![held(percent)]);
    assert_eq!(
        told(&[report(0), report(49), report(50), report(49), report(30), report(29), report(49)]),
        [
            (
                Kind::StreamSlow,
                "slow: stream 1, /rips/1.mkv: its muxer was held up for 50 % of the last 40 s, most of all while the \
                 stream was throttled by the budget of its device; /rips gets 143 B/s done (freemkvctl why 1)"
                    .to_owned()
            ),
            (Kind::StreamGoesOn, "goes on: stream 1, /rips/1.mkv".to_owned()),
        ]
    );
    // That it is throttled as well is no more news, and what comes between is not its end.
    let throttled = waiting(held(90), StreamState::Throttled, "its turn on /rips", 9000);
    let hung = waiting(held(40), StreamState::Writing, "pwrite on /rips", 9000);
    let hung = Stream { blocked_in: Some("pwrite".into()), ..hung };
    let reports = [report(90), status(vec![throttled]), status(vec![hung]), report(40), report(0)];
    assert_eq!(events(&reports), [Kind::StreamStalled, Kind::StreamSlow, Kind::StreamGoesOn]);
    // A daemon that has just begun can't tell yet.
    let next = |uptime_seconds| Status { pid: 812, uptime_seconds, ..status(vec![stream(1)]) };
    assert_eq!(events(&[report(90), next(3)]), [Kind::DaemonBack]);
    assert_eq!(events(&[report(90), next(3), next(20)]), [Kind::DaemonBack, Kind::StreamGoesOn]);
    // A stream of another name is another stream.
    let other = Stream { path: "/rips/other.mkv".into(), ..held(40) };
    let events = events(&[report(90), status(vec![other])]);
    assert_eq!(events, [Kind::StreamEnded, Kind::StreamOpened]);
}

#[test]
fn a_failure_is_told_at_once_and_the_end_when_it_is_gone() {
    let (errno, offset, message) = (Some(5), Some(4096), "no more".to_owned());
    let error = Some(StreamError { errno, offset, message });
    let failed =
        || status(vec![Stream { state: StreamState::Failed, error: error.clone(), ..stream(1) }]);
    assert_eq!(
        told(&[status(vec![stream(1)]), failed(), failed(), status(vec![])]),
        [
            (
                Kind::StreamFailed,
                "failed: stream 1, /rips/1.mkv: no more (errno 5 at byte 4096)".to_owned()
            ),
            (Kind::StreamEnded, "ended, failed: stream 1, /rips/1.mkv: no more".to_owned()),
        ]
    );
    let first = changes(None, &failed());
    assert_eq!((first.len(), first[0].event), (1, Kind::StreamFailed));
    assert!(first[0].is_trouble());
}

#[test]
fn a_device_tells_each_of_its_states() {
    let with = |state| Status { devices: vec![device(state)], ..status(vec![]) };
    let gone = Status { devices: vec![], ..status(vec![]) };
    assert_eq!(
        told(&[with(DeviceState::Healthy), with(DeviceState::Suspect), with(DeviceState::Healthy)]),
        [
            (
                Kind::DeviceState,
                "device 8:17 has been suspect for 2 s: /rips (ext4) has 48 B to write back"
                    .to_owned()
            ),
            (Kind::DeviceState, "device 8:17 is healthy again: /rips".to_owned()),
        ]
    );
    assert_eq!(told(&[with(DeviceState::Healthy), gone.clone(), with(DeviceState::Healthy)]), []);
    let left = changes(Some(&with(DeviceState::Wedged)), &gone);
    assert_eq!((left.len(), &left[0].state, left[0].is_trouble()), (1, &None, false));
}

#[test]
fn a_restart_keeps_the_streams_that_come_back() {
    let suspended = Stream { state: StreamState::Suspended, ..stream(1) };
    let next = Status { pid: 812, uptime_seconds: 0, ..status(vec![suspended]) };
    let draining = Status { state: DaemonState::Draining, ..status(vec![stream(1)]) };
    let resumed = Status { pid: 812, ..status(vec![stream(1)]) };
    let events = told(&[status(vec![stream(1)]), draining, next, resumed]);
    let events: Vec<_> = events.into_iter().map(|(event, _)| event).collect();
    let expected =
        [Kind::DaemonDraining, Kind::DaemonBack, Kind::StreamSuspended, Kind::StreamGoesOn];
    assert_eq!(events, expected);
}

#[test]
fn a_stream_that_a_drain_leaves_to_the_next_daemon_has_not_ended() {
    let drains = |streams| Status { state: DaemonState::Draining, ..status(streams) };
    let next = |streams| Status { pid: 812, ..status(streams) };
    let two = || vec![stream(1), stream(2)];
    let suspended = Stream { state: StreamState::Suspended, ..stream(1) };
    // The second has really ended, and nobody knows how.
    assert_eq!(
        told(&[status(two()), drains(vec![]), drains(vec![]), next(vec![suspended])]),
        [
            (
                Kind::DaemonDraining,
                "freemkvd takes no new streams and writes what is queued".to_owned()
            ),
            (Kind::DaemonBack, "freemkvd 0.1.0 is there, for 9 s, pid 812".to_owned()),
            (Kind::StreamEnded, "ended: stream 2, /rips/2.mkv".to_owned()),
            (
                Kind::StreamSuspended,
                "waiting for its muxer after a restart: stream 1, /rips/1.mkv".to_owned()
            ),
        ]
    );
    // It goes on before anybody has looked, and ends then.
    assert_eq!(
        events(&[
            status(vec![stream(1)]),
            drains(vec![]),
            next(vec![stream(1)]),
            next(vec![]),
            next(vec![])
        ]),
        [Kind::DaemonDraining, Kind::DaemonBack, Kind::StreamEnded]
    );
    // One daemon after the other may drain.
    let drains_too = Status { pid: 813, ..drains(vec![]) };
    assert_eq!(
        events(&[status(vec![stream(1)]), drains(vec![]), drains_too, next(vec![stream(1)])]),
        [Kind::DaemonDraining, Kind::DaemonBack, Kind::DaemonDraining, Kind::DaemonBack]
    );
    // And the account of whoever is gone by a report that drains is not asked for.
    let mut known = Known::default();
    known.learn(status(two()));
    assert!(known.gone(&drains(vec![])).is_empty());
    assert_eq!(known.gone(&next(vec![stream(1)])), [&stream(2)]);
}

#[test]
fn a_drain_keeps_nothing_of_what_was_over_before() {
    let failed = Stream { state: StreamState::Failed, ..stream(1) };
    let draining = Status { state: DaemonState::Draining, ..status(vec![]) };
    let all = changes(Some(&status(vec![failed])), &draining);
    assert_eq!((all[1].event, all[1].how), (Kind::StreamEnded, Some(How::Failed)));
}

#[test]
fn a_pause_and_its_end_are_told() {
    let paused = status(vec![Stream { state: StreamState::Paused, ..stream(1) }]);
    let events = told(&[status(vec![stream(1)]), paused, status(vec![stream(1)])]);
    let events: Vec<_> = events.into_iter().map(|(event, _)| event).collect();
    assert_eq!(events, [Kind::StreamPaused, Kind::StreamGoesOn]);
}

#[test]
fn the_streams_own_account_says_how_it_ended() {
    let waits = |now, error: Option<&str>| Waits {
        stream: 1,
        path: "/rips/1.mkv".into(),
        client_pid: None,
        ended_seconds_ago: Some(0),
        error: error.map(Into::into),
        lifetime_ns: 1,
        recent_ns: 1,
        now,
        now_ns: 1,
        parts: vec![],
    };
    for (waits, how, message) in [
        (waits(Cause::Sync, None), Some(How::Finished), "ended, finished: stream 1, /rips/1.mkv"),
        (waits(Cause::Ending, None), Some(How::Aborted), "ended, aborted: stream 1, /rips/1.mkv"),
        (waits(Cause::Call, None), None, "ended: stream 1, /rips/1.mkv"),
        (
            waits(Cause::Ending, Some("gone")),
            Some(How::Failed),
            "ended, failed: stream 1, /rips/1.mkv: gone",
        ),
    ] {
        let mut change = ended(&stream(1));
        change.explain(&waits);
        assert_eq!((change.how, change.message.as_str()), (how, message));
    }
}
