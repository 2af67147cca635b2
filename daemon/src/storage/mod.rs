//! The seam to the operating system: opening a file below a root, and the few verbs that a writer
//! needs of it. A storage knows neither streams nor sockets nor budgets.
//!
//! Every verb may block for as long as the device likes, and is only called from a writer thread.
//! Every verb's error counts: an ignored `wait_writeback` would consume the kernel's record that
//! data is lost.

use std::ffi::OsStr;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use freemkvd_proto::OpenMode;

use crate::user::UserId;

#[cfg_attr(target_os = "linux", path = "linux/mod.rs")]
#[cfg_attr(windows, path = "windows/mod.rs")]
#[cfg_attr(not(any(target_os = "linux", windows)), path = "unix/mod.rs")]
mod platform;

#[cfg(unix)]
mod below;
#[cfg(target_os = "linux")]
mod beneath;
mod creation;
mod error;
#[cfg(target_os = "linux")]
mod mount;
#[cfg(not(target_os = "linux"))]
mod none;
#[cfg(any(test, not(target_os = "linux")))]
mod opening;
mod refused;
pub mod steps;
/// For its tests: what of it is not macOS's own is the same here.
#[cfg(all(test, target_os = "linux"))]
#[expect(unreachable_pub, reason = "reachable where it is the platform's")]
mod unix;

pub use creation::Creation;
pub use error::{OpenError, is_no_space};
pub use platform::{CALLS, Descriptor, Descriptors, Disk, Lent, Slots, is_memory, page_bytes};
#[cfg(target_os = "linux")]
pub use platform::{passed, peer_groups};
pub use refused::BadSlots;

/// What the system calls are named that a writer may be found waiting in.
#[derive(Clone, Copy, Debug)]
pub struct Calls {
    /// [`Storage::write_at`].
    pub write: &'static str,
    /// [`Storage::sync_data`], which drains a whole file.
    pub drain: &'static str,
    /// [`Storage::sync`].
    pub sync: &'static str,
}

/// How a write goes to the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Into the page cache, where it stays dirty until somebody starts its writeback.
    Cached,
    /// Through the page cache: writeback starts at once, and the pages are dropped when it is done
    /// (`RWF_DONTCACHE`).
    Uncached,
    /// Past the page cache (`O_DIRECT`). Offset, length and memory are multiples of
    /// [`Abilities::direct_align_bytes`].
    Direct,
}

/// What is written.
#[derive(Clone, Debug)]
pub enum Content<'a> {
    /// Memory of ours.
    Bytes(&'a [u8]),
    /// A range of memory that a client has mapped too, and may change at any time: it only ever goes
    /// to the kernel, and nothing here looks at it.
    Shared(&'a Slots, Range<u64>),
}

impl Content<'_> {
    /// How many bytes.
    #[must_use]
    pub fn len_bytes(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Shared(_, range) => range.end - range.start,
        }
    }

    /// True when it lies in memory at a multiple of `bytes`.
    #[must_use]
    pub fn is_aligned(&self, bytes: u64) -> bool {
        let address = match self {
            Self::Bytes(bytes) => bytes.as_ptr().addr(),
            Self::Shared(slots, range) => slots.span(range).0,
        };
        address as u64 % bytes == 0
    }

    /// The part `range` of it, counted from its beginning.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "within what is in memory")]
    pub fn part(&self, range: Range<u64>) -> Self {
        match self {
            Self::Bytes(bytes) => Self::Bytes(&bytes[range.start as usize..range.end as usize]),
            Self::Shared(slots, whole) => {
                Self::Shared(slots, whole.start + range.start..whole.start + range.end)
            }
        }
    }
}

/// What can be done with a file, as far as asking tells; the first use may still say otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abilities {
    /// [`Manner::Uncached`] is worth a try. Not where "written back" means less than that, as on NFS.
    pub uncached: bool,
    /// What [`Manner::Direct`] wants offset, length and memory to be a multiple of, in bytes; `None`
    /// where there is no such manner, or where it does not get past all page caches of this host.
    pub direct_align_bytes: Option<u64>,
    /// To start writeback by range and to wait for it is worth a try. A stacked file system may do
    /// nothing and call it a success: [`Storage::pages`] tells, where it can. Where it would be fooled,
    /// as on NFS and FUSE, this is false.
    pub by_range: bool,
    /// The file system is one of those that are known to do it. For kernels that can't tell of pages.
    pub trusted_by_range: bool,
    /// The file lives in memory; there is nothing to write back.
    pub in_memory: bool,
}

impl Abilities {
    /// Into the cache, and back from there as a whole: where the system has nothing by range.
    pub const WHOLE_FILE: Self = Self {
        uncached: false,
        direct_align_bytes: None,
        by_range: false,
        trusted_by_range: false,
        in_memory: false,
    };
}

/// What the kernel holds of a range, in bytes of whole pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pages {
    /// In the page cache.
    pub cached_bytes: u64,
    /// Dirty, writeback not started.
    pub dirty_bytes: u64,
    /// In writeback.
    pub writeback_bytes: u64,
}

/// What a device is made of, as far as it matters for the order of writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Medium {
    /// It has to seek.
    Rotational,
    /// It does not.
    Flash,
    /// Memory.
    Memory,
    /// Nobody says: a network or stacked file system.
    Unknown,
}

/// One file that a stream writes.
pub trait Storage: Send {
    /// What can be done with this file.
    fn abilities(&self) -> Abilities;

    /// Writes all of `content` at `offset`.
    ///
    /// # Errors
    /// [`io::ErrorKind::Unsupported`] where the file system has no such manner, or where a direct write
    /// is not aligned, and then nothing was written. Else whatever the operating system says; some of
    /// the bytes may have been written.
    fn write_at(&mut self, offset: u64, content: Content<'_>, manner: Manner) -> io::Result<()>;

    /// Makes `range`, which lies within the file's length, read as zeros without writing them.
    ///
    /// # Errors
    /// [`io::ErrorKind::Unsupported`] where the file system can't; then nothing has changed.
    fn write_zeroes(&mut self, range: Range<u64>) -> io::Result<()>;

    /// Sets the file's length in bytes.
    ///
    /// # Errors
    /// Whatever the operating system says.
    fn set_len(&mut self, len: u64) -> io::Result<()>;

    /// The file's length in bytes.
    ///
    /// # Errors
    /// Whatever the operating system says.
    fn len_bytes(&mut self) -> io::Result<u64>;

    /// Reserves the space of the first `len` bytes without changing the file's length. A hint: file
    /// systems that can't are no error, and then this is false.
    ///
    /// # Errors
    /// No space, or an I/O error.
    fn reserve(&mut self, len: u64) -> io::Result<bool>;

    /// Bytes that the file system has for this file: free ones, and those that it takes already.
    ///
    /// # Errors
    /// Whatever the operating system says.
    fn available_bytes(&mut self) -> io::Result<u64>;

    /// So many of the first bytes were reserved by a daemon before this one.
    fn has_reserved(&mut self, bytes: u64);

    /// Gives back what [`Storage::reserve`] took beyond the file's length.
    ///
    /// # Errors
    /// Whatever the operating system says.
    fn release_surplus(&mut self) -> io::Result<()>;

    /// Starts writeback of `range`; may block while the device's queue is full.
    ///
    /// # Errors
    /// Whatever the operating system says.
    fn start_writeback(&mut self, range: Range<u64>) -> io::Result<()>;

    /// Waits until `range` is clean, and starts what was not started yet.
    ///
    /// # Errors
    /// The device lost data of this file, in this range or elsewhere.
    fn wait_writeback(&mut self, range: Range<u64>) -> io::Result<()>;

    /// Writes back the whole file and waits for it. On NFS this is the COMMIT.
    ///
    /// # Errors
    /// The device lost data of this file.
    fn sync_data(&mut self) -> io::Result<()>;

    /// Drops the clean pages of `range` from the page cache.
    ///
    /// # Errors
    /// Whatever the operating system says.
    fn evict(&mut self, range: Range<u64>) -> io::Result<()>;

    /// What the kernel holds of `range`, or `None` where it does not tell. On stacked file systems it
    /// tells of pages that are never there.
    fn pages(&mut self, range: Range<u64>) -> Option<Pages>;

    /// Removes the file's name from its directory, if it is still this file's.
    ///
    /// # Errors
    /// Whatever the operating system says.
    fn unlink(&mut self) -> io::Result<()>;

    /// True when the file has a name, wherever it is, or does not need one: names of a file that its client has
    /// opened are the client's business.
    ///
    /// # Errors
    /// Whatever the operating system says.
    fn is_named(&mut self) -> io::Result<bool>;

    /// Which other file of its directory has this name; `None` when none has, or it is this one.
    ///
    /// # Errors
    /// Whatever the operating system says.
    fn taken_by(&mut self, name: &OsStr) -> io::Result<Option<FileId>>;

    /// Gives the file another name in its directory, in one step, in place of what has that name now if
    /// `replaces`. Durable with the next [`Storage::sync`]. Does nothing where it has that name already.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] where the name is another file's and not to be replaced;
    /// [`io::ErrorKind::NotFound`] when the file has no name any more; else whatever the operating system
    /// says. The file has its old name then.
    fn rename(&mut self, name: &OsStr, replaces: bool) -> io::Result<()>;

    /// What the system has to say when the file is closed; it stays open. NFS and FUSE may have kept an
    /// error for that moment, and dropping the file tells nobody.
    ///
    /// # Errors
    /// The device lost data of this file.
    fn closing(&mut self) -> io::Result<()>;

    /// The descriptors by which the file can be gone on with, and what to call them. Empty where the
    /// platform has nobody who would keep them.
    fn lend(&self) -> Lent<'_>;

    /// Makes everything durable: the content, the length, and the file's name in its directory, as far as that
    /// is known.
    ///
    /// # Errors
    /// Data or metadata may be lost. A later success does not bring it back.
    fn sync(&mut self) -> io::Result<()>;
}

/// A file's identity on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileId {
    /// Its device's number.
    pub device: u64,
    /// Its number on the device.
    pub inode: u64,
}

/// The backing store of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// `MAJOR:MINOR`, or another name that is the same for all files of the device.
    pub id: String,
    /// Where it is mounted.
    pub mount: String,
    /// What is mounted there, as `/dev/sda1` or `nas:/rips`; empty where nobody says.
    pub source: String,
    /// The file system's name.
    pub filesystem: String,
    /// What it is made of.
    pub medium: Medium,
    /// It may have been mounted by whoever has opened the file: there may be any number of them.
    pub is_a_users: bool,
}

impl Device {
    /// The same, of which all that are a user's count as one.
    #[must_use]
    pub fn of_user(self, user: Option<UserId>) -> Self {
        if !self.is_a_users {
            return self;
        }
        let user = user.map_or_else(|| "a client".to_owned(), |user| format!("user {user}"));
        Self {
            id: format!("mounts of {user}"),
            mount: format!("(mounts of {user})"),
            source: String::new(),
            medium: Medium::Unknown,
            ..self
        }
    }

    /// What people call it: a server's export by its name, anything else by where it is mounted.
    #[must_use]
    pub fn place(&self) -> &str {
        let is_export = self.source.contains(":/") || self.source.starts_with("//");
        if is_export { &self.source } else { &self.mount }
    }
}

/// A file just opened, not yet changed.
pub struct Opened {
    /// The file.
    pub storage: Box<dyn Storage>,
    /// True when it did not exist before.
    pub created: bool,
    /// True for a file that goes on and has [`Known::other_path`] by now.
    pub is_renamed: bool,
    /// Its length in bytes.
    pub len_bytes: u64,
    /// Which file it is.
    pub id: FileId,
    /// When it was made, in seconds and nanoseconds, where the file system tells: the number of a file
    /// that was removed goes to the next one that is made.
    pub born: Option<(i64, u32)>,
    /// Where it lies.
    pub device: Device,
}

/// Opens files. The one thing that tests replace to make storage slow or sick.
pub trait Open: Send + Sync {
    /// Opens `path` below one of `roots`, and creates it when the mode says so. Truncates nothing.
    ///
    /// # Errors
    /// [`OpenError`]; no file was changed, and none is left behind that was not there. Directories that
    /// were made on the way are.
    fn open(
        &self,
        roots: &[PathBuf],
        path: &Path,
        mode: OpenMode,
        creation: Creation,
    ) -> Result<Opened, OpenError>;

    /// Opens the file of a stream that goes on. Never another file, whatever has its name now.
    ///
    /// # Errors
    /// [`OpenError`]; no file was changed.
    fn reopen(&self, roots: &[PathBuf], path: &Path, known: Known) -> Result<Opened, OpenError>;

    /// Takes a file that its client has opened itself, and calls it `label`; `known` is what it has to be, if it
    /// is one that goes on. Whatever is wrong with it, no other is opened in its place.
    ///
    /// # Errors
    /// [`OpenError`]; no file was changed.
    fn adopt(
        &self,
        given: Descriptors,
        label: &Path,
        known: Option<Known>,
    ) -> Result<Opened, OpenError>;

    /// [`Device::id`] of where `path` lies, from what is known without asking the device: it may be the
    /// one that does not answer. `None` where nobody says. A link on the way may mislead it.
    fn locate(&self, path: &Path) -> Option<String>;
}

/// What is known of a file from before.
#[derive(Debug)]
pub struct Known {
    /// Which file it is.
    pub id: FileId,
    /// When it was made; see [`Opened::born`].
    pub born: Option<(i64, u32)>,
    /// Another name that it may have by now, in the same directory.
    pub other_path: Option<PathBuf>,
    /// Up to where space was reserved, in bytes.
    pub reserved_bytes: u64,
    /// The file itself, if somebody has kept it open.
    pub descriptors: Option<Descriptors>,
}

fn outside(roots: &[PathBuf], path: &Path) -> OpenError {
    let roots = roots.iter().map(|root| root.display().to_string()).collect::<Vec<_>>().join(", ");
    OpenError::OutsideRoots { path: path.to_owned(), roots }
}
