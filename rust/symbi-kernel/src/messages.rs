//! Messages between agents, behind the monitor.
//!
//! Invariants
//! - K30 the sender is the one the channel says, never a name in the message.
//! - K31 whoever reads a message has read what it carries: its labels become the reader's.
//! - K32 a recipient that does not exist and one that may not be reached are refused alike.

use symbi_audit::Event;
use symbi_bus::{BusError, ContentType, Opened, Outgoing, Reply};
use symbi_policy::{Entity, Uid};
use symbi_types::{AgentId, LabelSet, MessageId, Part};

use crate::agents::{AgentError, check_labels};
use crate::exit::{PARTS_MAX, PAYLOAD_BYTES_MAX, Payload};
use crate::json::Object;
use crate::kernel::Kernel;
use crate::monitor::Asked;
use crate::refusal::RefusalCode;
use crate::{Principal, exit};

/// Who a message is for.
#[derive(Clone, Debug)]
pub enum Recipient {
    /// This very instance.
    Agent(AgentId),
    /// The oldest living instance of that name.
    Named(String),
}

/// Why a message was not sent.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// Refused, invalid, or from an agent that is no more.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// The bus.
    #[error(transparent)]
    Bus(#[from] BusError),
}

impl From<crate::Refusal> for MessageError {
    fn from(refusal: crate::Refusal) -> Self {
        Self::Agent(refusal.into())
    }
}

/// A message that was received and opened.
#[derive(Clone, Debug)]
pub struct Received {
    /// Its id.
    pub id: MessageId,
    /// Who sent it.
    pub sender: AgentId,
    /// The sender's name.
    pub sender_name: String,
    /// What it carries.
    pub labels: LabelSet,
    /// When it was sent, microseconds since the epoch.
    pub created_us: u64,
    /// The message it answers.
    pub in_reply_to: Option<MessageId>,
    /// What it says.
    pub payload: Payload,
}

const OPAQUE: u8 = 0;
const IN_PARTS: u8 = 1;

/// First byte: opaque or parts; then the bytes, or the parts as JSON.
fn encode(payload: &Payload) -> Result<Vec<u8>, AgentError> {
    let invalid = |text: String| AgentError::Invalid(text);
    if payload.len() > PAYLOAD_BYTES_MAX {
        return Err(invalid(format!(
            "a payload has at most {PAYLOAD_BYTES_MAX} bytes, and this has {}",
            payload.len()
        )));
    }
    match payload {
        Payload::Bytes(bytes) => {
            let mut encoded = Vec::with_capacity(1 + bytes.len());
            encoded.push(OPAQUE);
            encoded.extend_from_slice(bytes);
            Ok(encoded)
        }
        Payload::Parts(parts) if parts.len() > PARTS_MAX => {
            Err(invalid(format!("a payload has at most {PARTS_MAX} parts, and this has {}", parts.len())))
        }
        Payload::Parts(parts) => {
            let mut encoded = vec![IN_PARTS];
            serde_json::to_writer(&mut encoded, parts).map_err(|error| invalid(error.to_string()))?;
            Ok(encoded)
        }
    }
}

fn decode(bytes: &[u8]) -> Option<Payload> {
    match bytes.split_first()? {
        (&OPAQUE, rest) => Some(Payload::Bytes(rest.to_vec())),
        (&IN_PARTS, rest) => serde_json::from_slice::<Vec<Part>>(rest).ok().map(Payload::Parts),
        _ => None,
    }
}

impl Kernel {
    /// Sends one message: decided, recorded, sealed, signed, delivered to the recipient's mailbox. Answers its id
    /// and its record.
    ///
    /// # Errors
    /// Refused, too large, or the mailbox is full; nothing was delivered.
    pub fn send(
        &self,
        sender: AgentId,
        recipient: &Recipient,
        mut payload: Payload,
        in_reply_to: Option<MessageId>,
        expects_reply: bool,
    ) -> Result<(MessageId, u64), MessageError> {
        let found = {
            let mut agents = self.agents();
            let id = match recipient {
                Recipient::Agent(id) => Some(*id),
                Recipient::Named(name) => agents.by_name(name),
            };
            match id.and_then(|id| agents.get_mut(id).map(|known| (id, known))) {
                Some((id, known)) => Some((id, known.entity(id).map_err(AgentError::from)?)),
                None => None,
            }
        };
        if payload.len() > PAYLOAD_BYTES_MAX
            || matches!(&payload, Payload::Parts(parts) if parts.len() > PARTS_MAX)
        {
            encode(&payload)?; // says what is too much; before anything is looked up or decided
        }
        let absent = found.is_none();
        let (to, resource) = if let Some(found) = found {
            found
        } else {
            let name = match recipient {
                Recipient::Agent(id) => id.to_string(),
                Recipient::Named(name) => name.clone(),
            };
            let uid = Uid::new("Agent", &name).map_err(|error| AgentError::Invalid(error.to_string()))?;
            (sender, Entity::bare(uid)) // nothing is delivered: see below
        };
        let asked = self.ask(Principal::Agent(sender), "message.send", resource)?;
        let asked = if !absent && asked.subject.uid() == asked.resource.uid() {
            let both = self
                .agents()
                .both(sender, to)
                .ok_or(AgentError::Absent("agent"))?
                .map_err(AgentError::from)?;
            Asked { subject: both.clone(), resource: both, ..asked }
        } else {
            asked
        };
        let carried = asked.labels.clone();
        let (labels, labelled) = self.label_payload(&mut payload, &carried, asked.subject.uid().id());
        check_labels(&labels)?;
        let asked = Asked { labels, bytes: payload.len() as u64, ..asked };
        if absent {
            return Err(self.refuse_absent(&asked).into()); // K32
        }
        let granted = self.decide(&asked)?;
        if !self.agents().get(to).is_some_and(|known| known.has_room_for(&asked.labels)) {
            self.release(granted.reservations()); // K21
            let text = "the recipient cannot take on more labels";
            return Err(self.refuse(&asked, RefusalCode::Denied, None, text).into());
        }
        if let Some(redact) = &granted.redact {
            match &mut payload {
                Payload::Parts(parts) => exit::redact_parts(parts, redact, &labelled),
                Payload::Bytes(_) => return Err(self.refuse_opaque(&asked, &granted).into()),
            }
        }
        let labels = match &payload {
            Payload::Parts(parts) => {
                parts.iter().fold(LabelSet::default(), |all, part| all.union(&part.labels))
            }
            Payload::Bytes(_) => asked.labels.clone(),
        };
        let encoded = match encode(&payload) {
            Ok(encoded) => encoded,
            Err(error) => {
                self.release(granted.reservations()); // K21
                return Err(error.into());
            }
        };
        let (operation, seq) =
            self.record_internal(&asked, granted, |details| details.display("recipient", to))?;
        let now_us = self.moment().wall_us;
        let outgoing = Outgoing {
            sender,
            recipient: to,
            id: None,
            payload: &encoded,
            content_type: match &payload {
                Payload::Bytes(_) => ContentType::Bytes,
                Payload::Parts(_) => ContentType::Parts,
            },
            labels: &labels,
            in_reply_to,
            expects_reply,
            lifetime_us: None,
        };
        let delivered = self.bus().seal_and_deliver(&outgoing, now_us);
        self.touch(to);
        match delivered {
            Ok(symbi_bus::Sent { id, .. }) => {
                if expects_reply {
                    self.request_sent(id, asked.run, to);
                }
                if let Some(request) = in_reply_to {
                    self.request_over(request, Some(sender));
                }
                Ok((id, seq))
            }
            Err(error) => {
                // Allowed and recorded, and then it did not happen: the record of the operation must not stand alone.
                let details =
                    Object::new().string("outcome", "failed").string("error", error.code()).finish();
                let event = Event {
                    agent_id: Some(sender),
                    run: asked.run,
                    op: Some(operation),
                    ..Event::new("operation.outcome", &details)
                };
                let _ = self.log().append(&event);
                Err(error.into())
            }
        }
    }

    /// Takes up to `limit` messages from the agent's mailbox, each verified and opened (K31).
    ///
    /// # Errors
    /// No such agent. A message that does not verify is dropped and recorded, never handed over.
    pub fn receive_many(&self, agent: AgentId, limit: usize) -> Result<Vec<Received>, MessageError> {
        if self.agents().get(agent).is_none() {
            return Err(AgentError::Absent("agent").into());
        }
        let now_us = self.moment().wall_us;
        let taken = self.bus().receive_many(agent, limit, now_us)?;
        self.touch(agent);
        for refused in &taken.refused {
            self.record_refused_message(agent, refused.reason.code());
        }
        let payloads =
            taken.opened.into_iter().filter_map(|one| decode(&one.payload).map(|payload| (one, payload)));
        Ok(payloads.filter_map(|(one, payload)| self.read(agent, &one, payload)).collect())
    }

    /// Takes the answer to `request`, if it is there.
    ///
    /// # Errors
    /// Nobody waits for it.
    pub fn take_reply(&self, agent: AgentId, request: MessageId) -> Result<Option<Received>, MessageError> {
        match self.bus().take_reply(agent, request, self.moment().wall_us)? {
            Reply::Opened(one) => {
                Ok(decode(&one.payload).and_then(|payload| self.read(agent, &one, payload)))
            }
            Reply::Pending => Ok(None),
            Reply::Refused(refused) => {
                self.record_refused_message(agent, refused.reason.code());
                Ok(None)
            }
        }
    }

    /// Nobody waits for the answer to `request` any more.
    pub fn forget_reply(&self, agent: AgentId, request: MessageId) {
        if self.bus().forget_reply(agent, request).is_ok() {
            self.request_over(request, None);
        }
    }

    /// None where its reader's labels would grow past their bound: then it was not read, and that is recorded.
    fn read(&self, agent: AgentId, one: &Opened, payload: Payload) -> Option<Received> {
        let header = one.message.header();
        let sender_name = {
            let mut agents = self.agents();
            let known = agents.get_mut(agent)?;
            let room = known.has_room_for(&header.labels);
            if room {
                known.read(&header.labels); // K31
            }
            room.then(|| agents.get(header.sender).map(|known| known.spec.name.clone()).unwrap_or_default())
        };
        let Some(sender_name) = sender_name else {
            self.record_refused_message(agent, "too_many_labels");
            return None;
        };
        Some(Received {
            id: header.id,
            sender: header.sender,
            sender_name,
            labels: header.labels.clone(),
            created_us: header.created_us,
            in_reply_to: header.in_reply_to,
            payload,
        })
    }

    fn record_refused_message(&self, agent: AgentId, code: &str) {
        let details = Object::new().string("code", code).finish();
        let event = Event {
            agent_id: Some(agent),
            decision: Some("deny"),
            ..Event::new("message.refused", &details)
        };
        let _ = self.log().append(&event);
    }
}
