//! T1: a UHD disc as HEAD muxes it. 70 Mb/s of video, one TrueHD, three AC-3 and twelve PGS tracks.
//!
//! TrueHD frames have no duration and stay `SimpleBlock`s; AC-3 and PGS are the patched ones.

use super::schedule::{Cadence, Length, Role, SECOND_NS, Track, Wrap};

pub(crate) fn tracks() -> Vec<Track> {
    let video = Track {
        role: Role::Video,
        codec: "V_MPEGH/ISO/HEVC",
        private_len: 180,
        cadence: Cadence::Regular { frames: 24_000, seconds: 1001 },
        length: Length::Gop { mean: 365_000, gop_min: 24, gop_max: 24 },
        wrap: Wrap::Simple,
    };
    let truehd = Track {
        role: Role::Audio,
        codec: "A_TRUEHD",
        private_len: 0,
        cadence: Cadence::Regular { frames: 1200, seconds: 1 },
        length: Length::Fixed(470),
        wrap: Wrap::Simple,
    };
    let mut tracks = vec![video, truehd];
    tracks.extend((0..3).map(|_| ac3(2560)));
    tracks.extend((0..12).map(|_| pgs()));
    tracks
}

/// AC-3: a frame every 32 ms, `len` bytes each.
pub(crate) fn ac3(len: u64) -> Track {
    Track {
        role: Role::Audio,
        codec: "A_AC3",
        private_len: 0,
        cadence: Cadence::Regular { frames: 125, seconds: 4 },
        length: Length::Fixed(len),
        wrap: Wrap::Group { duration: 320 },
    }
}

/// PGS subtitles: a picture every 4.5 s or so, shown for 2.5 s.
pub(crate) fn pgs() -> Track {
    Track {
        role: Role::Subtitle,
        codec: "S_HDMV/PGS",
        private_len: 0,
        cadence: Cadence::Sparse { mean_ns: 9 * SECOND_NS / 2 },
        length: Length::Between(6_000, 24_000),
        wrap: Wrap::Group { duration: 25_000 },
    }
}
