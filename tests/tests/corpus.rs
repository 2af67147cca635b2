//! What the fuzzer has found worth keeping, without a fuzzer: every input of `tests/fuzz/corpus` keeps the promises
//! of its target, and so does every one that once did not (`tests/fuzz/regressions`).
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};

use freemkvd_tests::fuzz;
#[cfg(target_os = "linux")]
use freemkvd_tests::trace::Random;

/// The inputs that are kept of a target, in an order that is the same everywhere.
fn inputs(target: &str) -> Vec<PathBuf> {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let folders = [fuzz.join("corpus").join(target), fuzz.join("regressions").join(target)];
    let files = |folder: &PathBuf| std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut inputs: Vec<_> = folders.iter().flat_map(files).map(|entry| entry.path()).collect();
    inputs.sort();
    assert!(inputs.len() > 5, "only {} inputs for {target}", inputs.len());
    inputs
}

fn replay(target: &str, run: fn(&[u8])) {
    for input in inputs(target) {
        // The last line is the one to look at when it fails.
        println!("{}", input.display());
        run(&std::fs::read(&input).unwrap());
    }
}

#[test]
fn decoder() {
    replay("decoder", fuzz::decoder);
}

#[test]
fn hello() {
    replay("hello", fuzz::hello);
}

#[cfg(target_os = "linux")]
#[test]
fn connection() {
    replay("connection", fuzz::connection);
    fuzz::end_connections();
}

/// Longer ones than a fuzzer keeps: peers that do a lot, in an order that nobody has thought of.
#[cfg(target_os = "linux")]
#[test]
fn connection_by_chance() {
    for seed in 0..200 {
        println!("seed {seed}");
        let mut random = Random::new(seed);
        let len = random.between(100, 1500);
        let input: Vec<u8> = (0..len).map(|_| random.below(256).to_le_bytes()[0]).collect();
        fuzz::connection(&input);
    }
    fuzz::end_connections();
}
