//! Four rips go on while the daemon is killed at random moments, and every file comes out right.

use std::time::Instant;

use freemkvd_tests::daemon::Daemon;
use freemkvd_tests::rips::{FOUR, Rips};

use crate::support::{chance, scratch, setting};

#[test]
fn no_kill_loses_a_byte_of_four_rips() {
    let kills = setting("FREEMKVD_KILLS").unwrap_or(25);
    let (seed, mut chance) = chance("kills");
    let root = scratch();
    let mut daemon = Daemon::start(root.path(), "");
    let rips = Rips::start(&daemon.options(), root.path(), &FOUR, seed);
    let mut moments = Vec::new();
    for _ in 0..kills {
        // Long enough for some of each title, short enough to hit each of its parts.
        chance.sleep_ms(10, 240);
        if !rips.all_go_on() {
            break;
        }
        moments.push(Instant::now());
        daemon.kill();
        // As long as whoever starts it again takes for that; sometimes nothing.
        chance.sleep_ms(0, 20);
        daemon.start_again();
    }
    let tally = rips.finish();
    eprintln!(
        "kills: {} times SIGKILL; {} files, {} bytes compared, all right",
        moments.len(),
        tally.files,
        tally.bytes
    );
    eprintln!(
        "kills: {} times a stream went on; a muxer held at most {:.1} MiB to send again",
        tally.resumes,
        tally.kept_bytes_max as f64 / f64::from(1 << 20)
    );
    eprintln!("kills: longest wait of a muxer's call around each: {}", tally.pauses(&moments));
    assert_eq!(moments.len() as u64, kills);
    let end = daemon.wait_for("an idle daemon", |status| status.streams.is_empty());
    assert_eq!((end.budget.charged_bytes, end.budget.queued_bytes), (0, 0));
}
