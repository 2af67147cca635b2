//! What a device is made of, as sysfs tells. Neither the mount nor a device node is touched: the one
//! may hang, and a hardened unit has no nodes.

use std::fs;
use std::path::{Path, PathBuf};

use super::super::Medium;
use super::super::mount::Mount;

/// Where sysfs is; tests have one of their own.
pub(super) const SYSFS: &str = "/sys";

/// The medium below `mount`. A device that consists of several is as slow to seek as its slowest.
pub(super) fn of(sysfs: &Path, mount: &Mount) -> Medium {
    let by_number = sysfs.join("dev/block").join(&mount.device);
    let devices = match fs::exists(&by_number) {
        Ok(true) => vec![by_number],
        // An anonymous number: btrfs, which gives none of its devices', or nothing on a device at all.
        _ => by_source(sysfs, &mount.source),
    };
    let rotational: Vec<_> = devices.iter().map(|device| is_rotational(device)).collect();
    if rotational.contains(&Some(true)) {
        Medium::Rotational
    } else if rotational.is_empty() || rotational.contains(&None) {
        Medium::Unknown
    } else {
        Medium::Flash
    }
}

/// The block devices of a mount with this source, as folders of sysfs.
fn by_source(sysfs: &Path, source: &str) -> Vec<PathBuf> {
    let Some(node) = source.strip_prefix("/dev/") else {
        return Vec::new();
    };
    let block = sysfs.join("class/block");
    let name = match node.strip_prefix("mapper/") {
        Some(mapped) => {
            let is_it = |folder: &PathBuf| {
                fs::read_to_string(folder.join("dm/name")).is_ok_and(|name| name.trim() == mapped)
            };
            let found = entries(&block).into_iter().find(is_it);
            found.and_then(|folder| Some(folder.file_name()?.to_str()?.to_owned()))
        }
        // What sysfs can't have in a name.
        None => Some(node.replace('/', "!")),
    };
    let Some(name) = name else {
        return Vec::new();
    };
    let of_btrfs = entries(&sysfs.join("fs/btrfs"))
        .into_iter()
        .map(|volume| volume.join("devices"))
        .find(|devices| devices.join(&name).exists());
    match of_btrfs {
        Some(devices) => entries(&devices)
            .into_iter()
            .filter_map(|device| Some(block.join(device.file_name()?)))
            .collect(),
        None => vec![block.join(name)],
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}

/// Whether it seeks; a partition is inside of its disk's folder.
fn is_rotational(device: &Path) -> Option<bool> {
    let files = ["queue/rotational", "../queue/rotational"];
    let text = files.iter().find_map(|file| fs::read_to_string(device.join(file)).ok())?;
    Some(text.trim() == "1")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A sysfs with a disk `sda` (8:0, a partition 8:1), a flash `nvme0n1`, a mapped `dm-0` over it,
    /// a RAID controller's disk with a slash in its name, and a btrfs over a disk and the flash.
    fn sysfs() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let disk = |path: &str, name: &str, number: &str, rotational: &str| {
            let folder = root.path().join("devices").join(path).join(name);
            fs::create_dir_all(folder.join("queue")).unwrap();
            fs::write(folder.join("queue/rotational"), rotational).unwrap();
            link(&folder, name, number);
        };
        fn link(folder: &Path, name: &str, number: &str) {
            let root = folder.ancestors().find(|folder| folder.ends_with("devices")).unwrap();
            for path in [format!("class/block/{name}"), format!("dev/block/{number}")] {
                let path = root.join("..").join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                symlink(folder, path).unwrap();
            }
        }
        disk("pci0/ata1", "sda", "8:0", "1\n");
        let partition = root.path().join("devices/pci0/ata1/sda/sda1");
        fs::create_dir(&partition).unwrap();
        link(&partition, "sda1", "8:1");
        disk("pci0/nvme", "nvme0n1", "259:0", "0\n");
        disk("virtual", "dm-0", "252:0", "0\n");
        fs::create_dir(root.path().join("devices/virtual/dm-0/dm")).unwrap();
        fs::write(root.path().join("devices/virtual/dm-0/dm/name"), "vg-rips\n").unwrap();
        disk("pci0", "cciss!c0d0", "104:0", "1\n");
        let pool = root.path().join("fs/btrfs/3f2a/devices");
        fs::create_dir_all(&pool).unwrap();
        fs::create_dir_all(root.path().join("fs/btrfs/features")).unwrap();
        for member in ["nvme0n1", "sda1"] {
            symlink(root.path().join("class/block").join(member), pool.join(member)).unwrap();
        }
        root
    }

    fn found(device: &str, source: &str) -> Medium {
        let mount =
            Mount { device: device.to_owned(), source: source.to_owned(), ..Mount::default() };
        of(sysfs().path(), &mount)
    }

    #[test]
    fn a_disk_its_partition_and_flash_are_known_by_number() {
        assert_eq!(found("8:0", ""), Medium::Rotational);
        assert_eq!(found("8:1", "/dev/root"), Medium::Rotational);
        assert_eq!(found("259:0", "/dev/sda"), Medium::Flash, "the number counts");
    }

    #[test]
    fn an_anonymous_number_is_looked_up_by_the_source() {
        assert_eq!(found("0:40", "/dev/mapper/vg-rips"), Medium::Flash);
        assert_eq!(found("0:40", "/dev/cciss/c0d0"), Medium::Rotational);
        assert_eq!(found("0:40", "/dev/sda1"), Medium::Rotational);
        assert_eq!(found("0:40", "/dev/nvme0n1"), Medium::Rotational, "its btrfs has a disk too");
    }

    #[test]
    fn nobody_knows_a_network_or_a_stack() {
        for source in ["", "nas:/rips", "overlay", "/srv/a:/srv/b", "/dev/mapper/gone", "/dev/gone"]
        {
            assert_eq!(found("0:40", source), Medium::Unknown, "{source}");
        }
    }
}
