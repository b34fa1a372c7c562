//! The keys of one topic: an epoch's key that all members share, and a new epoch when a member leaves.
//!
//! A message is sealed once, under the sender's own stream of the epoch's key, and laid before each member. Whoever has
//! left opens nothing any more: not what was sealed after, whose key it never had, and not what it had left unread. A
//! sender needs not be a member.
//! Not here: who may join (policy), whom a message is laid before (the caller), patterns.
//!
//! Invariants
//! - TK1 no message is sealed under a key that a former member had.
//! - TK2 a former epoch's keys are kept while something sealed under them is under way, and wiped then.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, PoisonError};

use symbi_crypto::{HpkeError, Provider, SealingKey, hpke_open, hpke_seal};
use symbi_types::{AgentId, Entropy};
use zeroize::Zeroizing;

use crate::authority::{Credential, Signer};
use crate::seal::Ticket;
use crate::stream::{Opening, Secret, Stream, epoch_id};
use crate::sync::{Mutex, MutexGuard};
use crate::{Certificate, Header, Identity, Refusal, Target, Topic};

#[derive(Debug)]
struct Epoch {
    id: [u8; 16],
    secret: Secret,
    members: HashSet<AgentId>,
    streams: HashMap<AgentId, Vec<Stream>>,
}

impl Epoch {
    fn new(members: HashSet<AgentId>, entropy: &dyn Entropy) -> Self {
        let secret = Secret::random(entropy);
        Self { id: epoch_id(&secret), secret, members, streams: HashMap::new() }
    }

    /// Whether something sealed under it is under way (TK2).
    fn is_needed(&self) -> bool {
        self.streams.values().flatten().any(|stream| 1 < Arc::strong_count(&stream.hold))
    }

    fn stream(&mut self, header: &Header) -> Option<&mut Stream> {
        let streams = self.streams.get_mut(&header.sender)?;
        streams.iter_mut().rev().find(|stream| stream.salt == header.stream)
    }
}

/// The epochs of one topic, the current one last.
pub struct TopicKeys {
    target: Target,
    provider: Provider,
    entropy: Arc<dyn Entropy>,
    messages_per_key: u64,
    epochs: Mutex<Vec<Epoch>>,
}

impl fmt::Debug for TopicKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TopicKeys").field("target", &self.target).finish_non_exhaustive()
    }
}

impl TopicKeys {
    pub(crate) fn new(
        topic: Topic,
        provider: Provider,
        entropy: Arc<dyn Entropy>,
        messages_per_key: u64,
    ) -> Self {
        let epochs = Mutex::new(vec![Epoch::new(HashSet::new(), &*entropy)]);
        Self { target: Target::Topic(topic), provider, entropy, messages_per_key, epochs }
    }

    fn epochs(&self) -> MutexGuard<'_, Vec<Epoch>> {
        self.epochs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) const fn target(&self) -> &Target {
        &self.target
    }

    /// Lets `member` open what is sealed from now on. False where it is a member already.
    pub fn join(&self, member: AgentId) -> bool {
        self.epochs().last_mut().is_some_and(|epoch| epoch.members.insert(member))
    }

    /// Takes the keys from `member`: what is sealed from now on is under a new one (TK1). False where it is no member.
    pub fn leave(&self, member: AgentId) -> bool {
        let mut epochs = self.epochs();
        if !epochs.last().is_some_and(|epoch| epoch.members.contains(&member)) {
            return false;
        }
        for epoch in epochs.iter_mut() {
            epoch.members.remove(&member); // of former epochs too: who joins again begins anew
            epoch.streams.values_mut().flatten().for_each(|stream| stream.forget(member));
        }
        let current = epochs.last().filter(|epoch| !epoch.streams.is_empty());
        if let Some(members) = current.map(|epoch| epoch.members.clone()) {
            epochs.retain(Epoch::is_needed);
            epochs.push(Epoch::new(members, &*self.entropy));
        } // otherwise nothing was sealed under its key: nobody has used it
        true
    }

    /// How many members there are.
    #[must_use]
    pub fn members(&self) -> usize {
        self.epochs().last().map_or(0, |epoch| epoch.members.len())
    }

    /// The name of the current epoch.
    #[must_use]
    pub fn epoch(&self) -> [u8; 16] {
        self.epochs().last().map(|epoch| epoch.id).unwrap_or_default()
    }

    /// How many epochs' keys are kept.
    #[must_use]
    pub fn epochs_kept(&self) -> usize {
        let mut epochs = self.epochs();
        prune(&mut epochs);
        epochs.len()
    }

    /// The current epoch's key, sealed (HPKE, RFC 9180) for the agreement key of a member outside this process.
    ///
    /// # Errors
    /// [`Refusal::NotMember`]; [`Refusal::Malformed`] for a key that nothing can be sealed for.
    pub fn wrap_for(&self, certificate: &Certificate) -> Result<WrappedKey, Refusal> {
        let epochs = self.epochs();
        let epoch = epochs.last().filter(|epoch| epoch.members.contains(&certificate.agent));
        let epoch = epoch.ok_or(Refusal::NotMember)?;
        let mut ephemeral = Zeroizing::new([0u8; 32]);
        self.entropy.fill(ephemeral.as_mut());
        let info = wrapping_info(&self.target, &epoch.id, certificate.agent);
        let recipient = &certificate.agreement;
        let sealed = hpke_seal(self.provider, recipient, &info, epoch.secret.as_slice(), &ephemeral);
        Ok(WrappedKey { epoch: epoch.id, sealed: sealed.map_err(|_| Refusal::Malformed)? })
    }

    /// The next number of the sender's own stream.
    pub(crate) fn ticket(&self, sender: AgentId, from: &Credential) -> Option<Ticket> {
        let mut epochs = self.epochs();
        prune(&mut epochs);
        let epoch = epochs.last_mut()?;
        let streams = epoch.streams.entry(sender).or_default();
        let usable = |stream: &Stream| stream.is_usable(from.signer(), self.messages_per_key);
        if !streams.last().is_some_and(usable) {
            streams.retain(|stream| 1 < Arc::strong_count(&stream.hold)); // TK2
            streams.push(Stream::open(Opening {
                secret: &epoch.secret,
                epoch: epoch.id,
                sender,
                signer: from.signer(),
                target: &self.target,
                provider: self.provider,
                entropy: &*self.entropy,
            }));
        }
        let stream = streams.last_mut()?;
        let ticket = stream.ticket()?;
        Some(Ticket { hold: Some(Arc::clone(&stream.hold)), ..ticket })
    }

    /// The keys that a message claims, for a member (TK1).
    pub(crate) fn find(
        &self,
        header: &Header,
        member: AgentId,
    ) -> Result<(Arc<SealingKey>, Arc<Signer>), Refusal> {
        let mut epochs = self.epochs();
        if !epochs.last().is_some_and(|epoch| epoch.members.contains(&member)) {
            return Err(Refusal::NotMember);
        }
        let epoch = epochs.iter_mut().rev().find(|epoch| epoch.id == header.epoch);
        let epoch = epoch.ok_or(Refusal::UnknownEpoch)?;
        if !epoch.members.contains(&member) {
            return Err(Refusal::NotMember);
        }
        let stream = epoch.stream(header).ok_or(Refusal::UnknownEpoch)?;
        Ok((Arc::clone(&stream.key), Arc::clone(&stream.signer)))
    }

    /// Whether the message is new to this member.
    pub(crate) fn accept(&self, header: &Header, member: AgentId) -> bool {
        let mut epochs = self.epochs();
        let epoch = epochs.iter_mut().rev().find(|epoch| epoch.id == header.epoch);
        let stream = epoch.and_then(|epoch| epoch.stream(header));
        stream.is_some_and(|stream| stream.window(member).accept(header.counter))
    }
}

/// An epoch's key on its way to a member outside the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrappedKey {
    /// The epoch.
    pub epoch: [u8; 16],
    /// The encapsulated key 32, then the sealed epoch key 48.
    pub sealed: Vec<u8>,
}

impl WrappedKey {
    /// Opens it with the member's own keys. The caller keeps, and the type wipes, what it finds.
    ///
    /// # Errors
    /// [`HpkeError`] for another member, topic or epoch, and for changed bytes.
    pub fn open(
        &self,
        provider: Provider,
        member: AgentId,
        keys: &Identity,
        topic: &Topic,
    ) -> Result<Zeroizing<Vec<u8>>, HpkeError> {
        let info = wrapping_info(&Target::Topic(topic.clone()), &self.epoch, member);
        hpke_open(provider, keys.agreement(), &info, &self.sealed)
    }
}

fn wrapping_info(target: &Target, epoch: &[u8; 16], member: AgentId) -> Vec<u8> {
    let topic = match target {
        Target::Topic(topic) => topic.as_str(),
        Target::Agent(_) => "",
    };
    [b"symbi/bus/topic-key/v1\0".as_slice(), epoch, member.as_bytes(), topic.as_bytes()].concat()
}

/// TK2: the current epoch stays, and of the others those that are needed.
fn prune(epochs: &mut Vec<Epoch>) {
    if 1 < epochs.len()
        && let Some(current) = epochs.pop()
    {
        epochs.retain(Epoch::is_needed);
        epochs.push(current);
    }
}
