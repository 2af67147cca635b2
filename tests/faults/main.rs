//! Every `Ok` of freemkvd against a model: storage that fails at each of its calls, power cuts at any moment,
//! calls that hang, disks that are full. The daemon is the real one, in this process, over
//! `freemkvd_tests::faults`; the muxer uses the real client library.
//!
//! `FAULTS_ALL=1` tries every error at every call, `FAULTS_SEEDS=N` and `FAULTS_FIRST=N` more random runs,
//! `FAULTS_SEED=N` one of them again. What fails says its seed.
#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    reason = "what fails in a test is a failed test, also in a function that several share"
)]

mod disk;
mod ground;
mod hangs;
mod images;
mod model;
mod nth;
mod restarts;
mod run;
mod seeds;
mod space;
mod workload;
