//! The tail of a Matroska file: cues, tags, and the far patches.
//!
//! Owns the worst moment of the trace for whoever forwards calls one by one: after two hours, 18 000
//! writes and 14 500 seeks within the last 200 KB, then a handful of patches at the distance of the
//! whole file.

use std::io::{self, Seek, SeekFrom, Write};

use super::matroska as ebml;
use super::mkv_header::{Header, track_uid};
use super::random::Random;
use super::schedule::{SECOND_NS, Track};

/// Where a cluster is, for the index.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cue {
    /// Offset of the cluster from the segment's first byte.
    pub(crate) cluster: u64,
    pub(crate) at_ns: u64,
}

/// Writes cues and tags, then patches the head of the file.
pub(crate) fn write<W: Write + Seek>(
    out: &mut W,
    header: &Header,
    cues: &[Cue],
    tracks: &[Track],
    end_ns: u64,
    random: &mut Random,
) -> io::Result<()> {
    let cues_at = out.stream_position()?;
    let index = ebml::open(out, ebml::CUES)?;
    for cue in cues {
        write_cue(out, cue)?;
    }
    ebml::close(out, index)?;

    let tags_at = out.stream_position()?;
    let tags = ebml::open(out, ebml::TAGS)?;
    for (number, _) in (1..).zip(tracks) {
        write_tag(out, number)?;
    }
    ebml::close(out, tags)?;

    let end = out.stream_position()?;
    let start = header.segment_start;
    ebml::patch(out, header.segment.size_at, ebml::size_field(end - start))?;
    ebml::patch(out, header.cues_at, cues_at - start)?;
    ebml::patch(out, header.tags_at, tags_at - start)?;
    let ticks = (end_ns / (SECOND_NS / 10_000)) as f64;
    ebml::patch(out, header.duration_at, ticks.to_bits())?;
    for forced_at in &header.forced_at {
        // Which subtitles are forced is known only once all of them were seen.
        if random.one_in(4) {
            out.seek(SeekFrom::Start(*forced_at))?;
            out.write_all(&[1])?;
        }
    }
    out.seek(SeekFrom::End(0))?;
    out.flush()
}

fn write_cue<W: Write + Seek>(out: &mut W, cue: &Cue) -> io::Result<()> {
    let point = ebml::open(out, ebml::CUE_POINT)?;
    ebml::uint(out, 0xB3, cue.at_ns / (SECOND_NS / 10_000))?;
    let positions = ebml::open(out, ebml::CUE_TRACK_POSITIONS)?;
    ebml::uint(out, 0xF7, 1)?;
    ebml::uint8(out, 0xF1, cue.cluster)?;
    ebml::uint(out, 0xF0, 15)?;
    ebml::uint(out, 0xB2, 417)?;
    ebml::uint(out, 0x5378, 1)?;
    ebml::close(out, positions)?;
    ebml::close(out, point)
}

fn write_tag<W: Write + Seek>(out: &mut W, number: u64) -> io::Result<()> {
    let tag = ebml::open(out, ebml::TAG)?;
    let targets = ebml::open(out, ebml::TARGETS)?;
    ebml::uint8(out, 0x63C5, track_uid(number))?;
    ebml::close(out, targets)?;
    let simple = ebml::open(out, ebml::SIMPLE_TAG)?;
    ebml::bytes_element(out, 0x45A3, b"NUMBER_OF_BYTES")?;
    ebml::bytes_element(out, 0x4487, b"63000000000")?;
    ebml::close(out, simple)?;
    ebml::close(out, tag)
}
