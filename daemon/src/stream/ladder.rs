//! How one file's pages are written back: the best rung of a ladder that is seen to work. Pure.
//!
//! | rung | writes | waits |
//! |---|---|---|
//! | `direct` | past the page cache, `O_DIRECT` | nothing to wait for |
//! | `dontcache` | `RWF_DONTCACHE`: writeback starts in the write, pages are dropped after it | `sync_file_range` |
//! | `sync_file_range` | into the page cache | `sync_file_range`, and evicts behind the window |
//! | `fdatasync` | into the page cache | for the whole file |
//! | `none` | memory is all there is | nothing to wait for |
//!
//! Nothing is believed by name. On stacked file systems `sync_file_range` returns 0 and does nothing,
//! and `cachestat` counts the pages of a file that has none. So:
//!
//! 1. A cached write has to make dirty pages that the kernel counts. If three of them make none, its
//!    counts are blind here, nothing by range can be proved, and the rung is `fdatasync`. It is so
//!    already while only one or two made none: what is released meanwhile has to be clean, too.
//! 2. The first extents that were waited for have to be clean by those counts. If one is not, its rung
//!    is left.
//! 3. A manner that the file system refuses is left at once; nothing was written by then.
//! 4. Kernels that can't count (Linux before 6.5) are believed where the file system is known.
//! 5. A pinned rung is left only when it is refused.
//!
//! `dontcache` drops pages, so a patch into them costs a read. It is used while nothing is patched: from
//! the start when the client wants no window, else after twice the window without a patch. A patch
//! outside the head of the file brings the window back. `direct` is used only when pinned: it has the
//! lowest cost of all and the worst patches.

use std::ops::Range;

use super::extent::HEAD_BYTES;

/// Cached writes that may leave nothing dirty before the counts are called blind: the kernel's own
/// flusher may have been quicker with one of them.
const BLIND_WRITES: u32 = 3;

/// Extents that have to be seen clean before a rung counts as proved.
const PROOFS: u32 = 3;

/// See the module's documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rung {
    /// `O_DIRECT`.
    Direct,
    /// `RWF_DONTCACHE`.
    Dontcache,
    /// `sync_file_range`.
    SyncFileRange,
    /// `fdatasync`.
    Fdatasync,
    /// Nothing.
    None,
}

impl Rung {
    /// All of them, the highest first.
    pub const ALL: [Self; 5] =
        [Self::Direct, Self::Dontcache, Self::SyncFileRange, Self::Fdatasync, Self::None];

    /// Its name in the configuration, in status and in logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Dontcache => "dontcache",
            Self::SyncFileRange => "sync_file_range",
            Self::Fdatasync => "fdatasync",
            Self::None => "none",
        }
    }

    /// True where extents are started and waited for one by one.
    #[must_use]
    pub fn is_by_range(self) -> bool {
        matches!(self, Self::Direct | Self::Dontcache | Self::SyncFileRange)
    }
}

/// What the ladder stands on.
#[derive(Clone, Copy, Debug)]
pub struct Ground {
    /// `RWF_DONTCACHE` is worth a try.
    pub uncached: bool,
    /// Alignment of direct writes in bytes, where there are any.
    pub direct_align_bytes: Option<u64>,
    /// Writeback by range is worth a try.
    pub by_range: bool,
    /// The file system is known to write back by range.
    pub trusted_by_range: bool,
    /// There is nothing to write back.
    pub in_memory: bool,
    /// The kernel's page size in bytes.
    pub page_bytes: u64,
}

impl Ground {
    /// The best rung that is not known to be none here, but for `direct`.
    fn best(self) -> Rung {
        match (self.in_memory, self.by_range, self.uncached) {
            (true, ..) => Rung::None,
            // Not `sync_file_range`, which would claim to have done something.
            (false, false, _) => Rung::Fdatasync,
            (false, true, false) => Rung::SyncFileRange,
            (false, true, true) => Rung::Dontcache,
        }
    }
}

/// Why a rung is left that the file system does not have.
pub const REFUSED: &str = "the file system does not support it";

/// How a part of a write is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Into the page cache.
    Cached,
    /// Through it.
    Uncached,
    /// Past it.
    Direct,
}

/// A rung was left; or, where both are the same, one is pinned and does not work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepDown {
    /// From here.
    pub from: Rung,
    /// To here.
    pub to: Rung,
    /// As in "because ...".
    pub because: &'static str,
}

/// See the module's documentation.
#[derive(Clone, Debug)]
pub struct Ladder {
    ground: Ground,
    /// The highest rung that has not been left.
    highest: Rung,
    is_pinned: bool,
    /// Cached writes that made no dirty pages; `None` once one has, or once the question is settled.
    blind_writes: Option<u32>,
    /// The kernel's counts are known to mean something here.
    has_sight: bool,
    /// Proofs still to come.
    proofs: u32,
    window_bytes: u64,
    /// Written since the last patch, or since the start.
    unpatched_bytes: u64,
}

impl Ladder {
    /// A ladder for a file on `ground`, of which the newest `window_bytes` are to stay resident.
    #[must_use]
    pub fn new(ground: Ground, pinned: Option<Rung>, window_bytes: u64) -> Self {
        let highest = match pinned {
            Some(Rung::Direct) if ground.direct_align_bytes.is_none() => ground.best(),
            Some(Rung::Dontcache) if !ground.uncached => ground.best(),
            pinned => pinned.unwrap_or(ground.best()),
        };
        Self {
            ground,
            highest,
            // One that is not there binds nobody: what is used instead has to prove itself.
            is_pinned: pinned == Some(highest),
            blind_writes: Some(0),
            has_sight: false,
            proofs: PROOFS,
            window_bytes,
            unpatched_bytes: 0,
        }
    }

    /// The rung in use.
    #[must_use]
    pub fn rung(&self) -> Rung {
        match self.highest {
            rung if rung.is_by_range() && self.is_in_doubt() && !self.is_pinned => Rung::Fdatasync,
            // Until the counts are known to mean something it writes as the rung below would.
            Rung::Dontcache if self.is_patched() && !self.is_pinned => Rung::SyncFileRange,
            rung => rung,
        }
    }

    /// The counts were zero, and it is not known yet why.
    fn is_in_doubt(&self) -> bool {
        self.blind_writes.is_some_and(|writes| writes > 0)
    }

    fn is_patched(&self) -> bool {
        self.unpatched_bytes < 2 * self.window_bytes
    }

    /// How many of the newest bytes stay resident on this rung.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        match self.rung() {
            Rung::Direct | Rung::Dontcache => 0,
            _ => self.window_bytes,
        }
    }

    /// True when the kernel's counts mean something here.
    #[must_use]
    pub fn has_sight(&self) -> bool {
        self.has_sight
    }

    /// How to write `range`, in order. The head of the file and the edges that are no whole pages go
    /// into the page cache whatever the rung: the head is patched at the end, and a page that is
    /// written in two pieces would be read in between.
    #[must_use]
    pub fn ways(&self, range: &Range<u64>) -> Vec<(Range<u64>, Way)> {
        let (way, align) = match (self.rung(), self.ground.direct_align_bytes) {
            (Rung::Dontcache, _) => (Way::Uncached, self.ground.page_bytes),
            (Rung::Direct, Some(align)) => (Way::Direct, align.max(self.ground.page_bytes)),
            _ => return vec![(range.clone(), Way::Cached)],
        };
        // It is the head that shows whether the counts mean something. Who begins behind it, after a restart, needs
        // something in its place.
        let begins_at = if self.wants_look() { range.start + HEAD_BYTES } else { range.start };
        let start = begins_at.max(HEAD_BYTES).next_multiple_of(align);
        let end = range.end / align * align;
        if start >= end {
            return vec![(range.clone(), Way::Cached)];
        }
        let parts =
            [(range.start..start, Way::Cached), (start..end, way), (end..range.end, Way::Cached)];
        parts.into_iter().filter(|(part, _)| !part.is_empty()).collect()
    }

    /// `range` was written where the file, as far as this stream has written it, ended at `end`.
    pub fn wrote(&mut self, range: &Range<u64>, end: u64) {
        if range.start < end && range.end > HEAD_BYTES {
            self.unpatched_bytes = 0;
        } else {
            self.unpatched_bytes = self.unpatched_bytes.saturating_add(range.end - range.start);
        }
    }

    /// True when the next cached write is to be followed by [`Ladder::look`].
    #[must_use]
    pub fn wants_look(&self) -> bool {
        self.blind_writes.is_some() && self.highest.is_by_range()
    }

    /// What the kernel counts as dirty or in writeback right after a cached write, in bytes.
    #[must_use]
    pub fn look(&mut self, counted_bytes: Option<u64>) -> Option<StepDown> {
        let blind = self.blind_writes?;
        self.blind_writes = match counted_bytes {
            Some(0) if blind + 1 < BLIND_WRITES => Some(blind + 1),
            _ => None,
        };
        match counted_bytes {
            Some(0) if self.blind_writes.is_some() => None,
            Some(0) if self.is_pinned => self.stays("the kernel counts no pages of this file"),
            Some(0) => self.step_to(Rung::Fdatasync, "the kernel counts no pages of this file"),
            Some(_) => {
                self.has_sight = true;
                None
            }
            None if self.ground.trusted_by_range || self.is_pinned => None,
            None => {
                self.step_to(Rung::Fdatasync, "this kernel cannot tell whether pages are clean")
            }
        }
    }

    /// True when the next extent that was waited for is to be followed by [`Ladder::prove`].
    #[must_use]
    pub fn wants_proof(&self) -> bool {
        self.has_sight && self.proofs > 0
    }

    /// What the kernel still counts as dirty or in writeback of an extent that was waited for, without
    /// what was written again meanwhile.
    #[must_use]
    pub fn prove(&mut self, left_bytes: u64) -> Option<StepDown> {
        if left_bytes == 0 {
            self.proofs -= 1;
            return None;
        }
        self.proofs = PROOFS;
        match self.rung() {
            _ if self.is_pinned => {
                self.proofs = 0;
                self.stays("pages that were waited for are not clean")
            }
            Rung::Direct | Rung::Dontcache => {
                self.step_to(Rung::SyncFileRange, "pages that were waited for are not clean")
            }
            _ => self.step_to(Rung::Fdatasync, "pages that were waited for are not clean"),
        }
    }

    /// The file system has no such way.
    #[must_use]
    pub fn refused(&mut self, way: Way) -> Option<StepDown> {
        self.is_pinned = false;
        match way {
            Way::Cached => None,
            Way::Uncached => {
                self.ground.uncached = false;
                self.step_to(self.ground.best(), REFUSED)
            }
            Way::Direct => {
                self.ground.direct_align_bytes = None;
                self.step_to(self.ground.best(), REFUSED)
            }
        }
    }

    /// A pinned rung that does not work: somebody ought to know.
    fn stays(&self, because: &'static str) -> Option<StepDown> {
        Some(StepDown { from: self.highest, to: self.highest, because })
    }

    fn step_to(&mut self, to: Rung, because: &'static str) -> Option<StepDown> {
        let from = self.highest;
        if to <= from {
            return None;
        }
        self.highest = to;
        Some(StepDown { from, to, because })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const GROUND: Ground = Ground {
        uncached: true,
        direct_align_bytes: Some(512),
        by_range: true,
        trusted_by_range: false,
        in_memory: false,
        page_bytes: 4096,
    };

    fn ladder() -> Ladder {
        Ladder::new(GROUND, None, 0)
    }

    #[test]
    fn a_stream_that_is_not_patched_does_not_cache() {
        let mut ladder = Ladder::new(GROUND, None, 64 * MIB);
        assert_eq!(ladder.rung(), Rung::SyncFileRange);
        ladder.wrote(&(0..128 * MIB), 0);
        assert_eq!((ladder.rung(), ladder.resident_bytes()), (Rung::Dontcache, 0));
        ladder.wrote(&(0..8), 128 * MIB);
        assert_eq!(ladder.rung(), Rung::Dontcache, "the head is resident anyway");
        ladder.wrote(&(100 * MIB..100 * MIB + 8), 128 * MIB);
        assert_eq!(ladder.rung(), Rung::SyncFileRange);
        assert_eq!(ladder.resident_bytes(), 64 * MIB);
    }

    #[test]
    fn who_begins_behind_the_head_learns_whether_the_counts_mean_something() {
        let mut ladder = ladder();
        let range = 5 * MIB..6 * MIB;
        let seen = range.start..range.start + HEAD_BYTES;
        let rest = (seen.end..range.end, Way::Uncached);
        assert_eq!(ladder.ways(&range), [(seen, Way::Cached), rest]);
        assert_eq!(ladder.look(Some(HEAD_BYTES)), None);
        assert!(ladder.has_sight());
        assert_eq!(ladder.ways(&range), [(range, Way::Uncached)]);
    }

    #[test]
    fn counts_that_stay_at_zero_are_blind_and_lead_to_fdatasync() {
        let mut ladder = ladder();
        assert!(ladder.wants_look());
        assert_eq!(ladder.look(Some(0)), None);
        assert_eq!(ladder.look(Some(0)), None);
        let step = ladder.look(Some(0)).unwrap();
        assert_eq!((step.from, step.to), (Rung::Dontcache, Rung::Fdatasync));
        assert!(!ladder.wants_look() && !ladder.wants_proof());
    }

    #[test]
    fn while_the_counts_are_in_doubt_only_a_sync_of_the_file_counts() {
        let mut ladder = ladder();
        assert_eq!(ladder.look(Some(0)), None);
        assert_eq!((ladder.rung(), ladder.wants_look()), (Rung::Fdatasync, true));
        assert_eq!(ladder.ways(&(MIB..2 * MIB)), [(MIB..2 * MIB, Way::Cached)], "to look again");
        assert_eq!(ladder.look(Some(MIB)), None);
        assert_eq!(ladder.rung(), Rung::Dontcache, "the kernel's own flusher was quicker");
    }

    #[test]
    fn pages_that_stay_dirty_lead_one_rung_down_each() {
        let mut ladder = ladder();
        assert_eq!(ladder.look(Some(4096)), None);
        assert!(ladder.has_sight() && ladder.wants_proof());
        assert_eq!(ladder.prove(0), None);
        assert_eq!(ladder.prove(4096).unwrap().to, Rung::SyncFileRange);
        assert_eq!(ladder.prove(4096).unwrap().to, Rung::Fdatasync);
        assert_eq!(ladder.rung(), Rung::Fdatasync);
    }

    #[test]
    fn three_clean_extents_are_a_proof() {
        let mut ladder = ladder();
        assert_eq!(ladder.look(Some(4096)), None);
        for _ in 0..3 {
            assert!(ladder.wants_proof());
            assert_eq!(ladder.prove(0), None);
        }
        assert!(!ladder.wants_proof());
    }

    #[test]
    fn a_kernel_that_cannot_count_is_believed_where_the_file_system_is_known() {
        assert_eq!(ladder().look(None).unwrap().to, Rung::Fdatasync);
        let ground = Ground { trusted_by_range: true, uncached: false, ..GROUND };
        let mut known = Ladder::new(ground, None, 0);
        assert_eq!(known.look(None), None);
        assert_eq!(known.rung(), Rung::SyncFileRange);
    }

    #[test]
    fn a_refused_way_is_left_and_a_pinned_rung_only_then() {
        let mut pinned = Ladder::new(GROUND, Some(Rung::Direct), 64 * MIB);
        assert_eq!(pinned.rung(), Rung::Direct);
        assert!((0..2).all(|_| pinned.look(Some(0)).is_none()));
        let told = pinned.look(Some(0)).unwrap();
        assert_eq!((told.from, told.to), (Rung::Direct, Rung::Direct), "blind, and pinned");
        assert_eq!(pinned.refused(Way::Direct).unwrap().to, Rung::Dontcache);
        assert_eq!(pinned.refused(Way::Uncached).unwrap().to, Rung::SyncFileRange);
        assert_eq!(pinned.refused(Way::Uncached), None);
        for pinned in [Rung::Dontcache, Rung::Direct] {
            let ground = Ground { uncached: false, direct_align_bytes: None, ..GROUND };
            let mut ladder = Ladder::new(ground, Some(pinned), 0);
            assert_eq!(ladder.rung(), Rung::SyncFileRange);
            let step = (0..3).find_map(|_| ladder.look(Some(0)));
            assert_eq!(step.unwrap().to, Rung::Fdatasync, "it has to prove itself");
        }
        assert_eq!(Ladder::new(GROUND, Some(Rung::Fdatasync), 0).rung(), Rung::Fdatasync);
    }

    #[test]
    fn head_and_edges_are_cached_whatever_the_rung() {
        let mut ladder = ladder();
        assert_eq!(ladder.look(Some(1)), None);
        assert_eq!(ladder.ways(&(0..1000)), [(0..1000, Way::Cached)]);
        assert_eq!(
            ladder.ways(&(0..MIB + 8)),
            [
                (0..HEAD_BYTES, Way::Cached),
                (HEAD_BYTES..MIB, Way::Uncached),
                (MIB..MIB + 8, Way::Cached)
            ]
        );
        assert_eq!(ladder.ways(&(MIB + 1..MIB + 4097)), [(MIB + 1..MIB + 4097, Way::Cached)]);
        assert_eq!(ladder.ways(&(MIB..2 * MIB)), [(MIB..2 * MIB, Way::Uncached)]);
    }

    #[test]
    fn memory_has_nothing_to_write_back() {
        let memory = Ladder::new(Ground { in_memory: true, ..GROUND }, None, 0);
        assert_eq!(memory.rung(), Rung::None);
        assert!(!memory.wants_look());
        let ground = Ground { by_range: false, uncached: false, ..GROUND };
        let mut blind = Ladder::new(ground, None, 0);
        assert_eq!(blind.rung(), Rung::Fdatasync);
        assert_eq!(Ladder::new(ground, Some(Rung::Dontcache), 0).rung(), Rung::Fdatasync);
        blind = Ladder::new(ground, Some(Rung::Direct), 0);
        assert_eq!(blind.refused(Way::Direct).unwrap().to, Rung::Fdatasync);
    }
}
