//! The way of a message from its sender into a mailbox: one, many signed together, many signed one by one.
//!
//! The order is always: a place in the mailbox and a number under the key (one lock), sealing and signing (no lock), the
//! message into its place (one lock). Nothing is sealed for which there is no room (B4, B5).

use std::sync::{Arc, Mutex, PoisonError};

use symbi_crypto::merkle::{MerkleTree, PATH_MAX};
use symbi_types::{AgentId, LabelSet, MessageId};

use crate::authority::Credential;
use crate::bus::{Endpoint, full, open};
use crate::envelope::{LIFETIME_US_MAX, OVERHEAD_BYTES_MAX};
use crate::mailbox::Place;
use crate::seal::{Draft, Unsigned, lay_out, sign, sign_batch, sign_each};
use crate::session::Parties;
use crate::{Bus, BusError, ContentType, LABELS_MAX, PAYLOAD_BYTES_MAX, SecureMessage, Target};

/// Bytes that an envelope of a batch has after its signature, at most.
const INCLUSION_BYTES_MAX: usize = 2 + 32 * PATH_MAX;

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

const fn unrecorded(_: &[SecureMessage]) -> Result<(), std::convert::Infallible> {
    Ok(())
}

/// How messages that are sent together are signed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Signing {
    Batch,
    Each,
}

/// A message that has a place and a seal.
struct Placed {
    at: usize, // in the caller's list
    recipient: AgentId,
    endpoint: Arc<Endpoint>,
    place: Place,
    promised: usize,
    waits: Option<AgentId>, // who waits for the answer
}

/// Memory that sending works in, used again.
#[derive(Default)]
pub(crate) struct Desk {
    placed: Vec<Placed>,
    unsigned: Vec<Unsigned>,
    messages: Vec<SecureMessage>,
    tree: MerkleTree,
    ids: Vec<u8>,
    full: Vec<AgentId>, // recipients that had no room: nothing later may pass what they refused
}

/// Desks of one bus; there are as many as threads ever sent at once.
#[derive(Default)]
pub(crate) struct Desks(Mutex<Vec<Desk>>);

impl Desks {
    fn take(&self) -> Desk {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    fn give(&self, desk: Desk) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(desk);
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
        let sender = self.endpoint(outgoing.sender)?;
        let from = self.credential(&sender, outgoing.sender, now_us)?;
        let (placed, unsigned) = self.prepare(0, id, outgoing, (&sender, &from), false, now_us)?;
        let message = sign(&from, unsigned, &self.pool);
        match record(&message) {
            Ok(()) => Ok(self.lay_down(&placed, message)?),
            Err(error) => {
                self.take_back(&placed, &message);
                Err(SendError::Record(error))
            }
        }
    }

    /// As [`Bus::seal_and_deliver`] for many, signed together: one signature for each 256 in a row of one sender. What
    /// one message is refused for does not touch the others.
    ///
    /// Cost: about 1.5 µs each, and a signature for each 256.
    pub fn send_batch(&self, outgoing: &[Outgoing<'_>], now_us: u64) -> Vec<Result<Sent, BusError>> {
        let mut results = Vec::with_capacity(outgoing.len());
        self.send_batch_into(outgoing, now_us, &mut results);
        results
    }

    /// As [`Bus::send_batch`], into memory of the caller, which is cleared.
    pub fn send_batch_into(
        &self,
        outgoing: &[Outgoing<'_>],
        now_us: u64,
        results: &mut Vec<Result<Sent, BusError>>,
    ) {
        let Ok(()) = self.send_many(outgoing, Signing::Batch, now_us, unrecorded, results);
    }

    /// As [`Bus::send_batch`], with `record` called once on all messages that have a place, sealed and signed, in
    /// order, before anybody can receive one. Where that fails, none is delivered. It is not called for none.
    ///
    /// # Errors
    /// What `record` said.
    pub fn send_batch_recorded<E>(
        &self,
        outgoing: &[Outgoing<'_>],
        now_us: u64,
        record: impl FnOnce(&[SecureMessage]) -> Result<(), E>,
    ) -> Result<Vec<Result<Sent, BusError>>, E> {
        let mut results = Vec::with_capacity(outgoing.len());
        self.send_many(outgoing, Signing::Batch, now_us, record, &mut results).map(|()| results)
    }

    /// As [`Bus::send_batch`], with a signature of its own for each, on [`crate::BusOptions::workers`] threads.
    ///
    /// Cost: a signature each (about 7 µs, divided by the threads).
    pub fn send_each(&self, outgoing: &[Outgoing<'_>], now_us: u64) -> Vec<Result<Sent, BusError>> {
        let mut results = Vec::with_capacity(outgoing.len());
        let Ok(()) = self.send_many(outgoing, Signing::Each, now_us, unrecorded, &mut results);
        results
    }

    /// As [`Bus::send_batch_recorded`], with a signature of its own for each.
    ///
    /// # Errors
    /// What `record` said.
    pub fn send_each_recorded<E>(
        &self,
        outgoing: &[Outgoing<'_>],
        now_us: u64,
        record: impl FnOnce(&[SecureMessage]) -> Result<(), E>,
    ) -> Result<Vec<Result<Sent, BusError>>, E> {
        let mut results = Vec::with_capacity(outgoing.len());
        self.send_many(outgoing, Signing::Each, now_us, record, &mut results).map(|()| results)
    }

    fn send_many<E>(
        &self,
        outgoing: &[Outgoing<'_>],
        signing: Signing,
        now_us: u64,
        record: impl FnOnce(&[SecureMessage]) -> Result<(), E>,
        results: &mut Vec<Result<Sent, BusError>>,
    ) -> Result<(), E> {
        results.clear();
        let mut desk = self.desks.take();
        for run in outgoing.chunk_by(|left, right| left.sender == right.sender) {
            self.seal_run(run, signing, now_us, results, &mut desk);
        }
        let recorded = if desk.messages.is_empty() { Ok(()) } else { record(&desk.messages) };
        for (placed, message) in desk.placed.drain(..).zip(desk.messages.drain(..)) {
            if recorded.is_err() {
                self.take_back(&placed, &message);
                continue;
            }
            let outcome = self.lay_down(&placed, message);
            if let Some(result) = results.get_mut(placed.at) {
                *result = outcome;
            }
        }
        self.desks.give(desk);
        recorded
    }

    /// Seals and signs messages of one sender.
    fn seal_run(
        &self,
        run: &[Outgoing<'_>],
        signing: Signing,
        now_us: u64,
        results: &mut Vec<Result<Sent, BusError>>,
        desk: &mut Desk,
    ) {
        let Some(sender) = run.first().map(|first| first.sender) else { return };
        let known = self.endpoint(sender).and_then(|endpoint| {
            let from = self.credential(&endpoint, sender, now_us)?;
            Ok((endpoint, from))
        });
        let (endpoint, from) = match known {
            Ok(known) => known,
            Err(error) => {
                results.extend(run.iter().map(|_| Err(error.clone())));
                return;
            }
        };
        let first = results.len();
        desk.ids.clear();
        desk.full.clear();
        desk.ids.resize(16 * run.len(), 0);
        self.entropy.fill(&mut desk.ids); // one system call for all
        let (ids, _) = desk.ids.as_chunks::<16>();
        for (at, (one, random)) in run.iter().zip(ids).enumerate() {
            let id = one.id.unwrap_or_else(|| MessageId::random(&Drawn(*random)));
            let in_batch = signing == Signing::Batch;
            if desk.full.contains(&one.recipient) {
                let (messages, bytes) = self.unread(one.recipient).unwrap_or_default();
                results.push(Err(BusError::MailboxFull { agent: one.recipient, messages, bytes }));
                continue;
            }
            match self.prepare(first + at, id, one, (&endpoint, &from), in_batch, now_us) {
                Ok((placed, unsigned)) => {
                    desk.placed.push(placed);
                    desk.unsigned.push(unsigned);
                    results.push(Ok(Sent { id, leaf: [0; 32] })); // until it lies in its place
                }
                Err(error) => {
                    if matches!(error, BusError::MailboxFull { .. }) {
                        desk.full.push(one.recipient);
                    }
                    results.push(Err(error));
                }
            }
        }
        match signing {
            Signing::Batch => {
                sign_batch(&from, desk.unsigned.drain(..), &mut desk.tree, &self.pool, &mut desk.messages);
            }
            Signing::Each => {
                sign_each(&from, &mut desk.unsigned, self.options.workers, &self.pool, &mut desk.messages);
            }
        }
    }

    /// Gives a message its place, its number and its seal.
    fn prepare(
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
        let (epoch, stream) = (ticket.epoch, ticket.stream);
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
        match lay_out(from, &draft, in_batch, &self.pool) {
            Ok(unsigned) => {
                let recipient = outgoing.recipient;
                Ok((Placed { at, recipient, endpoint, place, promised, waits: None }, unsigned))
            }
            Err(_) => {
                if let Ok(inner) = open(&mut endpoint.mailbox(), outgoing.recipient) {
                    inner.release(place, promised);
                    inner.session(outgoing.sender).left(&epoch, &stream);
                }
                Err(no_key())
            }
        }
    }

    /// Lays a message into the place that was promised to it; where its recipient has left meanwhile, nobody waits for
    /// its answer either.
    fn lay_down(&self, placed: &Placed, message: SecureMessage) -> Result<Sent, BusError> {
        let sent = Sent { id: message.id(), leaf: message.leaf() };
        let laid = self.put(placed, message);
        match laid {
            Ok(ready) => {
                self.wake(ready, placed.recipient);
                Ok(sent)
            }
            Err(error) => {
                self.forget_request(placed, sent.id);
                Err(error)
            }
        }
    }

    fn put(&self, placed: &Placed, message: SecureMessage) -> Result<bool, BusError> {
        let mut mailbox = placed.endpoint.mailbox();
        let inner = open(&mut mailbox, placed.recipient)?;
        assert!(message.size() <= placed.promised, "M1: the place was promised for this size");
        inner.shrink(placed.place, placed.promised - message.size());
        inner.put(placed.place, message, self.bounds()).map_err(|load| full(placed.recipient, load))
    }

    /// Gives back the place of a message that is not delivered after all. Its number is not used again (S1).
    fn take_back(&self, placed: &Placed, message: &SecureMessage) {
        if let Ok(inner) = open(&mut placed.endpoint.mailbox(), placed.recipient) {
            inner.release(placed.place, placed.promised);
            inner.left(message);
        }
        self.forget_request(placed, message.id());
    }

    fn forget_request(&self, placed: &Placed, request: MessageId) {
        let Some(endpoint) = placed.waits.and_then(|agent| self.endpoint(agent).ok()) else { return };
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

/// Sixteen bytes that were drawn before, with those of other messages.
struct Drawn([u8; 16]);

impl symbi_types::Entropy for Drawn {
    fn fill(&self, buffer: &mut [u8]) {
        assert!(buffer.len() <= self.0.len(), "an id takes 16 bytes");
        buffer.iter_mut().zip(self.0).for_each(|(to, from)| *to = from);
    }
}
