//! The disk: opens its files, as far as the script lets it, and answers questions about them.
//!
//! Injects: errors of opening (CREATE, existing names, a directory on a device that is gone), and ground of
//! different kinds: file systems with and without `RWF_DONTCACHE`, `O_DIRECT` and writeback by range, kernels
//! that count pages, count none, or can't count, and file systems that do nothing by range and call it a
//! success.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use freemkvd::storage::{
    Abilities, Creation, Descriptors, Device, FileId, Known, Medium, Open, OpenError, Opened,
};
use freemkvd_proto::OpenMode;
use rustix::io::Errno;

use super::crash::{Image, ImageFile};
use super::file::FaultFile;
use super::inode::PageState;
use super::kernel::{Kernel, Mode};
use super::script::{Call, Fault, Script};
use crate::trace::Random;

/// What the kernel says of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counts {
    /// The truth.
    Exact,
    /// That there are none.
    Blind,
    /// Nothing: it has no such call.
    None,
}

/// What a disk is like.
#[derive(Clone, Copy, Debug)]
pub struct Ground {
    /// What its files say that they can do.
    pub abilities: Abilities,
    /// What they say of pages.
    pub counts: Counts,
    /// Starting writeback by range and waiting for it do nothing, as on a stacked file system.
    pub is_deaf_by_range: bool,
    /// What it is made of.
    pub medium: Medium,
}

impl Default for Ground {
    /// A local disk on a current kernel.
    fn default() -> Self {
        let abilities = Abilities {
            uncached: true,
            direct_align_bytes: Some(512),
            by_range: true,
            trusted_by_range: true,
            in_memory: false,
        };
        Self { abilities, counts: Counts::Exact, is_deaf_by_range: false, medium: Medium::Flash }
    }
}

/// A file system in memory; see the module's documentation. Clones are the same disk.
#[derive(Clone)]
pub struct FaultDisk {
    pub(super) shared: Arc<Shared>,
}

/// Called before each call of the storage, by the thread that makes it.
type Watch = Arc<dyn Fn(Call) + Send + Sync>;

pub(super) struct Shared {
    root: PathBuf,
    pub(super) number: u64,
    pub(super) ground: Ground,
    pub(super) script: Script,
    kernel: Mutex<Kernel>,
    watch: Mutex<Option<Watch>>,
}

impl FaultDisk {
    /// A disk that is mounted at `root`. Every directory is there.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>, ground: Ground) -> Self {
        static LAST: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let number = LAST.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
        let shared = Shared {
            root: root.into(),
            number,
            ground,
            script: Script::default(),
            kernel: Mutex::new(Kernel::new()),
            watch: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Where it is mounted.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.shared.root
    }

    /// What goes wrong on it.
    #[must_use]
    pub fn script(&self) -> &Script {
        &self.shared.script
    }

    /// So much fits on it; ENOSPC beyond.
    pub fn set_capacity(&self, bytes: u64) {
        self.kernel().capacity_bytes = bytes;
    }

    /// So much may be written on it, which asking for free space does not tell; EDQUOT beyond.
    pub fn set_quota(&self, bytes: u64) {
        self.kernel().quota_bytes = bytes;
    }

    /// From now on the kernel writes pages back by itself, as `seed` says.
    pub fn flush_by_itself(&self, seed: u64) {
        self.kernel().flusher = Some(Random::new(seed));
    }

    /// The device is back, with all that it had.
    pub fn heal(&self) {
        self.shared.script.heal();
        self.kernel().mode = Mode::Healthy;
    }

    /// Has `watch` called before each call, by the thread that makes it.
    pub fn watch(&self, watch: impl Fn(Call) + Send + Sync + 'static) {
        *self.lock_watch() = Some(Arc::new(watch));
    }

    /// Does so no more.
    pub fn look_away(&self) {
        *self.lock_watch() = None;
    }

    /// One of the states that a power cut may leave now; `seed` says which.
    #[must_use]
    pub fn crash(&self, seed: u64) -> Image {
        self.kernel().crash(seed)
    }

    /// The content of a file as a reader sees it now.
    #[must_use]
    pub fn read(&self, path: &Path) -> Option<Vec<u8>> {
        let kernel = self.kernel();
        let inode = &kernel.inodes[kernel.names.get(path)?];
        let mut bytes = vec![0; super::inode::index(inode.len)];
        for (number, page) in &inode.pages {
            let start = super::inode::index(number * super::PAGE_BYTES);
            if let (Some(live), true) = (&page.live, start < bytes.len()) {
                let count = live.bytes.len().min(bytes.len() - start);
                bytes[start..start + count].copy_from_slice(&live.bytes[..count]);
            }
        }
        Some(bytes)
    }

    /// A file as a reader sees it now, of any length.
    #[must_use]
    pub fn file(&self, path: &Path) -> Option<ImageFile> {
        let kernel = self.kernel();
        let inode = &kernel.inodes[kernel.names.get(path)?];
        let live = |(number, page): (&u64, &PageState)| {
            page.live.as_ref().map(|live| (*number, Arc::clone(&live.bytes)))
        };
        Some(ImageFile { len: inode.len, pages: inode.pages.iter().filter_map(live).collect() })
    }

    /// Makes it a new one, without a file, and healthy.
    ///
    /// # Panics
    /// When files are open.
    pub fn wipe(&self) {
        let mut kernel = self.kernel();
        let is_open = kernel.inodes.values().any(|inode| inode.openers > 0);
        assert!(!is_open, "somebody still writes on it");
        kernel.wipe();
        drop(kernel);
        self.script().clear();
    }

    /// All names.
    #[must_use]
    pub fn names(&self) -> Vec<PathBuf> {
        self.kernel().names.keys().cloned().collect()
    }

    /// Makes a file with this content, durable.
    pub fn put(&self, path: &Path, content: &[u8]) {
        let mut kernel = self.kernel();
        let inode = kernel.create(path);
        let stamp = kernel.stamp;
        kernel.inode(inode).write(0, content, stamp);
        let all = 0..content.len() as u64;
        kernel.take_space(inode, &all);
        kernel.change(super::kernel::What::Grow { inode, len: all.end });
        kernel.write_back(inode, &all, &Script::default());
        kernel.commit(inode);
        if let Some(directory) = path.parent() {
            kernel.commit_names(directory);
        }
    }

    /// Removes a file, as another process does.
    pub fn remove(&self, path: &Path) {
        self.kernel().unlink(path);
    }

    /// How many files are open.
    #[must_use]
    pub fn open_files(&self) -> usize {
        self.kernel().inodes.values().map(|inode| inode.openers).sum()
    }

    pub(super) fn kernel(&self) -> MutexGuard<'_, Kernel> {
        self.shared.kernel()
    }

    fn lock_watch(&self) -> MutexGuard<'_, Option<Watch>> {
        self.shared.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn describe(&self, inode: u64, path: &Path, created: bool) -> Opened {
        let mut kernel = self.kernel();
        let opened = kernel.inode(inode);
        opened.openers += 1;
        let (len_bytes, since) = (opened.len, opened.errors.sample());
        drop(kernel);
        let mount = self.shared.root.display().to_string();
        Opened {
            storage: Box::new(FaultFile::new(self.clone(), inode, path, since)),
            created,
            is_renamed: false,
            len_bytes,
            id: FileId { device: self.shared.number, inode },
            born: Some((i64::try_from(inode).unwrap_or(i64::MAX), 0)),
            device: Device {
                id: format!("fault:{}", self.shared.number),
                mount,
                source: String::new(),
                filesystem: "faultfs".to_owned(),
                medium: self.shared.ground.medium,
                is_a_users: false,
            },
        }
    }
}

impl Shared {
    pub(super) fn kernel(&self) -> MutexGuard<'_, Kernel> {
        self.kernel.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call is made, and may fail, or hang. `Ok` with what is left to be done about a fault.
    pub(super) fn meet(
        &self,
        call: Call,
        path: &Path,
        offset: Option<u64>,
    ) -> io::Result<Option<Fault>> {
        let watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(watch) = watch {
            watch(call);
        }
        let fault = self.script.meet(call, path, offset);
        let mut kernel = self.kernel();
        match fault {
            Some(Fault::Error(errno)) => return Err(io::Error::from_raw_os_error(errno)),
            Some(Fault::Vanish(errno)) => kernel.mode = Mode::Gone(errno),
            Some(Fault::ReadOnly) => kernel.mode = Mode::ReadOnly,
            _ => {}
        }
        match kernel.mode {
            Mode::Healthy => Ok(fault),
            Mode::Gone(_) if call == Call::Pages => Ok(None),
            Mode::Gone(errno) => Err(io::Error::from_raw_os_error(errno)),
            Mode::ReadOnly if changes(call) => Err(Errno::ROFS.into()),
            Mode::ReadOnly => Ok(None),
        }
    }
}

/// What a read-only file system refuses.
fn changes(call: Call) -> bool {
    use Call::{Rename, Reserve, SetLen, Unlink, WriteZeroes};
    call.is_write() || matches!(call, WriteZeroes | SetLen | Reserve | Unlink | Rename)
}

impl Open for FaultDisk {
    fn open(
        &self,
        roots: &[PathBuf],
        path: &Path,
        mode: OpenMode,
        _creation: Creation,
    ) -> Result<Opened, OpenError> {
        let failed = |operation, source| OpenError::Io { path: path.to_owned(), operation, source };
        if !roots.iter().any(|root| path.starts_with(root)) {
            let roots = roots.iter().map(|root| root.display().to_string()).collect();
            return Err(OpenError::OutsideRoots { path: path.to_owned(), roots });
        }
        self.shared.meet(Call::Open, path, None).map_err(|error| failed("open", error))?;
        let mut kernel = self.kernel();
        let known = kernel.names.get(path).copied();
        let (inode, created) = match (known, mode) {
            (Some(_), OpenMode::CreateNew) => return Err(failed("create", Errno::EXIST.into())),
            (None, OpenMode::Existing) => return Err(failed("open", Errno::NOENT.into())),
            (Some(inode), _) => (inode, false),
            (None, _) if kernel.mode == Mode::ReadOnly => {
                return Err(failed("create", Errno::ROFS.into()));
            }
            (None, _) => (kernel.create(path), true),
        };
        drop(kernel);
        Ok(self.describe(inode, path, created))
    }

    fn reopen(&self, _: &[PathBuf], path: &Path, known: Known) -> Result<Opened, OpenError> {
        let failed = |source| OpenError::Io { path: path.to_owned(), operation: "open", source };
        self.shared.meet(Call::Open, path, None).map_err(failed)?;
        let names = self.kernel().names.clone();
        let is_it = |path: &&Path| names.get(*path) == Some(&known.id.inode);
        let found = known.other_path.as_deref().into_iter().chain([path]).find(is_it);
        let found = found.ok_or_else(|| OpenError::Changed {
            path: path.to_owned(),
            what: "was removed or replaced",
        })?;
        let mut opened = self.describe(known.id.inode, found, false);
        opened.is_renamed = known.other_path.as_deref() == Some(found);
        opened.storage.has_reserved(known.reserved_bytes);
        Ok(opened)
    }

    /// A disk in memory has no descriptors: the file that its client calls so.
    fn adopt(
        &self,
        _given: Descriptors,
        label: &Path,
        known: Option<Known>,
    ) -> Result<Opened, OpenError> {
        if let Some(known) = known {
            return self.reopen(&[], label, known);
        }
        self.open(&[self.root().to_owned()], label, OpenMode::Existing, Creation::default())
    }

    fn locate(&self, path: &Path) -> Option<String> {
        path.starts_with(self.root()).then(|| format!("fault:{}", self.shared.number))
    }
}
