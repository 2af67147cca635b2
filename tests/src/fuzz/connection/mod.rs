//! Whole connections, against the real server over storage in memory that fails when the input says so.
//!
//! The input is read as a number of steps by up to three peers at once: frames that are allowed and frames that are
//! not, content of any length, raw bytes, descriptors of every kind (up to as many as the kernel takes), peers that
//! stop reading, send single bytes, hang up politely or in the middle of a frame, come back for their streams after
//! a restart, give up each other's streams, stop the daemon; and errors of the disk.
//!
//! Promises, looked at after each input:
//! 1. No panic, in no thread; every peer that says that nothing more comes is hung up on.
//! 2. Nothing is left: no stream, no charge, no queued byte, no open file, no claim on a descriptor, no descriptor
//!    and no thread of the process.
//! 3. The file has what the commands say that were allowed (`rules`, `asked`), under the name that it is to have (`check`):
//!    all of them where nothing went wrong, and otherwise as many as were told to be written, or more.
//! 4. Who breaks a rule is told which, and who breaks none is not told so.
//! 5. A file that nobody has opened stays as it is.
//!
//! One daemon serves all inputs of a process, with threads: the order in which they run is chance, so an input that
//! has found something may have to be run several times.

mod asked;
mod bench;
mod check;
mod choices;
mod content;
mod given;
mod peer;
mod rules;
mod steps;

use std::panic;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use arbitrary::Unstructured;

use bench::Bench;
use steps::Run;

/// Where the disk is mounted.
const ROOT: &str = "/rips";

/// See the module's documentation.
///
/// # Panics
/// When a promise is broken.
pub fn connection(input: &[u8]) {
    watch_for_panics();
    Bench::with(|bench| {
        let mut run = Run::new(bench);
        let mut input = Unstructured::new(input);
        // It ends when the input does, and what was begun then is enough.
        let _ = run.steps(&mut input);
        run.end();
    });
    assert!(!HAS_PANICKED.load(Ordering::Relaxed), "a thread of the daemon has panicked");
}

/// Stops the daemon that [`connection`] has started, and removes what it has on the disk. The next input starts
/// another one.
pub fn end_connections() {
    Bench::clear();
}

static HAS_PANICKED: AtomicBool = AtomicBool::new(false);

/// A panic in a thread of the daemon is caught there: it is a bug all the same.
fn watch_for_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            HAS_PANICKED.store(true, Ordering::Relaxed);
            before(info);
        }));
    });
}
