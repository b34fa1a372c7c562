//! What the policies in force say to a message now, with the counters as they stand.
//!
//! Why: a host wants to know before it lets an agent begin, and whoever judges how long a decision takes wants the decision
//! alone: reserved in each counter, decided, given back.
//! Not here: anything that happens. Nothing is sent or recorded, no person is asked, nothing is admitted or counted against a
//! rate; what a rule is bound to (budgets excepted) is not looked at. It is the host's alone: agents are told nothing of rules.
//!
//! Invariants
//! - K241 a rehearsal leaves every counter as it was, and reserves under the lock under which it decides, as an operation does.

use symbi_policy::Effect;
use symbi_types::AgentId;

use crate::exit::Payload;
use crate::kernel::Kernel;
use crate::messages::{MessageError, Recipient};
use crate::monitor::Asked;

/// What would be decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rehearsed {
    /// `allow`, `deny`, or what would be owed.
    pub effect: Effect,
    /// No budget that counts it is spent.
    pub paid: bool,
    /// The rules that decide.
    pub rules: Vec<String>,
    /// What each counter says, with this message.
    pub counters: Vec<(String, u64)>,
}

impl Kernel {
    /// Decides on a message of `bytes` bytes that carries what its sender has read, and does nothing (K241).
    ///
    /// # Errors
    /// No such sender.
    pub fn rehearse_message(
        &self,
        sender: AgentId,
        recipient: &Recipient,
        bytes: u64,
    ) -> Result<Rehearsed, MessageError> {
        let (asked, _) = self.address(sender, recipient, &Payload::Bytes(Vec::new()))?;
        let weighed = self.weigh(&Asked { bytes, ..asked });
        Ok(weighed.given_back(self))
    }
}
