//! A stop and a start, as in an upgrade: the rips go on, and hardly notice.

use std::time::{Duration, Instant};

use freemkvd_tests::daemon::Daemon;
use freemkvd_tests::rips::{FOUR, Pauses, Rips};
use rustix::process::Signal;

use crate::support::{chance, scratch, setting};

/// Not the goal, which the figures are printed for, but what no busy machine explains.
const PAUSE_MAX: Duration = Duration::from_secs(5);

#[test]
fn planned_stops_cost_four_rips_a_moment() {
    let stops = setting("FREEMKVD_STOPS").unwrap_or(10);
    let (seed, mut chance) = chance("stops");
    let root = scratch();
    let mut daemon = Daemon::start(root.path(), "");
    let rips = Rips::start(&daemon.options(), root.path(), &FOUR, seed);
    let (mut moments, mut stopping, mut starting) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..stops {
        chance.sleep_ms(200, 500);
        if !rips.all_go_on() {
            break;
        }
        let told = Instant::now();
        moments.push(told);
        daemon.signal(Signal::TERM);
        let end = daemon.wait_for_end();
        assert!(end.success(), "{end}; log:\n{}", daemon.log());
        let ended = Instant::now();
        daemon.start_again();
        stopping.push(ended - told);
        starting.push(ended.elapsed());
    }
    let tally = rips.finish();
    let pauses = tally.pauses(&moments);
    eprintln!(
        "stops: {} times SIGTERM; {} files, {} bytes compared, all right",
        moments.len(),
        tally.files,
        tally.bytes
    );
    eprintln!("stops: from the signal to the end: {}", Pauses::of(stopping));
    eprintln!("stops: from the start to its first answer: {}", Pauses::of(starting));
    eprintln!(
        "stops: {} times a stream went on; a muxer held at most {:.1} MiB to send again",
        tally.resumes,
        tally.kept_bytes_max as f64 / f64::from(1 << 20)
    );
    eprintln!("stops: longest wait of a muxer's call around each: {pauses}");
    assert_eq!(moments.len() as u64, stops);
    assert!(pauses.max() < PAUSE_MAX, "{pauses}");
}
