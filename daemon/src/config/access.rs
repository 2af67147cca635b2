//! `[access]`: names become numbers here, each with its place for the case that nobody is called so.

use std::io;

use toml::Spanned;

use super::ConfigError;
use super::file::{self, Name};
use super::merge::Merge;
use crate::access::{Access, Named};
use crate::user::{self, UserId};

impl Access {
    /// Each part with its key, for saying what differs.
    pub(super) fn rows(&self) -> [(&'static str, String); 4] {
        let list = |all: &[Named]| match all {
            [] => "nobody in particular".to_owned(),
            all => all.iter().map(described).collect::<Vec<_>>().join(", "),
        };
        [
            ("access.users", list(&self.users)),
            ("access.groups", list(&self.groups)),
            ("access.admin_group", or_none(self.admin_group.as_ref())),
            ("access.status_for_all", self.status_for_all.to_string()),
        ]
    }
}

/// With its number, which may be what has changed.
fn described(Named { name, id }: &Named) -> String {
    if *name == id.to_string() { name.clone() } else { format!("{name} ({id})") }
}

pub(super) fn or_none(group: Option<&Named>) -> String {
    group.map_or_else(|| "none".to_owned(), described)
}

impl Merge<'_> {
    pub(super) fn access(&self, file: &file::Access) -> Result<Access, ConfigError> {
        let user = |at: &Spanned<Name>| self.user("access.users", at);
        let group = |at: &Spanned<Name>| self.group("access.groups", at);
        let (users, groups) = (list(file.users.as_ref()), list(file.groups.as_ref()));
        let access = Access {
            users: users.iter().map(user).collect::<Result<_, _>>()?,
            groups: groups.iter().map(group).collect::<Result<_, _>>()?,
            admin_group: file
                .admin_group
                .as_ref()
                .map(|at| self.group("access.admin_group", at))
                .transpose()?,
            status_for_all: file.status_for_all.as_ref().is_some_and(|all| *all.as_ref()),
        };
        match &file.status_for_all {
            Some(at) if access.status_for_all && access.is_open() => {
                let problem = "is true, and nothing says who may write, so everybody who may look could \
                               write as well; name them in access.users or access.groups";
                Err(self.invalid("access.status_for_all", at, problem))
            }
            _ => Ok(access),
        }
    }

    pub(super) fn socket_group(
        &self,
        group: Option<&Spanned<Name>>,
    ) -> Result<Option<Named>, ConfigError> {
        match group {
            Some(at) if cfg!(windows) => Err(self.invalid("access.socket_group", at, ONLY_UNIX)),
            group => group.map(|at| self.group("access.socket_group", at)).transpose(),
        }
    }

    fn user(&self, key: &'static str, at: &Spanned<Name>) -> Result<Named, ConfigError> {
        self.named(key, at, "user", |name| self.names.user(name))
    }

    fn group(&self, key: &'static str, at: &Spanned<Name>) -> Result<Named, ConfigError> {
        self.named(key, at, "group", |name| self.names.group(name))
    }

    /// A number stands for itself: nobody need be asked, and in a container there may be nobody to ask.
    fn named(
        &self,
        key: &'static str,
        at: &Spanned<Name>,
        kind: &str,
        number_of: impl FnOnce(&str) -> io::Result<Option<UserId>>,
    ) -> Result<Named, ConfigError> {
        let Name(name) = at.as_ref();
        let problem = if let Ok(id) = name.parse() {
            return Ok(Named { name: name.clone(), id });
        } else {
            match number_of(name) {
                Ok(Some(id)) => return Ok(Named { name: name.clone(), id }),
                Ok(None) => format!(
                    "names {kind} \"{name}\", which does not exist here; correct the name, or create the {kind}"
                ),
                Err(error) => format!(
                    "names {kind} \"{name}\", which cannot be looked up: {error}; write its {} instead",
                    user::ID
                ),
            }
        };
        Err(self.invalid(key, at, problem))
    }
}

/// What a pipe has no use for.
pub(super) const ONLY_UNIX: &str = "has no meaning on this platform: a file has the access list of its directory, and a pipe lets in whom \
                                    access.users and access.groups name; leave it out";

fn list(all: Option<&Spanned<Vec<Spanned<Name>>>>) -> &[Spanned<Name>] {
    all.map_or(&[], |all| all.as_ref())
}
