//! What the generator promises, and that the standard sinks agree.

use super::*;
use crate::sparse::Sparse;
use std::fs;
use std::io::{BufWriter, Read, Seek, Write};

fn limits() -> Limits {
    Limits { ops: 120, len: 24 << 20, written: 32 << 20 }
}

fn bytes_of(mut model: Sparse) -> Vec<u8> {
    let mut bytes = Vec::new();
    model.seek(SeekFrom::Start(0)).unwrap();
    model.read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn the_model_and_a_buffer_leave_what_a_file_leaves() {
    let dir = tempfile::tempdir().unwrap();
    for seed in 0..24 {
        let ops = sequence(seed, limits());
        let mut model = Sparse::default();
        apply(&ops, &mut model).unwrap();
        let path = dir.path().join("file");
        let mut file = fs::File::create(&path).unwrap();
        apply(&ops, &mut file).unwrap();
        let expected = fs::read(&path).unwrap();
        assert!(bytes_of(model) == expected, "the model, seed {seed}");

        let mut buffer = BufWriter::with_capacity(64 << 10, fs::File::create(&path).unwrap());
        apply(&ops, &mut buffer).unwrap();
        buffer.flush().unwrap();
        assert!(fs::read(&path).unwrap() == expected, "the buffer, seed {seed}");
    }
}

#[test]
fn sequences_reach_the_edges_and_repeat() {
    let all: Vec<Op> = (0..20).flat_map(|seed| sequence(seed, limits())).collect();
    for edge in EDGE_LENGTHS {
        let written = |op: &Op| matches!(op, Op::Write { len, .. } if *len == edge);
        assert!(all.iter().any(written), "no write of {edge}");
    }
    for seen in [
        |op: &Op| matches!(op, Op::SeekBeforeStart(_)),
        |op: &Op| matches!(op, Op::Seek { to: SeekFrom::End(by), .. } if *by > 0),
        |op: &Op| matches!(op, Op::Seek { to: SeekFrom::Current(by), .. } if *by < 0),
        |op: &Op| matches!(op, Op::SetLen(_)),
        |op: &Op| matches!(op, Op::WriteZeroes(len) if *len > 0),
        |op: &Op| matches!(op, Op::Sync),
    ] {
        assert!(all.iter().any(seen));
    }
    assert_eq!(sequence(7, limits()), sequence(7, limits()));
    assert_ne!(sequence(7, limits()), sequence(8, limits()));
}

#[test]
fn limits_hold() {
    for seed in 0..50 {
        let ops = sequence(seed, limits());
        let mut sink = crate::counted::Counted::new(crate::sink::Null::default());
        apply(&ops, &mut sink).unwrap();
        let counts = sink.counts();
        assert!(counts.bytes + counts.zero_bytes <= limits().written);
        assert!(sink.get_mut().seek(SeekFrom::End(0)).unwrap() <= limits().len);
    }
}
