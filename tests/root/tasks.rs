//! A daemon that may have no more threads, as `TasksMax=` does it.

use std::io::Write;

use freemkvd_proto::ErrorCode;
use freemkvd_tests::daemon::Daemon;
use freemkvd_tests::pattern;

use super::MIB;
use super::group::Group;
use super::support::write_pattern;

#[test]
#[ignore = "needs root: cgroup v1 with pids"]
fn a_stream_for_which_there_may_be_no_thread_is_refused_and_the_others_go_on() {
    let root = tempfile::tempdir().unwrap();
    let group = Group::new("pids");
    let launcher = group.launcher();
    let launcher: Vec<_> = launcher.iter().map(String::as_str).collect();
    let daemon = Daemon::start_under(&launcher, root.path(), "");
    let path = |number: u64| root.path().join(number.to_string());
    let open = |number| daemon.options().window_bytes(MIB).create(path(number));
    let mut files: Vec<_> = (0..3).map(|number| open(number).unwrap()).collect();
    let before = daemon.status();
    group.set("pids.max", group.number("pids.current"));
    for _ in 0..5 {
        let error = open(3).unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::NO_RESOURCES), "{error}");
        let text = error.to_string();
        assert!(text.contains("no thread") && text.contains("TasksMax="), "{text}");
    }
    assert!(!path(3).exists(), "a refused stream left a file behind");
    let after = daemon.status();
    assert_eq!((after.streams.len(), after.budget.charged_bytes), (3, 0), "{after:?}");
    assert_eq!(after.budget.queue_limit_bytes, before.budget.queue_limit_bytes);
    for (number, file) in (0..).zip(&mut files) {
        write_pattern(file, number, 0, 2 * MIB).unwrap();
        file.sync_all().unwrap();
    }
    // The thread of one that has ended is there for the next.
    let file = files.pop().unwrap();
    file.finish().unwrap();
    daemon.wait_for("its end", |status| status.streams.len() == 2);
    let mut late = None;
    assert!(freemkvd_tests::daemon::wait_until(|| {
        late = open(3).ok();
        late.is_some()
    }));
    late.unwrap().write_all(b"content").unwrap();
    for (number, file) in (0..).zip(files) {
        assert_eq!(file.finish().unwrap().len_bytes, 2 * MIB);
        assert_eq!(pattern::prefix_len(number, &path(number)).unwrap(), 2 * MIB);
    }
}
