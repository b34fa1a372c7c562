//! The keys of one direction between two agents.
//!
//! A key is HKDF-SHA-256 of the X25519 secret of both identities, salted with the epoch's id, which is random; `info`
//! names the direction, both agreement keys and the sender's signing key. So the two directions have different keys, a
//! restart has different keys, and a counter that begins again at 1 never meets a key that has seen it (B3).

use std::sync::Arc;

use symbi_crypto::{AgreementError, KeyId, NonceCounter, Provider, PublicKey, SealingKey};
use symbi_types::{AgentId, Entropy};

use crate::Identity;
use crate::window::Window;

/// One key, from its agreement to its last message.
#[derive(Debug)]
pub(crate) struct Epoch {
    pub(crate) id: [u8; 16],
    pub(crate) key: Arc<SealingKey>,
    pub(crate) signer: PublicKey,
    pub(crate) signer_id: KeyId,
    pub(crate) window: Window,
    counter: NonceCounter,
    outstanding: usize, // sealed, or delivered, and not yet taken out of the mailbox
}

/// What a sealing needs, taken under the recipient's lock and used outside it.
#[derive(Debug)]
pub(crate) struct Ticket {
    pub(crate) epoch: [u8; 16],
    pub(crate) key: Arc<SealingKey>,
    pub(crate) counter: u64,
    pub(crate) nonce: [u8; 12],
}

/// What a session is opened with.
#[derive(Clone, Copy)]
pub(crate) struct Parties<'a> {
    pub(crate) sender: AgentId,
    pub(crate) recipient: AgentId,
    pub(crate) from: &'a Identity,
    pub(crate) to: &'a Identity,
    pub(crate) provider: Provider,
    pub(crate) entropy: &'a dyn Entropy,
    pub(crate) messages_per_key: u64,
}

/// The epochs of one direction, the current one last; older ones while messages of theirs are unread.
#[derive(Debug, Default)]
pub(crate) struct Session {
    epochs: Vec<Epoch>,
}

impl Session {
    /// The next number under the current key, or under a fresh one where that is used up or not of this identity.
    pub(crate) fn ticket(&mut self, parties: Parties<'_>) -> Result<Ticket, AgreementError> {
        let signer = parties.from.signing().key_id();
        let usable =
            |epoch: &Epoch| epoch.signer_id == signer && epoch.counter.given() < parties.messages_per_key;
        if !self.epochs.last().is_some_and(usable) {
            let fresh = open(parties)?;
            self.epochs.retain(|epoch| 0 < epoch.outstanding);
            self.epochs.push(fresh);
        }
        let epoch = self.epochs.last_mut().ok_or(AgreementError)?;
        let nonce = epoch.counter.next_nonce().map_err(|_| AgreementError)?;
        epoch.outstanding += 1;
        Ok(Ticket { epoch: epoch.id, key: Arc::clone(&epoch.key), counter: epoch.counter.given(), nonce })
    }

    pub(crate) fn epoch(&mut self, id: &[u8; 16]) -> Option<&mut Epoch> {
        self.epochs.iter_mut().rev().find(|epoch| epoch.id == *id)
    }

    /// A message came in by `deliver`, already sealed.
    pub(crate) fn came(&mut self, id: &[u8; 16]) {
        if let Some(epoch) = self.epoch(id) {
            epoch.outstanding += 1;
        }
    }

    /// A message left the mailbox, or never reached it.
    pub(crate) fn left(&mut self, id: &[u8; 16]) {
        if let Some(epoch) = self.epoch(id) {
            assert!(0 < epoch.outstanding, "what leaves a mailbox came into it");
            epoch.outstanding -= 1;
        }
    }

    /// Whether nothing unread is sealed under any of its keys.
    pub(crate) fn is_idle(&self) -> bool {
        self.epochs.iter().all(|epoch| epoch.outstanding == 0)
    }
}

fn open(parties: Parties<'_>) -> Result<Epoch, AgreementError> {
    let mut id = [0u8; 16];
    parties.entropy.fill(&mut id);
    let peer = parties.to.agreement().public();
    let info = [
        b"symbi/bus/session/v1\0".as_slice(),
        parties.sender.as_bytes(),
        parties.recipient.as_bytes(),
        &parties.from.agreement().public(),
        &peer,
        &parties.from.public().0,
    ]
    .concat();
    let key = parties.from.agreement().agree(&peer, &id, &info)?;
    Ok(Epoch {
        id,
        key: Arc::new(SealingKey::new(parties.provider, key)),
        signer: parties.from.public(),
        signer_id: parties.from.signing().key_id(),
        window: Window::default(),
        counter: NonceCounter::new(),
        outstanding: 0,
    })
}
