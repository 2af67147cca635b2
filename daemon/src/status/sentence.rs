//! The status in one line, as `systemctl status` shows it: how much goes on, and then whatever is wrong.

use freemkvd_proto::status::{Budget, Device, DeviceState, Status, Stream, StreamState};

use crate::config::Size;

/// How many streams are told by number; more are counted.
const NAMED_MAX: usize = 4;

/// The whole line.
#[must_use]
pub fn sentence(status: &Status) -> String {
    let open = |stream: &&Stream| stream.state != StreamState::Failed;
    let count = status.streams.iter().filter(open).count();
    let rate: u64 = status.streams.iter().map(|stream| stream.in_bytes_per_second).sum();
    let Budget { limit_bytes, charged_bytes, .. } = status.budget;
    let mut parts = vec![format!(
        "{count} stream{}, {}/s in, {} of {} dirty",
        if count == 1 { "" } else { "s" },
        Size(rate),
        Size(charged_bytes),
        Size(limit_bytes)
    )];
    for (what, is_so) in TROUBLE {
        let those = status.streams.iter().filter(|stream| is_so(stream));
        parts.extend(named(&those.map(|stream| stream.id).collect::<Vec<_>>(), what));
    }
    parts.extend(status.devices.iter().filter_map(silence));
    parts.join(", ")
}

type IsSo = fn(&Stream) -> bool;

/// What may be wrong with a stream, the worst first.
const TROUBLE: [(&str, IsSo); 5] = [
    ("failed", |stream| stream.state == StreamState::Failed),
    ("without space", |stream| stream.state == StreamState::NoSpace),
    ("stalled", |stream| stream.state != StreamState::Failed && stream.blocked_in.is_some()),
    ("abandoned", |stream| stream.state == StreamState::Abandoned),
    ("paused", |stream| stream.paused == Some(true)),
];

fn named(streams: &[u64], what: &str) -> Option<String> {
    let numbers: Vec<_> = streams.iter().map(u64::to_string).collect();
    match streams.len() {
        0 => None,
        1 => Some(format!("stream {} {what}", numbers[0])),
        2..=NAMED_MAX => Some(format!("streams {} {what}", numbers.join(" "))),
        count => Some(format!("{count} streams {what}")),
    }
}

fn silence(device: &Device) -> Option<String> {
    let place = device.mount.as_deref().unwrap_or(&device.id);
    match device.state {
        DeviceState::Healthy | DeviceState::Recovering => None,
        _ => Some(format!("{place} silent for {} s", device.state_seconds)),
    }
}

#[cfg(test)]
mod tests {
    use freemkvd_proto::status::DaemonState;

    use super::*;

    fn stream(id: u64, state: StreamState) -> Stream {
        Stream {
            id,
            client_pid: None,
            client_uid: None,
            path: "/rips/film.mkv".to_owned(),
            device: None,
            state,
            state_seconds: 0,
            blocked_in: None,
            accepted_bytes: 0,
            written_bytes: 0,
            durable_bytes: 0,
            in_bytes_per_second: 1 << 20,
            out_bytes_per_second: 0,
            queued_bytes: 0,
            dirty_bytes: 0,
            window_bytes: 0,
            seeks: 0,
            patches: 0,
            error: None,
            waiting_for: None,
            kernel_dirty_bytes: None,
            drain: None,
            weight: 100,
            shared: false,
            client_user: None,
            paused: Some(false),
            held: None,
        }
    }

    fn said(streams: Vec<Stream>) -> String {
        let budget = Budget {
            limit_bytes: 512 << 20,
            charged_bytes: 3 << 20,
            kernel_dirty_bytes: None,
            queued_bytes: 0,
            queue_limit_bytes: 0,
        };
        sentence(&Status {
            version: String::new(),
            protocol: 0,
            pid: 1,
            uptime_seconds: 0,
            state: DaemonState::Running,
            budget,
            devices: Vec::new(),
            streams,
        })
    }

    #[test]
    fn what_is_wrong_is_told_by_number_and_many_are_counted() {
        let in_state =
            |ids: std::ops::RangeInclusive<u64>, state| ids.map(move |id| stream(id, state));
        assert_eq!(said(vec![]), "0 streams, 0 B/s in, 3.0 MiB of 512.0 MiB dirty");
        assert_eq!(
            said(in_state(1..=1, StreamState::Writing).collect()),
            "1 stream, 1.0 MiB/s in, 3.0 MiB of 512.0 MiB dirty"
        );
        let paused = Stream { paused: Some(true), ..stream(11, StreamState::Throttled) };
        let stalled =
            Stream { blocked_in: Some("pwrite".into()), ..stream(12, StreamState::Writing) };
        let streams = in_state(1..=1, StreamState::Failed)
            .chain(in_state(2..=3, StreamState::Abandoned))
            .chain(in_state(4..=8, StreamState::NoSpace))
            .chain([paused, stalled]);
        assert_eq!(
            said(streams.collect()),
            "9 streams, 10.0 MiB/s in, 3.0 MiB of 512.0 MiB dirty, stream 1 failed, 5 streams without space, \
             stream 12 stalled, streams 2 3 abandoned, stream 11 paused"
        );
    }
}
