//! Whatever sequence of calls a program makes, the file comes out as if it had made them on a file.

use std::fs::File;

use freemkvd_tests::daemon::Daemon;
use freemkvd_tests::ops::{Limits, apply, sequence};

use crate::support::{MIB, Way, assert_same, scratch};

/// More than the larger patch window, so that sequences leave it.
const LIMITS: Limits = Limits { ops: 150, len: 24 * MIB, written: 24 * MIB };

fn leaves_the_bytes_of_a_file(way: Way, window_bytes: u64) {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let (expected, rip) = (root.path().join("expected"), root.path().join("rip"));
    for seed in 1..=24 {
        println!("seed {seed}");
        let ops = sequence(seed, LIMITS);
        let mut file = File::create(&expected).unwrap();
        apply(&ops, &mut file).unwrap();
        let options = way.options(&daemon).window_bytes(window_bytes);
        let mut stream = options.create(&rip).unwrap();
        apply(&ops, &mut stream).unwrap();
        let len = stream.len_bytes();
        assert_eq!(stream.finish().unwrap().len_bytes, len);
        assert_eq!(file.metadata().unwrap().len(), len);
        assert_same(&expected, &rip);
    }
}

#[test]
fn random_calls_leave_the_bytes_of_a_file() {
    leaves_the_bytes_of_a_file(Way::Shared, 8 * MIB);
}

#[test]
fn random_calls_leave_the_bytes_of_a_file_with_the_smallest_window() {
    leaves_the_bytes_of_a_file(Way::Shared, MIB);
}

#[test]
fn random_calls_leave_the_bytes_of_a_file_inline() {
    leaves_the_bytes_of_a_file(Way::Inline, 8 * MIB);
}

#[test]
fn random_calls_leave_the_bytes_of_a_file_with_the_smallest_window_inline() {
    leaves_the_bytes_of_a_file(Way::Inline, MIB);
}
