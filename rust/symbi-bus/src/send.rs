//! The way of a message from its sender into a mailbox. Many at once: `together`.
//!
//! The order is always: a place in the mailbox and a number under the key (one lock), sealing and signing (no lock), the
//! message into its place (one lock). Nothing is sealed for which there is no room (B4, B5).

use std::sync::Arc;

use symbi_crypto::merkle::PATH_MAX;
use symbi_types::{AgentId, LabelSet, MessageId};

use crate::authority::Credential;
use crate::bus::{Endpoint, full, open};
use crate::envelope::{LIFETIME_US_MAX, OVERHEAD_BYTES_MAX};
use crate::mailbox::{Mailbox, Place};
use crate::seal::{Draft, Unsigned, lay_out, sign};
use crate::session::Parties;
use crate::{Bus, BusError, ContentType, Header, LABELS_MAX, PAYLOAD_BYTES_MAX, SecureMessage, Target};

/// Bytes that an envelope of a batch has after its signature, at most.
pub(crate) const INCLUSION_BYTES_MAX: usize = 2 + 32 * PATH_MAX;

/// A message to be sent. The policy question is answered before it comes here.
#[derive(Clone, Debug)]
pub struct Outgoing<'a> {
    /// Who sends it.
    pub sender: AgentId,
    /// Who is to have it.
    pub recipient: AgentId,
    /// Its id, where the caller must know it before, or sends it again; a fresh one otherwise.
    pub id: Option<MessageId>,
    /// What it says.
    pub payload: &'a [u8],
    /// What kind of bytes that is.
    pub content_type: ContentType,
    /// What the payload carries.
    pub labels: &'a LabelSet,
    /// The message it answers.
    pub in_reply_to: Option<MessageId>,
    /// Whether the sender waits for the answer (see [`Bus::take_reply`]).
    pub expects_reply: bool,
    /// Microseconds that it lives; `None` for [`crate::BusOptions::lifetime_us`].
    pub lifetime_us: Option<u64>,
}

/// A message that lies in its mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The message.
    pub id: MessageId,
    /// Its leaf: see [`SecureMessage::leaf`].
    pub leaf: [u8; 32],
}

/// Why messages were not sent whose sending was to be recorded.
#[derive(Debug)]
pub enum SendError<E> {
    /// The bus did not take them.
    Bus(BusError),
    /// They were not recorded, and so not delivered.
    Record(E),
}

impl<E> From<BusError> for SendError<E> {
    fn from(error: BusError) -> Self {
        Self::Bus(error)
    }
}

impl SendError<std::convert::Infallible> {
    pub(crate) fn bus(self) -> BusError {
        match self {
            Self::Bus(error) => error,
            Self::Record(never) => match never {},
        }
    }
}

/// A message that has a place and a seal.
pub(crate) struct Placed {
    pub(crate) at: usize, // in the caller's list
    pub(crate) recipient: AgentId,
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) place: Place,
    pub(crate) promised: usize,
    pub(crate) waits: Option<AgentId>, // who waits for the answer
}

/// A placed message without its mailbox.
#[derive(Clone, Copy)]
pub(crate) struct Part {
    pub(crate) at: usize,
    recipient: AgentId,
    place: Place,
    promised: usize,
    pub(crate) waits: Option<AgentId>,
}

impl Placed {
    pub(crate) const fn part(&self) -> Part {
        let Self { at, recipient, place, promised, waits, .. } = self;
        Part { at: *at, recipient: *recipient, place: *place, promised: *promised, waits: *waits }
    }
}

impl Bus {
    /// Seals, signs and lays a message into the recipient's mailbox.
    ///
    /// # Errors
    /// Any [`BusError`]; nothing was delivered (B4), and nobody waits for a reply.
    ///
    /// Cost: one signature (about 7 µs); the first message from one agent to another also agrees on a key.
    pub fn seal_and_deliver(&self, outgoing: &Outgoing<'_>, now_us: u64) -> Result<Sent, BusError> {
        let unrecorded = |_: &SecureMessage| Ok::<(), std::convert::Infallible>(());
        self.seal_record_deliver(outgoing, now_us, unrecorded).map_err(SendError::bus)
    }

    /// As [`Bus::seal_and_deliver`], with `record` called on the sealed message before anybody can receive it, outside
    /// every lock. Where that fails, nothing is delivered. A message for which there is no room is not recorded.
    ///
    /// # Errors
    /// Any [`BusError`], or what `record` said.
    pub fn seal_record_deliver<E>(
        &self,
        outgoing: &Outgoing<'_>,
        now_us: u64,
        record: impl FnOnce(&SecureMessage) -> Result<(), E>,
    ) -> Result<Sent, SendError<E>> {
        let id = outgoing.id.unwrap_or_else(|| MessageId::random(&*self.entropy));
        let (sender, from) = self.party(outgoing.sender, now_us)?;
        let (placed, mut unsigned) = self.prepare(0, id, outgoing, (&sender, &from), false, now_us)?;
        if unsigned.seal().is_err() {
            self.give_place_back(&placed.part(), &placed.endpoint, unsigned.header());
            let (sender, recipient) = (outgoing.sender, outgoing.recipient);
            return Err(BusError::NoKey { sender, recipient }.into());
        }
        let message = sign(&from, unsigned, &self.pool);
        match record(&message) {
            Ok(()) => Ok(self.lay_down(&placed, &from, message)?),
            Err(error) => {
                self.take_back(&placed, &message);
                Err(SendError::Record(error))
            }
        }
    }

    /// Gives a message its place, its number and its seal.
    pub(crate) fn prepare(
        &self,
        at: usize,
        id: MessageId,
        outgoing: &Outgoing<'_>,
        (sender, from): (&Endpoint, &Credential),
        in_batch: bool,
        now_us: u64,
    ) -> Result<(Placed, Unsigned), BusError> {
        let lifetime_us = self.check(outgoing.payload, outgoing.labels, outgoing.lifetime_us)?;
        let recipient = self.endpoint(outgoing.recipient)?;
        if outgoing.expects_reply {
            let limit = self.options.mailbox_depth_max;
            // The request lives as long as it is given, and its answer as long as one that does not say it.
            let until_us = now_us.saturating_add(lifetime_us).saturating_add(self.options.lifetime_us);
            if !sender.mailbox().get_or_insert_default().wait(id, outgoing.recipient, until_us, limit) {
                return Err(BusError::TooManyRequests { agent: outgoing.sender, limit });
            }
        }
        let expires_us = now_us.saturating_add(lifetime_us);
        let waits = outgoing.expects_reply.then_some(outgoing.sender);
        let prepared =
            self.seal_into_place(at, id, outgoing, from, recipient, in_batch, (now_us, expires_us));
        if prepared.is_err() && outgoing.expects_reply {
            sender.mailbox().get_or_insert_default().forget(id);
        }
        prepared.map(|(placed, unsigned)| (Placed { waits, ..placed }, unsigned))
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one message, each of another origin")]
    fn seal_into_place(
        &self,
        at: usize,
        id: MessageId,
        outgoing: &Outgoing<'_>,
        from: &Credential,
        endpoint: Arc<Endpoint>,
        in_batch: bool,
        (created_us, expires_us): (u64, u64),
    ) -> Result<(Placed, Unsigned), BusError> {
        let to = self.credential(&endpoint, outgoing.recipient, created_us)?;
        let no_key = || BusError::NoKey { sender: outgoing.sender, recipient: outgoing.recipient };
        let target = Target::Agent(outgoing.recipient);
        let alone = Draft::envelope_bytes(&target, outgoing.labels, outgoing.payload.len());
        let promised = alone + if in_batch { INCLUSION_BYTES_MAX } else { 0 };
        let (place, ticket) = {
            let mut mailbox = endpoint.mailbox();
            let mailbox = open(&mut mailbox, outgoing.recipient)?;
            let place = mailbox
                .reserve(outgoing.sender, outgoing.in_reply_to, promised, self.bounds())
                .map_err(|load| full(outgoing.recipient, load))?;
            let parties = Parties {
                sender: outgoing.sender,
                recipient: outgoing.recipient,
                from,
                to: &to,
                provider: self.provider,
                entropy: &*self.entropy,
                messages_per_key: self.options.messages_per_key_max,
            };
            let ticket = mailbox.session(outgoing.sender).ticket(parties).map_err(|_| {
                mailbox.release(place, promised);
                no_key()
            })?;
            (place, ticket)
        };
        let draft = Draft {
            id,
            sender: outgoing.sender,
            target,
            payload: outgoing.payload,
            content_type: outgoing.content_type,
            labels: outgoing.labels,
            in_reply_to: outgoing.in_reply_to,
            created_us,
            expires_us,
            ticket,
        };
        let recipient = outgoing.recipient;
        let unsigned = lay_out(from, draft, in_batch, &self.pool);
        Ok((Placed { at, recipient, endpoint, place, promised, waits: None }, unsigned))
    }

    /// Lays a message into the place that was promised to it; where its recipient has left meanwhile, nobody waits for
    /// its answer either.
    fn lay_down(&self, placed: &Placed, from: &Credential, message: SecureMessage) -> Result<Sent, BusError> {
        let sent = Sent { id: message.id(), leaf: message.leaf() };
        let ahead = self.ahead.takes(&message).then(|| message.clone());
        let laid = self.put(&mut placed.endpoint.mailbox(), placed.part(), message);
        match laid {
            Ok(ready) => {
                if let Some(message) = ahead.filter(|_| ready) {
                    self.ahead.give(message, from.signer()); // its reader is woken for this one
                }
                self.wake(ready, placed.recipient);
                Ok(sent)
            }
            Err(error) => {
                self.forget_request(placed.waits, sent.id);
                Err(error)
            }
        }
    }

    pub(crate) fn put(
        &self,
        mailbox: &mut Option<Box<Mailbox>>,
        part: Part,
        message: SecureMessage,
    ) -> Result<bool, BusError> {
        let inner = open(mailbox, part.recipient)?;
        assert!(message.size() <= part.promised, "M1: the place was promised for this size");
        inner.shrink(part.place, part.promised - message.size());
        inner.put(part.place, message, self.bounds()).map_err(|load| full(part.recipient, load))
    }

    /// Gives back the place of a message that is not delivered after all. Its number is not used again (S1).
    pub(crate) fn take_back(&self, placed: &Placed, message: &SecureMessage) {
        self.give_place_back(&placed.part(), &placed.endpoint, message.header());
    }

    pub(crate) fn give_place_back(&self, part: &Part, endpoint: &Endpoint, header: &Header) {
        if let Ok(inner) = open(&mut endpoint.mailbox(), part.recipient) {
            inner.release(part.place, part.promised);
            inner.session(header.sender).left(&header.epoch, &header.stream);
        }
        self.forget_request(part.waits, header.id);
    }

    pub(crate) fn forget_request(&self, waits: Option<AgentId>, request: MessageId) {
        let Some(endpoint) = waits.and_then(|agent| self.endpoint(agent).ok()) else { return };
        if let Some(mailbox) = endpoint.mailbox().as_mut() {
            mailbox.forget(request);
        }
    }

    /// Refuses what no mailbox could take. The lifetime that the message gets.
    pub(crate) fn check(
        &self,
        payload: &[u8],
        labels: &LabelSet,
        lifetime_us: Option<u64>,
    ) -> Result<u64, BusError> {
        let limit = PAYLOAD_BYTES_MAX.min(self.options.mailbox_bytes_max.saturating_sub(OVERHEAD_BYTES_MAX));
        if limit < payload.len() {
            return Err(BusError::PayloadTooLarge { bytes: payload.len(), limit });
        }
        if LABELS_MAX < labels.len() {
            return Err(BusError::TooManyLabels { count: labels.len(), limit: LABELS_MAX });
        }
        let given = lifetime_us.unwrap_or(self.options.lifetime_us);
        if given == 0 || LIFETIME_US_MAX < given {
            return Err(BusError::Lifetime { given, limit: LIFETIME_US_MAX });
        }
        Ok(given)
    }
}
