//! The bus: who is on it, and the way of a message from its sender into the recipient's mailbox.
//!
//! Locks: one for the register of agents (read in the common case), one for each agent's mailbox. No lock is held while
//! another is taken, while anything is sealed, signed or verified, or while the hook runs.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use symbi_crypto::{Provider, PublicKey};
use symbi_types::{AgentId, Entropy, LabelSet, MessageId};

use crate::envelope::{LABELS_MAX, LIFETIME_US_MAX, OVERHEAD_BYTES_MAX, PAYLOAD_BYTES_MAX};
use crate::mailbox::{Bounds, Load, Mailbox};
use crate::session::{Parties, Ticket};
use crate::{BusError, Header, Identity, SecureMessage};

/// The bounds of a bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BusOptions {
    /// Messages in one mailbox, and replies one agent may wait for.
    pub mailbox_depth_max: usize,
    /// Bytes of envelopes in one mailbox, and of replies that wait to be taken.
    pub mailbox_bytes_max: usize,
    /// How long a message lives that does not say it, in microseconds.
    pub lifetime_us: u64,
    /// Messages under one key, at most 2^32.
    pub messages_per_key_max: u64,
}

impl Default for BusOptions {
    fn default() -> Self {
        Self {
            mailbox_depth_max: 1_024,
            mailbox_bytes_max: 4 << 20, // four of the largest payloads, or 1,024 of 4 KiB
            lifetime_us: 3_600_000_000, // an hour: an agent that is suspended for a while loses nothing
            messages_per_key_max: 1 << 32,
        }
    }
}

/// A message to be sent. The policy question is answered before it comes here.
#[derive(Clone, Debug)]
pub struct Outgoing<'a> {
    /// Who sends it.
    pub sender: AgentId,
    /// Who is to have it.
    pub recipient: AgentId,
    /// What it says.
    pub payload: &'a [u8],
    /// What the payload carries.
    pub labels: &'a LabelSet,
    /// The message it answers.
    pub in_reply_to: Option<MessageId>,
    /// Whether the sender waits for the answer (see [`Bus::take_reply`]).
    pub expects_reply: bool,
    /// Microseconds that it lives; `None` for [`BusOptions::lifetime_us`].
    pub lifetime_us: Option<u64>,
    /// Its id, where the caller must know it before; `None`: a fresh one.
    pub id: Option<MessageId>,
}

/// Why a message was not sent whose sending was to be recorded.
#[derive(Debug)]
pub enum SendError<E> {
    /// The bus did not take it.
    Bus(BusError),
    /// It was not recorded, and so not delivered.
    Record(E),
}

impl<E> From<BusError> for SendError<E> {
    fn from(error: BusError) -> Self {
        Self::Bus(error)
    }
}

/// Called with an agent whose mailbox was empty and is not, or whose reply came.
pub(crate) type Hook = Arc<dyn Fn(AgentId) + Send + Sync>;

/// What the bus knows of one agent. About a hundred bytes until the agent first speaks or is spoken to (B6).
#[derive(Debug)]
pub(crate) struct Endpoint {
    identity: OnceLock<Arc<Identity>>,
    mailbox: Mutex<Option<Box<Mailbox>>>,
}

impl Endpoint {
    /// A thread that panicked here broke an invariant by assertion; the others go on with what it left.
    pub(crate) fn mailbox(&self) -> MutexGuard<'_, Option<Box<Mailbox>>> {
        self.mailbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Everybody's mailboxes. Shared between threads.
pub struct Bus {
    pub(crate) options: BusOptions,
    entropy: Arc<dyn Entropy>,
    provider: Provider,
    pub(crate) endpoints: RwLock<HashMap<AgentId, Arc<Endpoint>>>,
    hook: RwLock<Option<Hook>>,
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bus").field("options", &self.options).field("agents", &self.agents()).finish()
    }
}

impl Bus {
    /// A bus without agents.
    #[must_use]
    pub fn new(options: BusOptions, entropy: Arc<dyn Entropy>, provider: Provider) -> Self {
        Self { options, entropy, provider, endpoints: RwLock::new(HashMap::new()), hook: RwLock::new(None) }
    }

    /// Calls `hook` whenever an agent has something to read that had nothing, and for each reply. It runs on the
    /// sender's thread, outside every lock, and should only wake somebody. An agent that leaves messages unread is not
    /// named again for them: read until nothing comes.
    pub fn on_ready(&self, hook: Arc<dyn Fn(AgentId) + Send + Sync>) {
        *self.hook.write().unwrap_or_else(PoisonError::into_inner) = Some(hook);
    }

    /// Puts an agent on the bus. Without an identity, one is made when it is first needed.
    ///
    /// # Errors
    /// [`BusError::AlreadyRegistered`].
    pub fn register(&self, agent: AgentId, identity: Option<Identity>) -> Result<(), BusError> {
        let endpoint = Endpoint { identity: OnceLock::new(), mailbox: Mutex::new(None) };
        if let Some(identity) = identity {
            endpoint.identity.get_or_init(|| Arc::new(identity));
        }
        match self.endpoints.write().unwrap_or_else(PoisonError::into_inner).entry(agent) {
            Entry::Occupied(_) => Err(BusError::AlreadyRegistered { agent }),
            Entry::Vacant(place) => {
                place.insert(Arc::new(endpoint));
                Ok(())
            }
        }
    }

    /// Takes an agent off the bus. Returns what it had not read, which is lost; what it had sent stays readable.
    ///
    /// # Errors
    /// [`BusError::UnknownAgent`].
    pub fn unregister(&self, agent: AgentId) -> Result<Vec<SecureMessage>, BusError> {
        let endpoint = self.endpoints.write().unwrap_or_else(PoisonError::into_inner).remove(&agent);
        let endpoint = endpoint.ok_or(BusError::UnknownAgent { agent })?;
        let unread = endpoint.mailbox().get_or_insert_default().close();
        Ok(unread)
    }

    /// How many agents are on the bus.
    #[must_use]
    pub fn agents(&self) -> usize {
        self.endpoints.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The key that an agent's messages are verified with; made now if it was not needed before.
    ///
    /// # Errors
    /// [`BusError::UnknownAgent`].
    pub fn public_key(&self, agent: AgentId) -> Result<PublicKey, BusError> {
        Ok(self.identity(&*self.endpoint(agent)?).public())
    }

    /// How many messages and bytes of envelopes an agent has not read.
    ///
    /// # Errors
    /// [`BusError::UnknownAgent`].
    pub fn unread(&self, agent: AgentId) -> Result<(usize, usize), BusError> {
        let load =
            self.endpoint(agent)?.mailbox().as_ref().map_or_else(Load::default, |mailbox| mailbox.load());
        Ok((load.messages, load.bytes))
    }

    /// Seals, signs and lays a message into the recipient's mailbox.
    ///
    /// # Errors
    /// Any [`BusError`]; nothing was delivered (B4), and nobody waits for a reply.
    ///
    /// Cost: one signature (about 9 µs); the first message from one agent to another also agrees on a key.
    pub fn seal_and_deliver(&self, outgoing: &Outgoing<'_>, now_us: u64) -> Result<MessageId, BusError> {
        match self.seal_record_deliver(outgoing, now_us, |_| Ok::<(), std::convert::Infallible>(())) {
            Ok(id) => Ok(id),
            Err(SendError::Bus(error)) => Err(error),
            Err(SendError::Record(never)) => match never {},
        }
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
    ) -> Result<MessageId, SendError<E>> {
        let lifetime_us = self.check(outgoing)?;
        let (sender, recipient) = (self.endpoint(outgoing.sender)?, self.endpoint(outgoing.recipient)?);
        let id = outgoing.id.unwrap_or_else(|| MessageId::random(&*self.entropy));
        if outgoing.expects_reply {
            let limit = self.options.mailbox_depth_max;
            // The request lives as long as it is given, and its answer as long as one that does not say it.
            let until_us = now_us.saturating_add(lifetime_us).saturating_add(self.options.lifetime_us);
            if !sender.mailbox().get_or_insert_default().wait(id, outgoing.recipient, until_us, limit) {
                return Err(BusError::TooManyRequests { agent: outgoing.sender, limit }.into());
            }
        }
        let times = (now_us, now_us.saturating_add(lifetime_us));
        let sent = self.send(id, outgoing, &sender, &recipient, times, record);
        if sent.is_err() && outgoing.expects_reply {
            sender.mailbox().get_or_insert_default().forget(id);
        }
        sent.map(|()| id)
    }

    fn send<E>(
        &self,
        id: MessageId,
        outgoing: &Outgoing<'_>,
        from: &Endpoint,
        to: &Endpoint,
        (created_us, expires_us): (u64, u64),
        record: impl FnOnce(&SecureMessage) -> Result<(), E>,
    ) -> Result<(), SendError<E>> {
        let (from, to_identity) = (self.identity(from), self.identity(to));
        let no_key = BusError::NoKey { sender: outgoing.sender, recipient: outgoing.recipient };
        let labels_bytes: usize = outgoing.labels.iter().map(|label| 1 + label.as_str().len()).sum();
        let bytes = crate::envelope::size(labels_bytes, outgoing.payload.len());
        let (place, ticket) = {
            let mut mailbox = to.mailbox();
            let mailbox = open(&mut mailbox, outgoing.recipient)?;
            let place = mailbox
                .reserve(outgoing.sender, outgoing.in_reply_to, bytes, self.bounds())
                .map_err(|load| full(outgoing.recipient, load))?;
            let parties = Parties {
                sender: outgoing.sender,
                recipient: outgoing.recipient,
                from: &from,
                to: &to_identity,
                provider: self.provider,
                entropy: &*self.entropy,
                messages_per_key: self.options.messages_per_key_max,
            };
            let ticket = mailbox.session(outgoing.sender).ticket(parties).map_err(|_| {
                mailbox.release(place, bytes);
                no_key.clone()
            })?;
            (place, ticket)
        };
        let Ticket { epoch, key, counter, nonce } = ticket;
        let header = Header {
            id,
            sender: outgoing.sender,
            recipient: outgoing.recipient,
            in_reply_to: outgoing.in_reply_to,
            signer: from.signing().key_id(),
            epoch,
            counter,
            created_us,
            expires_us,
            labels: outgoing.labels.clone(),
        };
        let seal = |associated: &[u8], data: &mut Vec<u8>| key.seal(nonce, associated, data);
        let built =
            SecureMessage::build(header, outgoing.payload, seal, |signed| from.signing().sign(signed));
        let recorded = built.map_err(|_| SendError::Bus(no_key)).and_then(|message| {
            record(&message).map_err(SendError::Record)?;
            Ok(message)
        });
        let mut mailbox = to.mailbox();
        let inner = open(&mut mailbox, outgoing.recipient)?;
        let message = recorded.inspect_err(|_| {
            inner.release(place, bytes);
            inner.session(outgoing.sender).left(&epoch);
        })?;
        assert!(message.size() == bytes, "M1: the place was promised for this size");
        let ready =
            inner.put(place, message, self.bounds()).map_err(|load| full(outgoing.recipient, load))?;
        drop(mailbox);
        self.wake(ready, outgoing.recipient);
        Ok(())
    }

    /// Lays an envelope that came from elsewhere into a mailbox. Whether it is to be believed is found when it is
    /// received.
    ///
    /// # Errors
    /// [`BusError::UnknownAgent`], [`BusError::MailboxFull`].
    pub fn deliver(&self, recipient: AgentId, message: SecureMessage) -> Result<(), BusError> {
        let endpoint = self.endpoint(recipient)?;
        let mut mailbox = endpoint.mailbox();
        let inner = open(&mut mailbox, recipient)?;
        let (sender, epoch) = (message.header().sender, message.header().epoch);
        let in_reply_to = message.header().in_reply_to;
        let place = inner
            .reserve(sender, in_reply_to, message.size(), self.bounds())
            .map_err(|load| full(recipient, load))?;
        if let Some(session) = inner.known_session(sender) {
            session.came(&epoch);
        }
        let ready = inner.put(place, message, self.bounds()).map_err(|load| full(recipient, load))?;
        drop(mailbox);
        self.wake(ready, recipient);
        Ok(())
    }

    const fn bounds(&self) -> Bounds {
        Bounds { depth: self.options.mailbox_depth_max, bytes: self.options.mailbox_bytes_max }
    }

    /// Refuses what no mailbox could take. The lifetime that the message gets.
    fn check(&self, outgoing: &Outgoing<'_>) -> Result<u64, BusError> {
        let limit = PAYLOAD_BYTES_MAX.min(self.options.mailbox_bytes_max.saturating_sub(OVERHEAD_BYTES_MAX));
        if limit < outgoing.payload.len() {
            return Err(BusError::PayloadTooLarge { bytes: outgoing.payload.len(), limit });
        }
        if LABELS_MAX < outgoing.labels.len() {
            return Err(BusError::TooManyLabels { count: outgoing.labels.len(), limit: LABELS_MAX });
        }
        let given = outgoing.lifetime_us.unwrap_or(self.options.lifetime_us);
        if given == 0 || LIFETIME_US_MAX < given {
            return Err(BusError::Lifetime { given, limit: LIFETIME_US_MAX });
        }
        Ok(given)
    }

    pub(crate) fn endpoint(&self, agent: AgentId) -> Result<Arc<Endpoint>, BusError> {
        let endpoints = self.endpoints.read().unwrap_or_else(PoisonError::into_inner);
        endpoints.get(&agent).cloned().ok_or(BusError::UnknownAgent { agent })
    }

    fn identity(&self, endpoint: &Endpoint) -> Arc<Identity> {
        let fresh = || Arc::new(Identity::random(self.provider, &*self.entropy));
        Arc::clone(endpoint.identity.get_or_init(fresh))
    }

    fn wake(&self, ready: bool, agent: AgentId) {
        if ready {
            let hook = self.hook.read().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(hook) = hook {
                hook(agent);
            }
        }
    }
}

/// The mailbox, unless its agent was taken off the bus meanwhile.
fn open(mailbox: &mut Option<Box<Mailbox>>, agent: AgentId) -> Result<&mut Mailbox, BusError> {
    let mailbox = mailbox.get_or_insert_default();
    if mailbox.closed { Err(BusError::UnknownAgent { agent }) } else { Ok(mailbox) }
}

fn full(agent: AgentId, load: Load) -> BusError {
    BusError::MailboxFull { agent, messages: load.messages, bytes: load.bytes }
}
