//! How many lines of one kind the log takes: what a stranger can cause must not fill it.

use parking_lot::Mutex;

use crate::types::Tick;

/// Lines a second.
const LINES: u32 = 10;

/// The lines of one kind.
#[derive(Debug)]
pub struct Lines(Mutex<Second>);

/// What was logged in the present second.
#[derive(Debug)]
struct Second {
    number: u64,
    lines: u32,
    left_out: u64,
}

impl Default for Lines {
    fn default() -> Self {
        Self::new()
    }
}

impl Lines {
    /// None yet.
    pub const fn new() -> Self {
        Self(Mutex::new(Second { number: 0, lines: 0, left_out: 0 }))
    }

    /// Whether a line may be written now, and how many were left out before it.
    pub fn admit(&self, now: Tick) -> Option<u64> {
        self.0.lock().admit(now)
    }
}

impl Second {
    fn admit(&mut self, now: Tick) -> Option<u64> {
        let number = now.0 / 1_000;
        if number != self.number {
            (self.number, self.lines) = (number, 0);
        }
        if self.lines == LINES {
            self.left_out += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_beyond_the_rate_are_left_out_and_counted() {
        let lines = Lines::new();
        let admitted = (0..15).filter_map(|_| lines.admit(Tick(5_100))).collect::<Vec<_>>();
        assert_eq!(admitted, [0; 10]);
        assert_eq!(lines.admit(Tick(6_000)), Some(5));
        assert_eq!(lines.admit(Tick(6_001)), Some(0));
    }
}
