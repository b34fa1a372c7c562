//! SHA-256 and what is built on it.

use aws_lc_rs::{digest, hmac};
use zeroize::Zeroize as _;

/// SHA-256 over the parts, one after the other. The caller makes the parts unambiguous (fixed sizes, domain first).
#[must_use]
pub fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    if let [whole] = parts {
        return array(digest::digest(&digest::SHA256, whole).as_ref()); // no context to set up: a third of the time
    }
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part);
    }
    array(context.finish().as_ref())
}

/// SHA-256 over bytes that come one after the other, more than fit into memory.
pub struct Sha256(digest::Context);

impl Default for Sha256 {
    fn default() -> Self {
        Self(digest::Context::new(&digest::SHA256))
    }
}

impl Sha256 {
    /// Takes more bytes in.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all.
    #[must_use]
    pub fn finish(self) -> [u8; 32] {
        array(self.0.finish().as_ref())
    }
}

/// Bytes that are laid side by side before they are hashed: a message of a few hundred bytes.
const ONE_PIECE_BYTES: usize = 1_024;

/// SHA-512 over the parts: the inner hash of Ed25519.
pub(crate) fn sha512(parts: &[&[u8]]) -> [u8; 64] {
    if let Some((bytes, end)) = one_piece::<ONE_PIECE_BYTES>(parts) {
        let whole = bytes.get(..end).unwrap_or_default();
        return array(digest::digest(&digest::SHA512, whole).as_ref()); // no context to set up
    }
    let mut context = digest::Context::new(&digest::SHA512);
    for part in parts {
        context.update(part);
    }
    array(context.finish().as_ref())
}

/// The parts side by side, where they fit, and where they end.
fn one_piece<const N: usize>(parts: &[&[u8]]) -> Option<([u8; N], usize)> {
    let (mut bytes, mut end) = ([0u8; N], 0);
    for part in parts {
        let next = end + part.len();
        bytes.get_mut(end..next)?.copy_from_slice(part);
        end = next;
    }
    Some((bytes, end))
}

/// HMAC-SHA-256 (RFC 2104) over the parts.
#[must_use]
pub fn hmac_sha256(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    hmac_parts(key, parts)
}

pub(crate) fn hmac_parts(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    for part in parts {
        context.update(part);
    }
    array(context.sign().as_ref())
}

/// HKDF-SHA-256 (RFC 5869), one block of output: 32 bytes. `info` carries the purpose, domain first (C1).
#[must_use]
pub fn hkdf_sha256(secret: &[u8], salt: &[u8], info: &[u8]) -> [u8; 32] {
    let mut extracted = hmac_parts(salt, &[secret]);
    let expanded = hkdf_expand(&extracted, &[info]);
    extracted.zeroize();
    expanded
}

/// The first block of HKDF's second half, with `info` in parts.
pub(crate) fn hkdf_expand(key: &[u8; 32], info: &[&[u8]]) -> [u8; 32] {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    for part in info {
        context.update(part);
    }
    context.update(&[1]);
    array(context.sign().as_ref())
}

/// The bytes of a digest whose size its algorithm fixes.
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut out = [0u8; N];
    assert!(bytes.len() == N, "a digest has the size of its algorithm");
    out.copy_from_slice(bytes);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn sha256_of_parts_is_sha256_of_the_whole() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"; // FIPS 180-2, B.1
        assert_eq!(hex(&sha256(&[b"a", b"", b"bc"])), abc);
        let mut pieces = Sha256::default();
        ["a", "", "bc"].iter().for_each(|piece| pieces.update(piece.as_bytes()));
        assert_eq!(hex(&pieces.finish()), abc);
    }

    #[test]
    fn hkdf_gives_the_first_block_of_rfc_5869_case_1() {
        let salt: Vec<u8> = (0..=0x0c).collect();
        let info: Vec<u8> = (0xf0..=0xf9).collect();
        let okm = hkdf_sha256(&[0x0b; 22], &salt, &info);
        assert_eq!(hex(&okm), "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf");
    }

    #[test]
    fn hmac_gives_rfc_4231_case_1() {
        let mut key = [0u8; 32]; // HMAC pads a short key with zeros, so the 20-byte key of the case fits
        key[..20].fill(0x0b);
        let tag = hmac_sha256(&key, &[b"Hi ", b"There"]);
        assert_eq!(hex(&tag), "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    }
}
