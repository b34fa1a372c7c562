//! M4: signatures at the edges of Ed25519, made by hand, which lax verifiers accept and the strict rule refuses.
//! What each case is: Chalkias, Garillot, Nikolaenko, "Taming the many EdDSAs", table 1.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT as B, EIGHT_TORSION};
use curve25519_dalek::edwards::CompressedEdwardsY;
use curve25519_dalek::scalar::Scalar;
use symbi_crypto::{Provider, PublicKey, Signed, SigningKey, VerifyingKey, verify_each, verify_many};

const MESSAGE: &[u8] = b"symbi/test/v1\0pay 10";

/// The order of the group, little-endian.
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

fn challenge(r: &[u8; 32], key: &[u8; 32]) -> Scalar {
    let mut context = ring::digest::Context::new(&ring::digest::SHA512);
    for part in [&r[..], key, MESSAGE] {
        context.update(part);
    }
    Scalar::from_bytes_mod_order_wide(context.finish().as_ref().try_into().unwrap())
}

/// The signature of a key's holder who chose these bytes for R and for the key.
fn forged(secret: Scalar, nonce: Scalar, r: [u8; 32], key: [u8; 32]) -> [u8; 64] {
    let s = nonce + challenge(&r, &key) * secret;
    let mut signature = [0u8; 64];
    signature[..32].copy_from_slice(&r);
    signature[32..].copy_from_slice(s.as_bytes());
    signature
}

/// Refused alone, under bytes and under a key that was looked at, and among good ones.
fn assert_refused(key: [u8; 32], signature: &[u8; 64], what: &str) {
    let public = PublicKey(key);
    assert!(public.verify(MESSAGE, signature).is_err(), "{what}");
    if let Ok(looked_at) = VerifyingKey::new(public) {
        assert!(looked_at.verify(MESSAGE, signature).is_err(), "{what}");
    }
    let good = SigningKey::from_seed(Provider::AwsLc, &[3; 32]);
    let (public_of_good, good_signature) = (good.public(), good.sign(MESSAGE));
    let mut signed = vec![Signed { key: &public_of_good, message: MESSAGE, signature: &good_signature }; 20];
    signed[7] = Signed { key: &public, message: MESSAGE, signature };
    assert_eq!(verify_many(&signed), Err(7), "{what}");
    let mut verdicts = Vec::new();
    verify_each(&signed, &mut verdicts);
    assert!(verdicts.iter().enumerate().all(|(at, holds)| *holds == (at != 7)), "{what}: {verdicts:?}");
}

fn secrets() -> (Scalar, Scalar) {
    (Scalar::from(123_456_789u64), Scalar::from(987_654_321u64))
}

#[test]
fn m4_a_signature_made_by_hand_holds_where_nothing_is_odd_about_it() {
    let (secret, nonce) = secrets();
    let [key, r] = [secret, nonce].map(|scalar| (B * scalar).compress().0);
    let signature = forged(secret, nonce, r, key);
    assert_eq!(PublicKey(key).verify(MESSAGE, &signature), Ok(()));
    assert_eq!(VerifyingKey::new(PublicKey(key)).unwrap().verify(MESSAGE, &signature), Ok(()));
}

#[test]
fn m4_an_s_that_is_not_reduced_is_refused() {
    let (secret, nonce) = secrets();
    let [key, r] = [secret, nonce].map(|scalar| (B * scalar).compress().0);
    let mut signature = forged(secret, nonce, r, key);
    for times in 1..=8 {
        let mut carry = 0u16;
        for (byte, more) in signature[32..].iter_mut().zip(ORDER) {
            carry += u16::from(*byte) + u16::from(more);
            *byte = carry as u8;
            carry >>= 8;
        }
        if carry == 0 {
            assert_refused(key, &signature, &format!("S + {times} L"));
        }
    }
}

#[test]
fn m4_keys_and_rs_of_small_order_are_refused() {
    let (secret, nonce) = secrets();
    let key = (B * secret).compress().0;
    for (at, torsion) in EIGHT_TORSION.iter().enumerate() {
        let small = torsion.compress().0;
        // R of small order: S = h·a satisfies the equation but for the small part.
        assert_refused(key, &forged(secret, Scalar::ZERO, small, key), &format!("R of small order {at}"));
        // A key of small order: S = r, whatever the message.
        let r = (B * nonce).compress().0;
        assert_refused(small, &forged(Scalar::ZERO, nonce, r, small), &format!("key of small order {at}"));
        assert!(VerifyingKey::new(PublicKey(small)).is_err());
        assert_refused(small, &forged(Scalar::ZERO, Scalar::ZERO, small, small), &format!("both {at}"));
    }
}

#[test]
fn m4_a_key_with_a_small_part_is_refused_when_it_is_looked_at() {
    let (secret, _) = secrets();
    for torsion in &EIGHT_TORSION[1..] {
        let mixed = B * secret + torsion;
        assert!(VerifyingKey::new(PublicKey(mixed.compress().0)).is_err());
    }
}

#[test]
fn m4_an_r_with_a_small_part_is_refused_alone() {
    let (secret, nonce) = secrets();
    let key = (B * secret).compress().0;
    for torsion in &EIGHT_TORSION[1..] {
        let r = (B * nonce + torsion).compress().0;
        let signature = forged(secret, nonce, r, key);
        assert!(PublicKey(key).verify(MESSAGE, &signature).is_err());
        assert!(VerifyingKey::new(PublicKey(key)).unwrap().verify(MESSAGE, &signature).is_err());
    }
}

/// Encodings with y of p to p + 18: other spellings of y of 0 to 18.
#[test]
fn m4_other_spellings_of_points_are_refused() {
    let (secret, _) = secrets();
    let key = (B * secret).compress().0;
    let mut decoded = 0;
    for sign in [0u8, 0x80] {
        for low in 0xed..=0xffu8 {
            let mut spelled = [0xff; 32];
            spelled[0] = low;
            spelled[31] = 0x7f | sign;
            decoded += usize::from(CompressedEdwardsY(spelled).decompress().is_some());
            assert!(VerifyingKey::new(PublicKey(spelled)).is_err(), "key {low} {sign}");
            assert_refused(key, &forged(secret, Scalar::ZERO, spelled, key), &format!("R {low} {sign}"));
        }
    }
    assert!(8 < decoded, "some of them are points: {decoded}");
}
