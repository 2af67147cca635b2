//! The decisions of the daemon under virtual time: the budget, the extents, the drain and the ladder as
//! they are, driven by writers, kernels, devices and muxers that are simulated.
//!
//! What happens to them: devices of all speeds that seek, slow down, commit in storms, stop for up to ten
//! minutes with or without blocking writes, and heal; file systems that ignore writeback by range, count
//! nothing, or refuse a manner of writing; muxers that pause, sync, patch, leave gaps, die and abort;
//! streams that come and go; totals and weights that change at any time; threads that wake up late. What
//! does not: errors, lost or torn bytes, full disks, connections.
//!
//! `world` is the virtual time, `scenario` what a seed stands for, `books` and `waits` what is checked.
//! `account`, `file`, `writer` and `queue` mirror the daemon's `writer/`: they are to be changed with it.
#![expect(clippy::unwrap_used, reason = "tests")]
#![expect(unreachable_pub, reason = "a program of its own")]

mod account;
mod books;
mod cost;
mod device;
mod fairness;
mod file;
mod isolation;
mod kernel;
mod muxer;
mod queue;
mod random;
mod rates;
mod scale;
mod scenario;
mod seeds;
mod waits;
mod world;
mod writer;
