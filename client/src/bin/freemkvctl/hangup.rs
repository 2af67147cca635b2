//! Whether whoever reads standard output has gone, for those who seldom write there and would not learn it.

#[cfg_attr(unix, path = "hangup/unix.rs")]
#[cfg_attr(not(unix), path = "hangup/none.rs")]
mod platform;

/// True when what is written to standard output has no reader any more. Where the system does not tell, it is false.
pub(crate) fn is_unread() -> bool {
    platform::is_unread()
}
