//! Messages between agents, behind the monitor: asked for, decided on, sealed, recorded, laid into a mailbox.
//!
//! Not here: reading them (`receiving`), many in one call (`sending_many`).
//!
//! Invariants
//! - K30 the sender is the one the channel says, never a name in the message.
//! - K32 a recipient that does not exist and one that may not be reached are refused alike.
//! - K153 a message for which there is no room leaves nothing behind but a bell that rings when there is.

use symbi_audit::Event;
use symbi_bus::{BusError, ContentType, Known, Outgoing, SecureMessage, SendError};
use symbi_policy::{Entity, Uid};
use symbi_types::{AgentId, LabelSet, MessageId, OperationId, RunId};

use crate::agents::{AgentError, check_labels};
use crate::content;
use crate::encoding::{check_size, content_type, encode};
use crate::exit::Payload;
use crate::json::Object;
use crate::kernel::{Kernel, lock};
use crate::monitor::{Asked, Granted};
use crate::refusal::{Refusal, RefusalCode};
use crate::{Principal, exit};

/// Who a message is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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

/// How sure a sender wants to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Guarantee {
    /// It is handed out once, or never.
    #[default]
    AtMostOnce,
    /// It is handed out until it is acknowledged, or dead.
    AtLeastOnce,
}

/// How a message is sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct SendOptions {
    /// The message it answers.
    pub in_reply_to: Option<MessageId>,
    /// Whether the sender waits for an answer.
    pub expects_reply: bool,
    /// How sure.
    pub guarantee: Guarantee,
    /// Its id, by which a second sending of it is recognised; none: a fresh one.
    pub id: Option<MessageId>,
    /// How long it lives, in microseconds; none: an hour.
    pub lifetime_us: Option<u64>,
}

/// A message that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Its id.
    pub id: MessageId,
    /// Its record, where it has one of its own and it is written.
    pub seq: Option<u64>,
    /// It was sent before, and nothing was done now.
    pub is_repeated: bool,
}

/// A message that was decided on, as it will be sealed.
pub(crate) struct Composed {
    pub(crate) asked: Asked<'static>,
    pub(crate) granted: Granted,
    pub(crate) to: AgentId,
    pub(crate) labels: LabelSet,
    pub(crate) content_type: ContentType,
    pub(crate) encoded: Vec<u8>,
}

/// What of a message is sealed, or stands on its envelope as it was decided on.
#[derive(Clone, Copy)]
pub(crate) struct Sealable<'a> {
    pub(crate) payload: &'a [u8],
    pub(crate) content_type: ContentType,
    pub(crate) labels: &'a LabelSet,
}

impl<'a> Sealable<'a> {
    /// As the bus takes it.
    pub(crate) const fn outgoing(
        self,
        (sender, recipient): (AgentId, AgentId),
        id: Option<MessageId>,
        options: &SendOptions,
    ) -> Outgoing<'a> {
        Outgoing {
            sender,
            recipient,
            id,
            payload: self.payload,
            content_type: self.content_type,
            labels: self.labels,
            in_reply_to: options.in_reply_to,
            expects_reply: options.expects_reply,
            lifetime_us: options.lifetime_us,
        }
    }
}

/// How long a message lives that does not say it, in microseconds.
pub(crate) const LIFETIME_US: u64 = 3_600_000_000;

impl Kernel {
    /// Sends one message: decided, sealed, signed, recorded, delivered to the recipient's mailbox. Answers its id and its
    /// record. As [`Kernel::send_with`], with the record written at once.
    ///
    /// # Errors
    /// As [`Kernel::send_with`].
    pub fn send(
        &self,
        sender: AgentId,
        recipient: &Recipient,
        payload: Payload,
        in_reply_to: Option<MessageId>,
        expects_reply: bool,
    ) -> Result<(MessageId, u64), MessageError> {
        let options = SendOptions { in_reply_to, expects_reply, ..SendOptions::default() };
        let sent = self.send_with(sender, recipient, payload, &options)?;
        let written = self.close_traffic(sender, None)?;
        Ok((sent.id, sent.seq.or(written).unwrap_or_default()))
    }

    /// Sends one message. It is recorded before anybody receives it, together with others that were decided alike.
    ///
    /// # Errors
    /// Refused, too large, or the mailbox is full: then nothing was delivered, and [`Kernel::drain_rooms`] names the
    /// recipient when it is worth another try.
    pub fn send_with(
        &self,
        sender: AgentId,
        recipient: &Recipient,
        payload: Payload,
        options: &SendOptions,
    ) -> Result<Sent, MessageError> {
        let asked = self.address(sender, recipient, &payload)?;
        let composed = self.compose(sender, asked, payload)?;
        self.post(sender, composed, options)
    }

    /// Who it is for, and the question that policy is asked. `None` beside it: nobody of that name.
    pub(crate) fn address(
        &self,
        sender: AgentId,
        recipient: &Recipient,
        payload: &Payload,
    ) -> Result<(Asked<'static>, Option<AgentId>), MessageError> {
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
        check_size(payload)?; // before anything is looked up or decided
        let to = found.as_ref().map(|(id, _)| *id);
        let resource = if let Some((_, entity)) = found {
            entity
        } else {
            let name = match recipient {
                Recipient::Agent(id) => id.to_string(),
                Recipient::Named(name) => name.clone(),
            };
            Entity::bare(Uid::new("Agent", &name).map_err(|error| AgentError::Invalid(error.to_string()))?)
        };
        let asked = self.ask(Principal::Agent(sender), "message.send", resource)?;
        match to {
            Some(to) if asked.subject.uid() == asked.resource.uid() => {
                let both = self
                    .agents()
                    .both(sender, to)
                    .map_err(AgentError::from)?
                    .ok_or(AgentError::Absent("agent"))?;
                Ok((Asked { subject: both.clone(), resource: both, ..asked }, Some(to)))
            }
            to => Ok((asked, to)),
        }
    }

    /// Labels, decides, redacts. Nothing is recorded but a refusal.
    pub(crate) fn compose(
        &self,
        sender: AgentId,
        (asked, to): (Asked<'static>, Option<AgentId>),
        payload: Payload,
    ) -> Result<Composed, MessageError> {
        self.admit(&asked)?;
        self.compose_admitted(sender, (asked, to), payload)
    }

    pub(crate) fn compose_admitted(
        &self,
        sender: AgentId,
        (asked, to): (Asked<'static>, Option<AgentId>),
        mut payload: Payload,
    ) -> Result<Composed, MessageError> {
        let carried = asked.labels.clone();
        let (labels, labelled) = self.label_payload(&mut payload, &carried, asked.subject.uid().id());
        check_labels(&labels)?;
        let asked = Asked { labels, bytes: payload.len() as u64, ..asked };
        self.within_rate(sender, &asked)?;
        let show = || content::of_message(&payload);
        let Some(to) = to else {
            return Err(self.refuse_absent_admitted(&asked, Some(&show)).into()); // K32
        };
        let granted = self.decide_admitted(&asked, Some(&show))?;
        if !self.agents().get(to).is_some_and(|known| known.has_room_for(&asked.labels)) {
            self.undo(&granted.held()); // K21
            let text = "the recipient cannot take on more labels";
            return Err(self.refuse(&asked, RefusalCode::Denied, None, text).into());
        }
        self.redacted(&asked, &granted, &mut payload, &labelled)?;
        let labels = remaining(&payload, &asked.labels);
        let content_type = content_type(&payload);
        let encoded = encode(payload).inspect_err(|_| self.undo(&granted.held()))?; // K21
        Ok(Composed { asked, granted, to, labels, content_type, encoded })
    }

    /// Meets the obligations of a permission, or refuses.
    pub(crate) fn redacted(
        &self,
        asked: &Asked<'_>,
        granted: &Granted,
        payload: &mut Payload,
        labelled: &exit::Labelled,
    ) -> Result<(), Refusal> {
        let Some(redact) = &granted.redact else { return Ok(()) };
        match payload {
            Payload::Parts(parts) => exit::redact_parts(parts, redact, labelled),
            Payload::Bytes(_) => return Err(self.refuse_opaque(asked, granted)),
        }
        Ok(())
    }

    /// Messages of one agent a second, where that is limited.
    pub(crate) fn within_rate(&self, sender: AgentId, asked: &Asked<'_>) -> Result<(), Refusal> {
        let Some(rates) = &self.messaging.rates else { return Ok(()) };
        if lock(rates).admit(sender, self.moment().mono_ns) {
            return Ok(());
        }
        let text = "too many messages; slow down";
        Err(self.refuse(asked, RefusalCode::RateLimited, None, text))
    }

    pub(crate) fn forget_rate(&self, sender: AgentId) {
        if let Some(rates) = &self.messaging.rates {
            lock(rates).forget(sender);
        }
    }

    pub(crate) fn tidy_rate(&self, sender: AgentId, now_ns: u64) -> Option<u64> {
        self.messaging.rates.as_ref().and_then(|rates| lock(rates).tidy(sender, now_ns))
    }

    /// Delivers what was decided on.
    pub(crate) fn post(
        &self,
        sender: AgentId,
        composed: Composed,
        options: &SendOptions,
    ) -> Result<Sent, MessageError> {
        let Composed { asked, granted, to, labels, content_type, encoded } = composed;
        let id = options.id.unwrap_or_else(|| MessageId::random(self.entropy()));
        let now_us = self.moment().wall_us;
        if options.guarantee == Guarantee::AtLeastOnce && !self.expect(to, id, options, now_us) {
            self.undo(&granted.held()); // K21: it is on its way, or done
            return Ok(Sent { id, seq: None, is_repeated: true });
        }
        let what = Sealable { payload: &encoded, content_type, labels: &labels };
        let outgoing = what.outgoing((sender, to), Some(id), options);
        match self.deliver(&outgoing, (&asked, granted), Some(to), now_us) {
            Ok(seq) => {
                self.touch(to);
                if options.expects_reply {
                    self.request_sent(id, asked.run, to);
                }
                if let Some(request) = options.in_reply_to {
                    self.request_over(request, Some(sender));
                }
                Ok(Sent { id, seq, is_repeated: false })
            }
            Err(error) => {
                if options.guarantee == Guarantee::AtLeastOnce {
                    lock(&self.messaging.deliveries).forget(to, id);
                }
                Err(error)
            }
        }
    }

    /// Seals, records and delivers. `recipient`: whom the record names; none for a topic's.
    pub(crate) fn deliver(
        &self,
        outgoing: &Outgoing<'_>,
        (asked, granted): (&Asked<'_>, Granted),
        recipient: Option<AgentId>,
        now_us: u64,
    ) -> Result<Option<u64>, MessageError> {
        let held = granted.held();
        let operation = granted.operation;
        let (mut granted, mut seq, mut recorded) = (Some(granted), None, false);
        let mut attempt = || {
            self.bus().seal_record_deliver(outgoing, now_us, |message| {
                let Some(granted) = granted.take() else { return Ok(()) };
                seq = self.record_message(asked, granted, (outgoing.sender, recipient), message)?;
                recorded = true;
                Ok::<(), Refusal>(())
            })
        };
        let mut sent = attempt();
        if matches!(sent, Err(SendError::Bus(BusError::MailboxFull { .. }))) {
            lock(&self.messaging.full).insert(outgoing.recipient); // K153; and again, or its reading could be missed
            sent = attempt();
        }
        match sent {
            Ok(_) => Ok(seq),
            Err(SendError::Record(refusal)) => Err(refusal.into()),
            Err(SendError::Bus(error)) => {
                if recorded {
                    self.record_undelivered((outgoing.sender, asked.run), operation, error.code());
                } else {
                    self.undo(&held); // K21
                }
                Err(error.into())
            }
        }
    }

    pub(crate) fn record_message(
        &self,
        asked: &Asked<'_>,
        granted: Granted,
        (sender, recipient): (AgentId, Option<AgentId>),
        message: &SecureMessage,
    ) -> Result<Option<u64>, Refusal> {
        if !granted.is_counted() {
            self.gather((sender, recipient), asked, &granted, [(message.id(), message.leaf())])?;
            return Ok(None);
        }
        let (_, seq) = self.record_internal(asked, granted, |details| match recipient {
            Some(to) => details.display("recipient", to).display("message", message.id()),
            None => details.display("message", message.id()),
        })?;
        Ok(Some(seq))
    }

    /// Allowed and recorded, and then it did not happen: the record of the operation must not stand alone.
    fn record_undelivered(
        &self,
        (sender, run): (AgentId, Option<RunId>),
        operation: OperationId,
        code: &'static str,
    ) {
        let details = Object::new().string("outcome", "failed").string("error", code).finish();
        let event = Event {
            agent_id: Some(sender),
            run,
            op: Some(operation),
            ..Event::new("operation.outcome", &details)
        };
        let _ = self.log().append(&event);
    }

    /// False where the message is on its way already, or finished.
    pub(crate) fn expect(&self, to: AgentId, id: MessageId, options: &SendOptions, now_us: u64) -> bool {
        let until_us = now_us.saturating_add(options.lifetime_us.unwrap_or(LIFETIME_US));
        let known = lock(&self.messaging.deliveries).expect(to, id, until_us, now_us);
        self.tell_due();
        known == Known::Fresh
    }
}

/// What a payload carries after its obligations were met.
pub(crate) fn remaining(payload: &Payload, labels: &LabelSet) -> LabelSet {
    match payload {
        Payload::Parts(parts) => parts.iter().fold(LabelSet::default(), |all, part| all.union(&part.labels)),
        Payload::Bytes(_) => labels.clone(),
    }
}
