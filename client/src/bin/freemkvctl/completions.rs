//! `freemkvctl completions`: what a shell completes, from the same declarations that the command line is read by,
//! so that the two cannot differ.

use std::io::{self, Write};

use clap::CommandFactory;
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
    if shell == Shell::Fish {
        script.extend(choices_for_fish().into_bytes());
    }
    let mut output = io::stdout().lock();
    output.write_all(&script).and_then(|()| output.flush()).map_err(Failed::Output)?;
    Ok(Exit::Fine)
}

/// What the generator leaves out for fish: the choices of an argument that is not an option.
fn choices_for_fish() -> String {
    let mut script = String::new();
    for subcommand in Arguments::command().get_subcommands() {
        for argument in subcommand.get_positionals() {
            let values = argument.get_possible_values();
            let names: Vec<_> = values.iter().map(|value| value.get_name()).collect();
            if !names.is_empty() {
                script.push_str(&format!(
                    "complete -c freemkvctl -n \"__fish_freemkvctl_using_subcommand {}\" -f -a \"{}\"\n",
                    subcommand.get_name(),
                    names.join(" ")
                ));
            }
        }
    }
    script
}
