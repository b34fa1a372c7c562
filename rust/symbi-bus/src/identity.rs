//! An agent's two keys: one signs, one agrees on session keys. Agents never see them; the runtime holds them.

use std::sync::Arc;

use symbi_crypto::{AgreementKey, Provider, PublicKey, SignatureError, SigningKey, VerifyingKey};
use symbi_types::Entropy;
use zeroize::Zeroizing;

use crate::sync::AtomicBool;

/// Who an agent is on the bus.
#[derive(Debug)]
pub struct Identity {
    signing: SigningKey,
    agreement: AgreementKey,
    verifying: VerifyingKey,
    /// Taken back: for every certificate that was ever made for it (AU1).
    revoked: Arc<AtomicBool>,
}

impl Identity {
    /// An identity of keys that exist.
    ///
    /// # Errors
    /// [`SignatureError`] for a signing key whose public half cannot be verified with, which no seed has.
    pub fn new(signing: SigningKey, agreement: AgreementKey) -> Result<Self, SignatureError> {
        let verifying = VerifyingKey::new(signing.public())?;
        Ok(Self { signing, agreement, verifying, revoked: Arc::default() })
    }

    /// A fresh one. About 60 µs.
    #[must_use]
    pub fn random(provider: Provider, entropy: &dyn Entropy) -> Self {
        let mut seed = Zeroizing::new([0u8; 32]);
        loop {
            entropy.fill(seed.as_mut());
            let signing = SigningKey::from_seed(provider, &seed);
            entropy.fill(seed.as_mut());
            let identity = AgreementKey::from_seed(&seed).ok().map(|agreement| Self::new(signing, agreement));
            if let Some(Ok(identity)) = identity {
                return identity; // every 32 bytes are a key: the loop runs once
            }
        }
    }

    /// What others verify its messages with.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        self.signing.public()
    }

    pub(crate) const fn signing(&self) -> &SigningKey {
        &self.signing
    }

    pub(crate) const fn agreement(&self) -> &AgreementKey {
        &self.agreement
    }

    pub(crate) const fn revoked(&self) -> &Arc<AtomicBool> {
        &self.revoked
    }

    pub(crate) const fn verifying(&self) -> &VerifyingKey {
        &self.verifying
    }
}
