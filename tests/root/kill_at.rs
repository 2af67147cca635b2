//! The daemon is killed right before a chosen system call, by a tracer: after accept, between the write
//! and its progress, during a sync, between the entry of a record and its name. The next daemon takes over,
//! and both muxers, one that patches and one that can't seek, end well with the right file.
//!
//! strace counts the calls of each thread by itself, from when it was attached: "the second fsync" is that of
//! whichever thread gets there first.

use std::io::{Read as _, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use freemkvd_client::RipFile;
use freemkvd_tests::daemon::{Daemon, wait_until};
use freemkvd_tests::{pattern, programs};
use rustix::process::Signal;

use super::{MIB, mount};

/// Calls that stand between two things that must not come apart. Not all are made on every kernel, or in
/// every run; the figures at the end say which were hit.
const CALLS: [&str; 21] = [
    "accept4",
    "recvfrom",
    "recvmsg",
    "read",
    "sendto",
    "sendmsg",
    "write",
    "writev",
    "openat",
    "openat2",
    "mmap",
    "pwrite64",
    "pwritev2",
    "sync_file_range",
    "fdatasync",
    "fsync",
    "fadvise64",
    "ftruncate",
    "renameat2",
    "unlink",
    "close",
];

/// The first of a thread to the fourth.
const NTH_MAX: u32 = 4;

/// How long the tracer may take to end when it is asked to.
const TRACER_END: Duration = Duration::from_secs(5);

const PATCHED_SEED: u64 = 11;
const PIPED_SEED: u64 = 12;
const PATCHED_LEN: u64 = 5 * MIB;
const PIPED_LEN: u64 = 3 * MIB + 4321;

/// A tracer that kills what it traces before one of its calls; ends with its owner.
struct Tracer {
    child: Child,
    output: PathBuf,
}

impl Tracer {
    /// Returns once every thread is traced, or dead already.
    fn attach(daemon: &mut Daemon, call: &str, nth: u32, output: PathBuf) -> Self {
        let mut child = Command::new("strace")
            .args(["--follow-forks", "--decode-pids=comm", "--string-limit=16"])
            .arg(format!("--trace={call}"))
            .arg(format!("--inject={call}:signal=SIGKILL:when={nth}"))
            .args(["--attach", &daemon.pid().to_string(), "--output"])
            .arg(&output)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("strace is installed");
        let begun = wait_until(|| {
            daemon.ended().is_some() || child.try_wait().unwrap().is_some() || is_traced(daemon)
        });
        assert!(begun, "strace does not trace");
        Self { child, output }
    }

    /// Ends it, and with it the tracing. What the call was at which it killed, if it came to that.
    fn end(mut self) -> String {
        let pid = i32::try_from(self.child.id()).unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        // Seldom it waits for ever for a thread that it traces, whether that is dead or not: then it is killed, and
        // the kernel lets go of its threads.
        for signal in [Signal::TERM, Signal::KILL] {
            if let Ok(None) = self.child.try_wait() {
                let _ = rustix::process::kill_process(pid, signal);
            }
            let since = Instant::now();
            let ended = || self.child.try_wait().unwrap().is_some() || since.elapsed() > TRACER_END;
            assert!(wait_until(ended), "it is looked at");
        }
        let text = std::fs::read_to_string(&self.output).unwrap_or_default();
        let mut calls = text.lines().filter(|line| !line.contains("+++") && !line.contains("---"));
        calls.next_back().unwrap_or_default().trim().to_owned()
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_traced(daemon: &Daemon) -> bool {
    let threads = daemon.threads();
    !threads.is_empty()
        && threads.iter().all(|(_, number)| {
            let file = format!("/proc/{}/task/{number}/status", daemon.pid());
            let text = std::fs::read_to_string(file).unwrap_or_default();
            let tracer = text.lines().find_map(|line| line.strip_prefix("TracerPid:"));
            tracer.is_some_and(|pid| pid.trim() != "0")
        })
}

/// A muxer that patches: near and far, with a sync in the middle, and an end that was too long.
fn write_patched(file: &mut RipFile) -> std::io::Result<()> {
    let patch = |file: &mut RipFile, offset: u64, len: usize| {
        file.seek(SeekFrom::Start(offset))?;
        file.write_all(&pattern::bytes(PATCHED_SEED, offset, len))?;
        file.seek(SeekFrom::End(0)).map(drop)
    };
    file.write_all(&[0xee; 64])?;
    pattern::write(file, PATCHED_SEED, 64, 2 * MIB - 64)?;
    file.sync_all()?;
    patch(file, 0, 64)?;
    file.write_zeroes(1000)?;
    pattern::write(file, PATCHED_SEED, 2 * MIB + 1000, PATCHED_LEN - 2 * MIB - 1000)?;
    patch(file, 2 * MIB, 1000)?;
    file.write_all(&[0xee; 5000])?;
    file.flush()?;
    file.set_len(PATCHED_LEN)
}

/// Writes a file that is patched; what became of it.
fn patch(path: &Path, daemon_options: &freemkvd_client::Options) -> Result<(), String> {
    let options = daemon_options.clone().window_bytes(MIB).memory_limit_bytes(6 * MIB);
    let mut file = options.create(path).map_err(|error| format!("create: {error}"))?;
    write_patched(&mut file).map_err(|error| format!("write: {error}"))?;
    file.finish().map_err(|error| format!("finish: {error}"))?;
    Ok(())
}

/// What each thread of the daemon is doing, and what it says of its streams.
fn stuck(daemon: &Daemon) -> String {
    let threads = daemon.threads().into_iter().map(|(name, number)| {
        let read = |file: &str| {
            let file = format!("/proc/{}/task/{number}/{file}", daemon.pid());
            std::fs::read_to_string(file).unwrap_or_default()
        };
        let status = read("status");
        let state = status.lines().find(|line| line.starts_with("State:")).unwrap_or_default();
        format!("{name}: {state}, in {}: {}", read("wchan"), read("stack").replace('\n', " "))
    });
    let threads = threads.collect::<Vec<_>>().join("\n");
    format!("{threads}\n{:#?}", daemon.try_status())
}

/// What is to come out of a run that was killed at some step.
#[derive(Clone, Copy)]
struct Run<'a> {
    root: &'a Path,
    call: &'static str,
    nth: u32,
}

impl Run<'_> {
    fn path(&self, name: &str) -> PathBuf {
        self.root.join(format!("{}-{}-{name}", self.call, self.nth))
    }

    fn pipe(&self, daemon: &Daemon) -> Child {
        let mut child = Command::new(programs::freemkvctl())
            .arg("--socket")
            .arg(daemon.socket())
            .args(["write", "--quiet", "--overwrite"])
            .arg(self.path("piped"))
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        thread::spawn(move || pattern::write(&mut input, PIPED_SEED, 0, PIPED_LEN));
        child
    }

    fn check(&self, name: &str, seed: u64, len: u64, outcome: Result<(), String>) -> u64 {
        let path = self.path(name);
        match outcome {
            Ok(()) => {
                let found = pattern::prefix_len(seed, &path).unwrap();
                assert_eq!(found, len, "{}", path.display());
                std::fs::remove_file(&path).unwrap();
                found
            }
            // Whoever is killed before the muxer knows that its file is open may leave it to the muxer to
            // try again; it has to be told.
            Err(error) if error.starts_with("create: ") => {
                eprintln!("kill_at: before {} {}: {error}", self.call, self.nth);
                let _ = std::fs::remove_file(&path);
                0
            }
            Err(error) => panic!("before {} {}: {name}: {error}", self.call, self.nth),
        }
    }
}

fn ended(mut child: Child) -> Result<(), String> {
    let done = wait_until(|| child.try_wait().unwrap().is_some());
    if !done {
        child.kill().unwrap();
    }
    let status = child.wait().unwrap();
    let mut said = String::new();
    let _ = child.stderr.take().unwrap().read_to_string(&mut said);
    match status.success() {
        true => Ok(()),
        // 3: it found nobody who could open the file.
        false if status.code() == Some(3) || said.contains("open") => {
            Err(format!("create: {status}: {said}"))
        }
        false => Err(format!("{status}: {said}")),
    }
}

#[test]
#[ignore = "needs root: a tracer that kills"]
fn a_kill_before_any_step_of_a_stream_loses_nothing() {
    let dir = tempfile::tempdir_in(mount("ext4")).unwrap();
    let mut daemon = Daemon::start(dir.path(), "");
    let (mut hit, mut bytes) = (Vec::new(), 0);
    for call in CALLS {
        for nth in 1..=NTH_MAX {
            let run = Run { root: dir.path(), call, nth };
            let tracer = Tracer::attach(&mut daemon, call, nth, dir.path().join("strace"));
            let options = daemon.options().sync_timeout(Duration::from_secs(80));
            let mut piped = run.pipe(&daemon);
            // By itself: what hangs is to be told of, and not waited for when this test gives up.
            let patched = thread::spawn({
                let path = run.path("patched");
                move || patch(&path, &options)
            });
            // Killed, or never at this step.
            let mut both_ended = || patched.is_finished() && piped.try_wait().unwrap().is_some();
            let over = wait_until(|| daemon.ended().is_some() || both_ended());
            assert!(over, "{call} {nth}: it hangs:\n{}\nlog:\n{}", stuck(&daemon), daemon.log());
            let was_killed = daemon.ended().is_some();
            let step = tracer.end();
            if was_killed {
                daemon.start_again();
                eprintln!("kill_at: {call} {nth}: {step}");
                hit.push((call, nth));
            }
            let over = wait_until(|| patched.is_finished());
            assert!(over, "{call} {nth}: {}\nlog:\n{}", stuck(&daemon), daemon.log());
            let (patched, piped) = (patched.join().unwrap(), ended(piped));
            bytes += run.check("patched", PATCHED_SEED, PATCHED_LEN, patched);
            bytes += run.check("piped", PIPED_SEED, PIPED_LEN, piped);
        }
    }
    eprintln!("kill_at: {} kills, {bytes} bytes compared", hit.len());
    for call in CALLS {
        let times = hit.iter().filter(|(name, _)| *name == call).count();
        eprintln!("kill_at: {call}: {times} of {NTH_MAX}");
    }
    // Whatever the kernel offers, these are made.
    for call in ["sendto", "fsync", "renameat2", "close"] {
        assert!(hit.iter().any(|(name, _)| *name == call), "{call} was never hit");
    }
    daemon.wait_for("an idle daemon", |status| status.streams.is_empty());
}
