//! What several of the tests need.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use freemkvd_client::{Error, Options, RipFile};
use freemkvd_tests::daemon::Daemon;
use freemkvd_tests::hold::Held;
use freemkvd_tests::{pattern, programs};
use tempfile::TempDir;

pub(crate) const MIB: u64 = 1 << 20;

/// A directory to write into. Beside the build, because `/tmp` may be memory and then nothing is ever
/// drained; in `/tmp` when somebody else built.
pub(crate) fn scratch() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))
        .or_else(|_| tempfile::tempdir())
        .expect("a directory to write into")
}

/// A stream whose thread hangs until what is returned last is dropped; the second is its number.
pub(crate) fn stuck(daemon: &Daemon, path: &Path) -> (RipFile, u64, Held) {
    let file = daemon.options().window_bytes(MIB).create(path).expect("the file can be created");
    let stream = file.stream_id().expect("it is the daemon's");
    let held = Held::writer(daemon, stream);
    (file, stream, held)
}

/// The error that the client library put into an [`io::Error`].
pub(crate) fn inside(error: &io::Error) -> &Error {
    Error::inside(error).unwrap_or_else(|| panic!("not an error of the library: {error}"))
}

/// How content travels. The important tests run for both ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Inline,
    Shared,
}

impl Way {
    /// Options for a stream of `daemon` that goes this way.
    pub(crate) fn options(self, daemon: &Daemon) -> Options {
        daemon.options().shared_slots(self == Self::Shared)
    }

    /// What a fake muxer has to be told.
    pub(crate) fn argument(self) -> &'static [&'static str] {
        match self {
            Self::Inline => &["--inline"],
            Self::Shared => &[],
        }
    }
}

/// A fake muxer that writes through `daemon`, not started yet.
pub(crate) fn muxer(daemon: &Daemon, trace: &str, seconds: f64, out: &Path) -> Command {
    let mut command = Command::new(programs::muxer());
    command
        .env("FREEMKVD_SOCKET", daemon.socket())
        .args(["--trace", trace, "--content-seconds", &seconds.to_string()])
        .args(["--sink".as_ref(), "daemon".as_ref(), "--out".as_ref(), out.as_os_str()])
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

/// Writes `len` bytes of the pattern `seed` from offset `from` on, in pieces of 256 KiB.
pub(crate) fn write_pattern(
    file: &mut impl Write,
    seed: u64,
    from: u64,
    len: u64,
) -> io::Result<()> {
    let mut piece = vec![0; 256 << 10];
    let mut at = from;
    while at < from + len {
        let left = usize::try_from(from + len - at).unwrap_or(usize::MAX);
        let count = left.min(piece.len());
        pattern::fill(seed, at, &mut piece[..count]);
        file.write_all(&piece[..count])?;
        at += count as u64;
    }
    Ok(())
}

/// Panics unless the two files have the same bytes.
pub(crate) fn assert_same(one: &Path, other: &Path) {
    let open = |path: &Path| File::open(path).expect("both files are there");
    let (mut one, mut other) = (open(one), open(other));
    let (mut here, mut there) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    let mut offset = 0;
    loop {
        let count = one.read(&mut here).expect("it can be read");
        if count == 0 {
            break;
        }
        let read = other.read_exact(&mut there[..count]);
        assert!(
            read.is_ok() && here[..count] == there[..count],
            "differs in the MiB at offset {offset}"
        );
        offset += count;
    }
    assert_eq!(other.read(&mut there).expect("it can be read"), 0, "longer");
}

/// A stream that goes on while others misbehave, and has to come out right.
pub(crate) struct Neighbour {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<(u64, Duration)>>,
    path: PathBuf,
}

const NEIGHBOUR_SEED: u64 = 0xbeef;

impl Neighbour {
    pub(crate) fn start(daemon: &Daemon, root: &Path) -> Self {
        let path = root.join("neighbour.mkv");
        let mut file = daemon.options().create(&path).expect("room for a neighbour");
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let (mut at, mut longest) = (0, Duration::ZERO);
            while !flag.load(Ordering::Relaxed) || at < MIB {
                let begun = Instant::now();
                Self::write_some(&mut file, at)?;
                longest = longest.max(begun.elapsed());
                at += 64 << 10;
                // The pace of a UHD disc, about: it is to be there, not to be in the way.
                thread::sleep(Duration::from_millis(4));
            }
            Ok((file.finish()?.len_bytes, longest))
        });
        Self { stop, thread, path }
    }

    /// Some content, and as a muxer does, some of it over again.
    fn write_some(file: &mut RipFile, at: u64) -> io::Result<()> {
        write_pattern(file, NEIGHBOUR_SEED, at, 64 << 10)?;
        file.seek(SeekFrom::Start(at / 2))?;
        write_pattern(file, NEIGHBOUR_SEED, at / 2, 8)?;
        file.seek(SeekFrom::End(0)).map(drop)
    }

    /// Ends it and looks at its file. Returns how long it took at most to hand over 64 KiB and a patch.
    pub(crate) fn assert_unharmed(self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        let len = self.thread.join().expect("it does not panic");
        let (len, longest) = len.expect("the neighbour was not disturbed");
        let found = pattern::prefix_len(NEIGHBOUR_SEED, &self.path);
        assert_eq!(found.expect("the neighbour's file is right"), len);
        longest
    }
}
