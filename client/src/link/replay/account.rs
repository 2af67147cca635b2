//! What the journal tells in the replay simulation, beside what is so.

use std::ops::Range;

use super::Link;
use super::model::{Model, put, set_len};
use crate::journal::{Journal, RANGES_MAX};

/// A journal, and for each byte what it may tell.
pub(super) struct Account {
    journal: Journal,
    /// The newest command that has written it; 0 for none.
    newest: Vec<u64>,
    /// It was told, and not written since.
    told: Vec<bool>,
}

impl Account {
    pub(super) fn new() -> Self {
        Self { journal: Journal::new(RANGES_MAX), newest: Vec::new(), told: Vec::new() }
    }

    /// Content that was in the window and is handed over now. What the daemon has made durable meanwhile
    /// is not told of it.
    pub(super) fn write(&mut self, offset: u64, len: u64, number: u64) {
        let range = offset..offset + len;
        self.journal.touch(range.clone());
        self.journal.send(range, number);
        let len = usize::try_from(len).unwrap();
        put(&mut self.newest, offset, &vec![number; len]);
        put(&mut self.told, offset, &vec![false; len]);
    }

    pub(super) fn cut(&mut self, len: u64) {
        self.journal.cut(len);
        set_len(&mut self.newest, len);
        set_len(&mut self.told, len);
    }

    /// After every step.
    pub(super) fn check(&mut self, link: &Link, model: &Model) {
        self.journal.settle(link.durable_sequence());
        for range in self.journal.take() {
            self.tell(range);
        }
        let told = self.told.iter().enumerate().filter(|(_, told)| **told);
        for (at, _) in told {
            let newest = Some(&self.newest[at]);
            assert_eq!(model.durable_by.get(at), newest, "byte {at} was told and is not durable");
            assert_eq!(
                model.file_by.get(at),
                newest,
                "byte {at} was told and is something else now"
            );
        }
    }

    fn tell(&mut self, range: Range<u64>) {
        for at in range {
            let at = usize::try_from(at).unwrap();
            assert_ne!(self.newest[at], 0, "byte {at} was told and never written");
            assert!(!self.told[at], "byte {at} was told twice");
            self.told[at] = true;
        }
    }

    pub(super) fn is_all_told(&self) -> bool {
        self.newest.iter().zip(&self.told).all(|(newest, told)| *newest == 0 || *told)
    }
}
