//! What is shown, and what keys make of it. Pure: it neither draws nor asks.
//!
//! 1. What is selected is a stream, not a line: it stays selected wherever it is sorted to.
//! 2. Nothing is given up that the person did not see when asked: the same stream of the same daemon.
//! 3. At most one change of a stream is on its way; keys that would start another are not for later.

use freemkvd_proto::limits;
use freemkvd_proto::status::{Status, Stream};
use freemkvd_proto::waits::Waits;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::asker::{Answer, Ask};
use super::history::History;
use super::order::{Sort, sort_devices, sort_streams};
use crate::problems::is_paused;

/// What comes of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Nothing,
    Ask(Ask),
    Quit,
}

/// Who is to be given up, if the answer is yes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Doomed {
    pid: u32,
    pub(super) stream: u64,
    pub(super) path: String,
}

/// The pane over the streams.
#[derive(Debug)]
pub(super) struct Why {
    pub(super) stream: u64,
    /// `None` until there is an answer.
    pub(super) told: Option<Result<Box<Waits>, String>>,
}

#[derive(Debug, Default)]
pub(super) struct Model {
    /// The last report in the order in which it is shown; none while the daemon is away, since figures that are no
    /// longer true must not stay.
    pub(super) status: Option<Status>,
    /// Why there is none.
    pub(super) away: Option<String>,
    pub(super) history: History,
    pub(super) sort: Sort,
    pub(super) selected: Option<u64>,
    pub(super) why: Option<Why>,
    pub(super) doomed: Option<Doomed>,
    pub(super) has_help: bool,
    /// What came of the last thing that was asked for.
    pub(super) told: Option<Result<String, String>>,
    is_asked: bool,
}

impl Model {
    /// Takes in what the daemon has said.
    pub(super) fn hear(&mut self, answer: Answer) {
        match answer {
            Answer::Status(status) => self.look_at(*status),
            Answer::Away(why) => {
                (self.status, self.away, self.doomed) = (None, Some(why), None);
            }
            Answer::Why(stream, told) => {
                if let Some(pane) = self.why.as_mut().filter(|pane| pane.stream == stream) {
                    pane.told = Some(told);
                }
            }
            Answer::Done(ask, outcome) => {
                self.is_asked = false;
                self.told = Some(outcome.map(|()| done(&ask)));
            }
        }
    }

    fn look_at(&mut self, mut status: Status) {
        self.history.add(&status);
        let place = self.place();
        sort_streams(&mut status, self.sort);
        sort_devices(&mut status.devices);
        let is_there = |id| status.streams.iter().any(|stream| stream.id == id);
        if !self.selected.is_some_and(is_there) {
            let place = place.unwrap_or(0).min(status.streams.len().saturating_sub(1));
            self.selected = status.streams.get(place).map(|stream| stream.id);
        }
        // Rule 2.
        self.doomed.take_if(|doomed| {
            let is_it = |stream: &Stream| stream.id == doomed.stream && stream.path == doomed.path;
            doomed.pid != status.pid || !status.streams.iter().any(is_it)
        });
        (self.status, self.away) = (Some(status), None);
    }

    /// The streams, in the order in which they are shown.
    pub(super) fn streams(&self) -> &[Stream] {
        self.status.as_ref().map_or(&[], |status| &status.streams)
    }

    /// Where the selected stream is among them.
    pub(super) fn place(&self) -> Option<usize> {
        self.streams().iter().position(|stream| Some(stream.id) == self.selected)
    }

    /// The selected stream, while it is there.
    pub(super) fn stream(&self) -> Option<&Stream> {
        self.streams().get(self.place()?)
    }

    /// Does what a key is for.
    pub(super) fn press(&mut self, key: KeyEvent) -> Step {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return if key.code == KeyCode::Char('c') { Step::Quit } else { Step::Nothing };
        }
        if let Some(doomed) = self.doomed.take() {
            // Whatever is not a yes is a no.
            return match key.code {
                KeyCode::Char('y' | 'Y') => self.ask(Ask::Abort(doomed.stream)),
                _ => Step::Nothing,
            };
        }
        self.told = None;
        match key.code {
            KeyCode::Esc if self.why.is_some() => self.close(),
            KeyCode::Esc if self.has_help => {
                self.has_help = false;
                Step::Nothing
            }
            KeyCode::Char('q') | KeyCode::Esc => Step::Quit,
            KeyCode::Up | KeyCode::Char('k') => self.select(|place| place.saturating_sub(1)),
            KeyCode::Down | KeyCode::Char('j') => self.select(|place| place + 1),
            KeyCode::Enter if self.why.is_some() => self.close(),
            KeyCode::Enter => self.open(),
            KeyCode::Char('a') => {
                self.doom();
                Step::Nothing
            }
            KeyCode::Char('p') => self.pause(),
            KeyCode::Char('+' | '=') => self.weigh(true),
            KeyCode::Char('-') => self.weigh(false),
            KeyCode::Char('s') => {
                self.sort = self.sort.next();
                if let Some(status) = &mut self.status {
                    sort_streams(status, self.sort);
                }
                Step::Nothing
            }
            KeyCode::Char('?') => {
                self.has_help = !self.has_help;
                Step::Nothing
            }
            _ => Step::Nothing,
        }
    }

    fn select(&mut self, to: impl FnOnce(usize) -> usize) -> Step {
        let Some(last) = self.streams().len().checked_sub(1) else {
            return Step::Nothing;
        };
        let place = to(self.place().unwrap_or(0)).min(last);
        self.selected = self.streams().get(place).map(|stream| stream.id);
        match self.why {
            Some(_) => self.open(),
            None => Step::Nothing,
        }
    }

    fn open(&mut self) -> Step {
        match self.selected {
            Some(stream) if self.why.as_ref().is_none_or(|pane| pane.stream != stream) => {
                self.why = Some(Why { stream, told: None });
                Step::Ask(Ask::Follow(Some(stream)))
            }
            _ => Step::Nothing,
        }
    }

    fn close(&mut self) -> Step {
        self.why = None;
        Step::Ask(Ask::Follow(None))
    }

    fn doom(&mut self) {
        let Some((status, stream)) = self.status.as_ref().zip(self.stream()) else {
            return;
        };
        let (pid, path) = (status.pid, stream.path.clone());
        self.doomed = Some(Doomed { pid, stream: stream.id, path });
    }

    fn pause(&mut self) -> Step {
        let Some(stream) = self.stream() else {
            return Step::Nothing;
        };
        self.ask(Ask::Pause(stream.id, !is_paused(stream)))
    }

    fn weigh(&mut self, is_more: bool) -> Step {
        let Some(stream) = self.stream() else {
            return Step::Nothing;
        };
        let weight = next_weight(stream.weight, is_more);
        let ask = Ask::Weight(stream.id, weight);
        if weight == stream.weight { Step::Nothing } else { self.ask(ask) }
    }

    /// Rule 3.
    fn ask(&mut self, ask: Ask) -> Step {
        if self.is_asked {
            return Step::Nothing;
        }
        self.is_asked = true;
        Step::Ask(ask)
    }
}

/// One step that can be felt: a tenth of what a stream begins with, and more where there is more.
fn next_weight(weight: u32, is_more: bool) -> u32 {
    let (lowest, highest) = limits::WEIGHTS.into_inner();
    let below = if is_more { weight } else { weight.saturating_sub(1) };
    let step = if below < limits::WEIGHT_DEFAULT { 10 } else { 50 };
    let next = match is_more {
        true => weight / step * step + step,
        false => below / step * step,
    };
    next.clamp(lowest, highest)
}

fn done(ask: &Ask) -> String {
    match ask {
        Ask::Abort(stream) => format!("stream {stream} was given up"),
        Ask::Pause(stream, true) => format!("stream {stream} is paused"),
        Ask::Pause(stream, false) => format!("stream {stream} goes on"),
        Ask::Weight(stream, weight) => format!("stream {stream} has weight {weight} now"),
        Ask::Follow(_) => String::new(),
    }
}

#[cfg(test)]
mod tests;
