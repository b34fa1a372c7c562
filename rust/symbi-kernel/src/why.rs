//! Why a run or an agent stands where it stands, in words for people.
//!
//! Not here: the reasons themselves (`symbi-scheduler`); a run is what it calls a task.

use symbi_scheduler::{Counts, Lack, Reason, State, TaskId, Totals, Why};
use symbi_types::{AgentId, RunId};

use crate::agents::AgentError;
use crate::kernel::Kernel;
use crate::turns::{Phase, Run, Turns};

/// Where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Of a run: `waiting`, `running`, `suspending`, `suspended`, `resuming`. Of an agent: its lifecycle state.
    pub state: &'static str,
    /// One word, such as `lacks`, `turn`, `agent_busy`, `preempted`, `operator_hold`.
    pub reason: &'static str,
    /// One sentence.
    pub text: String,
    /// The run in question: the one that was asked about, or the agent's.
    pub run: Option<RunId>,
    /// Runs that stand before it.
    pub position: Option<usize>,
    /// What is lacking: resource, need, have.
    pub lacks: Vec<(&'static str, u64, u64)>,
    /// The run that it waits for, or stands still for.
    pub before: Option<RunId>,
}

impl Standing {
    fn new(state: &'static str, reason: &'static str, text: impl Into<String>) -> Self {
        let (run, position, lacks, before) = (None, None, Vec::new(), None);
        Self { state, reason, text: text.into(), run, position, lacks, before }
    }

    fn after(self, before: Option<RunId>) -> Self {
        Self { before, ..self }
    }

    fn lacking(self, lacks: &[Lack]) -> Self {
        let lacks = lacks.iter().map(|lack| (lack.resource.as_str(), lack.need, lack.have)).collect();
        Self { lacks, ..self }
    }
}

fn in_words(lacks: &[Lack]) -> String {
    let each = |lack: &Lack| format!("{} of {} {}", lack.have, lack.need, lack.resource);
    let all: Vec<String> = lacks.iter().map(each).collect();
    all.join(", ")
}

impl Turns {
    fn named(&self, task: TaskId) -> (Option<RunId>, String) {
        let run = self.tasks.get(&task).copied();
        (run, run.map_or_else(|| "another run".to_owned(), |run| format!("run {run}")))
    }

    fn waiting(&self, reason: &Reason) -> Standing {
        let waits = |reason, text: String| Standing::new("waiting", reason, text);
        match reason {
            Reason::Next => waits("next", "it starts next".to_owned()),
            Reason::Turn => waits("turn", "it would fit; others stand before it".to_owned()),
            Reason::AgentBusy { running } => {
                let (run, name) = self.named(*running);
                waits("agent_busy", format!("its agent is at work on {name}")).after(run)
            }
            Reason::AgentQueue { before } => {
                let (run, name) = self.named(*before);
                waits("agent_queue", format!("its agent does {name} before it")).after(run)
            }
            Reason::Lacks { lacking, .. } => {
                waits("lacks", format!("free of what it needs: {}", in_words(lacking))).lacking(lacking)
            }
            Reason::HeldBy { head } => {
                let (run, name) = self.named(*head);
                waits("held_by", format!("what is free is kept for {name}, which stands before it"))
                    .after(run)
            }
            Reason::Quota { lacking, .. } => {
                let text = "its tenant holds as much as it may".to_owned();
                waits("quota", text).lacking(lacking)
            }
            Reason::Reserved { .. } => waits(
                "reserved",
                "room is being made for it: less urgent runs come to a standstill".to_owned(),
            ),
            Reason::Held => waits("held", "it is held, and waits for its release".to_owned()),
        }
    }

    fn standing(&self, run: &Run, holder: Option<&'static str>) -> Standing {
        let state = run.phase.as_str();
        if run.cancelled {
            return Standing::new(state, "cancelled", "it was cancelled, and ends");
        }
        let urgent =
            run.urgent.map_or_else(|| "a more urgent run".to_owned(), |urgent| format!("run {urgent}"));
        match (run.phase, self.scheduler.why(run.task.id)) {
            (Phase::SetAside, _) => Standing::new("waiting", "agent_held", "its agent is suspended"),
            (Phase::Waiting, Some(Why::Waiting { position, reason })) => {
                Standing { position: Some(position), ..self.waiting(&reason) }
            }
            (Phase::Running, _) => Standing::new(state, "running", "it runs"),
            (Phase::Resuming, _) => Standing::new(state, "resuming", "it was told to go on"),
            (_, _) if let Some(holder) = holder => {
                Standing::new(state, holder, format!("its agent is held: {}", holder.replace('_', " ")))
            }
            (Phase::Suspending, _) => {
                Standing::new(state, "preempted", format!("it is coming to a standstill for {urgent}"))
                    .after(run.urgent)
            }
            (_, Some(Why::Suspended { lacking, .. })) if !lacking.is_empty() => {
                let text =
                    format!("it stands still for {urgent}; free of what it needs: {}", in_words(&lacking));
                Standing::new(state, "preempted", text).after(run.urgent).lacking(&lacking)
            }
            (_, _) => {
                Standing::new(state, "preempted", format!("it stands still for {urgent}")).after(run.urgent)
            }
        }
    }
}

impl Kernel {
    /// Where a run stands; none where there is no such run.
    ///
    /// Cost: proportional to the number of waiting runs.
    #[must_use]
    pub fn why_run(&self, run: RunId) -> Option<Standing> {
        let turns = self.turns();
        let known = turns.runs.get(&run)?;
        let holder = self.agents().get(known.agent).and_then(|agent| agent.holds.first());
        let standing = turns.standing(known, holder.map(symbi_scheduler::Cause::as_str));
        Some(Standing { run: Some(run), ..standing })
    }

    /// Where an agent stands, and its run if it has one.
    ///
    /// # Errors
    /// No such agent.
    pub fn why_agent(&self, agent: AgentId) -> Result<Standing, AgentError> {
        let (state, running, holder) = {
            let agents = self.agents();
            let known = agents.get(agent).ok_or(AgentError::Absent("agent"))?;
            (known.state, known.running, known.holds.first())
        };
        let run = match running {
            Some(run) => Some(run),
            None => self.turns().runs_of(agent).next(),
        };
        if let Some(standing) = run.and_then(|run| self.why_run(run)) {
            return Ok(Standing { state: state.as_str(), ..standing });
        }
        let text = match (state, holder) {
            (State::Suspended, Some(holder)) => {
                return Ok(Standing::new(state.as_str(), holder.as_str(), "it is held, and has no run"));
            }
            (State::Ready, _) => "it has nothing to do",
            _ => "it has no run",
        };
        Ok(Standing::new(state.as_str(), "idle", text))
    }

    /// How many runs are in which state, by tier.
    #[must_use]
    pub fn count_runs(&self) -> Counts {
        self.turns().scheduler.counts()
    }

    /// What the machine has for agents, and what they hold.
    #[must_use]
    pub fn resources(&self) -> Totals {
        self.turns().scheduler.totals()
    }
}
