//! Whether a path leads to the same place in two mount namespaces, from their tables alone
//! (`/proc/PID/mountinfo`, which everybody may read): nothing is looked up, so nothing hangs.
//!
//! 1. A path lies on the mount that a walk from `/` comes to: at each step it goes on to what is mounted there on
//!    the mount that it is on. What lies elsewhere in the table is covered, and nobody gets there.
//! 2. It is the same place if that mount shows the same file system (its device number) and the path within
//!    that is the same.
//! 3. Both sides follow the same links if each of them is at the same place for both. Nothing is known of a path
//!    of which a part can't be looked at, or whose name is a link itself.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::path::{Component, Path, PathBuf};

/// As many links as the kernel follows in one path.
const LINKS_MAX: usize = 40;

/// Where a path lies.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    device: String,
    /// Within the file system, whichever part of it is mounted.
    path: PathBuf,
}

/// What has to be at the same place so that `path`, which is absolute, leads there: each link on the way, and
/// then the file, without any link. `None` where nothing is certain (rule 3).
pub(crate) fn stations(path: &Path) -> Option<Vec<PathBuf>> {
    let mut at = PathBuf::from("/");
    let mut left = steps(path);
    let mut links = Vec::new();
    while let Some(name) = left.pop_front() {
        if name == ".." {
            // So far there are no links in it.
            at.pop();
            continue;
        }
        at.push(name);
        match at.symlink_metadata() {
            Ok(found) if found.is_symlink() => {
                if left.is_empty() || links.len() == LINKS_MAX {
                    return None;
                }
                let target = at.read_link().ok()?;
                links.push(at.clone());
                at.pop();
                if target.is_absolute() {
                    at = "/".into();
                }
                for step in steps(&target).into_iter().rev() {
                    left.push_front(step);
                }
            }
            Ok(_) => {}
            // There is nothing, so that there are no links in it either, but no way up.
            Err(error)
                if error.kind() == io::ErrorKind::NotFound
                    && left.iter().all(|step| step != "..") =>
            {
                at.extend(left.drain(..));
            }
            Err(_) => return None,
        }
    }
    links.push(at);
    Some(links)
}

fn steps(path: &Path) -> VecDeque<OsString> {
    let is_step =
        |step: &Component<'_>| matches!(step, Component::Normal(_) | Component::ParentDir);
    path.components().filter(is_step).map(|step| step.as_os_str().to_owned()).collect()
}

/// See the module's page. `path` is absolute, and goes up nowhere.
pub(crate) fn same(ours: &str, theirs: &str, path: &Path) -> bool {
    let here = place(ours, path);
    here.is_some() && here == place(theirs, path)
}

/// A line of a table.
struct Mount {
    id: u32,
    /// The mount that it is on.
    parent: u32,
    device: String,
    root: PathBuf,
    point: PathBuf,
}

impl Mount {
    fn of(line: &str) -> Option<Self> {
        let mut fields = line.split(' ');
        let (id, parent) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let device = fields.next()?.to_owned();
        let (root, point) = (unescaped(fields.next()?), unescaped(fields.next()?));
        Some(Self { id, parent, device, root, point })
    }
}

fn place(table: &str, path: &Path) -> Option<Place> {
    if path.components().any(|part| part == Component::ParentDir) {
        return None;
    }
    let mounts: Vec<Mount> = table.lines().map(Mount::of).collect::<Option<_>>()?;
    let top = Path::new("/");
    // What it is on is not listed, or it is itself.
    let is_first = |mount: &Mount| {
        mount.point == top && !mounts.iter().any(|on| on.id == mount.parent && on.id != mount.id)
    };
    let mut at = mounts.iter().find(|mount| is_first(mount))?;
    // Rule 1. Whatever the table says, it comes to no mount twice.
    for _ in 0..mounts.len() {
        let here =
            mounts.iter().filter(|mount| mount.parent == at.id && path.starts_with(&mount.point));
        // A process does not come to what is mounted over its root.
        let next = here.filter(|mount| mount.point != top);
        let Some(next) = next.min_by_key(|mount| mount.point.components().count()) else {
            let rest = path.strip_prefix(&at.point).ok()?;
            return Some(Place { device: at.device.clone(), path: at.root.join(rest) });
        };
        at = next;
    }
    None
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
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

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
        assert_eq!(stations(Path::new("/nowhere/at/../all/film")), None);
    }

    #[test]
    fn nobody_gets_to_what_was_mounted_before_something_above_it() {
        let before = format!("{HOST}40 30 8:33 / /rips/films rw - ext4 /dev/sdc1 rw\n");
        assert!(same(&before, &before, Path::new("/rips/films/film")));
        assert!(!is_same(&before, "/rips/films/film"));
        // The same disk once more, over all of that.
        let covered = format!("{before}41 30 8:17 / /rips rw - xfs /dev/sdb1 rw\n");
        assert!(is_same(&covered, "/rips/films/film"), "not /film of /dev/sdc1");
        // A directory above what is mounted.
        let covered = format!("{HOST}41 22 8:1 /mnt /mnt rw - ext4 /dev/sda1 rw\n");
        assert!(!is_same(&covered, "/mnt/my share/film"), "it is /mnt/my share/film of /dev/sda1");
        assert!(is_same(&covered, "/mnt/film"));
        // What a process has mounted over its own `/` it has not come to, as its root is below.
        let over = format!("{HOST}41 22 0:70 / / rw - tmpfs tmpfs rw\n");
        assert!(is_same(&over, "/film"));
    }

    #[test]
    fn the_first_of_all_mounts_is_on_itself() {
        let first = "1 1 0:2 / / rw - rootfs rootfs rw\n";
        assert!(same(first, first, Path::new("/film")));
    }

    #[test]
    fn each_link_on_the_way_is_looked_at_and_none_is_followed_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        let path = |name: &str| real.join(name);
        std::fs::create_dir(path("disk")).unwrap();
        symlink("disk/../disk", path("near")).unwrap();
        symlink(&real, path("far")).unwrap();
        symlink("nothing", path("dangling")).unwrap();
        symlink("round", path("round")).unwrap();
        let film = path("disk/not yet/film");
        assert_eq!(stations(&film), Some(vec![film.clone()]));
        assert_eq!(
            stations(&path("far/./near/not yet/film")),
            Some(vec![path("far"), path("near"), film])
        );
        for name in ["near", "dangling", "round/film"] {
            assert_eq!(stations(&path(name)), None, "{name}");
        }
        assert_eq!(
            stations(&path("dangling/film")),
            Some(vec![path("dangling"), path("nothing/film")])
        );
    }

    #[test]
    fn nothing_is_known_of_what_may_not_be_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        assert_eq!(stations(&dir.path().join("file/film")), None);
    }
}
