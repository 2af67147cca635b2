//! In which order streams and devices are shown. Where two are alike, the lower number comes first, so that nothing
//! jumps about.

use std::cmp::Reverse;

use freemkvd_proto::status::{Device, DeviceState, Status, Stream, StreamState};

use crate::problems::is_slow;

/// What streams are sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sort {
    #[default]
    Trouble,
    Number,
    File,
    In,
    Out,
    Queued,
    Dirty,
}

impl Sort {
    /// The one that comes after this, and after the last the first.
    pub(super) fn next(self) -> Self {
        match self {
            Self::Trouble => Self::Number,
            Self::Number => Self::File,
            Self::File => Self::In,
            Self::In => Self::Out,
            Self::Out => Self::Queued,
            Self::Queued => Self::Dirty,
            Self::Dirty => Self::Trouble,
        }
    }

    /// As the end of "sorted by".
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Trouble => "trouble",
            Self::Number => "number",
            Self::File => "file",
            Self::In => "IN/s",
            Self::Out => "OUT/s",
            Self::Queued => "QUEUE",
            Self::Dirty => "DIRTY",
        }
    }
}

/// Puts its streams into this order; sizes and rates have the largest first.
pub(super) fn sort_streams(status: &mut Status, sort: Sort) {
    let (streams, devices) = (&mut status.streams, &status.devices);
    streams.sort_by_key(|stream| stream.id);
    match sort {
        Sort::Number => {}
        Sort::Trouble => streams.sort_by_key(|stream| trouble(stream, devices)),
        Sort::File => streams.sort_by(|one, other| one.path.cmp(&other.path)),
        Sort::In => streams.sort_by_key(|stream| Reverse(stream.in_bytes_per_second)),
        Sort::Out => streams.sort_by_key(|stream| Reverse(stream.out_bytes_per_second)),
        Sort::Queued => streams.sort_by_key(|stream| Reverse(stream.queued_bytes)),
        Sort::Dirty => streams.sort_by_key(|stream| Reverse(stream.dirty_bytes)),
    }
}

/// Puts those that do not answer first.
pub(super) fn sort_devices(devices: &mut [Device]) {
    devices.sort_by_key(|device| match device.state {
        DeviceState::Wedged => 0,
        DeviceState::Suspect => 1,
        DeviceState::Recovering => 2,
        DeviceState::Healthy => 3,
    });
}

/// The worst is the lowest: what is lost, what hangs, whose muxer waits, what waits, what works, what has nothing to do.
fn trouble(stream: &Stream, devices: &[Device]) -> u8 {
    match stream.state {
        StreamState::Failed => 0,
        _ if stream.error.is_some() => 0,
        _ if stream.blocked_in.is_some() => 1,
        StreamState::NoSpace => 2,
        StreamState::Abandoned | StreamState::Suspended => 3,
        _ if is_slow(stream, devices) => 4,
        StreamState::Throttled | StreamState::Paused => 5,
        StreamState::Idle | StreamState::Aborted => 7,
        _ => 6,
    }
}

#[cfg(test)]
mod tests {
    use freemkvd_proto::status::{Held, StreamError};
    use freemkvd_proto::waits::Cause;

    use super::*;
    use crate::top::sample::{device, status, stream};

    fn sorted(streams: &[Stream], sort: Sort) -> Vec<u64> {
        let mut status = status(streams.to_vec());
        sort_streams(&mut status, sort);
        status.streams.iter().map(|stream| stream.id).collect()
    }

    #[test]
    fn what_is_in_trouble_comes_first_and_then_the_lower_number() {
        let in_state = |id, state| Stream { state, ..stream(id) };
        let error = Some(StreamError { errno: None, offset: None, message: "no".into() });
        let held = Some(Held { percent: 50, of_seconds: 40, cause: Cause::DeviceBudget });
        let streams = [
            Stream { held, ..in_state(10, StreamState::Idle) },
            in_state(9, StreamState::Idle),
            in_state(8, StreamState::Writing),
            in_state(7, StreamState::Syncing),
            in_state(6, StreamState::Throttled),
            in_state(5, StreamState::NoSpace),
            Stream { blocked_in: Some("pwrite".into()), ..in_state(4, StreamState::Writing) },
            in_state(3, StreamState::Failed),
            Stream { error, ..in_state(2, StreamState::Aborted) },
            in_state(1, StreamState::Idle),
        ];
        assert_eq!(sorted(&streams, Sort::Trouble), [2, 3, 4, 5, 10, 6, 7, 8, 1, 9]);
        assert_eq!(sorted(&streams, Sort::Number), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    }

    #[test]
    fn columns_have_the_largest_first_and_go_round() {
        let with = |id, queued_bytes| Stream { queued_bytes, ..stream(id) };
        let streams = [with(3, 5), with(2, 9), with(1, 5)];
        assert_eq!(sorted(&streams, Sort::Queued), [2, 1, 3]);
        let mut sort = Sort::default();
        for _ in 0..7 {
            sort = sort.next();
        }
        assert_eq!(sort, Sort::Trouble);
    }

    #[test]
    fn devices_that_do_not_answer_come_first() {
        let mut devices =
            [DeviceState::Healthy, DeviceState::Suspect, DeviceState::Wedged].map(device);
        sort_devices(&mut devices);
        let states = devices.map(|device| device.state);
        assert_eq!(states, [DeviceState::Wedged, DeviceState::Suspect, DeviceState::Healthy]);
    }
}
