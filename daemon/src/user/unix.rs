//! Users and groups of Unix.

use std::io;

use crate::access::{Names, Peer};

/// What an id is called.
pub const ID: &str = "number";

/// The id of a user.
pub type UserId = u32;

/// The id of a group.
pub type GroupId = u32;

/// The user that this process runs as.
#[must_use]
pub fn ours() -> Option<UserId> {
    Some(rustix::process::getuid().as_raw())
}

/// True for who could write the files without the daemon.
#[must_use]
pub fn is_superuser(peer: &Peer) -> bool {
    peer.uid.is_some_and(is_root)
}

/// True for the user who may do everything.
#[must_use]
pub fn is_root(user: UserId) -> bool {
    user == 0
}

/// As it is shown in status as a number.
#[must_use]
pub fn number_of(user: Option<UserId>) -> Option<u32> {
    user
}

/// What people call a user: not told here, because it takes a user database that may not answer.
#[must_use]
pub fn name_of(_user: Option<UserId>) -> Option<String> {
    None
}

/// As a field of the log.
#[must_use]
pub fn logged(user: Option<UserId>) -> Option<u32> {
    user
}

/// The user database of this host.
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

impl Names for System {
    fn user(&self, name: &str) -> io::Result<Option<UserId>> {
        let found = nix::unistd::User::from_name(name).map_err(io::Error::from)?;
        Ok(found.map(|user| user.uid.as_raw()))
    }

    fn group(&self, name: &str) -> io::Result<Option<GroupId>> {
        let found = nix::unistd::Group::from_name(name).map_err(io::Error::from)?;
        Ok(found.map(|group| group.gid.as_raw()))
    }
}

/// One of many, for tests.
#[cfg(test)]
pub(crate) fn of_test(number: u32) -> UserId {
    number
}
