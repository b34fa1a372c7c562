//! One sender's keys under one epoch, from the first message to the last, and the derivations of all keys of the bus.
//!
//! A message is sealed under a key of its own sender and start: HKDF-SHA-256 of the epoch's key, salted with 32 random
//! bytes. So two senders, two starts, and two copies of one data directory never meet under one key, and a counter that
//! begins again at 1 never meets a key that has seen it (B3).

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use symbi_crypto::{NonceCounter, Provider, SealingKey, VerifyingKey, hkdf_sha256};
use symbi_types::{AgentId, Entropy};
use zeroize::Zeroizing;

use crate::Target;
use crate::authority::Signer;
use crate::seal::Ticket;
use crate::window::Window;

/// A key that streams are derived from. Wiped when it is dropped.
pub(crate) struct Secret(Zeroizing<[u8; 32]>);

impl Secret {
    pub(crate) fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    pub(crate) fn random(entropy: &dyn Entropy) -> Self {
        let mut bytes = Zeroizing::new([0u8; 32]);
        entropy.fill(bytes.as_mut());
        Self(bytes)
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        self.0.as_slice()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret") // never what it is
    }
}

/// The public name of a secret: it binds the secret, which AES-GCM by itself does not.
pub(crate) fn epoch_id(secret: &Secret) -> [u8; 16] {
    let derived = hkdf_sha256(secret.as_slice(), b"", b"symbi/bus/epoch/v1\0");
    derived.first_chunk().copied().unwrap_or_default()
}

/// What a stream is opened with.
#[derive(Clone, Copy)]
pub(crate) struct Opening<'a> {
    pub(crate) secret: &'a Secret,
    pub(crate) epoch: [u8; 16],
    pub(crate) sender: AgentId,
    pub(crate) signer: &'a Arc<Signer>,
    pub(crate) target: &'a Target,
    pub(crate) provider: Provider,
    pub(crate) entropy: &'a dyn Entropy,
}

/// The key of a stream: docs/formats/message.md, "Keys".
pub(crate) fn stream_key(
    secret: &Secret,
    salt: &[u8; 32],
    epoch: &[u8; 16],
    sender: AgentId,
    signer: &VerifyingKey,
    target: &Target,
) -> [u8; 32] {
    let (kind, name): (u8, &[u8]) = match target {
        Target::Agent(agent) => (0, agent.as_bytes()),
        Target::Topic(topic) => (1, topic.as_str().as_bytes()),
    };
    let info =
        [b"symbi/bus/stream/v1\0".as_slice(), epoch, sender.as_bytes(), &signer.public().0, &[kind], name]
            .concat();
    hkdf_sha256(secret.as_slice(), salt, &info)
}

/// One sender's key, its counter, and what was received of it.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) salt: [u8; 32],
    pub(crate) epoch: [u8; 16],
    pub(crate) key: Arc<SealingKey>,
    pub(crate) signer: Arc<Signer>,
    /// What is under way of a topic's stream keeps this; a session counts instead.
    pub(crate) hold: Arc<()>,
    windows: HashMap<AgentId, Window>,
    counter: NonceCounter,
}

impl Stream {
    pub(crate) fn open(opening: Opening<'_>) -> Self {
        let mut salt = [0u8; 32];
        opening.entropy.fill(&mut salt);
        let Opening { secret, epoch, sender, signer, target, provider, .. } = opening;
        let key = stream_key(secret, &salt, &epoch, sender, signer.key(), target);
        Self {
            salt,
            epoch,
            key: Arc::new(SealingKey::new(provider, key)),
            signer: Arc::clone(signer),
            hold: Arc::new(()),
            windows: HashMap::new(),
            counter: NonceCounter::new(),
        }
    }

    /// Whether it can seal another message, for the sender's present certificate.
    pub(crate) fn is_usable(&self, signer: &Signer, messages_max: u64) -> bool {
        self.signer.serial() == signer.serial() && self.counter.given() < messages_max
    }

    /// The next number (S1); `None` past 2^32.
    pub(crate) fn ticket(&mut self) -> Option<Ticket> {
        let nonce = self.counter.next_nonce().ok()?;
        Some(Ticket {
            epoch: self.epoch,
            stream: self.salt,
            key: Arc::clone(&self.key),
            counter: self.counter.given(),
            nonce,
            hold: None,
        })
    }

    /// The numbers that a receiver has had.
    pub(crate) fn window(&mut self, receiver: AgentId) -> &mut Window {
        self.windows.entry(receiver).or_default()
    }

    /// Forgets what a receiver had.
    pub(crate) fn forget(&mut self, receiver: AgentId) {
        self.windows.remove(&receiver);
    }
}
