//! Security identifiers: the bytes that the system has, and the text that people may see and write.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An account, or a group of accounts, as in `S-1-5-21-1004336348-1177238915-682003330-512`.
///
/// All that are alike share one text, which is kept for the life of the process: a host has few accounts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sid(&'static str);

/// Most numbers behind the authority (`SID_MAX_SUB_AUTHORITIES` of winnt.h).
const NUMBERS_MAX: usize = 15;

impl Sid {
    /// The system itself.
    pub const SYSTEM: Self = Self("S-1-5-18");
    /// The administrators of this host.
    pub const ADMINISTRATORS: Self = Self("S-1-5-32-544");

    /// From what the system has: a revision, a count, the authority, so many numbers. `None` for other bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (&[1, count], rest) = bytes.split_first_chunk()? else { return None };
        let (authority, rest) = rest.split_first_chunk::<6>()?;
        let mut wide = [0; 8];
        wide[2..].copy_from_slice(authority);
        let numbers = rest.get(..4 * usize::from(count))?.chunks_exact(4);
        let mut text = format!("S-1-{}", u64::from_be_bytes(wide));
        for number in numbers {
            let number = u32::from_le_bytes(number.try_into().ok()?);
            text += &format!("-{number}");
        }
        text.parse().ok()
    }

    /// The other way round.
    #[must_use]
    pub fn to_bytes(self) -> Vec<u8> {
        let mut parts = self.0.split('-').skip(2).map(|part| part.parse::<u64>().unwrap_or(0));
        let authority = parts.next().unwrap_or(0).to_be_bytes();
        let numbers: Vec<u64> = parts.collect();
        let mut bytes = vec![1, u8::try_from(numbers.len()).unwrap_or(0)];
        bytes.extend(&authority[2..]);
        bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()[..4].to_vec()));
        bytes
    }

    /// The text, for the log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.0
    }
}

/// A text that is no identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoSid;

impl FromStr for Sid {
    type Err = NoSid;

    fn from_str(text: &str) -> Result<Self, NoSid> {
        let mut parts = text.split('-');
        let is_first = parts.next() == Some("S") && parts.next() == Some("1");
        let numbers: Vec<_> = parts.collect();
        // One way to write it, so that the same is always the same text.
        let is_number = |part: &&str, most: u64| {
            part.parse::<u64>().is_ok_and(|number| number <= most && number.to_string() == **part)
        };
        let is_one = match numbers.split_first() {
            Some((authority, rest)) => {
                is_number(authority, (1 << 48) - 1)
                    && rest.len() <= NUMBERS_MAX
                    && rest.iter().all(|part| is_number(part, u32::MAX.into()))
            }
            None => false,
        };
        if is_first && is_one { Ok(Self(kept(text))) } else { Err(NoSid) }
    }
}

fn kept(text: &str) -> &'static str {
    static TEXTS: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut texts = TEXTS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = texts.get(text) {
        return known;
    }
    let new: &'static str = Box::leak(text.into());
    texts.insert(new);
    new
}

impl fmt::Display for Sid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl fmt::Debug for Sid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Serialize for Sid {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.0)
    }
}

impl<'de> Deserialize<'de> for Sid {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = <&str>::deserialize(from)?;
        text.parse().map_err(|NoSid| de::Error::custom("no security identifier"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_text_are_the_same_identifier() {
        let bytes = [1, 2, 0, 0, 0, 0, 0, 5, 32, 0, 0, 0, 32, 2, 0, 0];
        let sid = Sid::from_bytes(&bytes).unwrap();
        assert_eq!(sid, Sid::ADMINISTRATORS);
        assert_eq!(sid.to_bytes(), bytes);
        let user: Sid = "S-1-5-21-1004336348-1177238915-4294967295-1001".parse().unwrap();
        assert_eq!(Sid::from_bytes(&user.to_bytes()), Some(user));
        for end in 0..bytes.len() {
            assert_eq!(Sid::from_bytes(&bytes[..end]), None, "{end}");
        }
    }

    #[test]
    fn an_identifier_is_written_in_one_way() {
        for text in [
            "",
            "S-1",
            "S-1-",
            "S-2-5",
            "s-1-5-18",
            "S-1-5-018",
            "S-1-5-4294967296",
            "S-1-5-+1",
            "S-1-5-18 ",
        ] {
            assert_eq!(text.parse::<Sid>(), Err(NoSid), "{text}");
        }
        let long = format!("S-1-5{}", "-1".repeat(NUMBERS_MAX + 1));
        assert_eq!(long.parse::<Sid>(), Err(NoSid));
        assert_eq!("S-1-5-18".parse(), Ok(Sid::SYSTEM));
    }
}
