//! The `freemkvctl` command as its users see it: what it prints, and how it exits.

#![expect(clippy::unwrap_used, reason = "whatever panics here fails a test")]

mod abort;
mod completions;
#[cfg(target_os = "linux")]
mod doctor;
mod drain;
mod fake_daemon;
mod metrics;
mod pause;
mod reload;
mod status;
#[cfg(target_os = "linux")]
mod top;
mod usage;
mod watch;
mod weight;
mod why;
mod write;

use std::path::Path;
use std::process::{Command, Output, Stdio};

/// A place where no daemon is.
fn nobody() -> std::path::PathBuf {
    match cfg!(windows) {
        true => r"\\.\pipe\freemkvd-nobody".into(),
        false => std::env::temp_dir().join("freemkvd-nobody.sock"),
    }
}

/// The command with nothing in its environment that could change what it does.
fn freemkvctl(socket: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_freemkvctl"));
    for name in ["COLUMNS", "NO_COLOR", "CLICOLOR_FORCE", "FREEMKVD_SOCKET"] {
        command.env_remove(name);
    }
    command.arg("--socket").arg(socket).stdin(Stdio::null());
    command
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn exit_code(output: &Output) -> i32 {
    output.status.code().expect("not ended by a signal")
}

/// Ctrl-C.
#[cfg(unix)]
fn interrupt(child: &std::process::Child) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
}
