//! Muxers that die in the middle of a rip: what they had handed over is on disk, and everybody who
//! should hear of it does.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use freemkvd_proto::status::{Status, StreamState};
use freemkvd_tests::daemon::Daemon;
use freemkvd_tests::sink::Sink;
use freemkvd_tests::trace::{Kind, Trace};

use crate::support::{MIB, Neighbour, muxer, scratch};

/// Compares what a sequential trace writes with a file that may end early.
struct Prefix {
    file: File,
    matched: u64,
}

impl Write for Prefix {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut found = Vec::with_capacity(bytes.len());
        let count = (&mut self.file).take(bytes.len() as u64).read_to_end(&mut found)?;
        assert!(found == bytes[..count], "differs after offset {}", self.matched);
        self.matched += count as u64;
        match count == bytes.len() {
            true => Ok(count),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Prefix {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        assert_eq!(to, SeekFrom::Current(0), "a sequential trace only asks");
        Ok(self.matched)
    }
}

impl Sink for Prefix {
    fn set_len(&mut self, _len: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn write_zeroes(&mut self, _len: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// Starts a muxer, kills it when it has handed over `after` bytes, and waits for the end of it.
fn killed(daemon: &Daemon, trace: &str, seconds: f64, out: &Path, after: u64) -> Status {
    let mut muxer = muxer(daemon, trace, seconds, out).args(["--speed", "5"]).spawn().unwrap();
    let path = out.to_str().unwrap();
    let ours = |status: &Status| status.streams.iter().position(|stream| stream.path == path);
    daemon.wait_for("bytes of the muxer", |status| {
        ours(status).is_some_and(|at| status.streams[at].accepted_bytes >= after)
    });
    muxer.kill().unwrap();
    muxer.wait().unwrap();
    daemon.wait_for("an abandoned stream that is durable", |status| {
        ours(status).is_some_and(|at| {
            let stream = &status.streams[at];
            stream.state == StreamState::Abandoned
                && stream.durable_bytes == stream.accepted_bytes
                && stream.dirty_bytes == 0
        })
    })
}

#[test]
fn a_killed_muxer_leaves_what_it_had_handed_over() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let neighbour = Neighbour::start(&daemon, root.path());
    let path = root.path().join("film.m2ts");
    let status = killed(&daemon, "m2ts", 60.0, &path, 10 * MIB);
    assert!(status.is_degraded());
    let stream = status.streams.iter().find(|stream| stream.path == path.to_str().unwrap());
    let durable = stream.unwrap().durable_bytes;
    let mut prefix = Prefix { file: File::open(&path).unwrap(), matched: 0 };
    assert_eq!(prefix.file.metadata().unwrap().len(), durable);
    let trace = Trace { kind: Kind::M2ts, seed: 1, content_seconds: 60.0 };
    let end = trace.run_unbuffered(&mut prefix, &mut |_| ()).unwrap_err();
    assert_eq!(end.kind(), io::ErrorKind::UnexpectedEof);
    assert_eq!(prefix.matched, durable);
    daemon.wait_for_log(&["WARN", " is gone; what was written of it is on disk", "film.m2ts"]);
    neighbour.assert_unharmed();
    let (end, log) = daemon.stop();
    assert!(end.success(), "{log}");
}

#[test]
fn a_killed_patch_pass_leaves_each_byte_old_or_new() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let (path, after) = (root.path().join("disc.iso"), root.path().join("after"));
    let seconds = 30.0;
    let trace = |kind| Trace { kind, seed: 1, content_seconds: seconds };
    let mut image = File::create(&path).unwrap();
    trace(Kind::Sweep).run(&mut image, &mut |_| ()).unwrap();
    drop(image);
    let old = std::fs::read(&path).unwrap();
    std::fs::copy(&path, &after).unwrap();
    let mut image = File::options().write(true).open(&after).unwrap();
    trace(Kind::Patch).run(&mut image, &mut |_| ()).unwrap();
    let new = std::fs::read(&after).unwrap();
    let status = killed(&daemon, "patch", seconds, &path, 64 << 10);
    assert!(status.is_degraded());
    let found = std::fs::read(&path).unwrap();
    assert_eq!(found.len(), old.len());
    let sectors = || found.chunks(2048).zip(old.chunks(2048).zip(new.chunks(2048)));
    assert!(sectors().all(|(found, (old, new))| found == old || found == new));
    assert!(sectors().any(|(found, (old, _))| found != old), "nothing was patched");
}

#[test]
fn a_failed_or_abandoned_stream_is_shown_for_as_long_as_configured() {
    let root = scratch();
    let config = "[stream]\nkeep_failed = \"1s\"\nwindow = \"0B\"\n";
    let daemon = Daemon::start(root.path(), config);
    let path = root.path().join("film.m2ts");
    let status = killed(&daemon, "m2ts", 60.0, &path, MIB);
    assert_eq!(status.streams.len(), 1);
    assert!(status.is_degraded());
    let end = daemon.wait_for("the stream to be forgotten", |status| status.streams.is_empty());
    assert!(!end.is_degraded());
}
