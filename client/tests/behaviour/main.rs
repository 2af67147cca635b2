//! What a muxer sees, against a scripted fake daemon and without any daemon. A file per behaviour.
//! What is about content happens twice, since a muxer must not notice which way it goes.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the answer")]
#![expect(clippy::duplicate_mod, reason = "the same tests for both ways of content")]

mod control;
mod fake;
mod fallback;
mod sweep;

/// Content goes through the socket.
#[path = "."]
mod inline {
    #[path = "durable.rs"]
    mod durable;
    #[path = "failures.rs"]
    mod failures;
    #[path = "frames.rs"]
    mod frames;
    #[cfg(target_os = "linux")]
    #[path = "given.rs"]
    mod given;
    #[path = "identical.rs"]
    mod identical;
    #[path = "restarts.rs"]
    mod restarts;
    #[path = "waiting.rs"]
    mod waiting;

    fn options(daemon: &crate::fake::Daemon) -> freemkvd_client::Options {
        crate::options(daemon).shared_slots(false)
    }

    const SHARED: bool = false;
}

/// Content stays in shared slots, where there are any.
#[path = "."]
mod shared {
    #[path = "durable.rs"]
    mod durable;
    #[path = "failures.rs"]
    mod failures;
    #[path = "frames.rs"]
    mod frames;
    #[cfg(target_os = "linux")]
    #[path = "given.rs"]
    mod given;
    #[path = "identical.rs"]
    mod identical;
    #[path = "restarts.rs"]
    mod restarts;
    #[path = "waiting.rs"]
    mod waiting;

    use crate::options;

    const SHARED: bool = cfg!(target_os = "linux");
}

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use freemkvd_client::{Options, RipFile};

const MIB: usize = 1 << 20;

/// Tests that measure time don't run beside each other.
static ALONE: Mutex<()> = Mutex::new(());

/// Options for the fake daemon, with a test's patience.
fn options(daemon: &fake::Daemon) -> Options {
    RipFile::options()
        .socket(daemon.socket())
        .connect_timeout(Duration::from_secs(10))
        .drop_wait(Duration::from_millis(300))
}

/// A name for the fake daemon, which writes no file.
fn path() -> PathBuf {
    std::env::temp_dir().join("film.mkv")
}

/// A place where no daemon is.
fn nobody() -> PathBuf {
    match cfg!(windows) {
        true => r"\\.\pipe\freemkvd-nobody".into(),
        false => std::env::temp_dir().join("freemkvd-nobody.sock"),
    }
}

fn pattern(len: usize, seed: usize) -> Vec<u8> {
    let block: Vec<u8> = (0..=250).cycle().skip(seed * 31 % 251).take(251).collect();
    let mut bytes = block.repeat(len / 251 + 1);
    bytes.truncate(len);
    bytes
}

/// Waits for what another thread is about to do.
fn wait_until(what: &str, mut ready: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !ready() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
