//! The system calls that the standard library does not make, with safe signatures.
//!
//! Each block passes a handle that is open for the length of the call, and memory that is at least as large
//! as the length that goes with it.

#![expect(unsafe_code, reason = "this is the place for it")]

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::mem::{offset_of, size_of, transmute};
use std::os::windows::ffi::{OsStrExt, OsStringExt};
use std::os::windows::io::AsRawHandle;
use std::path::{Path, PathBuf};
use std::ptr::{null, null_mut};
use std::sync::OnceLock;

use windows_sys::Win32::Foundation::{
    ERROR_PROC_NOT_FOUND, HANDLE, NTSTATUS, RtlNtStatusToDosError, STATUS_SUCCESS,
};
use windows_sys::Win32::Storage::FileSystem::{
    BY_HANDLE_FILE_INFORMATION, FILE_INFO_BY_HANDLE_CLASS, FILE_STANDARD_INFO, FILE_TYPE_DISK,
    FileStandardInfo, GetDiskFreeSpaceExW, GetFileInformationByHandle,
    GetFileInformationByHandleEx, GetFileType, GetFinalPathNameByHandleW, GetVolumeInformationW,
    GetVolumePathNameW, SetFileInformationByHandle,
};
use windows_sys::Win32::System::IO::{DeviceIoControl, IO_STATUS_BLOCK};
use windows_sys::Win32::System::Ioctl::{
    DEVICE_SEEK_PENALTY_DESCRIPTOR, IOCTL_STORAGE_QUERY_PROPERTY, PropertyStandardQuery,
    STORAGE_PROPERTY_QUERY, StorageDeviceSeekPenaltyProperty,
};
use windows_sys::Win32::System::LibraryLoader::{GetModuleHandleA, GetProcAddress};

/// Of ntifs.h: the data of the file, and nothing else.
const FLUSH_FLAGS_FILE_DATA_ONLY: u32 = 1;

/// `NtFlushBuffersFileEx`, as ntifs.h has it.
type FlushEx = unsafe extern "system" fn(
    HANDLE,
    u32,
    *const core::ffi::c_void,
    u32,
    *mut IO_STATUS_BLOCK,
) -> NTSTATUS;

/// Longest path that the system makes, in units of two bytes, with its zero.
const PATH_UNITS: usize = 32_768;

/// Writes back the file's data and waits for it: no metadata, and the device is not told to flush its own cache
/// (`FLUSH_FLAGS_FILE_DATA_ONLY`, which NTFS, ReFS and FAT know since Windows 8).
///
/// # Errors
/// `ERROR_PROC_NOT_FOUND` where the system has no such call; else whatever it says.
pub(super) fn flush_data(file: &File) -> io::Result<()> {
    static CALL: OnceLock<Option<FlushEx>> = OnceLock::new();
    let found = CALL.get_or_init(|| {
        // SAFETY: both names end with a zero; ntdll is in every process, and never leaves it.
        let call = unsafe {
            GetProcAddress(
                GetModuleHandleA(c"ntdll.dll".as_ptr().cast()),
                c"NtFlushBuffersFileEx".as_ptr().cast(),
            )
        };
        // SAFETY: what has this name has this type.
        call.map(|call| unsafe { transmute::<unsafe extern "system" fn() -> isize, FlushEx>(call) })
    });
    let Some(flush) = found else { return Err(error(ERROR_PROC_NOT_FOUND)) };
    let mut status = IO_STATUS_BLOCK::default();
    // SAFETY: see the module's documentation; this kind of flush has no parameters.
    let result = unsafe {
        flush(file.as_raw_handle(), FLUSH_FLAGS_FILE_DATA_ONLY, null(), 0, &raw mut status)
    };
    match result {
        STATUS_SUCCESS => Ok(()),
        // SAFETY: it only looks in a table.
        refused => Err(error(unsafe { RtlNtStatusToDosError(refused) })),
    }
}

/// What the system knows of an open file by its handle.
pub(super) fn by_handle(file: &File) -> io::Result<BY_HANDLE_FILE_INFORMATION> {
    let mut found = BY_HANDLE_FILE_INFORMATION::default();
    // SAFETY: see the module's documentation.
    done(unsafe { GetFileInformationByHandle(file.as_raw_handle(), &raw mut found) })?;
    Ok(found)
}

/// Its length, what is allocated for it, and whether it is about to go.
pub(super) fn standard(file: &File) -> io::Result<FILE_STANDARD_INFO> {
    let mut found = FILE_STANDARD_INFO::default();
    // SAFETY: see the module's documentation.
    done(unsafe {
        GetFileInformationByHandleEx(
            file.as_raw_handle(),
            FileStandardInfo,
            (&raw mut found).cast(),
            length(size_of::<FILE_STANDARD_INFO>()),
        )
    })?;
    Ok(found)
}

/// Changes something about an open file: `content` is the structure of `class`, as bytes of which the first `len`
/// count. (The structures want to lie at a multiple of 8.)
pub(super) fn set(
    file: &File,
    class: FILE_INFO_BY_HANDLE_CLASS,
    content: &[u64],
    len: usize,
) -> io::Result<()> {
    let len = length(len.min(size_of_val(content)));
    // SAFETY: see the module's documentation.
    done(unsafe {
        SetFileInformationByHandle(file.as_raw_handle(), class, content.as_ptr().cast(), len)
    })
}

/// True for a file on a volume, and not a pipe, a console or a device.
pub(super) fn is_on_disk(file: &File) -> bool {
    // SAFETY: see the module's documentation.
    unsafe { GetFileType(file.as_raw_handle()) == FILE_TYPE_DISK }
}

/// Where an open file really is: no link is left in this path, and it begins with `\\?\`.
pub(super) fn final_path(file: &File) -> io::Result<PathBuf> {
    let mut units = vec![0; PATH_UNITS];
    // SAFETY: see the module's documentation.
    let len = unsafe {
        GetFinalPathNameByHandleW(file.as_raw_handle(), units.as_mut_ptr(), length(PATH_UNITS), 0)
    };
    match len as usize {
        0 => Err(io::Error::last_os_error()),
        len if len >= PATH_UNITS => Err(io::ErrorKind::InvalidInput.into()),
        len => Ok(OsString::from_wide(&units[..len]).into()),
    }
}

/// Bytes that this process's user may still take of the volume that `directory` is on.
pub(super) fn free_bytes(directory: &Path) -> io::Result<u64> {
    let path = wide(directory.as_os_str());
    let mut free = 0;
    // SAFETY: `path` ends with a zero; what is not wanted may be null.
    done(unsafe { GetDiskFreeSpaceExW(path.as_ptr(), &raw mut free, null_mut(), null_mut()) })?;
    Ok(free)
}

/// Where the volume is mounted that `path` is on.
pub(super) fn volume_of(path: &Path) -> io::Result<PathBuf> {
    let path = wide(path.as_os_str());
    let mut units = vec![0; PATH_UNITS];
    // SAFETY: `path` ends with a zero; else see the module's documentation.
    done(unsafe { GetVolumePathNameW(path.as_ptr(), units.as_mut_ptr(), length(PATH_UNITS)) })?;
    Ok(text(&units).into())
}

/// The name of the file system of the volume that is mounted at `root`.
pub(super) fn filesystem(root: &Path) -> io::Result<String> {
    let root = wide(root.as_os_str());
    let mut units = [0; 64];
    // SAFETY: `root` ends with a zero; what is not wanted may be null, with a length of 0.
    done(unsafe {
        GetVolumeInformationW(
            root.as_ptr(),
            null_mut(),
            0,
            null_mut(),
            null_mut(),
            null_mut(),
            units.as_mut_ptr(),
            length(units.len()),
        )
    })?;
    Ok(text(&units).to_string_lossy().into_owned())
}

/// Whether the disk below a volume, which was opened without any access, has to seek.
pub(super) fn has_seek_penalty(volume: &File) -> io::Result<bool> {
    let question = STORAGE_PROPERTY_QUERY {
        PropertyId: StorageDeviceSeekPenaltyProperty,
        QueryType: PropertyStandardQuery,
        AdditionalParameters: [0],
    };
    // As bytes: what the driver says in a BOOLEAN may be no `bool`.
    let mut answer = [0_u8; size_of::<DEVICE_SEEK_PENALTY_DESCRIPTOR>()];
    let mut len = 0;
    // SAFETY: see the module's documentation.
    done(unsafe {
        DeviceIoControl(
            volume.as_raw_handle(),
            IOCTL_STORAGE_QUERY_PROPERTY,
            (&raw const question).cast(),
            length(size_of::<STORAGE_PROPERTY_QUERY>()),
            answer.as_mut_ptr().cast(),
            length(answer.len()),
            &raw mut len,
            null_mut(),
        )
    })?;
    let at = offset_of!(DEVICE_SEEK_PENALTY_DESCRIPTOR, IncursSeekPenalty);
    if len as usize <= at {
        return Err(io::ErrorKind::Unsupported.into());
    }
    Ok(answer[at] != 0)
}

fn done(result: i32) -> io::Result<()> {
    if result == 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn error(code: u32) -> io::Error {
    io::Error::from_raw_os_error(code as i32)
}

/// As the system has lengths; all that are here are far below its limit.
fn length(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

fn wide(text: &OsStr) -> Vec<u16> {
    text.encode_wide().chain([0]).collect()
}

fn text(units: &[u16]) -> OsString {
    let end = units.iter().position(|unit| *unit == 0).unwrap_or(units.len());
    OsString::from_wide(&units[..end])
}
