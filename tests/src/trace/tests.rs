//! The statistics of the traces against those of the muxers they stand for.
//!
//! Owns the targets. Each is a measurement of a real muxer below its buffer; a trace has to come
//! within ten percent, and a target moves only with a new measurement.

use std::io::{BufWriter, Write};

use super::mkv_finish::{self, Cue};
use super::random::{Payload, Random};
use super::schedule::SECOND_NS;
use super::tally::Tally;
use super::{Kind, MUXER_BUFFER_LEN, Trace, mkv_header, uhd};
use crate::sink::Null;

/// Within ten percent of the target.
#[track_caller]
fn close(what: &str, found: f64, target: f64) {
    assert!((found / target - 1.0).abs() <= 0.1, "{what}: {found}, should be about {target}");
}

const SECONDS: f64 = 120.0;

#[track_caller]
fn rates(tally: &Tally, writes: f64, seeks: f64, queries: f64, megabytes: f64) {
    close("writes", tally.writes.len() as f64 / SECONDS, writes);
    close("seeks", tally.seeks.len() as f64 / SECONDS, seeks);
    close("queries", tally.queries as f64 / SECONDS, queries);
    close("MB/s", tally.bytes() as f64 / 1e6 / SECONDS, megabytes);
}

#[test]
fn uhd_is_a_uhd_muxer() {
    let tally = Tally::of(Kind::Uhd, SECONDS);
    rates(&tally, 293.0, 196.0, 196.0, 9.6);
    close("small writes", tally.writes_of(0..=8), 55.0);
    close("bytes in 64-256K", tally.bytes_in(65_536..=262_143), 29.0);
    close("bytes in 256K-1M", tally.bytes_in(262_144..=1_048_575), 48.0);
    close("bytes in 1-3 MB", tally.bytes_in(1_048_576..=3_000_000), 19.0);
    close("back 1-16 KB", tally.backs_of(1025..=16_384), 97.0);
    let clusters = tally.backs_of(8 << 20..=32 << 20);
    assert!((0.4..=0.6).contains(&clusters), "back by a cluster: {clusters} %");
    let (writes, seeks, queries) = tally.header.unwrap();
    close("header writes", writes as f64, 204.0);
    close("header seeks", seeks as f64, 138.0);
    close("header queries", queries as f64, 168.0);
    let far = tally.far_patches();
    assert!(far.iter().filter(|offset| (50..=160).contains(*offset)).count() >= 3, "{far:?}");
    assert!(far.iter().all(|offset| *offset < 5000), "{far:?}");
}

#[test]
fn bd_is_a_bluray_muxer() {
    let tally = Tally::of(Kind::Bd, SECONDS);
    rates(&tally, 476.0, 318.0, 319.0, 4.0);
    close("small writes", tally.writes_of(0..=8), 62.0);
    close("back 1-16 KB", tally.backs_of(1025..=16_384), 99.0);
    let longest = tally.longest_back();
    assert!((7 << 20..=14 << 20).contains(&longest), "{longest}");
}

#[test]
fn dvd_is_a_dvd_muxer() {
    let tally = Tally::of(Kind::Dvd, SECONDS);
    rates(&tally, 266.0, 178.0, 178.0, 0.77);
    close("small writes", tally.writes_of(0..=8), 66.0);
    close("mean write", tally.bytes() as f64 / tally.writes.len() as f64, 3000.0);
    let longest = tally.longest_back();
    assert!((3 << 19..=5 << 19).contains(&longest), "{longest}");
}

/// Two hours have 3596 clusters; their index alone is quicker to write than the whole film.
#[test]
fn the_finish_of_two_hours_is_a_storm_in_the_last_200_kb() {
    let mut buffer = BufWriter::with_capacity(MUXER_BUFFER_LEN, Tally::default());
    let tracks = uhd::tracks();
    let header = mkv_header::write(&mut buffer, &tracks, &mut Payload::new(1)).unwrap();
    buffer.flush().unwrap();
    let before = std::mem::take(buffer.get_mut());
    buffer.get_mut().null = before.null;
    buffer.get_mut().position = before.position;

    let end_ns = 7200 * SECOND_NS;
    let cues: Vec<Cue> = (0..3596)
        .map(|nth| Cue { cluster: nth * 19_220_000, at_ns: nth * 2_002_000_000 })
        .collect();
    mkv_finish::write(&mut buffer, &header, &cues, &tracks, end_ns, &mut Random::new(1)).unwrap();
    let tally = buffer.into_inner().unwrap();
    close("writes", tally.writes.len() as f64, 18_100.0);
    close("seeks", tally.seeks.len() as f64, 14_500.0);
    close("queries", tally.queries as f64, 14_500.0);
    let end = tally.writes.iter().map(|(offset, len)| offset + len).max().unwrap();
    close("bytes of cues and tags", (end - before.position) as f64, 190_000.0);
}

#[test]
fn a_sweep_seeks_in_place_before_every_write() {
    let mut tally = Tally::of(Kind::Sweep, SECONDS);
    assert!(tally.seeks.iter().all(|by| *by == 0));
    let lens = |wanted: u64| tally.writes.iter().filter(|(_, len)| *len == wanted).count();
    assert_eq!((lens(2048), lens(65_536)), (64, tally.writes.len() - 64));
    close("MB/s", tally.len() as f64 / 1e6 / SECONDS, 15.0);
}

#[test]
fn a_patch_pass_is_small_and_goes_both_ways() {
    let tally = Tally::of(Kind::Patch, SECONDS);
    assert!((1_000..=10_000).contains(&tally.writes.len()), "{}", tally.writes.len());
    assert!(tally.bytes() < 50_000_000);
    assert!(tally.writes.iter().all(|(_, len)| [2048, 65_536].contains(len)));
    assert!(tally.seeks.iter().any(|by| *by < 0) && tally.seeks.iter().any(|by| *by > 100 << 20));
}

#[test]
fn an_mp4_comes_back_for_its_index() {
    let tally = Tally::of(Kind::Mp4, SECONDS);
    let reserve = 8 << 20;
    assert_eq!(tally.writes[..2], [(0, 32), (32, 8)]);
    assert_eq!(tally.writes[2].0, 32 + reserve);
    close("mean write", tally.bytes() as f64 / tally.writes.len() as f64, 4e6);
    let [size, moov, free] = tally.writes[tally.writes.len() - 3..] else { unreachable!() };
    assert_eq!(size, (32 + reserve + 8, 8));
    assert_eq!((moov.0, free.0, free.1), (32, 32 + moov.1, 8));
    assert!((1_000_000..=12_000_000).contains(&moov.1));
}

#[test]
fn a_transport_stream_is_sequential() {
    let tally = Tally::of(Kind::M2ts, SECONDS);
    assert!(tally.seeks.is_empty() && tally.queries == 0);
    let (_, body) = tally.writes.split_last().unwrap();
    assert!(body.iter().all(|(_, len)| *len > 4_000_000 && *len <= 4 << 20));
    close("MB/s", tally.bytes() as f64 / 1e6 / SECONDS, 10.0);
}

#[test]
fn the_pacer_hears_of_every_frame_and_time_goes_forward() {
    for kind in Kind::ALL {
        let (mut calls, mut last) = (0u32, 0.0);
        let trace = Trace { kind, seed: 5, content_seconds: 20.0 };
        let mut pacer = |seconds: f64| {
            assert!(seconds >= last, "{kind}");
            (calls, last) = (calls + 1, seconds);
        };
        trace.run(&mut Null::default(), &mut pacer).unwrap();
        assert!(calls >= 450, "{kind}: {calls}");
        assert!(kind == Kind::Patch || (17.0..=23.0).contains(&last), "{kind}: {last}");
    }
}

#[test]
fn names_and_rates_are_right() {
    for kind in Kind::ALL {
        assert_eq!(kind.to_string().parse(), Ok(kind));
        if kind != Kind::Patch {
            let len = Tally::of(kind, SECONDS).len() as f64;
            close(kind.name(), len / SECONDS, kind.bytes_per_second() as f64);
        }
    }
    assert!("iso".parse::<Kind>().is_err());
}

#[test]
fn lengths_that_cannot_be_are_refused() {
    for content_seconds in [-1.0, f64::NAN, f64::INFINITY, 1e9] {
        let trace = Trace { kind: Kind::Uhd, seed: 1, content_seconds };
        assert!(trace.run(&mut Null::default(), &mut |_| ()).is_err(), "{content_seconds}");
    }
}
