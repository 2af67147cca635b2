//! Skeleton.
pub mod budget;
pub mod clock;
pub mod device;
pub mod rate;
pub mod storage;
pub mod stream;
pub mod writer;
