//! `freemkvctl doctor` where even the open of its file hangs: who does not want to wait need not, and is told what is left.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use freemkvd_tests::programs;
use rustix::process::{Pid, Signal, kill_process};

use super::disk::Frozen;
use super::mount;

/// Nothing here takes as long.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
#[ignore = "needs root: freezes a file system"]
fn ctrl_c_is_answered_while_its_open_hangs() {
    let dir = tempfile::tempdir_in(mount("ext4")).unwrap();
    let frozen = Frozen::new(&mount("ext4"));
    let mut command = Command::new(programs::freemkvctl());
    command.args(["doctor", "--size", "8MiB"]).arg(dir.path());
    let mut doctor = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let (sender, lines) = mpsc::channel();
    let said = BufReader::new(doctor.stderr.take().unwrap());
    std::thread::spawn(move || {
        said.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
    });
    let next = || lines.recv_timeout(PATIENCE).unwrap_or_else(|_| "nothing".to_owned());
    let first = next();
    kill_process(Pid::from_child(&doctor), Signal::INT).unwrap();
    let second = next();
    // A thread that hangs in there keeps the process, until here.
    drop(frozen);
    assert_eq!(doctor.wait().unwrap().code(), Some(1));
    assert!(first.starts_with("freemkvctl: writing up to "), "{first}");
    assert_eq!(second, "freemkvctl: interrupted; nothing is left behind");
    assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none());
}
