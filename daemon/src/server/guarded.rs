//! A connection's socket. Its peer may send descriptors at any moment, wanted or not, and no thread of the runtime
//! may be the one that closes them ([`crate::foreign`]).
//!
//! 1. Whatever comes is taken in, and, if nobody wants it, is closed elsewhere. The connection is over then.
//! 2. So is what was sent and not read: it is closed with the socket, which is done elsewhere, too.
//! 3. Nothing is taken in while its user has left too much that is still to be closed: it waits in the connection.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;

use freemkvd_proto::{ErrorCode, Failure};
use interprocess::local_socket::tokio::Stream;

use super::passed;
use super::socket::{Broken, Passed};
use crate::access::{Crowded, Place};
use crate::descriptors::Claim;
use crate::foreign::{Closer, Foreign};
use crate::storage::Descriptor;
use crate::user::UserId;

/// What a read has brought.
pub(super) struct Arrived {
    /// So many bytes.
    pub(super) count: usize,
    pub(super) descriptors: Vec<Descriptor>,
    /// There were more, for which this process had no place.
    pub(super) is_cut: bool,
}

/// See the module's documentation.
pub(super) struct Socket {
    /// `None` in the end.
    stream: Option<Stream>,
    user: Option<UserId>,
    closer: Arc<Closer>,
    claim: Option<Claim>,
    /// Among the connections of its user, until it is closed.
    place: Option<Place>,
}

impl Socket {
    /// That of `user`, which has a claim to its descriptor and to what comes with its first frame.
    pub(super) fn new(
        stream: Stream,
        user: Option<UserId>,
        closer: &Arc<Closer>,
        (claim, place): (Claim, Option<Place>),
    ) -> Self {
        let (stream, claim) = (Some(stream), Some(claim));
        Self { stream, user, closer: Arc::clone(closer), claim, place }
    }

    /// It turns out to be `user`'s, who may have so many connections.
    pub(super) fn belongs_to(
        &mut self,
        user: Option<UserId>,
        connections_max: u32,
    ) -> Result<(), Crowded> {
        if let Some(place) = &mut self.place {
            place.belongs_to(user, connections_max)?;
        }
        self.user = self.user.or(user);
        Ok(())
    }

    /// What comes with the first frame: nothing yet.
    pub(super) fn nothing_passed(&self) -> Passed {
        Passed { files: self.foreign(), is_cut: false }
    }

    /// The claim to the first ones that come is that of the connection.
    fn foreign(&self) -> Foreign {
        let claim = self.claim.as_ref().expect("it is there until the end").for_first_frame();
        Foreign::none(&self.closer, self.user, claim)
    }

    /// For sending.
    pub(super) fn stream(&self) -> &Stream {
        self.stream.as_ref().expect("it is there until the end")
    }

    /// What is there, as soon as it may be received.
    async fn arrived(&self, space: &mut [u8]) -> io::Result<Arrived> {
        let is_behind = || self.closer.is_behind(self.user);
        loop {
            match passed::read(self.stream(), space, is_behind).await? {
                Some(arrived) => return Ok(arrived),
                None => poll_fn(|cx| self.closer.poll_caught_up(self.user, cx)).await,
            }
        }
    }

    /// Reads what is there into `space`; 0 bytes are the end.
    pub(super) async fn read(&self, space: &mut [u8]) -> Result<usize, Broken> {
        let Arrived { count, descriptors, .. } = self.arrived(space).await?;
        if descriptors.is_empty() {
            return Ok(count);
        }
        self.foreign().extend(descriptors);
        Err(Broken::Rule(unexpected()))
    }

    /// The same, and puts the descriptors that come into `passed`.
    pub(super) async fn read_with(
        &self,
        space: &mut [u8],
        passed: &mut Passed,
    ) -> io::Result<usize> {
        let Arrived { count, descriptors, is_cut } = self.arrived(space).await?;
        passed.files.extend(descriptors);
        passed.is_cut |= is_cut;
        Ok(count)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let (stream, claim, place) = (self.stream.take(), self.claim.take(), self.place.take());
        if stream.as_ref().is_some_and(|stream| !passed::end(stream)) {
            self.closer.close(self.user, (stream, claim, place));
        }
    }
}

/// A descriptor came with a frame that has no use for it.
pub(super) fn unexpected() -> Failure {
    let message =
        "a descriptor came without an Open that shares slots, and without a file of its own";
    Failure::new(ErrorCode::BAD_SLOTS, message)
}
