//! Where messages go: to the journal with their fields when systemd has connected standard error to
//! it, else to standard error as text.

use tracing::Level;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Starts logging at `level`. To be called once.
pub fn start(level: Level) {
    let level = LevelFilter::from_level(level);
    #[cfg(target_os = "linux")]
    if is_journal() {
        // FREEMKVD_STREAM, FREEMKVD_PATH, ...: see freemkvd(8).
        if let Ok(journal) = tracing_journald::layer() {
            let journal = journal.with_field_prefix(Some("FREEMKVD".to_owned()));
            tracing_subscriber::registry().with(level).with(journal).init();
            return;
        }
    }
    let text = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_target(false);
    tracing_subscriber::registry().with(level).with(text).init();
}

/// systemd names the journal's stream as `DEVICE:INODE`, so that a program whose standard error was
/// redirected after all can tell.
#[cfg(target_os = "linux")]
fn is_journal() -> bool {
    let Some(journal) = std::env::var("JOURNAL_STREAM").ok() else {
        return false;
    };
    let Ok(stat) = rustix::fs::fstat(std::io::stderr()) else {
        return false;
    };
    journal == format!("{}:{}", stat.st_dev, stat.st_ino)
}
