//! Which frame comes next.
//!
//! Owns the tracks of a disc and the order in which their frames reach the muxer: by time, and at
//! equal times by track number. That order matters more than it seems: the audio tracks share their
//! timestamps, so their blocks come in a row, and two of three find nothing but the one byte of their
//! own id in the buffer. It is where more than half of all writes get their 8 bytes or less from.

use super::random::Random;

/// Nanoseconds in a second.
pub(crate) const SECOND_NS: u64 = 1_000_000_000;

/// What a track is, as far as its header needs to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Video,
    Audio,
    Subtitle,
}

/// When frames come.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Cadence {
    /// `frames` in every `seconds`, evenly.
    Regular { frames: u64, seconds: u64 },
    /// One in `mean_ns` nanoseconds, give or take half of it.
    Sparse { mean_ns: u64 },
}

/// How long frames are, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Length {
    Fixed(u64),
    Between(u64, u64),
    /// Video: the mean over a group of pictures of `gop_min..=gop_max` frames.
    Gop {
        mean: u64,
        gop_min: u64,
        gop_max: u64,
    },
}

/// How the muxer wraps a frame.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wrap {
    /// A `SimpleBlock`: six writes, no patch.
    Simple,
    /// A `BlockGroup`, because the frame has a duration (here in 0.1 ms): its size is patched.
    Group { duration: u64 },
}

/// One track of a disc.
#[derive(Debug, Clone)]
pub(crate) struct Track {
    pub(crate) role: Role,
    pub(crate) codec: &'static str,
    /// Length of the codec's private data in the header, in bytes.
    pub(crate) private_len: usize,
    pub(crate) cadence: Cadence,
    pub(crate) length: Length,
    pub(crate) wrap: Wrap,
}

/// One frame for the muxer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame {
    /// Index into the tracks; 0 is the video.
    pub(crate) track: usize,
    pub(crate) at_ns: u64,
    pub(crate) key: bool,
    pub(crate) len: usize,
}

#[derive(Debug, Default)]
struct Progress {
    frames: u64,
    next_ns: u64,
    /// Frames since the last keyframe, and the length of the present group of pictures.
    in_gop: u64,
    gop_len: u64,
}

/// All frames of a disc in muxing order.
#[derive(Debug)]
pub(crate) struct Schedule<'t> {
    tracks: &'t [Track],
    progress: Vec<Progress>,
    random: Random,
    end_ns: u64,
}

impl<'t> Schedule<'t> {
    pub(crate) fn new(tracks: &'t [Track], seed: u64, end_ns: u64) -> Self {
        let mut random = Random::new(seed ^ 0x7363_6865_6475_6c65);
        let start = |track: &Track| match track.cadence {
            Cadence::Regular { .. } => Progress::default(),
            Cadence::Sparse { mean_ns } => {
                Progress { next_ns: random.below(mean_ns), ..Progress::default() }
            }
        };
        let progress = tracks.iter().map(start).collect();
        Self { tracks, progress, random, end_ns }
    }

    fn length(&mut self, track: usize) -> (bool, u64) {
        match self.tracks[track].length {
            Length::Fixed(len) => (true, len),
            Length::Between(low, high) => (true, self.random.between(low, high)),
            Length::Gop { mean, gop_min, gop_max } => {
                let progress = &mut self.progress[track];
                if progress.in_gop == progress.gop_len {
                    progress.in_gop = 0;
                    progress.gop_len = self.random.between(gop_min, gop_max);
                }
                let in_gop = progress.in_gop;
                progress.in_gop += 1;
                let gop = progress.gop_len;
                let weights: u64 = (0..gop).map(weight).sum();
                (in_gop == 0, self.random.around(mean * gop * weight(in_gop) / weights, 30))
            }
        }
    }
}

/// The share of a picture in its group, in tenths of the mean: intra pictures weigh 5, every fourth
/// 1.7, the others 0.6.
fn weight(in_gop: u64) -> u64 {
    match in_gop {
        0 => 50,
        n if n % 4 == 0 => 17,
        _ => 6,
    }
}

impl Iterator for Schedule<'_> {
    type Item = Frame;

    fn next(&mut self) -> Option<Frame> {
        let (track, at_ns) = self
            .progress
            .iter()
            .enumerate()
            .map(|(track, progress)| (track, progress.next_ns))
            .min_by_key(|(_, at_ns)| *at_ns)?;
        if at_ns >= self.end_ns {
            return None;
        }
        let (key, len) = self.length(track);
        let progress = &mut self.progress[track];
        progress.frames += 1;
        progress.next_ns = match self.tracks[track].cadence {
            Cadence::Regular { frames, seconds } => progress.frames * seconds * SECOND_NS / frames,
            Cadence::Sparse { mean_ns } => at_ns + self.random.around(mean_ns, 50),
        };
        let len = usize::try_from(len).expect("a frame fits in memory");
        Some(Frame { track, at_ns, key, len })
    }
}
