//! The names of an open file: giving it another, taking it away, and looking whose a name is.
//!
//! 1. What has the old name is opened once more, and asked whether it is the file that is meant, before anything
//!    is done by that second handle. So no other file is ever renamed or removed, whatever happens to names.
//! 2. The handle that writes has no right to delete: players that do not share that could not open the file.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io;
use std::mem::size_of;
use std::os::windows::ffi::OsStrExt;
use std::os::windows::fs::OpenOptionsExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use windows_sys::Win32::Foundation::{ERROR_ACCESS_DENIED, ERROR_SHARING_VIOLATION};
use windows_sys::Win32::Storage::FileSystem::{
    DELETE, FILE_DISPOSITION_FLAG_DELETE, FILE_DISPOSITION_FLAG_POSIX_SEMANTICS,
    FILE_FLAG_BACKUP_SEMANTICS, FILE_FLAG_OPEN_REPARSE_POINT, FILE_READ_ATTRIBUTES,
    FILE_SHARE_DELETE, FILE_SHARE_READ, FILE_SHARE_WRITE, FileDispositionInfo,
    FileDispositionInfoEx, FileRenameInfo, FileRenameInfoEx,
};

use super::{call, flush};
use crate::storage::FileId;

/// `FILE_RENAME_FLAG_REPLACE_IF_EXISTS` and `FILE_RENAME_FLAG_POSIX_SEMANTICS` of winbase.h.
const REPLACE: u32 = 1;
const POSIX: u32 = 2;

/// A virus scanner or an indexer looks at what is new, for a moment, and may keep others from renaming it
/// meanwhile: so often it is tried again, with a pause of so long.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(20);

/// Every program may go on to use the file.
pub(super) const SHARE_ALL: u32 = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE;

/// Which file it is. The number is that of NTFS; ReFS has longer ones, of which this is the part that differs.
pub(super) fn id_of(file: &File) -> io::Result<FileId> {
    let found = call::by_handle(file)?;
    let inode = u64::from(found.nFileIndexHigh) << 32 | u64::from(found.nFileIndexLow);
    Ok(FileId { device: found.dwVolumeSerialNumber.into(), inode })
}

/// Whose name it is, if it is anybody's.
pub(super) fn owner_of(path: &Path) -> io::Result<Option<FileId>> {
    match look_at(path, FILE_READ_ATTRIBUTES) {
        Ok(file) => id_of(&file).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Takes the name `path` from the file `id`.
///
/// # Errors
/// `NotFound` when it is not its name; else whatever the system says.
pub(super) fn remove(path: &Path, id: FileId) -> io::Result<()> {
    let file = to_rename(path, id)?;
    let flags = FILE_DISPOSITION_FLAG_DELETE | FILE_DISPOSITION_FLAG_POSIX_SEMANTICS;
    match call::set(&file, FileDispositionInfoEx, &[flags.into()], size_of::<u32>()) {
        // The name stays until the last handle is closed, where the file system can do no better.
        Err(error) if flush::is_unknown(&error) => call::set(&file, FileDispositionInfo, &[1], 1),
        result => result,
    }
}

/// Gives the file `id`, which is called `old`, the name `new` on the same volume.
///
/// # Errors
/// `AlreadyExists` when that is taken and not to be replaced, `NotFound` when `old` is not its name; else
/// whatever the system says.
pub(super) fn rename(old: &Path, id: FileId, new: &Path, replaces: bool) -> io::Result<()> {
    let mut tries = 0;
    loop {
        let renamed = to_rename(old, id).and_then(|file| rename_by(&file, new, replaces));
        match renamed {
            Err(error) if is_in_use(&error) && tries < TRIES => {
                tries += 1;
                thread::sleep(PAUSE);
            }
            result => return result,
        }
    }
}

fn rename_by(file: &File, new: &Path, replaces: bool) -> io::Result<()> {
    let flags = if replaces { REPLACE | POSIX } else { POSIX };
    let (content, len) = rename_info(flags, new.as_os_str());
    match call::set(file, FileRenameInfoEx, &content, len) {
        Err(error) if flush::is_unknown(&error) => {
            let (content, len) = rename_info(u32::from(replaces), new.as_os_str());
            call::set(file, FileRenameInfo, &content, len)
        }
        result => result,
    }
}

/// `FILE_RENAME_INFO`: flags, or a BOOLEAN, no directory, the length of the name in bytes, the name.
fn rename_info(flags: u32, name: &OsStr) -> (Vec<u64>, usize) {
    let pointer = size_of::<usize>();
    let mut bytes = vec![0; 2 * pointer];
    bytes[..4].copy_from_slice(&flags.to_ne_bytes());
    let units: Vec<u16> = name.encode_wide().collect();
    // Paths have at most 32767 units.
    let len = u32::try_from(2 * units.len()).unwrap_or(u32::MAX);
    bytes.extend(len.to_ne_bytes());
    bytes.extend(units.iter().flat_map(|unit| unit.to_ne_bytes()));
    // Some versions want a zero behind it, which does not count.
    bytes.extend([0; 2]);
    let len = bytes.len();
    bytes.resize(len.next_multiple_of(8), 0);
    let words = bytes.chunks_exact(8).map(|word| {
        let mut whole = [0; 8];
        whole.copy_from_slice(word);
        u64::from_ne_bytes(whole)
    });
    (words.collect(), len)
}

/// What has this name, if it is the file `id`, with the right to rename and to remove it.
fn to_rename(path: &Path, id: FileId) -> io::Result<File> {
    let file = look_at(path, DELETE | FILE_READ_ATTRIBUTES)?;
    if id_of(&file)? == id { Ok(file) } else { Err(io::ErrorKind::NotFound.into()) }
}

fn look_at(path: &Path, access: u32) -> io::Result<File> {
    OpenOptions::new()
        .access_mode(access)
        .share_mode(SHARE_ALL)
        .custom_flags(FILE_FLAG_OPEN_REPARSE_POINT | FILE_FLAG_BACKUP_SEMANTICS)
        .open(path)
}

/// True when somebody has the file open and does not share what is asked for. To replace a file that is open is
/// "access denied".
pub(super) fn is_in_use(error: &io::Error) -> bool {
    let code = error.raw_os_error().and_then(|code| u32::try_from(code).ok());
    matches!(code, Some(ERROR_SHARING_VIOLATION | ERROR_ACCESS_DENIED))
}
