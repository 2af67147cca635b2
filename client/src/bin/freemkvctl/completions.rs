//! `freemkvctl completions`: what a shell completes, from the same declarations that the command line is read by,
//! so that the two cannot differ.

use std::io::{self, Write};

use clap::{Arg, CommandFactory, ValueHint};
use clap_complete::Shell;

use crate::cli::{Arguments, CompletionsOptions, ShellChoice};
use crate::exit::{Exit, Failed};

pub(crate) fn run(options: &CompletionsOptions) -> Result<Exit, Failed> {
    let shell = match options.shell {
        ShellChoice::Bash => Shell::Bash,
        ShellChoice::Fish => Shell::Fish,
        ShellChoice::Zsh => Shell::Zsh,
    };
    // The generator panics where it cannot write, and memory always can be.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "freemkvctl", &mut script);
    let script = match (shell, String::from_utf8_lossy(&script).into_owned()) {
        (Shell::Bash, script) => numbers_for_bash(script),
        (Shell::Fish, script) => script + &choices_for_fish(),
        (_, script) => script,
    };
    let mut output = io::stdout().lock();
    output.write_all(script.as_bytes()).and_then(|()| output.flush()).map_err(Failed::Output)?;
    Ok(Exit::Fine)
}

/// It is a number that no shell knows: neither a word of a list nor a file.
fn is_number(argument: &Arg) -> bool {
    argument.get_value_hint() == ValueHint::Other && argument.get_possible_values().is_empty()
}

/// Where a number is wanted, the generator's script offers the options, and bash files when it offers nothing.
fn numbers_for_bash(mut script: String) -> String {
    const WORDS: &str = "esac\n            COMPREPLY=( $(compgen -W \"${opts}\" -- \"${cur}\") )";
    const NOTHING: &str =
        "esac\n            compopt +o bashdefault +o default 2>/dev/null\n            COMPREPLY=()";
    for subcommand in Arguments::command().get_subcommands() {
        let begin = format!(" freemkvctl__subcmd__{})\n", subcommand.get_name());
        let place = script.find(&begin).filter(|_| subcommand.get_positionals().any(is_number));
        if let Some(place) = place {
            let section = script.split_off(place);
            let section = section.replacen(" || ${COMP_CWORD} -eq 2 ]]", " ]]", 1);
            script.push_str(&section.replacen(WORDS, NOTHING, 1));
        }
    }
    script
}

/// What the generator leaves out for fish: the choices of an argument that is not an option, and that a number is no
/// file.
fn choices_for_fish() -> String {
    let mut script = String::new();
    for subcommand in Arguments::command().get_subcommands() {
        for argument in subcommand.get_positionals() {
            let values = argument.get_possible_values();
            let names: Vec<_> = values.iter().map(|value| value.get_name()).collect();
            let choices = match names.is_empty() {
                true if is_number(argument) => String::new(),
                true => continue,
                false => format!(" -a \"{}\"", names.join(" ")),
            };
            script.push_str(&format!(
                "complete -c freemkvctl -n \"__fish_freemkvctl_using_subcommand {}\" -f{choices}\n",
                subcommand.get_name(),
            ));
        }
    }
    script
}
