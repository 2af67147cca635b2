//! What the figures mean. Pure.

use serde::Serialize;

use super::figures::{Figures, Sync};
use crate::units::human;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    /// Worth knowing.
    Note,
    /// It loses data, or ends or ruins rips.
    Trouble,
}

/// A sentence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Verdict {
    pub(super) level: Level,
    pub(super) text: String,
}

/// The fastest Blu-ray drive, 16x.
pub(super) const DRIVE_BYTES_PER_SECOND: u64 = 72_000_000;

/// No device takes more than this: several times the fastest flash.
const DEVICE_BYTES_PER_SECOND_MAX: u64 = 50 << 30;

/// A platter does not come round in this time.
const PLATTER_NS_MIN: u64 = 1_000_000;

/// Less than this is a request for every few pages.
const WSIZE_MIN: u64 = 256 << 10;

/// The drain that the daemon would begin with for a long film.
pub(super) fn drain(figures: &Figures) -> &'static str {
    let place = &figures.place;
    let (is_blind, measured) =
        (place.is_nfs() || place.is_fuse() || place.is_overlay(), &figures.measured);
    if place.is_memory() {
        "none"
    } else if is_blind || !is_trusted(&place.filesystem) && measured.range_cleans != Some(true) {
        "fdatasync"
    } else if measured.dontcache_accepted && measured.dontcache_cleans != Some(false) {
        "dontcache"
    } else if measured.range_cleans == Some(false) {
        "fdatasync"
    } else {
        "sync_file_range"
    }
}

fn is_trusted(filesystem: &str) -> bool {
    matches!(filesystem, "ext2" | "ext3" | "ext4" | "xfs" | "btrfs" | "f2fs")
}

pub(super) fn verdicts(figures: &Figures) -> Vec<Verdict> {
    let mut found = Vec::new();
    let mut say = |level, text: String| found.push(Verdict { level, text });
    nfs(figures, &mut say);
    durability(figures, &mut say);
    speed(figures, &mut say);
    kernel(figures, &mut say);
    found
}

fn nfs(figures: &Figures, say: &mut impl FnMut(Level, String)) {
    let place = &figures.place;
    if !place.is_nfs() {
        return;
    }
    if place.has("soft") || place.has("softerr") {
        say(
            Level::Trouble,
            "the mount option soft ends every rip when the server is away for longer; use hard"
                .into(),
        );
    }
    for word in ["sync", "noac"] {
        if place.has(word) {
            let text = format!(
                "the mount option {word} makes every write wait for the server, and gains nothing here"
            );
            say(Level::Trouble, text);
        }
    }
    let wsize = place.option("wsize").and_then(|size| size.parse().ok());
    if let Some(wsize) = wsize.filter(|wsize| *wsize < WSIZE_MIN) {
        say(
            Level::Trouble,
            format!("wsize is only {}; leave it out, or use 1048576", human(wsize)),
        );
    }
    say(Level::Note, "whether the server has it on its disk when it says so (its export option sync) can't be seen".into());
}

fn durability(figures: &Figures, say: &mut impl FnMut(Level, String)) {
    let (place, device, sync) = (&figures.place, &figures.device, &figures.measured.big_sync);
    if place.is_memory() {
        say(Level::Trouble, "this is memory: nothing here is durable, whatever fsync says".into());
        return;
    }
    if sync.bytes == 0 {
        say(Level::Note, "there was no time left to try what fdatasync does".into());
        return;
    }
    let rate = per_second(sync);
    if rate > DEVICE_BYTES_PER_SECOND_MAX {
        let text = format!(
            "fdatasync of {} came back quicker than any device could be: it does nothing",
            human(sync.bytes)
        );
        say(Level::Trouble, text);
    }
    let compresses = matches!(place.filesystem.as_str(), "btrfs" | "zfs" | "f2fs");
    match (sync.device_written_bytes, sync.device_flushes) {
        (Some(written), _) if written < sync.bytes && !compresses => say(
            Level::Trouble,
            format!(
                "fdatasync of {} came back when the device had been given {}: it can't be trusted",
                human(sync.bytes),
                human(written)
            ),
        ),
        (Some(_), Some(0)) if device.volatile_cache == Some(true) => say(
            Level::Trouble,
            "the device has a volatile cache, and fdatasync did not flush it: a power cut loses what it has said is there".into(),
        ),
        (Some(_), Some(flushes)) if flushes > 0 => say(
            Level::Note,
            "fdatasync gave all of it to the device and flushed its cache; whether the device is honest only a power cut shows".into(),
        ),
        (Some(_), _) => say(
            Level::Note,
            "fdatasync gave all of it to the device; whether the device is honest only a power cut shows".into(),
        ),
        (None, _) => say(
            Level::Note,
            "whether fdatasync reaches a disk can't be seen here: the kernel shows no device whose writes it counts".into(),
        ),
    }
    let commit = figures.measured.commit_ns_median;
    if device.rotational == Some(true) && figures.measured.commits > 0 && commit < PLATTER_NS_MIN {
        say(
            Level::Note,
            "it calls itself a disk that turns and commits quicker than one can: a cache answers, or it is a virtual disk".into(),
        );
    }
}

fn per_second(sync: &Sync) -> u64 {
    let rate = u128::from(sync.bytes) * 1_000_000_000 / u128::from(sync.ns.max(1));
    u64::try_from(rate).unwrap_or(u64::MAX)
}

fn speed(figures: &Figures, say: &mut impl FnMut(Level, String)) {
    let measured = &figures.measured;
    if measured.written_bytes > 0 {
        let rate = measured.write_bytes_per_second;
        let text = match rate / DRIVE_BYTES_PER_SECOND {
            0 => format!("{}/s is less than one Blu-ray drive at full speed brings", human(rate)),
            drives => format!(
                "{}/s is enough for about {drives} Blu-ray drives at full speed",
                human(rate)
            ),
        };
        say(Level::Note, text);
    }
    if measured.range_cleans == Some(false) && !figures.place.is_memory() {
        say(
            Level::Note,
            "starting writeback of a range cleaned nothing here; only fdatasync does".into(),
        );
    }
    if measured.dontcache_cleans == Some(false) && !figures.place.is_memory() {
        say(Level::Note, "RWF_DONTCACHE is taken, and its pages stayed in the cache; the daemon looks for itself".into());
    }
}

fn kernel(figures: &Figures, say: &mut impl FnMut(Level, String)) {
    let kernel = &figures.kernel;
    if let (Some(background), Some(hard)) = (kernel.dirty_background_bytes, kernel.dirty_bytes) {
        let text = format!(
            "the kernel begins to write back by itself at {} dirty bytes of all programs, and stops all writers at {}",
            human(background),
            human(hard)
        );
        say(Level::Note, text);
    }
    if let Some(total) = auto_total(figures) {
        say(Level::Note, format!("budget.total = \"auto\" would be {} here now", human(total)));
    }
}

/// What the daemon makes of `budget.total = "auto"`, without a limit of its control group.
fn auto_total(figures: &Figures) -> Option<u64> {
    let (available, background) =
        (figures.kernel.available_bytes?, figures.kernel.dirty_background_bytes?);
    Some((available / 10).min(background / 10 * 8).clamp(8 << 20, 512 << 20))
}

#[cfg(test)]
mod tests {
    use super::super::figures::{Measured, Place};
    use super::*;

    fn on(filesystem: &str, options: &[&str]) -> Figures {
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let place = Place { filesystem: filesystem.to_owned(), options, ..Place::default() };
        let measured = Measured {
            dontcache_accepted: true,
            dontcache_cleans: Some(true),
            range_cleans: Some(true),
            ..Measured::default()
        };
        Figures { place, device: Default::default(), kernel: Default::default(), measured }
    }

    fn troubles(figures: &Figures) -> Vec<String> {
        let all = verdicts(figures).into_iter().filter(|verdict| verdict.level == Level::Trouble);
        all.map(|verdict| verdict.text).collect()
    }

    #[test]
    fn the_drain_is_the_daemons() {
        for (filesystem, expected) in [
            ("ext4", "dontcache"),
            ("tmpfs", "none"),
            ("nfs4", "fdatasync"),
            ("fuse.mergerfs", "fdatasync"),
            ("overlay", "fdatasync"),
        ] {
            assert_eq!(drain(&on(filesystem, &[])), expected, "{filesystem}");
        }
        let mut old = on("xfs", &[]);
        old.measured.dontcache_accepted = false;
        assert_eq!(drain(&old), "sync_file_range");
        old.measured.range_cleans = Some(false);
        assert_eq!(drain(&old), "fdatasync");
    }

    #[test]
    fn options_of_nfs_that_hurt_are_named() {
        assert_eq!(troubles(&on("nfs4", &["hard", "wsize=1048576"])), [""; 0]);
        let bad = troubles(&on("nfs", &["soft", "sync", "noac", "wsize=32768"]));
        assert_eq!(bad.len(), 4, "{bad:?}");
        assert_eq!(troubles(&on("ext4", &["sync"])), [""; 0]);
    }

    #[test]
    fn a_sync_that_the_device_has_not_seen_is_not_trusted() {
        let mut lies = on("ext4", &[]);
        lies.measured.big_sync = Sync {
            bytes: 64 << 20,
            ns: 50_000_000,
            device_written_bytes: Some(1 << 20),
            device_flushes: Some(1),
        };
        assert!(troubles(&lies)[0].contains("can't be trusted"));
        lies.measured.big_sync.device_written_bytes = Some(64 << 20);
        assert_eq!(troubles(&lies), [""; 0]);
        lies.measured.big_sync.device_flushes = Some(0);
        lies.device.volatile_cache = Some(true);
        assert!(troubles(&lies)[0].contains("volatile cache"));
        lies.measured.big_sync.ns = 1;
        assert!(troubles(&lies)[0].contains("quicker than any device"));
        assert!(troubles(&on("tmpfs", &[]))[0].contains("memory"));
    }
}
