//! AES-256-GCM, with nonces that are counted and never drawn.

use std::fmt;

/// Bytes that sealing adds.
pub const TAG_BYTES: usize = 16;
/// Messages under one key: NIST SP 800-38D's bound for a key, kept here though counters could go further.
const MESSAGES_MAX: u64 = 1 << 32;

/// What was opened is not what was sealed, or not under this key, nonce and associated data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the seal does not hold")]
pub struct SealError;

/// The counter of a key is used up; a new key is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key has sealed 2^32 messages: a new one is needed")]
pub struct NonceError;

/// The nonces of one key: 1, 2, 3, … as 96-bit big-endian numbers (C3).
#[derive(Debug, Default)]
pub struct NonceCounter {
    given: u64,
}

impl NonceCounter {
    /// A counter for a fresh key. Never make two for one key.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The next nonce.
    ///
    /// # Errors
    /// [`NonceError`] past 2^32.
    pub fn next_nonce(&mut self) -> Result<[u8; 12], NonceError> {
        if self.given >= MESSAGES_MAX {
            return Err(NonceError);
        }
        self.given += 1;
        Ok(Self::nonce(self.given))
    }

    /// The nonce of number `number`, as the opening side needs it.
    #[must_use]
    pub fn nonce(number: u64) -> [u8; 12] {
        let mut nonce = [0u8; 12];
        if let Some(low) = nonce.last_chunk_mut::<8>() {
            *low = number.to_be_bytes();
        }
        nonce
    }

    /// How many were given out.
    #[must_use]
    pub fn given(&self) -> u64 {
        self.given
    }
}

enum Cipher {
    AwsLc(aws_lc_rs::aead::LessSafeKey),
    Ring(Box<ring::aead::LessSafeKey>),
}

/// An AES-256-GCM key.
pub struct SealingKey {
    cipher: Cipher,
}

impl SealingKey {
    /// The key of 32 bytes, which are wiped here.
    #[must_use]
    #[expect(
        clippy::panic,
        reason = "every 32 bytes are a key: a refusal is a broken library, and nothing may go on"
    )]
    pub fn new(provider: crate::Provider, key: [u8; 32]) -> Self {
        let key = zeroize::Zeroizing::new(key);
        let cipher = match provider {
            crate::Provider::AwsLc => {
                match aws_lc_rs::aead::UnboundKey::new(&aws_lc_rs::aead::AES_256_GCM, key.as_slice()) {
                    Ok(key) => Cipher::AwsLc(aws_lc_rs::aead::LessSafeKey::new(key)),
                    Err(error) => panic!("aws-lc refused a key: {error}"),
                }
            }
            crate::Provider::Ring => {
                match ring::aead::UnboundKey::new(&ring::aead::AES_256_GCM, key.as_slice()) {
                    Ok(key) => Cipher::Ring(Box::new(ring::aead::LessSafeKey::new(key))),
                    Err(error) => panic!("ring refused a key: {error}"),
                }
            }
        };
        Self { cipher }
    }

    /// Encrypts `data` in place and returns the tag that belongs behind it. `nonce` is of this key's
    /// [`NonceCounter`] (C3).
    ///
    /// # Errors
    /// As [`SealingKey::seal`].
    pub fn seal_slice(
        &self,
        nonce: [u8; 12],
        aad: &[u8],
        data: &mut [u8],
    ) -> Result<[u8; TAG_BYTES], SealError> {
        let mut out = [0u8; TAG_BYTES];
        match &self.cipher {
            Cipher::AwsLc(key) => {
                use aws_lc_rs::aead::{Aad, Nonce};
                let nonce = Nonce::assume_unique_for_key(nonce);
                let tag =
                    key.seal_in_place_separate_tag(nonce, Aad::from(aad), data).map_err(|_| SealError)?;
                out.copy_from_slice(tag.as_ref());
            }
            Cipher::Ring(key) => {
                use ring::aead::{Aad, Nonce};
                let nonce = Nonce::assume_unique_for_key(nonce);
                let tag =
                    key.seal_in_place_separate_tag(nonce, Aad::from(aad), data).map_err(|_| SealError)?;
                out.copy_from_slice(tag.as_ref());
            }
        }
        Ok(out)
    }

    /// Encrypts `data` in place and appends the tag. `nonce` is of this key's [`NonceCounter`] (C3).
    ///
    /// # Errors
    /// [`SealError`] only past the cipher's size limit of 64 GiB; `data` is then unusable.
    pub fn seal(&self, nonce: [u8; 12], aad: &[u8], data: &mut Vec<u8>) -> Result<(), SealError> {
        match &self.cipher {
            Cipher::AwsLc(key) => {
                use aws_lc_rs::aead::{Aad, Nonce};
                key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), data)
                    .map_err(|_| SealError)
            }
            Cipher::Ring(key) => {
                use ring::aead::{Aad, Nonce};
                key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), data)
                    .map_err(|_| SealError)
            }
        }
    }

    /// Checks the tag, decrypts in place and takes the tag off. On an error `data` is emptied.
    ///
    /// # Errors
    /// [`SealError`] when anything differs from what was sealed.
    pub fn open(&self, nonce: [u8; 12], aad: &[u8], data: &mut Vec<u8>) -> Result<(), SealError> {
        let opened = match &self.cipher {
            Cipher::AwsLc(key) => {
                use aws_lc_rs::aead::{Aad, Nonce};
                let nonce = Nonce::assume_unique_for_key(nonce);
                key.open_in_place(nonce, Aad::from(aad), data).map(|plain| plain.len()).map_err(|_| SealError)
            }
            Cipher::Ring(key) => {
                use ring::aead::{Aad, Nonce};
                let nonce = Nonce::assume_unique_for_key(nonce);
                key.open_in_place(nonce, Aad::from(aad), data).map(|plain| plain.len()).map_err(|_| SealError)
            }
        };
        match opened {
            Ok(length) => data.truncate(length),
            Err(_) => data.clear(),
        }
        opened.map(|_| ())
    }
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealingKey") // C4
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Provider;

    #[test]
    fn what_one_provider_seals_the_other_opens() {
        for (ours, theirs) in [(Provider::AwsLc, Provider::Ring), (Provider::Ring, Provider::AwsLc)] {
            let mut data = b"payload".to_vec();
            SealingKey::new(ours, [3; 32]).seal([1; 12], b"header", &mut data).unwrap();
            assert_eq!(data.len(), 7 + TAG_BYTES);
            SealingKey::new(theirs, [3; 32]).open([1; 12], b"header", &mut data).unwrap();
            assert_eq!(data, b"payload");
        }
    }

    #[test]
    fn anything_that_differs_is_refused_and_nothing_is_handed_out() {
        let key = SealingKey::new(Provider::AwsLc, [3; 32]);
        let mut sealed = b"payload".to_vec();
        key.seal([1; 12], b"header", &mut sealed).unwrap();
        for bit in 0..sealed.len() * 8 {
            let mut bad = sealed.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(key.open([1; 12], b"header", &mut bad), Err(SealError));
            assert!(bad.is_empty());
        }
        assert_eq!(key.open([2; 12], b"header", &mut sealed.clone()), Err(SealError));
        assert_eq!(key.open([1; 12], b"other", &mut sealed.clone()), Err(SealError));
        assert_eq!(
            SealingKey::new(Provider::AwsLc, [4; 32]).open([1; 12], b"header", &mut sealed),
            Err(SealError)
        );
        assert_eq!(key.open([1; 12], b"", &mut Vec::new()), Err(SealError));
    }

    #[test]
    fn c3_nonces_count_and_stop_at_the_bound() {
        let mut counter = NonceCounter::new();
        assert_eq!(counter.next_nonce().unwrap(), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(counter.next_nonce().unwrap(), NonceCounter::nonce(2));
        counter.given = MESSAGES_MAX - 1;
        assert!(counter.next_nonce().is_ok());
        assert_eq!(counter.next_nonce(), Err(NonceError));
    }
}
