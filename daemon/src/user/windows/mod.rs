//! Accounts of Windows, by their security identifiers.
//!
//! A name may have to be asked of a server of the domain, which may not answer: that is for whoever reads a
//! configuration, and for threads of its own.

mod sid;
mod token;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;

use sid::Sid;
use token::Token;

use crate::access::{Names, Peer};

/// What an id is called.
pub const ID: &str = "identifier (S-1-...)";

/// The id of a user.
pub type UserId = Sid;

/// The id of a group.
pub type GroupId = Sid;

/// The user that this process runs as.
#[must_use]
pub fn ours() -> Option<UserId> {
    static OURS: OnceLock<Option<UserId>> = OnceLock::new();
    *OURS.get_or_init(|| Token::of_process().ok()?.user())
}

/// The user and the groups of whoever this thread acts as right now.
///
/// # Errors
/// It acts as itself, or the system does not say.
pub fn impersonated() -> io::Result<(Option<UserId>, Vec<GroupId>)> {
    let token = Token::of_impersonated()?;
    Ok((token.user(), token.groups()))
}

/// True for who could write the files without the daemon: the system, and administrators who act as such.
#[must_use]
pub fn is_superuser(peer: &Peer) -> bool {
    peer.uid.is_some_and(is_root) || peer.groups.contains(&Sid::ADMINISTRATORS)
}

/// True for the system itself, which may do everything.
#[must_use]
pub fn is_root(user: UserId) -> bool {
    user == Sid::SYSTEM
}

/// There are no numbers of users here.
#[must_use]
pub fn number_of(_user: Option<UserId>) -> Option<u32> {
    None
}

/// What people call a user, or its identifier as long as that is not known. Never waits.
#[must_use]
pub fn name_of(user: Option<UserId>) -> Option<String> {
    static NAMES: Mutex<BTreeMap<UserId, Option<String>>> = Mutex::new(BTreeMap::new());
    let user = user?;
    let lock = || NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = lock().get(&user) {
        return Some(known.clone().unwrap_or_else(|| user.to_string()));
    }
    lock().insert(user, None);
    // Without a thread to spare its identifier will do.
    let _ = thread::Builder::new().name("account".to_owned()).spawn(move || {
        if let Ok(name) = token::name_of(user) {
            lock().insert(user, Some(name));
        }
    });
    Some(user.to_string())
}

/// As a field of the log.
#[must_use]
pub fn logged(user: Option<UserId>) -> Option<&'static str> {
    user.map(Sid::as_str)
}

/// The account database of this host, and of its domain.
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

impl Names for System {
    fn user(&self, name: &str) -> io::Result<Option<UserId>> {
        token::account(name)
    }

    fn group(&self, name: &str) -> io::Result<Option<GroupId>> {
        token::account(name)
    }
}

/// One of many, for tests.
#[cfg(test)]
pub(crate) fn of_test(number: u32) -> UserId {
    format!("S-1-5-21-1-2-3-{number}").parse().unwrap_or(Sid::SYSTEM)
}
