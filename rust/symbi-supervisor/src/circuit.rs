//! One circuit breaker: of one caller towards one thing it depends on.
//!
//! Why: what fails again and again is left alone for a while, then tried by one call before all others.
//! Not here: who shares a breaker with whom (`breakers`).
//!
//! ```text
//!           enough failures                 the time is over
//!  closed ──────────────────▶ open ◀──────────────────────────▶ half open
//!     ▲                         the probe failed: twice the time    │
//!     └─────────────────────────────────────────────────────────────┘ the probes succeeded
//! ```
//!
//! Invariants
//! - SV8 closed lets everything through; open lets nothing through before its time; half open lets one probe through at
//!   a time.
//! - SV9 an outcome moves a circuit only if its call was let through in the state it is in now: late ones say nothing.
//! - SV10 it opens when at least `failures` of the outcomes it remembers, and at least half of them, are failures.
//! - SV11 a time open is `open_ns` doubled for each opening in a row, at most `open_max_ns`.
//! - SV12 a probe that never ends does not keep it half open: another is let through after `open_ns`.

/// How a circuit behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CircuitOptions {
    /// Failures that open it, 1 to 32, if they are half of what is remembered.
    pub failures: u32,
    /// Nanoseconds after which an outcome is forgotten, if nothing followed it.
    pub memory_ns: u64,
    /// Nanoseconds that it stays open the first time.
    pub open_ns: u64,
    /// The longest.
    pub open_max_ns: u64,
    /// Probes that must succeed, one after the other, before it closes.
    pub probes: u32,
}

/// A state, as it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CircuitState {
    /// Calls pass.
    Closed,
    /// One call at a time passes.
    HalfOpen,
    /// No call passes.
    Open,
}

impl CircuitState {
    /// The name in records and status.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
        }
    }
}

/// What a call was let through with, and brings back with its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    generation: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Open { until_ns: u64 },
    HalfOpen { succeeded: u32, probe_until_ns: Option<u64> },
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Circuit {
    state: State,
    /// The last outcomes, the newest in the lowest bit; 1 is a failure.
    recent: u32,
    known: u32,
    last_ns: u64,
    /// Openings in a row.
    opened: u32,
    /// Changes with every change of state (SV9), and with every probe.
    generation: u64,
}

/// Outcomes that a circuit remembers.
pub(crate) const REMEMBERED: u32 = 32;

impl Default for Circuit {
    fn default() -> Self {
        Self::new()
    }
}

impl Circuit {
    /// Closed, and nothing is known.
    #[must_use]
    pub const fn new() -> Self {
        Self::born(0)
    }

    /// As [`Circuit::new`]; tickets of an earlier circuit, whose generation was below this, do not fit it.
    #[must_use]
    pub const fn born(generation: u64) -> Self {
        Self { state: State::Closed, recent: 0, known: 0, last_ns: 0, opened: 0, generation }
    }

    /// Above every ticket it gave.
    #[must_use]
    pub const fn next_generation(&self) -> u64 {
        self.generation + 1
    }

    /// Nanoseconds until a call may pass; none: now. Changes nothing.
    #[must_use]
    pub fn wait_ns(&self, now_ns: u64) -> Option<u64> {
        match self.state {
            State::Closed | State::HalfOpen { probe_until_ns: None, .. } => None,
            State::Open { until_ns } | State::HalfOpen { probe_until_ns: Some(until_ns), .. } => {
                until_ns.checked_sub(now_ns).filter(|left| *left > 0)
            }
        }
    }

    /// Lets a call through, or says how many nanoseconds it should wait (SV8, SV12).
    ///
    /// # Errors
    /// The nanoseconds.
    pub fn enter(&mut self, options: &CircuitOptions, now_ns: u64) -> Result<Ticket, u64> {
        if let Some(wait_ns) = self.wait_ns(now_ns) {
            return Err(wait_ns);
        }
        if self.state == State::Closed {
            return Ok(Ticket { generation: self.generation });
        }
        let succeeded = match self.state {
            State::HalfOpen { succeeded, .. } => succeeded,
            State::Open { .. } | State::Closed => 0,
        };
        let probe_until_ns = Some(now_ns.saturating_add(options.open_ns));
        self.generation += 1; // an earlier probe that never ended comes too late now
        self.state = State::HalfOpen { succeeded, probe_until_ns };
        Ok(Ticket { generation: self.generation })
    }

    /// The call's outcome. `ticket` is none for a call that began before there was a circuit; `failures` may ask for
    /// fewer than the options do (see `breakers`).
    pub fn leave(
        &mut self,
        options: &CircuitOptions,
        ticket: Option<Ticket>,
        failed: bool,
        failures: u32,
        now_ns: u64,
    ) {
        let fits = match ticket {
            Some(ticket) => ticket.generation == self.generation,
            None => self.state == State::Closed,
        };
        if !fits {
            return; // SV9
        }
        match self.state {
            State::Closed => self.remember(options, failed, failures, now_ns),
            State::Open { .. } => debug_assert!(false, "SV9: nothing is let through by an open circuit"),
            State::HalfOpen { .. } if failed => self.open(options, now_ns),
            State::HalfOpen { succeeded, .. } if succeeded + 1 < options.probes => {
                self.state = State::HalfOpen { succeeded: succeeded + 1, probe_until_ns: None };
            }
            State::HalfOpen { .. } => {
                *self = Self::born(self.generation + 1);
            }
        }
    }

    /// The call did not happen after all: its probe is free again.
    pub fn withdraw(&mut self, ticket: Ticket) {
        if ticket.generation != self.generation {
            return;
        }
        if let State::HalfOpen { probe_until_ns, .. } = &mut self.state {
            *probe_until_ns = None;
        }
    }

    fn remember(&mut self, options: &CircuitOptions, failed: bool, failures: u32, now_ns: u64) {
        if now_ns.saturating_sub(self.last_ns) > options.memory_ns {
            (self.recent, self.known) = (0, 0);
        }
        self.last_ns = self.last_ns.max(now_ns);
        self.recent = self.recent << 1 | u32::from(failed);
        self.known = (self.known + 1).min(REMEMBERED);
        let counted = self.recent.count_ones();
        if failed && counted >= failures.max(1) && counted * 2 >= self.known {
            self.open(options, now_ns); // SV10
        }
    }

    fn open(&mut self, options: &CircuitOptions, now_ns: u64) {
        let doubled = 1u64.checked_shl(self.opened).unwrap_or(u64::MAX);
        let open_ns = options.open_ns.saturating_mul(doubled).min(options.open_max_ns); // SV11
        self.state = State::Open { until_ns: now_ns.saturating_add(open_ns) };
        self.opened = self.opened.saturating_add(1);
        (self.recent, self.known, self.last_ns) = (0, 0, now_ns);
        self.generation += 1;
    }

    /// How it stands; one whose time is over counts as half open.
    #[must_use]
    pub fn state(&self, now_ns: u64) -> CircuitState {
        match self.state {
            State::Closed => CircuitState::Closed,
            State::Open { until_ns } if now_ns < until_ns => CircuitState::Open,
            State::Open { .. } | State::HalfOpen { .. } => CircuitState::HalfOpen,
        }
    }

    /// Whether nothing is known that a new one would not know: closed, and no failure remembered.
    #[must_use]
    pub fn is_blank(&self, options: &CircuitOptions, now_ns: u64) -> bool {
        let forgotten = now_ns.saturating_sub(self.last_ns) > options.memory_ns;
        self.state == State::Closed && (self.recent == 0 || forgotten)
    }
}
