//! An MP4 muxing library with the client as its sink. It writes samples as they come, and at the end
//! goes back for the length of `mdat` and appends `moov`.

use std::fs::File;
use std::io::{Seek, Write};
use std::path::Path;
use std::process::Command;

use freemkvd_tests::daemon::Daemon;
use mp4::{
    AacConfig, AvcConfig, MediaConfig, Mp4Config, Mp4Sample, Mp4Writer, TrackConfig, TrackType,
};

/// Ten minutes of 25 frames of 8 to 24 KB, and as many of sound: about 300 MB.
const FRAMES: u32 = 15_000;

/// Muxes the same film into any sink, and hands it back.
fn mux<W: Write + Seek>(sink: W) -> W {
    let config = Mp4Config {
        major_brand: "isom".parse().unwrap(),
        minor_version: 512,
        compatible_brands: vec!["isom".parse().unwrap(), "mp42".parse().unwrap()],
        timescale: 1000,
    };
    let mut writer = Mp4Writer::write_start(sink, &config).unwrap();
    let video = MediaConfig::AvcConfig(AvcConfig {
        width: 1920,
        height: 1080,
        seq_param_set: vec![0x67, 0x42, 0xc0, 0x1e, 0xd9, 0x00, 0x78, 0x02, 0x27, 0xe5, 0x84],
        pic_param_set: vec![0x68, 0xcb, 0x83, 0xcb, 0x20],
    });
    let track = |track_type, media_conf| TrackConfig {
        track_type,
        timescale: 1000,
        language: "und".to_owned(),
        media_conf,
    };
    writer.add_track(&track(TrackType::Video, video)).unwrap();
    let audio = MediaConfig::AacConfig(AacConfig::default());
    writer.add_track(&track(TrackType::Audio, audio)).unwrap();
    for frame in 0..FRAMES {
        let sample = |len: u32, salt: u32| Mp4Sample {
            start_time: u64::from(frame) * 40,
            duration: 40,
            rendering_offset: 0,
            is_sync: frame % 25 == 0,
            bytes: (0..len)
                .map(|at| (at ^ frame ^ salt).to_le_bytes()[0])
                .collect::<Vec<_>>()
                .into(),
        };
        writer.write_sample(1, &sample(8_000 + frame % 17 * 1_000, 1)).unwrap();
        writer.write_sample(2, &sample(700 + frame % 5, 2)).unwrap();
    }
    writer.write_end().unwrap();
    writer.into_writer()
}

#[test]
fn an_mp4_library_writes_the_same_through_the_daemon_as_to_a_file() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let daemon = Daemon::start(dir.path(), "");
    let (plain, ripped) = (dir.path().join("plain.mp4"), dir.path().join("ripped.mp4"));
    drop(mux(File::create(&plain).unwrap()));
    let file = mux(daemon.options().create(&ripped).unwrap());
    let frames_sent = file.progress().frames_sent;
    file.finish().unwrap();
    assert!(frames_sent < 1000, "{frames_sent} frames for {} samples", 2 * FRAMES);
    assert_identical(&plain, &ripped);
}

#[test]
#[ignore = "needs ffprobe"]
fn an_mp4_from_the_library_is_understood_by_ffprobe() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let daemon = Daemon::start(dir.path(), "");
    let ripped = dir.path().join("ripped.mp4");
    mux(daemon.options().create(&ripped).unwrap()).finish().unwrap();
    let probe = Command::new("ffprobe")
        .args(["-v", "error", "-count_packets", "-select_streams", "v:0"])
        .args(["-show_entries", "stream=codec_name,nb_read_packets", "-of", "csv=p=0"])
        .arg(&ripped)
        .output()
        .unwrap();
    let said = String::from_utf8(probe.stdout).unwrap();
    assert_eq!(said.trim(), format!("h264,{FRAMES}"), "{}", String::from_utf8_lossy(&probe.stderr));
}

/// Both files hold the same bytes.
pub(crate) fn assert_identical(plain: &Path, ripped: &Path) {
    let (plain, ripped) = (std::fs::read(plain).unwrap(), std::fs::read(ripped).unwrap());
    assert!(!plain.is_empty(), "the muxer has written nothing");
    assert_eq!(plain.len(), ripped.len());
    let differs = plain.iter().zip(&ripped).position(|(a, b)| a != b);
    assert_eq!(differs, None, "first byte that differs");
}
