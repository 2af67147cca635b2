//! What the kernel keeps dirty before it acts, as `/proc` tells.

use std::fs;

use super::figures::Kernel;

pub(super) fn now() -> Kernel {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let vm = |key: &str| read(&format!("/proc/sys/vm/{key}")).trim().parse().ok();
    let counts = read("/proc/vmstat");
    let page_bytes = rustix::param::page_size() as u64;
    // What the keys in /proc/sys/vm come to: some are parts of the memory that is available.
    let pages = |name: &str| Some(field(&counts, name)?.saturating_mul(page_bytes));
    Kernel {
        release: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        dirty_background_bytes: pages("nr_dirty_background_threshold"),
        dirty_bytes: pages("nr_dirty_threshold"),
        dirty_expire_centiseconds: vm("dirty_expire_centisecs"),
        dirty_writeback_centiseconds: vm("dirty_writeback_centisecs"),
        available_bytes: field(&read("/proc/meminfo"), "MemAvailable:")
            .map(|kibibytes| kibibytes.saturating_mul(1024)),
    }
}

/// The number behind a name.
fn field(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().map(str::split_whitespace);
    lines.find_map(|mut words| (words.next()? == name).then(|| words.next()?.parse().ok())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_its_whole_name() {
        let text = "MemTotal:  9 kB\nMemAvailable:   20 kB\n";
        assert_eq!(field(text, "MemAvailable:"), Some(20));
        assert_eq!(field(text, "Mem"), None);
        assert!(now().dirty_bytes.is_some());
    }
}
