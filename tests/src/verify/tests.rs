//! That every trace verifies, and that nothing wrong does.

use super::*;
use crate::trace::Kind;
use std::io::BufWriter;

fn written(trace: &Trace, dir: &Path) -> std::path::PathBuf {
    let path = dir.join(trace.kind.name());
    let mut file = BufWriter::new(File::create(&path).unwrap());
    if let Some(before) = trace.prerequisite() {
        before.run_unbuffered(&mut file, &mut |_| ()).unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
    }
    trace.run_unbuffered(&mut file, &mut |_| ()).unwrap();
    file.flush().unwrap();
    path
}

fn difference(trace: &Trace, path: &Path) -> Option<u64> {
    match verify(trace, path) {
        Ok(_) => None,
        Err(VerifyError::Differs { offset, .. }) => Some(offset),
        Err(VerifyError::Io(error)) => panic!("{error}"),
    }
}

fn flip(path: &Path, offset: u64) {
    let mut file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.seek(SeekFrom::Start(offset)).unwrap();
    file.read_exact(&mut byte).unwrap();
    file.seek(SeekFrom::Start(offset)).unwrap();
    file.write_all(&[!byte[0]]).unwrap();
}

#[test]
fn every_trace_verifies_and_buffering_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    for kind in Kind::ALL {
        let trace = Trace { kind, seed: 3, content_seconds: 12.0 };
        let path = written(&trace, dir.path());
        let len = path.metadata().unwrap().len();
        assert_eq!(verify(&trace, &path).unwrap(), len, "{kind}");
        assert_ne!(difference(&Trace { seed: 4, ..trace }, &path), None, "{kind}");
    }
}

#[test]
fn the_first_wrong_byte_is_named_also_in_what_was_let_go() {
    let dir = tempfile::tempdir().unwrap();
    let trace = Trace { kind: Kind::M2ts, seed: 1, content_seconds: 20.0 };
    let path = written(&trace, dir.path());
    let last = path.metadata().unwrap().len() - 1;
    for offset in [last, 100 << 20, (5 << 20) - 1, 0] {
        flip(&path, offset);
        assert_eq!(difference(&trace, &path), Some(offset));
    }
}

#[test]
fn a_wrong_length_differs_at_the_shorter_end() {
    let dir = tempfile::tempdir().unwrap();
    let trace = Trace { kind: Kind::Dvd, seed: 1, content_seconds: 5.0 };
    let path = written(&trace, dir.path());
    let len = path.metadata().unwrap().len();
    let file = File::options().write(true).open(&path).unwrap();
    file.set_len(len + 1).unwrap();
    assert_eq!(difference(&trace, &path), Some(len));
    file.set_len(len - 5).unwrap();
    assert_eq!(difference(&trace, &path), Some(len - 5));
}

#[test]
fn memory_stays_bounded_by_the_window() {
    let dir = tempfile::tempdir().unwrap();
    let trace = Trace { kind: Kind::M2ts, seed: 1, content_seconds: 20.0 };
    let path = written(&trace, dir.path());
    let mut comparison = Comparison::new(File::open(path).unwrap()).unwrap();
    trace.run(&mut comparison, &mut |_| ()).unwrap();
    assert!(comparison.model.stored_bytes() <= (YOUNG_CHUNKS + 6) * CHUNK_LEN);
}
