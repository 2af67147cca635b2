//! `freemkvctl completions`: each shell understands what is printed for it, and it knows every subcommand.

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

#[cfg(target_os = "linux")]
mod in_shells {
    use std::path::Path;
    use std::process::{Command, Stdio};

    use super::{SHELLS, script_for};
    use crate::{stderr, stdout};

    /// What is typed before the tabulator, and which word that becomes.
    const TYPED: [(&str, &str); 5] = [
        ("freemkvctl comp", "completions"),
        ("freemkvctl completions z", "zsh"),
        ("freemkvctl write --pub", "--publish"),
        ("freemkvctl write --leftover r", "remove"),
        ("freemkvctl status -o dur", "durable"),
    ];

    /// Types into an interactive zsh of which `$1` is the directory with the completions, and prints with which last word
    /// it calls the command.
    const IN_ZSH: &str = r#"
        zmodload zsh/zpty
        zpty shell zsh -f -i
        zpty -w shell "fpath=($1 \$fpath); autoload -U compinit; compinit -D -u"
        zpty -w shell 'freemkvctl() { print -r -- "last<${@[-1]}>" }; print is-\ready'
        zpty -r -m shell said '*is-ready*'
        zpty -w shell "$2"$'\t'
        zpty -r -m shell said '*last<*>*'
        print -r -- ${${said##*last<}%%>*}
    "#;

    /// bash is everywhere. The others are where all of this has to hold, and wherever else they are installed.
    fn has(shell: &str) -> bool {
        let there = Command::new(shell).arg("--version").stdout(Stdio::null()).status().is_ok();
        let must = shell == "bash" || std::env::var("CI").is_ok_and(|ci| ci == "true");
        assert!(there || !must, "there is no {shell}");
        there
    }

    /// A shell that knows nothing of whoever runs this.
    fn clean(shell: &str, home: &Path) -> Command {
        let programs = Path::new(env!("CARGO_BIN_EXE_freemkvctl")).parent().unwrap();
        let path = std::env::join_paths([programs, Path::new("/usr/bin"), Path::new("/bin")]);
        let mut command = Command::new(shell);
        command.env_clear().env("HOME", home).env("TERM", "vt100").env("PATH", path.unwrap());
        command.stdin(Stdio::null());
        command
    }

    fn said(mut command: Command) -> String {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        assert_eq!(stderr(&output), "");
        stdout(&output).trim_end().to_owned()
    }

    #[test]
    fn each_parses_what_is_printed_for_it() {
        let home = tempfile::tempdir().unwrap();
        for (shell, _) in SHELLS.iter().filter(|(shell, _)| has(shell)) {
            let script = home.path().join(shell);
            std::fs::write(&script, script_for(shell)).unwrap();
            let mut command = clean(shell, home.path());
            command.arg("-n").arg(&script);
            assert_eq!(said(command), "", "{shell}");
        }
    }

    #[test]
    fn bash_completes() {
        let (home, script) = (tempfile::tempdir().unwrap(), script_for("bash"));
        for (typed, word) in TYPED {
            // What it does for the tabulator; in a script it has no such key.
            let ask = format!(
                "{script}\nCOMP_WORDS=({typed}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n\
                 _freemkvctl freemkvctl \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD-1]}}\"\n\
                 echo \"${{COMPREPLY[@]}}\""
            );
            let mut command = clean("bash", home.path());
            command.args(["-c", &ask]);
            assert_eq!(said(command), word, "{typed}");
        }
    }

    /// Of a stream's number no shell knows anything: no options come unasked, and no files.
    const NUMBERS: [&str; 3] = ["freemkvctl why ", "freemkvctl weight ", "freemkvctl weight 3 "];

    #[test]
    fn bash_offers_nothing_for_a_number() {
        let (home, script) = (tempfile::tempdir().unwrap(), script_for("bash"));
        for typed in NUMBERS.into_iter().chain(["freemkvctl why --js"]) {
            let ask = format!(
                "{script}\nread -ra COMP_WORDS <<<{typed:?}; [[ {typed:?} == *' ' ]] && COMP_WORDS+=('')\n\
                 COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); compopt() {{ echo \"$*\"; }}\n\
                 _freemkvctl freemkvctl \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD-1]}}\"\n\
                 echo \"<${{COMPREPLY[@]}}>\""
            );
            let mut command = clean("bash", home.path());
            command.args(["-c", &ask]);
            let expected = match typed.ends_with(' ') {
                true => "+o bashdefault +o default\n<>",
                false => "<--json>",
            };
            assert_eq!(said(command), expected, "{typed}");
        }
    }

    #[test]
    fn zsh_completes() {
        if !has("zsh") {
            return;
        }
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("_freemkvctl"), script_for("zsh")).unwrap();
        for (typed, word) in TYPED {
            let mut command = clean("zsh", home.path());
            command.args(["-f", "-c", IN_ZSH, "zsh"]).arg(home.path()).arg(typed);
            assert_eq!(said(command), word, "{typed}");
        }
    }

    #[test]
    fn fish_completes() {
        if !has("fish") {
            return;
        }
        let home = tempfile::tempdir().unwrap();
        let completions = home.path().join(".config/fish/completions");
        std::fs::create_dir_all(&completions).unwrap();
        std::fs::write(completions.join("freemkvctl.fish"), script_for("fish")).unwrap();
        for (typed, word) in TYPED {
            let mut command = clean("fish", home.path());
            command.args(["-c", "complete -C $argv[1]", typed]);
            // With a tabulator and its meaning.
            let all = said(command);
            let words: Vec<_> = all.lines().filter_map(|line| line.split('\t').next()).collect();
            assert_eq!(words, [word], "{typed}");
        }
        std::fs::write(home.path().join("a film"), "").unwrap();
        for typed in NUMBERS {
            let mut command = clean("fish", home.path());
            command.current_dir(home.path()).args(["-c", "complete -C $argv[1]", typed]);
            assert_eq!(said(command), "", "{typed}");
        }
    }
}
