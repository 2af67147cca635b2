//! Whether a path leads to the same place in two mount namespaces, from their tables alone
//! (`/proc/PID/mountinfo`, which everybody may read): nothing is looked up, so nothing hangs.
//!
//! 1. A path lies on the mount with the longest mount point above it, and of several there on the last one.
//! 2. It is the same place if that mount shows the same file system (its device number) and the path within
//!    that is the same.

use std::path::{Component, Path, PathBuf};

/// Where a path lies.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    device: String,
    /// Within the file system, whichever part of it is mounted.
    path: PathBuf,
}

/// `path` without the links that this process can see, in the part of it that this process can enter; `None`
/// where nothing is certain.
pub(crate) fn real(path: &Path) -> Option<PathBuf> {
    let mut rest = PathBuf::from(path.file_name()?);
    let mut above = path.parent()?;
    loop {
        if let Ok(real) = above.canonicalize() {
            return Some(real.join(rest));
        }
        // `..` has no name, and leads who knows where.
        rest = Path::new(above.file_name()?).join(rest);
        above = above.parent()?;
    }
}

/// See the module's page. `path` is absolute, and goes up nowhere.
pub(crate) fn same(ours: &str, theirs: &str, path: &Path) -> bool {
    let here = place(ours, path);
    here.is_some() && here == place(theirs, path)
}

fn place(table: &str, path: &Path) -> Option<Place> {
    if path.components().any(|part| part == Component::ParentDir) {
        return None;
    }
    let mut found: Option<(PathBuf, Place)> = None;
    for line in table.lines() {
        let mut fields = line.split(' ').skip(2);
        let device = fields.next()?.to_owned();
        let (root, point) = (unescaped(fields.next()?), unescaped(fields.next()?));
        let Ok(rest) = path.strip_prefix(&point) else {
            continue;
        };
        // Rule 1.
        if found.as_ref().is_none_or(|(longest, _)| point.starts_with(longest)) {
            found = Some((point, Place { device, path: root.join(rest) }));
        }
    }
    found.map(|(_, place)| place)
}

/// Blanks and the like are there in octal, as in `\040`.
fn unescaped(field: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let (field, mut bytes) = (field.as_bytes(), Vec::new());
    let mut at = 0;
    while at < field.len() {
        let digits = field.get(at + 1..at + 4).filter(|_| field[at] == b'\\');
        let octal = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|octal| u8::from_str_radix(octal, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                at += 4;
            }
            None => {
                bytes.push(field[at]);
                at += 1;
            }
        }
    }
    std::ffi::OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 8:17 / /rips rw,relatime shared:2 - xfs /dev/sdb1 rw
31 22 0:40 / /mnt/my\\040share rw - nfs4 nas:/share rw
32 22 0:41 / /proc rw - proc proc rw
";

    fn is_same(theirs: &str, path: &str) -> bool {
        same(HOST, theirs, Path::new(path))
    }

    #[test]
    fn the_same_table_leads_to_the_same_places() {
        for path in ["/film", "/rips/film", "/rips/a/b", "/mnt/my share/film", "/mnt/film"] {
            assert!(is_same(HOST, path), "{path}");
        }
    }

    #[test]
    fn what_a_hardened_unit_mounts_over_itself_is_the_same() {
        let unit = "\
80 1 8:1 / / ro,relatime - ext4 /dev/sda1 rw
81 80 8:17 / /rips ro,relatime - xfs /dev/sdb1 rw
82 81 8:17 / /rips rw,relatime - xfs /dev/sdb1 rw
83 81 8:17 /films /rips/films rw,relatime - xfs /dev/sdb1 rw
";
        assert!(is_same(unit, "/rips/film"));
        assert!(is_same(unit, "/rips/films/film"));
        assert!(is_same(unit, "/film"));
        assert!(!is_same(unit, "/mnt/my share/film"), "not mounted there");
    }

    #[test]
    fn a_container_has_other_places_but_for_what_is_mounted_from_outside() {
        let container = "\
90 1 0:60 / / rw - overlay overlay rw
91 90 8:17 /films /rips rw - xfs /dev/sdb1 rw
92 90 8:17 /films /mnt rw - xfs /dev/sdb1 rw
";
        assert!(!is_same(container, "/rips/film"), "it is /rips/films/film");
        assert!(!is_same(container, "/film"));
        let equal = container.replace("/films /rips", "/ /rips");
        assert!(is_same(&equal, "/rips/film"));
        assert!(!is_same(&equal, "/ripsaw/film"), "a name that only begins alike");
    }

    #[test]
    fn what_lies_above_covers_what_lies_below() {
        let over = format!("{HOST}40 30 0:70 / /rips rw - tmpfs tmpfs rw\n");
        assert!(!is_same(&over, "/rips/film"));
        assert!(is_same(&over, "/film"));
    }

    #[test]
    fn nothing_is_known_of_no_table_nor_of_ways_up() {
        assert!(!is_same("", "/rips/film"));
        assert!(!is_same("nonsense", "/rips/film"));
        assert!(!is_same(HOST, "/rips/../film"));
        assert_eq!(real(Path::new("/nowhere/at/../all/film")), None);
    }

    #[test]
    fn links_are_resolved_as_far_as_there_is_anything() {
        let dir = tempfile::tempdir().unwrap();
        let real_dir = dir.path().canonicalize().unwrap();
        std::os::unix::fs::symlink(&real_dir, dir.path().join("link")).unwrap();
        let found = real(&dir.path().join("link/not yet/film"));
        assert_eq!(found, Some(real_dir.join("not yet/film")));
    }
}
