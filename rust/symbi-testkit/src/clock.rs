//! A clock that moves when it is told to.

use std::sync::atomic::{AtomicU64, Ordering};

use symbi_types::{Clock, Moment};

/// Starts at 2025-01-01T00:00:00Z, monotonic 1 s, and stands still unless told otherwise.
#[derive(Debug)]
pub struct FakeClock {
    wall_us: AtomicU64,
    mono_ns: AtomicU64,
    step_us: AtomicU64,
}

impl Default for FakeClock {
    fn default() -> Self {
        Self::new()
    }
}

impl FakeClock {
    /// 2025-01-01T00:00:00Z.
    pub const START_US: u64 = 1_735_689_600_000_000;

    /// A clock that stands still.
    #[must_use]
    pub fn new() -> Self {
        Self {
            wall_us: AtomicU64::new(Self::START_US),
            mono_ns: AtomicU64::new(1_000_000_000),
            step_us: AtomicU64::new(0),
        }
    }

    /// A clock that moves on by `step_us` with every reading.
    #[must_use]
    pub fn ticking(step_us: u64) -> Self {
        let clock = Self::new();
        clock.step_us.store(step_us, Ordering::SeqCst);
        clock
    }

    /// Both clocks move on together, as time does.
    pub fn advance_us(&self, by_us: u64) {
        self.wall_us.fetch_add(by_us, Ordering::SeqCst);
        self.mono_ns.fetch_add(by_us * 1_000, Ordering::SeqCst);
    }

    /// Somebody sets the wall clock; the monotonic one does not notice.
    pub fn set_wall_us(&self, wall_us: u64) {
        self.wall_us.store(wall_us, Ordering::SeqCst);
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Moment {
        let step_us = self.step_us.load(Ordering::SeqCst);
        Moment {
            wall_us: self.wall_us.fetch_add(step_us, Ordering::SeqCst),
            mono_ns: self.mono_ns.fetch_add(step_us * 1_000, Ordering::SeqCst),
        }
    }
}
