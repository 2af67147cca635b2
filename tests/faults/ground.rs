//! The kinds of ground that the drains end up on.

use std::path::Path;
use std::time::Duration;

use freemkvd::config::{Config, RootSettings};
use freemkvd::storage::{Abilities, Medium};
use freemkvd::stream::ladder::Rung;
use freemkvd_tests::faults::{Counts, FaultDisk, Ground, Served};

/// Where a stream writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// `dontcache`.
    Current,
    /// `sync_file_range`.
    ByRange,
    /// The same on a kernel that can't count.
    Uncounted,
    /// The same on a disk that seeks, where streams take turns.
    Turns,
    /// `fdatasync`, since nothing else is offered.
    WholeFile,
    /// `fdatasync`, since nothing by range does anything.
    Stacked,
    /// `direct`.
    Direct,
    /// `none`.
    Memory,
}

impl Place {
    pub(crate) const ALL: [Self; 8] = [
        Self::Current,
        Self::ByRange,
        Self::Uncounted,
        Self::Turns,
        Self::WholeFile,
        Self::Stacked,
        Self::Direct,
        Self::Memory,
    ];

    fn ground(self) -> Ground {
        let usual = Ground::default();
        let by_range = Abilities { uncached: false, ..usual.abilities };
        let whole = Abilities { by_range: false, trusted_by_range: false, ..by_range };
        match self {
            Self::Current | Self::Direct => usual,
            Self::ByRange => Ground { abilities: by_range, ..usual },
            Self::Uncounted => Ground { abilities: by_range, counts: Counts::None, ..usual },
            Self::Turns => Ground { abilities: by_range, medium: Medium::Rotational, ..usual },
            Self::WholeFile => Ground { abilities: whole, ..usual },
            Self::Stacked => Ground {
                abilities: Abilities { trusted_by_range: false, ..by_range },
                counts: Counts::Blind,
                is_deaf_by_range: true,
                ..usual
            },
            Self::Memory => {
                let abilities = Abilities { in_memory: true, ..whole };
                Ground { abilities, medium: Medium::Memory, ..usual }
            }
        }
    }

    /// A disk of this kind at `root`.
    pub(crate) fn disk(self, root: &str) -> FaultDisk {
        FaultDisk::new(root, self.ground())
    }

    /// A daemon for it. Its streams can be resumed if `resumable`, and don't wait for space.
    pub(crate) fn serve(self, disk: &FaultDisk, resumable: bool) -> Served {
        Served::start(&[disk], |config| self.adjust(config, disk.root(), resumable))
    }

    fn adjust(self, config: &mut Config, root: &Path, resumable: bool) {
        config.no_space_wait = Duration::ZERO;
        if resumable {
            config.resume_grace = Duration::from_secs(60);
        }
        let drain = (self == Self::Direct).then_some(Rung::Direct);
        config.root_settings.insert(root.to_owned(), RootSettings { drain, rotational: None });
    }
}
