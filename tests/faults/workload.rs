//! What the muxers of these tests do.

use freemkvd_client::Leftover;
use freemkvd_tests::trace::Random;

pub(crate) const MIB: u64 = 1 << 20;

/// One call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// At the end.
    Append(u64),
    /// Somewhere before, and back to the end.
    Patch(u64, u64),
    SetLen(u64),
    /// At an offset, so many.
    Zeroes(u64, u64),
    Flush,
    Sync,
}

/// How it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Finish,
    Abort,
    Drop,
}

/// A file from its opening to its end.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    pub(crate) steps: Vec<Step>,
    pub(crate) end: End,
    pub(crate) hint_bytes: Option<u64>,
    pub(crate) publish: bool,
    /// A file has its name already.
    pub(crate) replaces: bool,
    pub(crate) create_new: bool,
    pub(crate) leftover: Leftover,
    pub(crate) shared: bool,
    /// What of it stays in the page cache.
    pub(crate) window_bytes: u64,
}

impl Default for Workload {
    fn default() -> Self {
        Self {
            steps: Vec::new(),
            end: End::Finish,
            hint_bytes: None,
            publish: false,
            replaces: false,
            create_new: false,
            leftover: Leftover::Keep,
            shared: true,
            window_bytes: 0,
        }
    }
}

/// Sequential, with patches near and far, and a sync in the middle.
pub(crate) fn rip() -> Workload {
    use Step::{Append, Flush, Patch, Sync};
    let steps = vec![
        Append(MIB),
        Patch(100, 8),
        Append(MIB / 4),
        Patch(MIB / 2 + 3, 5000),
        Sync,
        Append(5 * MIB / 4 + 777),
        Patch(MIB, 4096),
        Flush,
        Append(MIB / 4),
        Patch(40, 4),
    ];
    Workload { steps, ..Workload::default() }
}

/// Lengths, zeros, and a hint.
pub(crate) fn odd() -> Workload {
    use Step::{Append, Patch, SetLen, Sync, Zeroes};
    let steps = vec![
        Append(2 * MIB),
        Zeroes(MIB + 10, 300_000),
        Append(MIB / 2),
        SetLen(2 * MIB + 5),
        Sync,
        SetLen(3 * MIB),
        Append(MIB),
        Zeroes(4 * MIB, 200_000),
        Patch(2 * MIB, 9000),
        SetLen(4 * MIB + 100_001),
    ];
    let hint_bytes = Some(6 * MIB);
    Workload { steps, hint_bytes, shared: false, window_bytes: MIB, ..Workload::default() }
}

/// More than the budget and two extents, at a stretch: the drain has to wait.
pub(crate) fn long() -> Workload {
    Workload { steps: vec![Step::Append(12 * MIB)], ..Workload::default() }
}

/// Gets its name at the end, in place of another file.
pub(crate) fn replacing() -> Workload {
    Workload { publish: true, replaces: true, leftover: Leftover::Remove, ..rip() }
}

/// Gets its name at the end, if nobody has it.
pub(crate) fn publishing() -> Workload {
    Workload { publish: true, create_new: true, leftover: Leftover::Keep, ..odd() }
}

/// Given up in the end.
pub(crate) fn given_up(end: End, leftover: Leftover) -> Workload {
    let steps = vec![Step::Append(2 * MIB), Step::Sync, Step::Append(3 * MIB / 2)];
    Workload { steps, end, leftover, hint_bytes: Some(4 * MIB), ..Workload::default() }
}

/// Anything, of a few MiB.
pub(crate) fn random(random: &mut Random) -> Workload {
    let mut len = 0_u64;
    let mut steps = Vec::new();
    for _ in 0..random.between(4, 14) {
        let step = match random.below(20) {
            0..8 => Step::Append(random.between(1, MIB)),
            8..13 => {
                let offset = random.below(len + 1);
                Step::Patch(offset, random.between(1, 64 << 10).min(len - offset).max(1))
            }
            13..15 => Step::SetLen(random.below(len + MIB / 2)),
            15..17 => Step::Zeroes(random.below(len + 1), random.between(1, MIB / 2)),
            17 => Step::Flush,
            _ => Step::Sync,
        };
        match step {
            Step::Append(more) => len += more,
            Step::Patch(at, more) | Step::Zeroes(at, more) => len = len.max(at + more),
            Step::SetLen(new) => len = new,
            _ => {}
        }
        steps.push(step);
    }
    let publish = random.one_in(2);
    let create_new = random.one_in(3);
    Workload {
        steps,
        end: [End::Finish, End::Finish, End::Finish, End::Abort, End::Drop][random.index(5)],
        hint_bytes: random.one_in(3).then_some(len),
        publish,
        replaces: publish && !create_new && random.one_in(2),
        create_new,
        leftover: [Leftover::Keep, Leftover::Partial, Leftover::Remove][random.index(3)],
        shared: random.one_in(2),
        window_bytes: [0, MIB, 64 * MIB][random.index(3)],
    }
}
