//! The rules of the house that no lint checks: layers, sizes, names. A rule that has a reason to be
//! broken somewhere names the place here.
#![expect(clippy::unwrap_used, reason = "tests")]

mod messages;
mod sentences;

use std::path::{Path, PathBuf};

/// Longest file, and longest function, in lines. What is longer has more than one idea.
const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;

struct Source {
    /// From the project's root, with forward slashes.
    name: String,
    text: String,
}

impl Source {
    /// Lines without comments, numbered from 1.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let numbered = self.text.lines().zip(1..).map(|(line, number)| (number, line));
        numbered.filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    fn is_test(&self) -> bool {
        !self.name.contains("/src/") || self.name.contains("tests") || self.name.contains("/bin/")
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).canonicalize().unwrap();
    let mut folders: Vec<PathBuf> =
        ["proto", "client", "daemon", "tests"].map(|folder| root.join(folder)).into();
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            // What is built there is nobody's source.
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(&root).unwrap().to_str().unwrap().replace('\\', "/");
                sources.push(Source { name, text: std::fs::read_to_string(path).unwrap() });
            }
        }
    }
    assert!(sources.len() > 50, "only {} sources found", sources.len());
    sources
}

/// Fails with every place where a line of code of the chosen files holds one of `words`.
fn nowhere(rule: &str, chosen: impl Fn(&Source) -> bool, words: &[&str]) {
    let mut broken = Vec::new();
    for source in sources().iter().filter(|source| chosen(source)) {
        for (number, line) in source.code() {
            if words.iter().any(|word| line.contains(word)) {
                broken.push(format!("{}:{number}: {}", source.name, line.trim()));
            }
        }
    }
    assert!(broken.is_empty(), "{rule}:\n{}", broken.join("\n"));
}

#[test]
fn decisions_have_no_clock_no_thread_and_no_io() {
    nowhere(
        "budget, stream and the wire are pure",
        |source| {
            let pure = ["daemon/src/budget/", "daemon/src/stream/", "proto/src/"];
            pure.iter().any(|folder| source.name.starts_with(folder))
        },
        &["tokio", "tracing", "std::fs", "std::net", "std::thread", "Instant", "SystemTime"],
    );
}

#[test]
fn only_the_server_is_asynchronous() {
    let shell = ["daemon/src/server/", "daemon/src/lib.rs", "daemon/src/signal/"];
    nowhere(
        "tokio stays in the server, and where it is started",
        |source| {
            source.name.starts_with("daemon/src/")
                && !shell.iter().any(|place| source.name.starts_with(place))
        },
        &["tokio", "async fn", ".await"],
    );
    nowhere(
        "the client blocks",
        |source| source.name.starts_with("client/"),
        &["tokio", "async fn"],
    );
}

#[test]
fn layers_point_downward() {
    let below = |folder: &'static str| move |source: &Source| source.name.starts_with(folder);
    nowhere(
        "storage knows no stream",
        below("daemon/src/storage/"),
        &["crate::server", "crate::writer", "crate::stream", "crate::budget"],
    );
    nowhere("writers know no connection", below("daemon/src/writer/"), &["crate::server"]);
    nowhere(
        "decisions know nobody",
        below("daemon/src/stream/"),
        &["crate::server", "crate::writer", "crate::storage"],
    );
    nowhere("client and daemon meet in proto", below("client/src/"), &["freemkvd::"]);
    nowhere("client and daemon meet in proto", below("daemon/src/"), &["freemkvd_client"]);
}

/// Where code asks which platform it is for, and how often. All else that differs is in a file of its own for each
/// platform, behind the line that chooses the file.
const PLATFORMS: [(&str, usize); 12] = [
    // What a key of the configuration may be, and which file can be opened by whom: a word of the answer.
    ("client/src/options.rs", 1),
    ("client/src/remote/choice.rs", 1),
    ("daemon/src/config/access.rs", 1),
    ("daemon/src/config/merge.rs", 1),
    ("daemon/src/config/mod.rs", 1),
    ("daemon/src/config/modes.rs", 1),
    ("daemon/src/thread.rs", 1),
    ("proto/src/socket.rs", 1),
    // What nobody has is still something that is passed, on Unix.
    ("client/src/platform/memory/none.rs", 1),
    ("daemon/src/server/listener/alone.rs", 1),
    // On Linux these are there for their tests, and the platform's own are others.
    ("daemon/src/storage/unix/mod.rs", 1),
    ("daemon/src/storage/unix/verbs/posix.rs", 1),
];

#[test]
fn platforms_differ_in_files_of_their_own() {
    let names_one = |line: &str| {
        let words = ["target_os", "target_vendor", "unix", "windows"];
        let asks = line.contains("#[cfg(") || line.contains("cfg!(");
        asks && words.iter().any(|word| line.contains(word))
    };
    // Which module there is, and what is taken from it.
    let chooses = |line: &str| {
        let line = line.trim_start();
        let line = line.strip_prefix("pub ").unwrap_or(line);
        line.starts_with("mod ") || line.starts_with("use ")
    };
    let count = |source: &Source| {
        let lines: Vec<_> = source.code().map(|(_, line)| line).collect();
        let end = lines.iter().position(|line| line.starts_with("mod tests {"));
        let end = end.unwrap_or(lines.len());
        let asking = (0..end).filter(|at| names_one(lines[*at]));
        let next = |at: usize| lines[at + 1..].iter().find(|line| !line.starts_with("#["));
        asking.filter(|at| !next(*at).is_some_and(|line| chooses(line))).count()
    };
    let mut found: Vec<_> = sources()
        .iter()
        .filter(|source| !source.is_test())
        .map(|source| (source.name.clone(), count(source)))
        .filter(|(_, count)| *count > 0)
        .collect();
    found.sort();
    let mut known = PLATFORMS.map(|(name, count)| (name.to_owned(), count)).to_vec();
    known.sort();
    assert_eq!(found, known);
}

/// Where `unsafe` is, and how often. What comes is to be looked at: each has a `SAFETY` (clippy's business) and no
/// other way.
const UNSAFE: [(&str, usize); 9] = [
    // Memory that is shared can only come from a mapping, and what is mapped may change under the hands of
    // safe code, unless somebody has made sure of the opposite.
    ("client/src/platform/memory/linux.rs", 1),
    // What another thread has begun on a pipe can only be ended like that.
    ("client/src/platform/pipe/cancel.rs", 1),
    // System calls that no binding offers; two of them are in tests.
    ("daemon/src/storage/linux/call.rs", 10),
    // A number from the environment becomes a descriptor.
    ("daemon/src/storage/linux/passed.rs", 1),
    // Memory that must never be a slice.
    ("daemon/src/storage/linux/slots.rs", 2),
    // A test takes a lease, as a client may.
    ("daemon/src/storage/linux/tests.rs", 2),
    // Space without a length.
    ("daemon/src/storage/unix/verbs/apple.rs", 1),
    // System calls that the standard library does not make; two of the lines name a type of function.
    ("daemon/src/storage/windows/call.rs", 14),
    // Who a peer is. The bindings that there are hand out memory as what it was not allocated as.
    ("daemon/src/user/windows/token.rs", 8),
];

#[test]
fn system_calls_by_hand_stay_where_they_are() {
    let words = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern", "unsafe trait"];
    let is_one = |line: &str| words.iter().any(|word| line.contains(word));
    let count = |source: &Source| source.code().filter(|(_, line)| is_one(line)).count();
    let mut found: Vec<_> = sources()
        .iter()
        .filter(|source| source.name != "tests/tidy/main.rs")
        .map(|source| (source.name.clone(), count(source)))
        .filter(|(_, count)| *count > 0)
        .collect();
    found.sort();
    assert_eq!(found, UNSAFE.map(|(name, count)| (name.to_owned(), count)));
}

#[test]
fn nobody_is_given_a_file_and_no_mode_is_changed() {
    // Mode and group of the daemon's own socket, as the configuration wants them.
    let socket = "daemon/src/server/listener/unix.rs";
    nowhere(
        "the daemon changes no owner and no mode of a file",
        |source| {
            let is_daemon = source.name.starts_with("daemon/src/") && !source.is_test();
            is_daemon && source.name != socket
        },
        &["chown", "chmod", "set_permissions", "setxattr", "SYS_fch", "SYS_ch", "SYS_lch"],
    );
}

#[test]
fn names_say_what_a_thing_is() {
    nowhere(
        "no name that fits everything",
        // Windows has a manager of services, and calls it so.
        |source| !["tests/tidy/main.rs", "daemon/src/service.rs"].contains(&&*source.name),
        &["Manager", "Helper", "mod util", "mod common", "mod helpers"],
    );
}

#[test]
fn files_and_functions_hold_one_idea() {
    let mut broken = Vec::new();
    for source in sources() {
        let lines = source.text.lines().count();
        if lines > FILE_LINES_MAX {
            broken.push(format!("{}: {lines} lines", source.name));
        }
        for (name, number, len) in functions(&source.text) {
            if len > FUNCTION_LINES_MAX && !source.is_test() {
                broken.push(format!("{}:{number}: {name} has {len} lines", source.name));
            }
        }
    }
    assert!(broken.is_empty(), "too long:\n{}", broken.join("\n"));
}

/// Name, first line and length of each function. rustfmt puts the end of one at the indentation of
/// its beginning.
fn functions(text: &str) -> Vec<(String, usize, usize)> {
    let lines: Vec<_> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let Some(name) = code.split("fn ").nth(1).filter(|_| !code.starts_with("//")) else {
            continue;
        };
        if !code.ends_with('{') && !code.ends_with('(') {
            continue;
        }
        let indentation = &line[..line.len() - code.len()];
        let (end, declared) = (format!("{indentation}}}"), format!("{indentation})"));
        // Of a trait there may be no more than the parameters, over several lines.
        let is_end =
            |line: &&str| *line == end || line.starts_with(&declared) && line.ends_with(';');
        if let Some(len) = lines[at..].iter().position(is_end) {
            let name = name.split(['(', '<']).next().unwrap_or(name).to_owned();
            found.push((name, at + 1, len + 1));
        }
    }
    found
}

#[test]
fn sources_are_ascii() {
    let broken: Vec<_> = sources()
        .into_iter()
        .filter(|source| !source.text.is_ascii())
        .map(|source| source.name)
        .collect();
    assert!(broken.is_empty(), "not ASCII: {broken:?}");
}
