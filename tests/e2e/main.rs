//! The whole of freemkvd as its users have it: the real daemon as a process of its own, the real
//! client library, real sockets and files. One file for each kind of behaviour.
#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    reason = "what fails in a test is a failed test, also in a function that several share"
)]

mod aborting;
mod bad_commands;
mod bad_frames;
mod bad_paths;
mod client_death;
mod doctor;
mod durable_ranges;
mod file_operations;
mod files_in_use;
mod four_streams;
mod given;
mod given_again;
mod hook;
mod hostile;
mod leaks;
mod limits;
mod metrics;
mod own_files;
mod pausing;
mod publishing;
mod random_calls;
mod reload;
mod resume;
mod rules;
mod shortage;
mod sigterm;
mod silent_clients;
mod slots;
mod slow_closes;
mod space;
mod starting;
mod support;
mod traces;
mod waiting;
mod watching;
mod wedged;
mod weights;
mod why;
