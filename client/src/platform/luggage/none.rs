//! Where no descriptors can be passed on.

use std::io;
use std::sync::Arc;

use interprocess::local_socket::Stream;

use crate::given::Given;
use crate::memory::Memory;

/// There is none.
#[derive(Debug)]
pub(crate) enum Luggage {}

impl Luggage {
    /// There is nothing to go with a frame.
    pub(crate) fn of(_memory: Option<Memory>, _given: Option<Arc<Given>>) -> Option<Self> {
        None
    }

    /// Never called: there is none.
    pub(crate) fn send(&self, _stream: &Stream, _bytes: &[u8]) -> io::Result<usize> {
        match *self {}
    }
}
