//! Golden bytes of one frame of each kind, and what the decoder refuses.

use proptest::prelude::*;

use super::*;
use crate::ErrorCode;
use crate::limits::CONTROL_BYTES_MAX;
use crate::message::*;
use crate::status::{
    Budget, DaemonState, Device, DeviceState, Held, Status, Stream, StreamError, StreamState,
    WaitingFor,
};
use crate::waits::{Cause, Part, Waits, Why};

fn every_command() -> Vec<Command> {
    vec![
        Command::Open(Open {
            path: WirePath(b"/rips/a.mkv".to_vec()),
            mode: OpenMode::Create,
            size_hint_bytes: Some(300),
            transfer: Transfer::Inline,
            weight: 100,
            window_bytes: None,
        }),
        Command::Open(Open {
            path: WirePath(b"/rips/a.mkv".to_vec()),
            mode: OpenMode::CreateNew,
            size_hint_bytes: None,
            transfer: Transfer::Shared { slots: 300 },
            weight: 1000,
            window_bytes: Some(0),
        }),
        Command::Seek(Seek { offset: 1 << 40 }),
        Command::WriteZeroes(WriteZeroes { len: 65_536 }),
        Command::SetLen(SetLen { len: 5 }),
        Command::Flush,
        Command::Sync,
        Command::Finish,
        Command::Abort,
        Command::WriteSlots(WriteSlots {
            parts: vec![
                SlotPart { slot: 299, start: 4096, len: 1_044_480 },
                SlotPart { slot: 0, start: 0, len: 1 },
            ],
        }),
        Command::Status,
        Command::SetWeight(SetWeight { stream: 7, weight: 200 }),
        Command::Resume(Resume {
            token: Token(*b"0123456789abcdef"),
            written: Mark { sequence: 2, bytes: 200 },
            durable: Mark { sequence: 1, bytes: 100 },
            position: 300,
            transfer: Transfer::Shared { slots: 56 },
        }),
        Command::Drain,
        Command::OpenResumable(OpenResumable {
            token: Token(*b"0123456789abcdef"),
            open: open_plainly(),
        }),
        Command::OpenFile(OpenFile {
            token: None,
            open: open_plainly(),
            publish: true,
            leftover: Leftover::Remove,
        }),
        Command::AbortStream(AbortStream { stream: 7 }),
        Command::Why(Why { stream: 7 }),
        Command::PauseStream(PauseStream { stream: 7, pause: true }),
        Command::Metrics,
        Command::Reload,
        Command::OpenGiven(OpenGiven {
            token: Some(Token(*b"0123456789abcdef")),
            label: WirePath(b"/rips/a.mkv".to_vec()),
            empties: true,
            passes_directory: false,
            size_hint_bytes: Some(300),
            transfer: Transfer::Inline,
            weight: 100,
            window_bytes: None,
        }),
    ]
}

fn open_plainly() -> Open {
    Open {
        path: WirePath(b"/rips/a.mkv".to_vec()),
        mode: OpenMode::Create,
        size_hint_bytes: None,
        transfer: Transfer::Inline,
        weight: 100,
        window_bytes: None,
    }
}

fn progress() -> Progress {
    let mark = |sequence, bytes| Mark { sequence, bytes };
    Progress { accepted: mark(3, 300), written: mark(2, 200), durable: mark(1, 100) }
}

fn every_reply() -> Vec<Reply> {
    vec![
        Reply::Opened(Opened {
            stream: 7,
            len_bytes: 0,
            queue_limit_bytes: 32 << 20,
            window_bytes: 64 << 20,
            shared: true,
        }),
        Reply::Progress(progress()),
        Reply::Synced,
        Reply::Finished(Finished { len_bytes: 300, progress: progress() }),
        Reply::Aborted,
        Reply::Failed(Failure {
            code: ErrorCode::IO,
            errno: Some(5),
            offset: Some(4096),
            message: "no".into(),
        }),
        Reply::GoingAway(GoingAway { drain_ms: 1000 }),
        Reply::Done,
        Reply::Resumable,
        Reply::Resumed(Resumed {
            stream: 7,
            queue_limit_bytes: 32 << 20,
            shared: true,
            watched: false,
        }),
        Reply::Waits(waits()),
        Reply::MetricsText("# EOF\n".into()),
        Reply::Reloaded(Reloaded { changed: vec!["a".into()], needs_restart: vec![] }),
        Reply::StatusReport(status()),
    ]
}

fn waits() -> Waits {
    let part = Part {
        cause: Cause::DeviceBudget,
        ns: 300,
        held_ns: 200,
        recent_ns: 100,
        recent_held_ns: 0,
    };
    Waits {
        stream: 7,
        path: "/rips/a.mkv".into(),
        client_pid: Some(77),
        ended_seconds_ago: None,
        error: None,
        lifetime_ns: 300,
        recent_ns: 100,
        now: Cause::DeviceBudget,
        now_ns: 1,
        parts: vec![part],
    }
}

fn status() -> Status {
    Status {
        version: "0.1.0".into(),
        protocol: 2,
        pid: 42,
        uptime_seconds: 3,
        state: DaemonState::Running,
        budget: Budget {
            limit_bytes: 512,
            charged_bytes: 1,
            kernel_dirty_bytes: None,
            queued_bytes: 2,
            queue_limit_bytes: 256,
        },
        devices: vec![Device {
            id: "8:1".into(),
            mount: Some("/rips".into()),
            filesystem: Some("ext4".into()),
            state: DeviceState::Healthy,
            drain: "sync_file_range".into(),
            limit_bytes: 512,
            charged_bytes: 1,
            rate_bytes_per_second: 9,
            completion_ms_p95: 4,
            kernel_dirty_bytes: Some(1),
            extent_bytes: 8,
            turns: true,
            state_seconds: 2,
        }],
        streams: vec![Stream {
            id: 1,
            client_pid: Some(77),
            client_uid: Some(1000),
            client_user: None,
            paused: None,
            held: None,
            path: "/rips/a.mkv".into(),
            device: Some("8:1".into()),
            state: StreamState::Failed,
            state_seconds: 1,
            blocked_in: None,
            accepted_bytes: 10,
            written_bytes: 9,
            durable_bytes: 8,
            in_bytes_per_second: 7,
            out_bytes_per_second: 6,
            queued_bytes: 5,
            dirty_bytes: 4,
            window_bytes: 3,
            seeks: 2,
            patches: 1,
            error: Some(StreamError { errno: Some(5), offset: Some(0), message: "x".into() }),
            waiting_for: Some(WaitingFor { what: "its turn on /rips".into(), ms: 12 }),
            kernel_dirty_bytes: None,
            drain: Some("dontcache".into()),
            weight: 100,
            shared: true,
        }],
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Header `kind flags length sequence`, then the body. They do not change any more.
const GOLDEN: &[&str] = &[
    "010000001300000009000000000000000b2f726970732f612e6d6b760101ac02006400",
    "010000001500000009000000000000000b2f726970732f612e6d6b76000001ac02e8070100",
    "03000000060000000900000000000000808080808020",
    "04000000030000000900000000000000808004",
    "0500000001000000090000000000000005",
    "06000000000000000900000000000000",
    "07000000000000000900000000000000",
    "08000000000000000900000000000000",
    "09000000000000000900000000000000",
    "0a0000000b000000090000000000000002ab02802080e03f000001",
    "40000000000000000900000000000000",
    "4100000003000000090000000000000007c801",
    "0b0000001900000009000000000000003031323334353637383961626364656602c8010164ac020138",
    "42000000000000000900000000000000",
    "0c000000210000000900000000000000303132333435363738396162636465660b2f726970732f612e6d6b760100006400",
    "0d000000140000000900000000000000000b2f726970732f612e6d6b7601000064000102",
    "4300000001000000090000000000000007",
    "4400000001000000090000000000000007",
    "460000000200000009000000000000000701",
    "45000000000000000900000000000000",
    "47000000000000000900000000000000",
    "0e0000002500000009000000000000000130313233343536373839616263646566\
     0b2f726970732f612e6d6b76010001ac02006400",
    "810000000b00000009000000000000000700808080108080802001",
    "8200000008000000090000000000000003ac0202c8010164",
    "83000000000000000900000000000000",
    "840000000a0000000900000000000000ac0203ac0202c8010164",
    "85000000000000000900000000000000",
    "860000000a0000000900000000000000ac02010a018020026e6f",
    "87000000020000000900000000000000e807",
    "c1000000000000000900000000000000",
    "88000000000000000900000000000000",
    "8900000007000000090000000000000007808080100100",
    "c30000001e0000000900000000000000070b2f726970732f612e6d6b76014d0000ac026404010104ac02c8016400",
    "c4000000070000000900000000000000062320454f460a",
    "c500000004000000090000000000000001016100",
];

#[test]
fn frames_are_these_bytes_for_ever() {
    let mut frames: Vec<String> =
        every_command().iter().map(|command| hex(&command.encode(9).unwrap())).collect();
    frames.extend(every_reply().iter().map(|reply| hex(&reply.encode(9).unwrap())));
    let report = frames.pop().unwrap();
    assert_eq!(frames, GOLDEN);
    let golden = [
        "c000000088000000090000000000000005302e312e30022a0300800401000280",
        "020103383a31052f726970730465787434000f73796e635f66696c655f72616e",
        "6765800401090401010801020101014d01e8070b2f726970732f612e6d6b7603",
        "383a310701000a09080706050403020101010a01000178011169747320747572",
        "6e206f6e202f726970730c0009646f6e7463616368656401",
    ];
    assert_eq!(report, golden.concat());
    // What came later is a block behind the same bytes: one stream, with a user.
    let full = hex(&Reply::FullReport(full_status()).encode(9).unwrap());
    let old_body = &report[2 * HEADER_BYTES..];
    let block = "01010c4e41535c616e6e61206c6565";
    assert_eq!(full, ["c20000009700000009000000000000", "00", old_body, block].concat());
    // And another one behind that: it is paused, and its muxer was held up for 82 % of 45 s by the device's budget.
    let newest = hex(&Reply::FullReport(newest_status()).encode(9).unwrap());
    let second = "010101522d04";
    assert_eq!(newest, ["c20000009d00000009000000000000", "00", old_body, block, second].concat());
}

/// With what version 6 has brought.
fn full_status() -> Status {
    let mut status = status();
    status.streams[0].client_user = Some(r"NAS\anna lee".into());
    status
}

/// With what every later version has brought.
fn newest_status() -> Status {
    let mut status = full_status();
    status.streams[0].paused = Some(true);
    let held = Held { percent: 82, of_seconds: 45, cause: Cause::DeviceBudget };
    status.streams[0].held = Some(held);
    status
}

#[test]
fn what_nobody_told_is_null_for_people_and_survives_the_wire() {
    let mut status = full_status();
    status.devices[0].mount = None;
    status.devices[0].filesystem = None;
    let stream = &mut status.streams[0];
    (stream.device, stream.drain, stream.client_user) = (None, None, None);
    let json = serde_json::to_value(&status).unwrap();
    for field in ["mount", "filesystem"] {
        assert!(json["devices"][0].get(field).unwrap().is_null(), "{field}");
    }
    for field in ["device", "drain", "client_user", "paused", "held"] {
        assert!(json["streams"][0].get(field).unwrap().is_null(), "{field}");
    }
    assert_eq!(serde_json::from_value::<Status>(json).unwrap(), status);
    for status in [status, full_status(), newest_status()] {
        let json = serde_json::to_value(&status).unwrap();
        assert_eq!(serde_json::from_value::<Status>(json).unwrap(), status);
        let reply = Reply::FullReport(status);
        let frame = reply.encode(1).unwrap();
        let (header, body) = decode_whole(Sender::Daemon, &frame, 5);
        assert_eq!(Reply::decode(&header, &body), Ok(reply));
    }
}

#[test]
fn a_block_that_is_not_of_its_report_is_refused() {
    let kind = Kind::FullReport;
    for client_users in [vec![], vec![None, None]] {
        let block = Since6 { client_users };
        let frame = encode(kind, 1, &(status(), block)).unwrap();
        let (header, body) = decode_whole(Sender::Daemon, &frame, 5);
        assert_eq!(Reply::decode(&header, &body), Err(FrameError::Body { kind }));
    }
    let [none, one, two] = [0, 1, 2].map(|count| Since9 { streams: vec![(true, None); count] });
    let first = Since6::of(&status());
    for (block, rest) in [(none, 0_u8), (two, 0), (one, 7)] {
        let mut frame = encode(kind, 1, &(status(), &first, block)).unwrap();
        if rest > 0 {
            frame.push(rest);
            frame[4] += 1;
        }
        let (header, body) = decode_whole(Sender::Daemon, &frame, 5);
        assert_eq!(Reply::decode(&header, &body), Err(FrameError::Body { kind }));
    }
}

#[test]
fn what_a_version_brought_is_unknown_to_those_before() {
    let of = |version: u16| Kind::ALL.iter().filter(move |kind| kind.since() == version);
    let new: Vec<_> = of(3).copied().collect();
    assert_eq!(
        new,
        [Kind::Resume, Kind::OpenResumable, Kind::Drain, Kind::Resumable, Kind::Resumed]
    );
    let newer: Vec<_> = of(4).copied().collect();
    assert_eq!(newer, [Kind::OpenFile, Kind::AbortStream]);
    assert_eq!(of(5).collect::<Vec<_>>(), [&Kind::OpenGiven]);
    assert_eq!(of(6).collect::<Vec<_>>(), [&Kind::FullReport]);
    assert_eq!(of(7).collect::<Vec<_>>(), [&Kind::Why, &Kind::PauseStream, &Kind::Waits]);
    assert_eq!(of(8).collect::<Vec<_>>(), [&Kind::Metrics, &Kind::MetricsText]);
    assert_eq!(of(9).collect::<Vec<_>>(), [&Kind::Reload, &Kind::Reloaded]);
    assert_eq!(of(2).count() + new.len() + newer.len() + 9, Kind::ALL.len());
    let with = |state| {
        let mut status = status();
        status.streams[0].state = state;
        status
    };
    let shown = |state, version| with(state).for_version(version).streams[0].state;
    assert_eq!(shown(StreamState::Suspended, 2), StreamState::Idle);
    assert_eq!(shown(StreamState::Suspended, 3), StreamState::Suspended);
    assert_eq!(shown(StreamState::NoSpace, 3), StreamState::Throttled);
    assert_eq!(shown(StreamState::NoSpace, 4), StreamState::NoSpace);
    assert_eq!(shown(StreamState::Paused, 6), StreamState::Idle);
    assert_eq!(shown(StreamState::Paused, 7), StreamState::Paused);
    assert_eq!(newest_status().for_version(8), full_status());
    assert_eq!(newest_status().for_version(9), newest_status());
}

#[test]
fn names_are_those_of_json_and_numbers_those_of_the_wire() {
    fn check<T: Serialize>(all: &[T], name: impl Fn(&T) -> &'static str) {
        for (number, one) in all.iter().enumerate() {
            assert_eq!(serde_json::to_value(one).unwrap(), name(one));
            assert_eq!(postcard::to_allocvec(one).unwrap(), [u8::try_from(number).unwrap()]);
        }
    }
    check(&StreamState::ALL, |state| state.name());
    check(&DeviceState::ALL, |state| state.name());
    check(&Cause::ALL, |cause| cause.name());
}

#[test]
fn every_message_round_trips_byte_by_byte() {
    for command in every_command() {
        let frame = command.encode(u64::MAX).unwrap();
        let (header, body) = decode_whole(Sender::Client, &frame, 1);
        assert_eq!(header.sequence(), u64::MAX);
        assert_eq!(Command::decode(&header, &body), Ok(command));
    }
    for reply in every_reply() {
        let frame = reply.encode(1).unwrap();
        let (header, body) = decode_whole(Sender::Daemon, &frame, 5);
        assert_eq!(Reply::decode(&header, &body), Ok(reply));
    }
}

fn decode_whole(from: Sender, mut bytes: &[u8], at_once: usize) -> (Header, Vec<u8>) {
    let mut decoder = Decoder::new(from);
    loop {
        let space = decoder.space();
        let count = space.len().min(at_once).min(bytes.len());
        assert!(count > 0, "the frame ended before the decoder had it");
        space[..count].copy_from_slice(&bytes[..count]);
        bytes = &bytes[count..];
        if let Step::Control(header, body) = decoder.advance(count).unwrap() {
            let found = (header, body.to_vec());
            assert!(decoder.is_between_frames() && bytes.is_empty());
            return found;
        }
    }
}

#[test]
fn the_body_of_a_write_stays_outside_the_decoder() {
    let mut decoder = Decoder::new(Sender::Client);
    let header = Header::new(Kind::Write, 4 << 20, 3).unwrap();
    decoder.space().copy_from_slice(&header.encode());
    assert_eq!(decoder.advance(HEADER_BYTES), Ok(Step::Write(header)));
    assert_eq!(decoder.body.capacity(), 0);
    assert!(decoder.is_between_frames());
}

#[test]
fn a_refused_length_sets_no_memory_aside() {
    let mut bytes = Header::new(Kind::Open, 0, 0).unwrap().encode();
    bytes[4..8].copy_from_slice(&(CONTROL_BYTES_MAX + 1).to_le_bytes());
    let mut decoder = Decoder::new(Sender::Client);
    decoder.space().copy_from_slice(&bytes);
    assert!(matches!(decoder.advance(HEADER_BYTES), Err(FrameError::TooLarge { .. })));
    assert_eq!(decoder.body.capacity(), 0);
}

#[test]
fn leftover_and_missing_bytes_are_refused() {
    for command in every_command() {
        let frame = command.encode(1).unwrap();
        let body = &frame[HEADER_BYTES..];
        if body.is_empty() {
            continue;
        }
        let kind = command.kind();
        let longer = [body, &[0]].concat();
        for wrong in [&longer[..], &body[..body.len() - 1]] {
            let header = Header::new(kind, wrong.len(), 1).unwrap();
            assert_eq!(Command::decode(&header, wrong), Err(FrameError::Body { kind }));
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_decoder_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        kind in prop::sample::select(Kind::ALL),
        body in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        for from in [Sender::Client, Sender::Daemon] {
            let mut decoder = Decoder::new(from);
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let space = decoder.space();
                let count = space.len().min(rest.len());
                space[..count].copy_from_slice(&rest[..count]);
                rest = &rest[count..];
                if decoder.advance(count).is_err() {
                    break;
                }
            }
        }
        if let Ok(header) = Header::new(kind, body.len(), 0) {
            let _ = Command::decode(&header, &body);
            let _ = Reply::decode(&header, &body);
        }
    }
}
