//! T3: a DVD as HEAD muxes it. 5.5 Mb/s of MPEG-2, two AC-3 and four VobSub tracks.
//!
//! Every frame has a duration here, video included, so every block is a patched group and the mean
//! write is 3 KB.

use super::schedule::{Cadence, Length, Role, SECOND_NS, Track, Wrap};
use super::uhd::ac3;

pub(crate) fn tracks() -> Vec<Track> {
    let video = Track {
        role: Role::Video,
        codec: "V_MPEG2",
        private_len: 150,
        cadence: Cadence::Regular { frames: 25, seconds: 1 },
        length: Length::Gop { mean: 27_500, gop_min: 12, gop_max: 12 },
        wrap: Wrap::Group { duration: 400 },
    };
    let vobsub = Track {
        role: Role::Subtitle,
        codec: "S_VOBSUB",
        private_len: 600,
        cadence: Cadence::Sparse { mean_ns: 16 * SECOND_NS },
        length: Length::Between(1_000, 5_000),
        wrap: Wrap::Group { duration: 25_000 },
    };
    let mut tracks = vec![video];
    tracks.extend((0..2).map(|_| ac3(1792)));
    tracks.extend((0..4).map(|_| vobsub.clone()));
    tracks
}
