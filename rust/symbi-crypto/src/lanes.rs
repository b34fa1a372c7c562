//! Many Ed25519 signatures by one key, eight at a time: one in each lane of AVX-512's 52-bit multiplier (IFMA).
//!
//! Why: a signature is nine tenths of what a record of the trail costs, and its scalar multiplication is nothing but a
//! thousand multiplications of 255 bits, which eight signatures can share instruction by instruction. The same bytes come
//! out as from aws-lc, because Ed25519 has no choice in them; a test compares them.
//! Source: RFC 8032, 5.1.6; Hisil et al., "Twisted Edwards curves revisited" (the formulas are complete: no case is
//! special); the signed digits and the table by Bernstein et al., "High-speed high-security signatures", section 4.
//! Not here: single signatures (`ed25519`), the field (`field`), points and the table (`point`).
//!
//! Invariants
//! - C5 what is signed in lanes is byte for byte what is signed alone.
//! - C6 no branch and no address depends on a secret: a table is looked up by permuting registers, a sign by blending.

mod field;
mod point;

use curve25519_dalek::scalar::Scalar;
use zeroize::Zeroizing;

use crate::hash::sha512;
use point::Table;

/// Signatures at once.
pub(crate) const LANES: usize = 8;
/// Fewer are signed one by one: eight lanes take about the time of two single signatures.
pub(crate) const WORTH_IT: usize = 3;
/// Signatures that share one inversion.
const SHARED_MAX: usize = 64;

/// What a seed becomes (RFC 8032, 5.1.5), for signing in lanes.
pub(crate) struct Expanded {
    scalar: Zeroizing<Scalar>,
    prefix: Zeroizing<[u8; 32]>,
    public: [u8; 32],
}

impl Expanded {
    /// None where this processor has no such lanes.
    pub(crate) fn new(seed: &[u8; 32], public: [u8; 32]) -> Option<Self> {
        point::table()?;
        let mut hash = Zeroizing::new(sha512(&[seed]));
        let (low, high) = hash.split_at_mut(32);
        let mut clamped = Zeroizing::new([0u8; 32]);
        clamped.copy_from_slice(low);
        let [first, .., last] = &mut *clamped;
        *first &= 248;
        *last = (*last & 127) | 64;
        let mut prefix = Zeroizing::new([0u8; 32]);
        prefix.copy_from_slice(high);
        Some(Self { scalar: Zeroizing::new(Scalar::from_bytes_mod_order(*clamped)), prefix, public })
    }

    /// Signs all, in order.
    pub(crate) fn sign<M: AsRef<[u8]>>(&self, messages: &[M], signatures: &mut Vec<[u8; 64]>) -> Option<()> {
        let table = point::table()?;
        for some in messages.chunks(SHARED_MAX) {
            self.sign_some(table, some, signatures);
        }
        Some(())
    }

    fn sign_some<M: AsRef<[u8]>>(&self, table: &Table, messages: &[M], signatures: &mut Vec<[u8; 64]>) {
        let nonce = |message: &M| {
            let hash = Zeroizing::new(sha512(&[self.prefix.as_slice(), message.as_ref()]));
            Scalar::from_bytes_mod_order_wide(&hash)
        };
        let nonces: Zeroizing<Vec<Scalar>> = Zeroizing::new(messages.iter().map(nonce).collect());
        let points = table.times_base(&nonces);
        for ((message, nonce), r) in messages.iter().zip(nonces.iter()).zip(&points) {
            let challenge = Scalar::from_bytes_mod_order_wide(&sha512(&[r, &self.public, message.as_ref()]));
            let s = nonce + challenge * *self.scalar;
            let mut signature = [0u8; 64];
            let (first, second) = signature.split_at_mut(32);
            first.copy_from_slice(r);
            second.copy_from_slice(s.as_bytes());
            signatures.push(signature);
        }
    }
}
