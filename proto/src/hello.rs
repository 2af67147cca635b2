//! The hello: 16 bytes each way, frozen for ever, so that any two versions can at least tell each
//! other that they do not match. Never postcard.

use crate::ErrorCode;

/// First eight bytes of both messages.
pub const MAGIC: [u8; 8] = *b"FREEMKVD";

/// Length of either message in bytes.
pub const HELLO_BYTES: usize = 16;

/// Lowest protocol version that this crate speaks.
pub const VERSION_LOWEST: u16 = 2;

/// Highest protocol version that this crate speaks.
///
/// | version | what it brought |
/// |---|---|
/// | 1 | the first; in no release, and no longer spoken |
/// | 2 | shared slots, weights, the window of a stream; a status report with what the kernel counts |
/// | 3 | streams that outlive a daemon; draining by a request |
/// | 4 | files that get their name when they are complete; what becomes of others; aborting by a request |
/// | 5 | files that the client has opened itself |
/// | 6 | a status report with what its muxers' users are called |
/// | 7 | where the time of a stream went |
/// | 8 | metrics |
/// | 9 | a status report with who is paused, and how much muxers are held up; reloading by a request |
pub const VERSION_HIGHEST: u16 = 9;

/// The client's opening: which versions it speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientHello {
    /// Lowest version, at least 1.
    pub lowest: u16,
    /// Highest version, at least `lowest`.
    pub highest: u16,
}

impl ClientHello {
    /// What this crate speaks.
    pub const THIS: Self = Self { lowest: VERSION_LOWEST, highest: VERSION_HIGHEST };

    /// The bytes on the wire.
    #[must_use]
    pub fn encode(self) -> [u8; HELLO_BYTES] {
        let mut bytes = [0; HELLO_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&self.lowest.to_le_bytes());
        bytes[10..12].copy_from_slice(&self.highest.to_le_bytes());
        bytes
    }

    /// Reads a client's hello.
    ///
    /// # Errors
    /// [`ErrorCode::BAD_HELLO`] when these bytes are not from a freemkvd client of any version.
    pub fn decode(bytes: &[u8; HELLO_BYTES]) -> Result<Self, ErrorCode> {
        let hello = Self { lowest: u16_at(bytes, 8), highest: u16_at(bytes, 10) };
        let sane = bytes[..8] == MAGIC
            && bytes[12..] == [0; 4]
            && hello.lowest >= 1
            && hello.lowest <= hello.highest;
        if sane { Ok(hello) } else { Err(ErrorCode::BAD_HELLO) }
    }

    /// The daemon's answer: the highest common version, or a refusal.
    #[must_use]
    pub fn answer(self) -> DaemonHello {
        let version = self.highest.min(VERSION_HIGHEST);
        if version >= self.lowest.max(VERSION_LOWEST) {
            DaemonHello::Accepted { version }
        } else {
            DaemonHello::refuse(ErrorCode::VERSION)
        }
    }
}

/// The daemon's answer to a [`ClientHello`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DaemonHello {
    /// Frames of this version follow.
    Accepted {
        /// The version both sides use from here on.
        version: u16,
    },
    /// The daemon closes the connection.
    Refused {
        /// Why.
        reason: ErrorCode,
        /// Lowest version the daemon speaks.
        lowest: u16,
        /// Highest version the daemon speaks.
        highest: u16,
    },
}

impl DaemonHello {
    /// A refusal by this version of the daemon.
    #[must_use]
    pub const fn refuse(reason: ErrorCode) -> Self {
        Self::Refused { reason, lowest: VERSION_LOWEST, highest: VERSION_HIGHEST }
    }

    /// The bytes on the wire.
    #[must_use]
    pub fn encode(self) -> [u8; HELLO_BYTES] {
        let (version, lowest, highest, reason) = match self {
            Self::Accepted { version } => (version, VERSION_LOWEST, VERSION_HIGHEST, 0),
            Self::Refused { reason, lowest, highest } => (0, lowest, highest, reason.0),
        };
        let mut bytes = [0; HELLO_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        for (at, field) in [(8, version), (10, lowest), (12, highest), (14, reason)] {
            bytes[at..at + 2].copy_from_slice(&field.to_le_bytes());
        }
        bytes
    }

    /// Reads a daemon's answer.
    ///
    /// # Errors
    /// [`ErrorCode::BAD_HELLO`] when these bytes are not from a freemkvd of any version.
    pub fn decode(bytes: &[u8; HELLO_BYTES]) -> Result<Self, ErrorCode> {
        if bytes[..8] != MAGIC {
            return Err(ErrorCode::BAD_HELLO);
        }
        Ok(match u16_at(bytes, 8) {
            0 => Self::Refused {
                reason: ErrorCode(u16_at(bytes, 14)),
                lowest: u16_at(bytes, 10),
                highest: u16_at(bytes, 12),
            },
            version => Self::Accepted { version },
        })
    }
}

fn u16_at(bytes: &[u8; HELLO_BYTES], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hello_bytes_are_frozen() {
        assert_eq!(
            ClientHello { lowest: 1, highest: 2 }.encode(),
            *b"FREEMKVD\x01\0\x02\0\0\0\0\0"
        );
        assert_eq!(
            DaemonHello::Accepted { version: 2 }.encode(),
            *b"FREEMKVD\x02\0\x02\0\x09\0\0\0"
        );
        assert_eq!(
            DaemonHello::refuse(ErrorCode::VERSION).encode(),
            *b"FREEMKVD\0\0\x02\0\x09\0\x65\0"
        );
    }

    #[test]
    fn both_sides_read_what_the_other_wrote() {
        let hello = ClientHello::THIS;
        assert_eq!(ClientHello::decode(&hello.encode()), Ok(hello));
        for answer in
            [DaemonHello::Accepted { version: 7 }, DaemonHello::refuse(ErrorCode::GOING_AWAY)]
        {
            let read = DaemonHello::decode(&answer.encode());
            assert_eq!(read, Ok(answer));
        }
    }

    #[test]
    fn the_highest_common_version_wins_and_none_is_refused() {
        let ask = |lowest, highest| ClientHello { lowest, highest }.answer();
        assert_eq!(ask(2, 2), DaemonHello::Accepted { version: 2 });
        assert_eq!(ask(1, 99), DaemonHello::Accepted { version: VERSION_HIGHEST });
        assert_eq!(ask(1, 1), DaemonHello::refuse(ErrorCode::VERSION));
        assert_eq!(ask(99, 99), DaemonHello::refuse(ErrorCode::VERSION));
    }

    #[test]
    fn a_wrong_hello_is_refused() {
        let mut bytes = ClientHello::THIS.encode();
        bytes[0] = b'f';
        assert_eq!(ClientHello::decode(&bytes), Err(ErrorCode::BAD_HELLO));
        let mut bytes = ClientHello::THIS.encode();
        bytes[12] = 1;
        assert_eq!(ClientHello::decode(&bytes), Err(ErrorCode::BAD_HELLO));
        for (lowest, highest) in [(0, 1), (2, 1)] {
            let bytes = ClientHello { lowest, highest }.encode();
            assert_eq!(ClientHello::decode(&bytes), Err(ErrorCode::BAD_HELLO));
        }
        assert_eq!(DaemonHello::decode(b"HTTP/1.1 400 Bad"), Err(ErrorCode::BAD_HELLO));
    }
}
