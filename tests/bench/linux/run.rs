//! One run: one contender, one workload, one place, once.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use freemkvd_tests::daemon::{self, Daemon};
use freemkvd_tests::{extents, programs};
use rustix::fs::{Advice, fadvise, syncfs};

use super::blocks::Trace;
use super::check::check;
use super::contender::Contender;
use super::dirty::Gauge;
use super::place::Place;
use super::requests::Pattern;
use super::sample::{Sampler, Seen, Watched};
use super::spec::{EXIT_UNSUPPORTED, GO, READY, Spec, Told};
use super::workload::Stream;
use super::{interrupt, kernel, memory};

/// Between two looks at whether writers have ended.
const POLL: Duration = Duration::from_millis(2);

/// What is to be run.
pub(crate) struct Run<'a> {
    pub(crate) place: &'a Place,
    pub(crate) contender: Contender,
    pub(crate) streams: &'a [Stream],
    /// Of all streams together.
    pub(crate) bytes: u64,
    pub(crate) budget: &'a str,
    pub(crate) verify: bool,
    /// Of the place's disk.
    pub(crate) blocks: Option<&'a Trace>,
}

/// What it came to.
pub(crate) struct Ran {
    pub(crate) specs: Vec<Spec>,
    pub(crate) told: Vec<Told>,
    pub(crate) seen: Seen,
    pub(crate) daemon: Option<DaemonRan>,
    /// `None` when nobody traced, or part of the trace was lost.
    pub(crate) pattern: Option<Pattern>,
    pub(crate) fragment_mib: Option<f64>,
}

/// What the daemon took.
pub(crate) struct DaemonRan {
    pub(crate) cpu_ns: u64,
    pub(crate) private_before_bytes: u64,
    pub(crate) limit_bytes: u64,
}

/// Why there is nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// The contender can't work in this place.
    #[error("{0}")]
    Unsupported(String),
    /// Something is wrong.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Run<'_> {
    pub(crate) fn execute(&self) -> Result<Ran, RunError> {
        let home = tempfile::tempdir_in(&self.place.directory)?;
        let paths: Vec<_> =
            (1..=self.streams.len()).map(|nth| home.path().join(format!("{nth}"))).collect();
        self.prepare(&paths)?;
        // What others left behind is not ours.
        syncfs(File::open(home.path())?).map_err(io::Error::from)?;
        memory::touch(self.bytes);

        let daemon = match self.contender.needs_daemon() {
            true => Some(self.start_daemon(home.path())?),
            false => None,
        };
        let before = daemon.as_ref().map(Before::of).transpose()?;
        let specs = self.specs(&paths, daemon.as_ref().map(Daemon::socket));
        let mut writers = specs.iter().map(Writer::start).collect::<io::Result<Vec<_>>>()?;
        for writer in &mut writers {
            writer.wait_until_ready()?;
        }
        let sampler = Sampler::start(Watched {
            gauge: Gauge::new(self.place.dirty.clone(), &paths),
            paths: paths.clone(),
            writers: writers.iter().map(|writer| writer.child.id()).collect(),
            daemon: daemon.as_ref().map(Daemon::pid),
        });
        self.blocks.map(Trace::start).transpose()?;
        for writer in &mut writers {
            // One that has died says why at its end.
            let _ = writeln!(writer.input, "{GO}");
        }
        let told = writers.into_iter().map(Writer::finish).collect::<Result<Vec<_>, _>>()?;
        let pattern = self.blocks.map(Trace::stop).transpose()?.flatten();
        let seen = sampler.finish().ok_or_else(|| io::Error::other("the sampler panicked"))?;
        let daemon_ran = match (daemon, before) {
            (Some(daemon), Some(before)) => Some(before.until(daemon)?),
            _ => None,
        };
        for (spec, told) in specs.iter().zip(&told) {
            check(spec, told, self.verify)?;
        }
        let fragment_mib = extents::mean_fragment_mib(paths.iter().map(PathBuf::as_path));
        Ok(Ran { specs, told, seen, daemon: daemon_ran, pattern, fragment_mib })
    }

    /// One that dies with this process, even if that is killed and can't clean up.
    fn start_daemon(&self, root: &Path) -> io::Result<Daemon> {
        let home = daemon::home();
        let (socket, config) = (home.path().join("s"), home.path().join("config.toml"));
        fs::write(&config, self.contender.config(root, self.budget))?;
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig".as_ref(), "KILL".as_ref(), programs::freemkvd().as_os_str()])
            .args(["--config".as_ref(), config.as_os_str()])
            .args(["--socket".as_ref(), socket.as_os_str()])
            .args(["--root".as_ref(), root.as_os_str()]);
        Ok(Daemon::start_as(home, socket, command))
    }

    fn specs(&self, paths: &[PathBuf], socket: Option<&Path>) -> Vec<Spec> {
        let numbered = self.streams.iter().zip(paths).zip(1..);
        numbered
            .map(|((stream, path), seed)| Spec {
                contender: self.contender,
                socket: socket.map(Path::to_owned),
                out: path.clone(),
                seed,
                job: stream.job,
                weight: stream.weight,
                pace_bytes_per_second: stream.pace_bytes_per_second,
            })
            .collect()
    }

    /// Writes what has to be there before, and drops it from the page cache: a patch pass comes hours
    /// after its sweep.
    fn prepare(&self, paths: &[PathBuf]) -> io::Result<()> {
        for ((stream, path), seed) in self.streams.iter().zip(paths).zip(1..) {
            let before = stream.job.trace(seed).and_then(|trace| trace.prerequisite());
            if let Some(before) = before {
                let mut file = File::create(path)?;
                before.run(&mut file, &mut |_| ())?;
                file.sync_all()?;
                fadvise(&file, 0, None, Advice::DontNeed)?;
                interrupt::check()?;
            }
        }
        Ok(())
    }
}

/// A daemon before its first stream.
struct Before {
    cpu_ns: u64,
    private_bytes: u64,
    limit_bytes: u64,
}

impl Before {
    fn of(daemon: &Daemon) -> io::Result<Self> {
        let limit_bytes = daemon.status().budget.limit_bytes;
        let private_bytes = kernel::private_bytes(daemon.pid())?;
        Ok(Self { cpu_ns: kernel::cpu_ns(daemon.pid())?, private_bytes, limit_bytes })
    }

    /// Takes the difference, and ends the daemon.
    fn until(self, daemon: Daemon) -> io::Result<DaemonRan> {
        let cpu_ns = kernel::cpu_ns(daemon.pid())?.saturating_sub(self.cpu_ns);
        let (status, log) = daemon.stop();
        if !status.success() {
            return Err(io::Error::other(format!("freemkvd ended with {status}; its log:\n{log}")));
        }
        let Self { private_bytes, limit_bytes, .. } = self;
        Ok(DaemonRan { cpu_ns, private_before_bytes: private_bytes, limit_bytes })
    }
}

/// A process that writes one stream; killed when it is dropped before its end.
struct Writer {
    child: Child,
    input: ChildStdin,
    ready: Receiver<()>,
    /// Gets all that it says: on standard output, and on standard error.
    ears: Option<JoinHandle<io::Result<(String, String)>>>,
}

impl Writer {
    fn start(spec: &Spec) -> io::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["writer", &serde_json::to_string(spec)?])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let (Some(input), Some(output), Some(mut errors)) = (input, output, child.stderr.take())
        else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let (tell, ready) = channel();
        let ears = thread::spawn(move || {
            let (mut line, mut said, mut complaint) = Default::default();
            let mut output = BufReader::new(output);
            output.read_line(&mut line)?;
            if line.trim() == READY {
                // Nobody listens any more if the run is given up.
                let _ = tell.send(());
            }
            drop(tell);
            output.read_to_string(&mut said)?;
            errors.read_to_string(&mut complaint)?;
            Ok((said, complaint))
        });
        Ok(Self { child, input, ready, ears: Some(ears) })
    }

    fn wait_until_ready(&mut self) -> Result<(), RunError> {
        loop {
            match self.ready.recv_timeout(POLL) {
                Ok(()) => return Ok(()),
                Err(RecvTimeoutError::Timeout) => interrupt::check()?,
                // It ended before.
                Err(RecvTimeoutError::Disconnected) => return self.end().map(drop),
            }
        }
    }

    fn finish(mut self) -> Result<Told, RunError> {
        let said = self.end()?;
        Ok(serde_json::from_str(&said).map_err(io::Error::from)?)
    }

    fn end(&mut self) -> Result<String, RunError> {
        let status = loop {
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            interrupt::check()?;
            thread::sleep(POLL);
        };
        let heard = self.ears.take().and_then(|ears| ears.join().ok());
        let heard = heard.ok_or_else(|| io::Error::other("a writer was not heard"))?;
        let (said, complaint) = heard?;
        match status.code() {
            Some(0) => Ok(said),
            Some(code) if code == i32::from(EXIT_UNSUPPORTED) => {
                Err(RunError::Unsupported(complaint.trim().to_owned()))
            }
            _ => {
                interrupt::check()?;
                Err(io::Error::other(format!("a writer failed: {}", complaint.trim())).into())
            }
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Ended already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
