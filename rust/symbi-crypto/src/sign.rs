//! Ed25519 keys.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use curve25519_dalek::edwards::EdwardsPoint;
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::IsIdentity as _;
use zeroize::Zeroizing;

use crate::batch::halves;
use crate::hash::sha512;
use crate::{Provider, ed25519, sha256};

/// A signature, or the key it should be of, does not hold (C2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not verify")]
pub struct SignatureError;

/// A text that is not a key id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a key's fingerprint: 32 lower-case hex digits")]
pub struct KeyIdError {
    /// What was given, cut to 64 characters.
    pub text: String,
}

/// A key's fingerprint: the first 16 bytes of SHA-256(`"ed25519"` ‖ public key).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(pub [u8; 16]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

impl FromStr for KeyId {
    type Err = KeyIdError;
    fn from_str(text: &str) -> Result<Self, KeyIdError> {
        let plain = text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        match u128::from_str_radix(text, 16) {
            Ok(value) if plain => Ok(Self(value.to_be_bytes())),
            _ => Err(KeyIdError { text: text.chars().take(64).collect() }),
        }
    }
}

/// An Ed25519 public key, as its 32 bytes. Whether they are a point is found when it is used.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey(pub [u8; 32]);

impl PublicKey {
    /// The fingerprint.
    #[must_use]
    pub fn key_id(&self) -> KeyId {
        let digest = sha256(&[b"ed25519", &self.0]);
        let mut id = [0u8; 16];
        id.copy_from_slice(digest.first_chunk::<16>().unwrap_or(&[0; 16]));
        KeyId(id)
    }

    /// Checks one signature by the strict rule (C2). About 30 µs; many at once: [`crate::verify_many`].
    ///
    /// # Errors
    /// [`SignatureError`] when it does not hold, for whatever reason.
    pub fn verify(&self, message: &[u8], signature: &[u8; 64]) -> Result<(), SignatureError> {
        let key = ed25519_dalek::VerifyingKey::from_bytes(&self.0).map_err(|_| SignatureError)?;
        let signature = ed25519_dalek::Signature::from_bytes(signature);
        key.verify_strict(message, &signature).map_err(|_| SignatureError)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.key_id())
    }
}

/// A public key that was looked at once: its bytes are the one spelling of a point of the prime order, so that no
/// small-order component can hide in it. Checks with it save the 4 µs that finding the point costs.
#[derive(Clone, PartialEq, Eq)]
pub struct VerifyingKey {
    public: PublicKey,
    id: KeyId,
    point: EdwardsPoint,
    /// What each check multiplies.
    negated: EdwardsPoint,
}

impl VerifyingKey {
    /// Looks at a key. About 20 µs, once.
    ///
    /// # Errors
    /// [`SignatureError`] for bytes that are no point, not its canonical spelling, or of a point outside the group of
    /// prime order.
    pub fn new(public: PublicKey) -> Result<Self, SignatureError> {
        let key = ed25519_dalek::VerifyingKey::from_bytes(&public.0).map_err(|_| SignatureError)?;
        let point = key.to_edwards();
        if point.compress().0 != public.0 || point.is_small_order() || !point.is_torsion_free() {
            return Err(SignatureError);
        }
        Ok(Self { public, id: public.key_id(), point, negated: -point })
    }

    /// The bytes.
    #[must_use]
    pub const fn public(&self) -> PublicKey {
        self.public
    }

    /// The fingerprint.
    #[must_use]
    pub const fn key_id(&self) -> KeyId {
        self.id
    }

    /// Checks one signature by the strict rule (C2), and allocates nothing.
    ///
    /// The rule wants R to be s·B - h·A to the byte, and no point of small order. Both B and this key are of prime order, so
    /// what is computed is too, and of small order only where it is the neutral point: R itself need not be decompressed, which
    /// is a fifth of a check.
    ///
    /// # Errors
    /// [`SignatureError`] when it does not hold, for whatever reason.
    pub fn verify(&self, message: &[u8], signature: &[u8; 64]) -> Result<(), SignatureError> {
        let (r, s) = halves(signature).ok_or(SignatureError)?;
        let s = Option::<Scalar>::from(Scalar::from_canonical_bytes(*s)).ok_or(SignatureError)?;
        let h = Scalar::from_bytes_mod_order_wide(&sha512(&[r, &self.public.0, message]));
        let expected = EdwardsPoint::vartime_double_scalar_mul_basepoint(&h, &self.negated, &s);
        if expected.compress().0 == *r && !expected.is_identity() { Ok(()) } else { Err(SignatureError) }
    }

    pub(crate) const fn public_bytes(&self) -> &[u8; 32] {
        &self.public.0
    }

    pub(crate) const fn point(&self) -> EdwardsPoint {
        self.point
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyingKey({})", self.id)
    }
}

enum Pair {
    AwsLc(Zeroizing<[u8; 64]>), // the seed, then the public key
    Ring(ring::signature::Ed25519KeyPair),
}

/// An Ed25519 key that signs. Clones share it.
#[derive(Clone)]
pub struct SigningKey {
    pair: Arc<Pair>,
    public: PublicKey,
    id: KeyId,
}

impl SigningKey {
    /// The key of a 32-byte seed (RFC 8032, 5.1.5). The caller keeps, and wipes, the seed.
    #[must_use]
    #[expect(
        clippy::panic,
        reason = "every 32 bytes are a seed: a refusal is a broken library, and nothing may go on"
    )]
    pub fn from_seed(provider: Provider, seed: &[u8; 32]) -> Self {
        let (pair, public) = match provider {
            Provider::AwsLc => match aws_lc_rs::signature::Ed25519KeyPair::from_seed_unchecked(seed) {
                Ok(pair) => {
                    let public =
                        <[u8; 32]>::try_from(aws_lc_rs::signature::KeyPair::public_key(&pair).as_ref());
                    let mut private = Zeroizing::new([0u8; 64]);
                    let (first, second) = private.split_at_mut(32);
                    first.copy_from_slice(seed);
                    second.copy_from_slice(&public.unwrap_or_default());
                    (Pair::AwsLc(private), public)
                }
                Err(error) => panic!("aws-lc refused a seed: {error}"),
            },
            Provider::Ring => match ring::signature::Ed25519KeyPair::from_seed_unchecked(seed) {
                Ok(pair) => {
                    let public = <[u8; 32]>::try_from(ring::signature::KeyPair::public_key(&pair).as_ref());
                    (Pair::Ring(pair), public)
                }
                Err(error) => panic!("ring refused a seed: {error}"),
            },
        };
        let public = PublicKey(public.unwrap_or_else(|_| panic!("an Ed25519 public key has 32 bytes")));
        Self { pair: Arc::new(pair), id: public.key_id(), public }
    }

    /// Signs. About 7 µs, and allocates nothing. `message` begins with its domain (C1).
    #[must_use]
    #[expect(clippy::panic, reason = "signing fails for no input: a refusal is a broken library")]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        match &*self.pair {
            Pair::AwsLc(private) => match ed25519::sign(message, private) {
                Some(signature) => signature,
                None => panic!("aws-lc refused to sign"),
            },
            Pair::Ring(pair) => {
                let mut out = [0u8; 64];
                out.copy_from_slice(pair.sign(message).as_ref());
                out
            }
        }
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        self.public
    }

    /// The fingerprint of the public half.
    #[must_use]
    pub fn key_id(&self) -> KeyId {
        self.id
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.id) // C4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unhex<const N: usize>(text: &str) -> [u8; N] {
        let bytes: Vec<u8> =
            (0..N).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect();
        bytes.try_into().unwrap()
    }

    #[test]
    fn both_providers_give_the_signature_of_rfc_8032_test_2() {
        let seed = unhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb");
        let public: [u8; 32] = unhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c");
        let signature: [u8; 64] = unhex(concat!(
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da",
            "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
        ));
        for provider in [Provider::AwsLc, Provider::Ring] {
            let key = SigningKey::from_seed(provider, &seed);
            assert_eq!(key.public(), PublicKey(public));
            assert_eq!(key.sign(&[0x72]), signature);
            assert_eq!(key.public().verify(&[0x72], &signature), Ok(()));
        }
    }

    #[test]
    fn c2_any_flipped_bit_of_a_signature_is_refused() {
        let key = SigningKey::from_seed(Provider::AwsLc, &[7; 32]);
        let good = key.sign(b"message");
        for bit in 0..512 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(key.public().verify(b"message", &bad), Err(SignatureError), "bit {bit}");
        }
    }

    #[test]
    fn c2_a_key_of_small_order_verifies_nothing() {
        let mut identity = [0u8; 32];
        identity[0] = 1;
        let mut signature = [0u8; 64];
        signature[0] = 1; // R = identity, S = 0 satisfies the lax equation under the identity key
        assert_eq!(PublicKey(identity).verify(b"anything", &signature), Err(SignatureError));
    }

    #[test]
    fn c4_a_key_shows_its_fingerprint_only() {
        let key = SigningKey::from_seed(Provider::AwsLc, &[7; 32]);
        assert_eq!(format!("{key:?}"), format!("SigningKey({})", key.key_id()));
        assert_eq!(key.key_id().to_string().parse::<KeyId>().unwrap(), key.key_id());
        assert!(key.key_id().to_string().to_uppercase().parse::<KeyId>().is_err());
    }
}
