//! Numbers as people read them.

use bytesize::ByteSize;

/// How sizes and rates are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sizes {
    /// About three digits and a binary unit.
    Human,
    /// Every byte.
    Exact,
}

impl Sizes {
    /// A number of bytes.
    pub(crate) fn bytes(self, bytes: u64) -> String {
        match self {
            Self::Human => human(bytes),
            Self::Exact => bytes.to_string(),
        }
    }

    /// The same in a sentence, where a bare number would not say what it counts.
    pub(crate) fn bytes_in_words(self, bytes: u64) -> String {
        match self {
            Self::Human => human(bytes),
            Self::Exact => format!("{bytes} bytes"),
        }
    }
}

/// A size of at most nine characters.
pub(crate) fn human(bytes: u64) -> String {
    let size = ByteSize(bytes).display().iec();
    let mut leading = bytes;
    while leading >= 1024 {
        leading /= 1024;
    }
    // The digit after the point tells nothing behind three others, and costs a column its width.
    if leading >= 100 && bytes >= 1024 { format!("{size:.0}") } else { format!("{size:.1}") }
}

/// A size of at most five characters, for where many have to fit beside each other.
pub(crate) fn compact(bytes: u64) -> String {
    let text = human(bytes);
    let (number, unit) = text.split_once(' ').unwrap_or((&text, ""));
    format!("{number}{}", unit.chars().next().unwrap_or('B'))
}

/// A duration in its two largest units.
pub(crate) fn seconds(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    if days > 0 {
        format!("{days} d {} h", hours % 24)
    } else if hours > 0 {
        format!("{hours} h {} min", minutes % 60)
    } else if minutes > 0 {
        format!("{minutes} min {} s", seconds % 60)
    } else {
        format!("{seconds} s")
    }
}

/// A latency.
pub(crate) fn milliseconds(ms: u64) -> String {
    if ms < 10_000 { format!("{ms} ms") } else { seconds(ms / 1000) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_about_three_digits() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536 << 10, "1.5 MiB"),
            (72 << 20, "72.0 MiB"),
            (512 << 20, "512 MiB"),
            (1023 << 20, "1023 MiB"),
            (61_203_283_968, "57.0 GiB"),
        ] {
            assert_eq!(human(bytes), text);
        }
        assert_eq!(Sizes::Exact.bytes(1536), "1536");
        assert_eq!(Sizes::Exact.bytes_in_words(1536), "1536 bytes");
    }

    #[test]
    fn compact_sizes_have_five_characters_at_most() {
        for (bytes, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (72 << 20, "72.0M"),
            (1023 << 20, "1023M"),
            (5 << 40, "5.0T"),
        ] {
            assert_eq!(compact(bytes), text);
        }
    }

    #[test]
    fn durations_have_two_units() {
        for (count, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min 0 s"),
            (3 * 3600 + 12 * 60 + 9, "3 h 12 min"),
            (90_000, "1 d 1 h"),
        ] {
            assert_eq!(seconds(count), text);
        }
        assert_eq!(milliseconds(9_999), "9999 ms");
        assert_eq!(milliseconds(31_000), "31 s");
    }
}
