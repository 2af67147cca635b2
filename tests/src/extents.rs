//! How many pieces a file lies in on its disk, as `filefrag` tells.

use std::path::Path;
use std::process::{Command, Stdio};

/// Mean length in MiB of the fragments of the files; `None` where nobody tells.
#[must_use]
pub fn mean_fragment_mib<'a>(files: impl IntoIterator<Item = &'a Path>) -> Option<f64> {
    let (mut bytes, mut fragments) = (0, 0);
    for file in files {
        let output =
            Command::new("filefrag").arg("-v").arg(file).stdin(Stdio::null()).output().ok()?;
        let (more_bytes, more) = parse(&String::from_utf8_lossy(&output.stdout))?;
        bytes += more_bytes;
        fragments += more;
    }
    (fragments > 0).then(|| bytes as f64 / 1_048_576.0 / fragments as f64)
}

/// Bytes and fragments. Extents that lie behind each other are one fragment; the kernel cuts them
/// where its own structures end. Space that was reserved and not written does not count.
fn parse(text: &str) -> Option<(u64, u64)> {
    let block_bytes: u64 = {
        let (_, rest) = text.split_once("blocks of ")?;
        rest.split_whitespace().next()?.parse().ok()?
    };
    let (mut blocks, mut fragments, mut expected) = (0, 0, None);
    for line in text.lines() {
        //   0:        0..   32767:      34816..     67583:  32768:             last,eof
        let mut columns = line.split(':').map(str::trim);
        let is_extent = columns.next().is_some_and(|column| column.parse::<u64>().is_ok());
        let (Some(_), Some(physical), Some(length)) =
            (columns.next(), columns.next(), columns.next())
        else {
            continue;
        };
        if !is_extent || line.contains("unwritten") {
            continue;
        }
        let start = physical.split("..").next()?.trim().parse::<u64>().ok()?;
        let length = length.parse::<u64>().ok()?;
        blocks += length;
        fragments += u64::from(expected != Some(start));
        expected = Some(start + length);
    }
    (fragments > 0).then_some((blocks * block_bytes, fragments))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_one_fragment() {
        let text = "\
Filesystem type is: ef53
File size of film.mkv is 402653184 (98304 blocks of 4096 bytes)
 ext:     logical_offset:        physical_offset: length:   expected: flags:
   0:        0..   32767:      34816..     67583:  32768:
   1:    32768..   65535:      67584..    100351:  32768:
   2:    65536..   98303:     133120..    165887:  32768:     100352: last,eof
   3:    98304..   98559:     165888..    166143:    256:             last,unwritten,eof
film.mkv: 2 extents found
";
        assert_eq!(parse(text), Some((98304 * 4096, 2)));
        assert_eq!(parse("film.mkv: FIBMAP unsupported\n"), None);
    }
}
