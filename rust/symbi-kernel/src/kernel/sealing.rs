//! What the log keeps unreadable: digests and sealed texts, under keys of this data directory.
//!
//! Not here: reading a trail without opening its kernel (`sealed`), the keys (`keys`).

use std::sync::Mutex;

use base64::Engine as _;
use symbi_crypto::{NonceCounter, Provider, SealingKey, hmac_sha256};
use symbi_types::{Entropy, LabelSet};

use super::{Kernel, lock};
use crate::keys::Keys;
use crate::subjects::Opened;

/// Sealing of what the log keeps unreadable: one key an opening, counted nonces, never random ones.
pub(super) struct Sealing {
    provider: Provider,
    key: SealingKey,
    salt: [u8; 16],
    nonces: Mutex<NonceCounter>,
}

impl Sealing {
    pub(super) fn provider(&self) -> Provider {
        self.provider
    }
}

pub(crate) fn seal_key(provider: Provider, keys: &Keys, salt: &[u8]) -> SealingKey {
    SealingKey::new(provider, *keys.derive(salt, "seal"))
}

/// Opens what a kernel with these keys has sealed; none where it did not.
pub(crate) fn unseal(provider: Provider, keys: &Keys, sealed: &str) -> Option<Vec<u8>> {
    let whole = base64::engine::general_purpose::STANDARD.decode(sealed).ok()?;
    let (salt, rest) = whole.split_first_chunk::<16>()?;
    let (nonce, cipher) = rest.split_first_chunk::<12>()?;
    let mut plain = cipher.to_vec();
    seal_key(provider, keys, salt).open(*nonce, salt, &mut plain).ok()?;
    Some(plain)
}

impl Sealing {
    pub(super) fn new(provider: Provider, keys: &Keys, entropy: &dyn Entropy) -> Self {
        let mut salt = [0u8; 16];
        entropy.fill(&mut salt);
        let key = seal_key(provider, keys, &salt);
        Self { provider, key, salt, nonces: Mutex::new(NonceCounter::default()) }
    }
}

impl Kernel {
    /// Keyed digest of arguments, in hex: equal arguments are recognisable here and guessable nowhere.
    pub(crate) fn digest(&self, arguments: &[u8]) -> String {
        to_hex(&self.digest_bytes(arguments))
    }

    /// The same, as bytes.
    pub(crate) fn digest_bytes(&self, arguments: &[u8]) -> [u8; 32] {
        hmac_sha256(&self.digest_key, &[arguments])
    }

    /// The same, keyed by the persons whose data it is, where the labels name some.
    pub(crate) fn digest_for(&self, labels: &LabelSet, arguments: &[u8]) -> String {
        to_hex(&self.digest_bytes_for(labels, arguments))
    }

    /// The same, as bytes.
    pub(crate) fn digest_bytes_for(&self, labels: &LabelSet, arguments: &[u8]) -> [u8; 32] {
        let keyed = self.subjects.digest(labels, &[arguments]);
        keyed.unwrap_or_else(|| self.digest_bytes(arguments))
    }

    /// Seals a text for the log, for the persons whose data it is, where the labels name some (ER1).
    pub(crate) fn seal_for(&self, labels: &LabelSet, plain: &[u8]) -> String {
        self.subjects.seal(labels, plain).unwrap_or_else(|| self.seal(plain))
    }

    /// Seals a text for the log: base64 of salt (16) ‖ nonce (12) ‖ ciphertext and tag.
    pub(crate) fn seal(&self, plain: &[u8]) -> String {
        let Ok(nonce) = lock(&self.sealing.nonces).next_nonce() else { return String::new() };
        let mut sealed = plain.to_vec();
        if self.sealing.key.seal(nonce, &self.sealing.salt, &mut sealed).is_err() {
            return String::new();
        }
        let mut whole = Vec::with_capacity(28 + sealed.len());
        whole.extend_from_slice(&self.sealing.salt);
        whole.extend_from_slice(&nonce);
        whole.extend_from_slice(&sealed);
        base64::engine::general_purpose::STANDARD.encode(whole)
    }

    /// Opens what this runtime sealed in a record, now or earlier.
    #[must_use]
    pub fn open_sealed(&self, sealed: &str) -> Opened {
        self.subjects.open_any(sealed)
    }

    /// As [`Kernel::open_sealed`]; none where there is nothing to be read.
    #[must_use]
    pub fn unseal(&self, sealed: &str) -> Option<Vec<u8>> {
        self.open_sealed(sealed).plain()
    }
}

fn to_hex(digest: &[u8; 32]) -> String {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let digit = |at: u8| DIGITS.get(usize::from(at)).copied().unwrap_or_default();
    digest.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}
