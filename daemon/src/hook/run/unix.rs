//! One run of the program, from its start until nothing of its process group is left.
//!
//! 1. It has nothing of the daemon's but its user and its limits: no descriptor, no blocked signal, and of the
//!    environment a few variables.
//! 2. Its group is asked to end when its time is up, and killed a moment later. When it has ended by itself, what it
//!    has left running in its group is killed as well: that may hold the pipes for ever.
//! 3. It is begun in two steps: this program's file, which is in memory, and from there the hook's, on a file system that
//!    may never answer. Until that is read a new process would hold all that the daemon has open, and whoever starts
//!    it would wait.
//! 4. It is reaped after the last signal to its group, so that no other group can have got the number.

mod lines;

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::ioctl_fionbio;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tracing::warn;

use self::lines::Lines;
use super::{Failure, Program};
use crate::config::Span;
use crate::log::event;

/// Whether there can be a hook.
pub const IS_AVAILABLE: bool = true;

/// Descriptors that it takes: both ends of two pipes, `/dev/null`, and two of whoever starts it.
pub const DESCRIPTORS: u64 = 7;

/// What it has of the daemon's environment. All else there is for the daemon alone, as what systemd passes.
const KEPT: [&str; 10] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "XDG_RUNTIME_DIR",
];

/// How often it is looked whether it has ended.
const LOOK: Duration = Duration::from_millis(50);

/// Between asking it to end and killing it; the second when the daemon ends.
const GRACE: Duration = Duration::from_secs(2);
const LAST_GRACE: Duration = Duration::from_millis(200);

/// How long one that was killed may take to be gone before that is worth a line: it hangs in the kernel.
const STUCK: Duration = Duration::from_secs(5);

/// Most bytes that are read of it at a time.
const READ_BYTES: usize = 16 << 10;

/// Runs it, and has each line of its output said.
pub(super) fn run(
    program: &Program,
    variables: &[(&'static str, OsString)],
    timeout: Duration,
    ends_at: &dyn Fn() -> Option<Instant>,
    say: &mut dyn FnMut(&str),
) -> Result<(), Failure> {
    let mut child = start(program, variables).map_err(Failure::Start)?;
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let group = group.expect("the system has given it a number");
    let mut output = Output::of(&mut child);
    let mut end = End::Open { at: Instant::now() + timeout };
    while !has_ended(group) {
        output.wait(say);
        end = end.next(group, ends_at());
        if matches!(end, End::Left) {
            return Err(Failure::DaemonEnds);
        }
    }
    // Gone already is as good.
    let _ = kill_process_group(group, Signal::KILL);
    output.finish(say);
    let status = child.wait().map_err(Failure::Lost)?;
    match end {
        End::Open { .. } if status.success() => Ok(()),
        End::Open { .. } => Err(Failure::Status(status)),
        _ if ends_at().is_some() => Err(Failure::DaemonEnds),
        _ => Err(Failure::TooLong(Span(timeout))),
    }
}

/// What the first step is called with, before the program and its arguments.
const STEP: &str = "--exec-hook";

/// How a shell ends that has found no program.
const NOT_RUN: u8 = 127;

/// The second step, if this process is the first: it becomes the program, or says why it cannot. Else `None`, at once.
#[must_use]
pub fn second_step() -> Option<u8> {
    let mut arguments = std::env::args_os().skip(1);
    let program = arguments.next().filter(|step| step == STEP).and_then(|_| arguments.next())?;
    let error = Command::new(program).args(arguments).exec();
    eprintln!("cannot be run: {error}");
    Some(NOT_RUN)
}

/// The file of this process, also when another version has its name by now.
fn own_file() -> io::Result<PathBuf> {
    let own = Path::new("/proc/self/exe");
    if own.exists() { Ok(own.to_owned()) } else { std::env::current_exe() }
}

/// The standard library gives it the signals as a new process has them: none blocked, and that of a broken pipe kills.
fn start(program: &Program, variables: &[(&'static str, OsString)]) -> io::Result<Child> {
    let kept = KEPT.iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
    let mut command = Command::new(own_file()?);
    command
        .arg(STEP)
        .arg(&program.path)
        .args(&program.arguments)
        .env_clear()
        .envs(kept)
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.spawn()
}

/// Whether it has; it stays there until it is reaped.
fn has_ended(process: Pid) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    !matches!(waitid(WaitId::Pid(process), options), Ok(None))
}

/// How far its end has come.
#[derive(Clone, Copy)]
enum End {
    /// It may run until then.
    Open { at: Instant },
    /// It was asked to end, and is killed then.
    Asked { until: Instant },
    /// It was killed; when that is told.
    Killed { told_at: Option<Instant> },
    /// It does not end, and the daemon does.
    Left,
}

impl End {
    /// What is to be done to it now is done.
    fn next(self, group: Pid, ends_at: Option<Instant>) -> Self {
        let now = Instant::now();
        match self {
            Self::Open { at } if now >= ends_at.map_or(at, |end| end.min(at)) => {
                let _ = kill_process_group(group, Signal::TERM);
                Self::Asked { until: now + if ends_at.is_some() { LAST_GRACE } else { GRACE } }
            }
            Self::Asked { until }
                if now >= ends_at.map_or(until, |end| until.min(end + LAST_GRACE)) =>
            {
                let _ = kill_process_group(group, Signal::KILL);
                Self::Killed { told_at: Some(now + STUCK) }
            }
            Self::Killed { .. } if ends_at.is_some_and(|end| now >= end + 2 * LAST_GRACE) => {
                Self::Left
            }
            Self::Killed { told_at: Some(at) } if now >= at => {
                warn!(
                    event = event::HOOK_FAILED,
                    "the hook was killed and does not end, as it hangs in the kernel; see the kernel's log; no other is \
                     run until it has ended"
                );
                Self::Killed { told_at: None }
            }
            same => same,
        }
    }
}

/// What it says, on both of its ways.
struct Output {
    pipes: Vec<Pipe>,
}

struct Pipe {
    from: Box<dyn Readable>,
    lines: Lines,
}

trait Readable: Read + AsFd {}

impl<T: Read + AsFd> Readable for T {}

impl Output {
    fn of(child: &mut Child) -> Self {
        let out = child.stdout.take().map(|pipe| Box::new(pipe) as Box<dyn Readable>);
        let err = child.stderr.take().map(|pipe| Box::new(pipe) as Box<dyn Readable>);
        let mut pipes = Vec::new();
        for from in [out, err].into_iter().flatten() {
            // One that can't be read without waiting is not read.
            if ioctl_fionbio(&from, true).is_ok() {
                pipes.push(Pipe { from, lines: Lines::default() });
            }
        }
        Self { pipes }
    }

    /// Waits a moment for something to be said, and has it said on.
    fn wait(&mut self, say: &mut dyn FnMut(&str)) {
        // What is not logged any more is not to take a core: whoever says so much waits for its pipe.
        let heard = self.pipes.iter().filter(|pipe| !pipe.lines.are_full());
        let mut heard: Vec<_> = heard.map(|pipe| PollFd::new(&pipe.from, PollFlags::IN)).collect();
        if heard.is_empty() {
            thread::sleep(LOOK);
        } else {
            let timeout = Timespec::try_from(LOOK).expect("a moment is not too long");
            // Interrupted is as good as too late.
            let _ = poll(&mut heard, Some(&timeout));
        }
        self.pipes.retain_mut(|pipe| pipe.read(say));
    }

    /// The rest of what was said. Nothing is waited for: somebody may have taken the pipe with him.
    fn finish(mut self, say: &mut dyn FnMut(&str)) {
        // As much as a pipe holds, many times over.
        for _ in 0..64 {
            self.pipes.retain_mut(|pipe| pipe.read(say));
        }
        self.pipes.iter_mut().for_each(|pipe| pipe.lines.finish(say));
    }
}

impl Pipe {
    /// Takes what is there now; false when nothing can come any more.
    fn read(&mut self, say: &mut dyn FnMut(&str)) -> bool {
        let mut piece = [0; READ_BYTES];
        match self.from.read(&mut piece) {
            Ok(0) => {}
            Ok(len) => {
                self.lines.push(&piece[..len], say);
                return true;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return true,
            Err(_) => {}
        }
        self.lines.finish(say);
        false
    }
}
