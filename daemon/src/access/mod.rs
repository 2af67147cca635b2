//! Who may do what: write files, decide about streams, ask for the status.
//!
//! 1. It is decided from what the kernel noted of a peer when it connected, and from numbers. Names are looked
//!    up when the configuration is read, and never for a connection: a directory service may hang.
//! 2. Root (on Windows the system and its administrators) and the user that the daemon runs as may do everything; the one can, and the other could write
//!    the files without it.
//! 3. Who a peer is that the system did not tell of, may do nothing.
//! 4. The owner of a stream may decide about it whatever the configuration says now: what was let in is
//!    ended by its owner or by an administrator, and not by a reload.
//!
//! Pure but for [`System`]: no socket, no clock.

use crate::user::{self, GroupId, UserId};

mod names;
mod places;

use freemkvd_proto::{ErrorCode, Failure};

pub use crate::user::System;
pub use names::Names;
pub use places::{Crowded, Place, Places};

/// Who is at the other end of a connection, as far as the platform tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// Process id.
    pub pid: Option<u32>,
    /// User id.
    pub uid: Option<UserId>,
    /// Group ids: its own and the supplementary ones.
    pub groups: Vec<GroupId>,
}

/// A user or a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// As it is written in the configuration.
    pub name: String,
    /// The number that it had when that was read.
    pub id: UserId,
}

/// What the configuration says of who may do what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Users who may write.
    pub users: Vec<Named>,
    /// Groups whose members may write. Without any user or group whoever can connect may.
    pub groups: Vec<Named>,
    /// The group whose members may do with every stream what its owner may.
    pub admin_group: Option<Named>,
    /// Whoever can connect may ask for the status.
    pub status_for_all: bool,
}

/// What a peer may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// Open streams.
    pub write: bool,
    /// Ask for the status.
    pub status: bool,
    /// Decide about every stream, and stop the daemon.
    pub admin: bool,
}

impl Access {
    /// What `peer` may do, where the daemon runs as user `daemon`.
    #[must_use]
    pub fn rights(&self, peer: &Peer, daemon: Option<UserId>) -> Rights {
        let all = Rights { write: true, status: true, admin: true };
        let Some(uid) = peer.uid else {
            return Rights::default();
        };
        if user::is_superuser(peer) || Some(uid) == daemon {
            return all;
        }
        let is_in = |group: &Named| peer.groups.contains(&group.id);
        let write = self.is_open()
            || self.users.iter().any(|user| user.id == uid)
            || self.groups.iter().any(is_in);
        let admin = self.admin_group.as_ref().is_some_and(is_in);
        Rights { write, status: write || admin || self.status_for_all, admin }
    }

    /// True when whoever can connect may write.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.users.is_empty() && self.groups.is_empty()
    }

    /// What `peer` is told who may not do `what`, and whom to ask.
    #[must_use]
    pub fn refusal(&self, peer: &Peer, what: &str) -> Failure {
        let Some(uid) = peer.uid else {
            let message =
                format!("the system did not tell freemkvd who you are, so you may not {what}");
            return Failure::new(ErrorCode::NOT_ALLOWED, message);
        };
        let groups: Vec<_> = self.groups.iter().map(|group| group.name.as_str()).collect();
        let member = match groups.as_slice() {
            [] => String::new(),
            [group] => format!("for membership in group {group}, and log in again, or "),
            groups => {
                let groups = groups.join(" or ");
                format!("for membership in group {groups}, and log in again, or ")
            }
        };
        let message = format!(
            "user {uid} may not {what}; ask {member}to be added to access.users in the configuration of freemkvd"
        );
        Failure::new(ErrorCode::NOT_ALLOWED, message)
    }

    /// Who may decide about every stream, and stop the daemon.
    #[must_use]
    pub fn administrators(&self) -> String {
        match &self.admin_group {
            Some(Named { name, .. }) => {
                format!("root, the user that freemkvd runs as, and the members of group {name}")
            }
            None => "root and the user that freemkvd runs as".to_owned(),
        }
    }
}

impl Rights {
    /// Whether a peer of these rights and this user may decide about the stream of `owner`.
    #[must_use]
    pub fn include(self, user: Option<UserId>, owner: Option<UserId>) -> bool {
        self.admin || (user.is_some() && user == owner)
    }
}

#[cfg(all(test, unix))]
mod tests;
