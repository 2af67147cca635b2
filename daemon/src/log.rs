//! Where messages go: to the journal with their fields when systemd has connected standard error to
//! it, else to standard error as text.
//!
//! 1. Text is one line for each message, whatever is in it: paths, labels and what quotes them come from peers,
//!    and a line feed there would make a line of its own, which nobody has said. (The journal has fields.)

#[cfg_attr(target_os = "linux", path = "log/linux.rs")]
#[cfg_attr(windows, path = "log/windows.rs")]
#[cfg_attr(not(any(target_os = "linux", windows)), path = "log/unix.rs")]
mod platform;

use std::io::{self, IsTerminal, Write};

use tracing::Level;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

#[cfg(windows)]
pub use self::platform::to_file;

/// Takes the messages.
type Sink = Box<dyn Layer<Registry> + Send + Sync>;

/// Starts logging at `level`. To be called once.
pub fn start(level: Level) {
    let sink = platform::sink().unwrap_or_else(|| {
        let ansi = io::stderr().is_terminal();
        text(io::stderr, ansi)
    });
    let level = LevelFilter::from_level(level);
    tracing_subscriber::registry().with(sink).with(level).init();
}

/// A line for each message, to what `to` has.
fn text<W: Write>(to: impl Fn() -> W + Send + Sync + 'static, ansi: bool) -> Sink {
    let lines = move || OneLine { to: to(), ansi };
    let layer = tracing_subscriber::fmt::layer().with_writer(lines);
    Box::new(layer.with_ansi(ansi).with_target(false))
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

fn escaped(text: &str, ansi: bool) -> String {
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
