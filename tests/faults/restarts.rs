//! The daemon is stopped and started again in the middle of a file, and each call fails once meanwhile: what
//! strikes while one daemon goes and the next one comes is told to the muxer as well.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

use freemkvd_client::{Error, Leftover};
use freemkvd_tests::faults::{Call, Fault, FaultDisk, Served};
use rustix::io::Errno;

use crate::ground::Place;
use crate::images::Images;
use crate::model::{Model, content};
use crate::workload::MIB;

/// Half a file, another daemon, the other half.
fn rip(
    mut daemon: Served,
    path: &Path,
    model: &Mutex<Model>,
    images: &Images,
) -> (Served, io::Result<()>) {
    let options = daemon.options().window_bytes(MIB).memory_limit_bytes(6 * MIB);
    let mut file = match options.daemon_window_bytes(0).create(path) {
        Ok(file) => file,
        Err(error) => return (daemon, Err(error.into())),
    };
    let write = |file: &mut freemkvd_client::RipFile, seed, len| {
        let at = model.lock().unwrap().len();
        let bytes = content(seed, at, len);
        model.lock().unwrap().write(at, &bytes);
        file.write_all(&bytes)
    };
    let mut begin = || {
        write(&mut file, 1, MIB)?;
        file.sync_all()?;
        model.lock().unwrap().synced();
        write(&mut file, 2, 3 * MIB / 2)
    };
    if let Err(error) = begin() {
        return (daemon, Err(error));
    }
    daemon = daemon.restart();
    images.look(model, 4);
    let go_on = || {
        write(&mut file, 3, MIB)?;
        model.lock().unwrap().finishing();
        let finished = file.finish()?;
        model.lock().unwrap().finished();
        assert!(finished.progress.resumes > 0, "it never came to the second daemon");
        Ok(())
    };
    (daemon, go_on())
}

#[test]
fn the_next_daemon_knows_of_a_pause_and_a_weight_that_came_while_the_file_was_opened() {
    let place = Place::ByRange;
    let disk: FaultDisk = place.disk("/rips");
    let daemon = place.serve(&disk, true);
    disk.script().fail(Call::Open, 1, Fault::Hang);
    let path = disk.root().join("film.mkv");
    let options = daemon.options();
    let opening = std::thread::spawn(move || options.create(&path));
    let opened = daemon.wait_for("an open that hangs", |status| !status.streams.is_empty());
    let stream = opened.streams[0].id;
    daemon.control().pause(stream).unwrap();
    daemon.control().set_weight(stream, 300).unwrap();
    disk.script().release();
    let mut file = opening.join().unwrap().unwrap();
    let daemon = daemon.restart();
    let status = daemon.wait_for("the stream", |status| !status.streams.is_empty());
    let after = &status.streams[0];
    assert_eq!((after.id, after.paused, after.weight), (stream, Some(true), 300));
    daemon.control().resume(stream).unwrap();
    file.write_all(b"film").unwrap();
    file.finish().unwrap();
}

/// True when the fault has struck.
fn run(place: Place, call: Call, nth: u64, errno: Errno) -> bool {
    let what = format!("{place:?}, {call:?} {nth}, {errno:?}");
    let disk: FaultDisk = place.disk("/rips");
    let daemon = place.serve(&disk, true);
    disk.script().fail(call, nth, Fault::Error(errno.raw_os_error()));
    let path = disk.root().join("film.mkv");
    let model = Arc::new(Mutex::new(Model::new(&path, false, Leftover::Keep, None)));
    let images = Images::new(&disk, nth);
    let (watching, watched) = (images.clone(), Arc::clone(&model));
    disk.watch(move |_| watching.look(&watched, 1));
    let (daemon, result) = rip(daemon, &path, &model, &images);
    images.look(&model, 8);
    disk.look_away();
    assert_eq!(images.wrong(), Vec::<String>::new(), "{what}");
    let fired = disk.script().fired();
    match &result {
        Ok(()) => {
            let content = disk.read(&path).unwrap();
            assert!(content == model.lock().unwrap().content(), "{what}");
            let is_told = call == Call::Pages || fired.is_empty();
            assert!(is_told, "{fired:?} was kept from the muxer: {what}");
        }
        Err(error) => {
            let told = Error::inside(error).unwrap();
            assert!(!fired.is_empty(), "{told}, though nothing has failed: {what}");
            assert_eq!(told.errno(), Some(errno.raw_os_error()), "{told}: {what}");
            assert_eq!(told.path(), path, "{told}: {what}");
        }
    }
    daemon.wait_for("nothing held", |status| {
        status.budget.charged_bytes == 0 && disk.open_files() == 0
    });
    !fired.is_empty()
}

fn fail_each(place: Place) {
    let mut struck = BTreeSet::new();
    for call in Call::ALL {
        for nth in 1.. {
            let errno = if nth % 2 == 0 { Errno::IO } else { Errno::STALE };
            if !run(place, call, nth, errno) {
                break;
            }
            struck.insert((call, nth));
        }
    }
    println!("{place:?}: {} calls failed around a restart: {struck:?}", struck.len());
}

#[test]
fn an_error_around_a_restart_reaches_the_muxer() {
    [Place::ByRange, Place::WholeFile].into_iter().for_each(fail_each);
}
