//! `freemkvctl status`.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use freemkvd_proto::status::{
    Budget, DaemonState, Device, DeviceState, Held, Status, Stream, StreamError, StreamState,
    WaitingFor,
};
use freemkvd_proto::waits::Cause;

use crate::fake_daemon::FakeDaemon;
use crate::{exit_code, freemkvctl, stderr, stdout};

const MIB: u64 = 1 << 20;

pub(crate) fn stream(id: u64, path: &str) -> Stream {
    Stream {
        id,
        client_pid: Some(4000 + u32::try_from(id).unwrap()),
        client_uid: Some(1000),
        client_user: None,
        paused: Some(false),
        held: None,
        path: path.into(),
        device: Some("8:17".into()),
        state: StreamState::Writing,
        state_seconds: 61,
        blocked_in: None,
        accepted_bytes: 22_000 * MIB + 5,
        written_bytes: 21_990 * MIB,
        durable_bytes: 21_900 * MIB,
        in_bytes_per_second: 72 * MIB,
        out_bytes_per_second: 71 * MIB + MIB / 2,
        queued_bytes: 10 * MIB,
        dirty_bytes: 24 * MIB,
        window_bytes: 64 * MIB,
        seeks: 12,
        patches: 7,
        error: None,
        waiting_for: None,
        kernel_dirty_bytes: None,
        drain: Some("dontcache".into()),
        weight: 100,
        shared: true,
    }
}

fn device(id: &str, mount: &str, filesystem: &str) -> Device {
    Device {
        id: id.into(),
        mount: Some(mount.into()),
        filesystem: Some(filesystem.into()),
        state: DeviceState::Healthy,
        drain: "dontcache".into(),
        limit_bytes: 256 * MIB,
        charged_bytes: 48 * MIB,
        rate_bytes_per_second: 143 * MIB,
        completion_ms_p95: 48,
        kernel_dirty_bytes: Some(45 * MIB),
        extent_bytes: 8 * MIB,
        turns: false,
        state_seconds: 3600,
    }
}

pub(crate) fn healthy() -> Status {
    Status {
        version: "0.1.0".into(),
        protocol: 2,
        pid: 811,
        uptime_seconds: 3 * 3600 + 12 * 60,
        state: DaemonState::Running,
        budget: Budget {
            limit_bytes: 512 * MIB,
            charged_bytes: 48 * MIB,
            kernel_dirty_bytes: Some(45 * MIB + MIB / 4),
            queued_bytes: 20 * MIB,
            queue_limit_bytes: 256 * MIB,
        },
        devices: vec![device("8:17", "/rips", "ext4")],
        streams: vec![
            stream(1, "/rips/The Third Man (1949)/title_t00.mkv"),
            Stream {
                state: StreamState::Throttled,
                state_seconds: 3,
                waiting_for: Some(WaitingFor { what: "its turn on /rips".into(), ms: 3120 }),
                ..stream(2, "/rips/Metropolis (1927)/title_t03.mkv")
            },
        ],
    }
}

#[test]
fn a_suspended_stream_has_its_age_and_is_no_trouble() {
    let mut status = healthy();
    status.streams[0].state = StreamState::Suspended;
    status.streams[0].state_seconds = 12;
    let daemon = FakeDaemon::start(status);
    let output = freemkvctl(&daemon.socket()).arg("status").output().unwrap();
    assert!(stdout(&output).contains("suspended 12 s"), "{}", stdout(&output));
    assert_eq!(exit_code(&output), 0);
    let output = freemkvctl(&daemon.socket()).args(["status", "--json"]).output().unwrap();
    assert!(stdout(&output).contains(r#""state":"suspended""#), "{}", stdout(&output));
}

#[test]
fn a_stream_without_space_is_trouble_and_says_how_much_is_missing() {
    let mut status = healthy();
    let what = "space on /rips (at least 3.1 GiB more, gives up in 7m)";
    status.streams[0].state = StreamState::NoSpace;
    status.streams[0].waiting_for = Some(WaitingFor { what: what.into(), ms: 61_000 });
    let daemon = FakeDaemon::start(status);
    let output = freemkvctl(&daemon.socket()).arg("status").output().unwrap();
    let line = format!("\nwaiting for {what}, for 1 min 1 s so far: stream 1, /rips/The Third Man");
    assert!(stdout(&output).contains(&line), "{}", stdout(&output));
    assert!(stdout(&output).contains("no-space 1 min"), "{}", stdout(&output));
    assert_eq!(exit_code(&output), 4);
}

/// As [`healthy`], with one stream that failed and one that hangs.
fn degraded() -> Status {
    let mut status = healthy();
    status.devices.push(Device {
        state: DeviceState::Wedged,
        drain: "fdatasync".into(),
        rate_bytes_per_second: 0,
        completion_ms_p95: 41_000,
        kernel_dirty_bytes: None,
        state_seconds: 95,
        ..device("0:52", "/mnt/nas", "nfs4")
    });
    status.streams.push(Stream {
        state: StreamState::Failed,
        error: Some(StreamError {
            errno: Some(28),
            offset: Some(4096),
            message: "no space left on device; free some and start the rip again".into(),
        }),
        in_bytes_per_second: 0,
        out_bytes_per_second: 0,
        ..stream(3, "/rips/M (1931)/title_t01.mkv")
    });
    status.streams.push(Stream {
        device: Some("0:52".into()),
        state: StreamState::Syncing,
        state_seconds: 42,
        blocked_in: Some("fdatasync".into()),
        waiting_for: Some(WaitingFor { what: "fdatasync on nas:/rips".into(), ms: 42_000 }),
        client_pid: None,
        out_bytes_per_second: 0,
        ..stream(4, "/mnt/nas/disc.iso")
    });
    status
}

#[test]
fn the_table_of_a_healthy_daemon() {
    let daemon = FakeDaemon::start(healthy());
    let output = freemkvctl(&daemon.socket()).arg("status").output().unwrap();
    assert_eq!(stderr(&output), "");
    assert_eq!(
        stdout(&output),
        "\
freemkvd 0.1.0 running for 3 h 12 min, pid 811; 2 streams: in 144 MiB/s from muxers, out 143 MiB/s to devices; dirty 48.0 MiB of 512 MiB (kernel: 45.2 MiB), queued 20.0 MiB of 256 MiB

DEVICE  MOUNT  FS    STATE    DRAIN         DIRTY    KERNEL    LIMIT   RATE/s    P95
8:17    /rips  ext4  healthy  dontcache  48.0 MiB  45.0 MiB  256 MiB  143 MiB  48 ms

ID  FILE                                       PID  USER  STATE              IN/s     OUT/s  ACCEPTED   WRITTEN   DURABLE    QUEUED     DIRTY  WAITS FOR
 1  /rips/The Third Man (1949)/title_t00.mkv  4001  1000  writing        72.0 MiB  71.5 MiB  21.5 GiB  21.5 GiB  21.4 GiB  10.0 MiB  24.0 MiB
 2  /rips/Metropolis (1927)/title_t03.mkv     4002  1000  throttled 3 s  72.0 MiB  71.5 MiB  21.5 GiB  21.5 GiB  21.4 GiB  10.0 MiB  24.0 MiB  its turn on /rips 3120 ms
"
    );
    assert_eq!(exit_code(&output), 0);
}

#[test]
fn what_is_wrong_is_said_in_words_and_exits_with_4() {
    let daemon = FakeDaemon::start(degraded());
    let output = freemkvctl(&daemon.socket()).arg("status").output().unwrap();
    assert_eq!(stderr(&output), "");
    assert_eq!(
        stdout(&output),
        "\
freemkvd 0.1.0 running for 3 h 12 min, pid 811; 4 streams: in 216 MiB/s from muxers, out 143 MiB/s to devices; dirty 48.0 MiB of 512 MiB (kernel: 45.2 MiB), queued 20.0 MiB of 256 MiB

failed: stream 3, /rips/M (1931)/title_t01.mkv: no space left on device; free some and start the rip again (errno 28 at byte 4096)
stalled in fdatasync for 42 s on nas:/rips: stream 4, /mnt/nas/disc.iso
device 0:52 has been wedged for 1 min 35 s: /mnt/nas (nfs4) has 48.0 MiB to write back

DEVICE  MOUNT     FS    STATE              DRAIN         DIRTY    KERNEL    LIMIT   RATE/s    P95
8:17    /rips     ext4  healthy            dontcache  48.0 MiB  45.0 MiB  256 MiB  143 MiB  48 ms
0:52    /mnt/nas  nfs4  wedged 1 min 35 s  fdatasync  48.0 MiB         -  256 MiB      0 B   41 s

ID  FILE                                       PID  USER  STATE              IN/s     OUT/s  ACCEPTED   WRITTEN   DURABLE    QUEUED     DIRTY  WAITS FOR
 1  /rips/The Third Man (1949)/title_t00.mkv  4001  1000  writing        72.0 MiB  71.5 MiB  21.5 GiB  21.5 GiB  21.4 GiB  10.0 MiB  24.0 MiB
 2  /rips/Metropolis (1927)/title_t03.mkv     4002  1000  throttled 3 s  72.0 MiB  71.5 MiB  21.5 GiB  21.5 GiB  21.4 GiB  10.0 MiB  24.0 MiB  its turn on /rips 3120 ms
 3  /rips/M (1931)/title_t01.mkv              4003  1000  failed              0 B       0 B  21.5 GiB  21.5 GiB  21.4 GiB  10.0 MiB  24.0 MiB
 4  /mnt/nas/disc.iso                            -  1000  stalled 42 s   72.0 MiB       0 B  21.5 GiB  21.5 GiB  21.4 GiB  10.0 MiB  24.0 MiB  fdatasync on nas:/rips 42 s
"
    );
    assert_eq!(exit_code(&output), 4);
}

#[test]
fn eighty_columns_are_enough() {
    let daemon = FakeDaemon::start(degraded());
    let mut command = freemkvctl(&daemon.socket());
    let output = command.env("COLUMNS", "80").arg("status").output().unwrap();
    assert_eq!(
        stdout(&output),
        "\
freemkvd 0.1.0 running for 3 h 12 min, pid 811
4 streams: in 216 MiB/s from muxers, out 143 MiB/s to devices
dirty 48.0 MiB of 512 MiB (kernel: 45.2 MiB), queued 20.0 MiB of 256 MiB

failed: stream 3, /rips/M (1931)/title_t01.mkv: no space left on device; free
  some and start the rip again (errno 28 at byte 4096)
stalled in fdatasync for 42 s on nas:/rips: stream 4, /mnt/nas/disc.iso
device 0:52 has been wedged for 1 min 35 s: /mnt/nas (nfs4) has 48.0 MiB to
  write back

MOUNT     FS    STATE                 DIRTY    KERNEL    LIMIT   RATE/s    P95
/rips     ext4  healthy            48.0 MiB  45.0 MiB  256 MiB  143 MiB  48 ms
/mnt/nas  nfs4  wedged 1 min 35 s  48.0 MiB         -  256 MiB      0 B   41 s

ID  FILE                             STATE              IN/s     OUT/s   DURABLE
 1  ...ird Man (1949)/title_t00.mkv  writing        72.0 MiB  71.5 MiB  21.4 GiB
 2  ...ropolis (1927)/title_t03.mkv  throttled 3 s  72.0 MiB  71.5 MiB  21.4 GiB
 3  /rips/M (1931)/title_t01.mkv     failed              0 B       0 B  21.4 GiB
 4  /mnt/nas/disc.iso                stalled 42 s   72.0 MiB       0 B  21.4 GiB
"
    );
}

#[test]
fn bytes_are_exact_and_titles_can_be_left_out() {
    let daemon = FakeDaemon::start(healthy());
    let mut command = freemkvctl(&daemon.socket());
    command.args(["status", "--bytes", "--no-header"]);
    let output = command.output().unwrap();
    assert_eq!(
        stdout(&output),
        "\
freemkvd 0.1.0 running for 3 h 12 min, pid 811; 2 streams: in 150994944 bytes/s from muxers, out 149946368 bytes/s to devices; dirty 50331648 bytes of 536870912 bytes (kernel: 47448064 bytes), queued 20971520 bytes of 268435456 bytes

8:17  /rips  ext4  healthy  dontcache  50331648  47185920  268435456  149946368  48 ms

1  /rips/The Third Man (1949)/title_t00.mkv  4001  1000  writing        75497472  74973184  23068672005  23058186240  22963814400  10485760  25165824
2  /rips/Metropolis (1927)/title_t03.mkv     4002  1000  throttled 3 s  75497472  74973184  23068672005  23058186240  22963814400  10485760  25165824  its turn on /rips 3120 ms
"
    );
}

#[test]
fn who_is_slow_and_who_is_to_be_paused_is_said_in_words_and_is_no_trouble() {
    let mut status = healthy();
    let [slow, paused] = &mut status.streams[..] else { panic!("two streams") };
    slow.held = Some(Held { percent: 82, of_seconds: 45, cause: Cause::DeviceBudget });
    paused.paused = Some(true);
    // Of one that is paused it is known why.
    paused.held = Some(Held { percent: 100, of_seconds: 45, cause: Cause::Paused });
    let daemon = FakeDaemon::start(status);
    let output = freemkvctl(&daemon.socket()).arg("status").output().unwrap();
    let text = stdout(&output);
    let words: Vec<&str> =
        text.lines().skip(1).take_while(|line| !line.starts_with("DEV")).collect();
    assert_eq!(
        words,
        [
            "",
            "paused, but still throttled 3 s (freemkvctl resume 2 takes it back): stream 2, \
             /rips/Metropolis (1927)/title_t03.mkv",
            "slow: stream 1, /rips/The Third Man (1949)/title_t00.mkv: its muxer was held up for 82 % of the last \
             45 s, most of all while the stream was throttled by the budget of its device; /rips gets 143 MiB/s \
             done (freemkvctl why 1)",
            ""
        ]
    );
    assert_eq!(exit_code(&output), 0);
}

#[test]
fn json_has_exactly_the_promised_keys_in_their_order() {
    let daemon = FakeDaemon::start(degraded());
    let output = freemkvctl(&daemon.socket()).args(["status", "--json"]).output().unwrap();
    assert_eq!(exit_code(&output), 4);
    let text = stdout(&output);
    assert_eq!(text.lines().count(), 1, "one line when not on a terminal");
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["state"], "running");
    assert_eq!(json["devices"][1]["state"], "wedged");
    assert_eq!(json["streams"][0]["error"], serde_json::Value::Null);
    assert_eq!(json["streams"][2]["error"]["errno"], 28);
    assert_eq!(json["streams"][3]["blocked_in"], "fdatasync");
    assert_eq!(json["streams"][3]["client_pid"], serde_json::Value::Null);

    // A parsed object has no order, so it is the text that shows it.
    let stream = "id client_pid client_uid path device state state_seconds blocked_in \
        accepted_bytes written_bytes durable_bytes in_bytes_per_second out_bytes_per_second \
        queued_bytes dirty_bytes window_bytes seeks patches error";
    let stream_more = "waiting_for kernel_dirty_bytes drain weight shared client_user paused held";
    let device = "id mount filesystem state drain limit_bytes charged_bytes \
        rate_bytes_per_second completion_ms_p95 kernel_dirty_bytes extent_bytes turns \
        state_seconds";
    let expected = [
        "version protocol pid uptime_seconds state budget",
        "limit_bytes charged_bytes kernel_dirty_bytes queued_bytes queue_limit_bytes devices",
        device,
        device,
        "streams",
        stream,
        stream_more,
        stream,
        "waiting_for what ms kernel_dirty_bytes drain weight shared client_user paused held",
        stream,
        "errno offset message",
        stream_more,
        stream,
        "waiting_for what ms kernel_dirty_bytes drain weight shared client_user paused held",
    ];
    assert_eq!(keys(&text).join(" "), expected.join(" "));
}

/// Every key of a JSON text, in order. No string in [`degraded`] has a quote or is before a colon.
fn keys(text: &str) -> Vec<&str> {
    let parts: Vec<&str> = text.split('"').collect();
    let pairs = parts.windows(2).skip(1).step_by(2);
    pairs.filter(|pair| pair[1].starts_with(':')).map(|pair| pair[0]).collect()
}

#[test]
fn a_reader_who_leaves_early_is_no_failure() {
    let daemon = FakeDaemon::start(healthy());
    for arguments in [["status", "--watch=0.1"], ["status", "--json"]] {
        let mut command = freemkvctl(&daemon.socket());
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        let mut complaints = String::new();
        child.stderr.take().unwrap().read_to_string(&mut complaints).unwrap();
        assert_eq!(complaints, "");
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
}

#[test]
fn watching_prints_json_line_by_line() {
    let daemon = FakeDaemon::start(healthy());
    let mut command = freemkvctl(&daemon.socket());
    command.args(["status", "--json", "--watch=0.1"]).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for _ in 0..3 {
        let line = lines.next().unwrap().unwrap();
        let json: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(json["pid"], 811);
    }
    drop(lines);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn watching_prints_a_block_each_time_without_a_terminal() {
    let daemon = FakeDaemon::start(healthy());
    let mut command = freemkvctl(&daemon.socket());
    command.args(["status", "--watch=0.1"]).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let titles = lines.map(Result::unwrap).filter(|line| line.starts_with("freemkvd 0.1.0"));
    assert_eq!(titles.take(2).count(), 2);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[cfg(unix)]
#[test]
fn watching_goes_on_without_the_daemon_and_ends_with_ctrl_c() {
    let daemon = FakeDaemon::start(healthy());
    let mut command = freemkvctl(&daemon.socket());
    command.args(["status", "--watch=0.1"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut errors = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().starts_with("freemkvd"));

    daemon.hide();
    let complaint = errors.next().unwrap().unwrap();
    assert!(complaint.ends_with("; trying again, Ctrl-C ends"), "{complaint}");
    daemon.show_again();
    // The blocks from before may still be in the pipe: more than a second's worth is not.
    assert_eq!(lines.by_ref().filter_map(Result::ok).take(100).count(), 100);

    crate::interrupt(&child);
    drop(lines);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(errors.next().map(Result::unwrap), None, "it is said once");
}

#[test]
fn the_columns_that_are_asked_for_come_in_their_order_and_nothing_else_comes() {
    let daemon = FakeDaemon::start(healthy());
    let table = |columns: &str, more: &[&str]| {
        let mut command = freemkvctl(&daemon.socket());
        command.args(["status", "-o", columns]).args(more);
        // Too narrow for what is asked for, and none of it goes.
        let output = command.env("COLUMNS", "40").output().unwrap();
        assert_eq!((exit_code(&output), stderr(&output)), (0, String::new()));
        stdout(&output)
    };
    let plain = table("window,ID,device,weight,patches,drain,seeks", &["--no-header"]);
    let first: Vec<_> = plain.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(first, ["64.0", "MiB", "1", "8:17", "100", "7", "dontcache", "12"], "{plain}");
    assert_eq!(plain.lines().count(), healthy().streams.len());
    let exact = table("in,out,waits", &["--bytes"]);
    let lines: Vec<_> = exact.lines().map(str::trim).collect();
    assert!(lines[0].starts_with("IN/s") && lines[1].starts_with("75497472"), "{exact}");
}

#[test]
fn a_column_that_there_is_not_is_wrong_usage_and_all_are_named() {
    let daemon = FakeDaemon::start(healthy());
    for wrong in ["id,colour", "", "id,", "waits for"] {
        let output = freemkvctl(&daemon.socket()).args(["status", "-o", wrong]).output().unwrap();
        let said = stderr(&output);
        assert_eq!(exit_code(&output), 2, "{wrong}: {said}");
        assert!(said.contains("the columns are id,file,pid,user,state,in,out,"), "{said}");
        assert!(said.contains("device,drain,weight,window,kernel,seeks,patches"), "{said}");
    }
    let both =
        freemkvctl(&daemon.socket()).args(["status", "-o", "id", "--json"]).output().unwrap();
    assert_eq!(exit_code(&both), 2);
}
