//! The numbers of users and groups. This asks whatever the host has for a user database, which may be a server
//! somewhere, and may take as long as it likes: only for whoever reads a configuration.

use std::io;

use crate::user::{GroupId, UserId};

/// Where names of users and groups are looked up.
pub trait Names {
    /// The number of this user; `None` when there is no such user.
    ///
    /// # Errors
    /// It could not be asked.
    fn user(&self, name: &str) -> io::Result<Option<UserId>>;

    /// The number of this group; `None` when there is no such group.
    ///
    /// # Errors
    /// It could not be asked.
    fn group(&self, name: &str) -> io::Result<Option<GroupId>>;
}
