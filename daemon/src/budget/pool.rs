//! What all devices share: the floors, and what is left above them.

use super::device::{Device, Pool};
use super::{Budget, DeviceId, FLOOR_BYTES, FLOOR_BYTES_MIN};

impl Budget {
    pub(super) fn pool(&self) -> Pool {
        let floors = self.floor_bytes * self.devices.len() as u64;
        let shared = self.limit_bytes.saturating_sub(floors);
        Pool {
            floor_bytes: self.floor_bytes,
            free_bytes: shared.saturating_sub(self.above_floors_bytes),
        }
    }

    /// The floors together are at most half of the total.
    pub(super) fn floor_of(&self, devices: usize) -> u64 {
        let devices = devices.max(1) as u64;
        (self.limit_bytes / 2 / devices).clamp(FLOOR_BYTES_MIN, FLOOR_BYTES)
    }

    /// What is left of the total, where that has to be asked: as long as all floors fit into it, the
    /// pool sees to it, and a device may have its floor whatever the others hold.
    pub(super) fn left_bytes(&self) -> u64 {
        match self.floor_bytes * self.devices.len() as u64 <= self.limit_bytes {
            true => u64::MAX,
            false => self.limit_bytes.saturating_sub(self.charged_bytes),
        }
    }

    /// What devices hold above their floors and would not be granted now (invariant 1).
    pub(super) fn overhang_bytes(&self) -> u64 {
        let floors = self.floor_bytes * self.devices.len() as u64;
        self.above_floors_bytes.saturating_sub(self.limit_bytes.saturating_sub(floors))
    }

    pub(super) fn set_floor(&mut self) {
        self.floor_bytes = self.floor_of(self.devices.len());
        let above = |device: &Device| device.charged_bytes.saturating_sub(self.floor_bytes);
        self.above_floors_bytes = self.devices.values().map(above).sum();
    }

    /// Changes what a device has charged, and with it what is left for the others.
    pub(super) fn move_charge(&mut self, id: DeviceId, change: impl FnOnce(u64) -> u64) {
        let device = self.devices.get_mut(&id).expect("a stream's device is known");
        let above = |bytes: u64| bytes.saturating_sub(self.floor_bytes);
        self.above_floors_bytes -= above(device.charged_bytes);
        device.charged_bytes = change(device.charged_bytes);
        self.above_floors_bytes += above(device.charged_bytes);
    }
}
