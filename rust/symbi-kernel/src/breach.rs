//! Breaches of limits: an agent uses what a limit bounds, up to it or near it, and policy says what follows.
//!
//! Why: what ends a task at its limit is the host's kernel or clock, at once and without asking. That it happened, with
//! its numbers, belongs in the trail; that it is about to happen is worth a decision: a task may be ended before, or
//! its agent held for somebody to look.
//! Not here: measuring (the host does), ending and freezing (the host does what the verdict says).
//!
//! Invariants
//! - K65 a breach is recorded with its numbers before anything follows from it; what cannot be recorded ends the task.
//! - K66 a hard limit has ended the task: no policy makes it go on, but one can hold its agent.
//! - K67 policies that do not speak of limits leave what is near one alone: only a `forbid` ends or holds.
//! - K122 an agent whose breach a rule answers with its end is held before anything else of it begins, and its host ends it.

use symbi_audit::Event;
use symbi_policy::{Consequence, Reason, Value};
use symbi_scheduler::Cause;
use symbi_types::{AgentId, RunId};

use crate::Principal;
use crate::agents::AgentError;
use crate::json::Object;
use crate::kernel::Kernel;
use crate::monitor::Asked;
use crate::moves::Moves;

/// The limits that can be breached.
pub const LIMITS: [&str; 5] = ["memory_mb", "execution_timeout_ms", "pids", "output_bytes", "loop_block_ms"];

/// Longest text that is kept with a breach, in bytes: a stack, an error.
const TEXT_BYTES_MAX: usize = 8_192;

/// What was seen.
#[derive(Clone, Debug)]
pub struct Breach {
    /// Whose.
    pub agent: AgentId,
    /// In which of its runs.
    pub run: Option<RunId>,
    /// One of [`LIMITS`].
    pub limit: &'static str,
    /// How much was used, in the unit of what was measured.
    pub used: u64,
    /// What the limit allows, in the same unit.
    pub bound: u64,
    /// The limit has acted: the task is over. Otherwise it is near it, or nothing can act.
    pub hard: bool,
    /// More about it, sealed in the trail; may be empty.
    pub text: String,
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: it is recorded.
    Tolerated,
    /// The task is over, or is to be ended now.
    Ended,
    /// The agent is held: its task stands still, or, at a hard limit, its next one does not begin.
    Suspended,
}

impl Verdict {
    /// Stable text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tolerated => "tolerated",
            Self::Ended => "ended",
            Self::Suspended => "suspended",
        }
    }
}

/// A breach that was judged.
#[derive(Clone, Debug)]
pub struct Judged {
    /// What follows.
    pub verdict: Verdict,
    /// Its record; none where the log cannot write.
    pub seq: Option<u64>,
    /// What the host does now.
    pub moves: Moves,
}

impl Kernel {
    /// Judges a breach by the policies in force, records it (K65), and holds the agent where they say so.
    ///
    /// # Errors
    /// No such agent.
    pub fn report_breach(&self, breach: &Breach) -> Result<Judged, AgentError> {
        self.catch_up();
        let (resource, labels) = {
            let mut agents = self.agents();
            let known = agents.get_mut(breach.agent).ok_or(AgentError::Absent("agent"))?;
            (known.entity(breach.agent)?, known.labels.clone())
        };
        let long = |number: u64| Value::Long(i64::try_from(number).unwrap_or(i64::MAX));
        let asked = Asked {
            labels,
            agent: Some(breach.agent),
            run: breach.run,
            circumstances: vec![
                ("limit", Value::String(breach.limit.to_owned())),
                ("used", long(breach.used)),
                ("bound", long(breach.bound)),
                ("hard", Value::Bool(breach.hard)),
            ],
            ..self.ask(Principal::Host, "limit.breach", resource)?
        };
        let weighed = self.weigh(&asked);
        let denied = weighed.decision.reason.is_some_and(|reason| reason != Reason::NoPermit); // K67
        let consequence = weighed.decision.consequence().filter(|_| denied);
        let held = consequence == Some(Consequence::Suspend);
        let verdict = match (held, breach.hard || denied) {
            _ if !breach.hard && !self.enforce() => Verdict::Tolerated,
            (true, _) => Verdict::Suspended,
            (false, true) => Verdict::Ended, // K66
            (false, false) => Verdict::Tolerated,
        };
        let rules = weighed.decision.determining.iter().map(|rule| rule.id.as_str());
        let details = Object::new()
            .display("resource", asked.resource.uid())
            .string("limit", breach.limit)
            .number("used", breach.used)
            .number("bound", breach.bound)
            .flag("hard", breach.hard)
            .string("verdict", verdict.as_str())
            .strings("rules", rules);
        let details = match consequence {
            Some(consequence) if verdict != Verdict::Tolerated => {
                details.string("consequence", consequence.as_str())
            }
            Some(_) | None => details,
        };
        let details = if breach.text.is_empty() {
            details
        } else {
            details.string(
                "sealed",
                &self.seal_for(&asked.labels.union(&self.agent_labels(breach.agent)), clip(&breach.text)),
            )
        };
        let details = weighed.describe_reservations(details).finish();
        let event = Event {
            agent_id: Some(breach.agent),
            run: breach.run,
            decision: Some(if verdict == Verdict::Tolerated { "allow" } else { "deny" }),
            policy: Some(&weighed.policies.digest),
            labels: &asked.labels,
            ..Event::new("limit.breach", &details)
        };
        let Ok(receipt) = self.log().append(&event) else {
            return Ok(Judged { verdict: Verdict::Ended, seq: None, moves: Moves::default() }); // K65
        };
        if verdict == Verdict::Ended && self.enforce() && consequence == Some(Consequence::Terminate) {
            self.condemn(breach.agent, Cause::ResourceConstraint); // K122
        }
        if verdict != Verdict::Suspended {
            return Ok(Judged { verdict, seq: Some(receipt.seq), moves: Moves::default() });
        }
        match self.suspend_agent(Principal::Host, breach.agent, Cause::ResourceConstraint) {
            Ok(moved) => Ok(Judged { verdict, seq: moved.seq.or(Some(receipt.seq)), moves: moved.moves }),
            // It runs no more, or is held already: there is nothing to hold, and a task of it must not go on.
            Err(_) => Ok(Judged { verdict: Verdict::Ended, seq: Some(receipt.seq), moves: Moves::default() }),
        }
    }
}

/// The first bytes of a text, whole characters.
fn clip(text: &str) -> &[u8] {
    let end = (0..=TEXT_BYTES_MAX.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.get(..end).unwrap_or_default().as_bytes()
}
