//! The names of the traces, and what each comes to.

use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::{m2ts, sweep};

/// Which muxer a trace imitates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// T1: UHD disc to MKV. 293 writes, 196 seeks and 196 position queries per content second.
    Uhd,
    /// T2: Blu-ray to MKV. 476 writes, 318 seeks, 319 position queries.
    Bd,
    /// T3: DVD to MKV. 266 writes, 178 seeks, 178 position queries.
    Dvd,
    /// T4: disc to ISO image with two damage zones, a seek in place before each 64 KiB.
    Sweep,
    /// T5: the damage zones of a sweep again, forward and in reverse, into the same file.
    Patch,
    /// T6: Blu-ray to MP4, the index filled in at the front in the end.
    Mp4,
    /// T7: transport stream, purely sequential.
    M2ts,
}

/// A name that no trace has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no trace is called {0:?}")]
pub struct UnknownKind(String);

impl Kind {
    /// All of them, T1 to T7.
    pub const ALL: [Self; 7] =
        [Self::Uhd, Self::Bd, Self::Dvd, Self::Sweep, Self::Patch, Self::Mp4, Self::M2ts];

    /// The name on command lines and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uhd => "uhd",
            Self::Bd => "bd",
            Self::Dvd => "dvd",
            Self::Sweep => "sweep",
            Self::Patch => "patch",
            Self::Mp4 => "mp4",
            Self::M2ts => "m2ts",
        }
    }

    /// How much a content second is in the file, in bytes: the mean of the muxers, exact for the
    /// image and the transport stream. For a patch pass it sizes the image, which is not rewritten.
    pub fn bytes_per_second(self) -> u64 {
        match self {
            Self::Uhd => 9_600_000,
            Self::Bd | Self::Mp4 => 4_100_000,
            Self::Dvd => 800_000,
            Self::Sweep | Self::Patch => sweep::BYTES_PER_SECOND,
            Self::M2ts => m2ts::BYTES_PER_SECOND,
        }
    }

    /// Whether the muxer writes through a buffer. A sweep does not: it writes whole batches.
    #[must_use]
    pub fn is_buffered(self) -> bool {
        !matches!(self, Self::Sweep | Self::Patch)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(name: &str) -> Result<Self, UnknownKind> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == name)
            .ok_or_else(|| UnknownKind(name.to_owned()))
    }
}
