//! A file system that is full: the one of the rips while no daemon ran, and the one beside the socket.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use freemkvd_client::Error;
use freemkvd_client::control::Control;
use freemkvd_proto::ErrorCode;
use freemkvd_tests::daemon::Daemon;
use freemkvd_tests::{pattern, programs};

use super::MIB;
use super::support::write_pattern;

/// A small file system in memory.
struct Small(PathBuf);

impl Small {
    fn new(home: &Path, options: &str) -> Self {
        let place = home.join("small");
        fs::create_dir(&place).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "small"]).arg(&place);
        assert!(mount.status().unwrap().success());
        Self(place)
    }

    /// A daemon whose socket is here.
    fn serves(&self, root: &Path) -> Daemon {
        let socket = self.0.join("s");
        let mut command = Command::new(programs::freemkvd());
        command.arg("--root").arg(root).arg("--socket").arg(&socket);
        Daemon::start_as(freemkvd_tests::daemon::home(), socket, command)
    }

    /// Takes all of its space. Returns how to give it back.
    fn fill_space(&self) -> impl FnOnce() {
        let path = self.0.join("fill");
        let mut other = fs::File::create(&path).unwrap();
        while other.write_all(&[7; 512]).is_ok() {}
        move || fs::remove_file(path).unwrap()
    }

    /// Takes all of its inodes. Returns how to give them back.
    fn fill_inodes(&self) -> impl FnOnce() {
        let place = self.0.clone();
        let files = (0..).map(move |number: u32| place.join(format!("fill-{number}")));
        let made: Vec<_> = files.take_while(|path| fs::File::create(path).is_ok()).collect();
        move || made.iter().for_each(|path| fs::remove_file(path).unwrap())
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("--lazy").arg(&self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

#[test]
#[ignore = "needs root"]
fn a_disk_that_is_full_on_return_is_an_error_with_its_number_and_place_and_keeps_what_was_written()
{
    let home = tempfile::tempdir().unwrap();
    let small = Small::new(home.path(), "size=64m");
    let path = small.0.join("film");
    let mut daemon = Daemon::start(&small.0, "[stream]\nno_space_wait = \"1s\"\n");
    let mut file = daemon.options().window_bytes(MIB).create(&path).unwrap();
    write_pattern(&mut file, 1, 0, 8 * MIB).unwrap();
    file.flush().unwrap();
    daemon.kill();
    // Whoever else writes there takes all of it.
    let mut other = fs::File::create(small.0.join("other")).unwrap();
    let taken = std::iter::repeat_with(|| other.write_all(&[7; 4096])).take_while(Result::is_ok);
    let taken = taken.count() as u64 * 4096;
    daemon.start_again();
    let _ = write_pattern(&mut file, 1, 8 * MIB, 12 * MIB);
    let error = file.finish().unwrap_err();
    let error = Error::inside(&error).unwrap();
    assert_eq!((error.code(), error.errno()), (Some(ErrorCode::NO_SPACE), Some(28)), "{error}");
    assert!(error.offset().is_some_and(|offset| offset >= 8 * MIB), "{error}");
    assert!(pattern::prefix_len(1, &path).unwrap() >= 8 * MIB, "what was written before is there");
    assert_eq!(fs::metadata(small.0.join("other")).unwrap().len() / 4096 * 4096, taken);
}

/// What the other tests need of a runtime directory: room for a dozen streams.
const RUNTIME: &str = "size=256k,nr_inodes=40";

#[test]
#[ignore = "needs root"]
fn a_full_runtime_directory_refuses_streams_that_would_have_to_be_kept_and_no_others() {
    let home = tempfile::tempdir().unwrap();
    let small = Small::new(home.path(), RUNTIME);
    let root = tempfile::tempdir().unwrap();
    let daemon = small.serves(root.path());
    let (new, old) = (root.path().join("new"), root.path().join("old"));
    let refused = |what: &str| {
        fs::write(&old, b"precious").unwrap();
        for path in [&new, &old] {
            let error = daemon.options().create(path).unwrap_err();
            let told = (error.code(), error.errno());
            assert_eq!(told, (Some(ErrorCode::CANNOT_KEEP), Some(28)), "{what}: {error}");
            let text = error.to_string();
            assert!(text.contains(small.0.to_str().unwrap()) && text.contains("df -i"), "{text}");
        }
        assert!(!new.exists(), "a refused stream left a file behind");
        assert_eq!(fs::read(&old).unwrap(), b"precious");
        let options = daemon.options().resume_timeout(std::time::Duration::ZERO);
        options.create(&new).unwrap().finish().unwrap();
        fs::remove_file(&new).unwrap();
    };
    let empty = small.fill_space();
    refused("no space");
    empty();
    let empty = small.fill_inodes();
    refused("no inodes");
    empty();
    for path in [&new, &old] {
        let mut file = daemon.options().create(path).unwrap();
        file.write_all(b"content").unwrap();
        file.finish().unwrap();
        assert_eq!(fs::read(path).unwrap(), b"content");
    }
}

#[test]
#[ignore = "needs root"]
fn a_runtime_directory_that_becomes_full_hurts_no_stream_that_is_open() {
    let home = tempfile::tempdir().unwrap();
    let small = Small::new(home.path(), RUNTIME);
    let root = tempfile::tempdir().unwrap();
    let mut daemon = small.serves(root.path());
    let path = |number: u64| root.path().join(number.to_string());
    let open = |number| daemon.options().window_bytes(MIB).create(path(number)).unwrap();
    let mut files: Vec<_> = (0..5).map(open).collect();
    for (number, file) in (0..).zip(&mut files) {
        write_pattern(file, number, 0, 2 * MIB).unwrap();
        file.flush().unwrap();
    }
    let (_space, _inodes) = (small.fill_space(), small.fill_inodes());
    let stream = files[0].stream_id().unwrap();
    let weight = |daemon: &Daemon, weight| {
        let timeout = std::time::Duration::from_secs(10);
        let mut control = Control::connect(Some(daemon.socket()), timeout).unwrap();
        control.set_weight(stream, weight).unwrap();
    };
    for (round, number) in (2..6).zip([1000, 10, 300, 700]) {
        weight(&daemon, number);
        daemon.kill();
        daemon.start_again();
        let again = daemon.status();
        assert_eq!(again.streams.len(), 5, "all of them go on");
        assert_eq!(again.streams[0].weight, number);
        for (number, file) in (0..).zip(&mut files) {
            write_pattern(file, number, round * MIB, (round + 1) * MIB).unwrap();
            file.sync_all().unwrap();
        }
    }
    for (number, file) in (0..).zip(files) {
        assert_eq!(file.finish().unwrap().len_bytes, 6 * MIB);
        assert_eq!(pattern::prefix_len(number, &path(number)).unwrap(), 6 * MIB);
    }
    assert!(!daemon.log().contains("cannot keep"), "{}", daemon.log());
}
