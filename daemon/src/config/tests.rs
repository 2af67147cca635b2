//! The example parses to the defaults, and what is wrong is said with file, line and remedy.

use super::*;
use crate::user::{UserId, of_test};

const EXAMPLE: &str = include_str!("../../../config.example.toml");

/// A host with a user `arm` and groups `freemkv` and `adm`, whose directory server does not answer for others
/// that begin with `far`.
struct Host;

impl Names for Host {
    fn user(&self, name: &str) -> io::Result<Option<UserId>> {
        match name {
            "arm" => Ok(Some(of_test(1000))),
            name if name.starts_with("far") => Err(io::ErrorKind::TimedOut.into()),
            _ => Ok(None),
        }
    }

    fn group(&self, name: &str) -> io::Result<Option<UserId>> {
        Ok([("freemkv", 990), ("adm", 4)]
            .into_iter()
            .find(|(known, _)| *known == name)
            .map(|(_, id)| of_test(id)))
    }
}

pub(super) fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("test.toml"), &Overrides::default(), &Host)
}

pub(super) fn error(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

#[test]
fn an_empty_file_and_the_example_are_the_defaults() {
    assert_eq!(parse("").unwrap(), Config::default());
    // Its paths are those of Unix.
    if cfg!(unix) {
        assert_eq!(parse(EXAMPLE).unwrap(), Config::default());
    }
}

#[test]
fn the_example_names_every_key() {
    // An unknown key makes the parser list the known ones of its section.
    for section in
        ["daemon", "budget", "stream", "files", "limits", "access", "hook", "log", "metrics"]
    {
        let text = error(&format!("[{section}]\nnonsense = 1\n"));
        let known = text.split("expected").nth(1).unwrap();
        for key in known.split('`').skip(1).step_by(2) {
            let line = |line: &str| line.trim_start_matches("# ").starts_with(&format!("{key} = "));
            assert!(EXAMPLE.lines().any(line), "config.example.toml lacks {section}.{key}");
        }
    }
}

#[test]
fn unknown_keys_and_sections_are_refused_with_their_line() {
    let text = error("[stream]\nqueue = \"8MiB\"\nwidnow = \"64MiB\"\n");
    assert!(text.contains("test.toml:3: "), "{text}");
    assert!(text.contains("widnow") && text.contains("window"), "{text}");
    assert!(error("[steam]\n").contains("steam"));
}

#[test]
fn wrong_units_are_refused_with_what_would_be_right() {
    for wrong in ["64", "\"64\"", "\"64 apples\"", "true"] {
        let text = error(&format!("[stream]\nwindow = {wrong}\n"));
        assert!(text.contains("test.toml:2: ") && text.contains("like \"64MiB\""), "{text}");
    }
    let text = error("[budget]\ntotal = \"lots\"\n");
    assert_eq!(
        text,
        "test.toml:2: budget.total is \"lots\"; write \"auto\", or a number and a unit, like \"512MiB\""
    );
    assert!(error("[daemon]\ndrain_timeout = \"60\"\n").contains("like \"10s\""));
}

#[test]
fn values_out_of_range_are_refused() {
    assert_eq!(
        error("\n[budget]\ntotal = \"1MiB\""),
        "test.toml:3: budget.total is 1.0 MiB; it must be at least 8.0 MiB"
    );
    assert!(error("[stream]\nqueue = \"4KiB\"").contains("from 1.0 MiB to 1.0 GiB"));
    assert!(error("[limits]\nstreams = 0").contains("at least 1"));
    assert!(error("[limits]\nhandshake_timeout = \"0s\"").contains("zero"));
    assert!(error("[log]\nlevel = \"loud\"").contains("\"info\""));
}

#[test]
fn sums_that_cannot_be_are_refused() {
    let text = error("[limits]\nstreams = 1000\nconnections = 2000\n");
    assert!(text.contains("stream.queue_total (default) is 256.0 MiB"), "{text}");
    assert!(text.contains("1000 streams (limits.streams) need at least 1000.0 MiB"), "{text}");
    let text = error("[limits]\nconnections = 10\n");
    assert!(text.starts_with("test.toml:2: limits.connections is 10, less than the 256"), "{text}");
    let text = error("[stream]\nqueue = \"512MiB\"\n");
    assert!(text.starts_with("test.toml:2: stream.queue is 512.0 MiB, more than"), "{text}");
}

#[test]
fn limits_are_refused_one_beyond_their_edge() {
    for (key, least, most) in [
        ("streams_per_user", "1", None),
        ("connections_per_user", "1", None),
        ("queue_per_user", "\"1MiB\"", None),
        ("slots", "\"1MiB\"", None),
        ("slots_per_user", "\"1MiB\"", None),
        ("path_length", "1", Some("4095")),
        ("label_length", "1", Some("4095")),
    ] {
        for value in [Some(least), most].into_iter().flatten() {
            assert!(parse(&format!("[limits]\n{key} = {value}\n")).is_ok(), "{key} = {value}");
        }
    }
    for (line, words) in [
        ("streams_per_user = 0", "limits.streams_per_user must be at least 1"),
        ("connections_per_user = 0", "limits.connections_per_user must be at least 1"),
        (
            "queue_per_user = \"1023KiB\"",
            "limits.queue_per_user is 1023.0 KiB; it must be from 1.0 MiB",
        ),
        ("slots = \"1023KiB\"", "limits.slots is 1023.0 KiB; it must be from 1.0 MiB"),
        (
            "slots_per_user = \"1023KiB\"",
            "limits.slots_per_user is 1023.0 KiB; it must be from 1.0 MiB",
        ),
        ("path_length = 0", "limits.path_length is 0; it must be from 1 to 4095"),
        ("path_length = 4096", "limits.path_length is 4096; it must be from 1 to 4095"),
        ("label_length = 4096", "limits.label_length is 4096; it must be from 1 to 4095"),
        ("idle_timeout = \"0s\"", "limits.idle_timeout is zero"),
    ] {
        let text = error(&format!("[limits]\n{line}\n"));
        assert!(text.starts_with("test.toml:2: ") && text.contains(words), "{text}");
    }
}

#[test]
fn a_user_may_have_almost_all_and_never_the_last_of_many() {
    let limits = parse("[limits]\nstreams = 3\nconnections = 16\n").unwrap().limits;
    assert_eq!((limits.streams_per_user_max, limits.connections_per_user_max), (3, 14));
    for (all, of_user_bytes) in [("1MiB", 1 << 20), ("8MiB", 7 << 20), ("15MiB", 14 << 20)] {
        let limits = parse(&format!("[limits]\nslots = \"{all}\"\n")).unwrap().limits;
        assert_eq!(limits.slots_per_user_bytes, of_user_bytes, "whole slots of {all}");
    }
    let config = parse("[stream]\nqueue_total = \"512MiB\"\n").unwrap();
    assert_eq!(config.limits.queue_per_user_bytes, 512 << 20, "as much as there is");
}

#[cfg(unix)]
#[test]
fn names_become_numbers_and_numbers_need_no_name() {
    let text = "[access]\nusers = [\"arm\", 1001, \"1002\"]\ngroups = [\"freemkv\"]\nadmin_group = \"adm\"\n\
                status_for_all = true\nsocket_mode = \"0666\"\nsocket_group = 44\n";
    let config = parse(text).unwrap();
    let ids = |all: &[Named]| all.iter().map(|named| named.id).collect::<Vec<_>>();
    assert_eq!(ids(&config.access.users), [1000, 1001, 1002]);
    assert_eq!(ids(&config.access.groups), [990]);
    assert_eq!(config.access.admin_group, Some(Named { name: "adm".into(), id: 4 }));
    assert!(config.access.status_for_all);
    assert_eq!(config.socket_mode, Some(0o666));
    assert_eq!(config.socket_group.unwrap().id, 44);
}

#[cfg(unix)]
#[test]
fn a_name_that_nobody_has_is_refused_with_its_line() {
    for (text, expected) in [
        (
            "users = [\n  \"arm\",\n  \"amr\",\n]",
            "test.toml:4: access.users names user \"amr\", which does not exist here; correct the name, or create \
             the user",
        ),
        (
            "groups = [\"arm\"]",
            "test.toml:2: access.groups names group \"arm\", which does not exist here; correct the name, or create \
             the group",
        ),
        (
            "users = [\"far away\"]",
            "test.toml:2: access.users names user \"far away\", which cannot be looked up: timed out; write its \
             number instead",
        ),
    ] {
        assert_eq!(error(&format!("[access]\n{text}\n")), expected);
    }
    assert!(
        error("[access]\nadmin_group = \"\"\n").contains("access.admin_group names group \"\"")
    );
    assert!(
        error("[access]\nsocket_group = -1\n").contains("access.socket_group names group \"-1\"")
    );
}

#[test]
fn what_would_let_everybody_in_is_refused() {
    let text = error("[access]\nstatus_for_all = true\n");
    assert!(
        text.starts_with("test.toml:2: access.status_for_all is true, and nothing says who"),
        "{text}"
    );
    if cfg!(windows) {
        return;
    }
    for mode in ["\"0o660\"", "\"0788\"", "\"rw\"", "\"\"", "0o660"] {
        let text = error(&format!("[access]\nsocket_mode = {mode}\n"));
        assert!(text.contains("write octal digits"), "{mode}: {text}");
    }
    assert!(error("[access]\nsocket_mode = \"0066\"\n").contains("have 0600 for its owner"));
}

#[test]
fn paths_must_be_absolute_and_roots_must_be_there() {
    let text = error("[daemon]\nroots = [\"rips\"]\n");
    assert_eq!(text, "test.toml:2: daemon.roots has \"rips\"; write an absolute path");
    assert!(error("[daemon]\nroots = []\n").contains("at least one directory"));
    let wanted = if cfg!(windows) { "the name of a pipe" } else { "absolute" };
    assert!(error("[daemon]\nsocket = \"s\"\n").contains(wanted));
}

#[cfg(unix)]
#[test]
fn a_root_has_settings_of_its_own_and_another_directory_has_none() {
    let text = "[daemon]\nroots = [\"/a\", \"/b\"]\n[root.\"/a\"]\ndrain = \"fdatasync\"\nrotational = false\n";
    let config = parse(text).unwrap();
    let settings = RootSettings { drain: Some(Rung::Fdatasync), rotational: Some(false) };
    assert_eq!(config.root_settings(Path::new("/a/film.mkv")), settings);
    assert_eq!(config.root_settings(Path::new("/b/film.mkv")), RootSettings::default());
    let auto = parse("[root.\"/srv/rips\"]\ndrain = \"auto\"\n").unwrap();
    assert_eq!(auto.root_settings(Path::new("/srv/rips/a")), RootSettings::default());
    let text = error("[root.\"/srv/rips\"]\ndrain = \"sync\"\n");
    assert!(
        text.starts_with("test.toml:2: root.drain is \"sync\"; write \"auto\", \"direct\""),
        "{text}"
    );
    let text = error("[root.\"/srv/rip\"]\ndrain = \"auto\"\n");
    assert!(text.contains("\"/srv/rip\", which is not in daemon.roots"), "{text}");
    assert!(error("[root.\"/srv/rips\"]\nrotational = \"no\"\n").contains("test.toml:2: "));
}

#[cfg(unix)]
#[test]
fn the_example_has_the_keys_of_a_root_as_they_would_be_written() {
    let start = EXAMPLE.find("# [root.").unwrap();
    let section: String = EXAMPLE[start..]
        .lines()
        .take_while(|line| !line.starts_with('['))
        .filter(|line| {
            line.starts_with("# [")
                || line.starts_with("# drain =")
                || line.starts_with("# rotational =")
        })
        .map(|line| format!("{}\n", line.trim_start_matches("# ")))
        .collect();
    let config = parse(&section).unwrap();
    let settings = RootSettings { drain: None, rotational: Some(true) };
    assert_eq!(config.root_settings(Path::new("/srv/rips/a")), settings);
}

#[cfg(unix)]
#[test]
fn modes_are_octal_and_leave_the_daemon_its_own_files() {
    let creation = |text: &str| parse(&format!("[files]\n{text}\n")).unwrap().creation;
    let file = |file_mode| Creation { file_mode, directory_mode: None };
    assert_eq!(creation("mode = \"0640\""), file(0o640));
    assert_eq!(creation("mode = \"0777\"\ndirectory_mode = \"0700\""), file(0o777));
    let made = Creation { directory_mode: Some(0o777), ..Creation::default() };
    assert_eq!(creation("make_directories = true"), made);
    let made = Creation { directory_mode: Some(0o750), ..made };
    assert_eq!(creation("make_directories = true\ndirectory_mode = \"0750\""), made);
    assert_eq!(
        error("[files]\nmode = \"4664\"\n"),
        "test.toml:2: files.mode is 4664; it must be at most 0777 and have 0200 for its owner"
    );
    assert!(error("[files]\nmode = \"0466\"\n").contains("have 0200"));
    assert!(error("[files]\ndirectory_mode = \"0677\"\n").contains("have 0700"));
    for wrong in ["664", "\"rw-r--r--\"", "0o664"] {
        let text = error(&format!("[files]\nmode = {wrong}\n"));
        assert!(text.starts_with("test.toml:2: ") && text.contains("like \"0664\""), "{text}");
    }
    let (old, new) = (parse("").unwrap(), parse("[files]\nmake_directories = true\n").unwrap());
    let change =
        "files from mode 0666, no directories made to mode 0666, directories made with mode 0777";
    assert_eq!(old.changes(&new), (vec![change.to_owned()], vec![]));
}

#[cfg(unix)]
#[test]
fn the_command_line_stands_above_the_file() {
    let overrides =
        Overrides { socket: Some("/tmp/s".into()), roots: vec!["/a".into(), "/b".into()] };
    let text = "[daemon]\nsocket = \"/run/s\"\nroots = [\"/c\"]\n";
    let config = Config::parse(text, Path::new("test.toml"), &overrides, &Host).unwrap();
    assert_eq!(config.socket, Some("/tmp/s".into()));
    assert_eq!(config.roots, [PathBuf::from("/a"), PathBuf::from("/b")]);
}

#[cfg(unix)]
#[test]
fn a_reload_says_what_changed_and_what_needs_a_restart() {
    let old = parse("").unwrap();
    let new = parse("[budget]\ntotal = \"1GiB\"\n[daemon]\nsocket = \"/run/other\"\n").unwrap();
    let (now, restart) = old.changes(&new);
    assert_eq!(now, ["budget.total from auto to 1.0 GiB"]);
    assert_eq!(restart.len(), 1);
    assert!(restart[0].starts_with("daemon.socket from "), "{restart:?}");
    assert_eq!(old.changes(&old), (vec![], vec![]));
}

#[cfg(unix)]
#[test]
fn a_reload_says_who_may_do_what_now() {
    let text = "[access]\ngroups = [\"freemkv\", 44]\nsocket_mode = \"0600\"\n[limits]\npath_length = 100\n";
    let (now, restart) = parse("").unwrap().changes(&parse(text).unwrap());
    assert_eq!(
        now,
        [
            "limits.path_length from 4095 to 100",
            "access.groups from nobody in particular to freemkv (990), 44"
        ]
    );
    assert_eq!(restart, ["access.socket_mode from auto to 0600"]);
}

#[cfg(windows)]
#[test]
fn paths_are_those_of_windows_and_what_is_of_unix_is_refused() {
    let text = "[daemon]\nsocket = '\\\\.\\pipe\\other'\nroots = ['D:\\rips']\n[root.'D:\\rips']\nrotational = true\n";
    let config = parse(text).unwrap();
    assert_eq!(config.socket, Some(r"\\.\pipe\other".into()));
    let settings = RootSettings { drain: None, rotational: Some(true) };
    assert_eq!(config.root_settings(Path::new(r"D:\rips\film.mkv")), settings);
    for wrong in ["[daemon]\nsocket = 'C:\\freemkvd.sock'\n", "[daemon]\nroots = ['/srv/rips']\n"] {
        let text = error(wrong);
        assert!(text.starts_with("test.toml:2: daemon."), "{text}");
    }
    for key in ["socket_mode = '0660'", "socket_group = 'adm'"] {
        let text = error(&format!("[access]\n{key}\n"));
        assert!(text.contains("has no meaning on this platform"), "{text}");
    }
}

#[test]
fn metrics_are_served_to_this_host_alone_and_only_where_asked_for() {
    assert_eq!(parse("").unwrap().metrics_listen, None);
    for good in ["127.0.0.1:9101", "127.0.0.2:1", "[::1]:9101"] {
        let config = parse(&format!("[metrics]\nlisten = \"{good}\"\n")).unwrap();
        assert_eq!(config.metrics_listen.unwrap().to_string(), good);
    }
    for bad in ["0.0.0.0:9101", "[::]:9101", "192.168.1.2:9101", "localhost:9101", "127.0.0.1", ""]
    {
        let text = error(&format!("[metrics]\nlisten = \"{bad}\"\n"));
        assert!(
            text.starts_with("test.toml:2: metrics.listen is") && text.contains("loopback"),
            "{text}"
        );
    }
    let (now, restart) =
        Config::default().changes(&parse("[metrics]\nlisten = \"127.0.0.1:9101\"\n").unwrap());
    assert_eq!(
        (now.len(), restart),
        (0, vec!["metrics.listen from nowhere to 127.0.0.1:9101".to_owned()])
    );
}
