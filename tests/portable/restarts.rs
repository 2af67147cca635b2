//! The daemon ends in the middle, and another one takes its place.

use freemkvd_tests::daemon::Daemon;

use crate::support::{ended_well, paced};

fn restarted(end: impl Fn(&mut Daemon)) {
    let root = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start(root.path(), "");
    // For fifteen seconds: neither may be done before the last restart.
    let bd = paced(&daemon, "bd", "60", "4", &root.path().join("bd.m2ts"));
    let dvd = paced(&daemon, "dvd", "360", "24", &root.path().join("dvd.mkv"));
    for round in 1..=2_u64 {
        daemon.wait_for("both write", |status| {
            status.streams.iter().filter(|stream| stream.written_bytes > round << 20).count() == 2
        });
        end(&mut daemon);
        daemon.start_again();
    }
    ended_well(bd, &daemon);
    ended_well(dvd, &daemon);
}

#[test]
fn muxers_go_on_over_a_daemon_that_is_killed() {
    restarted(Daemon::kill);
}
