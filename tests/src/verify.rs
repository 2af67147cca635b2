//! Whether a file is what its trace should have left.
//!
//! Owns the comparison: it replays the trace on a model and compares byte by byte. The model would
//! need as much memory as the file; but a chunk that the trace has left behind and that equals the
//! file need not be kept, because the file itself keeps it. If a late patch reaches such a chunk it is
//! read back first. So memory is bounded by what the trace may still patch at any moment.
//!
//! The file must not change while it is compared.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use crate::sink::Sink;
use crate::sparse::{CHUNK_LEN, Sparse};
use crate::trace::Trace;

/// Chunks that are compared only at the end, because the trace may come back to them: 64 MiB, more
/// than the longest cluster. A smaller number costs time, not correctness.
const YOUNG_CHUNKS: u64 = 64;

/// How a file is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The first byte that differs. A file that is too short or too long differs at the shorter end.
    #[error("differs at offset {offset} (length {len}, expected {expected_len})")]
    Differs {
        /// In bytes from the start.
        offset: u64,
        /// Length of the file in bytes.
        len: u64,
        /// Length that the trace gives, in bytes.
        expected_len: u64,
    },
    /// The file could not be read.
    #[error("cannot compare")]
    Io(#[from] io::Error),
}

/// Compares the file at `path` with what `trace` writes, after its prerequisite if it has one.
/// Returns the number of bytes compared: the length of the file.
pub fn verify(trace: &Trace, path: &Path) -> Result<u64, VerifyError> {
    let mut comparison = Comparison::new(File::open(path)?)?;
    if let Some(before) = trace.prerequisite() {
        before.run(&mut comparison, &mut |_| ())?;
        comparison.seek(SeekFrom::Start(0))?;
    }
    trace.run(&mut comparison, &mut |_| ())?;
    comparison.finish()
}

/// A model of the file beside the file.
struct Comparison {
    model: Sparse,
    file: File,
    file_len: u64,
    /// Chunks that equal the file and are no longer in the model.
    settled: BTreeSet<u64>,
    /// Chunks below this index had their chance to settle.
    looked_at: u64,
    /// The chunk of the file that was read last.
    from_file: Box<[u8]>,
}

impl Comparison {
    fn new(mut file: File) -> io::Result<Self> {
        let file_len = file.seek(SeekFrom::End(0))?;
        let chunk_len = usize::try_from(CHUNK_LEN).expect("a chunk fits in memory");
        Ok(Self {
            model: Sparse::default(),
            file,
            file_len,
            settled: BTreeSet::new(),
            looked_at: 0,
            from_file: vec![0; chunk_len].into_boxed_slice(),
        })
    }

    /// Reads chunk `index` of the file, with zeros behind its end.
    fn read_chunk(&mut self, index: u64) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(index * CHUNK_LEN))?;
        let mut filled = 0;
        while filled < self.from_file.len() {
            match self.file.read(&mut self.from_file[filled..])? {
                0 => break,
                read => filled += read,
            }
        }
        self.from_file[filled..].fill(0);
        Ok(())
    }

    /// Brings back what is about to change.
    fn unsettle(&mut self, offset: u64, len: u64) -> io::Result<()> {
        if len == 0 || self.settled.is_empty() {
            return Ok(());
        }
        for index in offset / CHUNK_LEN..=(offset + len - 1) / CHUNK_LEN {
            if self.settled.remove(&index) {
                self.read_chunk(index)?;
                self.model.put(index, self.from_file.clone());
            }
        }
        Ok(())
    }

    /// Lets go of the chunks that the trace has left behind and that are right already.
    fn settle(&mut self) -> io::Result<()> {
        let end = (self.model.position() / CHUNK_LEN).saturating_sub(YOUNG_CHUNKS);
        if end <= self.looked_at {
            return Ok(());
        }
        let stored: Vec<u64> = self.model.stored(self.looked_at, end).collect();
        self.looked_at = end;
        for index in stored {
            self.read_chunk(index)?;
            if self.model.chunk(index) == Some(&self.from_file[..]) {
                self.model.forget(index);
                self.settled.insert(index);
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<u64, VerifyError> {
        let expected_len = self.model.len();
        let shorter = self.file_len.min(expected_len);
        let len = self.file_len;
        let differs = |offset| VerifyError::Differs { offset, len, expected_len };
        for index in 0..shorter.div_ceil(CHUNK_LEN) {
            if self.settled.contains(&index) {
                continue;
            }
            self.read_chunk(index)?;
            let found = first_difference(self.model.chunk(index), &self.from_file);
            let offset = found.map(|within| index * CHUNK_LEN + within as u64);
            // Beyond the shorter end the bytes differ because the lengths do.
            if let Some(offset) = offset.filter(|offset| *offset < shorter) {
                return Err(differs(offset));
            }
        }
        if self.file_len != expected_len {
            return Err(differs(shorter));
        }
        Ok(self.file_len)
    }
}

/// Where two chunks of the same length differ first; a chunk that is not there is zeros.
fn first_difference(expected: Option<&[u8]>, found: &[u8]) -> Option<usize> {
    match expected {
        // Comparing whole slices first is what makes this fast: it is a memcmp.
        Some(expected) if expected == found => None,
        Some(expected) => expected.iter().zip(found).position(|(a, b)| a != b),
        None => found.iter().position(|byte| *byte != 0),
    }
}

impl Write for Comparison {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.unsettle(self.model.position(), bytes.len() as u64)?;
        let written = self.model.write(bytes)?;
        self.settle()?;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Comparison {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.model.seek(to)
    }
}

impl Sink for Comparison {
    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.unsettle(len, 1)?;
        drop(self.settled.split_off(&len.div_ceil(CHUNK_LEN)));
        self.model.set_len(len)
    }

    fn write_zeroes(&mut self, len: u64) -> io::Result<()> {
        self.unsettle(self.model.position(), len)?;
        self.model.write_zeroes(len)
    }
}

#[cfg(test)]
mod tests;
