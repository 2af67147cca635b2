//! The numbers of users and groups. This asks whatever the host has for a user database, which may be a server
//! somewhere, and may take as long as it likes: only for whoever reads a configuration.

use std::io;

/// Where names of users and groups are looked up.
pub trait Names {
    /// The number of this user; `None` when there is no such user.
    ///
    /// # Errors
    /// It could not be asked.
    fn user(&self, name: &str) -> io::Result<Option<u32>>;

    /// The number of this group; `None` when there is no such group.
    ///
    /// # Errors
    /// It could not be asked.
    fn group(&self, name: &str) -> io::Result<Option<u32>>;
}

/// The user database of this host.
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

#[cfg(unix)]
impl Names for System {
    fn user(&self, name: &str) -> io::Result<Option<u32>> {
        let found = nix::unistd::User::from_name(name).map_err(io::Error::from)?;
        Ok(found.map(|user| user.uid.as_raw()))
    }

    fn group(&self, name: &str) -> io::Result<Option<u32>> {
        let found = nix::unistd::Group::from_name(name).map_err(io::Error::from)?;
        Ok(found.map(|group| group.gid.as_raw()))
    }
}

#[cfg(not(unix))]
impl Names for System {
    fn user(&self, _: &str) -> io::Result<Option<u32>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn group(&self, _: &str) -> io::Result<Option<u32>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
