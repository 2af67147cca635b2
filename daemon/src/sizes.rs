//! The sizes of the configuration, as far as the host and the control group of this process have room for
//! them. What is more than that would be the end of all rips, and not of the one that is too many.

use tracing::warn;

use crate::budget::LIMIT_BYTES_MIN;
use crate::cgroup::{self, Limit};
use crate::config::{Config, Size, Total};
use crate::platform;

/// Most that `budget.total = "auto"` stands for: half a second of a device of 1 GiB/s, beyond which more dirty
/// bytes add delay but no speed.
const AUTO_BYTES_MAX: u64 = 512 << 20;

/// Least of all queues together: one segment.
const QUEUES_BYTES_MIN: u64 = 1 << 20;

/// See the module's documentation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Most that may be dirty.
    pub budget_bytes: u64,
    /// Most that all queues may hold.
    pub queue_total_bytes: u64,
    /// What the control group allows.
    group: Option<Limit>,
}

/// What the host says of itself, where it does.
#[derive(Clone, Copy, Debug)]
struct Host {
    /// Memory that nobody needs.
    available_bytes: Option<u64>,
    /// Where the kernel begins to write back by itself.
    background_bytes: Option<u64>,
    /// Where it makes writers wait.
    throttle_bytes: u64,
}

impl Sizes {
    /// As they are now.
    #[must_use]
    pub fn now(config: &Config) -> Self {
        let host = Host {
            available_bytes: platform::available_bytes(),
            background_bytes: platform::background_bytes(),
            throttle_bytes: platform::throttle_bytes(),
        };
        Self::within(config, host, cgroup::memory_limit())
    }

    fn within(config: &Config, host: Host, group: Option<Limit>) -> Self {
        let limit = group.as_ref();
        let budget_bytes = match config.budget {
            // Above the background threshold the kernel's own flusher starts, and decides who waits; a tenth
            // of the available memory leaves a small NAS box to its other work.
            Total::Auto => {
                let parts = [
                    host.available_bytes.map(|bytes| bytes / 10),
                    limit.map(|limit| limit.bytes / 10),
                    host.background_bytes.map(|bytes| bytes / 10 * 8),
                ];
                parts.into_iter().flatten().fold(AUTO_BYTES_MAX, u64::min)
            }
            // Above it the kernel makes writers wait, whoever they are.
            Total::Bytes(bytes) => {
                let of_group = limit.map_or(u64::MAX, Limit::dirty_bytes);
                bytes.min(host.throttle_bytes).min(of_group)
            }
        };
        let of_group = limit.map_or(u64::MAX, Limit::queues_bytes);
        Self {
            budget_bytes: budget_bytes.max(LIMIT_BYTES_MIN),
            queue_total_bytes: config.queue_total_bytes.min(of_group).max(QUEUES_BYTES_MIN),
            group,
        }
    }

    /// Says what of the configuration does not fit the control group.
    pub fn warn_of_less(&self, config: &Config) {
        if let Some(words) = self.less(config) {
            warn!("{words}");
        }
    }

    fn less(&self, config: &Config) -> Option<String> {
        let limit = self.group.as_ref()?;
        let Limit { bytes, file } = limit;
        let budget_bytes = match config.budget {
            Total::Auto => self.budget_bytes,
            Total::Bytes(bytes) => bytes,
        };
        let needed = config.queue_total_bytes.saturating_add(budget_bytes);
        let fits = config.queue_total_bytes <= limit.queues_bytes()
            && budget_bytes <= limit.dirty_bytes().max(LIMIT_BYTES_MIN)
            && needed <= *bytes;
        (!fits).then(|| {
            format!(
                "stream.queue_total and the budget may come to {}, and the control group of freemkvd may have \
                 {} ({}); queues get {} instead, and the budget {}: raise MemoryMax= of its unit, or lower them",
                Size(needed),
                Size(*bytes),
                file.display(),
                Size(self.queue_total_bytes),
                Size(self.budget_bytes)
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    const HOST: Host = Host {
        available_bytes: Some(20_000 * MIB),
        background_bytes: Some(2_000 * MIB),
        throttle_bytes: 3_000 * MIB,
    };

    fn of(budget: Total, host: Host, group_mib: Option<u64>) -> (u64, u64, Option<String>) {
        let config = Config { budget, ..Config::default() };
        let limit = |mib| Limit { bytes: mib * MIB, file: "/group/memory.max".into() };
        let sizes = Sizes::within(&config, host, group_mib.map(limit));
        (sizes.budget_bytes / MIB, sizes.queue_total_bytes / MIB, sizes.less(&config))
    }

    #[test]
    fn auto_is_the_least_of_what_host_and_group_leave() {
        let auto = |host, group| of(Total::Auto, host, group).0;
        assert_eq!(auto(HOST, None), 512);
        assert_eq!(auto(Host { available_bytes: Some(1000 * MIB), ..HOST }, None), 100);
        assert_eq!(auto(Host { background_bytes: Some(100 * MIB), ..HOST }, None), 80);
        assert_eq!(auto(HOST, Some(2000)), 200);
        assert_eq!(auto(HOST, Some(64)), 8, "less can't be worked with");
        let silent = Host { available_bytes: None, background_bytes: None, throttle_bytes: MIB };
        assert_eq!(auto(silent, None), 512);
    }

    #[test]
    fn a_size_is_never_exceeded_but_may_be_lowered() {
        let sized = |mib, host, group| of(Total::Bytes(mib * MIB), host, group).0;
        assert_eq!(sized(1000, HOST, None), 1000);
        assert_eq!(sized(4000, HOST, None), 3000);
        assert_eq!(sized(1000, HOST, Some(400)), 100);
    }

    #[test]
    fn queues_have_no_more_than_half_of_the_group_and_that_is_said() {
        assert_eq!(of(Total::Auto, HOST, None), (512, 256, None));
        assert_eq!(of(Total::Auto, HOST, Some(4096)), (409, 256, None));
        let (budget, queues, words) = of(Total::Auto, HOST, Some(64));
        assert_eq!((budget, queues), (8, 32));
        let words = words.unwrap();
        for part in ["264.0 MiB", "64.0 MiB (/group/memory.max)", "get 32.0 MiB", "MemoryMax="] {
            assert!(words.contains(part), "{part} is not in: {words}");
        }
        assert!(of(Total::Bytes(500 * MIB), HOST, Some(1000)).2.is_some(), "it gets 250 MiB");
        assert!(of(Total::Bytes(250 * MIB), HOST, Some(1000)).2.is_none());
    }
}
