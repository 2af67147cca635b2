//! The Matroska elements, one call per field.
//!
//! Owns how an element becomes calls: muxers write an id, a size and a value as three writes, and
//! learn the size of a master element only at its end, so they note where the size goes, write eight
//! bytes of "unknown", and come back. Nothing here may merge calls: the calls are the point.

use std::io::{self, Seek, SeekFrom, Write};

pub(crate) const EBML: u32 = 0x1A45_DFA3;
pub(crate) const SEGMENT: u32 = 0x1853_8067;
pub(crate) const SEEK_HEAD: u32 = 0x114D_9B74;
pub(crate) const SEEK: u32 = 0x4DBB;
pub(crate) const INFO: u32 = 0x1549_A966;
pub(crate) const TRACKS: u32 = 0x1654_AE6B;
pub(crate) const TRACK_ENTRY: u32 = 0xAE;
pub(crate) const CLUSTER: u32 = 0x1F43_B675;
pub(crate) const TIMESTAMP: u32 = 0xE7;
pub(crate) const SIMPLE_BLOCK: u32 = 0xA3;
pub(crate) const BLOCK_GROUP: u32 = 0xA0;
pub(crate) const BLOCK: u32 = 0xA1;
pub(crate) const BLOCK_DURATION: u32 = 0x9B;
pub(crate) const CUES: u32 = 0x1C53_BB6B;
pub(crate) const CUE_POINT: u32 = 0xBB;
pub(crate) const CUE_TRACK_POSITIONS: u32 = 0xB7;
pub(crate) const TAGS: u32 = 0x1254_C367;
pub(crate) const TAG: u32 = 0x7373;
pub(crate) const TARGETS: u32 = 0x63C0;
pub(crate) const SIMPLE_TAG: u32 = 0x67C8;

/// Size field of a master element that is still open: eight bytes, "unknown".
const UNKNOWN_SIZE: u64 = 0x01FF_FFFF_FFFF_FFFF;

/// An open master element: where its size field is, in bytes from the start of the file.
#[derive(Debug)]
#[must_use = "an element that is not closed keeps an unknown size"]
pub(crate) struct Master {
    pub(crate) size_at: u64,
}

/// Opens a master element: W(id) P W8.
pub(crate) fn open<W: Write + Seek>(out: &mut W, id: u32) -> io::Result<Master> {
    write_id(out, id)?;
    let size_at = out.stream_position()?;
    out.write_all(&UNKNOWN_SIZE.to_be_bytes())?;
    Ok(Master { size_at })
}

/// Closes a master element: P S(back) W8 S(forth).
#[expect(clippy::needless_pass_by_value, reason = "a closed element must not be closed again")]
pub(crate) fn close<W: Write + Seek>(out: &mut W, master: Master) -> io::Result<()> {
    let end = out.stream_position()?;
    patch(out, master.size_at, size_field(end - master.size_at - 8))?;
    out.seek(SeekFrom::Start(end))?;
    Ok(())
}

/// Overwrites eight bytes at `offset` and stays behind them: S W8.
pub(crate) fn patch<W: Write + Seek>(out: &mut W, offset: u64, value: u64) -> io::Result<()> {
    out.seek(SeekFrom::Start(offset))?;
    out.write_all(&value.to_be_bytes())
}

/// A size as an eight-byte field.
pub(crate) fn size_field(size: u64) -> u64 {
    debug_assert!(size < 1 << 56, "a size field has 56 bits");
    size | 1 << 56
}

/// An unsigned element in as few bytes as it needs: W(id) W1 W1-8.
pub(crate) fn uint<W: Write>(out: &mut W, id: u32, value: u64) -> io::Result<()> {
    let bytes = value.to_be_bytes();
    let used = 8 - (value.leading_zeros() / 8).min(7) as usize;
    bytes_element(out, id, &bytes[8 - used..])
}

/// An unsigned element of eight bytes, so that it can be patched: W(id) W1 W8.
pub(crate) fn uint8<W: Write>(out: &mut W, id: u32, value: u64) -> io::Result<()> {
    bytes_element(out, id, &value.to_be_bytes())
}

/// A text or binary element: W(id) W1-4 W(bytes).
pub(crate) fn bytes_element<W: Write>(out: &mut W, id: u32, bytes: &[u8]) -> io::Result<()> {
    write_id(out, id)?;
    write_size(out, bytes.len() as u64)?;
    out.write_all(bytes)
}

/// A `SimpleBlock` or the `Block` in a group: W1 W1-4 W1 W2 W1 W(data).
pub(crate) fn block<W: Write>(
    out: &mut W,
    id: u32,
    track: u8,
    ticks: i16,
    flags: u8,
    data: &[u8],
) -> io::Result<()> {
    write_id(out, id)?;
    write_size(out, data.len() as u64 + 4)?;
    out.write_all(&[0x80 | track])?;
    out.write_all(&ticks.to_be_bytes())?;
    out.write_all(&[flags])?;
    out.write_all(data)
}

/// An id carries its own length: its leading zero bytes are not part of it.
pub(crate) fn write_id<W: Write>(out: &mut W, id: u32) -> io::Result<()> {
    let skip = (id.leading_zeros() / 8) as usize;
    out.write_all(&id.to_be_bytes()[skip..])
}

/// A size in as few bytes as it needs, up to eight. All ones means "unknown", so the largest value of
/// each width goes to the next.
fn write_size<W: Write>(out: &mut W, size: u64) -> io::Result<()> {
    let mut width = 1;
    while width < 8 && size >= (1 << (7 * width)) - 1 {
        width += 1;
    }
    let bytes = (size | 1 << (7 * width)).to_be_bytes();
    out.write_all(&bytes[8 - width..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn sized(size: u64) -> Vec<u8> {
        let mut out = Vec::new();
        write_size(&mut out, size).unwrap();
        out
    }

    #[test]
    fn sizes_take_as_few_bytes_as_they_can() {
        assert_eq!(sized(0), [0x80]);
        assert_eq!(sized(126), [0xFE]);
        assert_eq!(sized(127), [0x40, 0x7F]);
        assert_eq!(sized(16_382), [0x7F, 0xFE]);
        assert_eq!(sized(16_383), [0x20, 0x3F, 0xFF]);
        assert_eq!(sized(2_097_151), [0x10, 0x1F, 0xFF, 0xFF]);
    }

    #[test]
    fn values_take_as_few_bytes_as_they_can() {
        for (value, len) in [(0, 1), (255, 1), (256, 2), (1 << 24, 4), (u64::MAX, 8)] {
            let mut out = Vec::new();
            uint(&mut out, TIMESTAMP, value).unwrap();
            assert_eq!(out.len(), 2 + len, "{value}");
            assert_eq!(out[..2], [0xE7, 0x80 | u8::try_from(len).unwrap()]);
        }
    }

    #[test]
    fn a_master_learns_its_size_when_it_is_closed() {
        let mut out = Cursor::new(Vec::new());
        let master = open(&mut out, CUES).unwrap();
        uint(&mut out, TIMESTAMP, 7).unwrap();
        close(&mut out, master).unwrap();
        let expected = [0x1C, 0x53, 0xBB, 0x6B, 1, 0, 0, 0, 0, 0, 0, 3, 0xE7, 0x81, 7];
        assert_eq!(out.get_ref()[..], expected);
        assert_eq!(out.position(), 15);
    }
}
