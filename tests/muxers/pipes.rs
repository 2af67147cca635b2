//! ffmpeg and mkvmerge, piped through `freemkvctl write`.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use freemkvd_proto::socket::SOCKET_ENV;
use freemkvd_tests::daemon::Daemon;
use freemkvd_tests::programs;

use crate::library::assert_identical;

/// Half a minute of moving picture and sound, the same bytes at every run.
fn ffmpeg(format: &[&str]) -> Command {
    let mut command = Command::new("ffmpeg");
    command
        .args(["-v", "error", "-nostdin"])
        .args(["-f", "lavfi", "-i", "testsrc2=size=1280x720:rate=25:duration=30"])
        .args(["-f", "lavfi", "-i", "sine=frequency=440:duration=30"])
        // rawvideo-like quality: the point is the bytes, not the picture.
        .args(["-c:v", "mpeg4", "-q:v", "1", "-g", "25", "-threads", "1", "-c:a", "aac"])
        .args(["-flags", "+bitexact", "-fflags", "+bitexact", "-map_metadata", "-1"])
        .args(format);
    command
}

struct Bench {
    dir: tempfile::TempDir,
    daemon: Daemon,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let daemon = Daemon::start(dir.path(), "");
        Self { dir, daemon }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs `producer | freemkvctl write PATH`, as a shell would.
    fn pipe(&self, mut producer: Command, path: &Path) {
        let mut producing = producer.stdout(Stdio::piped()).spawn().unwrap();
        let writing = Command::new(programs::freemkvctl())
            .env(SOCKET_ENV, self.daemon.socket())
            .arg("write")
            .arg(path)
            .stdin(producing.stdout.take().unwrap())
            .output()
            .unwrap();
        assert!(producing.wait().unwrap().success());
        let said = String::from_utf8_lossy(&writing.stderr);
        assert!(writing.status.success(), "{said}");
        assert!(said.contains("durable"), "{said}");
    }
}

fn probe(path: &Path) -> String {
    let probe = Command::new("ffprobe")
        .args(["-v", "error", "-count_packets", "-show_entries"])
        .args(["stream=codec_name,nb_read_packets", "-of", "csv=p=0"])
        .arg(path)
        .output()
        .unwrap();
    assert!(probe.stderr.is_empty(), "{}", String::from_utf8_lossy(&probe.stderr));
    String::from_utf8(probe.stdout).unwrap()
}

fn pipes_the_same_as_to_a_file(name: &str, format: &[&str]) {
    let bench = Bench::new();
    let (plain, ripped) = (bench.path(&format!("plain.{name}")), bench.path(&format!("r.{name}")));
    let mut to_file = ffmpeg(format);
    let status = to_file.arg("-").stdout(File::create(&plain).unwrap()).status().unwrap();
    assert!(status.success());
    let mut to_pipe = ffmpeg(format);
    to_pipe.arg("-");
    bench.pipe(to_pipe, &ripped);
    assert_identical(&plain, &ripped);
    assert_eq!(probe(&ripped), probe(&plain));
    assert!(probe(&ripped).contains("mpeg4,750"), "{}", probe(&ripped));
}

#[test]
#[ignore = "needs ffmpeg"]
fn ffmpeg_matroska() {
    pipes_the_same_as_to_a_file("mkv", &["-f", "matroska"]);
}

#[test]
#[ignore = "needs ffmpeg"]
fn ffmpeg_transport_stream() {
    pipes_the_same_as_to_a_file("m2ts", &["-f", "mpegts"]);
}

#[test]
#[ignore = "needs ffmpeg"]
fn ffmpeg_fragmented_mp4() {
    pipes_the_same_as_to_a_file("mp4", &["-f", "mp4", "-movflags", "frag_keyframe+empty_moov"]);
}

#[test]
#[ignore = "needs ffmpeg and mkvtoolnix"]
fn mkvmerge_matroska() {
    let bench = Bench::new();
    let (source, merged, ripped) =
        (bench.path("source.mkv"), bench.path("merged.mkv"), bench.path("ripped.mkv"));
    assert!(ffmpeg(&["-f", "matroska"]).arg(&source).status().unwrap().success());
    // mkvmerge reads back what it wrote and has no output to a pipe: its file is what is piped.
    let merging =
        Command::new("mkvmerge").args(["-q", "-o"]).arg(&merged).arg(&source).status().unwrap();
    assert!(merging.success());
    let mut cat = Command::new("cat");
    cat.arg(&merged);
    bench.pipe(cat, &ripped);
    assert_identical(&merged, &ripped);
    let info = Command::new("mkvinfo").arg(&ripped).output().unwrap();
    let said = String::from_utf8(info.stdout).unwrap();
    for part in ["Segment: size", "Seek head", "Codec ID: V_MPEG4", "Codec ID: A_AAC"] {
        assert!(said.contains(part), "mkvinfo does not see {part}:\n{said}");
    }
    assert_eq!(probe(&ripped), probe(&source));
}
