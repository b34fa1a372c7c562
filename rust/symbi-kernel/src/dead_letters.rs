//! Dead letters: what was given up, for persons to look at, to put back, or to throw away.
//!
//! Why: a message that nobody finished is not lost in silence, and what becomes of it is somebody's decision.
//! Not here: when a message is given up (`symbi_bus::Deliveries`), its record (`acknowledge`).
//!
//! Invariants
//! - K205 what a dead letter says is shown to nobody whom policy does not permit `message.read` of its recipient's mail.
//! - K206 a letter is put back, or thrown away, once, by whom policy permits it, and the trail says by whom. An operator needs
//!   `operation.resolve`; the message itself is sent as the host's, so that what policy forbids to send stays where it is.

use symbi_bus::{BusError, Dead, DeadReason};
use symbi_policy::{Entity, Uid};
use symbi_types::{AgentId, LabelSet, MessageId};

use crate::Principal;
use crate::acknowledge::Kept;
use crate::agents::AgentError;
use crate::encoding::unkeep;
use crate::json::Object;
use crate::kernel::{Kernel, lock};
use crate::mail::Body;
use crate::messages::{LIFETIME_US, MessageError};
use crate::monitor::Asked;

/// A dead letter, as it is shown.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// The message.
    pub id: MessageId,
    /// The mailbox it was for: an agent's, or a subscription's; of an earlier opening, the letter's own name.
    pub mailbox: AgentId,
    /// Whose mailbox that is, while the agent is there.
    pub recipient: Option<AgentId>,
    /// Its name; of one that is gone, where the trail keeps the letter.
    pub recipient_name: Option<String>,
    /// Why it was given up.
    pub reason: DeadReason,
    /// How often it was handed out.
    pub attempts: u32,
    /// Who sent it, its name, and when, where it was ever handed out.
    pub sent: Option<(AgentId, String, u64)>,
    /// The topic it was published under.
    pub topic: Option<String>,
    /// What it carries.
    pub labels: LabelSet,
}

impl Kernel {
    /// The dead letters, the oldest first, and how many were let go for younger ones.
    #[must_use]
    pub fn dead_letters(&self) -> (Vec<DeadLetter>, u64) {
        let (dead, let_go) = lock(&self.messaging.deliveries).dead();
        let shown = dead.into_iter().map(|dead| {
            let kept = dead.content.as_ref().map(|Kept(kept)| kept);
            let recipient = self.reads(dead.mailbox);
            let name_of = |agent| self.agents().get(agent).map(|known| known.spec.name.clone());
            let recipient_name =
                recipient.and_then(name_of).or_else(|| self.buried(&dead).map(|(_, name)| name));
            DeadLetter {
                id: dead.id,
                mailbox: dead.mailbox,
                recipient,
                recipient_name,
                reason: dead.reason,
                attempts: dead.attempts,
                sent: kept.map(|kept| (kept.sender, kept.sender_name.clone(), kept.created_us)),
                topic: kept.and_then(|kept| kept.topic.as_ref().map(ToString::to_string)),
                labels: kept.map(|kept| kept.labels.clone()).unwrap_or_default(),
            }
        });
        (shown.collect(), let_go)
    }

    /// What a dead letter says (K205): recorded before it is shown. Answers the record to wait for.
    ///
    /// # Errors
    /// Refused; no such dead letter, or nothing was kept of it.
    pub fn read_dead_letter(
        &self,
        by: Principal,
        message: MessageId,
        mailbox: Option<AgentId>,
    ) -> Result<(Body, u64), MessageError> {
        let (dead, content) = self.find_dead(message, mailbox)?;
        let asked = self.ask_about_letter(by, "message.read", &dead)?;
        let granted = self.decide(&asked)?;
        let payload = self.unseal(&content.0.sealed).and_then(unkeep);
        let Some(payload) = payload else {
            self.undo(&granted.held()); // K21
            return Err(BusError::NotHandedOut { message }.into());
        };
        let (_, seq) =
            self.record_internal(&asked, granted, |details| details.display("message", message))?;
        Ok((payload, seq))
    }

    /// Puts a dead letter back into its mailbox, as if it had never been handed out (K206). One that the trail keeps goes to
    /// whoever has its recipient's name now, or waits for the next one (K241).
    ///
    /// # Errors
    /// Refused; no such dead letter; it was never handed out, so nothing was kept of it; its reader is gone.
    pub fn revive(
        &self,
        by: Principal,
        message: MessageId,
        mailbox: Option<AgentId>,
    ) -> Result<u64, MessageError> {
        let (dead, content) = self.find_dead(message, mailbox)?;
        let (agent, buried) = (self.reads(dead.mailbox), self.buried(&dead));
        if agent.is_none() && buried.is_none() {
            return Err(AgentError::Absent("agent").into());
        }
        let extra = |details: Object| {
            let details = match agent {
                Some(agent) => details.display("recipient", agent),
                None => details,
            };
            named(details.display("revived", message), buried.as_ref())
        };
        let resolved = match by {
            Principal::Operator(_) => {
                let asked = self.ask_about_letter(by, "operation.resolve", &dead)?;
                Some((self.decide(&asked)?, asked))
            }
            _ => None,
        };
        let sender = if resolved.is_some() { Principal::Host } else { by };
        let sending = self.ask_about_letter(sender, "message.send", &dead)?;
        let granted = self.decide(&sending).inspect_err(|_| {
            if let Some((granted, _)) = &resolved {
                self.undo(&granted.held()); // K21
            }
        })?;
        if granted.redact.is_some() {
            if let Some((resolved, _)) = &resolved {
                self.undo(&resolved.held());
            }
            return Err(self.refuse_opaque(&sending, &granted).into()); // it was sealed as it was
        }
        if lock(&self.messaging.deliveries).take_dead(dead.mailbox, message).is_none() {
            resolved.iter().for_each(|(resolved, _)| self.undo(&resolved.held()));
            self.undo(&granted.held()); // K21: another was faster
            return Err(BusError::NotHandedOut { message }.into());
        }
        let record = || {
            if let Some((granted, asked)) = resolved {
                self.record_internal(&asked, granted, extra)?;
            }
            self.record_internal(&sending, granted, extra)
        };
        let (_, seq) = record().inspect_err(|_| lock(&self.messaging.deliveries).lay_aside(dead.clone()))?;
        match &buried {
            Some((name, _)) => self.give_again(*name, dead.mailbox),
            None => {
                let now_us = self.moment().wall_us;
                let times = (0, now_us.saturating_add(LIFETIME_US), now_us);
                lock(&self.messaging.deliveries).restore(dead.mailbox, message, content, times);
            }
        }
        self.pass_deliveries();
        Ok(seq)
    }

    /// Throws a dead letter away (K206). Answers the record.
    ///
    /// # Errors
    /// Refused; no such dead letter.
    pub fn discard(
        &self,
        by: Principal,
        message: MessageId,
        mailbox: Option<AgentId>,
    ) -> Result<u64, MessageError> {
        let dead = self.dead_of(message, mailbox).ok_or(BusError::NotHandedOut { message })?;
        let asked = self.ask_about_letter(by, "operation.resolve", &dead)?;
        let granted = self.decide(&asked)?;
        let held = granted.held();
        if lock(&self.messaging.deliveries).take_dead(dead.mailbox, message).is_none() {
            self.undo(&held); // K21: another was faster
            return Err(BusError::NotHandedOut { message }.into());
        }
        let buried = self.buried(&dead);
        let extra = |details: Object| {
            let details = details.display("discarded", message).string("reason", dead.reason.as_str());
            named(details, buried.as_ref())
        };
        let recorded = self.record_internal(&asked, granted, extra);
        let (_, seq) = recorded.inspect_err(|_| lock(&self.messaging.deliveries).lay_aside(dead.clone()))?;
        if let Some((name, _)) = buried {
            self.drop_letters(&[name]);
        }
        Ok(seq)
    }

    fn dead_of(&self, message: MessageId, mailbox: Option<AgentId>) -> Option<Dead<Kept>> {
        let (dead, _) = lock(&self.messaging.deliveries).dead();
        dead.into_iter()
            .find(|dead| dead.id == message && mailbox.is_none_or(|wanted| wanted == dead.mailbox))
    }

    fn find_dead(
        &self,
        message: MessageId,
        mailbox: Option<AgentId>,
    ) -> Result<(Dead<Kept>, Kept), MessageError> {
        let dead = self.dead_of(message, mailbox);
        let found = dead.and_then(|dead| dead.content.clone().map(|content| (dead, content)));
        Ok(found.ok_or(BusError::NotHandedOut { message })?)
    }

    /// About the mail of its recipient; of one that is gone policy sees the id alone, or, where the trail keeps the letter, who has
    /// its name now, or the name.
    fn ask_about_letter(
        &self,
        by: Principal,
        action: &str,
        dead: &Dead<Kept>,
    ) -> Result<Asked<'static>, MessageError> {
        let name = self.buried(dead).map(|(_, name)| name);
        let same_name = || name.as_deref().and_then(|name| self.agents().by_name(name));
        let entity = match self.reads(dead.mailbox).or_else(same_name) {
            Some(agent) => {
                let mut agents = self.agents();
                let known = agents.get_mut(agent).ok_or(AgentError::Absent("agent"))?;
                known.entity(agent).map_err(AgentError::from)?
            }
            None => Entity::bare(
                Uid::new("Agent", &name.unwrap_or_else(|| dead.mailbox.to_string()))
                    .map_err(|error| AgentError::Invalid(error.to_string()))?,
            ),
        };
        let asked = self.ask(by, action, entity)?;
        let labels = dead.content.as_ref().map(|kept| kept.0.labels.clone()).unwrap_or_default();
        Ok(Asked { labels, ..asked })
    }
}

/// With the name of the letter, for who reads the trail again, where it is kept there.
fn named(details: Object, buried: Option<&(MessageId, String)>) -> Object {
    match buried {
        Some((name, _)) => details.display("letter", name),
        None => details,
    }
}
