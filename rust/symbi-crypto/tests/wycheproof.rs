//! M4: the vectors of project Wycheproof for Ed25519 and AES-256-GCM, and the odd signatures of "Taming the many EdDSAs",
//! against our rules and against both libraries.
//!
//! Signatures are verified by one strict rule whichever library signs; so here it is asked what that rule and the two
//! libraries say of the same bytes. Whatever we accept, both accept: a stranger with either of them agrees with us.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT as B, EIGHT_TORSION};
use curve25519_dalek::edwards::EdwardsPoint;
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::IsIdentity as _;
use symbi_crypto::{
    Provider, PublicKey, SealingKey, Signed, SigningKey, VerifyingKey, verify_each, verify_many,
};
use wycheproof::TestResult;

/// What aws-lc and ring say.
fn libraries(key: &[u8], message: &[u8], signature: &[u8]) -> [bool; 2] {
    let aws_lc = aws_lc_rs::signature::UnparsedPublicKey::new(&aws_lc_rs::signature::ED25519, key);
    let ring = ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, key);
    [aws_lc.verify(message, signature).is_ok(), ring.verify(message, signature).is_ok()]
}

/// What we say: of the bytes, of a key that was looked at, and in a batch of good ones.
fn ours(key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> [bool; 3] {
    let public = PublicKey(*key);
    let looked_at = VerifyingKey::new(public).is_ok_and(|key| key.verify(message, signature).is_ok());
    let good = SigningKey::from_seed(Provider::AwsLc, &[3; 32]);
    let (good_key, good_signature) = (good.public(), good.sign(message));
    let mut signed = vec![Signed { key: &good_key, message, signature: &good_signature }; 8];
    signed[5] = Signed { key: &public, message, signature };
    let mut verdicts = Vec::new();
    verify_each(&signed, &mut verdicts);
    assert!(verdicts.iter().enumerate().all(|(at, holds)| *holds || at == 5), "the others are good");
    [public.verify(message, signature).is_ok(), looked_at, verdicts[5]]
}

#[test]
fn m4_every_ed25519_vector_of_wycheproof_is_judged_as_it_says_by_us_and_by_both_libraries() {
    let set = wycheproof::eddsa::TestSet::load(wycheproof::eddsa::TestName::Ed25519).unwrap();
    let (mut good, mut bad) = (0, 0);
    for group in &set.test_groups {
        let key: [u8; 32] = group.key.pk.as_ref().try_into().unwrap();
        for test in &group.tests {
            let valid = test.result == TestResult::Valid;
            assert_ne!(test.result, TestResult::Acceptable);
            let (message, signature): (&[u8], &[u8]) = (&test.msg, &test.sig);
            assert_eq!(libraries(&key, message, signature), [valid; 2], "{}: {}", test.tc_id, test.comment);
            match <&[u8; 64]>::try_from(signature) {
                Ok(signature) => assert_eq!(ours(&key, message, signature), [valid; 3], "{}", test.tc_id),
                Err(_) => assert!(!valid, "{}: no signature has another length", test.tc_id),
            }
            *(if valid { &mut good } else { &mut bad }) += 1;
        }
    }
    assert!(50 < good && 50 < bad, "{good} good, {bad} bad");
}

#[test]
fn m4_every_aes_256_gcm_vector_of_wycheproof_is_sealed_and_opened_as_it_says_by_both_libraries() {
    let set = wycheproof::aead::TestSet::load(wycheproof::aead::TestName::AesGcm).unwrap();
    let (mut good, mut bad) = (0, 0);
    for group in set.test_groups.iter().filter(|group| (group.key_size, group.nonce_size) == (256, 96)) {
        assert_eq!(group.tag_size, 128);
        for test in &group.tests {
            let key: [u8; 32] = test.key.as_ref().try_into().unwrap();
            let nonce: [u8; 12] = test.nonce.as_ref().try_into().unwrap();
            let sealed = [test.ct.as_slice(), test.tag.as_slice()].concat();
            let valid = test.result == TestResult::Valid;
            for provider in [Provider::AwsLc, Provider::Ring] {
                let cipher = SealingKey::new(provider, key);
                let mut opened = sealed.clone();
                let what = format!("{provider} {}: {}", test.tc_id, test.comment);
                assert_eq!(cipher.open(nonce, &test.aad, &mut opened).is_ok(), valid, "{what}");
                if valid {
                    assert_eq!(opened, test.pt.as_slice(), "{what}");
                    cipher.seal(nonce, &test.aad, &mut opened).unwrap();
                    assert_eq!(opened, sealed, "{what}");
                } else {
                    assert!(opened.is_empty(), "{what}: nothing of it is handed out");
                }
            }
            *(if valid { &mut good } else { &mut bad }) += 1;
        }
    }
    assert!(20 < good && 20 < bad, "{good} good, {bad} bad");
}

fn challenge(r: &[u8; 32], key: &[u8; 32], message: &[u8]) -> Scalar {
    let mut context = ring::digest::Context::new(&ring::digest::SHA512);
    for part in [&r[..], key, message] {
        context.update(part);
    }
    Scalar::from_bytes_mod_order_wide(context.finish().as_ref().try_into().unwrap())
}

fn signature_of(r: [u8; 32], s: Scalar) -> [u8; 64] {
    let mut signature = [0u8; 64];
    signature[..32].copy_from_slice(&r);
    signature[32..].copy_from_slice(s.as_bytes());
    signature
}

/// 8·s·B = 8·R + 8·h·A: the loosest equation there is.
fn holds_times_eight(key: EdwardsPoint, r: EdwardsPoint, signature: &[u8; 64], message: &[u8]) -> bool {
    let bytes: [u8; 32] = signature[32..].try_into().unwrap();
    let s = Scalar::from_canonical_bytes(bytes).unwrap();
    let h = challenge(&r.compress().0, &key.compress().0, message);
    (B * s - r - key * h).mul_by_cofactor().is_identity()
}

/// Keys and Rs with parts of every small order: the holder of a key is the only one who can make them. We accept none of
/// them alone; where a library does (both do without the factor, when the small parts cancel), we are the stricter.
#[test]
fn m4_what_we_accept_of_mixed_and_small_order_both_libraries_accept_and_we_are_the_stricter() {
    let (secret, nonce) = (Scalar::from(123_456_789u64), Scalar::from(987_654_321u64));
    let rounds: u8 = if std::env::var_os("SYMBI_LONG").is_some() { 64 } else { 2 };
    let mut looser = 0;
    for (at, in_key) in EIGHT_TORSION.iter().enumerate() {
        for in_r in &EIGHT_TORSION {
            for round in 0..rounds {
                let message = [b"symbi/test/v1\0".as_slice(), &[round]].concat();
                for (secret, nonce) in [(secret, nonce), (Scalar::ZERO, nonce), (secret, Scalar::ZERO)] {
                    let (key, r) = (B * secret + in_key, B * nonce + in_r);
                    let (key_bytes, r_bytes) = (key.compress().0, r.compress().0);
                    let s = nonce + challenge(&r_bytes, &key_bytes, &message) * secret;
                    let signature = signature_of(r_bytes, s);
                    assert!(holds_times_eight(key, r, &signature, &message), "the equation times eight");
                    let [bytes, looked_at, _] = ours(&key_bytes, &message, &signature);
                    let both = libraries(&key_bytes, &message, &signature);
                    assert!(!looked_at || bytes, "a key that was looked at is not looser");
                    assert!(!bytes || both == [true, true], "key {at}: what we accept, both accept");
                    looser += usize::from(!looked_at && both.contains(&true));
                    let plain = in_key.is_identity() && in_r.is_identity();
                    assert_eq!(
                        looked_at,
                        plain && secret != Scalar::ZERO && nonce != Scalar::ZERO,
                        "key {at}"
                    );
                }
            }
        }
    }
    assert!(0 < looser, "where they differ, we are the stricter");
}

/// What `verify_many` promises, and what it does not. Everything that the strict rule accepts, it accepts; whatever it
/// accepts holds times eight. Between the two lie signatures that the holder of the key made so on purpose, with a small
/// part in R: the equation takes some of them and refuses others, by chance. So it is asked only where that holder gains
/// nothing: of a log, by whoever signed it. Messages of strangers never come into it (`symbi_bus::open`).
#[test]
fn m4_a_batch_lies_between_the_strict_rule_and_the_equation_times_eight() {
    let (secret, nonce) = (Scalar::from(123_456_789u64), Scalar::from(987_654_321u64));
    let key_bytes = (B * secret).compress().0;
    let key = PublicKey(key_bytes);
    let good = SigningKey::from_seed(Provider::AwsLc, &[3; 32]);
    let mut taken = [0, 0];
    for round in 0..64u8 {
        let message = [b"symbi/test/v1\0".as_slice(), &[round]].concat();
        let torsion = EIGHT_TORSION[1 + usize::from(round) % 7];
        let r = B * nonce + torsion;
        let s = nonce + challenge(&r.compress().0, &key_bytes, &message) * secret;
        let odd = signature_of(r.compress().0, s);
        assert!(key.verify(&message, &odd).is_err(), "alone: never");
        let (good_key, good_signature) = (good.public(), good.sign(&message));
        let mut signed = vec![Signed { key: &good_key, message: &message, signature: &good_signature }; 16];
        assert_eq!(verify_many(&signed), Ok(()), "all that is strict");
        signed[3] = Signed { key: &key, message: &message, signature: &odd };
        match verify_many(&signed) {
            Ok(()) => assert!(holds_times_eight(B * secret, r, &odd, &message)),
            Err(at) => assert_eq!(at, 3, "and the culprit is named"),
        }
        taken[usize::from(verify_many(&signed).is_ok())] += 1;
        // One that does not even hold times eight is never taken.
        let wrong = signature_of(r.compress().0, s + Scalar::ONE);
        assert!(!holds_times_eight(B * secret, r, &wrong, &message));
        signed[3] = Signed { key: &key, message: &message, signature: &wrong };
        assert_eq!(verify_many(&signed), Err(3));
    }
    assert!(0 < taken[0], "most are refused: {taken:?}");
    assert_eq!(taken.iter().sum::<i32>(), 64);
}
