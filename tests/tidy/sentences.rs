//! What freemkvctl says of troubles and errors is in freemkvctl(1), in the same words; see `messages`, which does that for
//! the daemon.

use crate::messages::{read, string, without_names, without_values};

/// Where freemkvctl says what is wrong, what happens, what it waits for, and why it has failed.
const PLACES: &[&str] = &[
    "client/src/bin/freemkvctl/exit.rs",
    "client/src/bin/freemkvctl/problems.rs",
    "client/src/bin/freemkvctl/waiting.rs",
    "client/src/bin/freemkvctl/watch.rs",
    "client/src/bin/freemkvctl/watch/change.rs",
    "client/src/bin/freemkvctl/write.rs",
    "client/src/error.rs",
    "client/src/options.rs",
    "client/src/remote/choice.rs",
];

/// Sentences of which the source has not all words in one place: what they come to.
const IN_FULL: &[(&str, &[&str])] = &[
    (
        "{end}: {name}: {message}{details}{hangs}",
        &["failed: {name}: {message}", "aborted: {name}: {message}"],
    ),
    (
        "waiting for {what}, for {age} so far: {}",
        &["waiting for space on {} (at least {} more, gives up in {}), for {age} so far: {}"],
    ),
    ("stalled in {call} for {age}{place}: {}", &["stalled in {call} for {age} on {}: {}"]),
    (
        "device {id} has been {state} for {age}: {place} has {left} to write back",
        &[
            "device {id} has been {state} for {age}: {mount} ({filesystem}) has {left} to write back",
        ],
    ),
    (
        "abandoned for {}, its muxer is gone; {}: {}",
        &["abandoned for {}, its muxer is gone; what it had handed over is on disk: {}"],
    ),
    (
        "slow: {name}: its muxer was held up for {percent} % of the last {time}, most of all while the stream was \
         {cause}{pace} (freemkvctl why {id})",
        &[
            "slow: {name}: its muxer was held up for {percent} % of the last {time}, most of all while the stream was \
             {cause}; {place} gets {}/s done (freemkvctl why {id})",
        ],
    ),
    ("{how}: stream {stream}, {path}{error}", &["ended, {how}: stream {stream}, {path}: {error}"]),
    (
        "waiting for {}; free some",
        &["waiting for space on {} (at least {} more, gives up in {}); free some"],
    ),
    (
        "paused from outside; {} has it go on",
        &["paused from outside; freemkvctl resume {} has it go on"],
    ),
    (
        "{operation} {} took longer than {after:?}, its outcome is unknown; try again",
        &["asking freemkvd at {} took longer than {after:?}, its outcome is unknown; try again"],
    ),
    ("cannot {operation} {}{}: {cause}", &["cannot {operation} {} at byte {}: {cause}"]),
    ("cannot {operation} {path}{at}: {}", &["cannot {operation} {path} at byte {}: {}"]),
    (
        "{} stays as it is, {} are written and {} of them durable",
        &["{cause}; {} stays as it is, {} are written and {} of them durable"],
    ),
    (
        "what was written of it is {}, which --overwrite begins anew",
        &["{cause}; what was written of it is {}, which --overwrite begins anew"],
    ),
    ("nothing of it is kept", &["{cause}; nothing of it is kept"]),
    (
        "{path} can't be opened here and passed to freemkvd: {what}",
        &[
            "{path} can't be opened here and passed to freemkvd: {what}; write it to another file system, or have \
             freemkvd open it: --open-by path",
        ],
    ),
    (
        "freemkvd-client: freemkvd opens files itself instead: {error}; it does so by path, as its own user",
        &["freemkvd opens files itself instead: {error}; it does so by path, as its own user"],
    ),
    (
        "freemkvd-client: this process writes its files itself: {error}",
        &["this process writes its files itself: {error}"],
    ),
];

/// Strings that are no sentence by themselves, and parts of those above.
const NO_SENTENCES: &[&str] = &[
    "failed: {}",
    "(os error",
    " (errno {errno} at byte {offset})",
    " (errno {errno})",
    " (at byte {offset})",
    "; its thread has been in {call} for {age} and keeps the file until that returns",
    "{mount} ({filesystem})",
    "what it had handed over is being written",
    "what it had handed over is on disk",
    "; {place} gets {}/s done",
    "stream {}, {}",
    " on {mount}",
    " on device {id}",
    "{erase}freemkvctl: {}",
    "{time} {message}n",
    "{what}: {}",
    "no space",
    "the budget",
    "ended, {}",
    ": {error}",
    "{cause}; {left}",
    "freemkvctl: {}n",
    "{:.1} s",
    "{}, {}/s, written {}, durable {}",
    " at byte {offset}",
    "{}: {message}",
    "open, in this process,",
    "join the group of its socket, {group} (usermod -aG)",
    "join the group of its socket",
    "; --overwrite empties and writes it",
    "; write it to another file system, or have freemkvd open it: --open-by path",
    // What the daemon says to programs, and a person has no use for, is looked for and left out.
    " by the descriptors that came for it: ",
    "; open the file twice",
];

/// Sentences that say all there is to say, and begin like this.
const EXPLAIN_THEMSELVES: &[&str] = &[
    "cannot write to standard output: ",
    "cannot catch signals: ",
    "cannot draw on the terminal: ",
    "cannot put the status into JSON: ",
    "cannot read standard input: ",
    "this draws on a terminal, and standard output is none; ",
    "x20 to start it: ",
    "making it durable",
    "freemkvctl: making durable what was read; ",
    "wrote {} to {} in {}, durable; opened {opened_by}",
    // Of the library, to a program that uses it.
    "cannot reach freemkvd at {}; ",
    "start it, name its socket in {SOCKET_ENV}, ",
    "only members of the socket's group ",
    "check the socket, ",
    "{operation} {} was halted",
    "the patch window must be ",
    "the weight must be ",
    "the memory limit must be ",
    "only on Unix can an open file be passed on; ",
    "take a file that its client has opened; upgrade it, ",
];

#[test]
fn what_freemkvctl_says_of_troubles_is_in_its_manual() {
    let said = said();
    let manual = of_the_manual(&read("docs/man/freemkvctl.1"));
    assert!(said.len() > 25 && manual.len() > 25, "{} said, {} read", said.len(), manual.len());
    let covers = |head: &String, said: &String| match head.strip_suffix("...") {
        Some(beginning) => said.starts_with(beginning),
        None => head == said,
    };
    let explained = |said: &&String| manual.iter().any(|head| covers(head, said));
    let missing: Vec<_> = said.iter().filter(|said| !explained(said)).collect();
    assert!(missing.is_empty(), "not in freemkvctl(1): {missing:#?}");
    let is_said = |head: &&String| said.iter().any(|said| covers(head, said));
    let stale: Vec<_> = manual.iter().filter(|head| !is_said(head)).collect();
    assert!(stale.is_empty(), "in freemkvctl(1), and nobody says it: {stale:#?}");
}

/// All sentences of [`PLACES`], with a mark where they differ.
fn said() -> Vec<String> {
    let mut unknown: Vec<&str> = IN_FULL.iter().map(|(words, _)| *words).collect();
    unknown.extend(NO_SENTENCES);
    unknown.extend(EXPLAIN_THEMSELVES);
    let mut all = Vec::new();
    for words in PLACES.iter().flat_map(|place| strings(&read(place))) {
        let explains_itself = |known: &&&str| words.starts_with(**known);
        let known = EXPLAIN_THEMSELVES.iter().find(explains_itself).copied().unwrap_or(&words);
        unknown.retain(|listed| *listed != known);
        let is_listed = NO_SENTENCES.contains(&&*words) || EXPLAIN_THEMSELVES.contains(&known);
        if is_listed || !words.contains(' ') {
            continue;
        }
        let in_full = IN_FULL.iter().find(|(known, _)| *known == words);
        let in_full = in_full.map_or_else(|| vec![words.as_str()], |(_, all)| all.to_vec());
        all.extend(in_full.into_iter().map(|words| one_name(&without_values(words))));
    }
    assert!(unknown.is_empty(), "the lists above know what nobody says any more: {unknown:#?}");
    all
}

/// The strings of a source, but for those of its comments, attributes and tests.
fn strings(text: &str) -> Vec<String> {
    let text = text.split("\n#[cfg(test)]\n").next().unwrap_or(text);
    let is_code = |line: &&str| !line.trim_start().starts_with("//");
    let code = text.lines().filter(is_code).collect::<Vec<_>>().join("\n");
    let code = code.replace("'\"'", "''");
    let mut rest = code.chars();
    let mut found = Vec::new();
    while let Some(c) = rest.next() {
        if c == '"' {
            found.push(string(&mut rest));
        }
    }
    found
}

/// The heads of the lists under DIAGNOSTICS.
fn of_the_manual(page: &str) -> Vec<String> {
    let (_, list) = page.split_once("\n.Sh DIAGNOSTICS\n").unwrap();
    let (list, _) = list.split_once("\n.Sh ").unwrap();
    let list = list.replace("\\\n", "");
    let heads = list.lines().filter_map(|line| line.strip_prefix(".It "));
    heads.flat_map(|head| head.split(" , ")).map(|head| one_name(&without_names(head))).collect()
}

/// A stream has its number and its path as one name in most sentences.
fn one_name(words: &str) -> String {
    words.replace("stream *, *", "*")
}
