//! Opening files below roots.
//!
//! 1. A directory is opened first, and asked where it really is: below a root, or nothing is made in it. Links,
//!    junctions, drives that stand for directories and short names are all resolved by then.
//! 2. It is held while the file is opened in it, and not shared for deleting: no directory above can be
//!    renamed, removed or replaced by a link meanwhile.
//! 3. The file itself is never followed if it is a link, and is asked afterwards where it is.

use std::ffi::OsString;
use std::fs::{self, File as StdFile, OpenOptions};
use std::io;
use std::os::windows::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use freemkvd_proto::OpenMode;
use windows_sys::Win32::Foundation::{FILETIME, GENERIC_WRITE};
use windows_sys::Win32::Storage::FileSystem::{
    FILE_ATTRIBUTE_REPARSE_POINT, FILE_FLAG_BACKUP_SEMANTICS, FILE_FLAG_OPEN_REPARSE_POINT,
    FILE_LIST_DIRECTORY, FILE_READ_ATTRIBUTES, FILE_SHARE_DELETE, FILE_SHARE_READ,
    FILE_SHARE_WRITE,
};

use super::file::File;
use super::naming::{id_of, owner_of, remove};
use super::{call, device, names};
use crate::platform::is_sharing_violation;
use crate::storage::creation::{DIRECTORIES_MADE_MAX, too_many_missing};
use crate::storage::none::Descriptors;
use crate::storage::opening::{by_mode, removed_if_missing};
use crate::storage::{Creation, Known, Open, OpenError, Opened, outside};

/// The process of a daemon that was killed lets go of its files when the last call has returned in which one of its
/// threads is: so often it is looked whether it has, with a pause of so long; half a minute.
const LOOKS: u32 = 600;
const LOOK: Duration = Duration::from_millis(50);

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
        let place = Place::of(
            roots,
            path,
            creation.directory_mode.is_some() && mode != OpenMode::Existing,
        )?;
        let opened = |is_new| open_in(&place, is_new).map_err(|source| place.refusal(path, source));
        let (file, created) = by_mode(mode, || opened(true), || opened(false))?;
        describe(&place, file, created, roots, path)
    }

    fn reopen(&self, roots: &[PathBuf], path: &Path, known: Known) -> Result<Opened, OpenError> {
        // It may have got its other name just before the daemon before ended.
        let is_there = |path: &&Path| {
            let place = Place::of(roots, path, false).ok();
            place.is_some_and(|place| owner_of(&place.path()).ok().flatten() == Some(known.id))
        };
        let other = known.other_path.as_deref().filter(is_there);
        let path = other.unwrap_or(path);
        let place = Place::of(roots, path, false).map_err(removed_if_missing)?;
        let file = open_when_let_go(&place)
            .map_err(|source| removed_if_missing(place.refusal(path, source)))?;
        let mut opened = describe(&place, file, false, roots, path)?;
        known.check(&opened, path)?;
        opened.is_renamed = other.is_some();
        opened.storage.has_reserved(known.reserved_bytes);
        Ok(opened)
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

/// A name in a directory that is really below a root, and stays there.
struct Place {
    /// Held, not used.
    _directory: StdFile,
    real: PathBuf,
    name: OsString,
}

impl Place {
    fn of(roots: &[PathBuf], path: &Path, makes: bool) -> Result<Self, OpenError> {
        if let Some(what) = names::fault_of(path) {
            return Err(OpenError::NotAFile { path: path.to_owned(), what });
        }
        let Some(root) = names::root_of(roots, path) else { return Err(outside(roots, path)) };
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(outside(roots, path));
        };
        let io = |source| OpenError::Io { path: path.to_owned(), operation: "open", source };
        if makes {
            make_directories(root, path, parent)?;
        }
        let (directory, real) = open_directory(parent).map_err(io)?;
        if !is_below(root, &real) {
            return Err(outside(roots, path));
        }
        Ok(Self { _directory: directory, real, name: name.to_owned() })
    }

    fn path(&self) -> PathBuf {
        self.real.join(&self.name)
    }

    /// A directory can't be opened to be written, which the system calls a matter of permissions.
    fn refusal(&self, path: &Path, source: io::Error) -> OpenError {
        let path = path.to_owned();
        let there = || self.path().symlink_metadata().ok();
        match source.kind() {
            io::ErrorKind::PermissionDenied if there().is_some_and(|found| found.is_dir()) => {
                OpenError::NotAFile { path, what: "a directory" }
            }
            io::ErrorKind::PermissionDenied if there().is_some_and(|found| found.is_symlink()) => {
                OpenError::NotAFile { path, what: "a link" }
            }
            _ => OpenError::Io { path, operation: "open", source },
        }
    }
}

/// Others may read it, and may take its name away; nobody else may write it.
fn open_in(place: &Place, is_new: bool) -> io::Result<StdFile> {
    OpenOptions::new()
        .write(true)
        .create_new(is_new)
        .access_mode(GENERIC_WRITE | FILE_READ_ATTRIBUTES)
        .share_mode(FILE_SHARE_READ | FILE_SHARE_DELETE)
        .custom_flags(FILE_FLAG_OPEN_REPARSE_POINT)
        .open(place.path())
}

/// Waits for a process that is about to end.
fn open_when_let_go(place: &Place) -> io::Result<StdFile> {
    let mut looks = 0;
    loop {
        match open_in(place, false) {
            Err(error) if is_sharing_violation(&error) && looks < LOOKS => {
                looks += 1;
                thread::sleep(LOOK);
            }
            result => return result,
        }
    }
}

fn describe(
    place: &Place,
    file: StdFile,
    created: bool,
    roots: &[PathBuf],
    path: &Path,
) -> Result<Opened, OpenError> {
    let io = |source| OpenError::Io { path: path.to_owned(), operation: "ask about", source };
    let id = id_of(&file).map_err(io)?;
    let refused = |error| {
        // It was made a moment ago, and nobody wants it.
        if created {
            let _ = remove(&place.path(), id);
        }
        error
    };
    let not_a_file = |what| OpenError::NotAFile { path: path.to_owned(), what };
    if !call::is_on_disk(&file) {
        return Err(refused(not_a_file("a device")));
    }
    let found = call::by_handle(&file).map_err(|error| refused(io(error)))?;
    if found.dwFileAttributes & FILE_ATTRIBUTE_REPARSE_POINT != 0 {
        return Err(refused(not_a_file("a link")));
    }
    if found.nNumberOfLinks > 1 {
        let names = found.nNumberOfLinks.into();
        return Err(refused(OpenError::Linked { path: path.to_owned(), names }));
    }
    let real = call::final_path(&file).map_err(|error| refused(io(error)))?;
    if real.parent() != Some(&place.real) {
        return Err(refused(outside(roots, path)));
    }
    let device = device::of(&place.real, id.device);
    // NTFS never gives a number twice. Of ReFS this is a part of one, and on FAT a place in a directory.
    let keeps_numbers = device.filesystem == "NTFS";
    let born = (!keeps_numbers).then(|| since_1601(found.ftCreationTime));
    let len_bytes = u64::from(found.nFileSizeHigh) << 32 | u64::from(found.nFileSizeLow);
    Ok(Opened {
        created,
        is_renamed: false,
        len_bytes,
        id,
        born,
        device,
        storage: Box::new(File::new(file, &real, id)),
    })
}

/// Seconds since the system's epoch, the beginning of 1601, and nanoseconds: only ever compared.
fn since_1601(time: FILETIME) -> (i64, u32) {
    let ticks = u64::from(time.dwHighDateTime) << 32 | u64::from(time.dwLowDateTime);
    let (seconds, rest) = (ticks / 10_000_000, ticks % 10_000_000);
    (i64::try_from(seconds).unwrap_or(i64::MAX), u32::try_from(rest * 100).unwrap_or(0))
}

/// Opens a directory, so that nobody can rename or remove it, and tells where it really is.
fn open_directory(path: &Path) -> io::Result<(StdFile, PathBuf)> {
    let directory = OpenOptions::new()
        // To list it, because whoever asks for nothing but attributes holds nothing.
        .access_mode(FILE_LIST_DIRECTORY | FILE_READ_ATTRIBUTES)
        .share_mode(FILE_SHARE_READ | FILE_SHARE_WRITE)
        .custom_flags(FILE_FLAG_BACKUP_SEMANTICS)
        .open(path)?;
    if !directory.metadata()?.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    let real = call::final_path(&directory)?;
    Ok((directory, real))
}

/// Of the one root that is meant alone: another may be on a disk that does not answer.
fn is_below(root: &Path, real: &Path) -> bool {
    open_directory(root).is_ok_and(|(_, root)| real.starts_with(root))
}

/// Makes what is missing between a root and `parent`. Each is looked at before the next is made in it.
fn make_directories(root: &Path, path: &Path, parent: &Path) -> Result<(), OpenError> {
    let operation = "create the directory of";
    let io = |source| OpenError::Io { path: path.to_owned(), operation, source };
    let missing = parent.ancestors().take_while(|path| path.symlink_metadata().is_err());
    let missing: Vec<_> = missing.take(DIRECTORIES_MADE_MAX + 1).collect();
    if missing.len() > DIRECTORIES_MADE_MAX {
        return Err(io(too_many_missing()));
    }
    let mut held = Vec::new();
    for directory in missing.into_iter().rev() {
        let outside = || outside(&[root.to_owned()], path);
        let (above, real) = open_directory(directory.parent().ok_or_else(outside)?).map_err(io)?;
        if !is_below(root, &real) {
            return Err(outside());
        }
        held.push(above);
        match fs::create_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made.map_err(io)?,
        }
    }
    Ok(())
}
