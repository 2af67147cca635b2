//! `freemkvctl metrics`.

use crate::fake_daemon::FakeDaemon;
use crate::status::healthy;
use crate::{exit_code, freemkvctl, stderr, stdout};

/// What the fake daemon says.
pub(crate) const TEXT: &str =
    "# TYPE freemkvd_queued_bytes gauge\nfreemkvd_queued_bytes 7\n# EOF\n";

#[test]
fn what_the_daemon_says_is_printed_as_it_is() {
    let daemon = FakeDaemon::start(healthy());
    let output = freemkvctl(&daemon.socket()).arg("metrics").output().unwrap();
    assert_eq!((stdout(&output).as_str(), stderr(&output).as_str()), (TEXT, ""));
    assert_eq!(exit_code(&output), 0);
    let output = freemkvctl(&crate::nobody()).arg("metrics").output().unwrap();
    assert_eq!((exit_code(&output), stdout(&output)), (3, String::new()));
}
