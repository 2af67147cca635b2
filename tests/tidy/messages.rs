//! What the daemon logs is in freemkvd(8), in the same words: a message that somebody meets is found there, and one
//! that nobody can meet any more is not. In the manual a word in capital letters stands for what differs, WHY at the
//! end for any words, and `...` for a rest that needs no explanation.

use std::collections::BTreeSet;
use std::path::Path;

use freemkvd_proto::ErrorCode;

use crate::sources;

/// Messages of which the words in the source are not all: what they come to.
const IN_FULL: &[(&str, &[&str])] = &[
    (
        "{error}; everything else is served",
        &[
            "cannot listen on {address} for metrics: {source}; everything else is served",
            "cannot use the socket that systemd passed for metrics: {0}; everything else is served",
        ],
    ),
    (
        "{count} more messages that user{user} has caused are left out",
        &["{count} more messages that user {user} has caused are left out"],
    ),
    ("{nothing}", &["there is nothing to reload: the daemon was started without --config"]),
    ("stream {stream} {what}", &["stream {stream} is paused", "stream {stream} is to go on"]),
    (
        "{words}",
        &[
            "stream.queue_total and the budget may come to {}, and the control group of freemkvd may have {} ({}); queues",
        ],
    ),
    (
        "cannot {operation} what is left of stream {}: {}: {error}",
        &[
            "cannot rename what is left of stream {}: {}: {error}",
            "cannot remove what is left of stream {}: {}: {error}",
            "cannot shrink what is left of stream {}: {}: {error}",
        ],
    ),
    (
        "stream {} {verb}{by}: {path}",
        &[
            "stream {} opened: {path}",
            "stream {} opened by descriptor: {path}",
            "stream {} goes on: {path}",
            "stream {} goes on by descriptor: {path}",
        ],
    ),
    (
        "stream {stream} aborted {by}: {path}",
        &[
            "stream {stream} aborted by its muxer: {path}",
            "stream {stream} aborted from outside: {path}",
        ],
    ),
    (
        "the muxer of stream {stream} is gone; {}: {path}",
        &[
            "the muxer of stream {stream} is gone; what was written of it is on disk: {path}",
            "the muxer of stream {stream} is gone; its file is renamed or removed, as it was opened for: {path}",
        ],
    ),
    (
        "stream {stream} waits for space{missing} and gives up after {}: {path}; free some",
        &[
            "stream {stream} waits for space, at least {} more, and gives up after {}: {path}; free some",
        ],
    ),
];

/// Messages that are in no manual, and why they need no word there.
const EXPLAIN_THEMSELVES: &[(&str, &str)] = &[(
    "{error}",
    "of a service on Windows: why it did not start, which elsewhere is printed and not logged",
)];

/// A message with its level, and a mark where it differs from one time to the next.
#[derive(Debug, PartialEq, Eq)]
struct Message {
    level: String,
    words: String,
    /// Where it is.
    place: String,
}

/// Stands for what differs.
const ANY: &str = "*";

#[test]
fn what_the_daemon_logs_is_in_its_manual() {
    let said = said_by_the_daemon();
    let manual = of_the_manual(&read("docs/man/freemkvd.8"));
    assert!(said.len() > 50 && manual.len() > 50, "{} said, {} read", said.len(), manual.len());
    let explained = |said: &&Message| manual.iter().any(|head| head.covers(said));
    let missing: Vec<_> = said.iter().filter(|said| !explained(said)).collect();
    assert!(missing.is_empty(), "not in freemkvd(8): {missing:#?}");
    let is_said = |head: &&Message| said.iter().any(|said| head.covers(said));
    let stale: Vec<_> = manual.iter().filter(|head| !is_said(head)).collect();
    assert!(stale.is_empty(), "in freemkvd(8), and nobody says it: {stale:#?}");
}

impl Message {
    /// Whether this one, of the manual, tells of `said`.
    fn covers(&self, said: &Self) -> bool {
        let is_covered = match self.words.strip_suffix("...") {
            Some(beginning) => said.words.starts_with(beginning),
            None => said.words == self.words,
        };
        self.level == said.level && is_covered
    }
}

pub(super) fn read(name: &str) -> String {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    std::fs::read_to_string(root.join(name)).unwrap()
}

fn said_by_the_daemon() -> Vec<Message> {
    let mut known: BTreeSet<&str> = IN_FULL.iter().map(|(words, _)| *words).collect();
    known.extend(EXPLAIN_THEMSELVES.iter().map(|(words, _)| *words));
    let (mut all, mut met) = (Vec::new(), BTreeSet::new());
    for source in sources() {
        if !source.name.starts_with("daemon/src/") || source.is_test() {
            continue;
        }
        for (level, line, words) in logged(&source.text) {
            met.extend(known.get(words.as_str()));
            if EXPLAIN_THEMSELVES.iter().any(|(known, _)| *known == words) {
                continue;
            }
            let in_full = IN_FULL.iter().find(|(known, _)| *known == words);
            let in_full = in_full.map_or_else(|| vec![words.as_str()], |(_, all)| all.to_vec());
            let place = format!("{}:{line}", source.name);
            all.extend(in_full.into_iter().map(|words| Message {
                level: level.to_owned(),
                words: without_values(words),
                place: place.clone(),
            }));
        }
    }
    assert_eq!(met, known, "the lists above know messages that nobody says any more");
    all
}

/// Level, line and words of each message that a source logs, but for those of its tests.
fn logged(text: &str) -> Vec<(&'static str, usize, String)> {
    let text = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or(text);
    let mut found = Vec::new();
    for (name, level) in [("error!(", "error"), ("warn!(", "warning"), ("info!(", "info")] {
        for (at, _) in text.match_indices(name) {
            let (before, call) = (&text[..at], &text[at + name.len()..]);
            let line = before.lines().last().unwrap_or_default().trim_start();
            let is_of_another = before.ends_with(|c: char| c.is_alphanumeric() || c == '_');
            if is_of_another || line.starts_with("//") {
                continue;
            }
            let number = 1 + before.matches('\n').count();
            let words =
                words_of(call).unwrap_or_else(|| panic!("no words: {line}{name}, line {number}"));
            found.push((level, number, words));
        }
    }
    found
}

/// Of what is between the parentheses of a macro, the first string that is an argument by itself.
fn words_of(call: &str) -> Option<String> {
    let (mut depth, mut is_begin) = (0, true);
    let mut rest = call.chars();
    while let Some(c) = rest.next() {
        match c {
            '"' => {
                let words = string(&mut rest);
                if depth == 0 && is_begin {
                    return Some(words);
                }
            }
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' if depth == 0 => return None,
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
        is_begin = c == ',' || c.is_whitespace() && is_begin;
    }
    None
}

/// A string from behind its first quotation mark on, as the compiler reads it.
pub(super) fn string(rest: &mut std::str::Chars<'_>) -> String {
    let mut words = String::new();
    while let Some(c) = rest.next() {
        match c {
            '"' => break,
            '\\' => match rest.next() {
                Some('\n') => *rest = rest.as_str().trim_start().chars(),
                Some(escaped) => words.push(escaped),
                None => break,
            },
            c => words.push(c),
        }
    }
    words
}

/// `stream {id} failed: {why}` as `stream * failed: *`.
pub(super) fn without_values(words: &str) -> String {
    let mut pieces = words.split('{');
    let mut told = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        told += ANY;
        told += piece.split_once('}').map_or("", |(_, rest)| rest);
    }
    told
}

/// The messages of the manual: `.It info: stream N failed: WHY` as `stream * failed: *`.
fn of_the_manual(page: &str) -> Vec<Message> {
    let (_, list) = page.split_once("\nThe messages:\n").unwrap();
    let (list, _) = list.split_once("\n.El\n").unwrap();
    let list = list.replace("\\\n", "");
    let mut found = Vec::new();
    for head in list.lines().filter_map(|line| line.strip_prefix(".It ")) {
        let (level, words) = head.split_once(": ").unwrap();
        found.extend(words.split(" , ").map(|words| Message {
            level: level.to_owned(),
            words: without_names(words),
            place: head.to_owned(),
        }));
    }
    found
}

/// Puts a mark in the place of each word in capital letters. WHY at the end is whatever there is to say.
pub(super) fn without_names(words: &str) -> String {
    if let Some(beginning) = words.strip_suffix("WHY") {
        return without_names(beginning) + "...";
    }
    let mut told = String::new();
    for word in words.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
        let name = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_uppercase());
        told += if is_name { ANY } else { name };
        told += &word[name.len()..];
    }
    told
}

#[test]
fn each_number_of_an_error_is_in_the_manual_of_the_protocol() {
    let page = read("docs/man/freemkvd-protocol.7");
    let (_, list) = page.split_once("\n.Sh ERROR CODES\n").unwrap();
    let (list, _) = list.split_once("\n.El\n").unwrap();
    let numbers = |line: &str| line.strip_prefix(".It ")?.split_once(" Ta ")?.0.parse::<u16>().ok();
    let told: BTreeSet<_> = list.lines().filter_map(numbers).collect();
    assert_eq!(told, ErrorCode::ALL.iter().map(|code| code.0).collect());
}

#[test]
fn a_message_is_found_in_its_source_and_in_its_manual() {
    let source = r#"
        // warn!("in a comment");
        tracing::warn!(stream, place = words("not this"), "cannot {} of \
            stream {stream}: {error}", verb(")"));
        info!(event, "it \"goes on\"");"#;
    let words = |text| without_values(text);
    let found = logged(source);
    assert_eq!(found.len(), 2);
    assert_eq!((found[0].0, found[0].1), ("warning", 3));
    assert_eq!(words(&found[0].2), "cannot * of stream *: *");
    assert_eq!(found[1].2, "it \"goes on\"");
    let manual = of_the_manual(
        "\nThe messages:\n.Bl -tag\n.It info: it goes \\\non , A: is at http://B/x\nText.\n.It error: no: WHY\n.El\n",
    );
    let manual: Vec<_> = manual.iter().map(|head| (&*head.level, &*head.words)).collect();
    let heads = [("info", "it goes on"), ("info", "*: is at http://*/x"), ("error", "no: ...")];
    assert_eq!(manual, heads);
}
