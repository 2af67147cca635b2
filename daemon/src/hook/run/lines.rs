//! The output of the program, as lines of the log: so many, each so long, and with nothing in them that acts on a
//! terminal or makes a line of its own. Pure.

use crate::log::escaped;

/// Longest line, in bytes, and most of them on each of the two ways of a run.
const LINE_BYTES_MAX: usize = 1000;
const LINES_MAX: u32 = 50;

/// Most bytes that are taken without a pause, whatever is in them: those of all lines, and as many that are in none.
const BYTES_MAX: usize = 2 * LINES_MAX as usize * LINE_BYTES_MAX;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// The beginning of a line whose end has not come.
    line: Vec<u8>,
    /// Something of it did not fit.
    is_cut: bool,
    said: u32,
    left_out: u64,
    taken_bytes: usize,
}

impl Lines {
    /// Takes what comes next.
    pub(super) fn push(&mut self, bytes: &[u8], say: &mut dyn FnMut(&str)) {
        self.taken_bytes = self.taken_bytes.saturating_add(bytes.len());
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, is_whole) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            let room = LINE_BYTES_MAX - self.line.len();
            self.is_cut |= text.len() > room;
            self.line.extend_from_slice(&text[..text.len().min(room)]);
            if is_whole {
                self.end_line(say);
            }
        }
    }

    /// True when enough was said, or there is no line in what comes: it can wait.
    pub(super) fn are_full(&self) -> bool {
        self.said >= LINES_MAX || self.taken_bytes >= BYTES_MAX
    }

    /// Nothing comes any more.
    pub(super) fn finish(&mut self, say: &mut dyn FnMut(&str)) {
        if !self.line.is_empty() {
            self.end_line(say);
        }
        match std::mem::take(&mut self.left_out) {
            0 => {}
            count => say(&format!("(lines more: {count})")),
        }
    }

    fn end_line(&mut self, say: &mut dyn FnMut(&str)) {
        let line = std::mem::take(&mut self.line);
        let end = if std::mem::take(&mut self.is_cut) { "..." } else { "" };
        if line.is_empty() {
            return;
        }
        if self.said >= LINES_MAX {
            self.left_out += 1;
            return;
        }
        self.said += 1;
        say(&(escaped(&String::from_utf8_lossy(&line), false) + end));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of an output that comes in these pieces.
    fn said(pieces: &[&[u8]]) -> Vec<String> {
        let (mut lines, mut all) = (Lines::default(), Vec::new());
        let mut say = |line: &str| all.push(line.to_owned());
        pieces.iter().for_each(|piece| lines.push(piece, &mut say));
        lines.finish(&mut say);
        all
    }

    #[test]
    fn lines_are_the_same_in_whatever_pieces_they_come() {
        let text: &[u8] = b"one\n\ntwo and\nthe last";
        let expected = ["one", "two and", "the last"];
        assert_eq!(said(&[text]), expected);
        let bytes: Vec<_> = text.chunks(1).collect();
        assert_eq!(said(&bytes), expected);
        assert_eq!(said(&[]), [""; 0]);
    }

    #[test]
    fn nothing_in_them_acts_on_a_terminal() {
        let expected = ["a\\u{1b}[2J\\r\\tb\\u{9b}", "\u{fffd}\\u{0}"];
        assert_eq!(said(&[b"a\x1b[2J\r\tb\xc2\x9b\n\xff\0\n"]), expected);
    }

    #[test]
    fn a_line_is_cut_and_what_comes_after_it_is_not() {
        let (fits, long) = ("x".repeat(LINE_BYTES_MAX), "x".repeat(3 * LINE_BYTES_MAX));
        let text = format!("{fits}\n{long}\nshort\n{long}");
        let cut = format!("{fits}...");
        let expected = [fits.as_str(), &cut, "short", &cut];
        assert_eq!(said(&[text.as_bytes()]), expected);
        let pieces: Vec<_> = text.as_bytes().chunks(333).collect();
        assert_eq!(said(&pieces), expected);
    }

    #[test]
    fn an_output_without_lines_or_with_empty_ones_is_full_as_well() {
        for byte in [0, b'\n'] {
            let mut lines = Lines::default();
            let piece = [byte; 16 << 10];
            for _ in 0..=BYTES_MAX / piece.len() {
                assert!(!lines.are_full());
                lines.push(&piece, &mut |line| panic!("{line}"));
            }
            assert!(lines.are_full());
        }
    }

    #[test]
    fn so_many_are_said_and_the_others_counted() {
        let text: String = (1..=LINES_MAX + 7).map(|number| format!("{number}\n")).collect();
        let all = said(&[text.as_bytes()]);
        assert_eq!(all.len(), LINES_MAX as usize + 1);
        assert_eq!(all[LINES_MAX as usize - 1], LINES_MAX.to_string());
        assert_eq!(all[LINES_MAX as usize], "(lines more: 7)");
    }
}
