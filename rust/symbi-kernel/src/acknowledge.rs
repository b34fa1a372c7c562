//! At least once: what was handed out is kept, sealed, until its reader acknowledges it.
//!
//! Not here: when something is handed out again (`symbi_bus::Deliveries`), messages kept in the trail (`durable`), what
//! becomes of dead letters (`dead_letters`).
//!
//! Invariants
//! - K154 an acknowledgement is recorded once; a message that was acknowledged is not handed out again (AL2).
//! - K155 what is given up is recorded, one record each, before it can be looked at as a dead letter.
//! - K156 whoever is to hand something out again is told when: the bell rings when the time moves nearer.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use symbi_audit::Event;
use symbi_bus::{BusError, Dead, DeadReason, Finished, Header, Topic};
use symbi_types::{AgentId, LabelSet, MessageId};

use crate::encoding::{keep, unkeep};
use crate::json::Object;
use crate::kernel::{Kernel, lock};
use crate::mail::Item;
use crate::messages::MessageError;
use crate::messaging::NEVER;

/// Deliveries that change their state in one call.
const PASSED_AT_ONCE: usize = 256;

/// A message that may be handed out again; its payload is sealed by the runtime.
#[derive(Clone, Debug)]
pub(crate) struct Kept(pub(crate) Arc<Keeping>);

#[derive(Debug)]
pub(crate) struct Keeping {
    pub(crate) sender: AgentId,
    pub(crate) sender_name: String,
    pub(crate) labels: LabelSet,
    pub(crate) created_us: u64,
    pub(crate) in_reply_to: Option<MessageId>,
    pub(crate) topic: Option<Topic>,
    pub(crate) sealed: String,
}

impl Kernel {
    /// Keeps what was opened, sealed again by the runtime's own key: no plain text waits in memory.
    pub(crate) fn keep(&self, header: &Header, encoded: &[u8]) -> Kept {
        let sender_name =
            self.agents().get(header.sender).map(|known| known.spec.name.clone()).unwrap_or_default();
        Kept(Arc::new(Keeping {
            sender: header.sender,
            sender_name,
            labels: header.labels.clone(),
            created_us: header.created_us,
            in_reply_to: header.in_reply_to,
            topic: header.topic().cloned(),
            sealed: self.seal_for(&header.labels, &keep(header.content_type, encoded)),
        }))
    }

    pub(crate) fn reread(
        &self,
        agent: AgentId,
        id: MessageId,
        attempt: u32,
        Kept(kept): &Kept,
    ) -> Option<Item> {
        let body = unkeep(self.unseal(&kept.sealed)?)?;
        self.may_read(agent, &kept.labels, kept.sender)?;
        self.tell_due();
        Some(Item {
            id,
            sender: kept.sender,
            sender_name: kept.sender_name.as_str().into(),
            labels: kept.labels.clone(),
            created_us: kept.created_us,
            in_reply_to: kept.in_reply_to,
            topic: kept.topic.clone(),
            attempt,
            body,
        })
    }

    /// The reader is done with these messages of its mailbox. Answers the record, which is waited for before that is
    /// believed; none where all were acknowledged before.
    ///
    /// # Errors
    /// One of them was not handed out; the others are acknowledged all the same.
    pub fn acknowledge(
        &self,
        agent: AgentId,
        mailbox: AgentId,
        ids: &[MessageId],
    ) -> Result<Option<u64>, MessageError> {
        self.owns(agent, mailbox)?;
        let now_us = self.moment().wall_us;
        let (mut finished, mut unknown) = (Vec::new(), None);
        {
            let mut deliveries = lock(&self.messaging.deliveries);
            for id in ids {
                match deliveries.finish(mailbox, *id, now_us) {
                    Finished::Now => finished.push(*id),
                    Finished::Before => {}
                    Finished::Unknown => unknown = Some(*id),
                }
            }
        }
        let seq = match finished.as_slice() {
            [] => None,
            finished => Some(self.record_finished(agent, mailbox, finished)?), // K154
        };
        self.forget_letters(mailbox, &finished);
        self.has_room_again(mailbox);
        if let Some(message) = unknown {
            return Err(BusError::NotHandedOut { message }.into());
        }
        Ok(seq)
    }

    fn record_finished(
        &self,
        agent: AgentId,
        mailbox: AgentId,
        finished: &[MessageId],
    ) -> Result<u64, MessageError> {
        let texts: Vec<String> = finished.iter().map(ToString::to_string).collect();
        let details = Object::new().strings("messages", texts.iter().map(String::as_str));
        let details = self.name_letters(details, mailbox, finished).finish();
        let run = self.agents().get(agent).and_then(|known| known.running);
        let event = Event { agent_id: Some(agent), run, ..Event::new("message.finished", &details) };
        self.wait_for_share(agent)?;
        let seq = self.log().append(&event).map_err(|_| self.unavailable())?.seq;
        lock(&self.shares).add(agent, seq);
        Ok(seq)
    }

    /// The reader could not do it: it is handed out again after a pause, or given up.
    ///
    /// # Errors
    /// It was not handed out.
    pub fn give_back(
        &self,
        agent: AgentId,
        mailbox: AgentId,
        message: MessageId,
    ) -> Result<(), MessageError> {
        self.owns(agent, mailbox)?;
        let next = lock(&self.messaging.deliveries).fail(mailbox, message, self.moment().wall_us);
        next.ok_or(BusError::NotHandedOut { message })?;
        self.tell_due();
        Ok(())
    }

    /// An id for a message that is to be sent under it.
    #[must_use]
    pub fn fresh_message_id(&self) -> MessageId {
        MessageId::random(self.entropy())
    }

    /// When [`Kernel::pass_deliveries`] has something to do, in microseconds from now; none while it has not.
    #[must_use]
    pub fn deliveries_due_in_us(&self) -> Option<u64> {
        let next_us = lock(&self.messaging.deliveries).next_us();
        self.messaging.told_us.store(next_us.unwrap_or(NEVER), Ordering::SeqCst);
        next_us.map(|at_us| at_us.saturating_sub(self.moment().wall_us))
    }

    /// K156.
    pub(crate) fn tell_due(&self) {
        let next_us = lock(&self.messaging.deliveries).next_us().unwrap_or(NEVER);
        if next_us < self.messaging.told_us.fetch_min(next_us, Ordering::SeqCst) {
            self.ring();
        }
    }

    /// Time has passed: what may be handed out again rings its mailbox, what is over becomes a dead letter.
    pub fn pass_deliveries(&self) {
        let passed = lock(&self.messaging.deliveries).pass(self.moment().wall_us, PASSED_AT_ONCE);
        self.messaging.told_us.store(NEVER, Ordering::SeqCst);
        for dead in &passed.dead {
            self.record_dead(dead); // K155
        }
        if !passed.ready.is_empty() {
            lock(&self.ready_mailboxes).extend(passed.ready);
        }
        self.tell_due();
        self.ring();
    }

    pub(crate) fn record_dead(&self, dead: &Dead<Kept>) {
        let details = Object::new()
            .display("message", dead.id)
            .string("reason", dead.reason.as_str())
            .number("attempts", u64::from(dead.attempts));
        let details = self.name_letters(details, dead.mailbox, &[dead.id]).finish();
        let event = Event { agent_id: self.reads(dead.mailbox), ..Event::new("message.dead", &details) };
        let _ = self.log().append(&event); // a log that cannot write is red, and says so
        self.bury_letter(dead);
    }

    /// A mailbox is closed: what was not finished in it is given up, except what the trail keeps.
    pub(crate) fn close_deliveries(&self, mailbox: AgentId) {
        let unfinished = lock(&self.messaging.deliveries).close(mailbox);
        for (id, attempts, content) in unfinished {
            if self.park_letter(mailbox, id) {
                continue;
            }
            let dead = Dead { mailbox, id, reason: DeadReason::Gone, attempts, content };
            self.record_dead(&dead);
            lock(&self.messaging.deliveries).lay_aside(dead);
        }
        self.has_room_again(mailbox); // whoever waits for room, or for mail, learns that there is nobody
        lock(&self.ready_mailboxes).push(mailbox);
        self.ring();
    }
}
