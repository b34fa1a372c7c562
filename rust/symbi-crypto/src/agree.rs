//! X25519: two parties with static keys find a common secret, from which the bus derives its session keys.

use std::fmt;

use aws_lc_rs::agreement::{self, PrivateKey, UnparsedPublicKey, X25519};

use crate::hkdf_sha256;

/// The other side's key is no usable point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no key can be agreed with this peer")]
pub struct AgreementError;

/// A static X25519 key.
pub struct AgreementKey {
    private: PrivateKey,
    public: [u8; 32],
}

impl AgreementKey {
    /// The key of 32 bytes of randomness. The caller keeps, and wipes, the seed.
    ///
    /// # Errors
    /// [`AgreementError`] should the library refuse the bytes, which it does for none.
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self, AgreementError> {
        let private = PrivateKey::from_private_key(&X25519, seed).map_err(|_| AgreementError)?;
        let public = private.compute_public_key().map_err(|_| AgreementError)?;
        let public = public.as_ref().try_into().map_err(|_| AgreementError)?;
        Ok(Self { private, public })
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        self.public
    }

    /// HKDF-SHA-256 over the common secret. `info` begins with its domain (C1) and names both parties.
    ///
    /// # Errors
    /// [`AgreementError`] for a peer's key of small order, whose secret would be known to everyone.
    pub fn agree(&self, peer: &[u8; 32], salt: &[u8], info: &[u8]) -> Result<[u8; 32], AgreementError> {
        self.with_secret(peer, |secret| hkdf_sha256(secret, salt, info))
    }

    /// What `derive` makes of the common secret, which nobody else sees.
    pub(crate) fn with_secret<T>(
        &self,
        peer: &[u8; 32],
        derive: impl FnOnce(&[u8]) -> T,
    ) -> Result<T, AgreementError> {
        let peer = UnparsedPublicKey::new(&X25519, peer);
        agreement::agree(&self.private, peer, AgreementError, |secret| Ok(derive(secret)))
    }
}

impl fmt::Debug for AgreementKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AgreementKey") // C4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_find_the_same_key_and_others_another() {
        let [a, b, c] = [1, 2, 3].map(|seed| AgreementKey::from_seed(&[seed; 32]).unwrap());
        let ab = a.agree(&b.public(), b"salt", b"info").unwrap();
        assert_eq!(ab, b.agree(&a.public(), b"salt", b"info").unwrap());
        assert_ne!(ab, c.agree(&a.public(), b"salt", b"info").unwrap());
        assert_ne!(ab, a.agree(&b.public(), b"salt", b"other").unwrap());
    }

    #[test]
    fn a_peer_of_small_order_is_refused() {
        let key = AgreementKey::from_seed(&[1; 32]).unwrap();
        assert_eq!(key.agree(&[0; 32], b"", b""), Err(AgreementError));
    }
}
