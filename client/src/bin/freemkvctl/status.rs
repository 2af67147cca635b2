//! `freemkvctl status`: asks once, or again and again.

use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::time::Duration;

use freemkvd_client::Error;
use freemkvd_client::control::Control;
use freemkvd_proto::status::Status;
use serde::Serialize;

use crate::cli::StatusOptions;
use crate::exit::{Exit, Failed, in_words};
use crate::interrupt::Interrupt;
use crate::report::{Look, report};
use crate::screen::Screen;
use crate::table::{plain, plain_json};
use crate::units::Sizes;

/// A daemon answers from memory in milliseconds. Longer than this a person would not wait, and a
/// health check should not.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(1);

/// Home, and clear. `HOME` alone keeps what is there until it is written over: nothing flickers.
const CLEAR: &str = "\x1b[H\x1b[2J";
const HOME: &str = "\x1b[H";
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";

pub(crate) fn run(socket: Option<&Path>, options: &StatusOptions) -> Result<Exit, Failed> {
    match options.watch {
        None => {
            let status = Control::connect(socket, TIMEOUT)?.status()?;
            let screen = Screen::of_stdout();
            let indent = screen.terminal;
            print(&picture(&status, options, screen, indent)?)?;
            Ok(exit_of(&status))
        }
        Some(interval) => watch(socket, options, interval),
    }
}

fn exit_of(status: &Status) -> Exit {
    if status.is_degraded() { Exit::Degraded } else { Exit::Fine }
}

fn picture(
    status: &Status,
    options: &StatusOptions,
    screen: Screen,
    indent: bool,
) -> Result<String, Failed> {
    if options.json {
        return in_json(status, indent);
    }
    let sizes = match options.bytes {
        true => Sizes::Exact,
        false => Sizes::Human,
    };
    let header = !options.no_header;
    let columns = options.columns.as_deref();
    Ok(report(status, Look { screen, sizes, header, columns }))
}

/// In one line, or indented.
pub(crate) fn in_json(value: &impl Serialize, indent: bool) -> Result<String, Failed> {
    let mut json = plain_json(match indent {
        true => serde_json::to_string_pretty(value)?,
        false => serde_json::to_string(value)?,
    });
    json.push('\n');
    Ok(json)
}

/// Whether anybody reads on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    There,
    /// As `head` is after its lines, which is no failure.
    Gone,
}

pub(crate) fn print(text: &str) -> Result<Reader, Failed> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(Reader::There),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(Failed::Output(error)),
    }
}

fn watch(
    socket: Option<&Path>,
    options: &StatusOptions,
    interval: Duration,
) -> Result<Exit, Failed> {
    // The first connection must succeed: a socket that never was there is most likely mistyped.
    let mut control = Some(Control::connect(socket, TIMEOUT)?);
    let interrupt = Interrupt::catch().map_err(Failed::Signals)?;
    let mut output = Output::default();
    loop {
        let answer = match control.take() {
            Some(control) => ask(control),
            None => Control::connect(socket, TIMEOUT).and_then(ask),
        };
        let (exit, reader) = match answer {
            Ok((same, status)) => {
                control = Some(same);
                let screen = Screen::of_stdout();
                let text = picture(&status, options, screen, false)?;
                (exit_of(&status), output.show(&text, screen, options.json)?)
            }
            Err(error) => (Exit::NoDaemon, output.show_absence(&error, options.json)?),
        };
        if reader == Reader::Gone || interrupt.wait(interval) {
            return Ok(exit);
        }
    }
}

fn ask(mut control: Control) -> Result<(Control, Status), Error> {
    let status = control.status()?;
    Ok((control, status))
}

/// What has been shown so far.
#[derive(Debug, Default)]
struct Output {
    pictures: u64,
    /// The daemon was gone the last time, and standard error says so.
    said_gone: bool,
}

impl Output {
    fn show(&mut self, text: &str, screen: Screen, json: bool) -> Result<Reader, Failed> {
        self.said_gone = false;
        self.pictures += 1;
        match (json, screen.terminal) {
            (true, _) => print(text),
            (false, true) => print(&redrawn(text, screen.height, self.pictures == 1)),
            (false, false) if self.pictures == 1 => print(text),
            (false, false) => print(&format!("\n{text}")),
        }
    }

    /// On a terminal the message takes the picture's place: figures that are no longer true must
    /// not stay. Elsewhere it is said once, and not among the figures.
    fn show_absence(&mut self, error: &Error, json: bool) -> Result<Reader, Failed> {
        let text = format!("{}; trying again, Ctrl-C ends\n", plain(&in_words(error)));
        let screen = Screen::of_stdout();
        if screen.terminal && !json {
            self.pictures += 1;
            return print(&redrawn(&text, screen.height, self.pictures == 1));
        }
        if !self.said_gone {
            self.said_gone = true;
            let _ = write!(io::stderr(), "freemkvctl: {text}");
        }
        Ok(Reader::There)
    }
}

/// `text` over the last picture; what does not fit is counted, because scrolling would move the
/// next picture away from this one.
fn redrawn(text: &str, height: Option<usize>, first: bool) -> String {
    let lines: Vec<&str> = text.lines().collect();
    // One line for the cursor, and one for the count.
    let room = height.map_or(lines.len(), |height| height.saturating_sub(1));
    let shown = match lines.len() > room {
        true => room.saturating_sub(1),
        false => lines.len(),
    };
    let mut frame = String::from(if first { CLEAR } else { HOME });
    for line in &lines[..shown] {
        frame.extend([line, CLEAR_LINE, "\n"]);
    }
    if shown < lines.len() {
        frame.push_str(&format!("... {} more lines{CLEAR_LINE}\n", lines.len() - shown));
    }
    frame.push_str(CLEAR_BELOW);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_cut_to_the_height_of_the_terminal() {
        assert_eq!(
            redrawn("a\nb\nc\n", Some(24), false),
            "\x1b[Ha\x1b[K\nb\x1b[K\nc\x1b[K\n\x1b[J"
        );
        assert_eq!(
            redrawn("a\nb\nc\n", Some(3), true),
            "\x1b[H\x1b[2Ja\x1b[K\n... 2 more lines\x1b[K\n\x1b[J"
        );
        assert_eq!(redrawn("a\nb\n", Some(3), false), "\x1b[Ha\x1b[K\nb\x1b[K\n\x1b[J");
    }
}
