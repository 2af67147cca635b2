//! What a client can pass to the daemon with a connection, where nothing can be passed: no file, no memory.

use std::ops::Range;

use freemkvd_proto::limits::SLOTS_MAX;

use super::BadSlots;
use crate::access::Place;

/// What comes with an `Open`: nothing here.
#[derive(Debug)]
pub enum Descriptor {}

/// Memory that a client shares: there is none here.
#[derive(Debug)]
pub enum Slots {}

impl Slots {
    /// Takes no memory: content goes inline.
    ///
    /// # Errors
    /// [`BadSlots::Count`].
    pub fn offered(_memory: Option<&Descriptor>, slots: u32) -> Result<Option<Self>, BadSlots> {
        if (1..=SLOTS_MAX).contains(&slots) { Ok(None) } else { Err(BadSlots::Count(slots)) }
    }

    /// As on Linux.
    #[must_use]
    pub fn in_place(self, _place: Place) -> Self {
        match self {}
    }

    /// As on Linux.
    #[must_use]
    pub fn span(&self, _range: &Range<u64>) -> (usize, usize) {
        match *self {}
    }

    /// As on Linux.
    #[must_use]
    pub fn count(&self) -> u32 {
        match *self {}
    }
}

/// What of an open file outlives a daemon: nothing here.
#[derive(Debug)]
pub enum Descriptors {}

impl Descriptors {
    /// Whether a client can pass any.
    pub const CAN_COME: bool = false;

    /// None come here.
    #[must_use]
    pub fn given(descriptors: Vec<Descriptor>) -> Option<Self> {
        drop(descriptors);
        None
    }

    /// As on Linux.
    #[must_use]
    pub fn count(&self) -> u64 {
        match *self {}
    }
}

/// As on Linux.
#[must_use]
pub fn is_memory(descriptor: &Descriptor) -> bool {
    match *descriptor {}
}

/// As on Linux.
pub type Lent<'a> = Vec<(&'static str, &'a Descriptors)>;
