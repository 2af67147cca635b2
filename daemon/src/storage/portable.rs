//! Storage where the kernel offers no control over writeback: the file is synced extent by extent,
//! which bounds what is dirty at the price of a whole-file wait. Names are resolved in two steps, so
//! that a link swapped in between is not excluded; the Linux sibling leaves that to the kernel.

use std::ffi::OsStr;
use std::fs::{File as StdFile, OpenOptions};
use std::io;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use freemkvd_proto::OpenMode;
use freemkvd_proto::limits::SLOTS_MAX;

use crate::access::Place;
use crate::storage::creation::{DIRECTORIES_MADE_MAX, too_many_missing};

use super::{
    Abilities, BadSlots, Content, Creation, Device, FileId, Known, Manner, Medium, Open, OpenError,
    Opened, Pages, Storage, below, outside,
};

/// What comes with an `Open`: nothing here.
#[derive(Debug)]
pub enum Descriptor {}

/// Memory that a client shares: there is none here.
#[derive(Debug)]
pub enum Slots {}

impl Slots {
    /// Takes no memory: content goes inline.
    ///
    /// # Errors
    /// [`BadSlots::Count`].
    pub fn offered(_memory: Option<&Descriptor>, slots: u32) -> Result<Option<Self>, BadSlots> {
        if (1..=SLOTS_MAX).contains(&slots) { Ok(None) } else { Err(BadSlots::Count(slots)) }
    }

    /// As on Linux.
    #[must_use]
    pub fn in_place(self, _place: Place) -> Self {
        match self {}
    }

    /// As on Linux.
    #[must_use]
    pub fn span(&self, _range: &Range<u64>) -> (usize, usize) {
        match *self {}
    }

    /// As on Linux.
    #[must_use]
    pub fn count(&self) -> u32 {
        match *self {}
    }
}

/// What of an open file outlives a daemon: nothing here.
#[derive(Debug)]
pub enum Descriptors {}

impl Descriptors {
    /// Whether a client can pass any.
    pub const CAN_COME: bool = false;

    /// None come here.
    #[must_use]
    pub fn given(descriptors: Vec<Descriptor>) -> Option<Self> {
        drop(descriptors);
        None
    }

    /// As on Linux.
    #[must_use]
    pub fn count(&self) -> u64 {
        match *self {}
    }
}

/// As on Linux.
#[must_use]
pub fn is_memory(descriptor: &Descriptor) -> bool {
    match *descriptor {}
}

/// As on Linux.
pub type Lent<'a> = Vec<(&'static str, &'a Descriptors)>;

/// The page size that charges are rounded to, in bytes.
#[must_use]
pub fn page_bytes() -> u64 {
    4096
}

/// Opens files below roots, on this host.
#[derive(Debug, Default)]
pub struct Disk;

impl Open for Disk {
    fn open(
        &self,
        roots: &[PathBuf],
        path: &Path,
        mode: OpenMode,
        creation: Creation,
    ) -> Result<Opened, OpenError> {
        let io = |source| OpenError::Io { path: path.to_owned(), operation: "open", source };
        let parent = path.parent().ok_or_else(|| outside(roots, path))?;
        let name = path.file_name().ok_or_else(|| outside(roots, path))?;
        let real_roots: Vec<_> = roots.iter().filter_map(|root| root.canonicalize().ok()).collect();
        if let Some(mode) = creation.directory_mode.filter(|_| mode != OpenMode::Existing) {
            make_directories(roots, &real_roots, path, mode)?;
        }
        let real = parent.canonicalize().map_err(io)?.join(name);
        let real = real.canonicalize().unwrap_or(real);
        below(&real_roots, &real).ok_or_else(|| outside(roots, path))?;
        if real.is_dir() {
            return Err(OpenError::NotAFile { path: path.to_owned(), what: "a directory" });
        }
        let mut options = OpenOptions::new();
        options.write(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, creation.file_mode);
        let existing = || options.clone().open(&real).map(|file| (file, false));
        let new = || options.clone().create_new(true).open(&real).map(|file| (file, true));
        let (file, created) = match mode {
            OpenMode::Existing => existing(),
            OpenMode::CreateNew => new(),
            OpenMode::Create => match new() {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => existing(),
                result => result,
            },
        }
        .map_err(io)?;
        let metadata = file.metadata().map_err(io)?;
        if !metadata.is_file() {
            return Err(OpenError::NotAFile { path: path.to_owned(), what: "a device or FIFO" });
        }
        let names = names(&metadata);
        if names > 1 {
            return Err(OpenError::Linked { path: path.to_owned(), names });
        }
        let id = identity(&real, &metadata);
        Ok(Opened {
            created,
            is_renamed: false,
            len_bytes: metadata.len(),
            id,
            born: None,
            device: Device {
                id: id.device.to_string(),
                mount: real_roots
                    .iter()
                    .find(|root| real.starts_with(root))
                    .map(|root| root.display().to_string())
                    .unwrap_or_default(),
                source: String::new(),
                filesystem: String::new(),
                medium: Medium::Unknown,
                is_a_users: false,
            },
            storage: Box::new(File {
                file,
                directory: created.then(|| parent.to_owned()),
                path: real,
            }),
        })
    }

    fn reopen(&self, roots: &[PathBuf], path: &Path, known: Known) -> Result<Opened, OpenError> {
        let changed = |what| OpenError::Changed { path: path.to_owned(), what };
        // It may have got its other name just before the daemon before ended.
        let is_there = |path: &&Path| Self::id_of(path) == Some(known.id);
        let other = known.other_path.as_deref().filter(is_there);
        let path = other.unwrap_or(path);
        match Self::id_of(path) {
            None => return Err(changed("was removed")),
            Some(id) if id != known.id => return Err(changed("was replaced by another file")),
            Some(_) => {}
        }
        let mut opened = self.open(roots, path, OpenMode::Existing, Creation::default())?;
        opened.is_renamed = other.is_some();
        // It may have been swapped since.
        if opened.id == known.id {
            Ok(opened)
        } else {
            Err(changed("was replaced by another file"))
        }
    }

    fn adopt(
        &self,
        given: Descriptors,
        _label: &Path,
        _known: Option<Known>,
    ) -> Result<Opened, OpenError> {
        match given {}
    }

    fn locate(&self, _path: &Path) -> Option<String> {
        None
    }
}

impl Disk {
    fn id_of(path: &Path) -> Option<FileId> {
        let real = path.canonicalize().ok()?;
        let metadata = real.metadata().ok()?;
        Some(identity(&real, &metadata))
    }
}

/// Makes what is missing between a root and the file, each durable before the next.
fn make_directories(
    roots: &[PathBuf],
    real_roots: &[PathBuf],
    path: &Path,
    mode: u32,
) -> Result<(), OpenError> {
    let operation = "create the directory of";
    let io = |source| OpenError::Io { path: path.to_owned(), operation, source };
    let (root, rest) = below(roots, path).ok_or_else(|| outside(roots, path))?;
    let missing = path.ancestors().skip(1).take(DIRECTORIES_MADE_MAX + 1);
    let missing = missing.take_while(|path| path.symlink_metadata().is_err());
    if missing.count() > DIRECTORIES_MADE_MAX {
        return Err(io(too_many_missing()));
    }
    let mut reached = root.to_owned();
    for step in rest.parent().into_iter().flat_map(Path::components) {
        if !matches!(step, Component::Normal(_)) {
            return Err(io(io::ErrorKind::NotFound.into()));
        }
        let above = reached.clone();
        reached.push(step);
        if reached.symlink_metadata().is_err() {
            match make_directory(&reached, mode) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => made.map_err(io)?,
            }
            sync_directory(&above).map_err(io)?;
        }
        let real = reached.canonicalize().map_err(io)?;
        if !real_roots.iter().any(|root| real.starts_with(root)) {
            return Err(outside(roots, path));
        }
    }
    Ok(())
}

#[cfg(unix)]
fn make_directory(path: &Path, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().mode(mode).create(path)
}

#[cfg(not(unix))]
fn make_directory(path: &Path, _mode: u32) -> io::Result<()> {
    std::fs::create_dir(path)
}

/// How many names the file has, where that is told.
#[cfg(unix)]
fn names(metadata: &std::fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::nlink(metadata)
}

#[cfg(not(unix))]
fn names(_metadata: &std::fs::Metadata) -> u64 {
    1
}

#[cfg(unix)]
fn identity(_path: &Path, metadata: &std::fs::Metadata) -> FileId {
    use std::os::unix::fs::MetadataExt;
    FileId { device: metadata.dev(), inode: metadata.ino() }
}

/// Stable Rust does not tell a file's index on Windows; its real name serves, since two streams may
/// not have one file whatever they call it.
#[cfg(not(unix))]
fn identity(path: &Path, _metadata: &std::fs::Metadata) -> FileId {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let hash = |part: &dyn Fn(&mut DefaultHasher)| {
        let mut hasher = DefaultHasher::new();
        part(&mut hasher);
        hasher.finish()
    };
    let prefix = path.components().next();
    FileId { device: hash(&|hasher| prefix.hash(hasher)), inode: hash(&|hasher| path.hash(hasher)) }
}

/// One open file.
struct File {
    file: StdFile,
    path: PathBuf,
    /// The directory of a file that was created, until its name is durable.
    directory: Option<PathBuf>,
}

impl Storage for File {
    fn abilities(&self) -> Abilities {
        Abilities {
            uncached: false,
            direct_align_bytes: None,
            by_range: false,
            trusted_by_range: false,
            in_memory: false,
        }
    }

    fn write_at(&mut self, offset: u64, content: Content<'_>, manner: Manner) -> io::Result<()> {
        let bytes = match content {
            Content::Bytes(bytes) => bytes,
            Content::Shared(slots, _) => match *slots {},
        };
        match manner {
            Manner::Cached => write_all_at(&self.file, offset, bytes),
            Manner::Uncached | Manner::Direct => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    fn write_zeroes(&mut self, _range: Range<u64>) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn len_bytes(&mut self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn reserve(&mut self, _len: u64) -> io::Result<bool> {
        Ok(false)
    }

    /// Nobody says.
    fn available_bytes(&mut self) -> io::Result<u64> {
        Ok(u64::MAX)
    }

    fn release_surplus(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn start_writeback(&mut self, _range: Range<u64>) -> io::Result<()> {
        Ok(())
    }

    fn wait_writeback(&mut self, _range: Range<u64>) -> io::Result<()> {
        self.file.sync_data()
    }

    fn sync_data(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn evict(&mut self, _range: Range<u64>) -> io::Result<()> {
        Ok(())
    }

    fn pages(&mut self, _range: Range<u64>) -> Option<Pages> {
        None
    }

    fn unlink(&mut self) -> io::Result<()> {
        std::fs::remove_file(&self.path)
    }

    /// Nobody says.
    fn is_named(&mut self) -> io::Result<bool> {
        Ok(true)
    }

    fn taken_by(&mut self, name: &OsStr) -> io::Result<Option<FileId>> {
        let other = self.path.with_file_name(name);
        match other.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
            Ok(_) if other == self.path => Ok(None),
            Ok(metadata) => Ok(Some(identity(&other, &metadata))),
        }
    }

    fn rename(&mut self, name: &OsStr, replaces: bool) -> io::Result<()> {
        let other = self.path.with_file_name(name);
        if other == self.path {
            return Ok(());
        }
        if replaces {
            std::fs::rename(&self.path, &other)?;
        } else {
            // A link never replaces anything. For a moment the file has both names.
            std::fs::hard_link(&self.path, &other)?;
            std::fs::remove_file(&self.path)?;
        }
        self.directory = other.parent().map(Path::to_owned);
        self.path = other;
        Ok(())
    }

    /// It is not told here; the file was synced before.
    fn closing(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn has_reserved(&mut self, _bytes: u64) {}

    fn lend(&self) -> Lent<'_> {
        Vec::new()
    }

    fn sync(&mut self) -> io::Result<()> {
        // On macOS this is F_FULLFSYNC, on Windows FlushFileBuffers.
        self.file.sync_all()?;
        if let Some(directory) = self.directory.take() {
            sync_directory(&directory)?;
        }
        Ok(())
    }
}

#[cfg(unix)]
fn write_all_at(file: &StdFile, offset: u64, bytes: &[u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

#[cfg(windows)]
fn write_all_at(file: &StdFile, mut offset: u64, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_write(file, bytes, offset)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            count => {
                bytes = &bytes[count..];
                offset += count as u64;
            }
        }
    }
    Ok(())
}

#[cfg(unix)]
fn sync_directory(path: &Path) -> io::Result<()> {
    StdFile::open(path)?.sync_all()
}

/// NTFS journals names by itself, and a directory can't be flushed.
#[cfg(not(unix))]
fn sync_directory(_path: &Path) -> io::Result<()> {
    Ok(())
}
