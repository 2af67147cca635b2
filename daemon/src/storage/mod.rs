//! The seam to the operating system: opening a file below a root, and the few verbs that a writer
//! needs of it. A storage knows neither streams nor sockets nor budgets.
//!
//! Every verb may block for as long as the device likes, and is only called from a writer thread.
//! Every verb's error counts: an ignored `wait_writeback` would consume the kernel's record that
//! data is lost.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use freemkvd_proto::{ErrorCode, Failure, OpenMode};

#[cfg_attr(target_os = "linux", path = "linux.rs")]
#[cfg_attr(not(target_os = "linux"), path = "portable.rs")]
mod platform;

#[cfg(target_os = "linux")]
mod beneath;
#[cfg(target_os = "linux")]
mod mount;

pub use platform::{Disk, page_bytes};

/// What a wait has shown to be clean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cleaned {
    /// The range that was asked for.
    Range,
    /// Everything written to the file before the call.
    File,
}

/// One file that a stream writes.
pub trait Storage: Send {
    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    /// Whatever the operating system says; some of the bytes may have been written.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;

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
    /// systems that can't are no error.
    ///
    /// # Errors
    /// No space, or an I/O error.
    fn reserve(&mut self, len: u64) -> io::Result<()>;

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

    /// Waits until `range` is clean.
    ///
    /// # Errors
    /// The device lost data of this file, in this range or elsewhere.
    fn wait_writeback(&mut self, range: Range<u64>) -> io::Result<Cleaned>;

    /// Drops the clean pages of `range` from the page cache.
    ///
    /// # Errors
    /// Whatever the operating system says.
    fn evict(&mut self, range: Range<u64>) -> io::Result<()>;

    /// Bytes of `range` that the kernel holds dirty or in writeback, or `None` where it can't tell.
    fn kernel_dirty_bytes(&mut self, range: Range<u64>) -> Option<u64>;

    /// Removes the file's name from its directory, if it is still this file's.
    ///
    /// # Errors
    /// Whatever the operating system says.
    fn unlink(&mut self) -> io::Result<()>;

    /// Makes everything durable: the content, the length, and the file's name in its directory.
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
    /// The file system's name.
    pub filesystem: String,
    /// How its dirty pages are written back, as `freemkvctl status` names it.
    pub drain: &'static str,
}

/// A file just opened, not yet changed.
pub struct Opened {
    /// The file.
    pub storage: Box<dyn Storage>,
    /// True when it did not exist before.
    pub created: bool,
    /// Its length in bytes.
    pub len_bytes: u64,
    /// Bytes that its file system has for it: free ones, and those that it takes already.
    pub available_bytes: u64,
    /// Which file it is.
    pub id: FileId,
    /// Where it lies.
    pub device: Device,
}

/// Opens files. The one thing that tests replace to make storage slow or sick.
pub trait Open: Send + Sync {
    /// Opens `path` below one of `roots`, and creates it when the mode says so. Truncates nothing.
    ///
    /// # Errors
    /// [`OpenError`]; no file was changed, and none is left behind that was not there.
    fn open(&self, roots: &[PathBuf], path: &Path, mode: OpenMode) -> Result<Opened, OpenError>;
}

/// Why a file could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Not below a root, by its name or by a link on the way.
    #[error(
        "{path} is outside the daemon's roots ({roots}); write below one of them, or add a root to the configuration"
    )]
    OutsideRoots {
        /// The path that was asked for.
        path: PathBuf,
        /// The roots, separated by commas.
        roots: String,
    },
    /// Not something that can be written at an offset.
    #[error("{path} is {what}, not a regular file; choose another name")]
    NotAFile {
        /// The path that was asked for.
        path: PathBuf,
        /// What it is, with its article.
        what: &'static str,
    },
    /// An operating system error.
    #[error("cannot {operation} {path}: {source}{}", advice(source))]
    Io {
        /// The path that was asked for.
        path: PathBuf,
        /// What was tried.
        operation: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

fn advice(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::NotFound => "; create its directory, or correct the name",
        io::ErrorKind::PermissionDenied => {
            "; let the daemon's user write there, and name the place in the unit's ReadWritePaths="
        }
        io::ErrorKind::AlreadyExists => "; choose another name, or ask for overwriting",
        io::ErrorKind::ReadOnlyFilesystem => "; remount it writable",
        _ => "",
    }
}

impl OpenError {
    /// What the client is told.
    #[must_use]
    pub fn failure(&self) -> Failure {
        let (code, errno) = match self {
            Self::OutsideRoots { .. } => (ErrorCode::OUTSIDE_ROOTS, None),
            Self::NotAFile { .. } => (ErrorCode::NOT_A_FILE, None),
            Self::Io { source, .. } => {
                let code = match source.kind() {
                    io::ErrorKind::NotFound => ErrorCode::NOT_FOUND,
                    io::ErrorKind::PermissionDenied => ErrorCode::PERMISSION,
                    io::ErrorKind::AlreadyExists => ErrorCode::EXISTS,
                    io::ErrorKind::ReadOnlyFilesystem => ErrorCode::READ_ONLY,
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                        ErrorCode::NO_SPACE_AHEAD
                    }
                    _ => ErrorCode::OPEN_FAILED,
                };
                (code, source.raw_os_error())
            }
        };
        Failure { code, errno, offset: None, message: self.to_string() }
    }
}

/// The root that `path` names a file below, and the rest of the path.
fn below<'a>(roots: &'a [PathBuf], path: &'a Path) -> Option<(&'a Path, &'a Path)> {
    roots.iter().find_map(|root| {
        let rest = path.strip_prefix(root).ok()?;
        (!rest.as_os_str().is_empty()).then_some((root.as_path(), rest))
    })
}

fn outside(roots: &[PathBuf], path: &Path) -> OpenError {
    let roots = roots.iter().map(|root| root.display().to_string()).collect::<Vec<_>>().join(", ");
    OpenError::OutsideRoots { path: path.to_owned(), roots }
}
