//! Cancelling a run. A brake.
//!
//! Why: between "end this run" and its end there is a moment in which it could still start something. Not here: whatever
//! has not begun when the run is cancelled does not begin.
//! Not here: ending the run (the host does, with `end_run`).
//!
//! Invariants
//! - K77 after `cancel_run` has returned, nothing that its run asks for is granted, and no permit that it was given before
//!   yields its bytes.
//! - K78 an effect of the run that was under way is recorded `unknown` at once; what its adapter says later is recorded too,
//!   and settles it.

use symbi_audit::Event;
use symbi_types::{OperationId, RunId};

use crate::Principal;
use crate::agents::AgentError;
use crate::flight::Intent;
use crate::json::Object;
use crate::kernel::{Kernel, lock};
use crate::suspension::Moved;

impl Kernel {
    /// Cancels a run that waits, runs or stands still; the host ends it. Twice is once.
    ///
    /// # Errors
    /// No such run.
    pub fn cancel_run(&self, by: Principal, run: RunId) -> Result<Moved, AgentError> {
        let (agent, moves) = self.turn(|turns, agents| {
            let known = turns.runs.get_mut(&run)?;
            known.cancelled = true;
            let agent = known.agent;
            if let Some(known) = agents.get_mut(agent).filter(|known| known.running == Some(run)) {
                known.cancelled = true; // K77: read wherever an operation is asked for
            }
            Some(agent)
        });
        let Some(agent) = agent else {
            self.tell_later(moves);
            return Err(AgentError::Absent("run"));
        };
        let under_way = lock(&self.pending).revoke(run); // K77: under the lock that taking a permit's bytes takes
        let unknown = under_way.len() as u64;
        let seq = self.record_brake("run.cancel", by, agent, |details| {
            details.display("run", run).number("unknown", unknown)
        });
        for (operation, intent) in under_way {
            self.record_unknown(operation, &intent);
        }
        Ok(Moved { seq, moves })
    }

    /// K78. Where the log cannot take it now, the intent without an outcome says the same at the next opening.
    fn record_unknown(&self, operation: OperationId, intent: &Intent) {
        let details = Object::new()
            .string("outcome", "unknown")
            .string("action", intent.action)
            .string("cause", "cancelled")
            .finish();
        let event = Event {
            agent_id: intent.agent,
            run: intent.run,
            op: Some(operation),
            ..Event::new("operation.outcome", &details)
        };
        let _ = self.log().try_append(&event);
        self.remember_unknown(operation, intent);
        // Settled between the two: whoever settles takes it out of the one and then of the other.
        let under_way = lock(&self.pending).contains(operation);
        if !under_way {
            lock(&self.unknown).remove(&operation);
        }
    }
}
