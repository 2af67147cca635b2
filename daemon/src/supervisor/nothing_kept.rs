//! Where nobody keeps a file open for a daemon, or passes it a socket.

use std::collections::BTreeMap;

use crate::budget::StreamId;
use crate::storage::{Descriptor, Descriptors, Lent};

/// What this process was started with: nothing here.
#[derive(Debug, Default)]
pub struct Passed {
    /// The files of streams that it is to go on with.
    pub files: BTreeMap<StreamId, Descriptors>,
    /// What nobody needs.
    pub rest: Vec<Descriptor>,
}

impl Passed {
    /// The socket for metrics: none is passed.
    pub fn take_metrics(&mut self) -> Option<std::net::TcpListener> {
        None
    }

    /// How many descriptors there are of files.
    #[must_use]
    pub fn count(&self) -> u64 {
        0
    }
}

/// Takes what this process was started with.
///
/// # Errors
/// None on this platform.
pub fn passed() -> std::io::Result<Passed> {
    Ok(Passed::default())
}

/// Nobody would keep it.
pub fn keep(_stream: StreamId, _lent: &Lent<'_>) {}

/// Nobody has kept it.
pub fn forget(_stream: StreamId) {}
