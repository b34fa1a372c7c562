//! The runtime as the one who vouches for agents: certificates are made when an agent first needs its keys, renewed when
//! their time is over, and taken back.
//!
//! Not here: the runtime's own key, which the caller gives, and who may revoke (policy).
//!
//! Invariants
//! - AU1 no message is sealed or opened under a key whose certificate was revoked.
//! - AU2 after a rotation an agent has other keys; what it had sent before can still be opened.

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use symbi_crypto::{AgreementKey, KeyId, Provider, SignatureError, SigningKey, VerifyingKey};
use symbi_types::{AgentId, Entropy};

use crate::bus::Endpoint;
use crate::{Bus, BusError, Certificate, CertificateError, Identity, Refusal};

/// What others know of a signing key.
#[derive(Debug)]
pub(crate) struct Signer {
    key: VerifyingKey,
    certificate: Certificate,
    is_revoked: AtomicBool,
}

impl Signer {
    pub(crate) const fn key(&self) -> &VerifyingKey {
        &self.key
    }

    pub(crate) const fn serial(&self) -> u64 {
        self.certificate.serial
    }

    /// Whether the runtime vouches for what was made then (AU1).
    pub(crate) fn vouched(&self, created_us: u64) -> Result<(), Refusal> {
        if self.is_revoked.load(Ordering::Acquire) {
            Err(Refusal::Revoked)
        } else if self.certificate.is_current(created_us) {
            Ok(())
        } else {
            Err(Refusal::CertificateExpired)
        }
    }
}

/// An agent's keys, and the runtime's word for them.
#[derive(Debug)]
pub(crate) struct Credential {
    identity: Arc<Identity>,
    signer: Arc<Signer>,
}

impl Credential {
    pub(crate) fn signing(&self) -> &SigningKey {
        self.identity.signing()
    }

    pub(crate) fn agreement(&self) -> &AgreementKey {
        self.identity.agreement()
    }

    pub(crate) const fn signer(&self) -> &Arc<Signer> {
        &self.signer
    }
}

/// The runtime's key, and what it took back.
pub(crate) struct Authority {
    key: SigningKey,
    verifying: VerifyingKey,
    lifetime_us: u64,
    revoked: RwLock<HashSet<u64>>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authority({})", self.key.key_id())
    }
}

impl Authority {
    pub(crate) fn new(key: SigningKey, lifetime_us: u64) -> Result<Self, SignatureError> {
        let verifying = VerifyingKey::new(key.public())?;
        Ok(Self { key, verifying, lifetime_us, revoked: RwLock::default() })
    }

    /// A fresh one, for a bus that nobody outside knows.
    pub(crate) fn random(provider: Provider, entropy: &dyn Entropy, lifetime_us: u64) -> Self {
        loop {
            let key = Identity::random(provider, entropy).signing().clone();
            if let Ok(authority) = Self::new(key, lifetime_us) {
                return authority; // every seed gives a key that can be verified with: the loop runs once
            }
        }
    }

    fn certify(
        &self,
        agent: AgentId,
        identity: Arc<Identity>,
        entropy: &dyn Entropy,
        now_us: u64,
    ) -> Credential {
        let mut serial = [0u8; 8];
        entropy.fill(&mut serial);
        let unsigned = Certificate {
            agent,
            signing: identity.public(),
            agreement: identity.agreement().public(),
            not_before_us: now_us,
            not_after_us: now_us.saturating_add(self.lifetime_us),
            serial: u64::from_be_bytes(serial),
            issuer: KeyId([0; 16]),
            signature: [0; 64],
        };
        let signer = Signer {
            key: identity.verifying().clone(),
            certificate: unsigned.issue(&self.key),
            is_revoked: AtomicBool::new(false),
        };
        Credential { identity, signer: Arc::new(signer) }
    }
}

impl Bus {
    /// The key that vouches for agents here.
    #[must_use]
    pub fn authority(&self) -> &VerifyingKey {
        &self.authority.verifying
    }

    /// The agent's keys with a certificate that is valid now: made, or renewed, where there is none.
    ///
    /// # Errors
    /// [`BusError::Revoked`] (AU1).
    pub(crate) fn credential(
        &self,
        endpoint: &Endpoint,
        agent: AgentId,
        now_us: u64,
    ) -> Result<Arc<Credential>, BusError> {
        let usable = |known: &Arc<Credential>| match known.signer.vouched(now_us) {
            Ok(()) => Some(Ok(Arc::clone(known))),
            Err(Refusal::Revoked) => Some(Err(BusError::Revoked { agent })),
            Err(_) => None,
        };
        if let Some(found) = endpoint.credential().as_ref().and_then(usable) {
            return found;
        }
        let mut place = endpoint.credential_mut();
        if let Some(found) = place.as_ref().and_then(usable) {
            return found; // another thread was faster
        }
        let identity = match place.as_ref() {
            Some(outdated) => Arc::clone(&outdated.identity),
            None => Arc::new(Identity::random(self.provider, &*self.entropy)),
        };
        let fresh = Arc::new(self.authority.certify(agent, identity, &*self.entropy, now_us));
        *place = Some(Arc::clone(&fresh));
        Ok(fresh)
    }

    pub(crate) fn certify(&self, agent: AgentId, identity: Identity, now_us: u64) -> Arc<Credential> {
        Arc::new(self.authority.certify(agent, Arc::new(identity), &*self.entropy, now_us))
    }

    /// The runtime's word for an agent's present keys; both are made now if they were not needed before.
    ///
    /// # Errors
    /// [`BusError::UnknownAgent`], [`BusError::Revoked`].
    pub fn certificate(&self, agent: AgentId, now_us: u64) -> Result<Certificate, BusError> {
        let credential = self.credential(&*self.endpoint(agent)?, agent, now_us)?;
        Ok(credential.signer.certificate.clone())
    }

    /// Checks a certificate that came from somewhere: this runtime's, of now, not revoked (CT1, AU1).
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn verify_certificate(&self, certificate: &Certificate, now_us: u64) -> Result<(), CertificateError> {
        certificate.verify(&self.authority.verifying, now_us)?;
        let revoked = self.authority.revoked.read().unwrap_or_else(PoisonError::into_inner);
        if revoked.contains(&certificate.serial) { Err(CertificateError::Revoked) } else { Ok(()) }
    }

    /// Takes an agent's certificate back: it sends nothing more, and what it has sent and nobody has read is refused.
    /// Answers the serial. [`Bus::rotate`] lets it speak again, with other keys.
    ///
    /// # Errors
    /// [`BusError::UnknownAgent`]; [`BusError::Revoked`] where it was revoked before.
    pub fn revoke(&self, agent: AgentId, now_us: u64) -> Result<u64, BusError> {
        let credential = self.credential(&*self.endpoint(agent)?, agent, now_us)?;
        let serial = credential.signer.serial();
        self.authority.revoked.write().unwrap_or_else(PoisonError::into_inner).insert(serial);
        credential.signer.is_revoked.store(true, Ordering::Release);
        Ok(serial)
    }

    /// Gives an agent other keys, and a certificate for them (AU2). Answers the certificate.
    ///
    /// # Errors
    /// [`BusError::UnknownAgent`].
    pub fn rotate(&self, agent: AgentId, now_us: u64) -> Result<Certificate, BusError> {
        let endpoint = self.endpoint(agent)?;
        let fresh = self.certify(agent, Identity::random(self.provider, &*self.entropy), now_us);
        let certificate = fresh.signer.certificate.clone();
        *endpoint.credential_mut() = Some(fresh);
        Ok(certificate)
    }
}
