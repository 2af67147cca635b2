//! What `freemkvctl doctor` would have in the configuration is what the daemon takes.

use std::process::Command;

use freemkvd_tests::{daemon, programs};

use crate::support::scratch;

#[test]
fn the_daemon_takes_what_the_doctor_has_to_paste() {
    let (root, home) = (scratch(), daemon::home());
    for name in ["films", "a \"b\" and\u{7f}\tc \u{9b}31m"] {
        let directory = root.path().join(name);
        std::fs::create_dir(&directory).unwrap();
        let mut doctor = Command::new(programs::freemkvctl());
        // No matter what other daemon there is.
        doctor.env("FREEMKVD_SOCKET", "off");
        let output = doctor.args(["doctor", "--json", "--size", "8MiB"]).arg(&directory).output();
        let told: serde_json::Value = serde_json::from_slice(&output.unwrap().stdout).unwrap();
        assert_eq!(told["directory"].as_str(), directory.canonicalize().unwrap().to_str());
        let config = told["config"].as_str().unwrap();
        let file = home.path().join("config.toml");
        std::fs::write(&file, config).unwrap();
        let mut check = Command::new(programs::freemkvd());
        let checked = check.arg("--config").arg(&file).arg("--check-config").output().unwrap();
        let said = String::from_utf8_lossy(&checked.stderr);
        assert!(checked.status.success(), "{said} in:\n{config}");
    }
}
