//! Which names are a file's, and nothing else's. The system gives some names a meaning wherever they stand, and
//! cuts others short; by a path of the form `\\?\` it does neither, and makes files that nobody can open or delete.

use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf, Prefix};

/// Why a path can't be one of a file that is written here.
pub(super) fn fault_of(path: &Path) -> Option<&'static str> {
    for component in path.components() {
        let fault = match component {
            Component::Prefix(prefix) => match prefix.kind() {
                Prefix::Disk(_) | Prefix::VerbatimDisk(_) => None,
                Prefix::UNC(..) | Prefix::VerbatimUNC(..) => None,
                Prefix::DeviceNS(_) => Some("the path of a device"),
                Prefix::Verbatim(_) => Some("a path of the system's own"),
            },
            Component::RootDir | Component::CurDir => None,
            Component::ParentDir => Some("a path with '..' in it"),
            Component::Normal(name) => fault_of_name(name),
        };
        if fault.is_some() {
            return fault;
        }
    }
    None
}

/// The root that `path` is below, as the names on the way say, whatever their case. Of none, nothing is
/// asked of the system: to look elsewhere would tell a client what the daemon's account can see, and a name may lead
/// to another host.
pub(super) fn root_of<'a>(roots: &'a [PathBuf], path: &Path) -> Option<&'a Path> {
    let path = folded(path);
    let is_above = |root: &&PathBuf| {
        let root = folded(root);
        path.strip_prefix(&*root).is_some_and(|rest| root.ends_with('\\') || rest.starts_with('\\'))
    };
    roots.iter().find(is_above).map(PathBuf::as_path)
}

/// One way to write it.
fn folded(path: &Path) -> String {
    let text = path.to_string_lossy().replace('/', r"\").to_uppercase();
    let text = match (text.strip_prefix(r"\\?\UNC\"), text.strip_prefix(r"\\?\")) {
        (Some(share), _) => format!(r"\\{share}"),
        (None, Some(rest)) => rest.to_owned(),
        (None, None) => text,
    };
    // Of a drive the root has one at its end, and nothing else.
    if text.ends_with(r":\") { text } else { text.trim_end_matches('\\').to_owned() }
}

/// What a file is called until it is complete, behind the name that it gets then.
const PARTIAL: &str = ".partial";

/// Names of devices, in every directory and with every extension.
const DEVICES: [&str; 6] = ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"];

/// Why a name is not one of a file.
pub(super) fn fault_of_name(name: &OsStr) -> Option<&'static str> {
    let Some(name) = name.to_str() else {
        // Unpaired surrogates are allowed in names; none of what is looked for is one.
        return None;
    };
    if let Some(fault) = name.strip_suffix(PARTIAL).and_then(|to| fault_of_name(OsStr::new(to))) {
        return Some(fault);
    }
    if name.contains(':') {
        return Some("a stream within a file");
    }
    if name.contains(['<', '>', '"', '|', '?', '*', '/', '\\'])
        || name.chars().any(char::is_control)
    {
        return Some("a name with a character that no file may have");
    }
    if name.ends_with(['.', ' ']) {
        return Some("a name with a dot or a space at its end, which the system would cut off");
    }
    let stem = name.split('.').next().unwrap_or_default().trim_end().to_uppercase();
    // Also with the digits that code page 1252 has as superscripts.
    let is_numbered = |number: &str| {
        matches!(
            number.chars().collect::<Vec<_>>()[..],
            ['1'..='9' | '\u{b9}' | '\u{b2}' | '\u{b3}']
        )
    };
    let is_device = DEVICES.contains(&&*stem)
        || ["COM", "LPT"].iter().filter_map(|port| stem.strip_prefix(port)).any(is_numbered);
    is_device.then_some("the name of a device")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_takes_for_something_else_is_no_name() {
        for name in [
            "CON",
            "con",
            "nul.mkv",
            "Aux .mkv",
            "COM1",
            "lpt9.txt",
            "com\u{b9}",
            "conin$",
            "film.mkv:meta",
            "film.",
            "film ",
            "a*b",
            "a\u{1}b",
            "a\"b",
            "film..partial",
            "nul.partial",
        ] {
            assert!(fault_of_name(OsStr::new(name)).is_some(), "{name}");
        }
        for name in [
            "film.mkv",
            "CONTACT.mkv",
            "com10",
            "COM",
            "lpt",
            "nul1",
            ".hidden",
            "\u{c4} \u{f6}.mkv",
            "\u{2026}",
        ] {
            assert_eq!(fault_of_name(OsStr::new(name)), None, "{name}");
        }
    }

    #[test]
    fn a_name_below_a_root_is_one_in_any_case_and_on_no_other_host() {
        let roots = [r"C:\Rips".into(), r"\\nas\rips".into(), r"D:\".into()];
        for path in
            [r"c:\rips\film", r"\\?\C:\RIPS\a\film", r"\\NAS\Rips\film", r"d:\film", "C:/Rips/film"]
        {
            assert!(root_of(&roots, Path::new(path)).is_some(), "{path}");
        }
        for path in [
            r"C:\Rips",
            r"C:\Rips2\film",
            r"\\other\rips\film",
            r"\\?\UNC\other\rips\film",
            r"E:\film",
        ] {
            assert_eq!(root_of(&roots, Path::new(path)), None, "{path}");
        }
    }

    #[test]
    fn only_a_path_of_a_drive_or_a_share_is_one() {
        for path in [r"\\.\C:\film", r"\\?\GLOBALROOT\x", r"C:\rips\..\film", r"\\.\pipe\x"] {
            assert!(fault_of(Path::new(path)).is_some(), "{path}");
        }
        for path in [r"C:\rips\film.mkv", r"\\?\C:\rips\film.mkv", r"\\nas\rips\film.mkv"] {
            assert_eq!(fault_of(Path::new(path)), None, "{path}");
        }
    }
}
