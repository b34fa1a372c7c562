//! Many messages of one sender in one call: decided first, all of them; then sealed and delivered together.
//!
//! Why: what is common to them is done once. Messages to one recipient, of one size and without labels, are one question.
//! Not here: one message (`messages`).
//!
//! Invariants
//! - K168 a refusal of one refuses all, before anything is delivered.
//! - K169 what had no room is named, and nothing to the same recipient was delivered after it: sent again in their order,
//!   the messages arrive in their order.

use symbi_bus::{BusError, Outgoing, SecureMessage};
use symbi_types::AgentId;

use crate::exit::Payload;
use crate::kernel::{Kernel, lock};
use crate::messages::{Composed, MessageError, Recipient, SendOptions, Sent};
use crate::monitor::Asked;
use crate::refusal::Refusal;

/// Messages in one call.
pub const SENT_AT_ONCE_MAX: usize = 65_536;

/// How messages that are sent together are signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Signing {
    /// One signature for up to 256, over the root of a Merkle tree; each message has its proof.
    #[default]
    Batch,
    /// One each.
    Each,
}

impl Kernel {
    /// Sends messages of one agent, in order. Answers for each what became of it: it was taken, or there was no room.
    ///
    /// # Errors
    /// One of them is refused or cannot be: then none was delivered (K168).
    pub fn send_many(
        &self,
        sender: AgentId,
        messages: Vec<(Recipient, Payload)>,
        signing: Signing,
    ) -> Result<Vec<Result<Sent, BusError>>, MessageError> {
        let mut composed: Vec<Composed> = Vec::with_capacity(messages.len());
        let result = self.compose_all(sender, messages, &mut composed);
        if let Err(error) = result {
            composed.iter().for_each(|one| self.release(one.granted.reservations())); // K21
            return Err(error);
        }
        let options = SendOptions::default();
        let outgoing: Vec<Outgoing<'_>> = composed
            .iter()
            .map(|one| Outgoing {
                sender,
                recipient: one.to,
                id: None,
                payload: &one.encoded,
                content_type: one.content_type,
                labels: &one.labels,
                in_reply_to: options.in_reply_to,
                expects_reply: options.expects_reply,
                lifetime_us: options.lifetime_us,
            })
            .collect();
        let now_us = self.moment().wall_us;
        let record = |sealed: &[SecureMessage]| self.record_all(sender, &composed, sealed);
        let sent = match signing {
            Signing::Batch => self.bus().send_batch_recorded(&outgoing, now_us, record)?,
            Signing::Each => self.bus().send_each_recorded(&outgoing, now_us, record)?,
        };
        self.settle_all(&composed, sent)
    }

    fn compose_all(
        &self,
        sender: AgentId,
        messages: Vec<(Recipient, Payload)>,
        composed: &mut Vec<Composed>,
    ) -> Result<(), MessageError> {
        let mut last: Option<Recipient> = None;
        for (at, (recipient, payload)) in messages.into_iter().enumerate() {
            if at == 0 {
                let asked = self.address(sender, &recipient, &payload)?.0;
                self.admit(&asked)?; // one operation
            }
            let again = composed.last().filter(|_| last.as_ref() == Some(&recipient));
            let one = match again.and_then(|before| self.compose_again(sender, before, &payload)) {
                Some(one) => Composed { encoded: crate::encoding::encode(payload)?, ..one },
                None => {
                    let asked = self.address(sender, &recipient, &payload)?;
                    self.compose_admitted(sender, asked, payload)?
                }
            };
            composed.push(one);
            last = Some(recipient);
        }
        Ok(())
    }

    /// The message before it, where this one asks the very same question: to the same recipient, of the same size, nothing
    /// labelled, no counter read, no obligation (as K162). Its rate is counted, and what it says is looked through.
    fn compose_again(&self, sender: AgentId, before: &Composed, payload: &Payload) -> Option<Composed> {
        let Payload::Bytes(bytes) = payload else { return None };
        let Composed { asked, granted, .. } = before;
        let plain = asked.labels.is_empty() && !granted.is_counted() && granted.redact.is_none();
        if !plain
            || asked.bytes != bytes.len() as u64
            || !crate::exit::label_bytes(bytes, &asked.labels).is_empty()
        {
            return None;
        }
        if self.messaging.rates.is_some() && self.within_rate(sender, asked).is_err() {
            return None; // and it is refused when it is asked for by itself
        }
        Some(Composed {
            asked: asked.again(),
            granted: granted.of_one(),
            to: before.to,
            labels: before.labels.clone(),
            content_type: before.content_type,
            encoded: Vec::new(),
        })
    }

    /// Before anybody can receive one of them (K150).
    fn record_all(
        &self,
        sender: AgentId,
        composed: &[Composed],
        sealed: &[SecureMessage],
    ) -> Result<(), Refusal> {
        let mut places = composed.iter();
        for message in sealed {
            // Sealed in order; those without a place are left out.
            let recipient = message.header().recipient();
            let Some(one) = places.find(|one| Some(one.to) == recipient) else { continue };
            self.record_one(sender, one, message)?;
        }
        Ok(())
    }

    fn record_one(&self, sender: AgentId, one: &Composed, message: &SecureMessage) -> Result<(), Refusal> {
        let Composed { asked, granted, to, .. } = one;
        if granted.is_counted() {
            let extra = |details: crate::json::Object| {
                details.display("recipient", to).display("message", message.id())
            };
            self.record_internal(asked, granted.counted_once(), extra)?;
            return Ok(());
        }
        self.gather((sender, Some(*to)), asked, granted, (message.id(), message.leaf()))
    }

    fn settle_all(
        &self,
        composed: &[Composed],
        sent: Vec<Result<symbi_bus::Sent, BusError>>,
    ) -> Result<Vec<Result<Sent, BusError>>, MessageError> {
        let mut last = None;
        let mut results = Vec::with_capacity(sent.len());
        for (one, sent) in composed.iter().zip(sent) {
            if last != Some(one.to) {
                self.touch(one.to);
                last = Some(one.to);
            }
            if let Err(error) = &sent {
                self.release(one.granted.reservations()); // K21
                if matches!(error, BusError::MailboxFull { .. }) {
                    lock(&self.messaging.full).insert(one.to);
                    if self.bus().has_room(one.to, one.encoded.len()) {
                        self.has_room_again(one.to);
                    }
                }
            }
            results.push(sent.map(|sent| Sent { id: sent.id, seq: None, is_repeated: false }));
        }
        Ok(results)
    }
}

impl Asked<'_> {
    /// The same question once more.
    fn again(&self) -> Asked<'static> {
        Asked {
            principal: self.principal,
            action: self.action,
            subject: self.subject.clone(),
            resource: self.resource.clone(),
            barred: self.barred,
            labels: self.labels.clone(),
            bytes: self.bytes,
            circumstances: Vec::new(),
            amounts: self.amounts.clone(),
            attributes: self.attributes.clone(),
            call: None,
            arguments: None,
            agent: self.agent,
            run: self.run,
            expected: None,
            replays: false,
        }
    }
}
