//! Sizes and durations as people write them: a number and a unit, in a string. A bare number is
//! refused: 64 could be bytes, pages or MiB, and each guess is wrong for somebody. So is a bare mode: TOML
//! would read 0664 as an error, and 664 as another mode.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use serde::de::{Deserialize, Deserializer, Error};

/// A size in bytes, written like `"64MiB"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong =
            || format!("\"{text}\" is not a size; write a number and a unit, like \"64MiB\"");
        if text.trim().ends_with(|last: char| last.is_ascii_digit()) {
            return Err(wrong());
        }
        text.parse::<ByteSize>().map(|size| Self(size.0)).map_err(|_| wrong())
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        ByteSize(self.0).display().iec().fmt(f)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// A length of time, written like `"10s"` or `"5min"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        humantime::parse_duration(text).map(Self).map_err(|_| {
            format!("\"{text}\" is not a time; write a number and a unit, like \"10s\" or \"5min\"")
        })
    }
}

impl Span {
    /// As one says it: whole seconds, and below one milliseconds. The rest is cut off.
    #[must_use]
    pub const fn about(time: Duration) -> Self {
        Self(match time.as_secs() {
            0 => Duration::from_millis(time.subsec_millis() as u64),
            seconds => Duration::from_secs(seconds),
        })
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// The permissions of a file, written like `"0664"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileMode(pub u32);

impl FromStr for FileMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_octal = text.len() >= 3 && text.bytes().all(|digit| matches!(digit, b'0'..=b'7'));
        let mode = u32::from_str_radix(text, 8).ok().filter(|_| is_octal);
        mode.map(Self)
            .ok_or_else(|| format!("\"{text}\" is not a mode; write octal digits, like \"0664\""))
    }
}

impl fmt::Display for FileMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

impl<'de> Deserialize<'de> for FileMode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match toml::Value::deserialize(deserializer)? {
            toml::Value::String(text) => text.parse().map_err(D::Error::custom),
            other => Err(D::Error::custom(format!(
                "{other} is not a mode; write octal digits in quotes, like \"0664\""
            ))),
        }
    }
}

/// A string, or what stands there instead, so that `64` is told the same as `"64"`.
pub(super) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    match toml::Value::deserialize(deserializer)? {
        toml::Value::String(text) => Ok(text),
        other => Ok(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_need_a_unit() {
        assert_eq!("64MiB".parse(), Ok(Size(64 << 20)));
        assert_eq!("1.5 GiB".parse(), Ok(Size(3 << 29)));
        assert_eq!("64MB".parse(), Ok(Size(64_000_000)));
        for wrong in ["64", "MiB", "64 parsecs", "-1MiB", ""] {
            let error = wrong.parse::<Size>().unwrap_err();
            assert!(error.contains("like \"64MiB\""), "{error}");
        }
    }

    #[test]
    fn a_time_in_words_has_no_more_than_one_cares_for() {
        let said = |time| Span::about(time).to_string();
        assert_eq!(said(Duration::from_micros(3_723_400_500)), "1h 2m 3s");
        assert_eq!(said(Duration::from_micros(999_900)), "999ms");
        assert_eq!(said(Duration::from_micros(900)), "0s");
    }

    #[test]
    fn modes_are_octal() {
        assert_eq!("0664".parse(), Ok(FileMode(0o664)));
        assert_eq!("755".parse::<FileMode>().unwrap().to_string(), "0755");
        for wrong in ["", "7", "0888", "rw-rw-r--", "+664", "0o664", "99999999999"] {
            let error = wrong.parse::<FileMode>().unwrap_err();
            assert!(error.contains("like \"0664\""), "{error}");
        }
    }

    #[test]
    fn spans_need_a_unit() {
        assert_eq!("90s".parse(), Ok(Span(Duration::from_secs(90))));
        assert!("90".parse::<Span>().unwrap_err().contains("like \"10s\""));
    }
}
