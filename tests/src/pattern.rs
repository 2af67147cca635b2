//! Content that tells where it belongs: every byte follows from a seed and its offset, so that a file
//! of any length can be checked without keeping what was written.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

/// Fills `bytes` with the content of the file `seed` from `offset` on.
pub fn fill(seed: u64, mut offset: u64, mut bytes: &mut [u8]) {
    while !bytes.is_empty() {
        let word = word(seed, offset / 8).to_le_bytes();
        let from = (offset % 8) as usize;
        let count = (8 - from).min(bytes.len());
        bytes[..count].copy_from_slice(&word[from..from + count]);
        bytes = &mut bytes[count..];
        offset += count as u64;
    }
}

/// `len` bytes of the file `seed` from `offset` on.
#[must_use]
pub fn bytes(seed: u64, offset: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fill(seed, offset, &mut bytes);
    bytes
}

/// Writes `len` bytes of the file `seed` from `offset` on to `out`, in pieces of 256 KiB.
///
/// # Errors
/// Whatever writing says.
pub fn write(out: &mut impl Write, seed: u64, offset: u64, len: u64) -> io::Result<()> {
    let mut piece = vec![0; 256 << 10];
    let mut at = offset;
    while at < offset + len {
        let left = usize::try_from(offset + len - at).unwrap_or(usize::MAX);
        let count = left.min(piece.len());
        fill(seed, at, &mut piece[..count]);
        out.write_all(&piece[..count])?;
        at += count as u64;
    }
    Ok(())
}

/// The length of the file at `path`, in bytes, if it is a prefix of the file `seed`.
///
/// # Errors
/// `InvalidData` with the first offset that differs, or whatever reading says.
pub fn prefix_len(seed: u64, path: &Path) -> io::Result<u64> {
    let mut file = File::open(path)?;
    let (mut found, mut expected) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    let mut offset = 0;
    loop {
        let count = file.read(&mut found)?;
        if count == 0 {
            return Ok(offset);
        }
        fill(seed, offset, &mut expected[..count]);
        if found[..count] != expected[..count] {
            let differs = (0..count).find(|at| found[*at] != expected[*at]);
            let at = offset + differs.unwrap_or(0) as u64;
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{} differs at offset {at}", path.display()),
            ));
        }
        offset += count as u64;
    }
}

/// Mixes two numbers so that neighbouring offsets have nothing in common.
fn word(seed: u64, index: u64) -> u64 {
    let mut z = (seed ^ index.rotate_left(17)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ index ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_make_up_the_whole_and_a_changed_byte_is_found() {
        let whole = bytes(7, 0, 1000);
        assert_eq!(bytes(7, 333, 100), whole[333..433]);
        assert_ne!(bytes(8, 0, 1000), whole);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &whole).unwrap();
        assert_eq!(prefix_len(7, file.path()).unwrap(), 1000);
        let mut wrong = whole;
        wrong[500] ^= 1;
        std::fs::write(file.path(), &wrong).unwrap();
        let error = prefix_len(7, file.path()).unwrap_err();
        assert!(error.to_string().ends_with("at offset 500"), "{error}");
    }
}
