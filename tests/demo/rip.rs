//! The four rips: one muxer process each, paced like a drive that is some times faster than the film.

use std::error::Error;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

use freemkvd_proto::socket::SOCKET_ENV;
use freemkvd_tests::programs;
use freemkvd_tests::trace::{Kind, Trace};
use freemkvd_tests::verify::{VerifyError, verify};
use serde::Deserialize;

/// More than all rips together take on disk, in bytes.
pub(crate) const SPACE_BYTES: u64 = 1_400_000_000;

/// What is ripped: a name, how many seconds of content, and how much faster than the content. Each
/// takes 12 seconds if nothing holds it up.
const RIPS: [(&str, Kind, f64, f64); 4] = [
    ("uhd.mkv", Kind::Uhd, 42.0, 3.5),
    ("bluray.mkv", Kind::Bd, 60.0, 5.0),
    ("dvd.mkv", Kind::Dvd, 150.0, 12.5),
    ("sweep.iso", Kind::Sweep, 18.0, 1.5),
];

/// A muxer at work.
pub(crate) struct Rip {
    name: &'static str,
    trace: Trace,
    path: PathBuf,
    waiter: JoinHandle<Result<Report, String>>,
}

/// A muxer that has finished.
pub(crate) struct Done {
    pub(crate) name: &'static str,
    pub(crate) report: Report,
    trace: Trace,
    path: PathBuf,
}

/// What the fake muxer tells of itself.
#[derive(Debug, Deserialize)]
pub(crate) struct Report {
    pub(crate) bytes: u64,
    pub(crate) seconds: f64,
    pub(crate) finish_seconds: f64,
    pub(crate) writes: u64,
    pub(crate) seeks: u64,
    pub(crate) write_p99_us: f64,
    pub(crate) write_max_us: f64,
    pub(crate) frames: Option<u64>,
}

/// Starts all of them.
pub(crate) fn start_all(dir: &Path, socket: &Path) -> Result<Vec<Rip>, Box<dyn Error>> {
    RIPS.iter()
        .zip(1..)
        .map(|(&(name, kind, content_seconds, speed), seed)| {
            let trace = Trace { kind, seed, content_seconds };
            let path = dir.join(name);
            let child = Command::new(programs::muxer())
                .env(SOCKET_ENV, socket)
                .args(["--trace", kind.name(), "--sink", "daemon"])
                .args(["--seed", &seed.to_string(), "--speed", &speed.to_string()])
                .args(["--content-seconds", &content_seconds.to_string()])
                .args(["--out".as_ref(), path.as_os_str()])
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()?;
            let waiter = std::thread::spawn(move || wait(child));
            Ok(Rip { name, trace, path, waiter })
        })
        .collect()
}

fn wait(mut child: Child) -> Result<Report, String> {
    let mut said = String::new();
    if let Some(mut out) = child.stdout.take() {
        out.read_to_string(&mut said).map_err(|error| error.to_string())?;
    }
    let mut complaint = String::new();
    if let Some(mut err) = child.stderr.take() {
        err.read_to_string(&mut complaint).map_err(|error| error.to_string())?;
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    if !status.success() {
        return Err(complaint.trim().to_owned());
    }
    serde_json::from_str(&said).map_err(|error| error.to_string())
}

impl Rip {
    /// True once the muxer has ended, one way or another.
    pub(crate) fn is_done(&self) -> bool {
        self.waiter.is_finished()
    }

    /// What came of it.
    pub(crate) fn finish(self) -> Result<Done, Box<dyn Error>> {
        let Self { name, trace, path, waiter } = self;
        let report = waiter.join().map_err(|_| "a thread of the demo panicked")?;
        let report = report.map_err(|error| format!("{name}: {error}"))?;
        Ok(Done { name, report, trace, path })
    }
}

impl Done {
    /// Compares the file with what the muxer wrote. Returns the number of bytes compared.
    pub(crate) fn verify(&self) -> Result<u64, VerifyError> {
        verify(&self.trace, &self.path)
    }
}
