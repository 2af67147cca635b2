//! What a trace writes to.
//!
//! Owns the `Sink` trait and its implementations for the standard types, which are the yardstick:
//! whatever the client library does must leave the bytes that these leave. Nothing in here may be
//! cleverer than the plain system call, or the yardstick is bent.

use std::fs::File;
use std::io::{self, BufWriter, Cursor, Seek, SeekFrom, Write};

/// Length of the buffer that zeros are written from, in bytes. It is the block in which a sweep
/// fills a gap today.
const ZEROES_LEN: usize = 64 * 1024;
static ZEROES: [u8; ZEROES_LEN] = [0; ZEROES_LEN];

/// What a trace needs of its sink beyond `Write + Seek`.
pub trait Sink: Write + Seek {
    /// Sets the length of the file in bytes. The position stays where it is.
    fn set_len(&mut self, len: u64) -> io::Result<()>;

    /// Writes `len` zero bytes at the position and moves it behind them.
    fn write_zeroes(&mut self, len: u64) -> io::Result<()>;

    /// Makes everything written so far durable, where the sink can.
    fn sync(&mut self) -> io::Result<()> {
        self.flush()
    }
}

impl Sink for File {
    fn set_len(&mut self, len: u64) -> io::Result<()> {
        File::set_len(self, len)
    }

    fn write_zeroes(&mut self, len: u64) -> io::Result<()> {
        zeroes_by_writing(self, len)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}

impl Sink for freemkvd_client::RipFile {
    fn set_len(&mut self, len: u64) -> io::Result<()> {
        freemkvd_client::RipFile::set_len(self, len)
    }

    fn write_zeroes(&mut self, len: u64) -> io::Result<()> {
        freemkvd_client::RipFile::write_zeroes(self, len)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}

impl<W: Sink> Sink for BufWriter<W> {
    fn set_len(&mut self, len: u64) -> io::Result<()> {
        // What is buffered was written before the length changed, so it has to arrive before.
        self.flush()?;
        self.get_mut().set_len(len)
    }

    fn write_zeroes(&mut self, len: u64) -> io::Result<()> {
        self.flush()?;
        self.get_mut().write_zeroes(len)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.flush()?;
        self.get_mut().sync()
    }
}

/// Differs from a file in one place: std pads a cursor up to the position even when the write that
/// follows is empty.
impl Sink for Cursor<Vec<u8>> {
    fn set_len(&mut self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge)?;
        self.get_mut().resize(len, 0);
        Ok(())
    }

    fn write_zeroes(&mut self, len: u64) -> io::Result<()> {
        zeroes_by_writing(self, len)
    }
}

impl<S: Sink + ?Sized> Sink for &mut S {
    fn set_len(&mut self, len: u64) -> io::Result<()> {
        (**self).set_len(len)
    }

    fn write_zeroes(&mut self, len: u64) -> io::Result<()> {
        (**self).write_zeroes(len)
    }

    fn sync(&mut self) -> io::Result<()> {
        (**self).sync()
    }
}

impl<S: Sink + ?Sized> Sink for Box<S> {
    fn set_len(&mut self, len: u64) -> io::Result<()> {
        (**self).set_len(len)
    }

    fn write_zeroes(&mut self, len: u64) -> io::Result<()> {
        (**self).write_zeroes(len)
    }

    fn sync(&mut self) -> io::Result<()> {
        (**self).sync()
    }
}

fn zeroes_by_writing(out: &mut impl Write, mut len: u64) -> io::Result<()> {
    while len > 0 {
        let part = usize::try_from(len).unwrap_or(ZEROES_LEN).min(ZEROES_LEN);
        out.write_all(&ZEROES[..part])?;
        len -= part as u64;
    }
    Ok(())
}

/// A sink that keeps a length and a position and drops the bytes: it costs nothing, so that what is
/// left is the cost, or the count, of the trace itself.
#[derive(Debug, Default)]
pub struct Null {
    len: u64,
    position: u64,
}

impl Write for Null {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_zeroes(bytes.len() as u64)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Null {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.position = seek_target(to, self.position, self.len)?;
        Ok(self.position)
    }
}

impl Sink for Null {
    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.len = len;
        Ok(())
    }

    fn write_zeroes(&mut self, len: u64) -> io::Result<()> {
        if len > 0 {
            self.position += len;
            self.len = self.len.max(self.position);
        }
        Ok(())
    }
}

/// Where a seek leads, by the rules of a file: beyond the end is fine, before the start is not.
pub(crate) fn seek_target(to: SeekFrom, position: u64, len: u64) -> io::Result<u64> {
    let target = match to {
        SeekFrom::Start(offset) => Some(offset),
        SeekFrom::Current(by) => position.checked_add_signed(by),
        SeekFrom::End(by) => len.checked_add_signed(by),
    };
    target.ok_or_else(|| io::ErrorKind::InvalidInput.into())
}
