//! Who has started this process and watches over it: systemd, the service control manager of Windows, or nobody. It is
//! told how things are, and on Linux it keeps files open from one daemon to the next.

#[cfg_attr(target_os = "linux", path = "systemd.rs")]
#[cfg_attr(windows, path = "windows.rs")]
#[cfg_attr(not(any(target_os = "linux", windows)), path = "none.rs")]
mod platform;

#[cfg(not(target_os = "linux"))]
mod nothing_kept;

pub use platform::*;
