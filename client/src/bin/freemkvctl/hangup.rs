//! Whether whoever reads standard output has gone, for those who seldom write there and would not learn it.

#[cfg_attr(unix, path = "hangup/unix.rs")]
#[cfg_attr(not(unix), path = "hangup/none.rs")]
mod platform;

use std::io;

/// True when what is written to standard output has no reader any more. Where the system does not tell, it is false.
pub(crate) fn is_unread() -> bool {
    platform::is_unread()
}

/// Ends the process with this exit code as soon as what is written to standard output has no reader any more, whatever
/// its other threads do. Where the system does not tell, it does nothing.
pub(crate) fn end_when_unread(code: u8) -> io::Result<()> {
    platform::end_when_unread(code)
}
