//! The bus: who is on it, whose keys are whose, and what comes from elsewhere. Sending is `send`, receiving `receive`.
//!
//! Locks: one for the register of agents (read in the common case), one for each agent's mailbox, one for each topic's
//! keys, which is taken under a mailbox's and never the other way round. Nothing is sealed, signed or verified under a
//! lock, and the hook runs outside them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::{Arc, PoisonError};

use symbi_crypto::{Provider, PublicKey, SignatureError, SigningKey};
use symbi_types::{AgentId, Entropy};

use crate::ahead::Ahead;
use crate::authority::{Authority, Credential};
use crate::crew::Crew;
use crate::mailbox::{Bounds, Load, Mailbox};
use crate::pool::Pool;
use crate::receive::OpenDesks;
use crate::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
use crate::together::Desks;
use crate::{BusError, Identity, OVERHEAD_BYTES_MAX, SecureMessage, Topic, TopicKeys};

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
    /// How long a certificate is valid, in microseconds; then it is renewed.
    pub certificate_lifetime_us: u64,
    /// Threads that seal and sign, or verify and open, many messages: whoever sends or receives is one of them. With more than
    /// one, a message that is alone is checked while its reader is being woken.
    pub workers: usize,
}

impl Default for BusOptions {
    fn default() -> Self {
        Self {
            mailbox_depth_max: 1_024,
            mailbox_bytes_max: 4 << 20, // four of the largest payloads, or 1,024 of 4 KiB
            lifetime_us: 3_600_000_000, // an hour: an agent that is suspended for a while loses nothing
            messages_per_key_max: 1 << 32,
            certificate_lifetime_us: 30 * 86_400_000_000, // a month: longer than a message lives, shorter than a job
            workers: 2,
        }
    }
}

/// Called with an agent whose mailbox was empty and is not, or whose reply came.
pub(crate) type Hook = Arc<dyn Fn(AgentId) + Send + Sync>;

/// What the bus knows of one agent. About a hundred bytes until the agent first speaks or is spoken to (B6).
#[derive(Debug)]
pub(crate) struct Endpoint {
    credential: RwLock<Option<Arc<Credential>>>,
    mailbox: Mutex<Option<Box<Mailbox>>>,
}

impl Endpoint {
    pub(crate) fn credential(&self) -> RwLockReadGuard<'_, Option<Arc<Credential>>> {
        self.credential.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn credential_mut(&self) -> RwLockWriteGuard<'_, Option<Arc<Credential>>> {
        self.credential.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// A thread that panicked here broke an invariant by assertion; the others go on with what it left.
    pub(crate) fn mailbox(&self) -> MutexGuard<'_, Option<Box<Mailbox>>> {
        self.mailbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Everybody's mailboxes. Shared between threads.
pub struct Bus {
    pub(crate) options: BusOptions,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) provider: Provider,
    pub(crate) endpoints: RwLock<HashMap<AgentId, Arc<Endpoint>>>,
    pub(crate) authority: Authority,
    pub(crate) pool: Arc<Pool>,
    pub(crate) crew: Crew,
    pub(crate) ahead: Ahead,
    pub(crate) desks: Desks,
    pub(crate) open_desks: OpenDesks,
    topics: RwLock<HashMap<Topic, Arc<TopicKeys>>>,
    hook: RwLock<Option<Hook>>,
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bus").field("options", &self.options).field("agents", &self.agents()).finish()
    }
}

impl Bus {
    /// A bus without agents, whose certificates are signed by a fresh key that nobody else knows.
    #[must_use]
    pub fn new(options: BusOptions, entropy: Arc<dyn Entropy>, provider: Provider) -> Self {
        let authority = Authority::random(provider, &*entropy, options.certificate_lifetime_us);
        Self::of(options, entropy, provider, authority)
    }

    /// A bus whose certificates are signed by the runtime's key.
    ///
    /// # Errors
    /// [`SignatureError`] for a key whose public half cannot be verified with, which no seed has.
    pub fn with_authority(
        options: BusOptions,
        entropy: Arc<dyn Entropy>,
        provider: Provider,
        key: SigningKey,
    ) -> Result<Self, SignatureError> {
        let authority = Authority::new(key, options.certificate_lifetime_us)?;
        Ok(Self::of(options, entropy, provider, authority))
    }

    fn of(options: BusOptions, entropy: Arc<dyn Entropy>, provider: Provider, authority: Authority) -> Self {
        Self {
            crew: Crew::new(options.workers),
            ahead: Ahead::new(options.workers),
            authority,
            options,
            entropy,
            provider,
            endpoints: RwLock::new(HashMap::new()),
            pool: Arc::default(),
            desks: Desks::default(),
            open_desks: OpenDesks::default(),
            topics: RwLock::new(HashMap::new()),
            hook: RwLock::new(None),
        }
    }

    /// Calls `hook` whenever an agent has something to read that had nothing, and for each reply. It runs on the
    /// sender's thread, outside every lock, and should only wake somebody. An agent that leaves messages unread is not
    /// named again for them: read until nothing comes.
    pub fn on_ready(&self, hook: Arc<dyn Fn(AgentId) + Send + Sync>) {
        *self.hook.write().unwrap_or_else(PoisonError::into_inner) = Some(hook);
    }

    /// Puts an agent with keys that exist on the bus, certified as of `now_us`.
    ///
    /// # Errors
    /// [`BusError::AlreadyRegistered`].
    pub fn register_as(&self, agent: AgentId, identity: Identity, now_us: u64) -> Result<(), BusError> {
        self.enter(agent, Some(self.certify(agent, identity, now_us)))
    }

    /// Puts an agent on the bus. Its keys are made when they are first needed.
    ///
    /// # Errors
    /// [`BusError::AlreadyRegistered`].
    pub fn register(&self, agent: AgentId) -> Result<(), BusError> {
        self.enter(agent, None)
    }

    fn enter(&self, agent: AgentId, credential: Option<Arc<Credential>>) -> Result<(), BusError> {
        let endpoint = Endpoint { credential: RwLock::new(credential), mailbox: Mutex::new(None) };
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
    /// [`BusError::UnknownAgent`], [`BusError::Revoked`].
    pub fn public_key(&self, agent: AgentId, now_us: u64) -> Result<PublicKey, BusError> {
        let (_, credential) = self.party(agent, now_us)?;
        Ok(credential.signer().key().public())
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

    /// Whether a message with a payload of so many bytes, however it is labelled, would find room now.
    #[must_use]
    pub fn has_room(&self, agent: AgentId, payload_bytes: usize) -> bool {
        let Ok(endpoint) = self.endpoint(agent) else { return true }; // nothing is full that is not there
        let load = endpoint.mailbox().as_ref().map_or_else(Load::default, |mailbox| mailbox.load());
        load.messages < self.options.mailbox_depth_max
            && load.bytes + payload_bytes + OVERHEAD_BYTES_MAX <= self.options.mailbox_bytes_max
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
        let header = message.header();
        let place = inner
            .reserve(header.sender, header.in_reply_to, message.size(), self.bounds())
            .map_err(|load| full(recipient, load))?;
        if let Some(session) = inner.known_session(header.sender) {
            session.came(&header.epoch, &header.stream);
        }
        let ready = inner.put(place, message, self.bounds()).map_err(|load| full(recipient, load))?;
        drop(mailbox);
        self.wake(ready, recipient);
        Ok(())
    }

    /// The threads that stand by for shares of work.
    #[must_use]
    pub const fn crew(&self) -> &Crew {
        &self.crew
    }

    pub(crate) const fn bounds(&self) -> Bounds {
        Bounds { depth: self.options.mailbox_depth_max, bytes: self.options.mailbox_bytes_max }
    }

    /// The keys of a topic, made when they are first asked for.
    #[must_use]
    pub fn topic_keys(&self, topic: &Topic) -> Arc<TopicKeys> {
        if let Some(keys) = self.known_topic(topic) {
            return keys;
        }
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        let (entropy, per_key) = (Arc::clone(&self.entropy), self.options.messages_per_key_max);
        let fresh = || Arc::new(TopicKeys::new(topic.clone(), self.provider, entropy, per_key));
        Arc::clone(topics.entry(topic.clone()).or_insert_with(fresh))
    }

    /// Lets the keys of a topic go that has no members; false where it has some, or is not known.
    pub fn drop_topic(&self, topic: &Topic) -> bool {
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        let is_idle = topics.get(topic).is_some_and(|keys| keys.members() == 0);
        is_idle && topics.remove(topic).is_some()
    }

    pub(crate) fn known_topic(&self, topic: &Topic) -> Option<Arc<TopicKeys>> {
        self.topics.read().unwrap_or_else(PoisonError::into_inner).get(topic).cloned()
    }

    pub(crate) fn endpoint(&self, agent: AgentId) -> Result<Arc<Endpoint>, BusError> {
        let endpoints = self.endpoints.read().unwrap_or_else(PoisonError::into_inner);
        endpoints.get(&agent).cloned().ok_or(BusError::UnknownAgent { agent })
    }

    pub(crate) fn all_endpoints(&self) -> Vec<(AgentId, Arc<Endpoint>)> {
        let endpoints = self.endpoints.read().unwrap_or_else(PoisonError::into_inner);
        endpoints.iter().map(|(agent, endpoint)| (*agent, Arc::clone(endpoint))).collect()
    }

    pub(crate) fn wake(&self, ready: bool, agent: AgentId) {
        if ready {
            let hook = self.hook.read().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(hook) = hook {
                hook(agent);
            }
        }
    }
}

/// The mailbox, unless its agent was taken off the bus meanwhile.
pub(crate) fn open(mailbox: &mut Option<Box<Mailbox>>, agent: AgentId) -> Result<&mut Mailbox, BusError> {
    let mailbox = mailbox.get_or_insert_default();
    if mailbox.closed { Err(BusError::UnknownAgent { agent }) } else { Ok(mailbox) }
}

pub(crate) fn full(agent: AgentId, load: Load) -> BusError {
    BusError::MailboxFull { agent, messages: load.messages, bytes: load.bytes }
}
