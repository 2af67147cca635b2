//! The file is byte for byte what std's `File` would have made of the same calls.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};

use freemkvd_client::RipFile;
use proptest::prelude::*;

use super::options;
use crate::{MIB, fake, path, pattern};

#[derive(Clone, Debug)]
enum Call {
    Write(usize),
    SeekTo(u64),
    SeekBy(i64),
    SeekEnd(i64),
    SetLen(u64),
    WriteZeroes(u64),
    Flush,
    Sync,
}

fn offsets() -> impl Strategy<Value = u64> {
    let within = prop_oneof![Just(0), 0..40_u64, MIB as u64 - 40..MIB as u64];
    (0..5_u64, within).prop_map(|(slot, within)| slot * MIB as u64 + within)
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let len = prop_oneof![6 => 1..100_usize, 3 => MIB - 50..MIB + 50, 1 => Just(2 * MIB + 7)];
    let call = prop_oneof![
        10 => len.prop_map(Call::Write),
        4 => offsets().prop_map(Call::SeekTo),
        4 => (-200_i64..200).prop_map(Call::SeekBy),
        2 => (-100_i64..10).prop_map(Call::SeekEnd),
        1 => offsets().prop_map(Call::SetLen),
        1 => prop_oneof![1..100_u64, 60_000..70_000_u64, Just(MIB as u64 + 9)]
            .prop_map(Call::WriteZeroes),
        1 => Just(Call::Flush),
        1 => Just(Call::Sync),
    ];
    prop::collection::vec(call, 1..40)
}

/// Makes the same calls to both; they have to agree on every position too.
fn play(calls: &[Call], ours: &mut RipFile, std: &mut File) {
    for (seed, call) in calls.iter().enumerate() {
        match call {
            Call::Write(len) => {
                let bytes = pattern(*len, seed);
                ours.write_all(&bytes).unwrap();
                std.write_all(&bytes).unwrap();
            }
            Call::SeekTo(offset) => seek(SeekFrom::Start(*offset), ours, std),
            Call::SeekBy(by) => seek(SeekFrom::Current(*by), ours, std),
            Call::SeekEnd(by) => seek(SeekFrom::End(*by), ours, std),
            Call::SetLen(len) => {
                ours.set_len(*len).unwrap();
                std.set_len(*len).unwrap();
            }
            Call::WriteZeroes(len) => {
                ours.write_zeroes(*len).unwrap();
                std.write_all(&vec![0; usize::try_from(*len).unwrap()]).unwrap();
            }
            Call::Flush => ours.flush().unwrap(),
            Call::Sync => ours.sync_all().unwrap(),
        }
        assert_eq!(ours.stream_position().unwrap(), std.stream_position().unwrap());
        assert_eq!(ours.len_bytes(), std.metadata().unwrap().len());
    }
}

fn seek(to: SeekFrom, ours: &mut RipFile, std: &mut File) {
    let (a, b) = (ours.seek(to), std.seek(to));
    assert_eq!(a.as_ref().ok(), b.as_ref().ok());
    if let (Err(a), Err(b)) = (a, b) {
        // Of a seek before the beginning the system has a word of its own on Windows.
        assert!(cfg!(windows) || a.kind() == b.kind(), "{a:?}, {b:?}");
    }
}

fn content(file: &mut File) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn through_the_daemon(calls in calls(), window in prop_oneof![Just(1), Just(3)]) {
        let daemon = fake::Daemon::healthy();
        let window_bytes = window * MIB as u64;
        let mut ours = options(&daemon)
            .window_bytes(window_bytes)
            .memory_limit_bytes(window_bytes + 4 * MIB as u64)
            .create(path())
            .unwrap();
        let mut std = tempfile::tempfile().unwrap();
        play(&calls, &mut ours, &mut std);
        let finished = ours.finish().unwrap();
        let expected = content(&mut std);
        prop_assert_eq!(finished.len_bytes, expected.len() as u64);
        prop_assert!(daemon.content() == expected);
    }

    #[test]
    fn without_a_daemon(calls in calls(), window in prop_oneof![Just(1), Just(3)]) {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("film.mkv");
        let mut ours = RipFile::options()
            .socket(crate::nobody())
            .fallback_to_local(true)
            .window_bytes(window * MIB as u64)
            .create(&target)
            .unwrap();
        let mut std = tempfile::tempfile().unwrap();
        play(&calls, &mut ours, &mut std);
        let finished = ours.finish().unwrap();
        let expected = content(&mut std);
        prop_assert_eq!(finished.len_bytes, expected.len() as u64);
        prop_assert!(std::fs::read(target).unwrap() == expected);
    }
}

#[test]
fn an_existing_file_keeps_what_is_not_written() {
    let daemon = fake::Daemon::start(fake::Script {
        content: b"0123456789".to_vec(),
        ..fake::Script::default()
    });
    let mut file = options(&daemon).open(path()).unwrap();
    assert_eq!(file.len_bytes(), 10);
    file.seek(SeekFrom::End(-3)).unwrap();
    file.write_all(b"XY").unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.write_all(b"A").unwrap();
    file.finish().unwrap();
    assert_eq!(daemon.content(), b"A123456XY9");
}
