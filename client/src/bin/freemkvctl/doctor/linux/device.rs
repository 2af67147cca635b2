//! What sysfs tells of the block devices below a mount. No device is opened.

use std::fs;
use std::path::{Path, PathBuf};

use super::figures::{Device, Place};

const SYSFS: &str = "/sys";

/// The unit of the counters of a block device, whatever its own is.
const SECTOR_BYTES: u64 = 512;

pub(super) fn of(place: &Place) -> Device {
    of_folders(&folders(Path::new(SYSFS), place))
}

/// Several are as slow to seek, and forget as much, as the worst of them.
fn of_folders(folders: &[PathBuf]) -> Device {
    let name = |folder: &PathBuf| {
        let real = folder.canonicalize().ok()?;
        Some(real.file_name()?.to_string_lossy().into_owned())
    };
    let worst = |values: Vec<Option<bool>>| match values.as_slice() {
        [] => None,
        values if values.contains(&Some(true)) => Some(true),
        values if values.contains(&None) => None,
        _ => Some(false),
    };
    let ask = |key: &str, bad: &str| {
        worst(folders.iter().map(|folder| queue(folder, key).map(|told| told == bad)).collect())
    };
    let counters = match folders {
        [only] => whole(only).map(|disk| disk.join("stat")).filter(|file| file.exists()),
        _ => None,
    };
    Device {
        names: folders.iter().filter_map(name).collect(),
        rotational: ask("rotational", "1"),
        volatile_cache: ask("write_cache", "write back"),
        counters,
    }
}

fn folders(sysfs: &Path, place: &Place) -> Vec<PathBuf> {
    let by_number = sysfs.join("dev/block").join(&place.number);
    if !place.number.is_empty() && by_number.exists() {
        return vec![by_number];
    }
    // btrfs has a number of its own.
    let Some(node) = place.source.strip_prefix("/dev/") else {
        return Vec::new();
    };
    let block = sysfs.join("class/block");
    let is_mapped = |folder: &PathBuf, mapped: &str| {
        fs::read_to_string(folder.join("dm/name")).is_ok_and(|name| name.trim() == mapped)
    };
    let folder = match node.strip_prefix("mapper/") {
        Some(mapped) => entries(&block).into_iter().find(|folder| is_mapped(folder, mapped)),
        // What sysfs can't have in a name.
        None => Some(block.join(node.replace('/', "!"))),
    };
    let Some(folder) = folder.filter(|folder| folder.exists()) else {
        return Vec::new();
    };
    let name = folder.file_name().unwrap_or_default().to_owned();
    let volumes = entries(&sysfs.join("fs/btrfs")).into_iter().map(|volume| volume.join("devices"));
    match volumes.into_iter().find(|devices| devices.join(&name).exists()) {
        Some(members) => entries(&members)
            .iter()
            .filter_map(|member| Some(block.join(member.file_name()?)))
            .collect(),
        None => vec![folder],
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect()
}

/// The folder of the whole disk: a partition is inside of it.
fn whole(folder: &Path) -> Option<PathBuf> {
    let real = folder.canonicalize().ok()?;
    let above = real.parent().map(Path::to_owned);
    [Some(real), above].into_iter().flatten().find(|folder| folder.join("queue").exists())
}

fn queue(folder: &Path, key: &str) -> Option<String> {
    let text = fs::read_to_string(whole(folder)?.join("queue").join(key)).ok()?;
    Some(text.trim().to_owned())
}

/// Bytes that were written to a device, and how often its cache was flushed, since it is there.
pub(super) fn counted(counters: &Path) -> Option<(u64, Option<u64>)> {
    let text = fs::read_to_string(counters).ok()?;
    let numbers: Vec<u64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    // Flushes are counted since Linux 5.5, and not by what is stacked on other devices, which passes each of them on.
    let is_stacked = ["dm", "md"].iter().any(|kind| counters.with_file_name(kind).is_dir());
    let flushes = numbers.get(15).copied().filter(|_| !is_stacked);
    Some((numbers.get(6)?.saturating_mul(SECTOR_BYTES), flushes))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn disk(root: &Path, name: &str, rotational: &str, cache: &str) -> PathBuf {
        let folder = root.join("devices").join(name);
        fs::create_dir_all(folder.join("queue")).unwrap();
        fs::write(folder.join("queue/rotational"), rotational).unwrap();
        fs::write(folder.join("queue/write_cache"), cache).unwrap();
        fs::write(folder.join("stat"), "1 0 8 0 2 0 16 0 0 0 0 0 0 0 0 3 0\n").unwrap();
        fs::create_dir_all(root.join("class/block")).unwrap();
        symlink(&folder, root.join("class/block").join(name)).unwrap();
        folder
    }

    #[test]
    fn a_partition_is_its_disks_and_a_mapped_name_is_found() {
        let root = tempfile::tempdir().unwrap();
        let sda = disk(root.path(), "sda", "1\n", "write back\n");
        fs::create_dir(sda.join("sda1")).unwrap();
        let mapped = disk(root.path(), "dm-0", "0\n", "write through\n");
        fs::create_dir(mapped.join("dm")).unwrap();
        fs::write(mapped.join("dm/name"), "rips\n").unwrap();
        fs::create_dir_all(root.path().join("dev/block")).unwrap();
        symlink(sda.join("sda1"), root.path().join("dev/block/8:1")).unwrap();

        let place = Place { number: "8:1".to_owned(), ..Place::default() };
        let device = of_folders(&folders(root.path(), &place));
        assert_eq!(device.names, ["sda1"]);
        assert_eq!((device.rotational, device.volatile_cache), (Some(true), Some(true)));
        assert_eq!(counted(&device.counters.unwrap()), Some((16 * 512, Some(3))));

        let source = "/dev/mapper/rips".to_owned();
        let place = Place { number: "0:40".to_owned(), source, ..Place::default() };
        let device = of_folders(&folders(root.path(), &place));
        assert_eq!((device.rotational, device.volatile_cache), (Some(false), Some(false)));
        assert_eq!(counted(&device.counters.unwrap()), Some((16 * 512, None)));
        let both = of_folders(&[mapped, sda]);
        assert_eq!((both.rotational, both.counters), (Some(true), None));
    }

    #[test]
    fn nobody_knows_a_server() {
        let root = tempfile::tempdir().unwrap();
        let place = Place { source: "nas:/rips".to_owned(), ..Place::default() };
        let device = of_folders(&folders(root.path(), &place));
        assert_eq!((device.names.len(), device.rotational), (0, None));
    }
}
