//! T2: a Blu-ray as HEAD muxes it. 28 Mb/s of AVC, DTS-HD MA, two AC-3 and six PGS tracks.
//!
//! DTS has 93.75 frames a second and every one is a patched group: the most writes of all traces.
//! Groups of pictures vary, which spreads the clusters between 2 s and the forced end at 3.27 s.

use super::schedule::{Cadence, Length, Role, Track, Wrap};
use super::uhd::{ac3, pgs};

pub(crate) fn tracks() -> Vec<Track> {
    let video = Track {
        role: Role::Video,
        codec: "V_MPEG4/ISO/AVC",
        private_len: 60,
        cadence: Cadence::Regular { frames: 24_000, seconds: 1001 },
        length: Length::Gop { mean: 146_000, gop_min: 24, gop_max: 60 },
        wrap: Wrap::Simple,
    };
    let dts = Track {
        role: Role::Audio,
        codec: "A_DTS",
        private_len: 0,
        cadence: Cadence::Regular { frames: 375, seconds: 4 },
        length: Length::Fixed(5_300),
        wrap: Wrap::Group { duration: 107 },
    };
    let mut tracks = vec![video, dts];
    tracks.extend((0..2).map(|_| ac3(1792)));
    tracks.extend((0..6).map(|_| pgs()));
    tracks
}
