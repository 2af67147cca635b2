//! What a hook may be, and what is said of one that may not.

use super::super::tests::{error, parse};
use super::*;

#[test]
fn without_a_command_there_is_no_hook() {
    assert_eq!(parse("[hook]\ncommand = []\n").unwrap().hook, Settings::default());
    assert_eq!(parse("").unwrap().hook.program, None);
}

#[cfg(unix)]
#[test]
fn a_command_is_a_program_and_its_arguments() {
    let text =
        "[hook]\ncommand = [\"/bin/echo\", \"a b\", \"\"]\nstall = \"5min\"\ntimeout = \"1s\"\n";
    let config = parse(text).unwrap();
    let arguments = vec!["a b".to_owned(), String::new()];
    let program = Some(Program { path: "/bin/echo".into(), arguments });
    let (stall, timeout) = (Duration::from_secs(300), Duration::from_secs(1));
    assert_eq!(config.hook, Settings { program, stall, timeout });
    let (now, restart) = parse("").unwrap().changes(&config);
    assert_eq!(
        now,
        [
            "hook.command from nothing to \"/bin/echo\" \"a b\" \"\"",
            "hook.stall from 1m to 5m",
            "hook.timeout from 30s to 1s"
        ]
    );
    assert_eq!(restart, [""; 0]);
}

#[cfg(unix)]
#[test]
fn what_cannot_be_run_is_refused_with_what_would_be_right() {
    for (line, expected) in [
        ("command = [\"notify\"]", "hook.command begins with \"notify\"; write the absolute path"),
        ("command = [\"\"]", "hook.command begins with \"\"; write the absolute path"),
        ("command = [\"/a\", \"b\\u0000\"]", "hook.command has \"b\\0\"; leave out the NUL"),
        ("command = \"/bin/echo\"", ""),
    ] {
        let text = error(&format!("[hook]\n{line}\n"));
        assert!(text.starts_with(&format!("test.toml:2: {expected}")), "{text}");
    }
}

#[test]
fn times_are_refused_one_beyond_their_edge() {
    for (key, most, beyond) in [("stall", "1day", "86401s"), ("timeout", "1h", "3601s")] {
        for good in ["1s", most] {
            assert!(parse(&format!("[hook]\n{key} = \"{good}\"\n")).is_ok(), "{key} = {good}");
        }
        for wrong in ["999ms", "0s", beyond] {
            let text = error(&format!("[hook]\n{key} = \"{wrong}\"\n"));
            let is_said = text.starts_with(&format!("test.toml:2: hook.{key} is "));
            assert!(is_said && text.contains("it must be from 1s to 1"), "{text}");
        }
    }
}
