//! Values for the configuration, to paste. Pure.

use super::figures::Figures;
use super::judgement::{DRIVE_BYTES_PER_SECOND, drain};
use crate::table::plain_json;
use crate::units::human;

const MIB: u64 = 1 << 20;

/// The default of `stream.queue`, and more than this a pause should not be bridged by memory.
const QUEUE: (u64, u64) = (32 * MIB, 256 * MIB);

pub(super) fn of(figures: &Figures) -> String {
    let (place, device, measured) = (&figures.place, &figures.device, &figures.measured);
    let Some(root) = place.directory.to_str().and_then(quoted) else {
        return "# The name of this directory is no text: it can't be a root.\n".to_owned();
    };
    let mut text = format!("[daemon]\nroots = [{root}]\n\n[root.{root}]\n");
    text.push_str(&format!("drain = \"auto\"  # {} here\n", drain(figures)));
    if device.rotational.is_none() && !place.is_memory() {
        text.push_str("# rotational = false  # nobody says; if what is below does not seek\n");
    }
    let queue = queue_bytes(measured.window_ns_max);
    text.push_str("\n[budget]\ntotal = \"auto\"\n\n[stream]\n");
    text.push_str(&format!("queue = \"{}MiB\"", queue / MIB));
    text.push_str(&match measured.written_bytes {
        0 => "\n".to_owned(),
        _ => format!("  # the longest pause here was {} ms\n", measured.window_ns_max / 1_000_000),
    });
    let patch = measured.patch.as_ref().filter(|patch| patch.evicted_ns_median > 0);
    text.push_str("window = \"64MiB\"");
    if let Some(patch) = patch {
        let micros = patch.evicted_ns_median / 1000;
        text.push_str(&format!("  # a patch behind it costs {micros} us here"));
    }
    text.push_str(&format!("\n# {} were free\n", human(place.free_bytes)));
    text
}

/// As much as the fastest drive brings in the longest pause, and once more.
fn queue_bytes(pause_ns: u64) -> u64 {
    let brings = u128::from(pause_ns) * u128::from(DRIVE_BYTES_PER_SECOND) / 500_000_000;
    let brings = u64::try_from(brings).unwrap_or(QUEUE.1).min(QUEUE.1);
    brings.next_power_of_two().clamp(QUEUE.0, QUEUE.1)
}

/// A string of TOML, which is one of JSON but for a character that JSON leaves as it is.
fn quoted(text: &str) -> Option<String> {
    Some(plain_json(serde_json::to_string(text).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_bridges_the_longest_pause_within_bounds() {
        assert_eq!(queue_bytes(0), 32 * MIB);
        assert_eq!(queue_bytes(500_000_000), 128 * MIB);
        assert_eq!(queue_bytes(u64::MAX), 256 * MIB);
    }

    #[test]
    fn names_are_quoted() {
        assert_eq!(quoted("/a \"b\"\u{7f}\u{9b}m").unwrap(), r#""/a \"b\"\u007f\u009bm""#);
    }
}
