//! The runtime as the one who vouches for agents: certificates are made when an agent first needs its keys, renewed when
//! their time is over, and taken back.
//!
//! Not here: the runtime's own key, which the caller gives; taking back and exchanging (`rotation`); who may (policy).
//!
//! Invariants
//! - AU1 no message is sealed or opened under a key that was revoked, whichever of its certificates it was made under.
//! - AU2 after a rotation an agent has other keys; what it had sent before can still be opened.
//! - AU3 whoever asked to be told of certificates is told of each that is made, once, before anything is signed under it.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, PoisonError};

use symbi_crypto::{AgreementKey, KeyId, Provider, SignatureError, SigningKey, VerifyingKey};
use symbi_types::{AgentId, Entropy};

use crate::bus::Endpoint;
use crate::sync::{AtomicBool, Ordering, RwLock, RwLockReadGuard, RwLockWriteGuard};
use crate::{Bus, BusError, Certificate, Identity, Refusal};

/// What others know of a signing key.
#[derive(Debug)]
pub(crate) struct Signer {
    key: VerifyingKey,
    certificate: Certificate,
    is_revoked: Arc<AtomicBool>,
}

impl Signer {
    pub(crate) const fn key(&self) -> &VerifyingKey {
        &self.key
    }

    pub(crate) const fn serial(&self) -> u64 {
        self.certificate.serial
    }

    pub(crate) const fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    pub(crate) fn is_revoked(&self) -> bool {
        self.is_revoked.load(Ordering::Acquire)
    }

    /// AU1.
    pub(crate) fn revoke(&self) {
        self.is_revoked.store(true, Ordering::Release);
    }

    /// Whether the runtime vouches for what was made then (AU1).
    pub(crate) fn vouched(&self, created_us: u64) -> Result<(), Refusal> {
        if self.is_revoked() {
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

    pub(crate) const fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }
}

/// The key that vouches now, and those that did.
pub(crate) struct Vouching {
    pub(crate) key: SigningKey,
    pub(crate) verifying: VerifyingKey,
    /// Each with the moment it was exchanged, microseconds since the Unix epoch.
    pub(crate) former: Vec<(VerifyingKey, u64)>,
}

/// Called with each certificate that is made.
type Told = Arc<dyn Fn(&Certificate) + Send + Sync>;

/// The runtime's key, and what it took back.
pub(crate) struct Authority {
    vouching: RwLock<Vouching>,
    lifetime_us: u64,
    /// Public keys of agents.
    pub(crate) revoked: RwLock<HashSet<[u8; 32]>>,
    told: RwLock<Option<Told>>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authority({})", self.vouching().key.key_id())
    }
}

impl Authority {
    pub(crate) fn new(key: SigningKey, lifetime_us: u64) -> Result<Self, SignatureError> {
        let verifying = VerifyingKey::new(key.public())?;
        let vouching = RwLock::new(Vouching { key, verifying, former: Vec::new() });
        Ok(Self { vouching, lifetime_us, revoked: RwLock::default(), told: RwLock::default() })
    }

    pub(crate) fn vouching(&self) -> RwLockReadGuard<'_, Vouching> {
        self.vouching.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn vouching_mut(&self) -> RwLockWriteGuard<'_, Vouching> {
        self.vouching.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// AU3.
    pub(crate) fn tell(&self, credential: &Credential) {
        let told = self.told.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(told) = told {
            told(credential.signer.certificate());
        }
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

    pub(crate) fn certify(
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
            certificate: unsigned.issue(&self.vouching().key),
            is_revoked: Arc::clone(identity.revoked()),
        };
        Credential { identity, signer: Arc::new(signer) }
    }
}

impl Bus {
    /// The key that vouches for agents here now.
    #[must_use]
    pub fn authority(&self) -> VerifyingKey {
        self.authority.vouching().verifying.clone()
    }

    /// Calls `told` with each certificate that is made from now on (AU3), on the thread that needed it and while that
    /// agent's keys are locked: it must not come back to the bus.
    pub fn on_certified(&self, told: Arc<dyn Fn(&Certificate) + Send + Sync>) {
        *self.authority.told.write().unwrap_or_else(PoisonError::into_inner) = Some(told);
    }

    /// An agent's place on the bus, and its keys with a certificate that is valid now.
    ///
    /// # Errors
    /// [`BusError::UnknownAgent`], [`BusError::Revoked`].
    pub(crate) fn party(
        &self,
        agent: AgentId,
        now_us: u64,
    ) -> Result<(Arc<Endpoint>, Arc<Credential>), BusError> {
        let endpoint = self.endpoint(agent)?;
        let credential = self.credential(&endpoint, agent, now_us)?;
        Ok((endpoint, credential))
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
        self.authority.tell(&fresh);
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
        let (_, credential) = self.party(agent, now_us)?;
        Ok(credential.signer.certificate.clone())
    }
}
