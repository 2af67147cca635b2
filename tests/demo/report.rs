//! The short table at the end.

use std::time::Duration;

use freemkvd_tests::verify::VerifyError;

use crate::rip::Done;
use crate::watch::Peak;

const MB: f64 = 1e6;
const MIB: u64 = 1 << 20;

/// Prints what came of the rips. Speeds: in is what the muxer handed over while it wrote, out is the
/// same bytes until they were durable.
#[expect(clippy::cast_precision_loss, reason = "for people")]
pub(crate) fn print(done: &[Done], verdicts: &[Result<u64, VerifyError>], peak: &Peak) {
    println!();
    println!(
        "{:<11} {:>8} {:>8} {:>9} {:>9} {:>8} {:>10} {:>10}  verified",
        "rip", "MB", "in MB/s", "out MB/s", "writes", "frames", "p99 write", "max write"
    );
    for (done, verdict) in done.iter().zip(verdicts) {
        let report = &done.report;
        let megabytes = report.bytes as f64 / MB;
        let verdict = match verdict {
            Ok(bytes) => format!("{bytes} bytes identical"),
            Err(error) => format!("WRONG: {error}"),
        };
        println!(
            "{:<11} {megabytes:>8.1} {:>8.1} {:>9.1} {:>9} {:>8} {:>10} {:>10}  {verdict}",
            done.name,
            megabytes / report.seconds,
            megabytes / (report.seconds + report.finish_seconds),
            report.writes + report.seeks,
            report.frames.unwrap_or(0),
            micros(report.write_p99_us),
            micros(report.write_max_us),
        );
    }
    let kernel = match peak.kernel_dirty_bytes {
        Some(bytes) => format!("{} MiB as the kernel counts", bytes / MIB),
        None => "the kernel does not say here".to_owned(),
    };
    println!(
        "\npeak dirty: {} MiB charged, {kernel}, of a budget of {} MiB ({} samples)",
        peak.charged_bytes / MIB,
        peak.limit_bytes / MIB,
        peak.samples
    );
    println!(
        "peak queue: {} MiB; the daemon's own memory: {} MiB",
        peak.queued_bytes / MIB,
        peak.daemon_resident_bytes / MIB
    );
}

fn micros(micros: f64) -> String {
    match micros {
        micros if micros < 1e3 => format!("{micros:.1} us"),
        micros => format!("{:.1} ms", Duration::from_secs_f64(micros / 1e6).as_secs_f64() * 1e3),
    }
}
