//! From the socket's own numbers, and the table of groups of this host. Groups of a directory service have numbers here.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

/// What connecting takes.
const GROUP_WRITE: u32 = 0o020;

pub(super) fn of_socket(socket: &Path) -> Option<String> {
    let found = socket.metadata().ok()?;
    if found.permissions().mode() & GROUP_WRITE == 0 {
        return None;
    }
    let table = fs::read_to_string("/etc/group").unwrap_or_default();
    Some(name(&table, found.gid()).map_or_else(|| found.gid().to_string(), str::to_owned))
}

fn name(table: &str, gid: u32) -> Option<&str> {
    table.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(gid)).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_found_by_its_number() {
        let table = "root:x:0:\nnonsense\nfreemkvd:x:990:anna,otto\n";
        assert_eq!(name(table, 990), Some("freemkvd"));
        assert_eq!(name(table, 991), None);
    }

    #[test]
    fn who_can_do_nothing_by_joining_is_not_told_to() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("s");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let with = |mode| {
            fs::set_permissions(&socket, fs::Permissions::from_mode(mode)).unwrap();
            of_socket(&socket)
        };
        assert_eq!(with(0o600), None);
        assert!(with(0o660).is_some_and(|group| !group.is_empty()));
        assert_eq!(of_socket(&directory.path().join("none")), None);
    }
}
