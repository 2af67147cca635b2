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
    let mut output = io::stdout().lock();
    output.write_all(&script).and_then(|()| output.flush()).map_err(Failed::Output)?;
    Ok(Exit::Fine)
}
