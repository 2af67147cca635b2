//! [`RipFile`]: what a muxer holds.
//!
//! 1. `write` takes all bytes or fails: callers that ignore a short count lose nothing.
//! 2. The position moves only when a call succeeds, so a call that was halted may be repeated.
//! 3. `seek` and the length are answered from memory.
//! 4. What leaves the window goes to the outlet before anything else does.
//! 5. The journal, if there is one, knows of each change before the call that makes it returns, and the
//!    callback is called last: what is durable is told when everything else is done.

mod durable;

use std::fmt;
use std::io::{self, IoSlice, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use freemkvd_proto::limits::OFFSET_MAX;

pub(crate) use self::durable::{OnDurable, Told};
use crate::outlet::Outlet;
use crate::window::{Step, Window};
use crate::{Error, Finished, OpenedBy, Options, Progress};

/// So many zeros or fewer are cheaper as bytes in the window than as a command that empties it.
static ZEROES: [u8; (64 << 10) - 1] = [0; (64 << 10) - 1];

/// A file that is written through `freemkvd`: a drop-in for `BufWriter<File>`.
///
/// `Ok` from [`flush`](Write::flush) means written, from [`sync_all`](Self::sync_all) and
/// [`finish`](Self::finish) durable, and nothing else means either. After the first failure every
/// call returns it again. See [`Options::halt`] for stopping a call that waits.
///
/// Dropping it without [`finish`](Self::finish) hands over what it holds, waits a bounded time for
/// that to be written (the halt flag does not cut it short), and leaves the file where it is, if
/// [`Options::leftover`] says nothing else. What
/// is late then is handed over in the background while the process lives.
///
/// # Keeping a map
///
/// A program that goes on after a crash with what is missing, as one that sweeps a damaged disc, has to know
/// which ranges of the file are durable with what was written there last.
/// [`track_durable`](Options::track_durable) keeps account of them, [`sync_soon`](Self::sync_soon) makes
/// more of them without a wait, and [`take_durable`](Self::take_durable) tells them:
///
/// ```
/// # use std::io::{Seek, SeekFrom, Write};
/// # use freemkvd_client::RipFile;
/// # let dir = tempfile::tempdir()?;
/// # let iso = dir.path().join("disc.iso");
/// # let options = RipFile::options().socket(dir.path().join("none")).fallback_to_local(true);
/// let mut file = options.track_durable(true).create(iso)?;
/// file.write_all(&[1; 4096])?;
/// file.seek(SeekFrom::Start(10_000))?;
/// file.write_all(&[2; 4096])?;
/// assert_eq!(file.take_durable(), []);
/// file.sync_all()?;
/// assert_eq!(file.take_durable(), [0..4096, 10_000..14_096]); // this goes into the map
/// assert_eq!(file.take_durable(), []);
/// # file.finish()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Whatever was told is there after a power cut, as long as it was not written again. While it is written
/// again it may be either; a map that has to know marks it as missing first. After
/// [`sync_all`](Self::sync_all) returned `Ok`, all that was written is told with the next
/// [`take_durable`](Self::take_durable); after [`finish`](Self::finish) nobody is left to ask, so take before.
/// `examples/sweep.rs` is such a program, with its map, and goes on after a crash.
pub struct RipFile {
    path: PathBuf,
    outlet: Box<dyn Outlet>,
    window: Window,
    position: u64,
    len: u64,
    sync_timeout: Duration,
    drop_wait: Duration,
    /// For a muxer that keeps a map.
    told: Option<Box<Told>>,
    /// Finished or aborted: nothing is to be done at drop.
    is_over: bool,
}

impl RipFile {
    /// Creates the file, or empties the one that exists, as `File::create` does.
    ///
    /// # Errors
    /// As [`Options::create`].
    pub fn create(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::options().create(path)
    }

    /// Creates the file, and has the space for `size_hint_bytes` reserved.
    ///
    /// # Errors
    /// As [`Options::create`].
    pub fn create_with_size_hint(
        path: impl AsRef<Path>,
        size_hint_bytes: u64,
    ) -> Result<Self, Error> {
        Self::options().size_hint(size_hint_bytes).create(path)
    }

    /// Opens the file that exists, without truncation.
    ///
    /// # Errors
    /// As [`Options::create`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::options().open(path)
    }

    /// Everything that can be chosen.
    pub fn options() -> Options {
        Options::new()
    }

    pub(crate) fn new(
        path: PathBuf,
        outlet: Box<dyn Outlet>,
        len: u64,
        window: Window,
        sync_timeout: Duration,
        drop_wait: Duration,
        told: Option<Box<Told>>,
    ) -> Self {
        let (position, is_over) = (0, false);
        Self { path, outlet, window, position, len, sync_timeout, drop_wait, told, is_over }
    }

    /// The file, as an absolute path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file's length in bytes, with everything that was taken.
    #[must_use]
    pub fn len_bytes(&self) -> u64 {
        self.len
    }

    /// The number that `freemkvctl status` shows; `None` without a daemon.
    #[must_use]
    pub fn stream_id(&self) -> Option<u64> {
        self.outlet.stream_id()
    }

    /// True when this process writes the file itself.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.outlet.stream_id().is_none()
    }

    /// Who has opened the file.
    #[must_use]
    pub fn opened_by(&self) -> OpenedBy {
        self.outlet.opened_by()
    }

    /// How far the content has come.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.outlet.progress()
    }

    /// Sets the file's length. The position stays; what is new reads as zeros.
    ///
    /// # Errors
    /// The stream's failure, halted, or an impossible length.
    pub fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.then_tell(|file| {
            file.check()?;
            file.end_of(len, 0)?;
            file.hand_over()?;
            let result = file.outlet.set_len(len);
            if result.is_ok() || file.is_failed() {
                file.has_cut(len);
            }
            result?;
            file.window.cut(len);
            file.pass()?;
            file.len = len;
            Ok(())
        })
    }

    /// Writes so many zero bytes at the position and moves it. Many of them never cross the wire,
    /// and become a hole where the file system can have one.
    ///
    /// # Errors
    /// The stream's failure, halted, or an impossible length.
    pub fn write_zeroes(&mut self, len: u64) -> io::Result<()> {
        self.then_tell(|file| {
            file.check()?;
            let end = file.end_of(file.position, len)?;
            if len == 0 {
                return Ok(());
            }
            file.make_room()?;
            let zeroes = usize::try_from(len).ok().and_then(|len| ZEROES.get(..len));
            match zeroes {
                Some(zeroes) if file.window.touches(file.position) => {
                    file.put(file.position, zeroes)?;
                }
                _ => {
                    file.window.move_to(end);
                    file.pass()?;
                    let result = file.outlet.write_zeroes(file.position, len);
                    file.has_zeroed(file.position..end, &result);
                    result?;
                    file.len = file.len.max(end);
                }
            }
            file.position = end;
            Ok(())
        })
    }

    /// Waits until everything so far is durable, or the options' deadline has passed.
    ///
    /// # Errors
    /// As [`sync_all_timeout`](Self::sync_all_timeout).
    pub fn sync_all(&mut self) -> io::Result<()> {
        self.sync_all_timeout(self.sync_timeout)
    }

    /// Waits until everything so far is durable.
    ///
    /// # Errors
    /// The kind `TimedOut` says that it is *not known to be durable* yet: the stream goes on and the
    /// call may be repeated. Else the stream's failure, or halted.
    pub fn sync_all_timeout(&mut self, timeout: Duration) -> io::Result<()> {
        self.then_tell(|file| {
            file.check()?;
            file.hand_over()?;
            file.outlet.sync(timeout)
        })
    }

    /// Completes the file. `Ok` means that all of it is durable.
    ///
    /// # Errors
    /// The stream's failure. After `TimedOut` or halted the outcome is unknown.
    pub fn finish(mut self) -> io::Result<Finished> {
        let len_bytes = self.then_tell(|file| {
            file.check()?;
            file.hand_over()?;
            file.is_over = true;
            file.outlet.finish(file.sync_timeout)
        })?;
        Ok(Finished { len_bytes, progress: self.outlet.progress() })
    }

    /// Gives the stream up: what was not written yet is dropped, and the file becomes what
    /// [`Options::leftover`] says; it stays as it is if nothing was said.
    ///
    /// # Errors
    /// The stream's failure, or `TimedOut` when the daemon did not confirm it in time.
    pub fn abort(mut self) -> io::Result<()> {
        self.is_over = true;
        // Also after a failure: what is left of the file is to become what was chosen.
        let failed = self.check();
        let aborted = self.outlet.abort(self.drop_wait);
        failed?;
        Ok(aborted?)
    }

    /// The error that has ended the stream, if one has: it is what every later call returns. Waits for
    /// nothing, so that whoever waits for something else can look.
    #[must_use]
    pub fn failure(&self) -> Option<Error> {
        self.outlet.failure()
    }

    fn is_failed(&self) -> bool {
        self.outlet.is_failed()
    }

    fn check(&self) -> Result<(), Error> {
        if self.is_failed() { self.outlet.failure().map_or(Ok(()), Err) } else { Ok(()) }
    }

    /// Where `len` bytes at `offset` end, if a file can be that long.
    fn end_of(&self, offset: u64, len: u64) -> Result<u64, Error> {
        offset.checked_add(len).filter(|end| *end <= OFFSET_MAX).ok_or_else(|| Error::Invalid {
            path: self.path.clone(),
            message: "beyond what a file can hold",
        })
    }

    /// Takes all of `bytes` to `offset`.
    fn put(&mut self, mut offset: u64, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            match self.window.write(offset, bytes) {
                Step::Took(count) => {
                    let from = offset;
                    offset += count as u64;
                    bytes = &bytes[count..];
                    self.len = self.len.max(offset);
                    let passed = self.pass();
                    // After what has left, which may be what these bytes were before: a run that another
                    // one begins below and overlaps.
                    self.has_put(from..offset);
                    passed?;
                }
                Step::NeedSlot => {
                    // What left may be what the slot is waiting for.
                    self.pass()?;
                    let slot = self.outlet.slot()?;
                    self.window.give(slot);
                }
            }
        }
        Ok(())
    }

    /// Rule 4.
    #[inline]
    fn pass(&mut self) -> Result<(), Error> {
        let leaving = self.window.leaving();
        if leaving.is_empty() {
            return Ok(());
        }
        self.outlet.take(leaving, self.told.as_mut().map(|told| &mut told.journal))
    }

    fn hand_over(&mut self) -> Result<(), Error> {
        self.window.hand_over();
        self.pass()?;
        self.has_handed_over();
        Ok(())
    }
}

impl Write for RipFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.then_tell(|file| {
            file.check()?;
            let end = file.end_of(file.position, bytes.len() as u64)?;
            file.make_room()?;
            file.put(file.position, bytes)?;
            file.position = end;
            Ok(bytes.len())
        })
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let before = self.position;
        let mut count = 0;
        for slice in slices {
            match self.write(slice) {
                Ok(more) => count += more,
                Err(error) => {
                    self.position = before;
                    return Err(error);
                }
            }
        }
        Ok(count)
    }

    /// Waits until everything so far is *written*: in the kernel, not yet on the disk. Costs nothing
    /// when nothing is new.
    fn flush(&mut self) -> io::Result<()> {
        self.then_tell(|file| {
            file.check()?;
            file.hand_over()?;
            file.outlet.flush()
        })
    }
}

impl Seek for RipFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => self.len.checked_add_signed(by),
        };
        match target.filter(|offset| *offset <= OFFSET_MAX) {
            Some(offset) => {
                self.position = offset;
                Ok(offset)
            }
            None => Err(Error::Invalid {
                path: self.path.clone(),
                message: "a position before the file's start or beyond what a file can hold",
            }
            .into()),
        }
    }

    fn stream_position(&mut self) -> io::Result<u64> {
        Ok(self.position)
    }
}

impl Drop for RipFile {
    fn drop(&mut self) {
        if !self.is_over {
            // Nobody is left to tell about a failure; the daemon's status shows it.
            let _ = self.hand_over();
            self.outlet.close(self.drop_wait);
        }
    }
}

impl fmt::Debug for RipFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RipFile")
            .field("path", &self.path)
            .field("stream_id", &self.stream_id())
            .field("position", &self.position)
            .field("len_bytes", &self.len)
            .finish_non_exhaustive()
    }
}
