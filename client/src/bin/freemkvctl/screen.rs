//! What standard output is: how wide, and whether colour is of use there.

use std::env;
use std::io::{self, IsTerminal};

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use terminal_size::terminal_size_of;

/// Where text is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Screen {
    /// A person watches it, who can be shown the same place twice.
    pub(crate) terminal: bool,
    /// Columns, or `None` when lines may have any length.
    pub(crate) width: Option<usize>,
    /// Lines, or `None` when there is no end to them.
    pub(crate) height: Option<usize>,
    /// Trouble may be painted.
    pub(crate) colour: bool,
}

impl Screen {
    /// Standard output as it is now; a terminal may have another size in a second.
    pub(crate) fn of_stdout() -> Self {
        let stdout = io::stdout();
        let terminal = stdout.is_terminal();
        let size = terminal_size_of(&stdout);
        Self {
            terminal,
            width: from_environment("COLUMNS").or(size.map(|(width, _)| width.0.into())),
            height: size.map(|(_, height)| height.0.into()),
            colour: AutoStream::choice(&stdout) != ColorChoice::Never,
        }
    }

    /// Paints what is wrong.
    pub(crate) fn trouble(self, text: &str) -> String {
        if !self.colour || text.is_empty() {
            return text.to_owned();
        }
        let style = Style::new().bold().fg_color(Some(AnsiColor::Red.into()));
        format!("{style}{text}{style:#}")
    }
}

fn from_environment(name: &str) -> Option<usize> {
    let number = env::var(name).ok()?.parse().ok()?;
    (number > 0).then_some(number)
}
