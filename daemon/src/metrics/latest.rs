//! The text that was put together last, for however many ask.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// It is given again for so long, so that nobody has the daemon put it together all the time.
const FRESH: Duration = Duration::from_millis(100);

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Latest(Mutex<Option<(Duration, String)>>);

impl Latest {
    /// That text, or `make`'s if it has become old by `now`. Who asks meanwhile waits for that one.
    pub fn text(&self, now: Duration, make: impl FnOnce() -> String) -> String {
        let mut latest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*latest {
            Some((made, text)) if now.saturating_sub(*made) < FRESH => text.clone(),
            _ => latest.insert((now, make())).1.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_put_together_ten_times_a_second_however_often_somebody_asks() {
        let (latest, mut made) = (Latest::default(), 0);
        for ms in 0..1000 {
            let text = latest.text(Duration::from_millis(ms), || {
                made += 1;
                made.to_string()
            });
            assert_eq!(text, (ms / 100 + 1).to_string());
        }
    }
}
