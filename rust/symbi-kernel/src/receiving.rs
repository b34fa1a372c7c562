//! Reading mailboxes: what was sealed is opened, recorded before it is handed out, and its reader takes on its labels.
//!
//! Not here: sending (`messages`), handing out again (`acknowledge`).
//!
//! Invariants
//! - K31 whoever reads a message has read what it carries: its labels become the reader's.
//! - K192 messages that are taken together are read in their order, and one that may not be read keeps back no other.

use std::sync::Arc;

use symbi_audit::Event;
use symbi_bus::{Opened, Reply};
use symbi_types::{AgentId, LabelSet, MessageId};

use crate::agents::AgentError;
use crate::json::Object;
use crate::kernel::{Kernel, lock};
use crate::mail::{Item, Mail, Received, body};
use crate::messages::MessageError;
use crate::refusal::Refusal;

/// The sender and the labels of the message before, and the sender's name where such messages may be read.
struct Reading {
    sender: AgentId,
    labels: LabelSet,
    sender_name: Option<Arc<str>>,
}

impl Kernel {
    /// Takes up to `limit` messages from a mailbox, an agent's or a subscription's, as [`Kernel::receive_mail`].
    ///
    /// # Errors
    /// As [`Kernel::receive_mail`].
    pub fn receive_many(&self, mailbox: AgentId, limit: usize) -> Result<Vec<Received>, MessageError> {
        let agent = self.reads(mailbox).ok_or(AgentError::Absent("agent"))?;
        let mail = self.take_mail(agent, mailbox, limit)?;
        Ok(mail.items.into_iter().map(Received::from).collect())
    }

    /// Takes up to `limit` messages from a mailbox that the agent names, its own or that of a subscription of its, each
    /// verified and opened (K31).
    ///
    /// # Errors
    /// The mailbox is another's, or there is none: the two look alike. A message that does not verify is dropped and
    /// recorded, never handed over.
    pub fn receive_mail(&self, agent: AgentId, mailbox: AgentId, limit: usize) -> Result<Mail, MessageError> {
        self.owns(agent, mailbox)?;
        self.take_mail(agent, mailbox, limit)
    }

    fn take_mail(&self, agent: AgentId, mailbox: AgentId, limit: usize) -> Result<Mail, MessageError> {
        let now_us = self.moment().wall_us;
        let (again, room) = {
            let mut deliveries = lock(&self.messaging.deliveries);
            (deliveries.again(mailbox, limit, now_us), deliveries.room(mailbox))
        };
        let again = again.into_iter();
        let mut items: Vec<Item> =
            again.filter_map(|(id, attempt, kept)| self.reread(agent, id, attempt, &kept)).collect();
        let taken = self.bus().receive_many(mailbox, room.min(limit - items.len().min(limit)), now_us)?;
        self.record_before_hand_out(mailbox, &taken.opened)?;
        self.touch(agent);
        for refused in &taken.refused {
            self.record_refused_message(agent, refused.reason.code());
        }
        self.hand_out(mailbox, agent, taken.opened, now_us, &mut items);
        self.has_room_again(mailbox);
        self.tell_missed(mailbox, agent);
        Ok(Mail { items })
    }

    /// Whether the agent may read a mailbox.
    pub(crate) fn owns(&self, agent: AgentId, mailbox: AgentId) -> Result<(), AgentError> {
        if self.reads(mailbox) == Some(agent) {
            return Ok(());
        }
        Err(AgentError::Absent(if agent == mailbox { "agent" } else { "subscription" }))
    }

    /// K150.
    fn record_before_hand_out(&self, mailbox: AgentId, opened: &[Opened]) -> Result<(), Refusal> {
        let mut last = None;
        for one in opened {
            let sender = one.message.header().sender;
            if last != Some(sender) {
                self.close_traffic(sender, Some(mailbox))?;
                last = Some(sender);
            }
        }
        Ok(())
    }

    /// Reads each (K192).
    fn hand_out(
        &self,
        mailbox: AgentId,
        agent: AgentId,
        opened: Vec<Opened>,
        now_us: u64,
        items: &mut Vec<Item>,
    ) {
        items.reserve(opened.len());
        let expected: Vec<MessageId> = {
            let deliveries = lock(&self.messaging.deliveries);
            let is_expected = |id: &MessageId| deliveries.expects(mailbox, *id);
            opened.iter().map(|one| one.message.id()).filter(is_expected).collect()
        };
        let mut expected = expected.into_iter().peekable();
        let mut before: Option<Reading> = None;
        for Opened { message, payload } in opened {
            let header = message.header();
            let kept = expected.next_if_eq(&header.id).map(|_| self.keep(header, &payload));
            let Some(body) = body(header.content_type, payload) else { continue };
            let is_alike = |known: &Reading| known.sender == header.sender && known.labels == header.labels;
            if !before.as_ref().is_some_and(is_alike) {
                let sender_name = self.may_read(agent, &header.labels, header.sender);
                before = Some(Reading { sender: header.sender, labels: header.labels.clone(), sender_name });
            } else if before.as_ref().is_some_and(|known| known.sender_name.is_none()) {
                self.record_refused_message(agent, "too_many_labels"); // one record for each
            }
            let Some(name) = before.as_ref().and_then(|known| known.sender_name.as_ref()) else { continue };
            let mut item = Item::of(header, name, 0, body);
            if let Some(kept) = kept {
                let mut deliveries = lock(&self.messaging.deliveries);
                item.attempt = deliveries.hand_out(mailbox, header.id, kept, now_us).unwrap_or_default();
                drop(deliveries);
                self.tell_due();
            }
            items.push(item);
        }
    }

    /// Takes the answer to `request`, if it is there.
    ///
    /// # Errors
    /// Nobody waits for it.
    pub fn take_reply(&self, agent: AgentId, request: MessageId) -> Result<Option<Received>, MessageError> {
        Ok(self.take_reply_item(agent, request)?.map(Received::from))
    }

    /// As [`Kernel::take_reply`], made into values when somebody looks.
    ///
    /// # Errors
    /// As [`Kernel::take_reply`].
    pub fn take_reply_item(&self, agent: AgentId, request: MessageId) -> Result<Option<Item>, MessageError> {
        match self.bus().take_reply(agent, request, self.moment().wall_us)? {
            Reply::Opened(one) => {
                self.record_before_hand_out(agent, std::slice::from_ref(&one))?;
                Ok(self.read_one(agent, one))
            }
            Reply::Pending => Ok(None),
            Reply::Refused(refused) => {
                self.record_refused_message(agent, refused.reason.code());
                Ok(None)
            }
        }
    }

    fn read_one(&self, agent: AgentId, Opened { message, payload }: Opened) -> Option<Item> {
        let header = message.header();
        let body = body(header.content_type, payload)?;
        let sender_name = self.may_read(agent, &header.labels, header.sender)?;
        Some(Item::of(header, &sender_name, 0, body))
    }

    /// Nobody waits for the answer to `request` any more.
    pub fn forget_reply(&self, agent: AgentId, request: MessageId) {
        if self.bus().forget_reply(agent, request).is_ok() {
            self.request_over(request, None);
        }
    }

    /// The reader takes on the labels (K31), and is told the sender's name, empty where that is gone. None where they would
    /// grow past their bound: then it was not read, and that is recorded.
    pub(crate) fn may_read(&self, agent: AgentId, labels: &LabelSet, sender: AgentId) -> Option<Arc<str>> {
        let sender_name = {
            let mut agents = self.agents();
            let known = agents.get_mut(agent)?;
            let room = known.has_room_for(labels);
            if room {
                known.read(labels); // K31
            }
            room.then(|| {
                agents.get(sender).map_or_else(Arc::default, |known| known.spec.name.as_str().into())
            })
        };
        if sender_name.is_none() {
            self.record_refused_message(agent, "too_many_labels");
        }
        sender_name
    }

    pub(crate) fn record_refused_message(&self, agent: AgentId, code: &str) {
        let details = Object::new().string("code", code).finish();
        let event = Event {
            agent_id: Some(agent),
            decision: Some("deny"),
            ..Event::new("message.refused", &details)
        };
        let _ = self.log().append(&event);
    }

    /// Something was read from a mailbox that had no room for somebody (K153).
    pub(crate) fn has_room_again(&self, mailbox: AgentId) {
        if lock(&self.messaging.full).remove(&mailbox) {
            lock(&self.messaging.roomy).push(mailbox);
            self.ring();
        }
    }

    /// The mailboxes that had no room for somebody and have some again.
    pub fn drain_rooms(&self) -> Vec<AgentId> {
        std::mem::take(&mut *lock(&self.messaging.roomy))
    }
}
