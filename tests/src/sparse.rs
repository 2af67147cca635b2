//! A file in memory that stores no zeros.
//!
//! Owns the plain model that files are compared with. It keeps chunks of 1 MiB; a chunk that is not
//! there reads as zeros, so a 100 GB image costs what was written into it and no more.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom, Write};

use crate::sink::{Sink, seek_target};

/// Length of a chunk, in bytes.
pub const CHUNK_LEN: u64 = 1 << 20;
const CHUNK: usize = 1 << 20;

/// The bytes of a file, as far as they are not zero.
#[derive(Debug, Default)]
pub struct Sparse {
    chunks: BTreeMap<u64, Box<[u8]>>,
    len: u64,
    position: u64,
}

impl Sparse {
    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes of chunk `index`, up to a whole chunk also at the end of the file; `None` is zeros.
    pub fn chunk(&self, index: u64) -> Option<&[u8]> {
        self.chunks.get(&index).map(|chunk| &chunk[..])
    }

    /// Indices of the stored chunks in `from..end`, in order.
    pub(crate) fn stored(&self, from: u64, end: u64) -> impl Iterator<Item = u64> {
        self.chunks.range(from..end.max(from)).map(|(index, _)| *index)
    }

    /// Drops chunk `index`; it reads as zeros from now on.
    pub(crate) fn forget(&mut self, index: u64) {
        self.chunks.remove(&index);
    }

    /// Puts a whole chunk in place of what was there.
    pub(crate) fn put(&mut self, index: u64, chunk: Box<[u8]>) {
        assert_eq!(chunk.len(), CHUNK, "a chunk is stored whole");
        self.chunks.insert(index, chunk);
    }

    /// Bytes of memory that the chunks take.
    pub fn stored_bytes(&self) -> u64 {
        self.chunks.len() as u64 * CHUNK_LEN
    }

    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The chunk and the place in it that `offset` is at.
    fn locate(offset: u64) -> (u64, usize) {
        let within = usize::try_from(offset % CHUNK_LEN).expect("a chunk fits in memory");
        (offset / CHUNK_LEN, within)
    }

    fn store(&mut self, offset: u64, bytes: &[u8]) {
        let (index, start) = Self::locate(offset);
        let zeros = || vec![0; CHUNK].into_boxed_slice();
        let chunk = match self.chunks.get_mut(&index) {
            Some(chunk) => chunk,
            None if bytes.iter().all(|byte| *byte == 0) => return,
            None => self.chunks.entry(index).or_insert_with(zeros),
        };
        chunk[start..start + bytes.len()].copy_from_slice(bytes);
    }

    fn advance(&mut self, len: u64) {
        // A write of nothing beyond the end does not lengthen a file.
        if len > 0 {
            self.position += len;
            self.len = self.len.max(self.position);
        }
    }
}

impl Write for Sparse {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (_, start) = Self::locate(self.position);
            let (now, later) = rest.split_at(rest.len().min(CHUNK - start));
            self.store(self.position, now);
            self.advance(now.len() as u64);
            rest = later;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Sparse {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let (index, start) = Self::locate(self.position);
        let left = usize::try_from(self.len.saturating_sub(self.position)).unwrap_or(usize::MAX);
        let len = into.len().min(left).min(CHUNK - start);
        match self.chunks.get(&index) {
            Some(chunk) => into[..len].copy_from_slice(&chunk[start..start + len]),
            None => into[..len].fill(0),
        }
        self.position += len as u64;
        Ok(len)
    }
}

impl Seek for Sparse {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.position = seek_target(to, self.position, self.len)?;
        Ok(self.position)
    }
}

impl Sink for Sparse {
    fn set_len(&mut self, len: u64) -> io::Result<()> {
        if len < self.len {
            let (index, start) = Self::locate(len);
            drop(self.chunks.split_off(&(index + u64::from(start > 0))));
            // What is cut off must be gone when the file grows again.
            if start > 0 {
                if let Some(last) = self.chunks.get_mut(&index) {
                    last[start..].fill(0);
                }
            }
        }
        self.len = len;
        Ok(())
    }

    fn write_zeroes(&mut self, len: u64) -> io::Result<()> {
        let end = self.position + len;
        let mut offset = self.position;
        while offset < end {
            let (index, start) = Self::locate(offset);
            let part = (end - offset).min(CHUNK_LEN - start as u64);
            if part == CHUNK_LEN {
                self.chunks.remove(&index);
            } else if let Some(chunk) = self.chunks.get_mut(&index) {
                let part = usize::try_from(part).expect("less than a chunk");
                chunk[start..start + part].fill(0);
            }
            offset += part;
        }
        self.advance(len);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_not_stored() {
        let mut file = Sparse::default();
        file.set_len(1 << 40).unwrap();
        file.write_all(&[0; 3 * CHUNK]).unwrap();
        file.write_zeroes(1 << 39).unwrap();
        assert_eq!((file.stored_bytes(), file.len()), (0, 1 << 40));
    }

    #[test]
    fn what_was_cut_off_comes_back_as_zeros() {
        let mut file = Sparse::default();
        file.write_all(&[7; 2 * CHUNK]).unwrap();
        file.set_len(CHUNK_LEN + 10).unwrap();
        file.set_len(2 * CHUNK_LEN).unwrap();
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(CHUNK_LEN)).unwrap();
        file.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes[..12], [7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 0, 0]);
        assert!(bytes.len() == CHUNK && bytes[10..].iter().all(|byte| *byte == 0));
    }
}
