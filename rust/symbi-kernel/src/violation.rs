//! What becomes of an agent that violates a policy which says so: `@on_violation("suspend")`, or `"terminate"`.
//!
//! Why: some denials are mistakes and some are attacks; the author of the rule knows which. So a `forbid` may say that who
//! runs into it stands still until policy clears it or a person looks.
//! Not here: how a rule says so (`symbi-policy`), holding and letting go (`suspension`).
//!
//! Invariants
//! - K79 an agent that ran into such a rule is Suspended before its refusal is answered.
//! - K80 policies that are put in force let go every agent, and only those, whose violation they would not punish and whose
//!   resumption they permit.

use symbi_audit::Event;
use symbi_policy::{Consequence, Decision, RecordedRequest};
use symbi_scheduler::Cause;
use symbi_types::{AgentId, DecisionId};

use crate::Principal;
use crate::json::Object;
use crate::kernel::Kernel;
use crate::moves::Moves;
use crate::registry::Holds;
use crate::suspension::hold;

/// What an agent did, so that other policies can be asked about it.
pub(crate) struct Violation {
    request: RecordedRequest,
}

/// The severest of what the determining rules bring about, and the rule that does.
pub(crate) fn consequence(decision: &Decision) -> Option<(Consequence, &str)> {
    let severest = decision.consequence()?;
    let rule = decision.determining.iter().find(|rule| rule.consequence == Some(severest))?;
    Some((severest, rule.id.as_str()))
}

impl Kernel {
    /// The agent ran into a rule that punishes it (K79).
    pub(crate) fn violated(
        &self,
        agent: AgentId,
        (consequence, rule): (Consequence, &str),
        request: RecordedRequest,
        refusal: DecisionId,
    ) {
        let mut told = Moves::default();
        let (moved, moves) = self.turn(|turns, agents| {
            let moved = hold(turns, agents, agent, Cause::PolicyViolation, &mut told);
            if moved.is_ok()
                && let Some(known) = agents.get_mut(agent)
            {
                known.violation = Some(Box::new(Violation { request }));
            }
            if consequence == Consequence::Terminate {
                turns.condemn(agent); // the host ends its work, and it with that
            }
            moved
        });
        told.append(moves);
        let details = Object::new()
            .string("consequence", consequence.as_str())
            .string("rule", rule)
            .display("decision_id", refusal)
            .flag("held", moved.is_ok()) // an agent without a task has nothing to be held at
            .strings("transitions", moved.is_ok_and(|moved| moved).then_some("running>suspended"))
            .finish();
        let event = Event { agent_id: Some(agent), ..Event::new("policy.violation", &details) };
        let _ = self.log().append(&event); // the refusal is recorded, and the agent stands still all the same
        self.tell_later(told);
        self.ring();
    }

    /// The agent is held, and its host is told to end it.
    pub(crate) fn condemn(&self, agent: AgentId, cause: Cause) {
        let mut told = Moves::default();
        let (_, moves) = self.turn(|turns, agents| {
            turns.condemn(agent);
            hold(turns, agents, agent, cause, &mut told) // one without a task has nothing to be held at
        });
        told.append(moves);
        self.tell_later(told);
        self.ring();
    }

    /// K80: after a change of policies.
    pub(crate) fn reconsider_violations(&self, by: Principal) {
        let policies = self.policies();
        let clear: Vec<AgentId> = {
            let agents = self.agents();
            let violators = agents.iter().filter_map(|(id, agent)| Some((id, agent.violation.as_ref()?)));
            let forgiven = violators.filter(|(_, violation)| {
                let decision = policies.engine.evaluate(&violation.request.as_request());
                decision.consequence().is_none()
            });
            forgiven.map(|(id, _)| *id).collect()
        };
        for agent in clear {
            // Refused, it is recorded, and the agent stays where it is.
            if let Ok(moved) = self.clear_holds(by, agent, Holds::of(Cause::PolicyViolation)) {
                self.tell_later(moved.moves);
            }
        }
    }
}
