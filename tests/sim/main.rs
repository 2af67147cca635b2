//! The decisions of the daemon under virtual time: the budget, the extents, the drain and the ladder as
//! they are, driven by writers, kernels, devices and muxers that are simulated.
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
