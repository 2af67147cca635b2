//! The lowest lines: the selected stream in full, and below it a question, what came of the last one, or the keys.

use freemkvd_proto::status::{Stream, StreamState};
use ratatui::style::Style;
use ratatui::text::Line;

use super::{Paint, wrapped};
use crate::problems::{is_paused, name};
use crate::report::{state, waits_for};
use crate::table::plain;
use crate::top::model::Model;
use crate::units::seconds;

const KEYS: &str = "j/k select  Enter why  a abort  p pause  +/- weight  s sort  ? help  q quit";

const HELP: &str = "The budget's bar has the streams by number; - is granted to writes that come next. \
    Curves are of the last reports, IN/s and OUT/s of a stream to one scale. DIRTY/WINDOW: written and not \
    yet on the device, and the newest bytes that stay in memory.";

/// All of them, in so many lines at most; one there always is.
pub(super) fn bottom(model: &Model, width: usize, room: usize, paint: Paint) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    if model.has_help {
        lines.extend(wrapped(HELP, width, Style::new()));
    }
    if let Some(stream) = model.stream().filter(|_| model.why.is_none()) {
        lines.extend(wrapped(&plain(&about(stream)), width, Style::new()));
    }
    lines.truncate(room.saturating_sub(1));
    lines.push(last(model, paint));
    lines
}

fn about(stream: &Stream) -> String {
    let pid = stream.client_pid.map(|pid| format!(", muxer {pid}")).unwrap_or_default();
    let waits = match waits_for(stream) {
        waits if waits.is_empty() => waits,
        waits => format!(", waits for {waits}"),
    };
    let (name, weight, state) = (name(stream), stream.weight, state(stream));
    let paused = match is_paused(stream) && stream.state != StreamState::Paused {
        true => ", is to be paused",
        false => "",
    };
    let held = stream.held.map_or_else(String::new, |held| {
        format!(", muxer held up {} % of the last {}", held.percent, seconds(held.of_seconds))
    });
    format!("{name}: {state}{paused}{waits}{held}, weight {weight}{pid}")
}

fn last(model: &Model, paint: Paint) -> Line<'static> {
    if let Some(doomed) = &model.doomed {
        // The answer has to be seen, however long the path is.
        let question = format!("give stream {} up? y/n: {}", doomed.stream, doomed.path);
        return Line::styled(plain(&question), paint.trouble());
    }
    match &model.told {
        Some(Ok(done)) => Line::from(plain(done)),
        Some(Err(why)) => Line::styled(plain(why), paint.trouble()),
        None if model.has_help => Line::from(KEYS),
        None => Line::from(format!("sorted by {}  ? keys  q quit", model.sort.words())),
    }
}
