//! The fake muxer as a process: one line of JSON, the right file, the right exit code.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn muxer(arguments: &[&str], out: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_muxer"))
        .args(arguments)
        .arg("--out")
        .arg(out)
        .output()
        .expect("the muxer starts")
}

fn report(arguments: &[&str], out: &Path) -> Value {
    let output = muxer(arguments, out);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("JSON is UTF-8");
    assert_eq!(text.lines().count(), 1);
    serde_json::from_str(&text).expect("the line is JSON")
}

#[test]
fn every_sink_gets_the_same_file() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("rip.mkv");
    let trace = ["--trace", "uhd", "--seed", "2", "--content-seconds", "5", "--verify", "--sink"];
    let lengths = ["file", "bufwriter", "memory"].map(|sink| {
        let report = report(&[&trace[..], &[sink]].concat(), &out);
        assert_eq!(report["trace"], "uhd");
        assert!(report["bytes"].as_u64() > report["length"].as_u64(), "patches count: {report}");
        assert!(report["write_max_us"].as_f64() >= report["write_p50_us"].as_f64());
        report["length"].as_u64().unwrap()
    });
    assert_eq!(lengths, [out.metadata().unwrap().len(); 3]);
}

#[test]
fn a_patch_pass_needs_its_image() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("disc.iso");
    let seconds = ["--content-seconds", "5"];
    let patch = [&["--trace", "patch", "--verify"], &seconds[..]].concat();
    assert_eq!(muxer(&patch, &out).status.code(), Some(1));
    let swept = report(&[&["--trace", "sweep"], &seconds[..]].concat(), &out);
    let patched = report(&patch, &out);
    assert_eq!(patched["length"], swept["length"]);
    assert_eq!(patched["verified_bytes"], swept["length"]);
}

#[test]
fn a_paced_trace_takes_its_time() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("dvd.mkv");
    let report = report(&["--trace", "dvd", "--content-seconds", "4", "--speed", "8"], &out);
    // The last of 100 frames is due after 3.96 s of content.
    assert!(report["seconds"].as_f64() >= Some(0.49), "{report}");
}

#[test]
fn a_wrong_usage_is_not_a_failure() {
    let out = Path::new("unused");
    assert_eq!(muxer(&["--trace", "vhs", "--content-seconds", "1"], out).status.code(), Some(2));
    assert_eq!(muxer(&["--trace", "dvd", "--content-seconds", "-1"], out).status.code(), Some(2));
}
