//! Many messages of one sender at once: places and numbers under one lock for each mailbox, sealing and signing divided
//! between the crew, and again one lock for each mailbox to lay them down.
//!
//! Not here: one message (`send`).

use std::sync::{Arc, Mutex, PoisonError};

use symbi_types::{AgentId, MessageId};

use crate::authority::Credential;
use crate::bus::{full, open};
use crate::mailbox::{Mailbox, Place};
use crate::seal::{Draft, Sealing, Ticket, Unsigned, lay_out, seal_all, signed};
use crate::send::{INCLUSION_BYTES_MAX, Outgoing, Part, Placed, Sent};
use crate::session::Parties;
use crate::{Bus, BusError, SecureMessage, Target};

const fn unrecorded(_: &[SecureMessage]) -> Result<(), std::convert::Infallible> {
    Ok(())
}

/// How messages that are sent together are signed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Signing {
    Batch,
    Each,
}

/// Memory that sending works in, used again.
#[derive(Default)]
pub(crate) struct Desk {
    placed: Vec<Placed>,
    unsigned: Vec<Unsigned>,
    messages: Vec<SecureMessage>,
    reserved: Vec<Reserved>,
    tickets: Vec<(Reserved, Ticket)>,
    shares: Vec<Option<Box<Sealing>>>,
    ids: Vec<u8>,
    lost: Vec<(Part, MessageId)>,
    full: Vec<AgentId>, // recipients that had no room: nothing later may pass what they refused
}

/// A place in a mailbox that was promised.
#[derive(Clone, Copy)]
struct Reserved {
    at: usize, // in the caller's list
    place: Place,
    promised: usize, // bytes
    expires_us: u64,
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
        let mut laid = desk.placed.drain(..).zip(desk.messages.drain(..)).peekable();
        while let Some((placed, message)) = laid.next() {
            if recorded.is_err() {
                self.take_back(&placed, &message);
                continue;
            }
            // Neighbours that go to one mailbox are laid there under one lock.
            let mut mailbox = placed.endpoint.mailbox();
            let is_beside =
                |(other, _): &(Placed, SecureMessage)| Arc::ptr_eq(&other.endpoint, &placed.endpoint);
            let mut is_ready = false;
            let mut next = Some((placed.part(), message));
            while let Some((part, message)) = next {
                let sent = Sent { id: message.id(), leaf: message.leaf() };
                let outcome = self.put(&mut mailbox, part, message).map(|ready| {
                    is_ready |= ready;
                    sent
                });
                if outcome.is_err() {
                    desk.lost.push((part, sent.id));
                }
                if let Some(result) = results.get_mut(part.at) {
                    *result = outcome;
                }
                next = laid.next_if(is_beside).map(|(other, message)| (other.part(), message));
            }
            drop(mailbox);
            self.wake(is_ready, placed.recipient);
        }
        drop(laid);
        for (part, id) in desk.lost.drain(..) {
            self.forget_request(part.waits, id);
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
        let (endpoint, from) = match self.party(sender, now_us) {
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
        let drawn = std::mem::take(&mut desk.ids);
        let (ids, _) = drawn.as_chunks::<16>();
        let in_batch = signing == Signing::Batch;
        let mut rest = ids;
        let mut at = first;
        for alike in run.chunk_by(|left, right| {
            left.recipient == right.recipient && !left.expects_reply && !right.expects_reply
        }) {
            let (ids, others) = rest.split_at_checked(alike.len()).unwrap_or_default();
            rest = others;
            let Some(one) = alike.first() else { continue };
            if desk.full.contains(&one.recipient) {
                let (messages, bytes) = self.unread(one.recipient).unwrap_or_default();
                let full = BusError::MailboxFull { agent: one.recipient, messages, bytes };
                results.extend(alike.iter().map(|_| Err(full.clone())));
            } else if one.expects_reply {
                let id = one
                    .id
                    .unwrap_or_else(|| MessageId::random(&Drawn(ids.first().copied().unwrap_or_default())));
                let prepared = self.prepare(at, id, one, (&endpoint, &from), in_batch, now_us);
                results.push(prepared.map(|(placed, unsigned)| {
                    desk.placed.push(placed);
                    desk.unsigned.push(unsigned);
                    Sent { id, leaf: [0; 32] }
                }));
                if matches!(results.last(), Some(Err(BusError::MailboxFull { .. }))) {
                    desk.full.push(one.recipient);
                }
            } else {
                self.place_alike(at, alike, ids, &from, in_batch, now_us, results, desk);
            }
            at += alike.len();
        }
        desk.ids = drawn;
        seal_all(&mut desk.unsigned, &from, in_batch, &self.crew, &mut desk.shares);
        self.drop_broken(results, desk);
        signed(&mut desk.unsigned, &self.pool, &mut desk.messages);
    }

    /// Gives messages to one recipient their places and numbers under one lock, and lays them out. What has no room is told,
    /// and nothing after it gets a place.
    #[expect(clippy::too_many_arguments, reason = "what is common to them, and where it goes")]
    fn place_alike(
        &self,
        first: usize,
        alike: &[Outgoing<'_>],
        ids: &[[u8; 16]],
        from: &Credential,
        in_batch: bool,
        now_us: u64,
        results: &mut Vec<Result<Sent, BusError>>,
        desk: &mut Desk,
    ) {
        let Some((sender, recipient)) = alike.first().map(|one| (one.sender, one.recipient)) else { return };
        let (endpoint, to) = match self.party(recipient, now_us) {
            Ok(known) => known,
            Err(error) => {
                results.extend(alike.iter().map(|_| Err(error.clone())));
                return;
            }
        };
        let target = Target::Agent(recipient);
        let parties = Parties {
            sender,
            recipient,
            from,
            to: &to,
            provider: self.provider,
            entropy: &*self.entropy,
            messages_per_key: self.options.messages_per_key_max,
        };
        desk.reserved.clear();
        desk.tickets.clear();
        let mut mailbox = endpoint.mailbox();
        let mut refused = None;
        for (at, one) in (first..).zip(alike) {
            if let Some(error) = &refused {
                results.push(Err(BusError::clone(error)));
                continue;
            }
            let reserved = self.check(one.payload, one.labels, one.lifetime_us).and_then(|lifetime_us| {
                let alone = Draft::envelope_bytes(&target, one.labels, one.payload.len());
                let promised = alone + if in_batch { INCLUSION_BYTES_MAX } else { 0 };
                let mailbox = open(&mut mailbox, recipient)?;
                let place = mailbox
                    .reserve(sender, one.in_reply_to, promised, self.bounds())
                    .map_err(|load| full(recipient, load))?;
                Ok(Reserved { at, place, promised, expires_us: now_us.saturating_add(lifetime_us) })
            });
            match reserved {
                Ok(reserved) => {
                    desk.reserved.push(reserved);
                    results.push(Ok(Sent { id: MessageId::MIN, leaf: [0; 32] })); // until it lies in its place
                }
                Err(error) => {
                    if matches!(error, BusError::MailboxFull { .. }) {
                        desk.full.push(recipient);
                        refused = Some(error.clone());
                    }
                    results.push(Err(error));
                }
            }
        }
        number(&mut mailbox, parties, results, desk);
        drop(mailbox);
        for (Reserved { at, place, promised, expires_us }, ticket) in desk.tickets.drain(..) {
            let within = at - first;
            let (Some(one), Some(random)) = (alike.get(within), ids.get(within)) else { continue };
            let draft = Draft {
                id: one.id.unwrap_or_else(|| MessageId::random(&Drawn(*random))),
                sender,
                target: target.clone(),
                payload: one.payload,
                content_type: one.content_type,
                labels: one.labels,
                in_reply_to: one.in_reply_to,
                created_us: now_us,
                expires_us,
                ticket,
            };
            desk.unsigned.push(lay_out(from, draft, in_batch, &self.pool));
            let endpoint = Arc::clone(&endpoint);
            desk.placed.push(Placed { at, recipient, endpoint, place, promised, waits: None });
        }
    }

    /// What could not be sealed gives its place back.
    fn drop_broken(&self, results: &mut [Result<Sent, BusError>], desk: &mut Desk) {
        if !desk.unsigned.iter().any(Unsigned::is_broken) {
            return;
        }
        let since = desk.placed.len() - desk.unsigned.len();
        let mut at = since;
        for one in std::mem::take(&mut desk.unsigned) {
            if !one.is_broken() {
                desk.unsigned.push(one);
                at += 1;
                continue;
            }
            let placed = desk.placed.remove(at);
            let header = one.header();
            self.give_place_back(&placed.part(), &placed.endpoint, header);
            if let Some(result) = results.get_mut(placed.at) {
                *result = Err(BusError::NoKey { sender: header.sender, recipient: placed.recipient });
            }
        }
    }
}

/// Gives what has a place a number under the key, which is looked up once; what gets none gives its place back.
fn number(
    mailbox: &mut Option<Box<Mailbox>>,
    parties: Parties<'_>,
    results: &mut [Result<Sent, BusError>],
    desk: &mut Desk,
) {
    let (Some(mailbox), false) = (mailbox, desk.reserved.is_empty()) else { return };
    let session = mailbox.session(parties.sender);
    desk.reserved.retain(|reserved| match session.ticket(parties) {
        Ok(ticket) => {
            desk.tickets.push((*reserved, ticket));
            false
        }
        Err(_) => true,
    });
    for Reserved { at, place, promised, .. } in desk.reserved.drain(..) {
        mailbox.release(place, promised);
        if let Some(result) = results.get_mut(at) {
            *result = Err(BusError::NoKey { sender: parties.sender, recipient: parties.recipient });
        }
    }
}

/// Sixteen bytes that were drawn before, with those of other messages.
struct Drawn([u8; 16]);

impl symbi_types::Entropy for Drawn {
    fn fill(&self, buffer: &mut [u8]) {
        let drawn = self.0.get(..buffer.len());
        buffer.copy_from_slice(drawn.unwrap_or_else(|| unreachable!("an id takes 16 bytes")));
    }
}
