//! The log as text: one line for each message, whatever is in it. Paths, labels and what quotes them come from peers,
//! and a line feed there would make a line of its own, which nobody has said.

use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use tracing::Subscriber;
use tracing_subscriber::Registry;
use tracing_subscriber::fmt::format;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::SubscriberExt;

use super::message::Message;
use super::queue::Sink;

/// Lines to what `to` has.
pub(super) fn text<W: Write + 'static>(
    to: impl Fn() -> W + Send + Sync + 'static,
    ansi: bool,
) -> Box<dyn Sink> {
    let lines = move || OneLine { to: to(), ansi };
    let layer = tracing_subscriber::fmt::layer().with_writer(lines);
    let said = WhenSaid(Arc::new(Mutex::new(SystemTime::UNIX_EPOCH)));
    let layer = layer.with_timer(said.clone()).with_ansi(ansi).with_target(false);
    Box::new(Text { said, lines: Box::new(Registry::default().with(layer)) })
}

struct Text {
    said: WhenSaid,
    lines: Box<dyn Subscriber>,
}

impl Sink for Text {
    fn take(&mut self, message: &Message) {
        *self.said.0.lock().unwrap_or_else(PoisonError::into_inner) = message.at;
        message.tell(&*self.lines);
    }
}

/// When the message was said, which may be long before it is written.
#[derive(Clone)]
struct WhenSaid(Arc<Mutex<SystemTime>>);

impl FormatTime for WhenSaid {
    fn format_time(&self, to: &mut format::Writer<'_>) -> fmt::Result {
        let at = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        write!(to, "{}", humantime::format_rfc3339_micros(at))
    }
}

/// Writes each message, which comes as a whole, as one line.
struct OneLine<W> {
    to: W,
    /// Colours are among it. Those of others were escaped before.
    ansi: bool,
}

impl<W: Write> Write for OneLine<W> {
    fn write(&mut self, message: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(message);
        let line = escaped(text.strip_suffix('\n').unwrap_or(&text), self.ansi);
        self.to.write_all((line + "\n").as_bytes())?;
        Ok(message.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// `text` without anything that begins a line or acts on a terminal, but for colours where `ansi` says so.
#[must_use]
pub fn escaped(text: &str, ansi: bool) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() && !(ansi && character == '\u{1b}') {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_whatever_is_in_it() {
        let mut out = Vec::new();
        let message = "refused: /rips/a\nERROR b\r\t\u{1b}[2J\u{9b}2Jc\u{7f} \u{fc}\n";
        OneLine { to: &mut out, ansi: false }.write_all(message.as_bytes()).unwrap();
        let expected = "refused: /rips/a\\nERROR b\\r\\t\\u{1b}[2J\\u{9b}2Jc\\u{7f} \u{fc}\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn on_a_terminal_colours_stay() {
        assert_eq!(escaped("\u{1b}[33mWARN\u{1b}[0m a\nb", true), "\u{1b}[33mWARN\u{1b}[0m a\\nb");
    }
}
