//! `freemkvctl completions`: each shell understands what is printed for it, and it knows every subcommand.

#[cfg(target_os = "linux")]
use std::process::{Command, Stdio};

use crate::{exit_code, freemkvctl, stderr, stdout};

const SHELLS: [(&str, &str); 3] =
    [("bash", "_freemkvctl()"), ("zsh", "#compdef freemkvctl"), ("fish", "# ")];

fn script_for(shell: &str) -> String {
    let output = freemkvctl(&crate::nobody()).args(["completions", shell]).output().unwrap();
    assert_eq!(exit_code(&output), 0, "{shell}: {}", stderr(&output));
    stdout(&output)
}

/// The subcommands, as the help lists them.
fn subcommands() -> Vec<String> {
    let help = stdout(&freemkvctl(&crate::nobody()).arg("-h").output().unwrap());
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let words = listed.take_while(|line| !line.is_empty()).filter_map(|line| {
        line.strip_prefix("  ")?.split(' ').next().filter(|word| !word.is_empty())
    });
    words.map(str::to_owned).collect()
}

#[test]
fn completions_name_every_subcommand_and_need_no_daemon() {
    let subcommands = subcommands();
    assert!(subcommands.len() > 8, "{subcommands:?}");
    for (shell, first) in SHELLS {
        let script = script_for(shell);
        assert!(script.starts_with(first), "{shell} begins with {:?}", script.lines().next());
        for word in &subcommands {
            assert!(script.contains(word), "{shell} does not know {word}");
        }
    }
}

#[test]
fn a_shell_that_nobody_has_is_wrong_usage() {
    let output = freemkvctl(&crate::nobody()).args(["completions", "sh"]).output().unwrap();
    assert_eq!((exit_code(&output), stdout(&output)), (2, String::new()));
    assert!(stderr(&output).contains("bash, fish, zsh"), "{}", stderr(&output));
}

/// Of zsh and fish only what is installed; bash is everywhere.
#[cfg(target_os = "linux")]
#[test]
fn each_shell_parses_what_is_printed_for_it() {
    let directory = tempfile::tempdir().unwrap();
    for (shell, _) in SHELLS {
        let script = directory.path().join(shell);
        std::fs::write(&script, script_for(shell)).unwrap();
        match Command::new(shell).arg("-n").arg(&script).stdin(Stdio::null()).output() {
            Ok(output) => assert!(output.status.success(), "{shell}: {}", stderr(&output)),
            Err(_) => assert_ne!(shell, "bash", "there is no bash"),
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn bash_completes_subcommands_options_and_choices() {
    let script = script_for("bash");
    // What bash does for "freemkvctl WORD... PART<Tab>"; in a script it has no such key.
    let complete = |line: &str| {
        let ask = format!(
            "{script}\nCOMP_WORDS=({line}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n\
             _freemkvctl freemkvctl \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD-1]}}\"\n\
             echo \"${{COMPREPLY[@]}}\""
        );
        let output = Command::new("bash").args(["-c", &ask]).stdin(Stdio::null()).output().unwrap();
        stdout(&output).trim_end().to_owned()
    };
    assert_eq!(complete("freemkvctl comp"), "completions");
    assert_eq!(complete("freemkvctl completions z"), "zsh");
    assert_eq!(complete("freemkvctl write --pub"), "--publish");
    assert_eq!(complete("freemkvctl write --leftover r"), "remove");
}
