//! The power fails at any moment, while rips run through the daemon: what was told to be durable is there
//! afterwards, with its name and byte for byte, and no film ever has its name before it is whole.
//!
//! Injected: the image below a mounted file system is cloned (`FICLONE`) on an XFS made for it, which makes a
//! copy of one moment: no write to the image is in it in part, and none without those that came before. That is
//! what a disk without a cache of its own holds after a power cut. The clones are mounted, and looked at, when
//! the rips are over. That a clone is one moment is a test of its own.
//!
//! `FREEMKVD_CUTS` says how many for each file system, `FREEMKVD_SEED` when.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use freemkvd_client::{Options, RipFile};
use freemkvd_tests::daemon::{Daemon, wait_until};
use freemkvd_tests::pattern;
use rand_core::{RngCore, SeedableRng};
use rand_pcg::Pcg64Mcg;

use super::MIB;
use super::place::{Place, work};

/// At the start of each film: which one it is, how many syncs it has had, and how long it is, if it is whole.
/// Patched at each sync, so that a patch has to be as durable as what is appended.
const HEAD_BYTES: u64 = 24;

const MUXERS: u64 = 3;

/// Each muxer writes its films to these names in turn, again and again.
const NAMES: u64 = 3;

/// A film is this long at most, in pieces of half a MiB.
const PIECES_MAX: u64 = 12;
const PIECE_BYTES: u64 = MIB / 2;

/// What is known to be durable of one name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Durable {
    /// The newest film that was finished.
    finished: u64,
    /// The newest film that a sync was answered for, how many syncs, and how long it was then.
    synced: (u64, u64, u64),
}

impl Durable {
    fn has_finished(&self) -> bool {
        self.finished > 0
    }

    /// Of a film that was not finished.
    fn has_synced(&self) -> bool {
        self.synced.0 > self.finished
    }
}

/// What all muxers have been told, by path from the file system's root.
type Told = Arc<Mutex<BTreeMap<PathBuf, Durable>>>;

#[derive(Clone, Copy, Debug)]
struct Head {
    film: u64,
    syncs: u64,
    whole_len: u64,
}

impl Head {
    fn bytes(self) -> Vec<u8> {
        [self.film, self.syncs, self.whole_len].iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    fn read(path: &Path) -> Option<Self> {
        let mut bytes = [0; 24];
        File::open(path).ok()?.read_exact(&mut bytes).ok()?;
        let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        Some(Self { film: word(0), syncs: word(8), whole_len: word(16) })
    }
}

/// The first place up to `len` at which the film of `path` is not what it should be.
fn first_wrong(path: &Path, film: u64, len: u64) -> Option<u64> {
    let bytes = fs::read(path).unwrap();
    let len = usize::try_from(len).unwrap();
    let mut expected = pattern::bytes(film, 0, len);
    let head = usize::try_from(HEAD_BYTES).unwrap().min(len).min(bytes.len());
    expected[..head].copy_from_slice(&bytes[..head]);
    let found = &bytes[..len.min(bytes.len())];
    let differs = found.iter().zip(&expected).position(|(found, expected)| found != expected);
    differs.or((bytes.len() < len).then_some(bytes.len())).map(|at| at as u64)
}

fn patch_head(file: &mut RipFile, head: Head) -> std::io::Result<()> {
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&head.bytes())?;
    file.seek(SeekFrom::End(0)).map(drop)
}

/// Writes film after film until it is told to stop.
fn rip(options: &Options, root: &Path, muxer: u64, seed: u64, told: &Told, stop: &AtomicBool) {
    let mut random = Pcg64Mcg::seed_from_u64(seed ^ muxer);
    let mut films = 0;
    while !stop.load(Ordering::Relaxed) {
        films += 1;
        let film = muxer * 1_000_000 + films;
        let name = PathBuf::from(format!("muxer{muxer}/{}.mkv", films % NAMES));
        let mut file = options.clone().publish(true).create(root.join(&name)).unwrap();
        let mut head = Head { film, syncs: 0, whole_len: 0 };
        file.write_all(&head.bytes()).unwrap();
        let mut len = HEAD_BYTES;
        for _ in 0..1 + random.next_u64() % PIECES_MAX {
            let piece = 1 + random.next_u64() % PIECE_BYTES;
            pattern::write(&mut file, film, len, piece).unwrap();
            len += piece;
            if random.next_u64() % 4 == 0 {
                head.syncs += 1;
                patch_head(&mut file, head).unwrap();
                file.sync_all().unwrap();
                let mut told = told.lock().unwrap();
                told.entry(name.clone()).or_default().synced = (film, head.syncs, len);
            }
        }
        patch_head(&mut file, Head { whole_len: len, ..head }).unwrap();
        file.finish().unwrap();
        told.lock().unwrap().entry(name).or_default().finished = film;
    }
}

/// What a power cut left, and what had been told before it.
struct Cut {
    image: PathBuf,
    told: BTreeMap<PathBuf, Durable>,
}

impl Cut {
    fn has_finished(&self) -> bool {
        self.told.values().any(Durable::has_finished)
    }

    fn has_synced(&self) -> bool {
        self.told.values().any(Durable::has_synced)
    }
}

fn clone(from: &Path, to: &Path) {
    let (from, to) = (File::open(from).unwrap(), File::create(to).unwrap());
    rustix::fs::ioctl_ficlone(&to, &from).unwrap();
}

/// Looks at every name that was told of, and at every file there is.
fn violations(cut: &Cut, root: &Path) -> Vec<String> {
    let mut broken = Vec::new();
    for (name, durable) in &cut.told {
        let path = root.join(name);
        let mut partial = path.clone().into_os_string();
        partial.push(".partial");
        let (has, partial) = (Head::read(&path), PathBuf::from(partial));
        let film = has.map_or(0, |head| head.film);
        if film < durable.finished {
            broken.push(format!("{}: film {film}, told was {durable:?}", name.display()));
        }
        let (synced, syncs, len) = durable.synced;
        if film >= synced {
            continue;
        }
        // It is not finished, so it is the one that has the other name.
        match Head::read(&partial) {
            Some(head) if head.film == synced && head.syncs >= syncs => {
                if let Some(at) = first_wrong(&partial, synced, len) {
                    broken.push(format!(
                        "{}: wrong at {at}, told was {durable:?}",
                        partial.display()
                    ));
                }
            }
            other => broken.push(format!("{}: {other:?}, told was {durable:?}", partial.display())),
        }
    }
    for muxer in 0..MUXERS {
        for number in 0..NAMES {
            let path = root.join(format!("muxer{muxer}/{number}.mkv"));
            let Ok(metadata) = fs::metadata(&path) else { continue };
            let head = Head::read(&path).filter(|head| head.whole_len == metadata.len());
            match head {
                None => {
                    broken.push(format!(
                        "{}: half a film: {:?}",
                        path.display(),
                        Head::read(&path)
                    ));
                }
                Some(head) => {
                    let wrong = first_wrong(&path, head.film, head.whole_len);
                    let wrong =
                        wrong.map(|at| format!("{}: wrong at {at}: {head:?}", path.display()));
                    broken.extend(wrong);
                }
            }
        }
    }
    broken
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |number| number.parse().unwrap())
}

fn what_was_durable_outlives_power_cuts_on(filesystem: &'static str) {
    let (cuts, seed) = (number("FREEMKVD_CUTS", 4), number("FREEMKVD_SEED", 1));
    let cuts = usize::try_from(cuts).unwrap();
    let scratch = Place::new("xfs", 16 << 10);
    let place = Place::on(scratch.dir(), filesystem, 256);
    let image = scratch.dir().join(format!("{filesystem}.img"));
    (0..MUXERS)
        .for_each(|muxer| fs::create_dir(place.dir().join(format!("muxer{muxer}"))).unwrap());
    super::support::sync_file_system(place.dir());
    let daemon = Daemon::start(place.dir(), "");
    let (told, stop) = (Told::default(), AtomicBool::new(false));
    let options = daemon.options().window_bytes(MIB).memory_limit_bytes(8 * MIB);
    let mut random = Pcg64Mcg::seed_from_u64(seed);
    let taken: Vec<Cut> = std::thread::scope(|scope| {
        let muxers: Vec<_> = (0..MUXERS)
            .map(|muxer| {
                let (options, told, stop) = (&options, &told, &stop);
                let root = place.dir();
                scope.spawn(move || rip(options, root, muxer, seed, told, stop))
            })
            .collect();
        let mut cut = |number| {
            // The moments are what is random here.
            std::thread::sleep(Duration::from_micros(100_000 + random.next_u64() % 400_000));
            // What is told while the copy is made, need not be in it.
            let told = told.lock().unwrap().clone();
            let to = scratch.dir().join(format!("cut{number}"));
            clone(&image, &to);
            Cut { image: to, told }
        };
        let mut taken = Vec::new();
        // On a slow disk nothing is durable for a while, and then nothing would be looked for.
        wait_until(|| {
            taken.push(cut(taken.len()));
            taken.len() >= cuts
                && taken.iter().any(Cut::has_finished)
                && taken.iter().any(Cut::has_synced)
        });
        stop.store(true, Ordering::Relaxed);
        muxers.into_iter().for_each(|muxer| muxer.join().unwrap());
        taken
    });
    assert!(daemon.stop().0.success());
    drop(place);

    let (mut broken, mut films, mut partial) = (Vec::new(), 0, 0);
    for (number, cut) in taken.iter().enumerate() {
        films += cut.told.values().filter(|durable| durable.has_finished()).count();
        partial += cut.told.values().filter(|durable| durable.has_synced()).count();
        let after = Place::of_image(filesystem, &cut.image);
        broken.extend(
            violations(cut, after.dir()).into_iter().map(|what| format!("cut {number}: {what}")),
        );
    }
    eprintln!(
        "power cut, {filesystem}, seed {seed}: {} cuts, {films} names of finished films and {partial} \
         synced ones looked for, {} violations",
        taken.len(),
        broken.len()
    );
    assert!(broken.is_empty(), "seed {seed}:\n{}", broken.join("\n"));
    assert!(films > 0 && partial > 0, "nothing was durable before the cuts");
}

#[test]
#[ignore = "needs root: loop devices"]
fn what_was_durable_outlives_power_cuts_on_ext4() {
    what_was_durable_outlives_power_cuts_on("ext4");
}

#[test]
#[ignore = "needs root: loop devices"]
fn what_was_durable_outlives_power_cuts_on_xfs() {
    what_was_durable_outlives_power_cuts_on("xfs");
}

#[test]
#[ignore = "needs root: loop devices"]
fn what_was_durable_outlives_power_cuts_on_btrfs() {
    what_was_durable_outlives_power_cuts_on("btrfs");
}

/// Numbers are written one after the other, each to the next of 512 places far apart; so a copy of one moment
/// holds the last 512 up to some number, and a copy that takes its time does not.
#[test]
#[ignore = "needs root: loop devices"]
fn a_clone_is_a_copy_of_one_moment() {
    const PLACES: u64 = 512;
    const APART: u64 = 64 << 10;
    let dir = tempfile::tempdir_in(work()).unwrap();
    let scratch = Place::on(dir.path(), "xfs", 1024);
    let path = scratch.dir().join("image");
    let (file, stop) = (File::create(&path).unwrap(), AtomicBool::new(false));
    let written = AtomicU64::new(0);
    let clones = std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                file.write_all_at(&u64::to_le_bytes(number), number % PLACES * APART).unwrap();
                written.store(number + 1, Ordering::Relaxed);
            }
        });
        while written.load(Ordering::Relaxed) < PLACES {
            std::thread::yield_now();
        }
        let mut ranges = Vec::new();
        for number in 0..50 {
            let from = written.load(Ordering::Relaxed);
            clone(&path, &scratch.dir().join(format!("clone{number}")));
            ranges.push((from, written.load(Ordering::Relaxed)));
        }
        stop.store(true, Ordering::Relaxed);
        ranges
    });
    let mut meanwhile = 0;
    for (number, (from, to)) in clones.iter().enumerate() {
        let bytes = fs::read(scratch.dir().join(format!("clone{number}"))).unwrap();
        let found = (0..PLACES).map(|place| {
            let at = usize::try_from(place * APART).unwrap();
            u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
        });
        let found: Vec<_> = found.collect();
        let newest = *found.iter().max().unwrap();
        assert!((from - 1..=*to).contains(&newest), "{from} {newest} {to}");
        assert!(
            found.iter().all(|other| newest - other < PLACES),
            "clone {number} is of no moment"
        );
        meanwhile += to - from;
    }
    eprintln!("power cut: 50 clones, {meanwhile} writes while they were made");
    assert!(meanwhile > 0, "nothing was written meanwhile, so nothing is proved");
}
