//! The decisions of the daemon under virtual time: the budget, the extents, the drain and the ladder as
//! they are, driven by writers, kernels, devices and muxers that are simulated.
#![expect(clippy::unwrap_used, reason = "tests")]
#![expect(unreachable_pub, reason = "a program of its own")]

mod account;
mod books;
mod device;
mod file;
mod kernel;
mod muxer;
mod queue;
mod random;
mod rates;
mod scenario;
mod seeds;
mod waits;
mod world;
mod writer;
