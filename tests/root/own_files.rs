//! Files that their muxers open, where that makes a difference: the daemon is another user, or a path means
//! something else to it.
//!
//! Injected: users, umasks, directories that one of them may not enter, read or change, links that somebody has
//! planted, mounts that only the muxer has, a file system that stands still, and kill -9 of the daemon.

mod ground;

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::time::{Duration, Instant};

use freemkvd_client::{Error, OpenBy, RipFile};
use freemkvd_tests::daemon::wait_until;
use rustix::process::Signal;

use self::ground::{DAEMON, Ground, MUXER};
use super::MIB;
use super::disk::Frozen;
use super::place::Place;

const BY_DESCRIPTOR: &str = "durable; opened by descriptor\n";
const INSTEAD: &str = "durable; opened by path instead of by descriptor\n";

#[test]
#[ignore = "needs root: users, loop devices"]
fn a_file_belongs_to_the_user_who_writes_it_where_the_daemon_may_not_go() {
    let ground = Ground::new("ext4");
    let private = ground.directory("films", MUXER, 0o700);
    for (umask, mode) in [("022", 0o644), ("027", 0o640), ("077", 0o600)] {
        let path = private.join(umask);
        let muxer = ground.muxer(MUXER, umask, &[], &path);
        let said = ground.feed(muxer, 5 * MIB + 7).succeeds();
        assert!(said.ends_with(BY_DESCRIPTOR), "{said}");
        let found = fs::metadata(&path).unwrap();
        assert_eq!((found.uid(), found.gid(), found.mode() & 0o7777), (MUXER, MUXER, mode));
        ground.is_film(&path, 5 * MIB + 7);
    }
    // And in its root, too.
    let open = ground.directory("root/open", DAEMON, 0o777);
    let said = ground.feed(ground.muxer(MUXER, "022", &[], &open.join("film")), MIB).succeeds();
    assert!(said.ends_with(BY_DESCRIPTOR), "{said}");
    assert_eq!(fs::metadata(open.join("film")).unwrap().uid(), MUXER);
}

#[test]
#[ignore = "needs root: users, loop devices"]
fn a_daemon_that_is_killed_gets_the_file_again_that_it_may_not_open() {
    for more in [&[][..], &["--publish", "--leftover", "remove"]] {
        for signal in [Signal::KILL, Signal::TERM] {
            let mut ground = Ground::new("xfs");
            let path = ground.directory("films", MUXER, 0o700).join("film");
            let mut muxer = ground.muxer(MUXER, "027", more, &path);
            muxer.write(0, 20 * MIB);
            ground.wait_for_content(8 * MIB);
            ground.daemon.replace(signal);
            muxer.write(20 * MIB, 40 * MIB);
            let said = muxer.end().succeeds();
            assert!(said.ends_with(BY_DESCRIPTOR), "{said}");
            ground.is_film(&path, 40 * MIB);
            assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
            let found = fs::metadata(&path).unwrap();
            assert_eq!((found.uid(), found.mode() & 0o7777), (MUXER, 0o640));
            assert!(
                ground.daemon.log().contains("goes on by descriptor"),
                "{}",
                ground.daemon.log()
            );
        }
    }
}

#[test]
#[ignore = "needs root: users, mounts, loop devices"]
fn bytes_land_where_the_path_leads_the_muxer() {
    // The same user, so that it is the mounts alone that matter.
    for user in [DAEMON, MUXER] {
        let mut ground = Ground::new("ext4");
        let films = ground.directory("root/films", DAEMON, 0o777);
        let inner = ground.directory("inner", user, 0o755);
        let over = format!("mount --bind {} {}", inner.display(), films.display());
        let mut muxer = ground.muxer_after(&over, user, "022", &[], &films.join("film"));
        muxer.write(0, 20 * MIB);
        ground.wait_for_content(8 * MIB);
        ground.daemon.replace(Signal::KILL);
        muxer.write(20 * MIB, 30 * MIB);
        let said = muxer.end().succeeds();
        assert!(said.ends_with(BY_DESCRIPTOR), "{said}");
        ground.is_film(&inner.join("film"), 30 * MIB);
        assert_eq!(fs::metadata(inner.join("film")).unwrap().uid(), user);
        assert_eq!(fs::read_dir(&films).unwrap().count(), 0, "that is where it leads the daemon");

        // Had it been told the path, it would have been there.
        let by_path = ["--open-by", "path"];
        let muxer = ground.muxer_after(&over, user, "022", &by_path, &films.join("other"));
        let said = ground.feed(muxer, MIB).succeeds();
        assert!(said.ends_with("durable; opened by path\n"), "{said}");
        ground.is_film(&films.join("other"), MIB);
        assert!(!inner.join("other").exists());
    }
}

#[test]
#[ignore = "needs root: users, namespaces, loop devices"]
fn a_daemon_that_can_not_be_seen_may_be_anywhere() {
    let ground = Ground::new("ext4");
    let open = ground.directory("root/open", DAEMON, 0o755);
    let said = ground.feed(ground.muxer_apart(DAEMON, &open.join("film")), MIB).succeeds();
    assert!(said.ends_with(BY_DESCRIPTOR), "{said}");
    ground.is_film(&open.join("film"), MIB);
    // What may not be opened here may be another file there.
    let closed = ground.directory("root/closed", DAEMON, 0o755);
    let said = ground.feed(ground.muxer_apart(MUXER, &closed.join("film")), MIB).fails();
    assert!(said.contains("cannot open, in this process, "), "{said}");
    // Seen, and the same user with the same mounts, it is told the path.
    let muxer = ground.muxer(DAEMON, "022", &[], &open.join("other"));
    let said = ground.feed(muxer, MIB).succeeds();
    assert!(said.ends_with("durable; opened by path\n"), "{said}");
}

#[test]
#[ignore = "needs root: users, mounts, loop devices"]
fn the_daemon_opens_what_its_muxer_may_not_only_if_the_path_is_the_same_to_both() {
    let ground = Ground::new("ext4");
    let closed = ground.directory("root/closed", DAEMON, 0o755);
    let deep = ground.directory("root/closed/deep", DAEMON, 0o755);
    let ways = ground.directory("root/ways", DAEMON, 0o755);
    symlink("../closed", ways.join("way")).unwrap();
    for path in [closed.join("film"), deep.join("film"), ways.join("way/linked")] {
        let said = ground.feed(ground.muxer(MUXER, "022", &[], &path), MIB).succeeds();
        assert!(said.ends_with(INSTEAD), "{said}");
        let why = format!(
            "freemkvd opens files itself instead: cannot open, in this process, {}",
            path.display()
        );
        assert!(said.contains(&why) && said.contains("Permission denied"), "{said}");
        ground.is_film(&path, MIB);
        assert_eq!(fs::metadata(&path).unwrap().uid(), DAEMON);
    }
    // Also below a mount that is read-only for the muxer.
    let open = ground.directory("root/open", DAEMON, 0o777);
    let (path, here) = (open.join("film"), open.display());
    let read_only = format!("mount --bind {here} {here} && mount -o remount,bind,ro {here}");
    let said =
        ground.feed(ground.muxer_after(&read_only, MUXER, "022", &[], &path), MIB).succeeds();
    assert!(said.ends_with(INSTEAD) && said.contains("Read-only file system"), "{said}");
    ground.is_film(&path, MIB);

    // Where the path leads elsewhere, nobody opens it.
    let inner = ground.directory("inner", DAEMON, 0o755);
    let over = format!("mount --bind {} {here}", inner.display());
    let muxer = ground.muxer_after(&over, MUXER, "022", &[], &open.join("other"));
    let said = ground.feed(muxer, MIB).fails();
    assert!(said.contains("cannot open, in this process, ") && said.contains("denied"), "{said}");
    assert!(!open.join("other").exists() && !inner.join("other").exists());
    // Nor where it was to be this process, nor outside of the roots.
    let elsewhere = ground.directory("elsewhere", DAEMON, 0o755);
    for (more, path) in
        [(&["--open-by", "descriptor"][..], closed.join("other")), (&[], elsewhere.join("other"))]
    {
        let said = ground.feed(ground.muxer(MUXER, "022", more, &path), MIB).fails();
        assert!(said.contains("cannot open, in this process, "), "{said}");
        assert!(!path.exists());
    }
}

#[test]
#[ignore = "needs root: users, mounts, loop devices"]
fn the_daemon_is_not_told_a_path_of_which_something_may_lead_it_elsewhere() {
    let ground = Ground::new("ext4");
    let directory = |name: &str| ground.directory(name, DAEMON, 0o755);
    let (open, new) = (directory("root/open"), directory("root/open/new"));
    fs::write(new.join("film"), "content").unwrap();
    // To the muxer `new` is another directory, which is read-only. A link leads there.
    let inner = directory("inner");
    fs::write(inner.join("film"), "inner").unwrap();
    symlink("new/film", open.join("film")).unwrap();
    let (from, to) = (inner.display(), new.display());
    let read_only = format!("mount --bind {from} {to} && mount -o remount,bind,ro {to}");
    let more = ["--overwrite"];
    let muxer = ground.muxer_after(&read_only, MUXER, "022", &more, &open.join("film"));
    let said = ground.feed(muxer, MIB).fails();
    assert!(said.contains("it is a symbolic link"), "{said}");
    assert_eq!(fs::read(new.join("film")).unwrap(), b"content");

    // What may not be looked at may be a link: that could lead anywhere below the root.
    let hidden = ground.directory("root/hidden", DAEMON, 0o700);
    symlink("../open/new/film", hidden.join("film")).unwrap();
    for name in ["film", "new", "deep/film"] {
        let muxer = ground.muxer(MUXER, "022", &more, &hidden.join(name));
        let said = ground.feed(muxer, MIB).fails();
        assert!(said.contains("cannot open, in this process, "), "{said}");
        assert!(said.contains("Permission denied"), "{said}");
    }
    assert_eq!(fs::read(new.join("film")).unwrap(), b"content");
    assert_eq!(fs::read_dir(&hidden).unwrap().count(), 1);

    // The muxer goes through a link of its own mount to what it may not write; the daemon would go elsewhere.
    let (closed, theirs) = (directory("root/closed"), directory("theirs"));
    symlink(&closed, theirs.join("way")).unwrap();
    let way = directory("root/open/way");
    let over = format!("mount --bind {} {}", theirs.display(), open.display());
    let muxer = ground.muxer_after(&over, MUXER, "022", &[], &open.join("way/film"));
    let said = ground.feed(muxer, MIB).fails();
    assert!(said.contains("Permission denied"), "{said}");
    assert_eq!(fs::read_dir(&closed).unwrap().count(), 0);
    assert_eq!(fs::read_dir(&way).unwrap().count(), 0);
}

#[test]
#[ignore = "needs root: users, loop devices"]
fn a_directory_that_is_missing_is_made_by_the_daemon_if_it_is_told_to() {
    for makes in [false, true] {
        let ground = Ground::configured("ext4", &format!("[files]\nmake_directories = {makes}\n"));
        let open = ground.directory("root/open", DAEMON, 0o777);
        let path = open.join("a/b/film");
        let end = ground.feed(ground.muxer(MUXER, "022", &[], &path), MIB);
        if makes {
            let said = end.succeeds();
            assert!(said.ends_with(INSTEAD) && said.contains("No such file"), "{said}");
            ground.is_film(&path, MIB);
            assert_eq!(fs::metadata(open.join("a")).unwrap().uid(), DAEMON);
        } else {
            let said = end.fails();
            assert!(said.contains("cannot open, in this process, "), "{said}");
            assert!(!open.join("a").exists());
        }
        // A file that is to be there is not looked for by anybody else.
        let options = RipFile::options().socket(ground.daemon.socket());
        let error = options.open(open.join("none")).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
        assert!(error.to_string().contains("in this process"), "{error}");
    }
}

#[test]
#[ignore = "needs root: users, mounts, loop devices"]
fn what_the_daemon_does_not_take_it_may_open_itself() {
    let ground = Ground::new("ext4");
    let memory = Place::new("tmpfs", 16);
    fs::set_permissions(memory.dir(), Permissions::from_mode(0o1777)).unwrap();
    let below = ground.directory("root/memory", DAEMON, 0o755);
    let path = below.join("film");
    // Of a daemon's own making, since what is mounted under it later it sees too.
    let mounted = ground::Bound::new(memory.dir(), &below);
    let said = ground.feed(ground.muxer(MUXER, "022", &[], &path), MIB).succeeds();
    assert!(said.ends_with(INSTEAD) && said.contains("it lies in memory"), "{said}");
    ground.is_film(&path, MIB);
    assert_eq!(fs::metadata(&path).unwrap().uid(), DAEMON);
    drop(mounted);
}

#[test]
#[ignore = "needs root: users, loop devices"]
fn a_directory_that_can_not_be_read_has_its_file_system_synced() {
    for more in [&[][..], &["--publish"]] {
        let ground = Ground::new("ext4");
        let blind = ground.directory("blind", MUXER, 0o300);
        let path = blind.join("film");
        let said = ground.feed(ground.muxer(MUXER, "022", more, &path), 3 * MIB).succeeds();
        assert!(said.ends_with(BY_DESCRIPTOR), "{said}");
        ground.is_film(&path, 3 * MIB);
    }
}

#[test]
#[ignore = "needs root: loop devices"]
fn a_disk_that_hangs_holds_up_no_open_for_longer_than_it_may_take() {
    let ground = Ground::new("ext4");
    let path = ground.directory("films", 0, 0o755).join("film");
    let frozen = Frozen::new(&super::mount("ext4"));
    let since = Instant::now();
    let options = RipFile::options().socket(ground.daemon.socket()).open_by(OpenBy::Descriptor);
    let error = options.connect_timeout(Duration::from_secs(2)).create(&path).unwrap_err();
    let took = since.elapsed();
    drop(frozen);
    assert!(matches!(error, Error::TimedOut { .. }), "{error}");
    assert!(took < Duration::from_secs(4), "{took:?}");
    let is_over = || {
        !fs::read_dir("/proc/self/task").unwrap().flatten().any(|task| {
            fs::read_to_string(task.path().join("comm"))
                .is_ok_and(|name| name.starts_with("freemkv-open"))
        })
    };
    assert!(wait_until(is_over), "it still opens");
    assert!(!path.exists(), "what was opened in vain is taken away");
}

#[test]
#[ignore = "needs root: users, loop devices"]
fn nobody_is_led_by_planted_links_to_files_that_the_planter_may_not_write() {
    let ground = Ground::new("ext4");
    let open = ground.directory("root/open", DAEMON, 0o777);
    let secret = ground.directory("secret", 0, 0o700);
    let victim = secret.join("victim");
    fs::write(&victim, "content").unwrap();
    let planted = |target: &str, name: &str, owner: u32| {
        symlink(target, open.join(name)).unwrap();
        lchown(open.join(name), Some(owner), None).unwrap();
    };
    planted("../../secret/victim", "link", MUXER);
    planted("../../secret/victim", "film.partial", MUXER);
    planted("../../secret/new", "dangling", MUXER);
    planted("../../secret", "season", MUXER);
    // The kernel has this one made only by somebody who may write the file, if it protects hard links.
    fs::hard_link(&victim, open.join("second")).unwrap();
    for (name, more, why) in [
        ("link", &["--overwrite"][..], "it is a symbolic link, and is opened only by"),
        ("film", &["--overwrite", "--publish"], "it is a symbolic link, and is opened only by"),
        ("dangling", &["--overwrite"], "it is a symbolic link, and is opened only by"),
        ("second", &["--overwrite"], "it has other names, too (hard links), and is opened only by"),
        ("season/victim", &["--overwrite"], "the link season on the way to it is user 20702's"),
        ("season/new", &[], "the link season on the way to it is user 20702's"),
    ] {
        let muxer = ground.muxer(0, "022", more, &open.join(name));
        let said = ground.feed(muxer, MIB).fails();
        assert!(said.contains("cannot open, in this process, ") && said.contains(why), "{said}");
        assert_eq!(fs::read(&victim).unwrap(), b"content", "{name}");
        assert_eq!(fs::read_dir(&secret).unwrap().count(), 1, "{name}");
    }

    // Root's own layout goes on working, and the user's own one for that user.
    let theirs = ground.directory("theirs", MUXER, 0o755);
    planted("../../secret", "roots", 0);
    planted("../../theirs", "users", MUXER);
    for (user, name, there) in [(0, "roots/film", &secret), (MUXER, "users/film", &theirs)] {
        let said = ground.feed(ground.muxer(user, "022", &[], &open.join(name)), MIB).succeeds();
        assert!(said.ends_with(BY_DESCRIPTOR), "{said}");
        ground.is_film(&there.join("film"), MIB);
    }
    // And whoever is told to open it himself does, as any program.
    for name in ["link", "season/new", "second"] {
        let by_descriptor = ["--overwrite", "--open-by", "descriptor"];
        let muxer = ground.muxer(0, "022", &by_descriptor, &open.join(name));
        let said = ground.feed(muxer, MIB).succeeds();
        assert!(said.ends_with(BY_DESCRIPTOR), "{said}");
    }
    ground.is_film(&victim, MIB);
    ground.is_film(&secret.join("new"), MIB);
}
