//! Which directory is meant, and which mount it is on.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxFlags, statvfs, statx};

use super::figures::Place;

/// The directory `path`, or the one that a file of this name would be in.
///
/// # Errors
/// A sentence.
pub(super) fn of(path: &Path) -> Result<Place, String> {
    let directory = directory(path)?;
    let shown = directory.display();
    let space = statvfs(&directory)
        .map_err(|errno| format!("cannot ask {shown} for its space: {}", io::Error::from(errno)))?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut place = mount(&mounts, id(&directory), &directory);
    place.free_bytes = space.f_bavail.saturating_mul(space.f_frsize);
    place.directory = directory;
    Ok(place)
}

fn directory(path: &Path) -> Result<PathBuf, String> {
    let shown = path.display();
    let meant = match fs::metadata(path) {
        Ok(found) if found.is_dir() => path,
        Ok(_) => return Err(format!("{shown} is not a directory")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => above(path)?,
        Err(error) => return Err(format!("cannot look at {shown}: {error}")),
    };
    // The roots of the configuration are absolute, and no link leads out of them.
    meant.canonicalize().map_err(|error| format!("cannot look at {}: {error}", meant.display()))
}

/// The directory that a file of this name would be in.
fn above(path: &Path) -> Result<&Path, String> {
    let above = path
        .parent()
        .map(|above| if above.as_os_str().is_empty() { Path::new(".") } else { above });
    match above {
        Some(above) if above.is_dir() => Ok(above),
        Some(above) => Err(format!(
            "there is no {}, and no directory {} that it could be in",
            path.display(),
            above.display()
        )),
        None => Err(format!("there is no {}", path.display())),
    }
}

/// The number of its mount, where the kernel tells: since Linux 5.8.
fn id(directory: &Path) -> Option<u64> {
    let stat = statx(CWD, directory, AtFlags::empty(), StatxFlags::MNT_ID).ok()?;
    (stat.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(stat.stx_mnt_id)
}

/// The line with that number, else the longest mount point above, of which the last one is on top.
fn mount(table: &str, id: Option<u64>, directory: &Path) -> Place {
    let lines: Vec<_> = table.lines().filter_map(line).collect();
    let by_id = lines.iter().find(|(number, _)| Some(*number) == id);
    let longest = || {
        let above = lines.iter().filter(|(_, place)| directory.starts_with(&place.mount));
        above.max_by_key(|(_, place)| place.mount.components().count())
    };
    by_id.or_else(longest).map(|(_, place)| place.clone()).unwrap_or_default()
}

fn line(line: &str) -> Option<(u64, Place)> {
    // Between the two parts there is a number of fields that nobody knows.
    let (of_mount, of_filesystem) = line.split_once(" - ")?;
    let mut first = of_mount.split(' ');
    let id = first.next()?.parse().ok()?;
    let number = first.nth(1)?.to_owned();
    let (mount, mount_options) = (unescaped(first.nth(1)?), first.next()?);
    let mut second = of_filesystem.split(' ');
    let (filesystem, source) = (second.next()?.to_owned(), second.next()?);
    let source = unescaped(source).display().to_string();
    let mut options: Vec<String> = Vec::new();
    for option in mount_options.split(',').chain(second.next().unwrap_or_default().split(',')) {
        if !option.is_empty() && !options.iter().any(|other| other == option) {
            options.push(option.to_owned());
        }
    }
    Some((id, Place { filesystem, mount, source, options, number, ..Place::default() }))
}

/// Blanks and the like are there in octal, as in `\040`.
fn unescaped(field: &str) -> PathBuf {
    let (mut rest, mut bytes) = (field.as_bytes(), Vec::new());
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(octal) if byte == b'\\' => {
                bytes.push(octal);
                rest = &after[3..];
            }
            _ => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro
31 22 0:40 / /mnt/my\\040share rw,noatime - nfs4 nas:/share rw,vers=4.2,wsize=65536,soft
32 22 0:41 / /mnt/my\\040share rw shared:4 master:2 - tmpfs tmpfs rw
";

    #[test]
    fn a_mount_is_found_by_its_number_or_else_by_its_point() {
        let nfs = mount(TABLE, Some(31), Path::new("/mnt/my share"));
        assert_eq!((nfs.filesystem.as_str(), nfs.source.as_str()), ("nfs4", "nas:/share"));
        assert_eq!(nfs.mount, Path::new("/mnt/my share"));
        assert_eq!(
            (nfs.option("wsize"), nfs.has("soft"), nfs.has("hard")),
            (Some("65536"), true, false)
        );
        assert_eq!(nfs.options.iter().filter(|option| *option == "rw").count(), 1);
        assert!(
            mount(TABLE, None, Path::new("/mnt/my share/a")).is_memory(),
            "the later is on top"
        );
        assert_eq!(mount(TABLE, None, Path::new("/mnt/my")).number, "8:1");
        assert_eq!(mount("nonsense", Some(1), Path::new("/")).filesystem, "");
    }

    #[test]
    fn a_files_future_directory_is_meant_and_nothing_further_up() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        assert_eq!(directory(dir.path()), Ok(real.clone()));
        assert_eq!(directory(&dir.path().join("film.mkv")), Ok(real));
        assert!(directory(&dir.path().join("gone/film.mkv")).unwrap_err().contains("there is no"));
        fs::write(dir.path().join("film"), "").unwrap();
        assert!(directory(&dir.path().join("film")).unwrap_err().ends_with("is not a directory"));
        assert!(directory(Path::new("film.mkv")).is_ok(), "the current directory");
    }
}
