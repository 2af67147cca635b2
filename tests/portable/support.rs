//! Muxers as processes of their own.

use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use freemkvd_tests::daemon::Daemon;
use freemkvd_tests::programs;

/// A muxer that plays `trace` into `out` through `daemon`, makes it durable, and compares it in the end.
pub(crate) fn muxer(daemon: &Daemon, trace: &str, seconds: &str, out: &Path) -> Child {
    paced(daemon, trace, seconds, "0", out)
}

/// The same, so many times faster than the content plays; 0 is flat out.
pub(crate) fn paced(daemon: &Daemon, trace: &str, seconds: &str, speed: &str, out: &Path) -> Child {
    let mut command = Command::new(programs::muxer());
    command
        .args(["--speed", speed])
        .args([
            "--trace",
            trace,
            "--content-seconds",
            seconds,
            "--sink",
            "daemon",
            "--sync",
            "--verify",
        ])
        .arg("--out")
        .arg(out)
        .env("FREEMKVD_SOCKET", daemon.socket())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// It ended well.
pub(crate) fn ended_well(muxer: Child, daemon: &Daemon) {
    let Output { status, stdout, stderr } = muxer.wait_with_output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{status}: {out}{err}\nlog:\n{}", daemon.log());
}

/// `freemkvctl` with these arguments, and what it is to read.
pub(crate) fn ctl(daemon: &Daemon, arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(programs::freemkvctl())
        .arg("--socket")
        .arg(daemon.socket())
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}
