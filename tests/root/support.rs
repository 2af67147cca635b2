//! What the tests of several behaviours need: muxers that write flat out, and one that patches.

use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use freemkvd_client::control::Control;
use freemkvd_client::{ErrorCode, Options, RipFile};
use freemkvd_tests::daemon::{Daemon, wait_until};
use freemkvd_tests::pattern;

use super::MIB;

const PIECE_BYTES: usize = 256 << 10;

/// Writes the bytes `from..to` of the film `seed` at the position.
pub(crate) fn write_pattern(file: &mut RipFile, seed: u64, from: u64, to: u64) -> io::Result<()> {
    let mut piece = vec![0; PIECE_BYTES];
    let mut at = from;
    while at < to {
        let count = usize::try_from(to - at).map_or(piece.len(), |left| left.min(piece.len()));
        pattern::fill(seed, at, &mut piece[..count]);
        file.write_all(&piece[..count])?;
        at += count as u64;
    }
    Ok(())
}

/// Writes the bytes `offset..offset + len` of the film `seed` there, and goes back to the end.
pub(crate) fn patch(file: &mut RipFile, seed: u64, offset: u64, len: usize) -> io::Result<()> {
    file.seek(SeekFrom::Start(offset))?;
    file.write_all(&pattern::bytes(seed, offset, len))?;
    file.seek(SeekFrom::End(0)).map(drop)
}

/// How far apart the patches of [`write_patched`] are, and how far back each goes.
const PATCH_EVERY: u64 = 40 * MIB;
const PATCH_BACK: u64 = 30 * MIB;

/// Writes the film `seed`, `len` bytes of it, with eight wrong bytes every 40 MiB that are put right
/// 30 MiB later: farther back than the client's own window, if that is small, and within the daemon's.
/// `seen` is called after each patch.
pub(crate) fn write_patched(
    file: &mut RipFile,
    seed: u64,
    len: u64,
    mut seen: impl FnMut(),
) -> io::Result<()> {
    let mut at = 0;
    while at < len {
        file.write_all(&[0xee; 8][..usize::try_from((len - at).min(8)).unwrap()])?;
        let patch_at = (at + PATCH_BACK).min(len);
        write_pattern(file, seed, (at + 8).min(len), patch_at)?;
        patch(file, seed, at, usize::try_from((len - at).min(8)).unwrap())?;
        seen();
        let end = (at + PATCH_EVERY).min(len);
        write_pattern(file, seed, patch_at, end)?;
        at = end;
    }
    Ok(())
}

/// What a muxer notices of the disk.
#[derive(Debug, Default)]
pub(crate) struct Felt {
    /// Bytes that `write` took.
    bytes: AtomicU64,
    /// The longest call of `write`, in microseconds.
    longest_us: AtomicU64,
}

/// A file that a muxer has open, and what gives its calls up.
struct Opened {
    file: RipFile,
    halt: Arc<AtomicBool>,
    path: PathBuf,
}

impl Opened {
    fn new(options: &Options, path: PathBuf) -> Self {
        let halt = Arc::new(AtomicBool::new(false));
        let file = options.clone().halt(Arc::clone(&halt)).create(&path).unwrap();
        Self { file, halt, path }
    }
}

/// A muxer in a thread of its own, which writes a film as fast as it may.
pub(crate) struct Muxer {
    path: PathBuf,
    seed: u64,
    pub(crate) stream: u64,
    enough: Arc<AtomicBool>,
    halt: Arc<AtomicBool>,
    felt: Arc<Felt>,
    thread: Option<JoinHandle<io::Result<RipFile>>>,
}

impl Muxer {
    /// Writes until it is told that it is enough, or until the film is `len_max` long.
    pub(crate) fn start(options: &Options, path: PathBuf, seed: u64, len_max: u64) -> Self {
        Self::write(Opened::new(options, path), seed, len_max)
    }

    /// The same on every path, in order. All are open before the first of them writes: an open may take
    /// as long as a good part of a film.
    pub(crate) fn start_all(daemon: &Daemon, paths: &[PathBuf], len_max: u64) -> Vec<Self> {
        let options = daemon.options();
        let files: Vec<_> = paths.iter().map(|path| Opened::new(&options, path.clone())).collect();
        files.into_iter().zip(1..).map(|(file, seed)| Self::write(file, seed, len_max)).collect()
    }

    /// Writes to an open file.
    fn write(opened: Opened, seed: u64, len_max: u64) -> Self {
        let Opened { mut file, halt, path } = opened;
        let stream = file.stream_id().unwrap();
        let enough = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&enough);
        let felt = Arc::new(Felt::default());
        let feels = Arc::clone(&felt);
        let thread = std::thread::spawn(move || {
            let mut at = 0;
            while at < len_max && !told.load(Ordering::Relaxed) {
                let to = (at + PIECE_BYTES as u64).min(len_max);
                let since = Instant::now();
                write_pattern(&mut file, seed, at, to)?;
                let took_us = u64::try_from(since.elapsed().as_micros()).unwrap();
                feels.longest_us.fetch_max(took_us, Ordering::Relaxed);
                feels.bytes.fetch_add(to - at, Ordering::Relaxed);
                at = to;
            }
            Ok(file)
        });
        Self { path, seed, stream, enough, halt, felt, thread: Some(thread) }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// It need not write any more.
    pub(crate) fn enough(&self) {
        self.enough.store(true, Ordering::Relaxed);
    }

    /// How many bytes `write` took since this was last asked, and how long its longest call was.
    pub(crate) fn felt(&self) -> (u64, Duration) {
        let take = |count: &AtomicU64| count.swap(0, Ordering::Relaxed);
        (take(&self.felt.bytes), Duration::from_micros(take(&self.felt.longest_us)))
    }

    /// True once it has written all that it wanted to, or can't go on.
    pub(crate) fn is_over(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// What ended it: its own call, or its `finish`.
    pub(crate) fn error(mut self) -> freemkvd_client::Error {
        let ended = self.thread.take().unwrap().join().unwrap();
        let error = ended.and_then(RipFile::finish).unwrap_err();
        freemkvd_client::Error::inside(&error).unwrap_or_else(|| panic!("{error}")).clone()
    }

    /// Has it aborted from outside. Returns how long the call took, and how long it was until the muxer had heard.
    pub(crate) fn give_up(self, daemon: &Daemon) -> (Duration, Duration) {
        let mut control = Control::connect(Some(daemon.socket()), Duration::from_secs(5)).unwrap();
        let since = Instant::now();
        control.abort(self.stream).unwrap();
        let returned = since.elapsed();
        assert!(wait_until(|| self.is_over()), "its muxer still waits");
        let heard = since.elapsed();
        let error = self.error();
        assert_eq!(error.code(), Some(ErrorCode::ABORTED), "{error}");
        assert!(error.to_string().contains("was given up from outside"), "{error}");
        (returned, heard)
    }

    fn file(&mut self) -> RipFile {
        self.thread.take().unwrap().join().unwrap().unwrap()
    }

    /// Lets it come to its end, and compares every byte.
    pub(crate) fn finish(mut self) {
        let file = self.file();
        let len = file.finish().unwrap().len_bytes;
        assert_eq!(pattern::prefix_len(self.seed, &self.path).unwrap(), len);
    }

    /// What it wrote is of no interest.
    pub(crate) fn abort(mut self) {
        self.enough();
        self.file().abort().unwrap();
    }
}

impl Drop for Muxer {
    /// After a panic of the test; whatever it waits for.
    fn drop(&mut self) {
        self.halt.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Tells all of them that it is enough, and waits for their ends.
pub(crate) fn finish_all(muxers: Vec<Muxer>) {
    muxers.iter().for_each(Muxer::enough);
    muxers.into_iter().for_each(Muxer::finish);
}

/// What each of these streams has written.
pub(crate) fn written_bytes(status: &freemkvd_proto::status::Status, muxers: &[Muxer]) -> Vec<u64> {
    let of = |muxer: &Muxer| {
        let stream = status.streams.iter().find(|stream| stream.id == muxer.stream);
        stream.map_or(0, |stream| stream.written_bytes)
    };
    muxers.iter().map(of).collect()
}

/// Nothing of a file system is dirty.
pub(crate) fn sync_file_system(directory: &Path) {
    let status = std::process::Command::new("sync").arg("--file-system").arg(directory).status();
    assert!(status.unwrap().success());
}

/// What `freemkvctl status` prints, and its exit code.
pub(crate) fn freemkvctl_status(daemon: &Daemon) -> (String, Option<i32>) {
    let mut command = std::process::Command::new(freemkvd_tests::programs::freemkvctl());
    let output = command.arg("--socket").arg(daemon.socket()).arg("status").output().unwrap();
    (String::from_utf8(output.stdout).unwrap(), output.status.code())
}
