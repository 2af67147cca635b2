//! The log of a service of Windows, whose standard error goes nowhere: a file a day below
//! `%ProgramData%\freemkvd\log`, of which the last two weeks are kept.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tracing_appender::rolling::{RollingFileAppender, Rotation};

use super::queue::Sink;

static IS_WANTED: AtomicBool = AtomicBool::new(false);

/// How many files are kept.
const DAYS: usize = 14;

/// The log goes to files, once it is started.
pub fn to_file() {
    IS_WANTED.store(true, Ordering::Relaxed);
}

/// Beside standard error.
pub(super) const DESCRIPTORS: u64 = 1;

/// The files, if the log is to go there and they can be had.
pub(super) fn sink() -> Option<Box<dyn Sink>> {
    if !IS_WANTED.load(Ordering::Relaxed) {
        return None;
    }
    let data = std::env::var_os("ProgramData").unwrap_or_else(|| r"C:\ProgramData".into());
    let directory = PathBuf::from(data).join("freemkvd").join("log");
    let files = RollingFileAppender::builder()
        .rotation(Rotation::DAILY)
        .filename_prefix("freemkvd")
        .filename_suffix("log")
        .max_log_files(DAYS)
        .build(directory)
        .ok()?;
    let files = Files(Arc::new(Mutex::new(files)));
    Some(super::text::text(move || files.clone(), false))
}

/// See the module's documentation.
#[derive(Clone)]
struct Files(Arc<Mutex<RollingFileAppender>>);

impl Write for Files {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).flush()
    }
}
