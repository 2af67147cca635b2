//! What a stream asks for beside its file: its part of the device, and its window.

use std::time::Duration;

use freemkvd_client::control::Control;
use freemkvd_proto::{Command, ErrorCode, Open, OpenMode, Reply, SetWeight, Transfer};
use freemkvd_tests::daemon::Daemon;
use freemkvd_tests::peer::{Peer, opening};

use crate::support::{MIB, scratch};

#[test]
fn a_weight_is_shown_and_can_be_changed() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let file = daemon.options().weight(300).create(root.path().join("film.mkv")).unwrap();
    let id = file.stream_id().unwrap();
    assert_eq!(daemon.status().streams[0].weight, 300);
    let mut control = Control::connect(Some(daemon.socket()), Duration::from_secs(10)).unwrap();
    for weight in [10, 1000, 100] {
        control.set_weight(id, weight).unwrap();
        assert_eq!(control.status().unwrap().streams[0].weight, weight);
    }
    for weight in [9, 1001] {
        assert_eq!(control.set_weight(id, weight).unwrap_err().code(), Some(ErrorCode::BAD_VALUE));
    }
    let unknown = control.set_weight(id + 1, 100).unwrap_err();
    assert_eq!(unknown.code(), Some(ErrorCode::NO_SUCH_STREAM));
    file.finish().unwrap();
    let ended = control.set_weight(id, 100).unwrap_err();
    assert_eq!(ended.code(), Some(ErrorCode::NO_SUCH_STREAM));
    daemon.wait_for_log(&["stream 1 has weight 1000 now"]);
}

#[test]
fn requests_follow_each_other_and_nothing_else_follows_them() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let set = Command::SetWeight(SetWeight { stream: 7, weight: 100 });
    let mut peer = Peer::greet(daemon.socket());
    peer.command(40, &set);
    let Some((40, Reply::Failed(failure))) = peer.reply() else { panic!("no refusal") };
    assert_eq!(failure.code, ErrorCode::NO_SUCH_STREAM);
    peer.command(41, &Command::Status);
    assert!(matches!(peer.reply(), Some((41, Reply::FullReport(_)))));
    peer.content(42, b"content");
    assert_eq!(peer.failure().code, ErrorCode::OUT_OF_SEQUENCE);
    peer.hang_up();
    let mut peer = Peer::greet(daemon.socket());
    peer.open(root.path().join("film.mkv"), OpenMode::Create);
    peer.command(1, &set);
    assert_eq!(peer.failure().code, ErrorCode::OUT_OF_SEQUENCE);
}

#[test]
fn a_weight_that_there_is_not_is_refused_before_the_file_is_touched() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "");
    let path = root.path().join("film.mkv");
    for weight in [0, 9, 1001, u32::MAX] {
        let open = Open { weight, ..opening(&path, OpenMode::Create, Transfer::Inline) };
        let mut peer = Peer::greet(daemon.socket());
        peer.command(0, &Command::Open(open));
        let failure = peer.failure();
        assert_eq!(failure.code, ErrorCode::BAD_WEIGHT);
        assert!(failure.message.contains("10 to 1000"), "{failure:?}");
        peer.hang_up();
    }
    assert!(!path.exists());
}

#[test]
fn a_stream_may_do_with_a_smaller_window() {
    let root = scratch();
    let daemon = Daemon::start(root.path(), "[stream]\nwindow = \"32MiB\"\n");
    for (asked, given) in
        [(None, 32 * MIB), (Some(0), 0), (Some(MIB), MIB), (Some(u64::MAX), 32 * MIB)]
    {
        let path = root.path().join("film.mkv");
        let open = opening(path, OpenMode::Create, Transfer::Inline);
        let mut peer = Peer::greet(daemon.socket());
        peer.command(0, &Command::Open(Open { window_bytes: asked, ..open }));
        assert_eq!(peer.opened().window_bytes, given, "{asked:?}");
        peer.command(1, &Command::Abort);
        peer.hang_up();
    }
}
