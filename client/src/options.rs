//! [`Options`]: how a file is opened, and which of daemon and local file it goes to.
//!
//! 1. A daemon that is there and refuses is an error, never a reason to write without it: it may be
//!    the one that knows that the disk is full, or who else is writing the file.
//! 2. Nothing is opened or created before the options are known to be sound.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::Once;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use freemkvd_proto::limits::{WEIGHT_DEFAULT, WEIGHTS, WRITE_BYTES_MAX};
use freemkvd_proto::{Leftover, OpenMode};

use crate::connection::io_error;
use crate::ending::Ending;
use crate::local::Local;
use crate::locate::{Place, locate};
use crate::outlet::Outlet;
use crate::remote::{Opening, Remote};
use crate::slot::SLOT_BYTES;
use crate::stream::{OnDurable, Told};
use crate::window::Window;
use crate::{Error, OpenBy, RipFile};

const MIB: u64 = 1 << 20;

/// What is in flight beside the window when no limit was set: as much as the daemon queues.
const IN_FLIGHT_BYTES: u64 = 32 * MIB;

/// The patch window when none was set: more than the longest cluster of most UHD discs (about
/// 20 MiB), whose size is patched when it ends. Below it each cluster would cost the disk a seek.
const WINDOW_BYTES: u64 = 24 * MIB;

/// How a file is opened. Get one from [`RipFile::options`], set what differs, and end with
/// [`create`](Self::create) or [`open`](Self::open).
#[derive(Clone, Debug)]
#[must_use]
pub struct Options {
    socket: Option<PathBuf>,
    create_new: bool,
    size_hint_bytes: Option<u64>,
    window_bytes: u64,
    memory_limit_bytes: Option<u64>,
    shared_slots: bool,
    weight: u32,
    daemon_window_bytes: Option<u64>,
    halt: Option<Arc<AtomicBool>>,
    sync_timeout: Duration,
    connect_timeout: Duration,
    drop_wait: Duration,
    resume_timeout: Duration,
    fallback_to_local: bool,
    open_by: OpenBy,
    publish: bool,
    leftover: Leftover,
    track_durable: bool,
    on_durable: Option<OnDurable>,
}

impl Options {
    pub(crate) fn new() -> Self {
        Self {
            socket: None,
            create_new: false,
            size_hint_bytes: None,
            window_bytes: WINDOW_BYTES,
            memory_limit_bytes: None,
            shared_slots: true,
            weight: WEIGHT_DEFAULT,
            daemon_window_bytes: None,
            halt: None,
            // Longer than an NFS server takes to commit when it is busy: 5 minutes were seen.
            sync_timeout: Duration::from_secs(600),
            // A disk that has to spin up takes 15 s to open a file.
            connect_timeout: Duration::from_secs(30),
            drop_wait: Duration::from_secs(10),
            // An upgrade of the package, or a stop that has to wait for a slow disk and then a start.
            resume_timeout: Duration::from_secs(120),
            fallback_to_local: false,
            open_by: OpenBy::Auto,
            publish: false,
            leftover: Leftover::Keep,
            track_durable: false,
            on_durable: None,
        }
    }

    /// The daemon's socket. Without it `FREEMKVD_SOCKET` says which (`off` for none: the file is
    /// written by this process), else it is the user's own daemon if one is there, else the system's.
    pub fn socket(mut self, socket: impl Into<PathBuf>) -> Self {
        self.socket = Some(socket.into());
        self
    }

    /// Whether [`create`](Self::create) fails when the file exists. Default: it is emptied.
    pub fn create_new(mut self, create_new: bool) -> Self {
        self.create_new = create_new;
        self
    }

    /// How long the file is likely to become. The daemon reserves the space, and refuses now what
    /// would not fit. A local file ignores it.
    pub fn size_hint(mut self, bytes: u64) -> Self {
        self.size_hint_bytes = Some(bytes);
        self
    }

    /// Length of the patch window, 1 to 64 MiB. 8 MiB take in every patch that a muxer makes within a
    /// cluster; the default of 24 MiB also the clusters of most discs, and 64 MiB those of all.
    pub fn window_bytes(mut self, bytes: u64) -> Self {
        self.window_bytes = bytes;
        self
    }

    /// Most memory for content: the window, and what the daemon has not written yet. At least the
    /// window and 4 MiB; the default is the window and 32 MiB.
    pub fn memory_limit_bytes(mut self, bytes: u64) -> Self {
        self.memory_limit_bytes = Some(bytes);
        self
    }

    /// Whether the daemon writes the file straight from this stream's memory, which it then has mapped
    /// too, instead of getting the content through the socket: less work and less memory, on both
    /// sides. Default: yes. Linux only; elsewhere, and where the system or the daemon has no such
    /// memory, content goes through the socket, and nothing else is different.
    pub fn shared_slots(mut self, shared_slots: bool) -> Self {
        self.shared_slots = shared_slots;
        self
    }

    /// The stream's part of its device's speed, relative to the other streams there, 10 to 1000. The
    /// default is 100. `freemkvctl weight` changes it later.
    pub fn weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }

    /// How many of the newest bytes the daemon keeps in the page cache for patches that the patch
    /// window is too short for; at most, and by default, as many as it is configured for. 0 says that
    /// there will be none.
    pub fn daemon_window_bytes(mut self, bytes: u64) -> Self {
        self.daemon_window_bytes = Some(bytes);
        self
    }

    /// A flag that ends every call that has to wait, within 250 ms, with [`Error::Halted`]. As an
    /// [`io::Error`](std::io::Error) its kind is `Other`, not `Interrupted`, which `write_all` and
    /// `io::copy` would retry for ever. What was taken before stays taken, and the position does not
    /// move, so that a call may be repeated.
    pub fn halt(mut self, halt: Arc<AtomicBool>) -> Self {
        self.halt = Some(halt);
        self
    }

    /// Deadline of [`RipFile::sync_all`] and [`RipFile::finish`]. Default: 10 minutes.
    pub fn sync_timeout(mut self, timeout: Duration) -> Self {
        self.sync_timeout = timeout;
        self
    }

    /// Deadline for connecting, and again for opening the file. Default: 30 seconds. When the daemon is
    /// restarted under an `open` or `create`, it is asked again within this time.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long dropping or aborting a stream waits at most. Default: 10 seconds.
    pub fn drop_wait(mut self, wait: Duration) -> Self {
        self.drop_wait = wait;
        self
    }

    /// How long a stream looks for another daemon after its connection was lost; a restart of the daemon
    /// is nothing else. Meanwhile calls wait, with their own deadlines and the halt flag; what was not
    /// written is kept and sent again, so the memory limit holds. When the time has passed, the stream fails
    /// with [`Error::Lost`], which says what is written and durable. Default: 2 minutes. Zero: never, a lost
    /// connection is an error at once, as it always is with a daemon of protocol version 2.
    pub fn resume_timeout(mut self, timeout: Duration) -> Self {
        self.resume_timeout = timeout;
        self
    }

    /// Whether to write the file from this process when no daemon listens. It is said on standard
    /// error, once. Default: no, it is [`Error::NoDaemon`].
    pub fn fallback_to_local(mut self, fallback: bool) -> Self {
        self.fallback_to_local = fallback;
        self
    }

    /// Who opens the file: this process, which passes it on to the daemon, or the daemon, which is told its path.
    /// [`RipFile::opened_by`] says who it was. Default: [`OpenBy::Auto`].
    ///
    /// * A file that this process opens is the file that its user, its umask and its mounts make of the path.
    ///   The daemon's roots and rights do not matter, only whether the file is a regular one.
    /// * With [`OpenBy::Auto`] this process opens nothing that others may have planted on the way: no file whose
    ///   name is a symbolic link, none that exists with several names (hard links), and, on Linux, no directory
    ///   behind a link that is neither root's nor this user's. Each is an error, also for root, who could
    ///   otherwise be led to any file of the host. With [`OpenBy::Descriptor`] links lead where they always do.
    /// * With [`OpenBy::Auto`] the daemon opens a file that this process may not open (permission denied, or
    ///   read-only here), that the daemon does not take, or whose directory is missing, which the daemon may be
    ///   configured to make; if the path is known to lead to the same place for it: this process can look at all of it,
    ///   and no other mount begins on the way, nor behind a link. That is said on standard error, once. All other errors are those of this process.
    /// * [`publish`](Self::publish) and [`leftover`](Self::leftover) are done by whoever opened the file. A
    ///   process that dies in the middle of a file that it opened itself leaves it as it is: nobody else has the
    ///   right to remove it, or to give it another name. Nor does anybody look whether the `NAME` that a
    ///   finished file replaces is being written by another stream.
    /// * A directory that may be written but not read can't be synced; for the name of a new file its whole file
    ///   system is then (on Linux; elsewhere that is an error).
    ///
    /// [`OpenBy::Descriptor`] needs a daemon of protocol version 5, and Unix.
    pub fn open_by(mut self, open_by: OpenBy) -> Self {
        self.open_by = open_by;
        self
    }

    /// Whether the file gets its name only when it is complete: until then it is called `NAME.partial`, so
    /// that nobody takes half a film for a whole one. [`RipFile::finish`] makes it durable, renames it in one
    /// step, and makes the name durable.
    ///
    /// * [`create`](Self::create) empties a `NAME.partial` that is left from before, and a `NAME` that exists
    ///   stays as it is until it is replaced by the finished file.
    /// * With [`create_new`](Self::create_new) neither may exist; a `NAME` that somebody makes in the
    ///   meantime is not replaced: `finish` fails with
    ///   [`ErrorCode::NOT_PUBLISHED`](crate::ErrorCode::NOT_PUBLISHED) (without a daemon with an error of the
    ///   kind `AlreadyExists`), and the file is complete as `NAME.partial`.
    /// * [`open`](Self::open) goes on with a `NAME.partial`, and replaces nothing either.
    ///
    /// What is replaced is replaced whatever it is, as by any rename: the right to write in the directory is
    /// enough. But where the file is opened by path, never one that another stream of the daemon is writing; by
    /// descriptor nobody looks (see [`open_by`](Self::open_by)).
    /// Needs a daemon of protocol version 4, or none. Default: no.
    pub fn publish(mut self, publish: bool) -> Self {
        self.publish = publish;
        self
    }

    /// What becomes of the file if it is never finished: the stream fails, is aborted, or is dropped, or this
    /// process dies (and does not come back within the daemon's `resume_grace`, if it was the daemon that was
    /// restarted; but see [`open_by`](Self::open_by)). Default: it is kept. A file that is complete is never removed. When the daemon is stopped
    /// and the stream can't go on with the next one, the file is kept as it is.
    /// Needs a daemon of protocol version 4, or none.
    pub fn leftover(mut self, leftover: Leftover) -> Self {
        self.leftover = leftover;
        self
    }

    /// Whether to keep account of which ranges of the file are durable, for
    /// [`RipFile::take_durable`]. Default: no.
    ///
    /// A range is durable here when an fsync that covers what was written there last has returned success:
    /// after [`RipFile::sync_all`], [`RipFile::sync_soon`] or [`RipFile::finish`]. What was only written is
    /// not, and what a new daemon has not said after a restart is not. Ranges of
    /// [`RipFile::write_zeroes`] count like any other; growth by [`RipFile::set_len`] is in none, since
    /// nothing was written there, and what it cuts off is in none any more.
    ///
    /// The account is at most 65536 ranges that are not durable or were not taken yet, about 5 MiB. Before
    /// that, ranges that touch become one, which is durable when the last of them is. If so many do not
    /// touch, a write fails with [`Error::Invalid`] and has changed nothing: sync, take, and repeat it.
    pub fn track_durable(mut self, track: bool) -> Self {
        self.track_durable = track;
        self
    }

    /// Has `callback` called with each range that has become durable, as [`RipFile::take_durable`] would
    /// return it. Implies [`track_durable`](Self::track_durable), and where that lets a write fail, this
    /// lets it sync first, so that the callback takes what there is.
    ///
    /// It is called in the thread that uses the [`RipFile`], under no lock, at the end of any call that
    /// changes, flushes or syncs it, also of one that returns an error of syncing; the last time in
    /// [`RipFile::finish`], before that returns. So no byte of a range can be written again while it is told.
    /// It is not called while no call is made, nor when the file is dropped. A callback that blocks holds up
    /// its thread and nothing else. One that panics ends the call; what that had taken stays taken, and the
    /// range is told again later.
    pub fn on_durable(mut self, callback: impl Fn(Range<u64>) + Send + Sync + 'static) -> Self {
        self.on_durable = Some(OnDurable::new(callback));
        self
    }

    /// Creates the file, or empties the one that exists.
    ///
    /// # Errors
    /// [`Error::NoDaemon`], [`Error::Refused`], [`Error::Failed`] when the daemon can't or may not
    /// create it, [`Error::TimedOut`], [`Error::Invalid`] for options out of range.
    pub fn create(&self, path: impl AsRef<Path>) -> Result<RipFile, Error> {
        let mode = if self.create_new { OpenMode::CreateNew } else { OpenMode::Create };
        self.open_as(path.as_ref(), mode)
    }

    /// Opens the file that exists, without truncation.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn open(&self, path: impl AsRef<Path>) -> Result<RipFile, Error> {
        self.open_as(path.as_ref(), OpenMode::Existing)
    }

    fn open_as(&self, path: &Path, mode: OpenMode) -> Result<RipFile, Error> {
        let slots = self.check(path)?;
        let path = std::path::absolute(path).map_err(|cause| io_error(path, "find", cause))?;
        match locate(self.socket.as_deref()) {
            Place::Off => self.open_local(path, mode),
            Place::Socket(socket) => {
                let opening = Opening {
                    socket: &socket,
                    path: &path,
                    mode,
                    size_hint_bytes: self.size_hint_bytes,
                    slots,
                    shares_slots: self.shared_slots,
                    weight: self.weight,
                    daemon_window_bytes: self.daemon_window_bytes,
                    open_by: self.open_by,
                    publish: self.publish,
                    leftover: self.leftover,
                    timeout: self.connect_timeout,
                    resume_timeout: self.resume_timeout,
                    halt: self.halt.clone(),
                };
                match Remote::open(&opening) {
                    Ok((remote, len)) => {
                        let together = self.slots_at_once(slots);
                        Ok(self.file(path, Box::new(remote), len, together))
                    }
                    Err(error) if self.fallback_to_local && error.is_absent_daemon() => {
                        say_once(&error);
                        self.open_local(path, mode)
                    }
                    Err(error) => Err(error),
                }
            }
        }
    }

    /// Rule 2. The number of slots that the options come to.
    fn check(&self, path: &Path) -> Result<usize, Error> {
        let invalid = |message| Error::Invalid { path: path.to_owned(), message };
        if !(MIB..=64 * MIB).contains(&self.window_bytes) {
            return Err(invalid("the patch window must be 1 to 64 MiB"));
        }
        if !WEIGHTS.contains(&self.weight) {
            return Err(invalid("the weight must be 10 to 1000"));
        }
        if self.open_by == OpenBy::Descriptor && !cfg!(unix) {
            return Err(invalid(
                "only on Unix can an open file be passed on; have it opened by path",
            ));
        }
        let limit = self.memory_limit_bytes.unwrap_or(self.window_bytes + IN_FLIGHT_BYTES);
        let slots = usize::try_from(limit / SLOT_BYTES as u64).unwrap_or(usize::MAX);
        // One more than the window can hold, so that something is always on its way.
        if slots <= Window::slots_max(self.window_bytes, 1) {
            return Err(invalid("the memory limit must be at least the patch window and 4 MiB"));
        }
        Ok(slots)
    }

    /// How many slots leave the window in one frame: as many as it holds, since it costs the same with
    /// one, but no more than half of what the memory limit leaves beside the window.
    fn slots_at_once(&self, slots: usize) -> u64 {
        let beside = slots - Window::slots_max(self.window_bytes, 1);
        (beside as u64 / 2).clamp(1, u64::from(WRITE_BYTES_MAX) / SLOT_BYTES as u64)
    }

    fn open_local(&self, path: PathBuf, mode: OpenMode) -> Result<RipFile, Error> {
        let ending = Ending::new(&path, mode, self.publish, self.leftover);
        let (local, len) = Local::open(ending, mode, self.window_bytes, self.halt.clone())?;
        // A file has no frames to fill.
        Ok(self.file(path, Box::new(local), len, 1))
    }

    fn file(&self, path: PathBuf, outlet: Box<dyn Outlet>, len: u64, together: u64) -> RipFile {
        RipFile::new(
            path,
            outlet,
            len,
            Window::new(self.window_bytes, together),
            self.sync_timeout,
            self.drop_wait,
            Told::new(self.track_durable, self.on_durable.clone()),
        )
    }
}

/// A host without a daemon is told once, not for every title of a disc.
fn say_once(error: &Error) {
    static SAID: Once = Once::new();
    SAID.call_once(|| eprintln!("freemkvd-client: this process writes its files itself: {error}"));
}
