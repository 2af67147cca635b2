//! `freemkvctl why`: where the time of a stream went, the worst for its muxer first.

use std::path::Path;

use freemkvd_client::control::Control;
use freemkvd_proto::waits::{Cause, Part, Waits};

use crate::cli::WhyOptions;
use crate::exit::{Exit, Failed};
use crate::screen::Screen;
use crate::status::{TIMEOUT, in_json, print};
use crate::table::{Align, Cell, Column, Table, plain, wrap};
use crate::units::{milliseconds, seconds};

/// A part of the time that the muxer was held up that is worth a sentence, in percent.
const WORTH_PERCENT: u64 = 1;

pub(crate) fn run(socket: Option<&Path>, options: &WhyOptions) -> Result<Exit, Failed> {
    let waits = Control::connect(socket, TIMEOUT)?.why(options.stream)?;
    let screen = Screen::of_stdout();
    let text = match options.json {
        true => in_json(&waits, screen.terminal)?,
        false => answer(&waits, screen, !options.no_header),
    };
    print(&text)?;
    Ok(Exit::Fine)
}

/// The whole text, each line with its end.
pub(crate) fn answer(waits: &Waits, screen: Screen, header: bool) -> String {
    let mut text = String::new();
    for line in sentences(waits) {
        for line in wrap(&plain(&line), screen.width) {
            text.push_str(&line);
            text.push('\n');
        }
    }
    text.push('\n');
    text.push_str(&table(waits).render(screen, header));
    text
}

fn sentences(waits: &Waits) -> Vec<String> {
    let pid = waits.client_pid.map(|pid| format!(", muxer {pid}")).unwrap_or_default();
    let mut lines = vec![format!("stream {}: {}{pid}", waits.stream, waits.path)];
    let lifetime = duration(waits.lifetime_ns);
    lines.push(match waits.ended_seconds_ago {
        Some(ago) => format!("it ended {} ago, after {lifetime}", seconds(ago)),
        None => {
            format!("open for {lifetime}; now {}, for {}", words(waits.now), duration(waits.now_ns))
        }
    });
    lines.extend(waits.error.as_ref().map(|error| format!("it failed: {error}")));
    let held_ns = waits.parts.iter().map(|part| part.held_ns).sum();
    let worst = waits.parts.iter().max_by_key(|part| part.held_ns);
    lines.push(match worst {
        Some(worst) if percent(held_ns, waits.lifetime_ns) >= WORTH_PERCENT => format!(
            "its muxer was held up for {} of that ({} %), most of all while the stream was {}",
            duration(held_ns),
            percent(held_ns, waits.lifetime_ns),
            words(worst.cause)
        ),
        _ => "its muxer was not held up: what it takes is its own time, or that of its drive"
            .to_owned(),
    });
    lines
}

fn table(waits: &Waits) -> Table<6> {
    let mut table = Table::new([
        Column::new("THE STREAM WAS", Align::Left, 0),
        Column::new("FOR", Align::Right, 0),
        Column::new("%", Align::Right, 2),
        Column::new("MUXER HELD UP", Align::Right, 0),
        Column::new("LATELY", Align::Right, 1),
        Column::new("HELD UP", Align::Right, 1),
    ]);
    let mut parts: Vec<&Part> = waits.parts.iter().collect();
    parts.sort_by_key(|part| std::cmp::Reverse((part.held_ns, part.ns)));
    let right = |ns| Cell::new(duration(ns));
    for part in &parts {
        table.push([
            Cell::new(words(part.cause)),
            right(part.ns),
            Cell::new(percent(part.ns, waits.lifetime_ns).to_string()),
            right(part.held_ns),
            right(part.recent_ns),
            right(part.recent_held_ns),
        ]);
    }
    let sum = |of: fn(&Part) -> u64| right(parts.iter().map(|part| of(part)).sum());
    table.push([
        Cell::new("in all"),
        right(waits.lifetime_ns),
        Cell::new("100"),
        sum(|part| part.held_ns),
        right(waits.recent_ns),
        sum(|part| part.recent_held_ns),
    ]);
    table
}

/// What a stream was doing, as the end of "it was ...".
pub(crate) fn words(cause: Cause) -> &'static str {
    match cause {
        Cause::Opening => "being opened",
        Cause::Muxer => "waiting for its muxer",
        Cause::Daemon => "at work in the daemon",
        Cause::Turn => "waiting for its turn on the disk",
        Cause::DeviceBudget => "throttled by the budget of its device",
        Cause::TotalBudget => "throttled by the total budget",
        Cause::SickDevice => "waiting for a device that does not answer",
        Cause::Write => "in write calls (copying, kernel throttling)",
        Cause::Writeback => "waiting for writeback to the device",
        Cause::Sync => "making everything durable",
        Cause::Space => "waiting for space",
        Cause::Call => "in other calls of the system",
        Cause::Restart => "waiting for its muxer after a restart",
        Cause::Ending => "coming to its end",
        Cause::Paused => "paused by somebody",
    }
}

fn duration(ns: u64) -> String {
    milliseconds(ns / 1_000_000)
}

fn percent(part: u64, whole: u64) -> u64 {
    let hundredfold = u128::from(part) * 100;
    u64::try_from(hundredfold / u128::from(whole.max(1))).unwrap_or(100)
}
