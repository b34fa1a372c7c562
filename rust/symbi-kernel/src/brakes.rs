//! Brakes: what only reduces acts at once, and is recorded when the log can write.
//!
//! Why: neither a full disk nor one that stands still may be the reason that a runaway agent cannot be stopped.
//!
//! Invariants
//! - K29 a brake that could not be recorded is kept and recorded, marked late, when the log can write again, at
//!   the latest when the runtime closes; past `LATE_MAX` only their number is.

use std::sync::atomic::Ordering;

use symbi_audit::{Event, Log, LogError, LogOptions, Receipt};
use symbi_types::AgentId;

use crate::Principal;
use crate::json::Object;
use crate::kernel::{Kernel, lock};

/// Brakes remembered while the log cannot write.
const LATE_MAX: usize = 10_000;

/// A brake that is not in the log yet.
struct LateBrake {
    agent: AgentId,
    at_us: u64,
    details: Object,
}

/// All of them, oldest first.
#[derive(Default)]
pub(crate) struct LateBrakes {
    brakes: Vec<LateBrake>,
    /// Those that came when there was no room for more.
    uncounted: u64,
}

impl LateBrakes {
    fn is_empty(&self) -> bool {
        self.brakes.is_empty() && self.uncounted == 0
    }

    /// Records as many as `append` takes; the rest stays.
    fn write(&mut self, append: impl Fn(&Event<'_>) -> Option<u64>) {
        let mut written = 0;
        for brake in &self.brakes {
            let details = brake.details.clone().flag("late", true).number("at_us", brake.at_us).finish();
            let event = Event { agent_id: Some(brake.agent), ..Event::new("brake", &details) };
            if append(&event).is_none() {
                break;
            }
            written += 1;
        }
        self.brakes.drain(..written);
        if self.brakes.is_empty() && 0 < self.uncounted {
            let details = Object::new().flag("late", true).number("count", self.uncounted).finish();
            if append(&Event::new("brake", &details)).is_some() {
                self.uncounted = 0;
            }
        }
    }
}

fn number(taken: Result<Option<Receipt>, LogError>) -> Option<u64> {
    taken.ok().flatten().map(|receipt| receipt.seq)
}

impl Kernel {
    /// Records a brake that has acted, now or late. Waits for nothing (K23).
    pub(crate) fn record_brake(
        &self,
        action: &str,
        by: Principal,
        agent: AgentId,
        extra: impl FnOnce(Object) -> Object,
    ) -> Option<u64> {
        self.catch_up();
        let details = extra(Object::new().string("action", action).display("principal", by));
        let text = details.clone().finish();
        let event = Event { agent_id: Some(agent), ..Event::new("brake", &text) };
        let recorded = number(self.log().try_append(&event));
        if recorded.is_none() {
            let at_us = self.moment().wall_us;
            let mut late = lock(&self.late);
            if late.brakes.len() < LATE_MAX {
                late.brakes.push(LateBrake { agent, at_us, details });
            } else {
                late.uncounted += 1;
            }
            self.is_late.store(true, Ordering::SeqCst);
        }
        recorded
    }

    /// Records late brakes as far as the log takes them now. Cheap where there are none.
    pub(crate) fn catch_up(&self) {
        if !self.is_late.load(Ordering::SeqCst) {
            return;
        }
        let mut late = std::mem::take(&mut *lock(&self.late)); // not held over the log (K25)
        late.write(|event| number(self.log().try_append(event)));
        self.put_back(late);
    }

    fn put_back(&self, mut rest: LateBrakes) {
        let mut late = lock(&self.late);
        rest.brakes.append(&mut late.brakes);
        rest.uncounted += late.uncounted;
        self.is_late.store(!rest.is_empty(), Ordering::SeqCst);
        *late = rest;
    }

    /// Tries once more to record what could not be, in a log opened anew. Nothing else is written to it.
    pub(crate) fn record_late_brakes(&self, options: &LogOptions) {
        let mut late = std::mem::take(&mut *lock(&self.late));
        if !late.is_empty()
            && let Ok((log, _)) = Log::open(self.trail(), options)
        {
            late.write(|event| log.append(event).ok().map(|receipt| receipt.seq));
            let _ = log.close();
        }
        self.put_back(late);
    }
}
