//! Runs that make room for others: brought to a standstill, and let go on.
//!
//! Why: what the scheduler decides takes the host a moment to do. The host is told (`Moves`), and says when it is done;
//! until then nothing is given back, and nothing is taken.
//! Not here: who makes room for whom (`symbi-scheduler`), how a coroutine or a sandbox stands still (the host).
//!
//! Invariants
//! - K75 a run that stands still was told to, and its agent is Suspended; what the host says too late, or twice, changes
//!   nothing.

use symbi_audit::Event;
use symbi_scheduler::{Cause, State};
use symbi_types::{AgentId, RunId};

use crate::agents::AgentError;
use crate::json::Object;
use crate::kernel::Kernel;
use crate::moves::Moves;
use crate::turns::Phase;

/// What became of a standstill that the host reported.
enum Stood {
    /// It counts.
    Still { agent: AgentId, cause: Cause, urgent: Option<RunId>, moved: bool },
    /// Nobody wants it any more: the host lets the run go on.
    Unwanted,
    /// It was said before, or the run was told to go on meanwhile.
    Late,
}

impl Kernel {
    /// The host says that the run stands still: it gives back processor, disk and network, and keeps the rest and its
    /// place. Running → Suspended, where its agent is not suspended yet.
    ///
    /// # Errors
    /// No such run, or it has not started.
    pub fn run_suspended(&self, run: RunId) -> Result<Moves, AgentError> {
        let now_ns = self.moment().mono_ns; // before the locks (K25)
        let (stood, mut moves) = self.turn(|turns, agents| {
            let known = turns.runs.get_mut(&run).ok_or(AgentError::Absent("run"))?;
            match known.phase {
                Phase::Waiting | Phase::SetAside => return Err(not_started()),
                Phase::Running => return Ok(Stood::Unwanted),
                Phase::Suspended | Phase::Resuming => return Ok(Stood::Late), // K75
                Phase::Suspending => known.stands(now_ns),
            }
            let (id, agent, urgent) = (known.task.id, known.agent, known.urgent);
            let holder = agents.get(agent).and_then(|known| known.holds.first());
            let returned = match holder {
                Some(_) => turns.scheduler.hold(id),
                None => turns.scheduler.suspended(id),
            };
            debug_assert!(returned.is_ok() || !agents.has(agent), "K27: {returned:?}");
            let moved = agents.get_mut(agent).is_some_and(|known| {
                known.state == State::Running && known.step(Cause::ResourceConstraint).is_ok()
            });
            Ok(Stood::Still { agent, cause: holder.unwrap_or(Cause::ResourceConstraint), urgent, moved })
        });
        match stood {
            Err(error) => {
                self.tell_later(moves);
                return Err(error);
            }
            Ok(Stood::Late) => {}
            Ok(Stood::Unwanted) => moves.resume(run),
            Ok(Stood::Still { agent, cause, urgent, moved }) => {
                let details = Object::new().string("cause", cause.as_str());
                let details = match urgent {
                    Some(urgent) => details.display("urgent", urgent),
                    None => details,
                };
                self.record_run("run.suspended", agent, run, details, moved.then_some("running>suspended"));
            }
        }
        Ok(moves)
    }

    /// The host says that the run goes on: Suspended → Running.
    ///
    /// # Errors
    /// No such run, it has not started, or nobody told it to go on.
    pub fn run_resumed(&self, run: RunId) -> Result<(), AgentError> {
        let now_ns = self.moment().mono_ns; // before the locks (K25)
        let moved = {
            let mut turns = self.turns();
            let known = turns.runs.get_mut(&run).ok_or(AgentError::Absent("run"))?;
            match known.phase {
                Phase::Waiting | Phase::SetAside => return Err(not_started()),
                Phase::Suspended => {
                    return Err(AgentError::Invalid(
                        "the run is to stand still: wait until it is told to go on".to_owned(),
                    ));
                }
                Phase::Running | Phase::Suspending => return Ok(()), // K75
                Phase::Resuming => known.goes_on(now_ns),
            }
            let agent = known.agent;
            let moved = self.agents().get_mut(agent).is_some_and(|known| known.step(Cause::Cleared).is_ok());
            (agent, moved)
        };
        let (agent, moved) = moved;
        self.record_run("run.resumed", agent, run, Object::new(), moved.then_some("suspended>running"));
        Ok(())
    }

    /// When time alone changes what runs, in nanoseconds on the monotonic clock; none: never.
    #[must_use]
    pub fn wake_at_ns(&self) -> Option<u64> {
        self.turns().scheduler.wake_at()
    }

    /// What is to be done now: because time has passed, or because the kernel itself decided something.
    #[must_use]
    pub fn tick(&self) -> Moves {
        self.turn(|_, _| ()).1
    }

    fn record_run(
        &self,
        event_type: &str,
        agent: AgentId,
        run: RunId,
        details: Object,
        transition: Option<&'static str>,
    ) {
        let details = details.strings("transitions", transition).finish();
        let event = Event { agent_id: Some(agent), run: Some(run), ..Event::new(event_type, &details) };
        let _ = self.log().append(&event); // it has happened; a log that fails closes everything by itself
    }
}

fn not_started() -> AgentError {
    AgentError::Invalid("the run has not started".to_owned())
}
