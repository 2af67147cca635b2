//! Who a peer is, as the platform numbers people: on Unix by user and group ids, on Windows by the security
//! identifiers of accounts. Such an id can be copied, compared, kept over a restart and shown, and that is all that
//! limits, ownership and access are made of.

#[cfg_attr(unix, path = "unix.rs")]
#[cfg_attr(windows, path = "windows/mod.rs")]
mod platform;

#[cfg(windows)]
pub use platform::impersonated;
#[cfg(test)]
pub(crate) use platform::of_test;
pub use platform::{
    GroupId, ID, System, UserId, is_root, is_superuser, logged, name_of, number_of, ours,
};
