//! Keys as operations: whose there are, exchanging them, taking them back.
//!
//! Why: which key was whose, and from when until when, must be answered years later by somebody who was not there. So each
//! certificate stands in the trail when it is made, and each change of a key as an operation that policy decided.
//! Not here: the keys themselves (`symbi_bus`), the file of the runtime's (`message_key`).
//!
//! In the trail: `key.certified` with `certificate`, the base64 of its 184 bytes (docs/formats/message.md); an `operation`
//! of the action `key.change` whose `change` is `rotate` or `revoke`; and `key.exchanged` for the runtime's own, signed by
//! the old key and by the new one.
//!
//! Invariants
//! - K202 a certificate is in the trail before anything that its key signs is on disk.
//! - K203 a revocation stands in the trail before it is answered, and what its key signed is not handed out from then on.
//! - K204 the runtime's key is exchanged by a record that both keys have signed.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use symbi_audit::Event;
use symbi_bus::{BusError, Certificate};
use symbi_crypto::KeyId;
use symbi_policy::{Entity, vocabulary};
use symbi_types::AgentId;
use zeroize::Zeroizing;

use crate::Principal;
use crate::agents::AgentError;
use crate::json::Object;
use crate::kernel::{Kernel, lock};
use crate::keys::KeyError;
use crate::message_key;
use crate::monitor::{Asked, Granted};

/// How long a change of keys waits for its record; a disk that takes longer is broken.
const RECORD_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a key was not changed.
#[derive(Debug, thiserror::Error)]
pub enum KeyChangeError {
    /// Refused, invalid, or of an agent that is no more.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// The bus: it was revoked before.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The key's file.
    #[error(transparent)]
    File(#[from] KeyError),
}

/// An agent's keys, as they are shown.
#[derive(Clone, Debug)]
pub struct AgentKey {
    /// The agent's name.
    pub name: String,
    /// What the runtime vouches for.
    pub certificate: Certificate,
    /// Whether it was taken back.
    pub is_revoked: bool,
}

/// The runtime's key for messages was exchanged.
#[derive(Clone, Debug)]
pub struct KeyExchange {
    /// The former key.
    pub before: KeyId,
    /// The present one.
    pub after: KeyId,
    /// Certificates that were made under the new key.
    pub renewed: usize,
    /// The record.
    pub seq: u64,
}

/// The record of a certificate.
pub(crate) fn record_certificate(log: &symbi_audit::Log, certificate: &Certificate) {
    let details = Object::new()
        .display("key", certificate.signing.key_id())
        .string("certificate", &STANDARD.encode(certificate.to_bytes()))
        .finish();
    let event = Event { agent_id: Some(certificate.agent), ..Event::new("key.certified", &details) };
    let _ = log.append(&event); // a log that cannot write takes no message either
}

impl Kernel {
    /// The keys of all agents that have needed theirs, by name.
    #[must_use]
    pub fn agent_keys(&self) -> Vec<AgentKey> {
        let certificates = self.bus().certificates();
        let agents = self.agents();
        let named = certificates.into_iter().filter_map(|(certificate, is_revoked)| {
            let name = agents.get(certificate.agent)?.spec.name.clone();
            Some(AgentKey { name, certificate, is_revoked })
        });
        let mut keys: Vec<AgentKey> = named.collect();
        keys.sort_by(|one, other| {
            (&one.name, one.certificate.agent).cmp(&(&other.name, other.certificate.agent))
        });
        keys
    }

    /// The key that vouches for agents now.
    #[must_use]
    pub fn message_key(&self) -> KeyId {
        self.bus().authority().key_id()
    }

    /// Gives an agent other keys. What it sent before is still opened; answers the certificate and the record.
    ///
    /// # Errors
    /// Refused, or no such agent.
    pub fn rotate_agent_key(
        &self,
        by: Principal,
        agent: AgentId,
    ) -> Result<(Certificate, u64), KeyChangeError> {
        let (asked, granted) = self.may_change_key(by, agent, b"rotate")?;
        let extra = |details: Object| details.string("change", "rotate").display("agent", agent);
        let (_, seq) = self.record_internal(&asked, granted, extra).map_err(AgentError::from)?;
        self.wait_durable(seq, RECORD_TIMEOUT).map_err(|_| AgentError::from(self.unavailable()))?;
        let certificate = self.bus().rotate(agent, self.moment().wall_us)?;
        Ok((certificate, seq))
    }

    /// Takes an agent's keys back (K203): it sends nothing more, and what it sent and nobody has read is refused. Answers
    /// the certificate and the record. [`Kernel::rotate_agent_key`] lets it speak again.
    ///
    /// # Errors
    /// Refused; no such agent; revoked before.
    pub fn revoke_agent_key(
        &self,
        by: Principal,
        agent: AgentId,
    ) -> Result<(Certificate, u64), KeyChangeError> {
        let (asked, granted) = self.may_change_key(by, agent, b"revoke")?;
        let held = granted.held();
        let now_us = self.moment().wall_us;
        let certificate = self.bus().certificate(agent, now_us).inspect_err(|_| {
            self.undo(&held); // K21
        })?;
        let extra = |details: Object| {
            details
                .string("change", "revoke")
                .display("agent", agent)
                .display("key", certificate.signing.key_id())
                .string("serial", &format!("{:016x}", certificate.serial))
        };
        let (_, seq) = self.record_internal(&asked, granted, extra).map_err(AgentError::from)?;
        self.bus().revoke(agent, now_us)?; // before the disk: what is in the log's buffer stands in order
        self.wait_durable(seq, RECORD_TIMEOUT).map_err(|_| AgentError::from(self.unavailable()))?;
        Ok((certificate, seq))
    }

    /// Exchanges the key that vouches for agents (K200, K201, K204). Agents keep their keys under new certificates, and what
    /// is on its way is still opened. `passphrase` encrypts its file, as it does the others.
    ///
    /// # Errors
    /// Refused; the file cannot be written.
    pub fn rotate_message_key(
        &self,
        by: Principal,
        passphrase: Option<Zeroizing<Vec<u8>>>,
    ) -> Result<KeyExchange, KeyChangeError> {
        let asked = self.ask(by, "key.change", key("runtime/messages")?)?;
        let asked = Asked { arguments: Some(b"rotate"), ..asked };
        let granted = self.decide(&asked).map_err(AgentError::from)?;
        let one_after_the_other = lock(&self.messaging.exchanging);
        let directory = &self.key_directory;
        let provider = self.bus().provider();
        let held = granted.held();
        let passphrase = passphrase.as_ref().map(|passphrase| passphrase.as_slice());
        let next = message_key::prepare(directory, provider, &*self.secrets(), passphrase)
            .inspect_err(|_| self.undo(&held))?; // K21
        let at_us = self.moment().wall_us;
        let endorsement = self.bus().endorse(&next, at_us);
        let (before, after) = (endorsement.before.key_id(), next.key_id());
        let extra = |details: Object| {
            details.string("change", "rotate").display("before", before).display("after", after)
        };
        self.record_internal(&asked, granted, extra).map_err(AgentError::from)?;
        let details = Object::new()
            .display("before", before)
            .display("after", after)
            .string("before_public", &STANDARD.encode(endorsement.before.0))
            .string("after_public", &STANDARD.encode(next.public().0))
            .number("at_us", at_us)
            .string("by_before", &STANDARD.encode(endorsement.by_before))
            .string("by_after", &STANDARD.encode(endorsement.by_after))
            .finish();
        let event = Event::new("key.exchanged", &details);
        let seq = self.log().append(&event).map_err(|_| AgentError::from(self.unavailable()))?.seq;
        self.wait_durable(seq, RECORD_TIMEOUT).map_err(|_| AgentError::from(self.unavailable()))?;
        message_key::settle(directory)?;
        let renewed = self
            .bus()
            .rotate_authority(next, at_us)
            .map_err(|error| KeyError::unusable(directory, &error))?;
        drop(one_after_the_other);
        Ok(KeyExchange { before, after, renewed, seq })
    }

    fn may_change_key<'a>(
        &self,
        by: Principal,
        agent: AgentId,
        change: &'a [u8],
    ) -> Result<(Asked<'a>, Granted), KeyChangeError> {
        let name = self.agents().get(agent).map(|known| known.spec.name.clone());
        let name = name.ok_or(AgentError::Absent("agent"))?;
        let asked = self.ask(by, "key.change", key(&format!("agent/{name}"))?)?;
        let asked = Asked { agent: Some(agent), arguments: Some(change), ..asked };
        self.close_traffic(agent, None).map_err(AgentError::from)?; // what it said before stands before the change
        let granted = self.decide(&asked).map_err(AgentError::from)?;
        Ok((asked, granted))
    }
}

fn key(id: &str) -> Result<Entity, AgentError> {
    vocabulary::named("Key", id).map_err(|error| AgentError::Invalid(error.to_string()))
}
