//! Verbs that take several system calls, as the steps that they take. Who makes the calls is left open: it
//! is the kernel, or a test that has each of them fail.
//!
//! 1. An interrupted call is made again. It has done nothing, or has said how much; no call here consumes
//!    the record of a writeback error before it can be interrupted.
//! 2. Every other result counts, and the first error ends the steps.

use std::io;

/// What making a file durable takes, each a call of its own.
pub trait Durable {
    /// Syncs content and length by the descriptor that is written to and waited on.
    ///
    /// # Errors
    /// Whatever the operating system says.
    fn sync_content(&mut self) -> io::Result<()>;

    /// Syncs by the descriptor that is never waited on, which remembers what a wait has made the other forget.
    ///
    /// # Errors
    /// Whatever the operating system says.
    fn sync_sentinel(&mut self) -> io::Result<()>;

    /// Syncs the directory, unless the file's name is known to be durable.
    ///
    /// # Errors
    /// Whatever the operating system says.
    fn sync_name(&mut self) -> io::Result<()>;
}

/// Makes content, length and name durable.
///
/// # Errors
/// Any of them may be lost.
pub fn make_durable(file: &mut impl Durable) -> io::Result<()> {
    uninterrupted(|| file.sync_content())?;
    // Not when the first has failed: that is error enough, and should the daemon be killed before it could
    // tell anybody, the sentinel still has it for the next one.
    uninterrupted(|| file.sync_sentinel())?;
    uninterrupted(|| file.sync_name())
}

/// A write that came to an end before its end.
#[derive(Debug)]
pub struct Stopped {
    /// So many bytes were written.
    pub done: u64,
    /// Why no more were.
    pub error: io::Error,
}

/// Has `write` write what is left of `len` bytes from an offset on, again and again, until all of them are
/// written. It says how many it has written.
///
/// # Errors
/// [`Stopped`].
pub fn write_all(len: u64, mut write: impl FnMut(u64) -> io::Result<u64>) -> Result<(), Stopped> {
    let mut done = 0;
    while done < len {
        match uninterrupted(|| write(done)) {
            // Not even a byte, and no reason: the same call again could go on for ever.
            Ok(0) => return Err(Stopped { done, error: io::ErrorKind::WriteZero.into() }),
            Ok(count) => done += count,
            Err(error) => return Err(Stopped { done, error }),
        }
    }
    Ok(())
}

/// Makes a call until no signal has interrupted it. Nobody sends this process signals to interrupt its calls,
/// but each one that stops or reloads it may come to any thread, and `fallocate(2)` on a tmpfs, or a call to a
/// FUSE server, ends with EINTR then.
///
/// # Errors
/// Whatever the call says.
pub fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
