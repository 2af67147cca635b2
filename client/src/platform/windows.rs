//! What differs on Windows: connecting to a pipe, ending a connection from outside, and who a pipe belongs to.

use std::fs::OpenOptions;
use std::io;
use std::os::windows::fs::OpenOptionsExt;
use std::os::windows::io::OwnedHandle;
use std::path::Path;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use freemkvd_proto::socket::PIPE_ACCESS;
use interprocess::local_socket::Stream;
use interprocess::os::windows::named_pipe::DuplexPipeStream;
use interprocess::os::windows::named_pipe::local_socket::Stream as Pipe;
use interprocess::os::windows::named_pipe::pipe_mode::Bytes;

use crate::cancel;

/// `FILE_FLAG_OVERLAPPED`: one thread reads while another writes.
const OVERLAPPED: u32 = 0x4000_0000;
/// `SECURITY_IDENTIFICATION`: who serves the pipe may see who this is, and not act as them.
const IDENTIFICATION: u32 = 0x0001_0000;

const ERROR_PIPE_BUSY: i32 = 231;

/// How long it is waited until the daemon has made another end of its pipe.
const BUSY_PAUSE: Duration = Duration::from_millis(10);
/// So often: half a minute, more than anybody waits for a connection.
const BUSY_TRIES: u32 = 3000;

/// How long a read or a write that has begun in the last moment is waited for before it is ended, too.
const HANG_UP_PAUSE: Duration = Duration::from_millis(20);

/// Connects to the pipe of this name.
pub(crate) fn dial(socket: &Path) -> io::Result<Stream> {
    if !freemkvd_proto::socket::is_pipe(socket) {
        let message = r"it is not the name of a pipe, as \\.\pipe\freemkvd is";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    let mut tries = 0;
    let pipe = loop {
        let opened = OpenOptions::new()
            .access_mode(PIPE_ACCESS)
            .custom_flags(OVERLAPPED)
            .security_qos_flags(IDENTIFICATION)
            .open(socket);
        match opened {
            Err(error) if error.raw_os_error() == Some(ERROR_PIPE_BUSY) && tries < BUSY_TRIES => {
                tries += 1;
                thread::sleep(BUSY_PAUSE);
            }
            opened => break OwnedHandle::from(opened?),
        }
    };
    let pipe = DuplexPipeStream::<Bytes>::try_from(pipe).map_err(io::Error::from)?;
    Ok(Stream::NamedPipe(Pipe::from(pipe)))
}

/// Ends what other threads read and write on this connection, now and from now on: a pipe can't be shut down, so a
/// thread goes on to end it until nobody has the connection any more.
pub(crate) fn hang_up(stream: &Arc<Stream>) {
    cancel::all(stream);
    let stream = Arc::downgrade(stream);
    let again = move || {
        while let Some(stream) = Weak::upgrade(&stream) {
            cancel::all(&stream);
            drop(stream);
            thread::sleep(HANG_UP_PAUSE);
        }
    };
    // Without a thread to spare what is blocked right now has ended, at least.
    let _ = thread::Builder::new().name("freemkv-hang-up".into()).spawn(again);
}

/// True when the system has no memory for what was to be sent.
pub(crate) fn is_shortage(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::OutOfMemory
}

/// No such number here.
pub(crate) fn uid() -> u32 {
    0
}

/// The pipe's access list decides.
pub(crate) fn is_private(_socket: &Path) -> bool {
    true
}

/// Directories can't be opened for syncing; NTFS has names in its log.
#[expect(clippy::unnecessary_wraps, reason = "the same surface as on Unix")]
pub(crate) fn sync_directory(_directory: &Path) -> io::Result<()> {
    Ok(())
}
