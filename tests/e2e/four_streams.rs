//! Four rips at once, and what status says about them meanwhile.

use std::collections::BTreeMap;
use std::process::Child;

use freemkvd_proto::status::{DeviceState, Status};
use freemkvd_tests::daemon::{Daemon, wait_until};

use crate::support::{MIB, Way, muxer, scratch, write_pattern};

/// What was ever seen of one stream.
#[derive(Default)]
struct Seen {
    fastest_in: u64,
    fastest_out: u64,
    written_bytes: u64,
    pid: Option<u32>,
}

/// What has to hold in every report.
fn assert_plausible(status: &Status) {
    let budget = &status.budget;
    assert!(budget.charged_bytes <= budget.limit_bytes, "{budget:?}");
    let queued: u64 = status.streams.iter().map(|stream| stream.queued_bytes).sum();
    assert_eq!(budget.queued_bytes, queued);
    assert!(queued <= budget.queue_limit_bytes);
    for stream in &status.streams {
        assert!(stream.accepted_bytes >= stream.written_bytes, "{stream:?}");
        assert!(stream.written_bytes >= stream.durable_bytes, "{stream:?}");
        let queued = stream.accepted_bytes - stream.written_bytes;
        assert_eq!(stream.queued_bytes, queued, "{stream:?}");
        if stream.accepted_bytes > 0 && stream.durable_bytes < stream.accepted_bytes {
            assert_eq!(stream.window_bytes, 64 * MIB, "{stream:?}");
        }
        assert_eq!(stream.error, None);
    }
    for device in &status.devices {
        assert_eq!(device.state, DeviceState::Healthy, "{device:?}");
        assert!(device.filesystem.is_some() && device.mount.is_some());
        // None for a moment, while the first stream begins or the last one ends.
        let known = ["sync_file_range", "fdatasync", "none", ""];
        assert!(known.contains(&device.drain.as_str()), "{device:?}");
    }
}

fn all_succeeded(muxers: &mut [Child]) -> bool {
    muxers.iter_mut().all(|muxer| match muxer.try_wait() {
        Ok(Some(status)) => {
            assert!(status.success(), "a muxer failed: {status}");
            true
        }
        _ => false,
    })
}

#[test]
fn four_streams_verify_and_status_shows_plausible_numbers_meanwhile() {
    four_streams_verify(Way::Shared);
}

#[test]
fn four_streams_verify_inline_too() {
    four_streams_verify(Way::Inline);
}

fn four_streams_verify(way: Way) {
    let root = scratch();
    // A budget that makes them wait for the disk now and then, or a short rip is over before.
    let daemon = Daemon::start(root.path(), "[budget]\ntotal = \"16MiB\"\n");
    let start = |(trace, seconds, speed): (&str, f64, f64)| {
        muxer(&daemon, trace, seconds, &root.path().join(trace))
            .args(["--speed", &speed.to_string(), "--verify", "--sync"])
            .args(way.argument())
            .spawn()
            .unwrap()
    };
    // Each is more than a client holds back for patches.
    let traces = [("uhd", 8.0, 2.0), ("bd", 20.0, 5.0), ("m2ts", 6.0, 2.0), ("sweep", 6.0, 2.0)];
    let mut muxers = traces.map(start);
    let mut seen = BTreeMap::<String, Seen>::new();
    let mut device_rate = 0;
    let ended = wait_until(|| {
        let status = daemon.status();
        assert_plausible(&status);
        for stream in &status.streams {
            assert_eq!(stream.shared, way == Way::Shared);
            let seen = seen.entry(stream.path.clone()).or_default();
            seen.fastest_in = seen.fastest_in.max(stream.in_bytes_per_second);
            seen.fastest_out = seen.fastest_out.max(stream.out_bytes_per_second);
            seen.written_bytes = seen.written_bytes.max(stream.written_bytes);
            seen.pid = stream.client_pid;
        }
        let rates = status.devices.iter().map(|device| device.rate_bytes_per_second);
        device_rate = device_rate.max(rates.max().unwrap_or(0));
        all_succeeded(&mut muxers)
    });
    assert!(ended, "the muxers hang; log:\n{}", daemon.log());
    assert!(device_rate > MIB, "{device_rate} bytes per second");
    for ((trace, ..), muxer) in traces.iter().zip(&muxers) {
        let seen = &seen[root.path().join(trace).to_str().unwrap()];
        assert!(seen.fastest_in > MIB, "{trace} in: {}", seen.fastest_in);
        assert!(seen.fastest_out > MIB, "{trace} out: {}", seen.fastest_out);
        assert!(seen.written_bytes > MIB);
        assert_eq!(seen.pid, Some(muxer.id()));
    }
    let end = daemon.wait_for("an idle daemon", |status| {
        status.streams.is_empty() && status.devices.is_empty()
    });
    assert_eq!((end.budget.charged_bytes, end.budget.queued_bytes), (0, 0));
    assert!(!end.is_degraded());
}

#[test]
fn the_smallest_budget_holds_in_every_report() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "[budget]\ntotal = \"8MiB\"\n");
    let mut charged_most = 0;
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|number| {
                let mut file = daemon.options().create(root.path().join(number.to_string()));
                scope.spawn(move || {
                    let file = file.as_mut().unwrap();
                    write_pattern(file, number, 0, 48 * MIB).unwrap();
                    file.sync_all().unwrap();
                })
            })
            .collect();
        assert!(wait_until(|| {
            let budget = daemon.status().budget;
            assert_eq!(budget.limit_bytes, 8 * MIB);
            assert!(budget.charged_bytes <= budget.limit_bytes, "{budget:?}");
            charged_most = charged_most.max(budget.charged_bytes);
            writers.iter().all(|writer| writer.is_finished())
        }));
    });
    assert!(charged_most > 0, "nothing was ever charged");
    let end = daemon.wait_for("no charges", |status| status.budget.charged_bytes == 0);
    assert_eq!(end.budget.charged_bytes, 0);
}
