//! Who gets the next bytes: what is done after every change on a device. Served first is the device
//! itself, then of those that wait for the pool the one that needs least, as long as one gets something.

use std::time::Duration;

use super::device::{self, Turn};
use super::{Ask, Budget, DeviceId, Hold, State, StreamId};

impl Budget {
    /// Takes the turn from its holder, which counts as stuck until it holds nothing any more.
    pub(super) fn revoke_turn(&mut self, id: DeviceId, now: Duration) {
        let device = self.devices.get_mut(&id).expect("a device that has changed is known");
        let Some(turn) = device.turn.take() else {
            return;
        };
        // A holder that ran into its limit stands at the front, and can't be granted anything.
        if let Some(at) = device.line.iter().position(|stream| *stream == turn.holder) {
            device.line.remove(at);
            device.line.push_back(turn.holder);
        }
        if let Some(account) = self.accounts.get_mut(&turn.holder).filter(|a| !a.is_stuck) {
            device.stuck_bytes += account.charged_bytes;
            account.is_stuck = account.charged_bytes > 0;
        }
        self.settle(id, now);
    }

    /// Something has changed on this device: serves it, and then those that wait for the pool.
    pub(super) fn settle(&mut self, id: DeviceId, now: Duration) {
        self.pass_turn(id);
        self.serve(id, now);
        while let Some(&first) = self.waiting_for_pool.first() {
            let (held_bytes, next) = first;
            let fits = held_bytes <= self.pool().device_limit_bytes();
            if !fits || !self.serve(next, now) && self.waiting_for_pool.first() == Some(&first) {
                break;
            }
        }
    }

    pub(super) fn serve_all(&mut self, now: Duration) {
        let all: Vec<_> = self.devices.keys().copied().collect();
        for id in all {
            self.settle(id, now);
        }
    }

    fn pass_turn(&mut self, id: DeviceId) {
        let device = self.devices.get_mut(&id).expect("a stream's device is known");
        if let Some(turn) = device.turn {
            let held_bytes = self.accounts.get(&turn.holder).map_or(0, |a| a.charged_bytes);
            device.pass_turn(held_bytes);
        }
    }

    /// Grants what can be granted on this device. True when somebody got something.
    fn serve(&mut self, id: DeviceId, now: Duration) -> bool {
        let mut granted = false;
        let waits_for_pool = loop {
            let Some((stream, ask, allowance_bytes)) = self.next_in_line(id) else {
                break None;
            };
            let (pool, total) = (self.pool(), self.left_bytes());
            let device = self.devices.get_mut(&id).expect("a device that is served is known");
            let account = &self.accounts[&stream];
            let stuck_bytes = if account.is_stuck { account.charged_bytes } else { 0 };
            let own = device.room_bytes(pool, stuck_bytes);
            if ask.need_bytes > own.min(total) {
                let held_bytes = device.charged_bytes + ask.need_bytes;
                let is_sick = matches!(device.health.state(), State::Suspect | State::Wedged);
                let by_pool = held_bytes > pool.device_limit_bytes() || ask.need_bytes <= own;
                device.hold = match (is_sick, by_pool) {
                    (true, _) => Hold::Sick,
                    (false, true) => Hold::Total,
                    (false, false) => Hold::Device,
                };
                break (device.hold == Hold::Total).then_some(held_bytes);
            }
            let bytes = ask.want_bytes.min(allowance_bytes.max(ask.need_bytes)).min(own).min(total);
            self.grant(id, stream, ask, bytes, now);
            granted = true;
        };
        self.set_waiting_for_pool(id, waits_for_pool);
        granted
    }

    fn set_waiting_for_pool(&mut self, id: DeviceId, held_bytes: Option<u64>) {
        let device = self.devices.get_mut(&id).expect("a device that is served is known");
        let before = std::mem::replace(&mut device.waits_for_pool, held_bytes);
        if let Some(before) = before {
            self.waiting_for_pool.remove(&(before, id));
        }
        if let Some(held_bytes) = held_bytes {
            self.waiting_for_pool.insert((held_bytes, id));
        }
    }

    /// Who is next on this device, what it asked for, and how much of that it may have at once.
    fn next_in_line(&mut self, id: DeviceId) -> Option<(StreamId, Ask, u64)> {
        let device = self.devices.get_mut(&id).expect("a device that is served is known");
        if let Some(turn) = device.turn {
            let ask = self.accounts.get(&turn.holder)?.ask?;
            let alone = device.line.len() == 1;
            if turn.left_bytes == 0 && !alone {
                return None;
            }
            return Some((turn.holder, ask, if alone { ask.want_bytes } else { turn.left_bytes }));
        }
        loop {
            let stream = *device.line.front()?;
            let is_stuck = |stream: &StreamId| self.accounts[stream].is_stuck;
            if is_stuck(&stream) && !device.line.iter().all(is_stuck) {
                device.line.rotate_left(1);
                continue;
            }
            let account = self.accounts.get_mut(&stream).expect("only streams in line are served");
            let ask = account.ask.expect("only streams in line are served");
            let others_bytes = device.charged_bytes - account.charged_bytes;
            if device.takes_turns() && others_bytes > device.stuck_bytes {
                // From before it took turns; they will be gone soon.
                device.hold = Hold::Turn;
                return None;
            }
            let quantum_bytes = device.quantum_bytes(account.weight);
            let least_bytes = device.least_bytes(ask.need_bytes);
            if !account.is_visited {
                account.is_visited = true;
                let paid_bytes = account.overdrawn_bytes.min(quantum_bytes);
                account.overdrawn_bytes -= paid_bytes;
                let quantum_bytes = quantum_bytes - paid_bytes;
                // What it could not use is no reason to get ever more at once.
                let most = quantum_bytes.max(least_bytes) * 2;
                account.deficit_bytes = (account.deficit_bytes + quantum_bytes).min(most);
            }
            if account.deficit_bytes >= least_bytes {
                return Some((stream, ask, account.deficit_bytes));
            }
            account.is_visited = false;
            device.line.rotate_left(1);
        }
    }

    fn grant(&mut self, id: DeviceId, stream: StreamId, ask: Ask, bytes: u64, now: Duration) {
        let most = self.limit_bytes + self.overhang_bytes();
        self.charged_bytes += bytes;
        self.move_charge(id, |charged| charged + bytes);
        let device = self.devices.get_mut(&id).expect("a device that is served is known");
        let has_stuck = device.stuck_bytes > 0;
        assert!(self.charged_bytes <= most || has_stuck, "granted beyond the total (invariant 1)");
        if device.charged_bytes == bytes {
            device.health.begin(now);
        }
        let account = self.accounts.get_mut(&stream).expect("only streams in line are served");
        if std::mem::take(&mut account.is_stuck) {
            device.stuck_bytes -= account.charged_bytes;
        }
        if account.charged_bytes == 0 {
            device.becomes_busy(account.weight);
        }
        account.charged_bytes += bytes;
        account.ask = None;
        account.granted_bytes = Some(bytes);
        if device.takes_turns() && device.turn.is_none() {
            let left_bytes = device::turn_bytes(ask.offset, account.deficit_bytes);
            account.deficit_bytes -= left_bytes;
            account.is_visited = false;
            device.turn = Some(Turn { holder: stream, left_bytes, since: now, is_over: false });
        }
        match &mut device.turn {
            Some(turn) => {
                assert_eq!(turn.holder, stream, "granted out of turn (invariant 5)");
                if device.line.len() > 1 {
                    account.overdrawn_bytes += bytes.saturating_sub(turn.left_bytes);
                }
                turn.left_bytes = turn.left_bytes.saturating_sub(bytes);
                turn.is_over = false;
            }
            // All that it wanted: it has nothing more to be credited for.
            None if bytes == ask.want_bytes => {
                account.deficit_bytes = 0;
                account.is_visited = false;
            }
            None => {
                account.deficit_bytes = account.deficit_bytes.saturating_sub(bytes);
                account.is_visited &= account.deficit_bytes > 0;
            }
        }
        if device.line.front() == Some(&stream) {
            device.line.pop_front();
        } else {
            device.line.retain(|waiting| *waiting != stream);
        }
        self.woken.push(stream);
    }
}
