//! The status as text for people: totals, then what is wrong in words, then devices and streams.
//! Only words come from here; whoever calls prints them.

use freemkvd_proto::status::{Device, Status, Stream, StreamState};

use crate::problems::{is_sick, problems, slow, word};
use crate::screen::Screen;
use crate::table::{Align, Cell, Column, Table, plain, wrap};
use crate::units::{Sizes, milliseconds, seconds};

/// How the text is to look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look<'a> {
    pub(crate) screen: Screen,
    pub(crate) sizes: Sizes,
    /// Titles above the columns.
    pub(crate) header: bool,
    /// Of the streams these columns, and nothing else.
    pub(crate) columns: Option<&'a [StreamColumn]>,
}

/// The whole text, each line with its end.
pub(crate) fn report(status: &Status, look: Look<'_>) -> String {
    if look.columns.is_some() {
        return streams(&status.streams, look);
    }
    let mut text = String::new();
    let totals = totals(status, look.sizes);
    let line = totals.join("; ");
    // Where that is too long, it is not broken at just any word.
    let is_short = look.screen.width.is_none_or(|width| line.len() <= width);
    for line in if is_short { vec![line] } else { totals.to_vec() } {
        push_line(&mut text, &line, look.screen, false);
    }
    let (problems, slow) = (problems(status), slow(status));
    if !problems.is_empty() || !slow.is_empty() {
        text.push('\n');
    }
    for problem in problems {
        push_line(&mut text, &problem, look.screen, true);
    }
    for slow in slow {
        push_line(&mut text, &slow, look.screen, false);
    }
    if !status.devices.is_empty() {
        text.push('\n');
        text.push_str(&devices(&status.devices, look));
    }
    if !status.streams.is_empty() {
        text.push('\n');
        text.push_str(&streams(&status.streams, look));
    }
    text
}

fn push_line(text: &mut String, line: &str, screen: Screen, trouble: bool) {
    for line in wrap(&plain(line), screen.width) {
        text.push_str(&match trouble {
            true => screen.trouble(&line),
            false => line,
        });
        text.push('\n');
    }
}

pub(crate) fn totals(status: &Status, sizes: Sizes) -> [String; 3] {
    let budget = &status.budget;
    let size = |bytes| sizes.bytes_in_words(bytes);
    let sum = |rate: fn(&Stream) -> u64| size(status.streams.iter().map(rate).sum());
    let count = match status.streams.len() {
        0 => "no streams".to_owned(),
        1 => "1 stream".to_owned(),
        count => format!("{count} streams"),
    };
    let kernel = match budget.kernel_dirty_bytes {
        Some(bytes) => format!(" (kernel: {})", size(bytes)),
        None => String::new(),
    };
    [
        format!(
            "freemkvd {} {} for {}, pid {}",
            status.version,
            word(&status.state),
            seconds(status.uptime_seconds),
            status.pid
        ),
        format!(
            "{count}: in {}/s from muxers, out {}/s to devices",
            sum(|stream| stream.in_bytes_per_second),
            sum(|stream| stream.out_bytes_per_second)
        ),
        format!(
            "dirty {} of {}{kernel}, queued {} of {}",
            size(budget.charged_bytes),
            size(budget.limit_bytes),
            size(budget.queued_bytes),
            size(budget.queue_limit_bytes)
        ),
    ]
}

fn devices(devices: &[Device], look: Look<'_>) -> String {
    let size = |bytes| Cell::new(look.sizes.bytes(bytes));
    let mut table = Table::new([
        Column::new("DEVICE", Align::Left, 3),
        Column::new("MOUNT", Align::Flexible, 0),
        Column::new("FS", Align::Left, 1),
        Column::new("STATE", Align::Left, 0),
        Column::new("DRAIN", Align::Left, 4),
        Column::new("DIRTY", Align::Right, 0),
        Column::new("KERNEL", Align::Right, 2),
        Column::new("LIMIT", Align::Right, 0),
        Column::new("RATE/s", Align::Right, 0),
        Column::new("P95", Align::Right, 2),
    ]);
    for device in devices {
        table.push([
            Cell::new(&device.id),
            Cell::new(device.mount.as_deref().unwrap_or("-")),
            Cell::new(device.filesystem.as_deref().unwrap_or("-")),
            Cell::new(device_state(device)).with_trouble(is_sick(device)),
            Cell::new(&device.drain),
            size(device.charged_bytes),
            device.kernel_dirty_bytes.map_or_else(|| Cell::new("-"), size),
            size(device.limit_bytes),
            size(device.rate_bytes_per_second),
            Cell::new(milliseconds(device.completion_ms_p95)),
        ]);
    }
    table.render(look.screen, look.header)
}

/// A column of the streams, by its place in the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StreamColumn(usize);

/// The first of them are those that are shown when nobody asks for others.
const SHOWN: usize = 13;
const STREAM_COLUMNS: [Column; 20] = [
    Column::new("ID", Align::Right, 0),
    Column::new("FILE", Align::Flexible, 0),
    Column::new("PID", Align::Right, 3),
    Column::new("USER", Align::Left, 7),
    Column::new("STATE", Align::Left, 0),
    Column::new("IN/s", Align::Right, 0),
    Column::new("OUT/s", Align::Right, 0),
    Column::new("ACCEPTED", Align::Right, 1),
    Column::new("WRITTEN", Align::Right, 4),
    Column::new("DURABLE", Align::Right, 0),
    Column::new("QUEUED", Align::Right, 5),
    Column::new("DIRTY", Align::Right, 2),
    Column::new("WAITS FOR", Align::Left, 6),
    Column::new("DEVICE", Align::Left, 0),
    Column::new("DRAIN", Align::Left, 0),
    Column::new("WEIGHT", Align::Right, 0),
    Column::new("WINDOW", Align::Right, 0),
    Column::new("KERNEL", Align::Right, 0),
    Column::new("SEEKS", Align::Right, 0),
    Column::new("PATCHES", Align::Right, 0),
];

impl StreamColumn {
    /// The column of this name: the first word of its title, in small letters or not.
    pub(crate) fn of(text: &str) -> Result<Self, String> {
        let place = STREAM_COLUMNS.iter().position(|column| name_of(column) == text.to_lowercase());
        place.map(Self).ok_or_else(|| {
            let names: Vec<_> = Self::names().collect();
            format!("the columns are {}", names.join(","))
        })
    }

    /// What they are all called.
    pub(crate) fn names() -> impl Iterator<Item = String> {
        STREAM_COLUMNS.iter().map(name_of)
    }
}

fn name_of(column: &Column) -> String {
    let title = column.title.split([' ', '/']).next().unwrap_or_default();
    title.to_lowercase()
}

fn streams(streams: &[Stream], look: Look<'_>) -> String {
    let size = |bytes| Cell::new(look.sizes.bytes(bytes));
    let number = |number: u64| Cell::new(number.to_string());
    let text = |text: &Option<String>| Cell::new(text.as_deref().unwrap_or("-"));
    let mut table = Table::new(STREAM_COLUMNS);
    match look.columns {
        Some(columns) => table.only(columns.iter().map(|column| column.0).collect()),
        None => table.hide_after(SHOWN),
    }
    for stream in streams {
        let pid = stream.client_pid.map(|pid| pid.to_string());
        table.push([
            Cell::new(stream.id.to_string()),
            Cell::new(&stream.path),
            Cell::new(pid.unwrap_or_else(|| "-".to_owned())),
            Cell::new(user(stream)),
            Cell::new(state(stream)).with_trouble(stream.is_degraded()),
            size(stream.in_bytes_per_second),
            size(stream.out_bytes_per_second),
            size(stream.accepted_bytes),
            size(stream.written_bytes),
            size(stream.durable_bytes),
            size(stream.queued_bytes),
            size(stream.dirty_bytes),
            Cell::new(waits_for(stream)),
            text(&stream.device),
            text(&stream.drain),
            number(stream.weight.into()),
            size(stream.window_bytes),
            stream.kernel_dirty_bytes.map_or_else(|| Cell::new("-"), size),
            number(stream.seeks),
            number(stream.patches),
        ]);
    }
    table.render(look.screen, look.header)
}

pub(crate) fn device_state(device: &Device) -> String {
    let state = word(&device.state);
    match is_sick(device) {
        true => format!("{state} {}", seconds(device.state_seconds)),
        false => state,
    }
}

/// Whose muxer it is: by name where the platform has names.
fn user(stream: &Stream) -> String {
    let number = || stream.client_uid.map(|uid| uid.to_string());
    stream.client_user.clone().or_else(number).unwrap_or_else(|| "-".to_owned())
}

pub(crate) fn waits_for(stream: &Stream) -> String {
    let waiting = stream.waiting_for.as_ref();
    waiting.map_or_else(String::new, |waiting| {
        format!("{} {}", waiting.what, milliseconds(waiting.ms))
    })
}

/// The state, and its age where somebody waits for its end.
pub(crate) fn state(stream: &Stream) -> String {
    let age = seconds(stream.state_seconds);
    let state = word(&stream.state);
    match stream.state {
        StreamState::Aborted if stream.blocked_in.is_some() => format!("{state} {age}"),
        _ if stream.blocked_in.is_some() => format!("stalled {age}"),
        StreamState::Writing | StreamState::Failed | StreamState::Aborted => state,
        _ if stream.state_seconds == 0 => state,
        _ => format!("{state} {age}"),
    }
}
