//! What leads out of a root, and what is no file: refused, and not touched, also while somebody swaps it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{RenameFlags, mknodat, renameat_with};

use super::super::{Content, Disk, Known, Manner, Open, OpenError, Opened as File};
use super::*;

/// A root, and beside it a directory with a file that nobody may touch.
struct Place {
    _dir: tempfile::TempDir,
    root: PathBuf,
    outside: PathBuf,
}

const PRECIOUS: &[u8] = b"precious";
const EVERY: [OpenMode; 3] = [OpenMode::Create, OpenMode::CreateNew, OpenMode::Existing];

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir_in(".").unwrap();
        let base = dir.path().canonicalize().unwrap();
        let (root, outside) = (base.join("root"), base.join("outside"));
        fs::create_dir(&root).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("secret"), PRECIOUS).unwrap();
        Self { _dir: dir, root, outside }
    }

    fn open(&self, name: &str, mode: OpenMode) -> Result<File, OpenError> {
        self.make(name, mode, Creation::default())
    }

    fn make(&self, name: &str, mode: OpenMode, creation: Creation) -> Result<File, OpenError> {
        Disk.open(std::slice::from_ref(&self.root), &self.root.join(name), mode, creation)
    }

    /// Opens, and writes what would be seen in a wrong place.
    fn spoil(&self, name: &str, mode: OpenMode) -> bool {
        match self.open(name, mode) {
            Ok(mut opened) => {
                opened.storage.set_len(0).unwrap();
                opened.storage.write_at(0, Content::Bytes(b"spoiled"), Manner::Cached).unwrap();
                true
            }
            Err(_) => false,
        }
    }

    fn assert_outside_is_untouched(&self) {
        assert_eq!(fs::read(self.outside.join("secret")).unwrap(), PRECIOUS);
        assert_eq!(fs::read_dir(&self.outside).unwrap().count(), 1, "something was made there");
    }
}

fn is_outside(result: &Result<File, OpenError>) -> bool {
    matches!(result, Err(OpenError::OutsideRoots { .. }))
}

#[test]
fn links_are_followed_below_the_root_and_never_out_of_it() {
    let place = Place::new();
    let inside = |name: &str| place.root.join(name);
    fs::create_dir_all(inside("a/b")).unwrap();
    fs::write(inside("a/film"), b"").unwrap();
    let secret = place.outside.join("secret");
    let links: [(&str, PathBuf); 10] = [
        ("to_directory", "a".into()),
        ("to_file", "a/film".into()),
        ("a/b/up", "../film".into()),
        ("chain", "to_directory/b/up".into()),
        ("out", "../outside".into()),
        ("out_file", "../outside/secret".into()),
        ("out_absolute", place.outside.clone()),
        ("out_file_absolute", secret.clone()),
        ("out_chain", "out_absolute".into()),
        // An absolute link starts at "/", which is not below the root, wherever it comes back to.
        ("back_in", inside("a")),
    ];
    for (name, target) in links {
        symlink(target, inside(name)).unwrap();
    }
    let good = ["to_directory/film", "to_file", "a/b/up", "chain", "a/b/../film", "a/../a/film"];
    for name in good {
        assert!(place.open(name, OpenMode::Create).is_ok(), "{name}");
        assert!(place.open(name, OpenMode::Existing).is_ok(), "{name}");
    }
    let bad = [
        "out/secret",
        "out/new",
        "out_absolute/secret",
        "out_chain/secret",
        "back_in/film",
        "../outside/secret",
        "a/../../outside/secret",
        "a/b/../../../outside/new",
        "to_directory/../../outside/secret",
    ];
    for (name, mode) in bad.iter().flat_map(|name| EVERY.map(|mode| (name, mode))) {
        assert!(is_outside(&place.open(name, mode)), "{name} {mode:?}");
    }
    for name in ["out_file", "out_file_absolute"] {
        assert!(is_outside(&place.open(name, OpenMode::Create)), "{name}");
        assert!(is_outside(&place.open(name, OpenMode::Existing)), "{name}");
        let taken = place.open(name, OpenMode::CreateNew);
        assert!(matches!(taken, Err(OpenError::NotAFile { what: "a link", .. })));
    }
    place.assert_outside_is_untouched();
}

#[test]
fn magic_links_lead_nowhere_and_views_into_the_kernel_are_no_files() {
    let place = Place::new();
    let secret = fs::File::options().write(true).open(place.outside.join("secret")).unwrap();
    let proc_below = |name: &str, mode| {
        Disk.open(&["/proc".into()], &PathBuf::from("/proc").join(name), mode, Creation::default())
    };
    let outside = place.outside.strip_prefix("/").unwrap().display();
    let links = [
        format!("self/fd/{}", secret.as_raw_fd()),
        format!("thread-self/fd/{}", secret.as_raw_fd()),
        format!("self/root/{outside}/secret"),
        "self/cwd/Cargo.toml".to_owned(),
        "self/exe".to_owned(),
    ];
    for name in &links {
        assert!(is_outside(&proc_below(name, OpenMode::Existing)), "{name}");
        assert!(is_outside(&proc_below(name, OpenMode::Create)), "{name}");
    }
    for (name, mode) in [
        ("self/mem", OpenMode::Existing),
        ("self/comm", OpenMode::Create),
        ("new", OpenMode::CreateNew),
    ] {
        let refused = proc_below(name, mode);
        let is_view = |what: &str| what.contains("view into the kernel");
        assert!(
            matches!(refused, Err(OpenError::NotAFile { what, .. }) if is_view(what)),
            "{name}"
        );
    }
    place.assert_outside_is_untouched();
}

#[test]
fn a_file_with_another_name_is_left_alone() {
    let place = Place::new();
    fs::hard_link(place.outside.join("secret"), place.root.join("film")).unwrap();
    for mode in [OpenMode::Create, OpenMode::Existing] {
        let refused = place.open("film", mode);
        assert!(matches!(refused, Err(OpenError::Linked { names: 2, .. })), "{mode:?}");
    }
    assert!(place.open("film", OpenMode::CreateNew).is_err());
    place.assert_outside_is_untouched();
    fs::remove_file(place.root.join("film")).unwrap();
    assert!(place.open("film", OpenMode::Create).is_ok());
}

#[test]
fn what_has_taken_the_name_of_a_file_that_could_not_be_opened_twice_stays() {
    let place = Place::new();
    let path = place.root.join("film");
    let failed = |is_replaced: bool| {
        let made = open_place(&place.root, Path::new("film"), None, |place| {
            // No file, which is refused like a second open for which there is no descriptor.
            mknodat(place.directory, place.name, FileType::Fifo, Mode::RWXU, 0).unwrap();
            let made = open_at(place.directory, place.name, LOOK, NO_MODE).unwrap();
            if is_replaced {
                fs::remove_file(&path).unwrap();
                fs::write(&path, PRECIOUS).unwrap();
            }
            Ok((made, true))
        });
        assert!(made.is_err());
    };
    failed(false);
    assert!(!path.exists(), "its own is removed");
    failed(true);
    assert_eq!(fs::read(&path).unwrap(), PRECIOUS);
}

#[test]
fn a_file_that_runs_as_another_is_left_alone() {
    let place = Place::new();
    let path = place.root.join("program");
    fs::write(&path, PRECIOUS).unwrap();
    for (mode, is_refused) in
        [(0o644, false), (0o4644, true), (0o4755, true), (0o2775, true), (0o2664, false)]
    {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        for open in [OpenMode::Create, OpenMode::Existing] {
            let refused = matches!(place.open("program", open), Err(OpenError::SetId { .. }));
            assert_eq!(refused, is_refused, "{mode:o} {open:?}");
        }
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, mode);
    }
    assert_eq!(fs::read(&path).unwrap(), PRECIOUS);
}

#[test]
fn a_stream_goes_on_with_a_file_that_got_another_name() {
    let place = Place::new();
    let (path, roots) = (place.root.join("film"), [place.root.clone()]);
    let opened = place.open("film", OpenMode::CreateNew).unwrap();
    let known = Known {
        id: opened.id,
        born: opened.born,
        other_path: None,
        reserved_bytes: 0,
        descriptors: None,
    };
    let tells_birth = known.born.is_some();
    drop(opened);
    fs::hard_link(&path, place.root.join("other")).unwrap();
    assert_eq!(Disk.reopen(&roots, &path, known).is_ok(), tells_birth);
}

#[test]
fn a_fifo_is_refused_without_being_opened() {
    let place = Place::new();
    let fifo = place.root.join("fifo");
    mknodat(CWD, &fifo, FileType::Fifo, Mode::RWXU, 0).unwrap();
    let reader = rustix::fs::open(&fifo, OFlags::RDONLY | OFlags::NONBLOCK, NO_MODE).unwrap();
    for mode in EVERY {
        let refused = place.open("fifo", mode);
        assert!(matches!(refused, Err(OpenError::NotAFile { what: "a FIFO", .. })));
    }
    assert!(!had_a_writer(&reader));
}

/// True when somebody has opened the FIFO for writing, and closed it.
fn had_a_writer(reader: &OwnedFd) -> bool {
    let mut seen = [PollFd::new(reader, PollFlags::IN)];
    poll(&mut seen, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap();
    seen[0].revents().contains(PollFlags::HUP)
}

#[test]
fn directories_are_made_only_if_wanted_and_only_below_the_root() {
    let place = Place::new();
    let made = Creation { file_mode: 0o640, directory_mode: Some(0o750) };
    assert!(place.open("a/b/film", OpenMode::Create).is_err());
    assert!(place.make("a/b/film", OpenMode::Existing, made).is_err());
    assert!(!place.root.join("a").exists());
    assert!(place.make("a/b/film", OpenMode::CreateNew, made).is_ok());
    assert!(place.make("a/b/film", OpenMode::Create, made).is_ok());
    let mode =
        |name: &str| fs::metadata(place.root.join(name)).unwrap().permissions().mode() & 0o777;
    // Two groups and others differ, whatever the umask of whoever runs this takes away.
    assert_eq!((mode("a") & !0o750, mode("a/b") & !0o750, mode("a/b/film") & !0o640), (0, 0, 0));
    assert_eq!((mode("a") & 0o700, mode("a/b/film") & 0o600), (0o700, 0o600));
    symlink(&place.outside, place.root.join("out")).unwrap();
    symlink("../outside/new", place.root.join("dangling")).unwrap();
    for name in ["out/new/film", "dangling/film", "x/../../outside/new/film", "../outside/new/film"]
    {
        assert!(place.make(name, OpenMode::Create, made).is_err(), "{name}");
    }
    assert!(!place.root.join("x").exists(), "what a \"..\" means there is anybody's guess");
    place.assert_outside_is_untouched();
}

#[test]
fn sixteen_directories_are_made_for_one_file_and_of_more_none() {
    let place = Place::new();
    let made = Creation { directory_mode: Some(0o777), ..Creation::default() };
    let deep = |name: &str, count: usize| format!("{}film", format!("{name}/").repeat(count));
    let error = place.make(&deep("a", 17), OpenMode::Create, made).err().unwrap();
    assert!(error.to_string().contains("more than 16 directories are missing"), "{error}");
    assert!(!place.root.join("a").exists());
    let deepest = deep("d", 2000);
    assert!(place.make(&deepest, OpenMode::Create, made).is_err());
    assert!(!place.root.join("d").exists());
    assert!(place.make(&deep("a", 16), OpenMode::Create, made).is_ok());
    assert!(place.make(&deep("a", 32), OpenMode::Create, made).is_ok(), "16 are there");
    assert!(place.make(&deep("a", 49), OpenMode::Create, made).is_err());
    let a = place.root.join(deep("a", 33));
    assert!(!a.parent().unwrap().exists());
}

#[test]
fn the_group_of_a_directory_is_that_of_what_is_made_in_it() {
    let place = Place::new();
    fs::set_permissions(&place.root, fs::Permissions::from_mode(0o2775)).unwrap();
    let made = Creation { directory_mode: Some(0o777), ..Creation::default() };
    assert!(place.make("a/film", OpenMode::Create, made).is_ok());
    let of = |name: &str| fs::metadata(place.root.join(name)).unwrap();
    assert_eq!(of("a").mode() & 0o2000, 0o2000, "it hands the group down");
    assert_eq!(of("a/film").gid(), of("").gid());
}

/// Exchanges two names below the root without a pause while `attempt` is made again and again, until it has
/// often succeeded and often been refused: then both were met. Nothing outside may be touched.
fn race(place: &Place, (one, other): (&str, &str), mut attempt: impl FnMut(usize) -> bool) {
    const ENOUGH: usize = 100;
    let end = Instant::now() + Duration::from_secs(60);
    let stop = AtomicBool::new(false);
    let (mut opened, mut refused, mut tries) = (0, 0, 0);
    thread::scope(|scope| {
        scope.spawn(|| {
            let (one, other) = (place.root.join(one), place.root.join(other));
            while !stop.load(Ordering::Relaxed) {
                renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).unwrap();
            }
        });
        while (opened < ENOUGH || refused < ENOUGH) && Instant::now() < end {
            tries += 1;
            // On a busy machine the other one may never run meanwhile.
            thread::yield_now();
            match attempt(tries) {
                true => opened += 1,
                false => refused += 1,
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(
        opened >= ENOUGH && refused >= ENOUGH,
        "{opened} opened and {refused} refused: no race"
    );
    place.assert_outside_is_untouched();
}

#[test]
fn a_directory_swapped_for_a_link_leads_nowhere() {
    let place = Place::new();
    fs::create_dir(place.root.join("directory")).unwrap();
    fs::write(place.root.join("directory/secret"), b"").unwrap();
    symlink(&place.outside, place.root.join("link")).unwrap();
    for mode in [OpenMode::Create, OpenMode::Existing] {
        race(&place, ("directory", "link"), |_| place.spoil("directory/secret", mode));
    }
}

#[test]
fn a_directory_swapped_for_a_relative_link_leads_nowhere() {
    let place = Place::new();
    fs::create_dir_all(place.root.join("a/directory")).unwrap();
    fs::write(place.root.join("a/directory/secret"), b"").unwrap();
    symlink("../../outside", place.root.join("a/link")).unwrap();
    let name = "a/directory/../directory/secret";
    race(&place, ("a/directory", "a/link"), |_| place.spoil(name, OpenMode::Create));
}

#[test]
fn a_new_file_is_not_made_where_a_link_leads() {
    let place = Place::new();
    fs::create_dir(place.root.join("directory")).unwrap();
    symlink(&place.outside, place.root.join("link")).unwrap();
    race(&place, ("directory", "link"), |number| {
        place.spoil(&format!("directory/{number}"), OpenMode::CreateNew)
    });
}

#[test]
fn a_file_swapped_for_a_link_leads_nowhere() {
    let place = Place::new();
    fs::write(place.root.join("film"), b"").unwrap();
    symlink("../outside/secret", place.root.join("link")).unwrap();
    for mode in [OpenMode::Create, OpenMode::Existing] {
        race(&place, ("film", "link"), |_| place.spoil("film", mode));
    }
}

#[test]
fn a_file_swapped_for_one_with_another_name_is_not_emptied() {
    let place = Place::new();
    fs::write(place.root.join("film"), b"").unwrap();
    fs::hard_link(place.outside.join("secret"), place.root.join("linked")).unwrap();
    race(&place, ("film", "linked"), |_| place.spoil("film", OpenMode::Create));
}

#[test]
fn a_file_swapped_for_a_fifo_never_opens_it() {
    let place = Place::new();
    let fifo = place.root.join("fifo");
    fs::write(place.root.join("film"), b"").unwrap();
    mknodat(CWD, &fifo, FileType::Fifo, Mode::RWXU, 0).unwrap();
    let reader = rustix::fs::open(&fifo, OFlags::RDONLY | OFlags::NONBLOCK, NO_MODE).unwrap();
    race(&place, ("film", "fifo"), |_| place.spoil("film", OpenMode::Create));
    assert!(!had_a_writer(&reader));
}

#[test]
fn a_directory_that_is_made_while_its_parent_is_swapped_is_made_below_the_root() {
    let place = Place::new();
    fs::create_dir(place.root.join("directory")).unwrap();
    symlink(&place.outside, place.root.join("link")).unwrap();
    let made = Creation { directory_mode: Some(0o777), ..Creation::default() };
    race(&place, ("directory", "link"), |number| {
        place.make(&format!("directory/{number}/film"), OpenMode::CreateNew, made).is_ok()
    });
}
