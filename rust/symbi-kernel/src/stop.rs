//! Stopping an agent, at once or when its task is over.

use symbi_scheduler::State;
use symbi_types::{AgentId, RunId};

use crate::Principal;
use crate::agents::AgentError;
use crate::kernel::{Kernel, lock};
use crate::moves::Moves;

/// An agent that was stopped.
#[derive(Clone, Debug)]
pub struct Stopped {
    /// Its runs, which the caller ends now.
    pub runs: Vec<RunId>,
    /// Its record; none where it is recorded late.
    pub seq: Option<u64>,
    /// What the host does now with the runs of other agents.
    pub moves: Moves,
    /// False where a graceful stop waits for the running task.
    pub terminated: bool,
}

impl Kernel {
    /// Stops an agent. A brake: never refused, recorded when the log can write (K23). A graceful stop of an agent whose
    /// run stands still for others waits for that run, as for one that runs.
    ///
    /// # Errors
    /// No such agent.
    pub fn stop_agent(&self, by: Principal, agent: AgentId, force: bool) -> Result<Stopped, AgentError> {
        let mut transitions = Vec::new();
        let (stopped, moves) = self.turn(|turns, agents| {
            let known = agents.get_mut(agent).ok_or(AgentError::Absent("agent"))?;
            let waits = known.state == State::Suspended && known.holds.is_empty() && known.running.is_some();
            let causes = if waits && !force { None } else { known.state.stop(force) };
            for cause in causes.unwrap_or(&[]) {
                let (before, after) = known.step(*cause)?;
                transitions.push(format!("{before}>{after}"));
            }
            let terminated = causes.is_some();
            if terminated {
                agents.remove(agent);
            }
            let waiting = |run: &RunId| turns.runs.get(run).is_some_and(|run| !run.phase.is_begun());
            let runs: Vec<RunId> = turns.runs_of(agent).filter(|run| terminated || waiting(run)).collect();
            Ok((terminated, runs))
        });
        let (terminated, mut runs) = match stopped {
            Ok(stopped) => stopped,
            Err(error) => {
                self.tell_later(moves);
                return Err(error);
            }
        };
        let seq = self.record_brake("agent.stop", by, agent, |details| {
            details.flag("forced", force).strings("transitions", transitions.iter().map(String::as_str))
        });
        if terminated {
            runs.extend(self.runs_given_up_with(agent)); // whoever waits to try again waits no more
            // What was unread goes with it; its senders were told that it was delivered, not that it was read.
            self.end_traffic(agent);
            self.close_subscriptions(agent);
            let _ = self.bus().unregister(agent);
            self.close_deliveries(agent);
            self.admission().forget(agent);
            self.forget_rate(agent);
            lock(&self.shares).forget(agent);
            self.garbage_is_left();
        }
        Ok(Stopped { runs, seq, moves, terminated })
    }
}
