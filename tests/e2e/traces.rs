//! Every muxer's file is the muxer's file.

use freemkvd_tests::daemon::Daemon;
use freemkvd_tests::trace::{Kind, Trace};
use freemkvd_tests::verify::verify;

use crate::support::{MIB, Way, scratch};

fn comes_out_right(kind: Kind, content_seconds: f64) {
    for way in [Way::Shared, Way::Inline] {
        comes_out_right_by(way, kind, content_seconds);
    }
}

fn comes_out_right_by(way: Way, kind: Kind, content_seconds: f64) {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let path = root.path().join("rip");
    let trace = |kind| Trace { kind, seed: 1, content_seconds };
    let run = |trace: Trace, mut file: freemkvd_client::RipFile| {
        trace.run_unbuffered(&mut file, &mut |_| ()).unwrap();
        file.finish().unwrap()
    };
    let finished = match kind {
        Kind::Patch => {
            run(trace(Kind::Sweep), way.options(&daemon).create(&path).unwrap());
            run(trace(kind), way.options(&daemon).open(&path).unwrap())
        }
        _ => run(trace(kind), way.options(&daemon).create(&path).unwrap()),
    };
    let compared = verify(&trace(kind), &path).unwrap();
    assert_eq!(compared, finished.len_bytes);
    assert!(compared > MIB, "a file of {compared} bytes proves little");
    let marks = finished.progress;
    assert_eq!(marks.durable_bytes, marks.accepted_bytes);
}

#[test]
fn an_mkv_of_a_uhd_disc_comes_out_right() {
    comes_out_right(Kind::Uhd, 4.0);
}

#[test]
fn an_mkv_of_a_bluray_disc_comes_out_right() {
    comes_out_right(Kind::Bd, 6.0);
}

#[test]
fn an_mkv_of_a_dvd_comes_out_right() {
    comes_out_right(Kind::Dvd, 20.0);
}

#[test]
fn a_sweep_comes_out_right() {
    comes_out_right(Kind::Sweep, 4.0);
}

#[test]
fn a_patch_pass_into_the_image_of_a_sweep_comes_out_right() {
    comes_out_right(Kind::Patch, 4.0);
}

#[test]
fn an_mp4_comes_out_right() {
    comes_out_right(Kind::Mp4, 6.0);
}

#[test]
fn a_transport_stream_comes_out_right() {
    comes_out_right(Kind::M2ts, 6.0);
}
