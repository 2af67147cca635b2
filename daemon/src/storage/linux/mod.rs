//! Storage on Linux.
//!
//! * `call`: the system calls that no binding offers;
//! * `file`: one open file, and the verbs on it;
//! * `given`: a file that its client has opened;
//! * `kind`: what the number of a file system tells;
//! * `medium`: whether a device seeks;
//! * `passed`: descriptors that this process was started with;
//! * `slots`: memory that a client shares.
//!
//! `call`, `passed` and `slots` have all `unsafe` of the daemon. What a file system can do is found out by asking the
//! file, and by trying; a name decides only what cannot be found out ([`Abilities::trusted_by_range`]).

mod call;
mod file;
mod given;
mod kind;
mod medium;
mod passed;
mod slots;

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use freemkvd_proto::OpenMode;
use rustix::fs::{AtFlags, StatxFlags, major, minor, statx};

use self::file::{File, direct_align_bytes};
use self::kind::Kind;
use super::below::below;
use super::beneath::{self, Refused};
use super::mount::{self, Mount};
use super::{Abilities, Creation, Device, FileId, Known, Medium, Open, OpenError, Opened, outside};

pub use call::peer_groups;
pub use passed::passed;
pub use slots::{Descriptor, Slots, is_memory};

/// See [`Calls`](super::Calls).
pub const CALLS: super::Calls = super::Calls { write: "pwrite", drain: "fdatasync", sync: "fsync" };

/// The kernel's page size in bytes.
#[must_use]
pub fn page_bytes() -> u64 {
    rustix::param::page_size() as u64
}

/// What there is of a file that somebody else has open: a client, or who keeps it from one daemon to the next.
#[derive(Debug)]
pub struct Descriptors {
    /// The one that is written to and waited on.
    pub data: OwnedFd,
    /// The one that is only ever synced.
    pub sentinel: OwnedFd,
    /// The directory that has the file's name, if that is to be made durable and nobody would find it by a path.
    pub directory: Option<OwnedFd>,
}

impl Descriptors {
    /// Whether a client can pass any.
    pub const CAN_COME: bool = true;

    /// Those that a client has passed, in the order of the wire. `None` when they are too few or too many.
    #[must_use]
    pub fn given(descriptors: Vec<Descriptor>) -> Option<Self> {
        let mut descriptors = descriptors.into_iter();
        let (data, sentinel) = (descriptors.next()?, descriptors.next()?);
        let directory = descriptors.next();
        descriptors.next().is_none().then_some(Self { data, sentinel, directory })
    }

    /// How many they are.
    #[must_use]
    pub fn count(&self) -> u64 {
        2 + u64::from(self.directory.is_some())
    }
}

/// The same, lent, with their names.
pub type Lent<'a> = Vec<(&'static str, BorrowedFd<'a>)>;

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
        let (root, rest) = below(roots, path).ok_or_else(|| outside(roots, path))?;
        let file = beneath::open(root, rest, mode, creation)
            .map_err(|refused| error(refused, roots, path))?;
        Ok(describe(file, path))
    }

    fn reopen(
        &self,
        roots: &[PathBuf],
        path: &Path,
        mut known: Known,
    ) -> Result<Opened, OpenError> {
        // It may have got its other name just before the daemon before ended.
        let is_there = |path: &&Path| {
            let place = below(roots, path);
            place.is_some_and(|(root, rest)| beneath::is_called(root, rest, known.id))
        };
        let other = known.other_path.as_deref().filter(is_there);
        let path = other.unwrap_or(path);
        let (root, rest) = below(roots, path).ok_or_else(|| outside(roots, path))?;
        let changed = |what| OpenError::Changed { path: path.to_owned(), what };
        // A number alone would be taken for the file, whoever has it now.
        if known.descriptors.is_none() && known.born.is_none() {
            return Err(changed("may have been replaced (its file system does not tell)"));
        }
        let file = match known.descriptors.take() {
            Some(Descriptors { data, sentinel, .. }) => beneath::adopt(root, rest, data, sentinel),
            None => beneath::reopen(root, rest),
        };
        let file = file.map_err(|refused| match refused {
            Refused::Io(_, source) if source.kind() == io::ErrorKind::NotFound => {
                changed("was removed")
            }
            refused => error(refused, roots, path),
        })?;
        if !is(&file, &known) {
            return Err(changed("was replaced by another file"));
        }
        if file.stat.st_nlink == 0 {
            return Err(changed("was removed"));
        }
        let mut opened = describe(file, path);
        opened.is_renamed = other.is_some();
        opened.storage.has_reserved(known.reserved_bytes);
        Ok(opened)
    }

    fn adopt(
        &self,
        given: Descriptors,
        label: &Path,
        known: Option<Known>,
    ) -> Result<Opened, OpenError> {
        let file = given::check(given, label)?;
        if known.as_ref().is_some_and(|known| !is(&file, known)) {
            let what = "came back as another file";
            return Err(OpenError::Changed { path: label.to_owned(), what });
        }
        let mut opened = given::describe(file);
        if let Some(known) = known {
            opened.storage.has_reserved(known.reserved_bytes);
        }
        Ok(opened)
    }

    fn locate(&self, path: &Path) -> Option<String> {
        let device = mount::at(path).device;
        (!device.is_empty()).then_some(device)
    }
}

fn error(refused: Refused, roots: &[PathBuf], path: &Path) -> OpenError {
    let path = path.to_owned();
    match refused {
        Refused::Outside => outside(roots, &path),
        Refused::NotAFile(what) => OpenError::NotAFile { path, what },
        Refused::Linked(names) => OpenError::Linked { path, names },
        Refused::SetId => OpenError::SetId { path },
        Refused::Io(operation, source) => OpenError::Io { path, operation, source },
    }
}

/// True when it is the file that it was before.
fn is(file: &beneath::Opened, known: &Known) -> bool {
    let id = FileId { device: file.stat.st_dev, inode: file.stat.st_ino };
    (id, born(&file.data)) == (known.id, known.born)
}

/// When the file was made.
fn born(file: &OwnedFd) -> Option<(i64, u32)> {
    let told = statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::BTIME).ok()?;
    let known = told.stx_mask & StatxFlags::BTIME.bits() != 0;
    known.then_some((told.stx_btime.tv_sec, told.stx_btime.tv_nsec))
}

/// What there is to know of an open file.
fn describe(file: beneath::Opened, path: &Path) -> Opened {
    let mount = mount::of(&file.data, path);
    describe_on(mount, file)
}

/// The same of one that lies on this mount.
fn describe_on(mut mount: Mount, file: beneath::Opened) -> Opened {
    if mount.device.is_empty() {
        mount.device = device_number(file.stat.st_dev);
    }
    let magic = kind::magic(&file.data);
    let kind = Kind::of(magic);
    if mount.filesystem.is_empty() {
        mount.filesystem = kind::name(magic);
    }
    let in_memory = kind == Kind::Memory;
    let medium =
        if in_memory { Medium::Memory } else { medium::of(Path::new(medium::SYSFS), &mount) };
    let direct_align_bytes = match kind {
        Kind::Other | Kind::Nfs => file.direct.as_ref().and_then(direct_align_bytes),
        Kind::Memory | Kind::Fuse => None,
    };
    let abilities = Abilities {
        uncached: kind == Kind::Other,
        direct_align_bytes,
        by_range: kind == Kind::Other,
        trusted_by_range: kind::is_trusted_by_range(magic),
        in_memory,
    };
    Opened {
        created: file.created,
        is_renamed: false,
        len_bytes: file.stat.st_size.unsigned_abs(),
        id: FileId { device: file.stat.st_dev, inode: file.stat.st_ino },
        born: born(&file.data),
        device: Device {
            id: mount.device,
            mount: mount.point.display().to_string(),
            source: mount.source,
            filesystem: mount.filesystem,
            medium,
            is_a_users: mount.is_a_users,
        },
        storage: Box::new(File {
            data: file.data,
            sentinel: file.sentinel,
            direct: file.direct.filter(|_| direct_align_bytes.is_some()),
            directory: file.directory,
            name: file.name,
            // Also one that was there: somebody may have made it a moment ago, and not synced.
            name_is_durable: false,
            abilities,
            reserved_bytes: 0,
        }),
    }
}

/// A device's number as the kernel's table of mounts has it.
fn device_number(device: u64) -> String {
    format!("{}:{}", major(device), minor(device))
}

#[cfg(test)]
mod tests;
