//! Secrets of 32 bytes as PKCS#8 in PEM: what OpenSSL and `cryptography` write and read.
//!
//! Plain: RFC 8410's `PrivateKeyInfo`. Under a passphrase: PBES2 (RFC 8018) with PBKDF2-HMAC-SHA-256 and AES-256-CBC, which is
//! what both write by default; what else PBES2 allows is refused by name, not half supported.
//! Why not the `pkcs8` crate: its encryption brings AES, CBC, SHA-2 and scrypt beside aws-lc's. Here the cryptography and
//! the parsing of the plain form are aws-lc's, and of the other form there is this one shape.
//! Not here: where files lie, and where a passphrase comes from.
//!
//! Invariants
//! - KF1 what is written reads back under the same passphrase and no other. A file that was changed is refused or is another
//!   key, never this one: the cipher of this form has no tag, so of a change within it only the form is checked. Who opens
//!   a trail holds the key against the one that the trail names.
//! - KF2 what reading costs is bounded, whatever the file says.

use std::num::NonZeroU32;

use aws_lc_rs::cipher::{
    AES_256, DecryptionContext, EncryptionContext, PaddedBlockDecryptingKey, PaddedBlockEncryptingKey,
    UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::pbkdf2;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use symbi_types::Entropy;
use zeroize::Zeroizing;

/// Rounds of PBKDF2 that are written: a quarter of a second, once at each start (OWASP's number of 2023).
const ROUNDS: u32 = 600_000;
/// Rounds that are read, at most: about four seconds (KF2).
const ROUNDS_MAX: u32 = 10_000_000;
/// Characters of a key file.
const FILE_BYTES_MAX: usize = 4_096;

const PLAIN: &str = "PRIVATE KEY";
const SEALED: &str = "ENCRYPTED PRIVATE KEY";

/// `PrivateKeyInfo` up to the seed: version 0, id-Ed25519, an octet string in an octet string.
const ED25519_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
const PBES2: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0d]; // 1.2.840.113549.1.5.13
const PBKDF2: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0c]; // 1.2.840.113549.1.5.12
const HMAC_SHA256: [u8; 8] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x02, 0x09]; // 1.2.840.113549.2.9
const AES_256_CBC: [u8; 9] = [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01, 0x2a]; // 2.16.840.1.101.3.4.1.42

const INTEGER: u8 = 0x02;
const OCTETS: u8 = 0x04;
const NULL: u8 = 0x05;
const OID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;

/// Why a key file was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFileError {
    /// Not a key in PEM.
    #[error("is not a private key in PEM (PKCS#8)")]
    Malformed,
    /// A key of another kind.
    #[error("is not an Ed25519 key")]
    OtherKey,
    /// Encrypted in another way.
    #[error("is encrypted in a way that is not read here: PBES2 with PBKDF2-HMAC-SHA-256 and AES-256-CBC is")]
    OtherCipher,
    /// It is encrypted, and no passphrase was given.
    #[error("is encrypted: it needs its passphrase")]
    NeedsPassphrase,
    /// The passphrase is not its own, or it was damaged.
    #[error("does not open with this passphrase")]
    WrongPassphrase,
}

/// Whether a file holds a key that is read here, as against 32 raw bytes.
#[must_use]
pub fn is_pem(file: &[u8]) -> bool {
    file.starts_with(b"-----BEGIN ")
}

/// The seed of an Ed25519 key as a PEM file, encrypted if there is a passphrase.
///
/// # Errors
/// [`KeyFileError::Malformed`] should the library refuse, which it does for no seed.
///
/// Cost: with a passphrase about a quarter of a second.
pub fn write_key_file(
    seed: &[u8; 32],
    passphrase: Option<&[u8]>,
    entropy: &dyn Entropy,
) -> Result<Zeroizing<String>, KeyFileError> {
    let mut plain = Zeroizing::new(ED25519_PREFIX.to_vec());
    plain.extend_from_slice(seed);
    let Some(passphrase) = passphrase else { return Ok(to_pem(PLAIN, &plain)) };
    let mut random = [0u8; 32];
    entropy.fill(&mut random);
    let (salt, iv) = random.split_first_chunk::<16>().ok_or(KeyFileError::Malformed)?;
    let iv: [u8; 16] = iv.try_into().map_err(|_| KeyFileError::Malformed)?;
    let key = PaddedBlockEncryptingKey::cbc_pkcs7(stretch(passphrase, salt, ROUNDS)?);
    let key = key.map_err(|_| KeyFileError::Malformed)?;
    let context = EncryptionContext::Iv128(FixedLength::from(iv));
    key.less_safe_encrypt(&mut *plain, context).map_err(|_| KeyFileError::Malformed)?; // now ciphertext
    let rounds = ROUNDS.to_be_bytes();
    let rounds = rounds.get(1..).unwrap_or_default(); // 600,000 has three bytes, the first below 0x80
    let derive = der(
        SEQUENCE,
        &[
            &der(OID, &[&PBKDF2]),
            &der(
                SEQUENCE,
                &[
                    &der(OCTETS, &[salt]),
                    &der(INTEGER, &[rounds]),
                    &der(SEQUENCE, &[&der(OID, &[&HMAC_SHA256]), &der(NULL, &[])]),
                ],
            ),
        ],
    );
    let cipher = der(SEQUENCE, &[&der(OID, &[&AES_256_CBC]), &der(OCTETS, &[&iv])]);
    let how = der(SEQUENCE, &[&der(OID, &[&PBES2]), &der(SEQUENCE, &[&derive, &cipher])]);
    Ok(to_pem(SEALED, &der(SEQUENCE, &[&how, &der(OCTETS, &[&plain])])))
}

/// The seed in a PEM file.
///
/// # Errors
/// [`KeyFileError`] says what it is instead.
///
/// Cost: with a passphrase about 0.4 µs for each round that the file asks for, at most four seconds.
pub fn read_key_file(file: &[u8], passphrase: Option<&[u8]>) -> Result<Zeroizing<[u8; 32]>, KeyFileError> {
    if FILE_BYTES_MAX < file.len() {
        return Err(KeyFileError::Malformed);
    }
    let (label, der) = from_pem(file)?;
    if label == PLAIN {
        return seed_of(&der);
    }
    let passphrase = passphrase.ok_or(KeyFileError::NeedsPassphrase)?;
    let mut outer = Der(&der).only(SEQUENCE)?;
    let mut how = outer.next(SEQUENCE)?;
    let sealed = outer.next(OCTETS)?;
    outer.end()?;
    how.expect(OID, &PBES2)?;
    let mut parameters = how.next(SEQUENCE)?;
    let (mut derive, mut cipher) = (parameters.next(SEQUENCE)?, parameters.next(SEQUENCE)?);
    derive.expect(OID, &PBKDF2)?;
    let mut derive = derive.next(SEQUENCE)?;
    let (salt, rounds) = (derive.next(OCTETS)?, derive.next(INTEGER)?);
    let rounds =
        rounds.0.iter().try_fold(0u32, |all, byte| all.checked_mul(256)?.checked_add(u32::from(*byte)));
    let rounds =
        rounds.filter(|rounds| (1..=ROUNDS_MAX).contains(rounds)).ok_or(KeyFileError::OtherCipher)?;
    if derive.0.first() == Some(&INTEGER) {
        derive.expect(INTEGER, &[32])?; // the key's length, which may be said
    }
    derive.next(SEQUENCE).map_err(|_| KeyFileError::OtherCipher)?.expect(OID, &HMAC_SHA256)?;
    cipher.expect(OID, &AES_256_CBC)?;
    let iv: [u8; 16] = cipher.next(OCTETS)?.0.try_into().map_err(|_| KeyFileError::Malformed)?;
    let key = PaddedBlockDecryptingKey::cbc_pkcs7(stretch(passphrase, salt.0, rounds)?);
    let key = key.map_err(|_| KeyFileError::Malformed)?;
    let mut data = Zeroizing::new(sealed.0.to_vec());
    let opened = key.decrypt(&mut data, DecryptionContext::Iv128(FixedLength::from(iv)));
    seed_of(opened.map_err(|_| KeyFileError::WrongPassphrase)?).map_err(|_| KeyFileError::WrongPassphrase)
}

/// Checked by aws-lc's parser; then the seed is where RFC 8410 puts it, at the front of version 0 and of version 1.
fn seed_of(der: &[u8]) -> Result<Zeroizing<[u8; 32]>, KeyFileError> {
    let pair = aws_lc_rs::signature::Ed25519KeyPair::from_pkcs8(der).map_err(|_| KeyFileError::OtherKey)?;
    let mut info = Der(der).only(SEQUENCE)?;
    info.next(INTEGER)?;
    info.next(SEQUENCE)?;
    let mut key = info.next(OCTETS)?;
    let seed: [u8; 32] = key.next(OCTETS)?.0.try_into().map_err(|_| KeyFileError::Malformed)?;
    let seed = Zeroizing::new(seed);
    let again = crate::SigningKey::from_seed(crate::Provider::AwsLc, &seed).public();
    if again.0 != aws_lc_rs::signature::KeyPair::public_key(&pair).as_ref() {
        return Err(KeyFileError::Malformed);
    }
    Ok(seed)
}

fn stretch(passphrase: &[u8], salt: &[u8], rounds: u32) -> Result<UnboundCipherKey, KeyFileError> {
    let rounds = NonZeroU32::new(rounds).ok_or(KeyFileError::OtherCipher)?;
    let mut key = Zeroizing::new([0u8; 32]);
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, salt, passphrase, key.as_mut_slice());
    UnboundCipherKey::new(&AES_256, key.as_slice()).map_err(|_| KeyFileError::Malformed)
}

fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut bytes = vec![tag];
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => bytes.push(short),
        Ok(short) => bytes.extend_from_slice(&[0x81, short]),
        Err(_) => {
            let [high, low] = u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes(); // a key file is far shorter
            bytes.extend_from_slice(&[0x82, high, low]);
        }
    }
    parts.iter().for_each(|part| bytes.extend_from_slice(part));
    bytes
}

/// What is left of a value in DER.
#[derive(Clone, Copy)]
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    fn next(&mut self, tag: u8) -> Result<Self, KeyFileError> {
        let malformed = KeyFileError::Malformed;
        let (head, rest) = self.0.split_first_chunk::<2>().ok_or(malformed)?;
        let [found, first] = *head;
        let extra = match first {
            0..=0x7f => 0,
            0x81 => 1,
            0x82 => 2,
            _ => return Err(malformed),
        };
        let (long, rest) = rest.split_at_checked(extra).ok_or(malformed)?;
        let length = if extra == 0 {
            usize::from(first)
        } else {
            long.iter().fold(0, |all, byte| all * 256 + usize::from(*byte))
        };
        let (value, rest) = rest.split_at_checked(length).ok_or(malformed)?;
        if found != tag {
            return Err(malformed);
        }
        self.0 = rest;
        Ok(Self(value))
    }

    fn expect(&mut self, tag: u8, value: &[u8]) -> Result<(), KeyFileError> {
        if self.next(tag)?.0 == value { Ok(()) } else { Err(KeyFileError::OtherCipher) }
    }

    fn only(mut self, tag: u8) -> Result<Self, KeyFileError> {
        let value = self.next(tag)?;
        self.end()?;
        Ok(value)
    }

    fn end(self) -> Result<(), KeyFileError> {
        if self.0.is_empty() { Ok(()) } else { Err(KeyFileError::Malformed) }
    }
}

fn to_pem(label: &str, der: &[u8]) -> Zeroizing<String> {
    let text = Zeroizing::new(STANDARD.encode(der));
    let mut pem = Zeroizing::new(format!("-----BEGIN {label}-----\n"));
    for line in text.as_bytes().chunks(64) {
        pem.push_str(std::str::from_utf8(line).unwrap_or_default()); // base64 is ASCII
        pem.push('\n');
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    pem
}

fn from_pem(file: &[u8]) -> Result<(&'static str, Zeroizing<Vec<u8>>), KeyFileError> {
    let text = std::str::from_utf8(file).map_err(|_| KeyFileError::Malformed)?.trim();
    let inside = |label: &'static str| {
        let body = text.strip_prefix("-----BEGIN ")?.strip_prefix(label)?.strip_prefix("-----")?;
        let body = body.strip_suffix("-----")?.strip_suffix(label)?.strip_suffix("-----END ")?;
        Some((label, body))
    };
    let (label, body) = inside(PLAIN).or_else(|| inside(SEALED)).ok_or(KeyFileError::Malformed)?;
    let packed: Zeroizing<String> =
        Zeroizing::new(body.chars().filter(|one| !one.is_ascii_whitespace()).collect());
    let der = STANDARD.decode(packed.as_bytes()).map_err(|_| KeyFileError::Malformed)?;
    Ok((label, Zeroizing::new(der)))
}

#[cfg(test)]
mod tests {
    use symbi_types::SystemEntropy;

    use super::*;

    const SEED: [u8; 32] = [7; 32];

    #[test]
    fn kf1_a_key_reads_back_under_its_own_passphrase_and_no_other() {
        let plain = write_key_file(&SEED, None, &SystemEntropy).unwrap();
        assert!(is_pem(plain.as_bytes()) && !is_pem(&SEED));
        assert_eq!(*read_key_file(plain.as_bytes(), None).unwrap(), SEED);
        assert_eq!(*read_key_file(plain.as_bytes(), Some(b"not needed")).unwrap(), SEED);
        let sealed = write_key_file(&SEED, Some("pässword".as_bytes()), &SystemEntropy).unwrap();
        assert_eq!(*read_key_file(sealed.as_bytes(), Some("pässword".as_bytes())).unwrap(), SEED);
        assert_eq!(read_key_file(sealed.as_bytes(), Some(b"x")), Err(KeyFileError::WrongPassphrase));
        assert_eq!(read_key_file(sealed.as_bytes(), None), Err(KeyFileError::NeedsPassphrase));
        let again = write_key_file(&SEED, Some("pässword".as_bytes()), &SystemEntropy).unwrap();
        assert_ne!(sealed, again, "another salt");
    }

    #[test]
    fn kf1_every_changed_byte_of_a_key_is_noticed_or_another_key() {
        let sealed = write_key_file(&SEED, Some(b"x"), &SystemEntropy).unwrap();
        for at in (100..sealed.trim_end().len()).step_by(17) {
            let mut bad = sealed.as_bytes().to_vec();
            bad[at] ^= 1;
            assert_ne!(read_key_file(&bad, Some(b"x")).ok().as_deref(), Some(&SEED), "{at}");
        }
        let file = write_key_file(&SEED, None, &SystemEntropy).unwrap();
        for at in 0..file.trim_end().len() {
            let mut bad = file.as_bytes().to_vec();
            bad[at] ^= 1;
            assert_ne!(read_key_file(&bad, None).ok().as_deref(), Some(&SEED), "{at}");
            assert_ne!(read_key_file(&bad[..at], None).ok().as_deref(), Some(&SEED), "{at}");
        }
    }

    /// Bytes of the other form one after the other, with few rounds, as another program might write them.
    #[test]
    fn kf2_whatever_stands_there_reading_ends_with_a_reason() {
        let cut = |der: &[u8]| to_pem(SEALED, der);
        let good = der(
            SEQUENCE,
            &[
                &der(
                    SEQUENCE,
                    &[
                        &der(OID, &[&PBES2]),
                        &der(
                            SEQUENCE,
                            &[
                                &der(
                                    SEQUENCE,
                                    &[
                                        &der(OID, &[&PBKDF2]),
                                        &der(
                                            SEQUENCE,
                                            &[
                                                &der(OCTETS, &[b"saltsalt"]),
                                                &der(INTEGER, &[&[2]]),
                                                &der(
                                                    SEQUENCE,
                                                    &[&der(OID, &[&HMAC_SHA256]), &der(NULL, &[])],
                                                ),
                                            ],
                                        ),
                                    ],
                                ),
                                &der(SEQUENCE, &[&der(OID, &[&AES_256_CBC]), &der(OCTETS, &[&[0; 16]])]),
                            ],
                        ),
                    ],
                ),
                &der(OCTETS, &[&[0; 64]]),
            ],
        );
        assert_eq!(read_key_file(cut(&good).as_bytes(), Some(b"x")), Err(KeyFileError::WrongPassphrase));
        for at in 0..good.len() {
            assert!(read_key_file(cut(&good[..at]).as_bytes(), Some(b"x")).is_err());
            for flip in [1, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[at] ^= flip;
                assert!(read_key_file(cut(&bad).as_bytes(), Some(b"x")).is_err());
            }
        }
        let long = "-----BEGIN PRIVATE KEY-----\n".to_owned() + &"A".repeat(5_000);
        assert_eq!(read_key_file(long.as_bytes(), None), Err(KeyFileError::Malformed));
        for wrong in
            ["", "-----BEGIN PRIVATE KEY-----", "-----BEGIN PRIVATE KEY----------END PRIVATE KEY-----"]
        {
            assert!(read_key_file(wrong.as_bytes(), None).is_err());
        }
    }
}
