//! `pwritev2(RWF_DONTCACHE)` in a loop: the yardstick. Linux 6.14 and newer, ext4 and XFS.

use std::fs::File;
use std::io::{self, BufWriter, IoSlice, Seek, SeekFrom, Write};

use freemkvd_tests::sink::Sink;
use rustix::io::{ReadWriteFlags, pwritev2};

/// Bytes of one call. Longer ones gain nothing, and shorter ones cost CPU time.
const PIECE_LEN: usize = 1 << 20;

/// `RWF_DONTCACHE` of linux/fs.h, which the binding has no name for.
const DONTCACHE: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x80);

/// A file whose pages are written back and dropped as soon as they are written.
#[derive(Debug)]
pub(crate) struct Uncached {
    file: File,
    position: u64,
}

impl Uncached {
    /// Gathers what is short, so that the kernel gets whole pieces. Where the kernel or the file
    /// system can't, the first write is `Unsupported`.
    pub(crate) fn buffered(file: File) -> BufWriter<Self> {
        BufWriter::with_capacity(PIECE_LEN, Self { file, position: 0 })
    }
}

impl Write for Uncached {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = &bytes[..bytes.len().min(PIECE_LEN)];
        let written = pwritev2(&self.file, &[IoSlice::new(piece)], self.position, DONTCACHE)?;
        self.position += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Uncached {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => self.file.metadata()?.len().checked_add_signed(by),
        };
        self.position = target.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

impl Sink for Uncached {
    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn write_zeroes(&mut self, len: u64) -> io::Result<()> {
        let end = self.position + len;
        let zeroes = vec![0; PIECE_LEN.min(usize::try_from(len).unwrap_or(PIECE_LEN))];
        while self.position < end {
            let left = usize::try_from(end - self.position).unwrap_or(PIECE_LEN);
            self.write_all(&zeroes[..left.min(PIECE_LEN)])?;
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_all()
    }
}
