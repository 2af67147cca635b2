//! The names of places: a file system, and how fast its device is.

use std::fmt;
use std::str::FromStr;

/// What files are written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Filesystem {
    Tmpfs,
    /// Whatever the build directory, or `--dir`, lies on.
    Local,
    Ext4,
    Xfs,
    Btrfs,
    /// overlayfs over ext4.
    Overlay,
    /// A FUSE file system over ext4.
    Fuse,
    /// Stands for all places.
    All,
}

/// One place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PlaceName {
    pub(crate) filesystem: Filesystem,
    /// A loop device is throttled to this.
    pub(crate) megabytes_per_second: Option<u64>,
}

const NAMES: [(&str, Filesystem); 8] = [
    ("tmpfs", Filesystem::Tmpfs),
    ("local", Filesystem::Local),
    ("ext4", Filesystem::Ext4),
    ("xfs", Filesystem::Xfs),
    ("btrfs", Filesystem::Btrfs),
    ("overlay", Filesystem::Overlay),
    ("fuse", Filesystem::Fuse),
    ("all", Filesystem::All),
];

/// What an old disk of a NAS box does with somebody else at work, and what a good one does.
const USUAL_RATES: [u64; 2] = [40, 150];

impl PlaceName {
    const TMPFS: Self = Self { filesystem: Filesystem::Tmpfs, megabytes_per_second: None };
    pub(crate) const LOCAL: Self =
        Self { filesystem: Filesystem::Local, megabytes_per_second: None };
    /// Those that any user can have.
    pub(crate) const ROOTLESS: [Self; 2] = [Self::TMPFS, Self::LOCAL];

    /// What stands behind the name.
    pub(crate) fn expand(self) -> Vec<Self> {
        if self.filesystem != Filesystem::All {
            return vec![self];
        }
        let throttled = USUAL_RATES.into_iter().flat_map(|rate| {
            let filesystems = [
                Filesystem::Ext4,
                Filesystem::Xfs,
                Filesystem::Btrfs,
                Filesystem::Overlay,
                Filesystem::Fuse,
            ];
            filesystems.map(|filesystem| Self { filesystem, megabytes_per_second: Some(rate) })
        });
        Self::ROOTLESS.into_iter().chain(throttled).collect()
    }
}

impl fmt::Display for PlaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(_, filesystem)| *filesystem == self.filesystem);
        let name = name.map_or("?", |(name, _)| name);
        match self.megabytes_per_second {
            Some(rate) => f.pad(&format!("{name}-{rate}")),
            None => f.pad(name),
        }
    }
}

impl FromStr for PlaceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, rate) = match text.split_once('-') {
            Some((name, rate)) => {
                let rate = rate.parse::<u64>().ok().filter(|rate| (1..=100_000).contains(rate));
                (name, Some(rate.ok_or("after the \"-\" comes a number of MB/s")?))
            }
            None => (text, None),
        };
        let known = NAMES.map(|(name, _)| name).join(", ");
        let found = NAMES.iter().find(|(other, _)| *other == name);
        let filesystem = found.ok_or(format!("not one of {known}"))?.1;
        let throttled = rate.is_some();
        match filesystem {
            Filesystem::Tmpfs | Filesystem::Local | Filesystem::All if throttled => {
                Err(format!("{name} can't be throttled"))
            }
            filesystem => Ok(Self { filesystem, megabytes_per_second: rate }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_as_they_are_shown() {
        let all: PlaceName = "all".parse().unwrap();
        assert_eq!(all.expand().len(), 12);
        for name in all.expand() {
            assert_eq!(name.to_string().parse(), Ok(name));
        }
        let plain: PlaceName = "xfs".parse().unwrap();
        assert_eq!(plain.megabytes_per_second, None);
        for wrong in ["tmpfs-40", "ext4-", "ext4-0", "ext4-fast", "zfs"] {
            assert!(wrong.parse::<PlaceName>().is_err(), "{wrong}");
        }
    }
}
