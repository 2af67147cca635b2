//! The text: names, meanings and values. The names are documented in docs/METRICS.md, and stay.

use std::sync::atomic::AtomicU64;

use freemkvd_proto::status::{DaemonState, Device, DeviceState, Status, StreamState};
use freemkvd_proto::waits::Cause;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::{AllTimes, Totals};

type Labels = Vec<(&'static str, String)>;
type Gauges = Family<Labels, Gauge<u64, AtomicU64>>;
type FloatGauges = Family<Labels, Gauge<f64, AtomicU64>>;
type SecondsCounters = Family<Labels, Counter<f64, AtomicU64>>;

/// The whole text, up to and with its end mark.
#[must_use]
pub fn text(status: &Status, totals: &Totals, times: &AllTimes) -> String {
    let mut registry = Registry::with_prefix("freemkvd");
    about_daemon(&mut registry, status);
    about_devices(&mut registry, status);
    about_streams(&mut registry, status, totals);
    about_times(&mut registry, times);
    let mut text = String::new();
    encode(&mut text, &registry).expect("a string takes whatever is written to it");
    text
}

fn about_daemon(registry: &mut Registry, status: &Status) {
    let version = [("version", status.version.clone())];
    registry.register("build", "The daemon's version", Info::new(version));
    let gauge = ConstGauge::new;
    registry.register_with_unit(
        "uptime",
        "How long it has been running",
        Unit::Seconds,
        gauge(status.uptime_seconds),
    );
    let is_draining = gauge(u64::from(status.state == DaemonState::Draining));
    registry.register(
        "draining",
        "1 while it takes no new streams and is about to stop",
        is_draining,
    );
    let budget = &status.budget;
    for (name, help, bytes) in [
        ("budget_limit", "Most bytes that may be dirty or in writeback", budget.limit_bytes),
        ("budget_charged", "Bytes that are dirty or in writeback", budget.charged_bytes),
        ("queue_limit", "Most bytes that may be queued", budget.queue_limit_bytes),
        ("queued", "Bytes accepted from muxers and not yet written", budget.queued_bytes),
    ] {
        registry.register_with_unit(name, help, Unit::Bytes, gauge(bytes));
    }
}

fn about_devices(registry: &mut Registry, status: &Status) {
    for (name, help, of) in [
        (
            "device_limit",
            "Most bytes that may be dirty on the device",
            (|device| device.limit_bytes) as fn(&Device) -> u64,
        ),
        ("device_charged", "Bytes that are dirty or in writeback on the device", |device| {
            device.charged_bytes
        }),
    ] {
        let gauges = Gauges::default();
        for device in &status.devices {
            gauges.get_or_create(&labels(device)).set(of(device));
        }
        registry.register_with_unit(name, help, Unit::Bytes, gauges);
    }
    let (rates, states, waits) = (Gauges::default(), Gauges::default(), FloatGauges::default());
    for device in &status.devices {
        rates.get_or_create(&labels(device)).set(device.rate_bytes_per_second);
        for state in DeviceState::ALL {
            let mut labels = labels(device);
            labels.push(("state", state.name().to_owned()));
            states.get_or_create(&labels).set(u64::from(device.state == state));
        }
        waits.get_or_create(&labels(device)).set(longest_wait(status, device));
    }
    let help = "Bytes that the device gets clean in a second while it has something to do";
    registry.register_with_unit("device_rate", help, Unit::Other("bytes_per_second".into()), rates);
    registry.register("device_state", "1 for the state that the device is in", states);
    let help = "Longest that a stream has been in one system call, throttled or without space now";
    registry.register_with_unit("device_wait", help, Unit::Seconds, waits);
}

fn labels(device: &Device) -> Labels {
    vec![("device", device.id.clone())]
}

/// What a stream waits for its muxer, or for whoever has paused it, is not the device's.
#[expect(clippy::cast_precision_loss, reason = "a year has few milliseconds for an f64")]
fn longest_wait(status: &Status, device: &Device) -> f64 {
    let on_it = status.streams.iter().filter(|stream| {
        stream.device.as_ref() == Some(&device.id)
            && !matches!(stream.state, StreamState::Idle | StreamState::Paused)
    });
    let waits = on_it.filter_map(|stream| stream.waiting_for.as_ref());
    waits.map(|wait| wait.ms).max().unwrap_or(0) as f64 / 1000.0
}

fn about_streams(registry: &mut Registry, status: &Status, totals: &Totals) {
    let states = Gauges::default();
    for state in StreamState::ALL {
        let count = status.streams.iter().filter(|stream| stream.state == state).count();
        states.get_or_create(&vec![("state", state.name().to_owned())]).set(count as u64);
    }
    registry.register("streams", "Streams by what they do, failed ones for a while", states);
    let counter = ConstCounter::new;
    registry.register(
        "streams_opened",
        "Streams that were opened or taken over",
        counter(totals.opened),
    );
    let help = "Streams that failed, lost their muxers or were given up from outside";
    registry.register("streams_failed", help, counter(totals.failed));
    let help = "Content taken from muxers";
    registry.register_with_unit("accepted", help, Unit::Bytes, counter(totals.accepted_bytes));
    let help = "Content seen to reach a device";
    registry.register_with_unit("drained", help, Unit::Bytes, counter(totals.drained_bytes));
    let (all, held) = (SecondsCounters::default(), SecondsCounters::default());
    for (index, cause) in Cause::ALL.into_iter().enumerate() {
        let labels = vec![("cause", cause.name().to_owned())];
        let (time, held_time) = totals.spent[index];
        all.get_or_create(&labels).inc_by(time.as_secs_f64());
        held.get_or_create(&labels).inc_by(held_time.as_secs_f64());
    }
    let help = "Time of all streams by what it went to, as freemkvctl why tells it";
    registry.register_with_unit("stream_time", help, Unit::Seconds, all);
    let help = "As much of that as muxers were held up";
    registry.register_with_unit("stream_held", help, Unit::Seconds, held);
}

fn about_times(registry: &mut Registry, times: &AllTimes) {
    let all = [
        ("write_wait", "How long a piece waited for budget or its turn", &times.write_wait),
        ("write", "How long a call that writes took", &times.write),
        ("completion", "From the start of an extent's writeback to its end", &times.completion),
        ("sync", "How long a sync of a file took", &times.sync),
    ];
    for (name, help, histograms) in all {
        registry.register_with_unit(name, help, Unit::Seconds, histograms.clone());
    }
}
