//! The benchmark works as an ordinary user: it measures, says what it left out, and cleans up.
#![cfg(target_os = "linux")]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn bench(arguments: &[&str], dir: &Path, json: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bench"))
        .args(arguments)
        .args(["--dir".as_ref(), dir.as_os_str(), "--json".as_ref(), json.as_os_str()])
        .output()
        .expect("the benchmark starts")
}

fn names(list: &Value, field: &str) -> Vec<String> {
    let list = list.as_array().expect("a list");
    list.iter().map(|one| one[field].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn a_quick_look_measures_everybody_and_leaves_nothing_behind() {
    let home = tempfile::tempdir().unwrap();
    let (dir, json) = (home.path().join("local"), home.path().join("bench.json"));
    std::fs::create_dir(&dir).unwrap();
    let who = "file,bufwriter,dontcache,seed,freemkvd,freemkvd-inline";
    let arguments = ["--quick", "--size", "4MiB", "--verify", "--contenders", who];
    let output = bench(&arguments, &dir, &json);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("durable") && said.contains("reached"), "{said}");

    let found: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    assert!(found["host"]["dirty_limits"]["limit_bytes"].as_u64() > Some(0));
    assert_eq!(names(&found["places"], "name"), ["tmpfs", "local"]);
    assert_eq!(found["failures"], Value::Array(Vec::new()));
    let summaries = &found["summaries"];
    for contender in ["file", "bufwriter", "seed", "freemkvd", "freemkvd-inline"] {
        assert!(names(summaries, "contender").iter().any(|name| name == contender));
    }
    for run in found["runs"].as_array().unwrap() {
        let figures = &run["figures"];
        for figure in ["in_mb_per_s", "durable_mb_per_s", "cpu_seconds_per_gib", "write_p99_us"] {
            assert!(figures[figure].as_f64() > Some(0.0), "{figure}: {run}");
        }
        let streams = run["streams"].as_array().unwrap();
        assert_eq!(streams.len(), if run["workload"] == "seq4" { 4 } else { 1 });
        if run["contender"].as_str().is_some_and(|name| name.starts_with("freemkvd")) {
            assert!(figures["frames_sent"].as_f64() > Some(0.0), "{run}");
            assert!(figures["daemon_mib"].as_f64() > Some(0.0), "{run}");
        }
    }
    let goals = names(&found["goals"], "what");
    assert!(goals.iter().any(|goal| goal.contains("freemkvd / seed")), "{goals:?}");
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0, "files were left behind");
}

#[test]
fn what_needs_root_is_named() {
    if rustix::process::geteuid().is_root() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let json = home.path().join("bench.json");
    let arguments = ["--contenders", "file", "--places", "xfs-40,fuse-150", "--workloads", "seq1"];
    let output = bench(&arguments, home.path(), &json);
    assert!(output.status.success());
    let said = String::from_utf8_lossy(&output.stdout);
    for place in ["xfs-40", "fuse-150"] {
        let line = format!("left out: {place}, all contenders: needs root");
        assert!(said.contains(&line), "{said}");
    }
}

#[test]
fn a_wrong_name_is_wrong_usage() {
    let home = tempfile::tempdir().unwrap();
    let json = home.path().join("bench.json");
    for arguments in [["--places", "tmpfs-40"], ["--workloads", "vhs"], ["--contenders", "dd"]] {
        assert_eq!(bench(&arguments, home.path(), &json).status.code(), Some(2), "{arguments:?}");
    }
}
