//! `freemkvctl metrics`.

use crate::fake_daemon::FakeDaemon;
use crate::status::healthy;
use crate::{exit_code, freemkvctl, stderr, stdout};

/// What the fake daemon says.
pub(crate) const TEXT: &str = r#"# HELP freemkvd_build What runs.
# TYPE freemkvd_build info
freemkvd_build_info{version="1.0"} 1
# HELP freemkvd_accepted_bytes Taken from muxers.
# TYPE freemkvd_accepted_bytes counter
# UNIT freemkvd_accepted_bytes bytes
freemkvd_accepted_bytes_total 7
# HELP freemkvd_queued_bytes Not yet written.
# TYPE freemkvd_queued_bytes gauge
# UNIT freemkvd_queued_bytes bytes
freemkvd_queued_bytes 7
# EOF
"#;

/// The same as the textfile collector of node_exporter knows it.
const BEFORE_OPENMETRICS: &str = r#"# HELP freemkvd_build_info What runs.
# TYPE freemkvd_build_info gauge
freemkvd_build_info{version="1.0"} 1
# HELP freemkvd_accepted_bytes_total Taken from muxers.
# TYPE freemkvd_accepted_bytes_total counter
freemkvd_accepted_bytes_total 7
# HELP freemkvd_queued_bytes Not yet written.
# TYPE freemkvd_queued_bytes gauge
freemkvd_queued_bytes 7
"#;

#[test]
fn what_the_daemon_says_is_printed_as_a_textfile_collector_reads_it() {
    let daemon = FakeDaemon::start(healthy());
    let output = freemkvctl(&daemon.socket()).arg("metrics").output().unwrap();
    assert_eq!((stdout(&output).as_str(), stderr(&output).as_str()), (BEFORE_OPENMETRICS, ""));
    assert_eq!(exit_code(&output), 0);
    let output = freemkvctl(&crate::nobody()).arg("metrics").output().unwrap();
    assert_eq!((exit_code(&output), stdout(&output)), (3, String::new()));
}
