//! Where messages go: to the journal with their fields when systemd has connected standard error to
//! it, else to standard error as text.
//!
//! 1. Text is one line for each message, whatever is in it: paths, labels and what quotes them come from peers,
//!    and a line feed there would make a line of its own, which nobody has said. (The journal has fields.)

use std::io::{self, IsTerminal, Write};

use tracing::Level;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Starts logging at `level`. To be called once.
pub fn start(level: Level) {
    let level = LevelFilter::from_level(level);
    #[cfg(target_os = "linux")]
    if is_journal() {
        // FREEMKVD_STREAM, FREEMKVD_PATH, ...: see freemkvd(8).
        if let Ok(journal) = tracing_journald::layer() {
            let journal = journal.with_field_prefix(Some("FREEMKVD".to_owned()));
            tracing_subscriber::registry().with(level).with(journal).init();
            return;
        }
    }
    #[cfg(windows)]
    if let Some(file) = file::wanted() {
        let to = move || OneLine { to: file.writer(), ansi: false };
        let text =
            tracing_subscriber::fmt::layer().with_writer(to).with_ansi(false).with_target(false);
        tracing_subscriber::registry().with(level).with(text).init();
        return;
    }
    let ansi = io::stderr().is_terminal();
    let text = tracing_subscriber::fmt::layer()
        .with_writer(move || OneLine { to: io::stderr(), ansi })
        .with_ansi(ansi)
        .with_target(false);
    tracing_subscriber::registry().with(level).with(text).init();
}

#[cfg(windows)]
#[path = "log/file.rs"]
mod file;

#[cfg(windows)]
pub use file::to_file;

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

/// systemd names the journal's stream as `DEVICE:INODE`, so that a program whose standard error was
/// redirected after all can tell.
#[cfg(target_os = "linux")]
fn is_journal() -> bool {
    let Some(journal) = std::env::var("JOURNAL_STREAM").ok() else {
        return false;
    };
    let Ok(stat) = rustix::fs::fstat(io::stderr()) else {
        return false;
    };
    journal == format!("{}:{}", stat.st_dev, stat.st_ino)
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
