//! An agent's two keys: one signs, one agrees on session keys. Agents never see them; the runtime holds them.

use symbi_crypto::{AgreementKey, Provider, PublicKey, SigningKey};
use symbi_types::Entropy;
use zeroize::Zeroizing;

/// Who an agent is on the bus.
#[derive(Debug)]
pub struct Identity {
    signing: SigningKey,
    agreement: AgreementKey,
}

impl Identity {
    /// An identity of keys that exist.
    #[must_use]
    pub const fn new(signing: SigningKey, agreement: AgreementKey) -> Self {
        Self { signing, agreement }
    }

    /// A fresh one. About 40 µs.
    #[must_use]
    pub fn random(provider: Provider, entropy: &dyn Entropy) -> Self {
        let mut seed = Zeroizing::new([0u8; 32]);
        entropy.fill(seed.as_mut());
        let signing = SigningKey::from_seed(provider, &seed);
        loop {
            entropy.fill(seed.as_mut());
            if let Ok(agreement) = AgreementKey::from_seed(&seed) {
                return Self { signing, agreement }; // every 32 bytes are a key: the loop runs once
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
}
