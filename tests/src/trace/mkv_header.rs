//! The head of a Matroska file: EBML header, open segment, seek head, info, tracks.
//!
//! Owns the places near the start that `mkv_finish` comes back to at the end of the rip, the only
//! patches of an MKV that go back further than a cluster. They all lie in the first few KiB.

use std::io::{self, Seek, SeekFrom, Write};

use super::matroska as ebml;
use super::random::Payload;
use super::schedule::{Role, Track};

/// What the finish patches; offsets in bytes from the start of the file.
#[derive(Debug)]
pub(crate) struct Header {
    pub(crate) segment: ebml::Master,
    /// The segment's first byte: positions inside the file are relative to it.
    pub(crate) segment_start: u64,
    pub(crate) cues_at: u64,
    pub(crate) tags_at: u64,
    pub(crate) duration_at: u64,
    /// `FlagForced` of each subtitle track.
    pub(crate) forced_at: Vec<u64>,
}

/// Writes everything before the first cluster.
pub(crate) fn write<W: Write + Seek>(
    out: &mut W,
    tracks: &[Track],
    payload: &mut Payload,
) -> io::Result<Header> {
    ebml_header(out)?;
    let segment = ebml::open(out, ebml::SEGMENT)?;
    let segment_start = out.stream_position()?;

    let seek_head = ebml::open(out, ebml::SEEK_HEAD)?;
    let cues_at = seek_entry(out, ebml::CUES)?;
    let tags_at = seek_entry(out, ebml::TAGS)?;
    let info_at = seek_entry(out, ebml::INFO)?;
    let tracks_at = seek_entry(out, ebml::TRACKS)?;
    ebml::close(out, seek_head)?;

    note_position(out, info_at, segment_start)?;
    let duration_at = write_info(out)?;

    note_position(out, tracks_at, segment_start)?;
    let mut forced_at = Vec::new();
    let element = ebml::open(out, ebml::TRACKS)?;
    for (number, track) in (1..).zip(tracks) {
        forced_at.extend(write_track(out, number, track, payload)?);
    }
    ebml::close(out, element)?;
    Ok(Header { segment, segment_start, cues_at, tags_at, duration_at, forced_at })
}

fn ebml_header<W: Write + Seek>(out: &mut W) -> io::Result<()> {
    let header = ebml::open(out, ebml::EBML)?;
    ebml::uint(out, 0x4286, 1)?;
    ebml::uint(out, 0x42F7, 1)?;
    ebml::uint(out, 0x42F2, 4)?;
    ebml::uint(out, 0x42F3, 8)?;
    ebml::bytes_element(out, 0x4282, b"matroska")?;
    ebml::uint(out, 0x4287, 4)?;
    ebml::uint(out, 0x4285, 2)?;
    ebml::close(out, header)
}

/// One entry of the seek head. Returns where its position goes once it is known.
fn seek_entry<W: Write + Seek>(out: &mut W, target: u32) -> io::Result<u64> {
    let entry = ebml::open(out, ebml::SEEK)?;
    let entry_at = entry.size_at + 8;
    ebml::bytes_element(out, 0x53AB, &target.to_be_bytes())?;
    ebml::uint8(out, 0x53AC, 0)?;
    ebml::close(out, entry)?;
    // Behind the id element (2 + 1 + 4 bytes), and this one's own id and size (2 + 1).
    Ok(entry_at + 10)
}

/// Enters the present position into the seek head.
fn note_position<W: Write + Seek>(out: &mut W, entry_at: u64, start: u64) -> io::Result<()> {
    let here = out.stream_position()?;
    ebml::patch(out, entry_at, here - start)?;
    out.seek(SeekFrom::Start(here))?;
    Ok(())
}

/// Returns where the duration is.
fn write_info<W: Write + Seek>(out: &mut W) -> io::Result<u64> {
    let info = ebml::open(out, ebml::INFO)?;
    ebml::uint(out, 0x2A_D7B1, 100_000)?;
    ebml::bytes_element(out, 0x4D80, b"freemkvd trace 1.0")?;
    ebml::bytes_element(out, 0x5741, b"freemkvd trace 1.0")?;
    ebml::write_id(out, 0x4489)?;
    out.write_all(&[0x88])?;
    let duration_at = out.stream_position()?;
    out.write_all(&0f64.to_be_bytes())?;
    ebml::close(out, info)?;
    Ok(duration_at)
}

/// Returns where the forced flag is, if the track has one to patch.
fn write_track<W: Write + Seek>(
    out: &mut W,
    number: u64,
    track: &Track,
    payload: &mut Payload,
) -> io::Result<Option<u64>> {
    let entry = ebml::open(out, ebml::TRACK_ENTRY)?;
    ebml::uint(out, 0xD7, number)?;
    ebml::uint8(out, 0x73C5, track_uid(number))?;
    ebml::uint(out, 0x83, [1, 2, 17][track.role as usize])?;
    // The muxer notes where the default flag is, and then leaves it as it is.
    ebml::write_id(out, 0x88)?;
    out.write_all(&[0x81])?;
    out.stream_position()?;
    out.write_all(&[1])?;
    ebml::bytes_element(out, 0x22_B59C, b"eng")?;
    ebml::bytes_element(out, 0x86, track.codec.as_bytes())?;
    if track.private_len > 0 {
        ebml::bytes_element(out, 0x63A2, payload.bytes(track.private_len))?;
    }
    let forced_at = match track.role {
        Role::Video => {
            video_settings(out)?;
            None
        }
        Role::Audio => {
            let audio = ebml::open(out, 0xE1)?;
            ebml::bytes_element(out, 0xB5, &48_000f64.to_be_bytes())?;
            ebml::uint(out, 0x9F, 6)?;
            ebml::close(out, audio)?;
            None
        }
        Role::Subtitle => Some(subtitle_settings(out)?),
    };
    ebml::close(out, entry)?;
    Ok(forced_at)
}

/// Any number does that differs between the tracks of a file.
pub(crate) fn track_uid(number: u64) -> u64 {
    number.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

fn video_settings<W: Write + Seek>(out: &mut W) -> io::Result<()> {
    let video = ebml::open(out, 0xE0)?;
    ebml::uint(out, 0xB0, 3840)?;
    ebml::uint(out, 0xBA, 2160)?;
    let colour = ebml::open(out, 0x55B0)?;
    ebml::uint(out, 0x55B1, 9)?;
    ebml::uint(out, 0x55BA, 16)?;
    ebml::uint(out, 0x55BB, 9)?;
    ebml::close(out, colour)?;
    ebml::close(out, video)
}

/// Subtitles are stored compressed, which takes three nested elements: half of all patches in the
/// header come from here.
fn subtitle_settings<W: Write + Seek>(out: &mut W) -> io::Result<u64> {
    ebml::write_id(out, 0x55AA)?;
    out.write_all(&[0x81])?;
    let forced_at = out.stream_position()?;
    out.write_all(&[0])?;
    let encodings = ebml::open(out, 0x6D80)?;
    let encoding = ebml::open(out, 0x6240)?;
    let compression = ebml::open(out, 0x5034)?;
    ebml::uint(out, 0x4254, 0)?;
    ebml::close(out, compression)?;
    ebml::close(out, encoding)?;
    ebml::close(out, encodings)?;
    Ok(forced_at)
}
