//! Time, injected: the core never asks the operating system what time it is.
//!
//! Not here: windows and deadlines that must survive a wall clock moving backwards; the log's own time
//! (`max(wall, last)`) is kept by the log.

use std::time::{SystemTime, UNIX_EPOCH};

/// One reading of both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Microseconds since the Unix epoch. May jump either way.
    pub wall_us: u64,
    /// Nanoseconds since some start that is constant while the machine is up. Never goes back.
    pub mono_ns: u64,
}

/// A source of time.
pub trait Clock: Send + Sync {
    /// Both clocks, read together.
    fn now(&self) -> Moment;
}

/// The operating system's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that may ask")]
    fn now(&self) -> Moment {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mono = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let seconds = u64::try_from(mono.tv_sec).unwrap_or(0);
        let nanos = u64::try_from(mono.tv_nsec).unwrap_or(0);
        Moment {
            wall_us: u64::try_from(wall.as_micros()).unwrap_or(u64::MAX),
            mono_ns: seconds.saturating_mul(1_000_000_000).saturating_add(nanos),
        }
    }
}
