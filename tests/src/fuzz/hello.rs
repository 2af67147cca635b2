//! The hello, either way.
//!
//! The input is read as a client's hello and as a daemon's answer, its first 16 bytes each time.
//!
//! Promises:
//! 1. No bytes make it panic.
//! 2. Whoever is a client by the specification, spelled out here once more, is answered by the highest version
//!    that both know, or by what this daemon speaks; everybody else is no client.
//! 3. The answer is read by a client as it was meant.
//! 4. What was read is written in the same bytes, but for those of an answer that mean nothing.

use freemkvd_proto::ErrorCode;
use freemkvd_proto::hello::{
    ClientHello, DaemonHello, HELLO_BYTES, MAGIC, VERSION_HIGHEST, VERSION_LOWEST,
};

/// See the module's documentation.
///
/// # Panics
/// When a promise is broken.
pub fn hello(input: &[u8]) {
    let Some(bytes) = input.first_chunk::<HELLO_BYTES>() else { return };
    as_client(bytes);
    as_daemon(bytes);
}

fn as_client(bytes: &[u8; HELLO_BYTES]) {
    let [.., l0, l1, h0, h1, r0, r1, r2, r3] = *bytes;
    let (lowest, highest) = (u16::from_le_bytes([l0, l1]), u16::from_le_bytes([h0, h1]));
    let is_client =
        bytes.starts_with(&MAGIC) && [r0, r1, r2, r3] == [0; 4] && (1..=highest).contains(&lowest);
    let hello = match ClientHello::decode(bytes) {
        Ok(hello) => hello,
        Err(code) => {
            assert!(!is_client && code == ErrorCode::BAD_HELLO, "{bytes:?}");
            return;
        }
    };
    assert!(is_client && hello == ClientHello { lowest, highest }, "{bytes:?}");
    assert_eq!(hello.encode(), *bytes);
    let both = (lowest.max(VERSION_LOWEST)..=highest.min(VERSION_HIGHEST)).max();
    let expected = match both {
        Some(version) => DaemonHello::Accepted { version },
        None => DaemonHello::Refused {
            reason: ErrorCode::VERSION,
            lowest: VERSION_LOWEST,
            highest: VERSION_HIGHEST,
        },
    };
    assert_eq!(hello.answer(), expected);
    assert_eq!(DaemonHello::decode(&expected.encode()), Ok(expected));
}

fn as_daemon(bytes: &[u8; HELLO_BYTES]) {
    match DaemonHello::decode(bytes) {
        Err(code) => {
            assert!(!bytes.starts_with(&MAGIC) && code == ErrorCode::BAD_HELLO, "{bytes:?}");
        }
        Ok(accepted @ DaemonHello::Accepted { version }) => {
            assert!(version > 0 && accepted.encode()[..10] == bytes[..10]);
        }
        Ok(refused @ DaemonHello::Refused { .. }) => assert_eq!(refused.encode(), *bytes),
    }
}
