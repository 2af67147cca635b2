//! One picture: totals, the budget, what is wrong, devices, streams, and at the bottom what is selected or asked.
//!
//! 1. It fits whatever the terminal's size is; what has no room is counted, or left out from the least important on.
//! 2. Without colour everything is still told, by words, numbers and reversed lines.

mod bar;
mod bottom;
mod tables;

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph};

use self::bar::{Piece, pieces};
use self::bottom::bottom;
use self::tables::{devices, streams};
use super::model::{Model, Why};
use crate::problems::{problems, slow};
use crate::report::totals;
use crate::screen::Screen;
use crate::table::{plain, wrap};
use crate::units::Sizes;
use crate::why::answer;

/// Behind each other; who shares a colour has another number.
const SHARES: [Color; 5] = [Color::Cyan, Color::Green, Color::Yellow, Color::Magenta, Color::Blue];

/// Whether there may be colours, and which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Paint {
    pub(super) colour: bool,
}

impl Paint {
    fn trouble(self) -> Style {
        let style = Style::new().add_modifier(Modifier::BOLD);
        if self.colour { style.fg(Color::Red) } else { style }
    }

    fn title() -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    fn share(self, stream: u64) -> Style {
        let colour = SHARES[usize::try_from(stream % SHARES.len() as u64).unwrap_or(0)];
        if self.colour { Style::new().fg(Color::Black).bg(colour) } else { Style::new() }
    }
}

/// Draws all of it.
pub(super) fn draw(frame: &mut Frame<'_>, model: &Model, paint: Paint) {
    let area = frame.area();
    let (width, height) = (usize::from(area.width), usize::from(area.height));
    let bottom = bottom(model, width, height / 3, paint);
    let room = height.saturating_sub(bottom.len());
    let lines = upper(model, width, room, paint);
    let (upper, lower) = split(area, room);
    frame.render_widget(Paragraph::new(lines), upper);
    frame.render_widget(Paragraph::new(bottom), lower);
    if let Some(pane) = &model.why {
        pane_over(frame, pane, upper);
    }
}

fn split(area: Rect, room: usize) -> (Rect, Rect) {
    let room = u16::try_from(room).unwrap_or(u16::MAX).min(area.height);
    let upper = Rect { height: room, ..area };
    let lower = Rect { y: area.y + room, height: area.height - room, ..area };
    (upper, lower)
}

/// What is above the bottom, in so many lines.
fn upper(model: &Model, width: usize, room: usize, paint: Paint) -> Vec<Line<'static>> {
    let Some(status) = &model.status else {
        let said = model.away.as_ref().map_or_else(
            || "asking freemkvd".to_owned(),
            |why| format!("{}; trying again", plain(why)),
        );
        return wrapped(&said, width, paint.trouble());
    };
    let mut lines: Vec<Line<'static>> =
        totals(status, Sizes::Human).iter().map(|line| Line::from(plain(line))).collect();
    lines.push(budget(model, width, paint));
    let mut below = Vec::new();
    if !status.devices.is_empty() {
        below.push(Line::default());
        below.extend(fitting(devices(&status.devices, width, paint), (room / 4).max(3)));
    }
    let wrong = problems(status);
    let wrong = wrong.iter().flat_map(|problem| wrapped(&plain(problem), width, paint.trouble()));
    let slow = slow(status);
    let slow = slow.iter().flat_map(|slow| wrapped(&plain(slow), width, Style::new()));
    // What everything else leaves, but never nothing. Below there are an empty line and titles as well.
    let others = lines.len() + below.len() + status.streams.len() + 2;
    let wrong_room = room.saturating_sub(others).max(room / 4).max(2);
    lines.extend(fitting(wrong.chain(slow).collect(), wrong_room));
    lines.extend(below);
    lines.push(Line::default());
    let left = room.saturating_sub(lines.len());
    lines.extend(streams(model, width, left, paint));
    lines
}

fn wrapped(text: &str, width: usize, style: Style) -> Vec<Line<'static>> {
    let lines = wrap(text, Some(width)).into_iter();
    lines.map(|line| Line::from(Span::styled(line, style))).collect()
}

/// Rule 1.
fn fitting(mut lines: Vec<Line<'static>>, room: usize) -> Vec<Line<'static>> {
    if lines.len() > room {
        let hidden = lines.len() - room.saturating_sub(1);
        lines.truncate(room.saturating_sub(1));
        lines.push(Line::from(format!("... {hidden} more lines, in `freemkvctl status`")));
    }
    lines
}

fn budget(model: &Model, width: usize, paint: Paint) -> Line<'static> {
    let Some(status) = &model.status else {
        return Line::default();
    };
    let (budget, label) = (&status.budget, "budget [");
    let percent = u128::from(budget.charged_bytes) * 100 / u128::from(budget.limit_bytes.max(1));
    let end = format!("] {percent} %");
    let room = width.saturating_sub(label.len() + "] 100 %".len());
    let mut spans = vec![Span::raw(label)];
    for Piece { stream, text } in pieces(budget, model.streams(), room) {
        let style = stream.map_or_else(Style::new, |stream| paint.share(stream));
        spans.push(Span::styled(text, style));
    }
    spans.push(Span::raw(end));
    Line::from(spans)
}

/// Where the time of a stream went, over everything but the totals.
fn pane_over(frame: &mut Frame<'_>, pane: &Why, upper: Rect) {
    let top = upper.height.min(4);
    let area = Rect { y: upper.y + top, height: upper.height - top, ..upper };
    let block = Block::bordered().title(format!(" why: stream {} ", pane.stream));
    let inner = block.inner(area);
    let text = match &pane.told {
        None => "asking freemkvd".to_owned(),
        Some(Err(why)) => wrap(&plain(why), Some(inner.width.into())).join("\n"),
        Some(Ok(waits)) => answer(waits, plain_screen(inner.width.into()), true),
    };
    frame.render_widget(Clear, area);
    frame.render_widget(Paragraph::new(text).block(block), area);
}

/// Text for here has no colour of its own.
fn plain_screen(width: usize) -> Screen {
    Screen { terminal: true, width: Some(width), height: None, colour: false }
}

#[cfg(test)]
mod tests;
