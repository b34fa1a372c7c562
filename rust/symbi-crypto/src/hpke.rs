//! Hybrid public key encryption (RFC 9180), base mode, one message: how a key leaves the process for one recipient.
//!
//! Suite: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM. Only this one, and only one message for each
//! encapsulation, so that there is no sequence of nonces to keep (C3).
//! Why not the `hpke` crate: it brings a second X25519, AES and SHA-2 beside aws-lc's; this page is the RFC's four
//! functions over what is here, checked against the RFC's vectors and, both ways, against `cryptography`.

use zeroize::Zeroizing;

use crate::hash::{hkdf_expand, hmac_parts};
use crate::{AgreementKey, Provider, SealingKey};

/// Bytes that sealing adds: the encapsulated key and the tag.
pub const HPKE_OVERHEAD_BYTES: usize = 32 + crate::TAG_BYTES;

/// Nothing was opened, or the recipient's key is no usable point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the sealed key does not open")]
pub struct HpkeError;

const KEM_SUITE: &[u8] = b"KEM\x00\x20";
const VERSION: &[u8] = b"HPKE-v1";

/// Section 7.3.
struct Suite {
    id: [u8; 10],
    key_bytes: u8,
}

const AES_256_GCM: Suite = Suite { id: *b"HPKE\x00\x20\x00\x01\x00\x02", key_bytes: 32 };

/// Section 4: `LabeledExtract`.
fn extract(suite: &[u8], salt: &[u8], label: &[u8], secret: &[u8]) -> Zeroizing<[u8; 32]> {
    Zeroizing::new(hmac_parts(salt, &[VERSION, suite, label, secret]))
}

/// Section 4: `LabeledExpand`, of at most 32 bytes; the caller takes the first `length`.
fn expand(suite: &[u8], key: &[u8; 32], label: &[u8], info: &[&[u8]], length: u8) -> Zeroizing<[u8; 32]> {
    let length = [0, length];
    let mut parts: Vec<&[u8]> = vec![&length, VERSION, suite, label];
    parts.extend_from_slice(info);
    Zeroizing::new(hkdf_expand(key, &parts))
}

/// Section 4.1: the secret that both sides find.
fn shared_secret(
    own: &AgreementKey,
    peer: &[u8; 32],
    encapsulated: &[u8; 32],
    recipient: &[u8; 32],
) -> Result<Zeroizing<[u8; 32]>, HpkeError> {
    let found = own.with_secret(peer, |secret| {
        let key = extract(KEM_SUITE, b"", b"eae_prk", secret);
        expand(KEM_SUITE, &key, b"shared_secret", &[encapsulated, recipient], 32)
    });
    found.map_err(|_| HpkeError)
}

/// Section 5.1: key and first nonce, base mode.
fn schedule(suite: &Suite, shared: &[u8; 32], info: &[u8]) -> (Zeroizing<[u8; 32]>, [u8; 12]) {
    let psk_id = extract(&suite.id, b"", b"psk_id_hash", b"");
    let info = extract(&suite.id, b"", b"info_hash", info);
    let secret = extract(&suite.id, shared, b"secret", b"");
    let context: [&[u8]; 3] = [&[0], psk_id.as_slice(), info.as_slice()];
    let key = expand(&suite.id, &secret, b"key", &context, suite.key_bytes);
    let nonce = expand(&suite.id, &secret, b"base_nonce", &context, 12);
    (key, nonce.first_chunk().copied().unwrap_or_default())
}

/// Seals `plain` for the holder of `recipient`: the encapsulated key, then the ciphertext. `ephemeral` is 32 fresh random
/// bytes, which the caller wipes; `info` says what for, domain first (C1).
///
/// # Errors
/// [`HpkeError`] for a recipient's key of small order.
pub fn hpke_seal(
    provider: Provider,
    recipient: &[u8; 32],
    info: &[u8],
    plain: &[u8],
    ephemeral: &[u8; 32],
) -> Result<Vec<u8>, HpkeError> {
    let ours = AgreementKey::from_seed(ephemeral).map_err(|_| HpkeError)?;
    let encapsulated = ours.public();
    let shared = shared_secret(&ours, recipient, &encapsulated, recipient)?;
    let (key, nonce) = schedule(&AES_256_GCM, &shared, info);
    let mut sealed = Vec::with_capacity(plain.len() + HPKE_OVERHEAD_BYTES);
    sealed.extend_from_slice(&encapsulated);
    sealed.extend_from_slice(plain);
    let body = sealed.get_mut(encapsulated.len()..).ok_or(HpkeError)?;
    let tag = SealingKey::new(provider, *key).seal_slice(nonce, b"", body).map_err(|_| HpkeError)?;
    sealed.extend_from_slice(&tag);
    Ok(sealed)
}

/// Opens what [`hpke_seal`] made.
///
/// # Errors
/// [`HpkeError`] when anything differs: the bytes, the recipient, `info`.
pub fn hpke_open(
    provider: Provider,
    own: &AgreementKey,
    info: &[u8],
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, HpkeError> {
    let (encapsulated, body) = sealed.split_first_chunk::<32>().ok_or(HpkeError)?;
    let shared = shared_secret(own, encapsulated, encapsulated, &own.public())?;
    let (key, nonce) = schedule(&AES_256_GCM, &shared, info);
    let mut plain = Zeroizing::new(body.to_vec());
    SealingKey::new(provider, *key).open(nonce, b"", &mut plain).map_err(|_| HpkeError)?;
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unhex(text: &str) -> Vec<u8> {
        (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
    }

    fn key(text: &str) -> AgreementKey {
        AgreementKey::from_seed(&unhex(text).try_into().unwrap()).unwrap()
    }

    /// A.1.1 of the RFC has AES-128-GCM: the KEM and the schedule are the same but for the suite's id and a length.
    #[test]
    fn the_secret_key_and_nonce_are_those_of_rfc_9180_a_1_1() {
        let ephemeral = key("52c4a758a802cd8b936eceea314432798d5baf2d7e9235dc084ab1b9cfa2f736");
        let recipient = key("4612c550263fc8ad58375df3f557aac531d26850903e55a9f23f21d8534e8ac8");
        let (enc, to) = (ephemeral.public(), recipient.public());
        assert_eq!(enc.to_vec(), unhex("37fda3567bdbd628e88668c3c8d7e97d1d1253b6d4ea6d44c150f741f1bf4431"));
        assert_eq!(to.to_vec(), unhex("3948cfe0ad1ddb695d780e59077195da6c56506b027329794ab02bca80815c4d"));
        let shared = shared_secret(&ephemeral, &to, &enc, &to).unwrap();
        assert_eq!(
            shared.to_vec(),
            unhex("fe0e18c9f024ce43799ae393c7e8fe8fce9d218875e8227b0187c04e7d2ea1fc")
        );
        assert_eq!(shared, shared_secret(&recipient, &enc, &enc, &to).unwrap());
        let suite = Suite { id: *b"HPKE\x00\x20\x00\x01\x00\x01", key_bytes: 16 };
        let info = unhex("4f6465206f6e2061204772656369616e2055726e");
        let (key, nonce) = schedule(&suite, &shared, &info);
        assert_eq!(key[..16].to_vec(), unhex("4531685d41d65f03dc48f6b8302c05b0"));
        assert_eq!(nonce.to_vec(), unhex("56d890e5accaaf011cff4b7d"));
    }

    #[test]
    fn what_one_provider_seals_the_other_opens_and_nothing_that_differs_opens() {
        let own = AgreementKey::from_seed(&[5; 32]).unwrap();
        let sealed = hpke_seal(Provider::AwsLc, &own.public(), b"info", b"secret", &[9; 32]).unwrap();
        assert_eq!(sealed, hpke_seal(Provider::Ring, &own.public(), b"info", b"secret", &[9; 32]).unwrap());
        assert_eq!(sealed.len(), 6 + HPKE_OVERHEAD_BYTES);
        assert_eq!(**hpke_open(Provider::Ring, &own, b"info", &sealed).unwrap(), *b"secret");
        for at in 0..sealed.len() {
            let mut bad = sealed.clone();
            bad[at] ^= 1;
            assert_eq!(hpke_open(Provider::AwsLc, &own, b"info", &bad), Err(HpkeError), "{at}");
        }
        let other = AgreementKey::from_seed(&[6; 32]).unwrap();
        assert_eq!(hpke_open(Provider::AwsLc, &other, b"info", &sealed), Err(HpkeError));
        assert_eq!(hpke_open(Provider::AwsLc, &own, b"", &sealed), Err(HpkeError));
        assert_eq!(hpke_open(Provider::AwsLc, &own, b"info", &sealed[..40]), Err(HpkeError));
        assert_eq!(hpke_seal(Provider::AwsLc, &[0; 32], b"", b"", &[9; 32]), Err(HpkeError));
    }
}
