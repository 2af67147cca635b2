//! Whether the daemon writes where the trial would: each would get half of the device, and streams can stand still
//! meanwhile.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use freemkvd_client::control::Control;
use freemkvd_proto::status::{Status, Stream, StreamState};
use rustix::fs::{major, minor};

use super::figures::Place;
use crate::problems::name;

/// The daemon answers from memory. One that does not is no reason to wait, nor is one that nobody may ask.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Refuses what would be in the way of streams.
///
/// # Errors
/// A sentence that names them.
pub(super) fn idle(socket: Option<&Path>, place: &Place) -> Result<(), String> {
    let asked = Control::connect(socket, TIMEOUT).and_then(|mut control| control.status());
    let (Ok(status), Ok(found)) = (asked, place.directory.metadata()) else {
        return Ok(());
    };
    let number = format!("{}:{}", major(found.dev()), minor(found.dev()));
    let streams: Vec<String> = on(&status, &number, place).into_iter().map(name).collect();
    if streams.is_empty() {
        return Ok(());
    }
    Err(format!(
        "freemkvd is writing to the device of {} ({}): the trial would hold that up, and measure only what it leaves; wait \
         for the end of that, or have it all the same with --busy",
        place.name(),
        streams.join("; ")
    ))
}

/// The streams that are written to this place. A mount of btrfs has a number that its files do not have.
fn on<'a>(status: &'a Status, number: &str, place: &Place) -> Vec<&'a Stream> {
    let is_it = |id: &str| {
        let is_mount = |mount: &String| Path::new(mount) == place.mount;
        let device = status.devices.iter().find(|device| device.id == id);
        let is_there = device.and_then(|device| device.mount.as_ref()).is_some_and(is_mount);
        id == number || id == place.number || is_there
    };
    let streams = status.streams.iter().filter(|stream| is_written(stream));
    streams.filter(|stream| stream.device.as_deref().is_some_and(is_it)).collect()
}

/// What is over stays in the report for a while.
fn is_written(stream: &Stream) -> bool {
    let is_over = match stream.state {
        StreamState::Failed | StreamState::Aborted => true,
        StreamState::Abandoned => stream.durable_bytes >= stream.accepted_bytes,
        _ => stream.error.is_some(),
    };
    // Its thread may hang in a call that writes.
    !is_over || stream.blocked_in.is_some()
}

#[cfg(test)]
mod tests {
    use freemkvd_proto::status::DeviceState;

    use super::*;
    use crate::top::sample::{device, status, stream};

    fn found(status: &Status, number: &str, mount: &str, of_mount: &str) -> Vec<u64> {
        let place = Place { mount: mount.into(), number: of_mount.to_owned(), ..Place::default() };
        on(status, number, &place).into_iter().map(|stream| stream.id).collect()
    }

    #[test]
    fn streams_are_found_by_the_number_of_the_device_or_of_its_mount_or_by_its_place() {
        let elsewhere = Stream { device: Some("0:52".into()), ..stream(2) };
        let status = status(vec![stream(1), elsewhere, Stream { device: None, ..stream(3) }]);
        assert_eq!(found(&status, "8:17", "/x", "8:17"), [1]);
        assert_eq!(found(&status, "0:40", "/x", "8:17"), [1]);
        assert_eq!(found(&status, "0:40", "/rips", "0:39"), [1]);
        assert_eq!(found(&status, "0:52", "/x", ""), [2]);
        assert_eq!(found(&status, "0:40", "/x", ""), [0; 0]);
    }

    #[test]
    fn what_is_over_is_in_nobodys_way_unless_it_hangs() {
        let in_state = |id, state, durable_bytes| {
            let accepted_bytes = 10;
            Stream { state, accepted_bytes, durable_bytes, ..stream(id) }
        };
        let hangs =
            Stream { blocked_in: Some("pwrite".into()), ..in_state(4, StreamState::Aborted, 0) };
        let status = Status {
            devices: vec![device(DeviceState::Healthy)],
            ..status(vec![
                in_state(1, StreamState::Failed, 0),
                in_state(2, StreamState::Abandoned, 10),
                in_state(3, StreamState::Abandoned, 9),
                hangs,
                in_state(5, StreamState::Suspended, 0),
            ])
        };
        assert_eq!(found(&status, "8:17", "/x", ""), [3, 4, 5]);
    }
}
