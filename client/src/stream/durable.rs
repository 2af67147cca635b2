//! What a muxer that keeps a map is told: which ranges are durable, and nothing for the others.
//!
//! 1. It is told in the muxer's own thread, so that it can't write a byte between what is found durable and
//!    what it makes of that.
//! 2. A range is told once the callback has returned. If it panics, the range is told again.
//! 3. Off, it costs one look at an `Option`.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::RipFile;
use crate::Error;
use crate::journal::{Journal, RANGES_MAX};

/// What is called with each range that is durable.
#[derive(Clone)]
pub(crate) struct OnDurable(Arc<dyn Fn(Range<u64>) + Send + Sync>);

impl OnDurable {
    pub(crate) fn new(callback: impl Fn(Range<u64>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(callback))
    }
}

impl fmt::Debug for OnDurable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnDurable")
    }
}

/// The journal of a stream, and who is told of it.
#[derive(Debug)]
pub(crate) struct Told {
    pub(super) journal: Journal,
    callback: Option<OnDurable>,
}

impl Told {
    /// `None` unless somebody wants it.
    pub(crate) fn new(tracks: bool, callback: Option<OnDurable>) -> Option<Box<Self>> {
        let is_wanted = tracks || callback.is_some();
        is_wanted.then(|| Box::new(Self { journal: Journal::new(RANGES_MAX), callback }))
    }

    /// Rule 2.
    fn tell(&mut self) {
        if let Some(OnDurable(callback)) = self.callback.as_ref() {
            if self.journal.has_durable() {
                let left = self.journal.take().into();
                let mut telling = Telling { journal: &mut self.journal, left };
                while let Some(range) = telling.left.front() {
                    callback(range.clone());
                    telling.left.pop_front();
                }
            }
        }
    }
}

/// Ranges that are being told. What is left of them goes back.
struct Telling<'a> {
    journal: &'a mut Journal,
    left: VecDeque<Range<u64>>,
}

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        for range in self.left.drain(..) {
            self.journal.put_back(range);
        }
    }
}

impl RipFile {
    /// The ranges of the file that have become durable since the last call: sorted, disjoint, and none
    /// touching another. Empty unless [`Options::track_durable`](crate::Options::track_durable) was chosen.
    ///
    /// Every byte of them is durable with what was written there last, also if that was a moment ago: one
    /// that was written again meanwhile is left out until its new content is durable. A byte is returned
    /// again when it was written again. Ranges that [`Options::on_durable`](crate::Options::on_durable) was
    /// called with are not returned; those that have become durable since then are.
    ///
    /// It does not wait, and asks for nothing: see [`sync_soon`](Self::sync_soon). After the stream has
    /// failed it returns what had become durable before.
    pub fn take_durable(&mut self) -> Vec<Range<u64>> {
        self.settle();
        self.told.as_mut().map_or_else(Vec::new, |told| told.journal.take())
    }

    /// Asks for everything so far to be made durable, and returns without waiting for that. What comes of it
    /// is told by [`take_durable`](Self::take_durable), [`Options::on_durable`](crate::Options::on_durable)
    /// and [`progress`](Self::progress), or by the next call if it fails. Meanwhile the stream takes more, as
    /// far as its memory limit goes.
    ///
    /// While one sync is on its way, any number of calls become one more after it. So it may be called
    /// as often as one likes; a sync per some seconds or some 100 MiB is what disks like. Each call hands over what is
    /// in the window, and parts of a slot take the memory of a whole one until they are written.
    ///
    /// # Errors
    /// The stream's failure.
    pub fn sync_soon(&mut self) -> io::Result<()> {
        self.then_tell(|file| {
            file.check()?;
            file.hand_over()?;
            file.outlet.sync_soon()
        })
    }

    /// What is durable by now may be told.
    fn settle(&mut self) {
        if let Some(told) = self.told.as_mut() {
            told.journal.settle(self.outlet.durable());
        }
    }

    /// Tells the callback what is durable by now.
    fn tell(&mut self) {
        self.settle();
        if let Some(told) = self.told.as_mut() {
            told.tell();
        }
    }

    /// Does what a method is there for, and then what a callback may be called for: nothing of the call is
    /// left to be done when that panics, and a call that fails tells what was durable before.
    #[inline]
    pub(super) fn then_tell<T>(
        &mut self,
        call: impl FnOnce(&mut Self) -> Result<T, Error>,
    ) -> io::Result<T> {
        let result = call(self);
        if self.told.is_some() {
            self.tell();
        }
        Ok(result?)
    }

    /// `range` has new content, which is in the window.
    #[inline]
    pub(super) fn has_put(&mut self, range: Range<u64>) {
        if let Some(told) = self.told.as_mut() {
            told.journal.touch(range);
        }
    }

    /// `range` was to be zeroed, and this is the number or why not.
    pub(super) fn has_zeroed(&mut self, range: Range<u64>, result: &Result<u64, Error>) {
        // Of a stream that has failed by it, some of it may have been done.
        let is_touched = result.is_err() && self.is_failed();
        if let Some(told) = self.told.as_mut() {
            match result {
                Ok(number) => told.journal.hand(range, *number),
                Err(_) if is_touched => told.journal.touch(range),
                Err(_) => {}
            }
        }
    }

    /// The file has ended at `len`, at least.
    pub(super) fn has_cut(&mut self, len: u64) {
        if let Some(told) = self.told.as_mut() {
            told.journal.cut(len);
        }
    }

    /// The window holds nothing that was not handed over.
    pub(super) fn has_handed_over(&mut self) {
        if let Some(told) = self.told.as_mut() {
            told.journal.send_all(self.outlet.handed());
        }
    }

    /// Sees to it that the journal can take one more range.
    pub(super) fn make_room(&mut self) -> Result<(), Error> {
        let is_full = |file: &Self| file.told.as_ref().is_some_and(|told| told.journal.is_full());
        if !is_full(self) {
            return Ok(());
        }
        self.hand_over()?;
        if let Some(told) = self.told.as_mut() {
            told.journal.coalesce();
            // The callback takes what is durable; else only the muxer can.
            if told.journal.is_crowded() && told.callback.is_some() {
                self.outlet.sync(self.sync_timeout)?;
                self.tell();
            }
        }
        if is_full(self) {
            return Err(Error::Invalid {
                path: self.path.clone(),
                message: "too many separate ranges were written and not taken; \
                    call sync_all, then take_durable, then this again",
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
