//! How well the budget knows its devices: its rates beside what the devices really did.

use std::time::Duration;

use freemkvd::budget::{DeviceId, State};

use crate::device::Truth;
use crate::world::World;

/// Estimates are compared with what happened since so long.
const SPAN: Duration = Duration::from_secs(2);

/// Off by more than this is wrong.
const FACTOR: f64 = 3.0;

/// The comparison of one device.
#[derive(Clone, Copy, Debug, Default)]
pub struct Compared {
    since: Duration,
    before: Truth,
    /// For how many spans in a row the estimate has been too low, and too high.
    low: u32,
    high: u32,
    pub low_max: u32,
    pub high_max: u32,
    pub spans: u32,
    pub low_spans: u32,
    pub high_spans: u32,
    /// How often it was suspect and only slow.
    pub false_alarms: u32,
    /// The same, on one device.
    pub false_alarms_max: u32,
}

impl Compared {
    /// Those of another device, or of several.
    pub fn add(&mut self, other: &Self) {
        self.spans += other.spans;
        self.low_spans += other.low_spans;
        self.high_spans += other.high_spans;
        self.low_max = self.low_max.max(other.low_max);
        self.high_max = self.high_max.max(other.high_max);
        self.false_alarms += other.false_alarms;
        self.false_alarms_max = self.false_alarms_max.max(other.false_alarms_max);
    }
}

/// No storm of commits and no queue takes so long.
const SLOW: Duration = Duration::from_secs(30);

impl World {
    /// A device is said to be suspect or wedged: rightly so?
    pub fn judge(&mut self, id: DeviceId, state: State) {
        let at = usize::try_from(id).expect("few devices");
        let now = self.now;
        let was_sick = self.devices[at].was_sick(now.saturating_sub(SLOW), now);
        match state {
            State::Suspect if !was_sick => {
                let rates = &mut self.rates[at];
                rates.false_alarms += 1;
                rates.false_alarms_max = rates.false_alarms;
            }
            State::Wedged => assert!(was_sick, "device {at} is healthy"),
            _ => {}
        }
    }

    /// Compares, when it is time.
    pub fn compare_rates(&mut self) {
        let now = self.now;
        for at in 0..self.devices.len() {
            let id = u32::try_from(at).expect("few devices");
            let truth = Truth::of(&self.devices[at]);
            let compared = &mut self.rates[at];
            if now - compared.since < SPAN {
                continue;
            }
            let real = truth.rate_since(compared.before);
            (compared.since, compared.before) = (now, truth);
            let (Some(real), Some(view)) = (real, self.books.budget.device(id)) else { continue };
            #[expect(clippy::cast_precision_loss, reason = "a rate")]
            let estimate = view.bytes_per_second as f64;
            compared.spans += 1;
            compared.low = if estimate * FACTOR < real { compared.low + 1 } else { 0 };
            compared.high = if estimate > real * FACTOR { compared.high + 1 } else { 0 };
            compared.low_spans += u32::from(compared.low > 0);
            compared.high_spans += u32::from(compared.high > 0);
            compared.low_max = compared.low_max.max(compared.low);
            compared.high_max = compared.high_max.max(compared.high);
            if compared.low > 2 || compared.high > 2 {
                let (estimate, real) = (estimate / 1e6, real / 1e6);
                self.log(format_args!("device {at}: {estimate:.1} MB/s instead of {real:.1}"));
            }
        }
    }
}
