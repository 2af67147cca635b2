//! The lines of devices and streams.

use freemkvd_proto::status::{Device, Stream};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};

use super::{Paint, plain_screen};
use crate::problems::{is_sick, word};
use crate::report::device_state;
use crate::table::{Align, Cell, Column, Table};
use crate::top::model::Model;
use crate::units::{compact, milliseconds};

/// Columns of a curve in a terminal of 80, and the most that it gets in a wider one.
const CURVE_WIDTH_MIN: usize = 6;
const CURVE_WIDTH_MAX: usize = 40;

/// Titles, and a line for each device.
pub(super) fn devices(devices: &[Device], width: usize, paint: Paint) -> Vec<Line<'static>> {
    let mut table = Table::new([
        Column::new("DEVICE", Align::Left, 4),
        Column::new("MOUNT", Align::Flexible, 0),
        Column::new("FS", Align::Left, 3),
        Column::new("STATE", Align::Left, 0),
        Column::new("DRAIN", Align::Left, 0),
        Column::new("DIRTY/LIMIT", Align::Right, 0),
        Column::new("RATE/s", Align::Right, 0),
        Column::new("P95", Align::Right, 2),
    ]);
    for device in devices {
        table.push([
            Cell::new(&device.id),
            Cell::new(device.mount.as_deref().unwrap_or(&device.id)),
            Cell::new(device.filesystem.as_deref().unwrap_or("-")),
            Cell::new(device_state(device)),
            Cell::new(&device.drain),
            Cell::new(of(device.charged_bytes, device.limit_bytes)),
            Cell::new(compact(device.rate_bytes_per_second)),
            Cell::new(milliseconds(device.completion_ms_p95)),
        ]);
    }
    let text = table.render(plain_screen(width), true);
    let style = |place: usize| match devices.get(place) {
        Some(device) if is_sick(device) => paint.trouble(),
        _ => Style::new(),
    };
    styled(&text, style)
}

/// Titles, and as many streams as there is room for; the selected one is among them.
pub(super) fn streams(
    model: &Model,
    width: usize,
    room: usize,
    paint: Paint,
) -> Vec<Line<'static>> {
    let all = model.streams();
    if all.is_empty() {
        return vec![Line::from("no streams")];
    }
    let rows = room.saturating_sub(1).max(1);
    let selected = model.place().unwrap_or(0);
    let first = (selected + 1).saturating_sub(rows);
    let shown = &all[first..all.len().min(first + rows)];
    let text = stream_table(model, shown, width).render(plain_screen(width), true);
    let style = |place: usize| {
        let trouble = shown.get(place).is_some_and(Stream::is_degraded);
        let style = if trouble { paint.trouble() } else { Style::new() };
        let is_selected = first + place == selected;
        if is_selected { style.add_modifier(Modifier::REVERSED) } else { style }
    };
    let text: String = text.lines().map(|line| format!("{line:<width$}\n")).collect();
    styled(&text, style)
}

fn stream_table(model: &Model, shown: &[Stream], width: usize) -> Table<9> {
    let mut table = Table::new([
        Column::new("ID", Align::Right, 0),
        Column::new("FILE", Align::Flexible, 0),
        Column::new("STATE", Align::Left, 0),
        Column::new(" IN/s", Align::Left, 0),
        Column::new("OUT/s", Align::Left, 0),
        Column::new("QUEUE", Align::Right, 0),
        Column::new("DIRTY/WINDOW", Align::Right, 0),
        Column::new("WEIGHT", Align::Right, 1),
        Column::new("WAITS FOR", Align::Left, 2),
    ]);
    let curve_width = (CURVE_WIDTH_MIN + width.saturating_sub(80) / 4).min(CURVE_WIDTH_MAX);
    for stream in shown {
        let [incoming, outgoing] = model.history.curves(stream.id, curve_width);
        let rate = |rate, curve| Cell::new(format!("{:>5} {curve}", compact(rate)));
        let waits_for = stream.waiting_for.as_ref().map_or("", |waiting| &waiting.what);
        table.push([
            Cell::new(stream.id.to_string()),
            Cell::new(&stream.path),
            Cell::new(state(stream)),
            rate(stream.in_bytes_per_second, incoming),
            rate(stream.out_bytes_per_second, outgoing),
            Cell::new(compact(stream.queued_bytes)),
            Cell::new(of(stream.dirty_bytes, stream.window_bytes)),
            Cell::new(stream.weight.to_string()),
            Cell::new(waits_for),
        ]);
    }
    table
}

/// Without its age, which is at the bottom and in what is wrong.
fn state(stream: &Stream) -> String {
    match stream.blocked_in {
        Some(_) if stream.error.is_none() => "stalled".to_owned(),
        _ => word(&stream.state),
    }
}

fn of(part: u64, whole: u64) -> String {
    format!("{}/{}", compact(part), compact(whole))
}

/// `style` is asked for each line below the titles.
fn styled(text: &str, style: impl Fn(usize) -> Style) -> Vec<Line<'static>> {
    let lines = text.lines().enumerate().map(|(place, line)| {
        let style = place.checked_sub(1).map_or_else(Paint::title, &style);
        Line::from(Span::styled(line.to_owned(), style))
    });
    lines.collect()
}
