//! Whether a file is what its writer wrote.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use freemkvd_tests::verify::verify;

use super::play::Content;
use super::spec::{Job, Spec, Told};

/// Length always; every byte if `content`.
pub(crate) fn check(spec: &Spec, told: &Told, content: bool) -> io::Result<()> {
    let len = std::fs::metadata(&spec.out)?.len();
    let expected = match spec.job {
        Job::Sequential { bytes, .. } | Job::Mover { bytes } => bytes,
        Job::Trace { .. } => told.len_bytes,
    };
    if len != expected {
        let path = spec.out.display();
        return Err(io::Error::other(format!("{path} has {len} bytes, not {expected}")));
    }
    match spec.job.trace(spec.seed) {
        _ if !content => Ok(()),
        Some(trace) => verify(&trace, &spec.out).map(drop).map_err(io::Error::other),
        None => repeats(&spec.out, &Content::new(&spec.job, spec.seed).period),
    }
}

/// The file is `period`, over and over.
fn repeats(path: &Path, period: &[u8]) -> io::Result<()> {
    let mut file = File::open(path)?;
    let mut found = vec![0; period.len()];
    let mut offset = 0;
    loop {
        let mut count = 0;
        while count < found.len() {
            match file.read(&mut found[count..])? {
                0 => break,
                more => count += more,
            }
        }
        if found[..count] != period[..count] {
            let path = path.display();
            let message = format!("{path} is wrong in the period at offset {offset}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        if count < found.len() {
            return Ok(());
        }
        offset += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_byte_is_found() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"abcabcab").unwrap();
        repeats(file.path(), b"abc").unwrap();
        std::fs::write(file.path(), b"abcabxab").unwrap();
        let error = repeats(file.path(), b"abc").unwrap_err();
        assert!(error.to_string().ends_with("at offset 3"), "{error}");
    }
}
