//! One open file under the budget: `writer/file.rs` of the daemon, method by method, in virtual time.
//!
//! What it asserts beyond the daemon's own, after every call: the account is spare plus extents; the
//! kernel holds no more than is charged; nothing within the window or the head is evicted.

use std::ops::Range;
use std::time::Duration;

use freemkvd::budget::Completion;
use freemkvd::storage::Manner;
use freemkvd::stream::drain::{self, Next, Pressure};
use freemkvd::stream::extent::{Extents, HEAD_BYTES};
use freemkvd::stream::ladder::{Ladder, Rung, StepDown, Way};

use crate::account::Account;
use crate::kernel::{self, PAGE_BYTES};

/// As in the daemon.
const WAITED: Duration = Duration::from_micros(200);
pub const LONG_CALL: Duration = Duration::from_secs(1);

/// See the module's documentation.
pub struct File {
    pub account: Account,
    kernel: kernel::File,
    ladder: Ladder,
    extents: Extents,
    rung: Option<Rung>,
    looked: Duration,
}

impl File {
    pub fn new(kernel: kernel::File, account: Account, window_bytes: u64) -> Self {
        let file_system = kernel.task.world().devices[kernel.device].file_system;
        let ladder = Ladder::new(file_system.ground, file_system.pinned, window_bytes);
        let extents = Extents::new(PAGE_BYTES, ladder.resident_bytes());
        let mut file =
            Self { account, kernel, ladder, extents, rung: None, looked: Duration::ZERO };
        file.show_rung();
        file
    }

    fn now(&self) -> Duration {
        self.kernel.task.now()
    }

    pub fn charged_bytes(&self) -> u64 {
        self.extents.charged_bytes()
    }

    pub fn page_bytes_of(&self, range: &Range<u64>) -> u64 {
        self.extents.page_bytes_of(range)
    }

    pub fn end(&self) -> u64 {
        self.extents.end()
    }

    pub fn ways(&self, range: &Range<u64>) -> Vec<(Range<u64>, Way)> {
        self.ladder.ways(range)
    }

    pub async fn write(&mut self, range: &Range<u64>, way: Way) {
        let busy = way == Way::Direct && self.extents.touches_charged(range);
        let mut way = if busy { Way::Cached } else { way };
        let began = self.now();
        let mut done = self.try_write(range, way).await;
        if way != Way::Cached && !done {
            let step = self.ladder.refused(way);
            self.stepped(step);
            way = Way::Cached;
            done = self.try_write(range, way).await;
        }
        assert!(done, "everybody has a page cache");
        match way {
            Way::Cached => {
                let dirtied_bytes = self.extents.write(range, began);
                self.account.spend(dirtied_bytes);
                self.look_at_written(range);
            }
            Way::Uncached => {
                let extent_bytes = self.account.extent_bytes();
                self.account.spend(self.extents.write_uncached(range, extent_bytes, began));
            }
            Way::Direct => {
                let bytes = self.extents.page_bytes_of(range);
                self.extents.write_direct(range);
                self.account.spend(bytes);
                self.account.complete(Completion { bytes, began, exact: true });
            }
        }
        self.check();
    }

    async fn try_write(&mut self, range: &Range<u64>, way: Way) -> bool {
        let manner = match way {
            Way::Cached => Manner::Cached,
            Way::Uncached => Manner::Uncached,
            Way::Direct => Manner::Direct,
        };
        let begun = self.calls();
        let done = self.kernel.write(range, manner).await;
        self.returned(begun);
        done
    }

    fn look_at_written(&mut self, range: &Range<u64>) {
        if self.ladder.wants_look() {
            let counted_bytes = self.kernel.counted_bytes(range);
            let step = self.ladder.look(counted_bytes);
            self.stepped(step);
        }
    }

    pub fn wrote(&mut self, range: &Range<u64>, end_before: u64) {
        self.ladder.wrote(range, end_before);
        self.show_rung();
    }

    pub async fn step(&mut self, pressure: Pressure) -> bool {
        let (rung, now) = (self.ladder.rung(), self.now());
        match drain::next(&self.extents, rung, pressure, self.account.extent_bytes(), now) {
            Next::Rest => return false,
            Next::Start(bytes_max) => self.start(bytes_max).await,
            Next::Wait => self.wait(false).await,
            Next::Look => return self.look(drain::LOOK).await,
            Next::Watch(_) if !self.ladder.has_sight() || self.ladder.wants_proof() => {
                self.wait(false).await;
            }
            Next::Watch(patience) => {
                if !self.look(patience).await {
                    self.account.wait(patience).await;
                }
            }
            Next::SyncFile => self.sync().await,
            Next::Settle => self.all_clean(now),
        }
        self.check();
        true
    }

    async fn start(&mut self, bytes_max: u64) {
        let Some(extent) = self.extents.start_writeback(bytes_max, self.now()) else { return };
        let begun = self.calls();
        self.kernel.start_writeback(&extent).await;
        self.returned(begun);
    }

    async fn wait(&mut self, is_known_clean: bool) {
        let Some(extent) = self.extents.oldest_writeback().cloned() else { return };
        let begun = self.calls();
        self.kernel.wait_writeback(&extent.range).await;
        self.returned(begun);
        let waited = self.now().saturating_sub(begun);
        if !self.is_proved(&extent.range) {
            return;
        }
        self.extents.complete_oldest();
        let exact = is_known_clean || waited >= WAITED;
        self.account.complete(Completion { bytes: extent.bytes(), began: extent.began, exact });
        self.evict().await;
    }

    async fn look(&mut self, pause: Duration) -> bool {
        let now = self.now();
        let due = now.saturating_sub(self.looked) >= pause;
        let Some(range) = self.extents.oldest_writeback().map(|oldest| oldest.range.clone()) else {
            return false;
        };
        if !due || !self.ladder.has_sight() {
            return false;
        }
        self.looked = now;
        if self.left_bytes(&range) > 0 {
            return false;
        }
        self.wait(true).await;
        self.looked = Duration::ZERO;
        self.check();
        true
    }

    fn is_proved(&mut self, range: &Range<u64>) -> bool {
        if !self.ladder.wants_proof() {
            return true;
        }
        let left_bytes = self.left_bytes(range);
        let step = self.ladder.prove(left_bytes);
        self.stepped(step);
        step.is_none_or(|step| step.from == step.to)
    }

    fn left_bytes(&self, range: &Range<u64>) -> u64 {
        let again_bytes = self.extents.charged_again_bytes(range);
        self.kernel.counted_bytes(range).unwrap_or(0).saturating_sub(again_bytes)
    }

    fn all_clean(&mut self, began: Duration) {
        let bytes = self.extents.complete_all();
        self.account.complete(Completion { bytes, began, exact: true });
    }

    async fn evict(&mut self) {
        for range in self.extents.take_evictable() {
            assert!(range.start >= HEAD_BYTES, "evicted from the head");
            let window = self.extents.end().saturating_sub(self.ladder.resident_bytes());
            assert!(range.end <= window, "evicted from the window");
            let begun = self.calls();
            self.kernel.evict(&range).await;
            self.returned(begun);
        }
    }

    /// `fdatasync` and `fsync`: the daemon's `SyncFile` and `sync`.
    pub async fn sync(&mut self) {
        let began = self.calls();
        self.kernel.sync().await;
        self.returned(began);
        self.all_clean(began);
        self.evict().await;
        self.check();
    }

    pub fn set_len(&mut self, len: u64) {
        self.kernel.set_len(len);
        self.extents.cut(len);
    }

    fn calls(&self) -> Duration {
        self.kernel.begin();
        self.now()
    }

    fn returned(&mut self, begun: Duration) {
        self.kernel.end();
        if self.now().saturating_sub(begun) >= LONG_CALL {
            self.account.answers();
        }
    }

    fn stepped(&mut self, step: Option<StepDown>) {
        if let Some(step) = step {
            self.kernel.task.world().log(format_args!("{}: {step:?}", self.account.stream));
            self.show_rung();
        }
    }

    fn show_rung(&mut self) {
        let rung = Some(self.ladder.rung());
        if rung != self.rung {
            self.rung = rung;
            self.extents.set_window(self.ladder.resident_bytes());
        }
    }

    /// See the module's documentation.
    fn check(&self) {
        let charged_bytes = self.extents.charged_bytes();
        self.account.check(charged_bytes);
        let held_bytes = self.kernel.cache.borrow().held_bytes();
        let in_memory = self.ladder.rung() == Rung::None;
        assert!(
            in_memory || held_bytes <= charged_bytes,
            "the kernel holds {held_bytes}, {charged_bytes} are charged, by {:?}",
            self.ladder.rung()
        );
    }

    /// Nothing is left of it.
    pub fn end_of_life(&self) {
        assert_eq!(self.extents.charged_bytes(), 0);
        assert_eq!(self.account.held_bytes(), 0);
        let held_bytes = self.kernel.cache.borrow().held_bytes();
        assert!(self.ladder.rung() == Rung::None || held_bytes == 0, "{held_bytes} left dirty");
    }
}
