//! The Matroska muxer of T1, T2 and T3: clusters and blocks between a header and a finish.
//!
//! Owns the cluster in progress. A block with a duration is a group whose size is patched at once
//! (back a few KB); a cluster's size is patched when the next one opens (back 1.5 to 32 MiB).

use std::io::{self, Seek, Write};

use super::matroska as ebml;
use super::mkv_finish::{self, Cue};
use super::mkv_header;
use super::random::{Payload, Random};
use super::schedule::{Frame, SECOND_NS, Schedule, Track, Wrap};

/// One tick of a block's timestamp: 0.1 ms.
const TICK_NS: u64 = SECOND_NS / 10_000;
/// A video keyframe opens a new cluster when the present one is at least this old.
const CLUSTER_NS_MIN: u64 = 2 * SECOND_NS;
/// Block timestamps are 16-bit and relative to their cluster: this ends it on any frame.
const CLUSTER_TICKS_MAX: u64 = 32_700;

struct Cluster {
    element: ebml::Master,
    at_ns: u64,
}

/// Muxes `tracks` for `end_ns` of content.
pub(crate) fn run<W: Write + Seek>(
    tracks: &[Track],
    seed: u64,
    end_ns: u64,
    out: &mut W,
    pacer: &mut dyn FnMut(f64),
) -> io::Result<()> {
    let mut payload = Payload::new(seed);
    let mut cues = Vec::new();
    let mut cluster: Option<Cluster> = None;
    let header = mkv_header::write(out, tracks, &mut payload)?;

    for frame in Schedule::new(tracks, seed, end_ns) {
        if frame.track == 0 {
            pacer(frame.at_ns as f64 / SECOND_NS as f64);
        }
        let present = match cluster.take() {
            Some(cluster) if !is_over(&cluster, &frame) => cluster,
            old => {
                if let Some(old) = old {
                    ebml::close(out, old.element)?;
                }
                let (new, cue) = open_cluster(out, frame.at_ns, header.segment_start)?;
                cues.push(cue);
                new
            }
        };
        let track = &tracks[frame.track];
        write_frame(out, &frame, track.wrap, present.at_ns, payload.bytes(frame.len))?;
        cluster = Some(present);
    }
    if let Some(last) = cluster {
        ebml::close(out, last.element)?;
    }
    mkv_finish::write(out, &header, &cues, tracks, end_ns, &mut Random::new(seed))
}

fn is_over(cluster: &Cluster, frame: &Frame) -> bool {
    let age_ns = frame.at_ns - cluster.at_ns;
    let keyframe = frame.track == 0 && frame.key;
    (keyframe && age_ns >= CLUSTER_NS_MIN) || age_ns / TICK_NS > CLUSTER_TICKS_MAX
}

fn open_cluster<W: Write + Seek>(
    out: &mut W,
    at_ns: u64,
    segment_start: u64,
) -> io::Result<(Cluster, Cue)> {
    let offset = out.stream_position()?;
    let element = ebml::open(out, ebml::CLUSTER)?;
    ebml::uint(out, ebml::TIMESTAMP, at_ns / TICK_NS)?;
    Ok((Cluster { element, at_ns }, Cue { cluster: offset - segment_start, at_ns }))
}

fn write_frame<W: Write + Seek>(
    out: &mut W,
    frame: &Frame,
    wrap: Wrap,
    cluster_ns: u64,
    data: &[u8],
) -> io::Result<()> {
    let number = u8::try_from(frame.track + 1).expect("a disc has fewer than 127 tracks");
    let ticks = i16::try_from((frame.at_ns - cluster_ns) / TICK_NS)
        .expect("a cluster ends before its timestamps overflow");
    match wrap {
        Wrap::Simple => {
            let flags = if frame.key { 0x80 } else { 0 };
            ebml::block(out, ebml::SIMPLE_BLOCK, number, ticks, flags, data)
        }
        Wrap::Group { duration } => {
            let group = ebml::open(out, ebml::BLOCK_GROUP)?;
            ebml::block(out, ebml::BLOCK, number, ticks, 0, data)?;
            ebml::uint(out, ebml::BLOCK_DURATION, duration)?;
            ebml::close(out, group)
        }
    }
}
