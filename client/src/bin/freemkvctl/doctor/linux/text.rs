//! The examination as text for people.

use super::figures::{Figures, Measured};
use super::judgement::{Level, Verdict, drain};
use crate::screen::Screen;
use crate::table::{plain, wrap};
use crate::units::human;

pub(super) fn of(figures: &Figures, verdicts: &[Verdict], config: &str, screen: Screen) -> String {
    let mut text = String::new();
    let mut push = |line: &str, trouble: bool| {
        for line in wrap(&plain(line), screen.width) {
            text.push_str(&if trouble { screen.trouble(&line) } else { line });
            text.push('\n');
        }
    };
    for (title, line) in facts(figures) {
        push(&format!("{title:<14}{line}"), false);
    }
    push("", false);
    for verdict in verdicts {
        push(&verdict.text, verdict.level == Level::Trouble);
    }
    text.push_str("\nFor freemkvd's configuration:\n\n");
    text.push_str(config);
    text
}

fn facts(figures: &Figures) -> Vec<(&'static str, String)> {
    let (place, device, measured) = (&figures.place, &figures.device, &figures.measured);
    let tells = |told: Option<bool>, yes: &str, no: &str| match told {
        Some(true) => yes.to_owned(),
        Some(false) => no.to_owned(),
        None => "nobody says".to_owned(),
    };
    let mut facts = vec![
        ("directory", place.name()),
        ("mount", format!("{}: {} from {}", place.mount.display(), place.filesystem, place.source)),
        ("options", place.options.join(",")),
        ("free", human(place.free_bytes)),
        (
            "device",
            if device.names.is_empty() {
                "none that sysfs shows".into()
            } else {
                device.names.join(", ")
            },
        ),
        ("seeks", tells(device.rotational, "yes (rotational)", "no")),
        (
            "its cache",
            tells(device.volatile_cache, "volatile (write back)", "not volatile (write through)"),
        ),
        ("kernel", figures.kernel.release.clone()),
    ];
    let taken = if measured.dontcache_accepted { "taken" } else { "refused" };
    let seen = match (measured.dontcache_accepted, measured.dontcache_cleans) {
        (false, _) => "",
        (_, told) => match told {
            Some(true) => ", and its pages were seen to go",
            Some(false) => ", but its pages stayed",
            None => "; its effect can't be seen here",
        },
    };
    facts.push(("DONTCACHE", format!("{taken}{seen}")));
    facts.push((
        "by range",
        match measured.range_cleans {
            Some(true) => "writeback of a range starts, and cleans (seen with posix_fadvise)",
            Some(false) => "writeback of a range cleans nothing (seen with posix_fadvise)",
            None => "can't be seen here",
        }
        .into(),
    ));
    let drain = drain(figures);
    let derived = match drain {
        "sync_file_range" => "; concluded from that, freemkvd itself tries it with each file",
        _ => "",
    };
    facts.push(("drain", format!("{drain}, as freemkvd would begin with{derived}")));
    facts.extend(times(measured));
    facts
}

fn times(measured: &Measured) -> [(&'static str, String); 4] {
    let sync = &measured.big_sync;
    let tried = |count: u64, text: String| match count {
        0 => "no time was left to try".to_owned(),
        _ => text,
    };
    let writes = format!(
        "{}/s: {} in {} ms, fdatasync included; the longest {} took {} ms",
        human(measured.write_bytes_per_second),
        human(measured.written_bytes),
        measured.write_ns / 1_000_000,
        human(measured.window_bytes),
        measured.window_ns_max / 1_000_000
    );
    let commit = format!(
        "{}, at most {} ({} times)",
        micros(measured.commit_ns_median),
        micros(measured.commit_ns_max),
        measured.commits
    );
    let patch = match &measured.patch {
        Some(patch) => format!(
            "{} into an evicted page, at most {}; {} into one that is there ({} times)",
            micros(patch.evicted_ns_median),
            micros(patch.evicted_ns_max),
            micros(patch.resident_ns_median),
            patch.count
        ),
        None => "no page was seen to be evicted".into(),
    };
    [
        ("writes", tried(measured.written_bytes, writes)),
        ("commit", tried(measured.commits as u64, commit)),
        ("patch", patch),
        ("big sync", tried(sync.bytes, format!("{} in {}", human(sync.bytes), micros(sync.ns)))),
    ]
}

fn micros(ns: u64) -> String {
    match ns / 1000 {
        us @ 0..10_000 => format!("{us} us"),
        us => format!("{} ms", us / 1000),
    }
}
