//! Aligned columns that fit the screen.
//!
//! 1. Text from outside (paths, messages) gets through [`plain`] first: a file name must not be able
//!    to move the cursor.
//! 2. Widths are those on the screen, not numbers of bytes or characters.
//! 3. When lines are too long, the flexible column shrinks to [`FLEXIBLE_WIDTH_MIN`]; if that is not
//!    enough, columns go, highest rank first. Those of rank 0 stay, and the flexible one shrinks on. Columns
//!    that somebody has asked for all stay, in the order in which they were asked for.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::screen::Screen;

/// Between two columns.
const GAP: &str = "  ";

/// Less than this shows the name that every disc's first title has, and not which disc's it is.
const FLEXIBLE_WIDTH_MIN: usize = 24;

/// The flexible column never is narrower than its title.
const TITLE_WIDTH: usize = 5;

/// Where a cell's text is in its column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
    /// Left, and shortened at its beginning when there is no room (rule 3).
    Flexible,
}

/// A column.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    pub(crate) title: &'static str,
    pub(crate) align: Align,
    pub(crate) rank: u8,
}

impl Column {
    pub(crate) const fn new(title: &'static str, align: Align, rank: u8) -> Self {
        Self { title, align, rank }
    }
}

/// One field of a row.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    text: String,
    trouble: bool,
}

impl Cell {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { text: plain(&text.into()), trouble: false }
    }

    /// Paints it, if `trouble`.
    pub(crate) fn with_trouble(self, trouble: bool) -> Self {
        Self { trouble, ..self }
    }
}

/// Rows of as many cells as there are columns.
#[derive(Debug)]
pub(crate) struct Table<const N: usize> {
    columns: [Column; N],
    rows: Vec<[Cell; N]>,
    /// The places of the columns that are shown, in this order.
    order: Vec<usize>,
    /// Somebody has asked for these columns, and none of them goes.
    is_chosen: bool,
}

impl<const N: usize> Table<N> {
    pub(crate) fn new(columns: [Column; N]) -> Self {
        Self { columns, rows: Vec::new(), order: (0..N).collect(), is_chosen: false }
    }

    /// Leaves out the columns from this place on, unless somebody asks for them.
    pub(crate) fn hide_after(&mut self, shown: usize) {
        self.order.truncate(shown);
    }

    /// Shows these columns, by their places in the row, and no others.
    pub(crate) fn only(&mut self, order: Vec<usize>) {
        (self.order, self.is_chosen) = (order, true);
    }

    pub(crate) fn push(&mut self, row: [Cell; N]) {
        self.rows.push(row);
    }

    /// The lines, each with its end.
    pub(crate) fn render(mut self, screen: Screen, header: bool) -> String {
        let mut rows = Vec::with_capacity(self.rows.len() + 1);
        if header {
            rows.push(self.columns.map(|column| Cell::new(column.title)));
        }
        rows.append(&mut self.rows);
        let widths = self.fit(&rows, screen.width);
        let mut text = String::new();
        for row in &rows {
            let line = self.line(row, &widths, screen);
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    /// Rule 3. The width of each column, or `None` for those that are left out.
    fn fit(&self, rows: &[[Cell; N]], screen_width: Option<usize>) -> [Option<usize>; N] {
        let mut widths: [Option<usize>; N] =
            std::array::from_fn(|i| rows.iter().map(|row| row[i].text.width()).max());
        for i in (0..N).filter(|i| !self.order.contains(i)) {
            widths[i] = None;
        }
        let Some(screen_width) = screen_width else {
            return widths;
        };
        let flexible = self.columns.iter().position(|c| c.align == Align::Flexible);
        let goes = |i: usize| !self.is_chosen && self.columns[i].rank > 0;
        loop {
            let excess = total(&widths).saturating_sub(screen_width);
            if excess == 0 {
                return widths;
            }
            let shown = (0..N).filter(|i| widths[*i].is_some() && goes(*i));
            let expendable = shown.max_by_key(|i| self.columns[*i].rank);
            if let Some(width) = flexible.and_then(|i| widths[i].as_mut()) {
                if expendable.is_none() || *width >= FLEXIBLE_WIDTH_MIN + excess {
                    *width = width.saturating_sub(excess).max(TITLE_WIDTH);
                    return widths;
                }
            }
            match expendable {
                Some(column) => widths[column] = None,
                None => return widths,
            }
        }
    }

    fn line(&self, row: &[Cell; N], widths: &[Option<usize>; N], screen: Screen) -> String {
        let mut line = String::new();
        for &i in &self.order {
            let (cell, column) = (&row[i], &self.columns[i]);
            let Some(width) = widths[i] else {
                continue;
            };
            if !line.is_empty() {
                line.push_str(GAP);
            }
            let text = shorten(&cell.text, width);
            let padding = " ".repeat(width.saturating_sub(text.width()));
            let text = match cell.trouble {
                true => screen.trouble(&text),
                false => text,
            };
            match column.align {
                Align::Right => line.extend([padding, text]),
                Align::Left | Align::Flexible => line.extend([text, padding]),
            }
        }
        line
    }
}

fn total(widths: &[Option<usize>]) -> usize {
    let shown = widths.iter().flatten();
    shown.clone().sum::<usize>() + GAP.len() * shown.count().saturating_sub(1)
}

/// The end of `text`, which tells more of a path than its beginning.
pub(crate) fn shorten(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let room = width.saturating_sub(3);
    let mut used = 0;
    let kept = text.char_indices().rev().take_while(|(_, character)| {
        used += character.width().unwrap_or(0);
        used <= room
    });
    let start = kept.last().map_or(text.len(), |(index, _)| index);
    format!("...{}", &text[start..])
}

/// `text` in lines that fit, broken between words, the second and later ones indented.
pub(crate) fn wrap(text: &str, width: Option<usize>) -> Vec<String> {
    let width = width.unwrap_or(usize::MAX);
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split(' ') {
        if line.is_empty() {
            line.push_str(word);
        } else if line.width() + 1 + word.width() <= width {
            line.extend([" ", word]);
        } else {
            lines.push(std::mem::replace(&mut line, format!("{GAP}{word}")));
        }
    }
    lines.push(line);
    lines
}

/// `text` without characters that a terminal acts on.
pub(crate) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            plain.extend(character.escape_default());
        } else {
            plain.push(character);
        }
    }
    plain
}

/// JSON that means the same, without characters that a terminal acts on. Its encoder has escaped those below U+0020;
/// the others are only within strings.
pub(crate) fn plain_json(json: String) -> String {
    let acts = |character: char| ('\u{7f}'..='\u{9f}').contains(&character);
    if !json.contains(acts) {
        return json;
    }
    let mut plain = String::with_capacity(json.len());
    for character in json.chars() {
        match acts(character) {
            true => plain.push_str(&format!("\\u{:04x}", u32::from(character))),
            false => plain.push(character),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(width: Option<usize>) -> String {
        let mut table = Table::new([
            Column { title: "ID", align: Align::Right, rank: 0 },
            Column { title: "FILE", align: Align::Flexible, rank: 0 },
            Column { title: "RATE", align: Align::Right, rank: 2 },
            Column { title: "STATE", align: Align::Left, rank: 1 },
        ]);
        table.push(["1", "/rips/a film in one room.mkv", "1 B", "idle"].map(Cell::new));
        table.push(["10", "/rips/\u{1b}[2J.mkv", "10 B", "writing"].map(Cell::new));
        let screen = Screen { terminal: false, width, height: None, colour: false };
        table.render(screen, true)
    }

    #[test]
    fn columns_are_aligned_and_escapes_are_shown_not_sent() {
        assert_eq!(
            rendered(None),
            "\
ID  FILE                          RATE  STATE
 1  /rips/a film in one room.mkv   1 B  idle
10  /rips/\\u{1b}[2J.mkv           10 B  writing
"
        );
    }

    #[test]
    fn a_narrow_screen_shortens_paths_and_then_leaves_out_columns() {
        assert_eq!(
            rendered(Some(44)),
            "\
ID  FILE                       RATE  STATE
 1  ...a film in one room.mkv   1 B  idle
10  /rips/\\u{1b}[2J.mkv        10 B  writing
"
        );
        assert_eq!(
            rendered(Some(38)),
            "\
ID  FILE                       STATE
 1  ...a film in one room.mkv  idle
10  /rips/\\u{1b}[2J.mkv        writing
"
        );
    }

    #[test]
    fn a_very_narrow_screen_shortens_paths_even_more() {
        assert_eq!(
            rendered(Some(20)),
            "\
ID  FILE
 1  ... one room.mkv
10  ...\\u{1b}[2J.mkv
"
        );
    }

    #[test]
    fn sentences_wrap_between_words() {
        assert_eq!(wrap("one two three", Some(8)), ["one two", "  three"]);
        assert_eq!(wrap("one two", None), ["one two"]);
        assert_eq!(wrap("endlessword x", Some(4)), ["endlessword", "  x"]);
    }

    #[test]
    fn wide_characters_count_twice() {
        assert_eq!(shorten("/rips/\u{4e03}\u{4eba}.mkv", 10), "...\u{4eba}.mkv");
        assert_eq!(shorten("/a.mkv", 6), "/a.mkv");
        assert_eq!(shorten("/a.mkv", 0), "...");
    }

    #[test]
    fn json_means_the_same_and_has_nothing_for_a_terminal() {
        let all: String = ('\0'..='\u{17f}').chain("\u{2028}\u{1f4c0}".chars()).collect();
        let json = plain_json(serde_json::to_string(&[&all]).unwrap());
        assert!(!json.contains(char::is_control), "{json:?}");
        assert!(json.contains("~\\u007f\\u0080") && json.contains("\\u009f\u{a0}"), "{json:?}");
        assert_eq!(serde_json::from_str::<[String; 1]>(&json).unwrap(), [all]);
    }
}
