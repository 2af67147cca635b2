//! What is wrong, in words: one sentence for each stream or device that somebody should look at. Every subcommand
//! says it like this.

use freemkvd_proto::status::{Device, DeviceState, Status, Stream, StreamState};
use freemkvd_proto::waits::Cause;
use serde::Serialize;
use serde_json::Value;

use crate::report::state;
use crate::units::{Sizes, seconds};
use crate::why::words;

/// What somebody should look at, worst first: lost data, then what hangs, then who is gone, and what stands still
/// because somebody wanted it to.
pub(crate) fn problems(status: &Status) -> Vec<String> {
    let streams = || status.streams.iter();
    let failed = streams().filter_map(failure);
    let no_space = streams().filter_map(no_space);
    let stalled = streams().filter_map(|stream| stalled(stream, &status.devices));
    let sick = status.devices.iter().filter_map(sickness);
    let abandoned = streams().filter_map(abandonment);
    let paused = streams().filter_map(pause);
    failed.chain(no_space).chain(stalled).chain(sick).chain(abandoned).chain(paused).collect()
}

/// It has failed, or was given up and is still there.
pub(crate) fn failure(stream: &Stream) -> Option<String> {
    let Some(error) = &stream.error else {
        let failed = stream.state == StreamState::Failed;
        return failed.then(|| format!("failed: {}", name(stream)));
    };
    let details = match (error.errno, error.offset) {
        // The daemon's sentence has them already.
        _ if error.message.contains("(os error") => String::new(),
        (Some(errno), Some(offset)) => format!(" (errno {errno} at byte {offset})"),
        (Some(errno), None) => format!(" (errno {errno})"),
        (None, Some(offset)) => format!(" (at byte {offset})"),
        (None, None) => String::new(),
    };
    let (name, message) = (name(stream), &error.message);
    let end = if stream.state == StreamState::Aborted { "aborted" } else { "failed" };
    let hangs = stream.blocked_in.as_deref().map_or_else(String::new, |call| {
        let age = seconds(stream.state_seconds);
        format!("; its thread has been in {call} for {age} and keeps the file until that returns")
    });
    Some(format!("{end}: {name}: {message}{details}{hangs}"))
}

/// It waits for space.
pub(crate) fn no_space(stream: &Stream) -> Option<String> {
    (stream.state == StreamState::NoSpace).then(|| {
        let what = stream.waiting_for.as_ref().map_or("space", |waiting| waiting.what.as_str());
        let age = seconds(stream.state_seconds);
        format!("waiting for {what}, for {age} so far: {}", name(stream))
    })
}

/// Its thread is in a call that does not return. What hangs of a stream that is over is said with its end.
pub(crate) fn stalled(stream: &Stream, devices: &[Device]) -> Option<String> {
    let call = stream.blocked_in.as_deref().filter(|_| stream.error.is_none())?;
    let age = seconds(stream.state_seconds);
    let place = place(stream, call, devices);
    Some(format!("stalled in {call} for {age}{place}: {}", name(stream)))
}

/// It does not answer as it should.
pub(crate) fn sickness(device: &Device) -> Option<String> {
    is_sick(device).then(|| {
        let (state, age) = (word(&device.state), seconds(device.state_seconds));
        let left = Sizes::Human.bytes(device.charged_bytes);
        let id = &device.id;
        let place = match (&device.mount, &device.filesystem) {
            (Some(mount), Some(filesystem)) => format!("{mount} ({filesystem})"),
            (Some(place), None) | (None, Some(place)) => place.clone(),
            (None, None) => "it".to_owned(),
        };
        format!("device {id} has been {state} for {age}: {place} has {left} to write back")
    })
}

/// Its muxer went away.
pub(crate) fn abandonment(stream: &Stream) -> Option<String> {
    (stream.state == StreamState::Abandoned).then(|| {
        format!(
            "abandoned for {}, its muxer is gone; {}: {}",
            seconds(stream.state_seconds),
            match stream.durable_bytes < stream.accepted_bytes {
                true => "what it had handed over is being written",
                false => "what it had handed over is on disk",
            },
            name(stream)
        )
    })
}

/// Somebody has paused it, and may have forgotten that.
pub(crate) fn pause(stream: &Stream) -> Option<String> {
    let (id, name) = (stream.id, name(stream));
    match (stream.state, is_paused(stream)) {
        (StreamState::Paused, _) => {
            let age = seconds(stream.state_seconds);
            Some(format!("paused for {age} (freemkvctl resume {id} has it go on): {name}"))
        }
        (StreamState::Failed | StreamState::Aborted | StreamState::Abandoned, _) => None,
        (_, true) => {
            let state = state(stream);
            Some(format!(
                "paused, but still {state} (freemkvctl resume {id} takes it back): {name}"
            ))
        }
        _ => None,
    }
}

/// Whether somebody has paused it, also if it does not stand still yet.
pub(crate) fn is_paused(stream: &Stream) -> bool {
    // Daemons that do not tell show it by the state alone.
    stream.paused.unwrap_or(stream.state == StreamState::Paused)
}

/// From when on it is worth a line that a muxer was held up, in percent of the time.
const HELD_PERCENT: u8 = 50;

/// What is slow without being wrong.
pub(crate) fn slow(status: &Status) -> Vec<String> {
    let streams = status.streams.iter().filter(|stream| is_slow(stream, &status.devices));
    streams.filter_map(|stream| slowness(stream, &status.devices)).collect()
}

/// Its muxer hands over less than it could, and nothing else is said of it or of its device.
pub(crate) fn is_slow(stream: &Stream, devices: &[Device]) -> bool {
    let is_its = |device: &Device| Some(&device.id) == stream.device.as_ref();
    let is_said = devices.iter().any(|device| is_its(device) && is_sick(device))
        || stream.is_degraded()
        || is_paused(stream)
        || stream.state == StreamState::Suspended;
    // What is over, or was said while it was so.
    let passes = [Cause::Paused, Cause::Space, Cause::Restart, Cause::SickDevice, Cause::Ending];
    let is_held = stream.held.is_some_and(|held| {
        held.percent >= HELD_PERCENT && held.cause != Cause::Muxer && !passes.contains(&held.cause)
    });
    is_held && !is_said
}

/// How much its muxer was held up. The name comes first: it is what people look for in several lines of this kind.
pub(crate) fn slowness(stream: &Stream, devices: &[Device]) -> Option<String> {
    let held = stream.held?;
    let device = devices.iter().find(|device| Some(&device.id) == stream.device.as_ref());
    let pace = device.filter(|device| device.rate_bytes_per_second > 0).map_or_else(
        String::new,
        |device| {
            let place = device.mount.as_ref().unwrap_or(&device.id);
            format!("; {place} gets {}/s done", Sizes::Human.bytes(device.rate_bytes_per_second))
        },
    );
    let (percent, time) = (held.percent, seconds(held.of_seconds));
    let (id, name, cause) = (stream.id, name(stream), words(held.cause));
    Some(format!(
        "slow: {name}: its muxer was held up for {percent} % of the last {time}, most of all while the stream was \
         {cause}{pace} (freemkvctl why {id})"
    ))
}

/// What a stream is called in a sentence.
pub(crate) fn name(stream: &Stream) -> String {
    format!("stream {}, {}", stream.id, stream.path)
}

/// Whether somebody should look at it.
pub(crate) fn is_sick(device: &Device) -> bool {
    device.state != DeviceState::Healthy
}

/// Where `call` hangs. What the daemon says it waits for has the best name of the place, as that of a
/// server's export.
fn place(stream: &Stream, call: &str, devices: &[Device]) -> String {
    let what = stream.waiting_for.as_ref().and_then(|waiting| waiting.what.strip_prefix(call));
    if let Some(place) = what {
        return place.to_owned();
    }
    let Some(id) = &stream.device else { return String::new() };
    match devices.iter().find(|device| device.id == *id).and_then(|device| device.mount.as_ref()) {
        Some(mount) => format!(" on {mount}"),
        None => format!(" on device {id}"),
    }
}

/// The word that `--json` has for a state, so that there is one name for it everywhere.
pub(crate) fn word(state: &impl Serialize) -> String {
    match serde_json::to_value(state) {
        Ok(Value::String(word)) => word,
        _ => "?".to_owned(),
    }
}
