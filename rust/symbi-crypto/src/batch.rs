//! Many signatures at once: one equation for a whole group instead of one each.
//!
//! Why not `ed25519_dalek::verify_batch`: a log has one signer, and the terms of one key can be merged, which halves
//! the points of the multiplication. About 5 µs a signature instead of 30 one by one.
//! Source: Bernstein et al., "High-speed high-security signatures", section 5, with the sum of z·h taken per key.
//!
//! The equation is without cofactor. It accepts all that the strict rule accepts; where it fails, the strict rule
//! decides one by one, so that the index is right. Only the holder of the key himself could make a signature that the
//! batch takes and the strict rule does not (a torsion component, accepted by chance): it is still his.

use curve25519_dalek::constants::ED25519_BASEPOINT_POINT;
use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::{IsIdentity as _, VartimeMultiscalarMul as _};

use crate::hash::{sha256, sha512};
use crate::{PublicKey, SignatureError, VerifyingKey};

/// Signatures in one equation. More gain little (the cost per point falls with the logarithm) and one bad
/// signature makes the whole group be checked one by one.
const GROUP_MAX: usize = 512;
/// Below this the equation costs more than single checks.
const GROUP_MIN: usize = 4;

/// A key that signatures are checked with: bytes, or a key that was looked at before.
pub trait SignerKey {
    /// The 32 bytes that go into the hash.
    fn bytes(&self) -> &[u8; 32];
    /// The point; `None` where there is none, or one of small order.
    fn point(&self) -> Option<EdwardsPoint>;
    /// The strict rule (C2).
    ///
    /// # Errors
    /// [`SignatureError`] when the signature does not hold.
    fn verify(&self, message: &[u8], signature: &[u8; 64]) -> Result<(), SignatureError>;
}

impl SignerKey for PublicKey {
    fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    fn point(&self) -> Option<EdwardsPoint> {
        CompressedEdwardsY(self.0).decompress().filter(|point| !point.is_small_order())
    }

    fn verify(&self, message: &[u8], signature: &[u8; 64]) -> Result<(), SignatureError> {
        Self::verify(self, message, signature)
    }
}

impl SignerKey for VerifyingKey {
    fn bytes(&self) -> &[u8; 32] {
        self.public_bytes()
    }

    fn point(&self) -> Option<EdwardsPoint> {
        Some(Self::point(self))
    }

    fn verify(&self, message: &[u8], signature: &[u8; 64]) -> Result<(), SignatureError> {
        Self::verify(self, message, signature)
    }
}

/// One signature to check.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a, Key = PublicKey> {
    /// Whose it should be.
    pub key: &'a Key,
    /// What was signed, domain included.
    pub message: &'a [u8],
    /// The signature.
    pub signature: &'a [u8; 64],
}

/// Checks all. In groups, so that a fault costs one group's single checks and no more.
///
/// # Errors
/// The index of the first signature that the strict rule refuses.
pub fn verify_many<Key: SignerKey>(signed: &[Signed<'_, Key>]) -> Result<(), usize> {
    for (number, group) in signed.chunks(GROUP_MAX).enumerate() {
        if group.len() >= GROUP_MIN && group_holds(group) == Some(true) {
            continue;
        }
        for (at, one) in group.iter().enumerate() {
            one.key.verify(one.message, one.signature).map_err(|_| number * GROUP_MAX + at)?;
        }
    }
    Ok(())
}

/// Says of each whether it holds, into `verdicts`, which is cleared. A group that fails is halved until the culprits
/// are found, so that one bad signature costs a few equations and a flood of them single checks.
pub fn verify_each<Key: SignerKey>(signed: &[Signed<'_, Key>], verdicts: &mut Vec<bool>) {
    verdicts.clear();
    for group in signed.chunks(GROUP_MAX) {
        halve(group, verdicts, group.len() / 4);
    }
}

/// Down to a quarter of a full group; below, single checks are cheaper than more equations that fail.
fn halve<Key: SignerKey>(group: &[Signed<'_, Key>], verdicts: &mut Vec<bool>, smallest: usize) {
    if GROUP_MIN <= group.len() && group_holds(group) == Some(true) {
        verdicts.resize(verdicts.len() + group.len(), true);
    } else if group.len() <= smallest || group.len() < 2 * GROUP_MIN {
        verdicts.extend(group.iter().map(|one| one.key.verify(one.message, one.signature).is_ok()));
    } else {
        let (left, right) = group.split_at(group.len() / 2);
        halve(left, verdicts, smallest);
        halve(right, verdicts, smallest);
    }
}

/// The points of one key in the equation, merged.
struct Merged {
    bytes: [u8; 32],
    point: EdwardsPoint,
    scalar: Scalar,
}

/// Σ z·s·B = Σ z·R + Σ (z·h)·A, for random z of 128 bits. `None` where a part is not even well-formed.
fn group_holds<Key: SignerKey>(group: &[Signed<'_, Key>]) -> Option<bool> {
    let mut hashes = Vec::with_capacity(group.len() * 96);
    for one in group {
        let (r, s) = halves(one.signature)?;
        hashes.extend_from_slice(&sha512(&[r, one.key.bytes(), one.message]));
        hashes.extend_from_slice(s);
    }
    // The multipliers must not be predictable from outside the signatures: they come from a hash over all of them.
    let seed = sha256(&[b"symbi/batch/v1\0", &hashes]);
    let mut scalars = Vec::with_capacity(group.len() + 2);
    let mut points = Vec::with_capacity(group.len() + 2);
    let mut keys: Vec<Merged> = Vec::new();
    let mut base = Scalar::ZERO;
    for ((at, one), part) in (0u64..).zip(group).zip(hashes.chunks_exact(96)) {
        let (r, s) = halves(one.signature)?;
        let h = Scalar::from_bytes_mod_order_wide(part.first_chunk::<64>()?);
        let s = Option::<Scalar>::from(Scalar::from_canonical_bytes(*s))?;
        let z = sha256(&[&seed, &at.to_be_bytes()]);
        let z = Scalar::from(u128::from_be_bytes(*z.first_chunk::<16>()?));
        if !is_canonical(r) || is_of_small_order(r) {
            return None;
        }
        let point = CompressedEdwardsY(*r).decompress()?;
        base += z * s;
        scalars.push(z);
        points.push(point);
        merge(&mut keys, one.key, z * h)?;
    }
    scalars.push(-base);
    points.push(ED25519_BASEPOINT_POINT);
    for key in keys {
        scalars.push(key.scalar);
        points.push(key.point);
    }
    Some(EdwardsPoint::vartime_multiscalar_mul(scalars, points).is_identity())
}

fn merge<Key: SignerKey>(keys: &mut Vec<Merged>, key: &Key, scalar: Scalar) -> Option<()> {
    if let Some(known) = keys.iter_mut().rev().find(|known| known.bytes == *key.bytes()) {
        known.scalar += scalar;
        return Some(());
    }
    keys.push(Merged { bytes: *key.bytes(), point: key.point()?, scalar });
    Some(())
}

/// R and s.
pub(crate) fn halves(signature: &[u8; 64]) -> Option<(&[u8; 32], &[u8; 32])> {
    Some((signature.first_chunk::<32>()?, signature.last_chunk::<32>()?))
}

/// Whether y < 2^255 - 19: the strict rule compares bytes, so another spelling of the same point must not pass here.
fn is_canonical(r: &[u8; 32]) -> bool {
    let [low, middle @ .., high] = r;
    !(*low >= 0xed && middle.iter().all(|byte| *byte == 0xff) && high & 0x7f == 0x7f)
}

/// The y of the eight points whose order divides eight: 1, -1, 0, and two of order eight. x has either sign.
const SMALL_ORDER_Y: [[u8; 32]; 5] = {
    let zero = [0u8; 32];
    let mut one = zero;
    one[0] = 1;
    let mut minus_one = [0xff; 32];
    minus_one[0] = 0xec;
    minus_one[31] = 0x7f;
    [
        zero,
        one,
        minus_one,
        [
            0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0,
            0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
        ],
        [
            0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f,
            0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
        ],
    ]
};

/// Of canonical bytes, whether they are one of these points, seen without finding the point.
fn is_of_small_order(r: &[u8; 32]) -> bool {
    let [low @ .., high] = *r;
    let mut y = [0u8; 32];
    y.iter_mut().zip(low.into_iter().chain([high & 0x7f])).for_each(|(to, from)| *to = from);
    SMALL_ORDER_Y.contains(&y)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Provider, SigningKey};

    struct Case {
        key: PublicKey,
        message: Vec<u8>,
        signature: [u8; 64],
    }

    fn cases(count: usize, signers: usize) -> Vec<Case> {
        let keys: Vec<_> = (0..signers)
            .map(|at| SigningKey::from_seed(Provider::AwsLc, &[u8::try_from(at + 1).unwrap(); 32]))
            .collect();
        (0..count)
            .map(|at| {
                let key = &keys[at % signers];
                let message = format!("message {at}").into_bytes();
                Case { key: key.public(), signature: key.sign(&message), message }
            })
            .collect()
    }

    fn check(cases: &[Case]) -> Result<(), usize> {
        let signed: Vec<_> = cases
            .iter()
            .map(|case| Signed { key: &case.key, message: &case.message, signature: &case.signature })
            .collect();
        verify_many(&signed)
    }

    #[test]
    fn good_batches_of_every_shape_hold() {
        for count in [0, 1, 3, 4, 5, 64, 511, 512, 513, 1_100] {
            for signers in [1, 3] {
                assert_eq!(check(&cases(count, signers)), Ok(()), "{count} by {signers}");
            }
        }
    }

    #[test]
    fn c2_the_first_bad_index_is_named_wherever_it_is() {
        for bad in [0, 1, 3, 511, 512, 600] {
            let mut cases = cases(601, 2);
            cases[bad].signature[5] ^= 1;
            cases[600].message.push(0);
            assert_eq!(check(&cases), Err(bad));
        }
    }

    #[test]
    fn c2_any_flipped_bit_in_a_batch_is_named() {
        let good = cases(8, 1);
        for bit in 0..512 {
            let mut cases = cases(8, 1);
            cases[6].signature[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(check(&cases), Err(6), "bit {bit}");
        }
        assert_eq!(check(&good), Ok(()));
    }

    #[test]
    fn c2_two_faults_that_cancel_out_in_a_plain_sum_are_found() {
        let mut cases = cases(16, 1);
        let (left, right) = (cases[2].signature, cases[3].signature);
        cases[2].signature = right;
        cases[3].signature = left;
        assert_eq!(check(&cases), Err(2));
    }

    #[test]
    fn c2_the_points_of_small_order_are_known_by_their_bytes_and_no_other_is_taken_for_one() {
        let mut known = std::collections::HashSet::new();
        for point in curve25519_dalek::constants::EIGHT_TORSION {
            let mut bytes = point.compress().0;
            for _ in 0..2 {
                assert!(is_of_small_order(&bytes), "{bytes:02x?}");
                bytes[31] ^= 0x80; // the other sign of x, which decompressing takes for x = 0 too
            }
            bytes[31] &= 0x7f;
            known.insert(bytes);
        }
        assert_eq!(known, SMALL_ORDER_Y.into_iter().collect());
        for case in cases(50, 50) {
            assert!(!is_of_small_order(case.signature.first_chunk().unwrap()));
            assert!(!is_of_small_order(&case.key.0));
        }
    }

    #[test]
    fn c2_another_spelling_of_a_point_is_not_canonical() {
        let mut bytes = [0xff; 32];
        bytes[0] = 0xee;
        assert!(!is_canonical(&bytes));
        bytes[0] = 0xec;
        assert!(is_canonical(&bytes));
    }
}
