//! Holding an agent still, and letting it go on.
//!
//! Why: an operator, a policy and a breached limit may each want an agent to stand still. Each is a hold of its own, and
//! the agent goes on when the last one is gone and its resources are free again.
//! Not here: making room for others (`preemption`), what a policy asks for (`violation`).
//!
//! Invariants
//! - K76 an agent with a hold is Suspended, and stays so until each hold is gone.

use symbi_audit::Event;
use symbi_scheduler::{Cause, State};
use symbi_types::{AgentId, RunId};

use crate::Principal;
use crate::agents::AgentError;
use crate::ends::RunOutcome;
use crate::json::Object;
use crate::kernel::Kernel;
use crate::monitor::Asked;
use crate::moves::Moves;
use crate::registry::{Holds, Registry};
use crate::turns::{Phase, Turns};

/// An agent or a run that was held, let go, or cancelled.
#[derive(Clone, Debug)]
pub struct Moved {
    /// Its record; none where it is recorded late.
    pub seq: Option<u64>,
    /// What the host does now.
    pub moves: Moves,
}

/// What letting go did.
#[derive(Default)]
struct Cleared {
    transitions: Vec<&'static str>,
    /// Runs that were set aside and find no place in the queue any more.
    refused: Vec<(RunId, String)>,
}

/// Adds a hold; the agent's run is to stand still. Answers whether Running became Suspended.
pub(crate) fn hold(
    turns: &mut Turns,
    agents: &mut Registry,
    agent: AgentId,
    cause: Cause,
    moves: &mut Moves,
) -> Result<bool, AgentError> {
    let known = agents.get_mut(agent).ok_or(AgentError::Absent("agent"))?;
    let moved = known.state != State::Suspended;
    if moved {
        known.step(cause)?;
    }
    known.holds.insert(cause); // K76
    if let Some(run) = known.running {
        match turns.runs.get(&run).map(|known| (known.phase, known.task.id)) {
            Some((Phase::Suspended, task)) => {
                let held = turns.scheduler.hold(task); // it stands still already, and is not let go on
                debug_assert!(held.is_ok(), "K70: {held:?}");
            }
            Some(_) => turns.halt(run, moves),
            None => {}
        }
    }
    Ok(moved)
}

/// Takes holds away. With the last one the agent goes on, or its run waits for what it gave back.
fn clear(
    turns: &mut Turns,
    agents: &mut Registry,
    agent: AgentId,
    holds: Holds,
    moves: &mut Moves,
) -> Cleared {
    let mut cleared = Cleared::default();
    let Some(known) = agents.get_mut(agent) else { return cleared };
    known.holds.remove(holds);
    if !known.holds.contains(Cause::PolicyViolation) {
        known.violation = None;
    }
    if !known.holds.is_empty() || known.state != State::Suspended {
        return cleared;
    }
    let Some(run) = known.running else {
        // Its run was ended while it was held.
        for (cause, transition) in
            [(Cause::Cleared, "suspended>running"), (Cause::TaskCompleted, "running>ready")]
        {
            if known.step(cause).is_ok() {
                cleared.transitions.push(transition);
            }
        }
        cleared.refused = turns.take_up(agent);
        return cleared;
    };
    let Some(one) = turns.runs.get_mut(&run) else { return cleared };
    match one.phase {
        Phase::Suspended => {
            let released = turns.scheduler.release(one.task.id); // the scheduler says when it goes on
            debug_assert!(released.is_ok(), "K70: {released:?}");
        }
        Phase::Suspending if one.urgent.is_none() => {
            one.phase = Phase::Running; // the host had not done it yet, and need not
            one.is_at_work();
            moves.resume(run);
            if known.step(Cause::Cleared).is_ok() {
                cleared.transitions.push("suspended>running");
            }
        }
        // The scheduler still wants it to stand still, for another; until it does, its agent is at work.
        Phase::Suspending => {
            if known.step(Cause::Cleared).is_ok() {
                cleared.transitions.push("suspended>running");
            }
        }
        Phase::Waiting | Phase::SetAside | Phase::Running | Phase::Resuming => {}
    }
    cleared.refused = turns.take_up(agent);
    cleared
}

impl Kernel {
    /// Holds an agent that runs, or stands still already: Running → Suspended. A brake. From here on it may ask for
    /// nothing; the host brings its run to a standstill and says so.
    ///
    /// # Errors
    /// No such agent, it has no task, or nobody holds an agent for that cause.
    pub fn suspend_agent(&self, by: Principal, agent: AgentId, cause: Cause) -> Result<Moved, AgentError> {
        if !Holds::CAUSES.contains(&cause) {
            return Err(AgentError::Invalid(format!("an agent is not held for `{cause}`")));
        }
        let mut told = Moves::default();
        let (moved, moves) = self.turn(|turns, agents| hold(turns, agents, agent, cause, &mut told));
        told.append(moves);
        let moved = match moved {
            Ok(moved) => moved,
            Err(error) => {
                self.tell_later(told);
                return Err(error);
            }
        };
        let seq = self.record_brake("agent.suspend", by, agent, |details| {
            details
                .string("cause", cause.as_str())
                .strings("transitions", moved.then_some("running>suspended"))
        });
        Ok(Moved { seq, moves: told })
    }

    /// Lets a held agent go on, whoever held it: Suspended → Running when its run goes on, and → Ready where that was
    /// ended meanwhile. Runs that were set aside wait again.
    ///
    /// # Errors
    /// Refused by policy, no such agent, or nobody holds it.
    pub fn resume_agent(&self, by: Principal, agent: AgentId) -> Result<Moved, AgentError> {
        self.clear_holds(by, agent, Holds::ALL)
    }

    /// As [`Kernel::resume_agent`], of some holds alone.
    pub(crate) fn clear_holds(
        &self,
        by: Principal,
        agent: AgentId,
        holds: Holds,
    ) -> Result<Moved, AgentError> {
        let (resource, held) = {
            let mut agents = self.agents();
            let known = agents.get_mut(agent).ok_or(AgentError::Absent("agent"))?;
            if known.holds.is_empty() {
                known.state.after(Cause::Cleared)?; // says in which state it is, if not this one
                let text = "nobody holds the agent: its run waits for resources, and goes on by itself";
                return Err(AgentError::Invalid(text.to_owned()));
            }
            (known.entity(agent)?, known.holds)
        };
        let asked = Asked { agent: Some(agent), ..self.ask(by, "agent.resume", resource)? };
        let granted = self.decide(&asked)?;
        // What was decided on and is recorded, and no more: a hold that comes meanwhile stays (K76).
        let holds = held.and(holds);
        let causes = holds.names();
        let (_, seq) = self.record_internal(&asked, granted, |details| details.strings("cleared", causes))?;
        let mut told = Moves::default();
        let (cleared, moves) = self.turn(|turns, agents| clear(turns, agents, agent, holds, &mut told));
        told.append(moves);
        if !cleared.transitions.is_empty() {
            let details = Object::new().strings("transitions", cleared.transitions).finish();
            let event = Event { agent_id: Some(agent), ..Event::new("agent.resumed", &details) };
            let _ = self.log().append(&event); // as every transition, after it
        }
        for (run, text) in cleared.refused {
            let kind = "not_scheduled".to_owned();
            if let Ok(ended) = self.end_run(run, &RunOutcome::Failed { kind, text }) {
                told.append(ended.moves);
            }
        }
        Ok(Moved { seq: Some(seq), moves: told })
    }
}
