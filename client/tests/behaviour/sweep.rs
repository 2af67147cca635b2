//! The example that keeps a map: it goes on after a crash, and the map is never ahead of the file.

use std::fs;
use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::time::Duration;

use freemkvd_client::RipFile;

use crate::{MIB, pattern};

#[path = "../../examples/sweep.rs"]
#[expect(dead_code, reason = "its main is not called here")]
mod example;

/// A disc that can't be read in one place, and that is pulled out at another, once there is a map.
struct Disc {
    content: Cursor<Vec<u8>>,
    is_bad: std::ops::Range<u64>,
    ends_at: u64,
    map: PathBuf,
}

impl Read for Disc {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let at = self.content.position();
        if at >= self.ends_at {
            assert!(!self.map.exists(), "pulled out, as the test wants it");
            std::thread::sleep(Duration::from_millis(5));
        }
        if self.is_bad.contains(&at) {
            return Err(io::ErrorKind::Other.into());
        }
        self.content.read(bytes)
    }
}

impl Seek for Disc {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.content.seek(to)
    }
}

fn place(offset: u64) -> usize {
    usize::try_from(offset).unwrap()
}

#[test]
fn a_sweep_goes_on_with_what_its_map_does_not_have() {
    let dir = tempfile::tempdir().unwrap();
    let (iso, map) = (dir.path().join("disc.iso"), dir.path().join("disc.map"));
    let options = RipFile::options().socket(crate::nobody()).fallback_to_local(true);
    let content = pattern(90 * MIB + 5000, 1);
    let len = content.len() as u64;
    let disc = |is_bad, ends_at| Disc {
        content: Cursor::new(content.clone()),
        is_bad,
        ends_at,
        map: map.clone(),
    };
    let bad = 138 << 16..139 << 16;

    // It panics in the middle of a read.
    let mut pulled = disc(bad.clone(), 40 << 20);
    let (file, to) = (iso.clone(), map.clone());
    let with = options.clone();
    let swept = std::thread::spawn(move || example::sweep(&with, &mut pulled, &file, &to));
    assert!(swept.join().is_err());
    let durable = example::load(&map).unwrap();
    assert!(durable.iter().map(|range| range.end - range.start).sum::<u64>() > 20 << 20);
    let there = fs::read(&iso).unwrap();
    let places = durable.iter().map(|range| place(range.start)..place(range.end));
    for range in places.clone() {
        assert!(there[range.clone()] == content[range], "the map is ahead of the file");
    }

    // Whatever the map does not have may be lost.
    let mut lost = vec![0xEE; there.len()];
    for range in places {
        lost[range.clone()].copy_from_slice(&there[range]);
    }
    fs::write(&iso, &lost).unwrap();
    assert_eq!(example::sweep(&options, &mut disc(bad, len), &iso, &map).unwrap(), 64 << 10);
    assert_eq!(example::sweep(&options, &mut disc(0..0, len), &iso, &map).unwrap(), 0);
    assert!(fs::read(&iso).unwrap() == content);
    assert_eq!(example::load(&map).unwrap(), [0..len]);
}
