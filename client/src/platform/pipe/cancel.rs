//! Ending what other threads have begun on a pipe.
#![expect(unsafe_code, reason = "no binding cancels what another thread has begun")]

use std::os::windows::io::{AsHandle, AsRawHandle};
use std::ptr::null;

use interprocess::local_socket::Stream;
use windows_sys::Win32::System::IO::CancelIoEx;

/// Has every read and write that is under way return with an error. Nothing to do when none is.
pub(crate) fn all(stream: &Stream) {
    let Stream::NamedPipe(pipe) = stream;
    // SAFETY: the handle is open as long as `stream` is borrowed; null stands for all that is under way on it.
    unsafe { CancelIoEx(pipe.as_handle().as_raw_handle(), null()) };
}
