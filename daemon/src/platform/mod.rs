//! The few facts about the host that differ by platform and are no business of storage.
//!
//! What a platform does not tell is `None`, and never a zero.

#[cfg_attr(target_os = "linux", path = "linux.rs")]
#[cfg_attr(not(target_os = "linux"), path = "silent.rs")]
mod memory;
#[cfg_attr(unix, path = "unix.rs")]
#[cfg_attr(windows, path = "windows.rs")]
mod process;

pub use memory::{available_bytes, background_bytes, open_descriptors, throttle_bytes};
pub use process::{
    is_sharing_violation, is_short_of_buffers, is_short_of_files, ledger_directory,
    make_private_directory, name_prefix, raise_descriptor_limit, user_socket,
};
