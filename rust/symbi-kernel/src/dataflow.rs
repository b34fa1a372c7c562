//! How labels move: what comes back from a tool is read, and only a declassification takes a label off.
//!
//! Why: a tool that looks something up is a source like a document. Whoever is handed its answer has read it, and what he
//! sends afterwards carries it.
//! Not here: labels of what goes out (`exit`), of documents (`knowledge`), of messages (`messages`).
//!
//! Invariants
//! - K115 what a tool returned is handed over after its labels, declared and found, became the agent's; what would be too
//!   many is not handed over.
//! - K116 labels of an agent shrink by `label.declassify` alone, which is decided and recorded like anything else.

use symbi_types::{AgentId, LabelSet};

use crate::Principal;
use crate::agents::AgentError;
use crate::exit;
use crate::kernel::Kernel;
use crate::monitor::Asked;
use crate::permit::Settlement;

impl Kernel {
    /// The agent is handed what came back (K115). The labels of `settlement` become all that it carries.
    pub(crate) fn is_given(&self, agent: Option<AgentId>, settlement: &mut Settlement) -> bool {
        if !settlement.returned.is_empty() {
            let none = LabelSet::default();
            let found = match serde_json::from_slice(&settlement.returned) {
                Ok(value) => exit::label_json(&value, &none),
                Err(_) => exit::label_bytes(&settlement.returned, &none),
            };
            settlement.labels = settlement.labels.union(&found);
        }
        let Some(agent) = agent.filter(|_| !settlement.labels.is_empty()) else { return true };
        let mut agents = self.agents();
        let Some(known) = agents.get_mut(agent) else { return true };
        let room = known.has_room_for(&settlement.labels);
        if room {
            known.read(&settlement.labels);
        }
        room
    }

    /// Takes labels off an agent (K116). Answers the record.
    ///
    /// # Errors
    /// Refused, or it carries none of them.
    pub fn declassify(&self, by: Principal, agent: AgentId, labels: &LabelSet) -> Result<u64, AgentError> {
        let (entity, carried) = {
            let mut agents = self.agents();
            let known = agents.get_mut(agent).ok_or(AgentError::Absent("agent"))?;
            (known.entity(agent)?, known.labels.clone())
        };
        let off: LabelSet = labels.iter().filter(|label| carried.contains(label.as_str())).cloned().collect();
        if off.is_empty() {
            return Err(AgentError::Invalid("the agent carries none of these labels".to_owned()));
        }
        let asked = self.ask(by, "label.declassify", entity)?;
        let same = matches!(by, Principal::Agent(other) if other != agent)
            && asked.subject.uid() == asked.resource.uid();
        let asked = match by {
            // Two instances of one name are one entity to policy.
            Principal::Agent(other) if same => {
                let both = self.agents().both(other, agent)?.ok_or(AgentError::Absent("agent"))?;
                Asked { subject: both.clone(), resource: both, ..asked }
            }
            _ => asked,
        };
        let named: Vec<String> = off.iter().map(ToString::to_string).collect();
        let text = named.join(",").into_bytes();
        let asked = Asked { labels: off.clone(), arguments: Some(&text), agent: Some(agent), ..asked };
        let granted = self.decide(&asked)?;
        let (_, seq) = self.record_internal(&asked, granted, |details| {
            details.strings("declassified", named.iter().map(String::as_str))
        })?;
        if let Some(known) = self.agents().get_mut(agent) {
            known.lower(&off);
        }
        Ok(seq)
    }
}
