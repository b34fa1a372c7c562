//! Whom the runtime vouches for, until when, and what is worth nothing once it does not.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;

use std::sync::Arc;

use common::{NOW, Town};
use symbi_bus::{Bus, BusOptions, CertificateError, Outgoing, Refusal, SKEW_US_MAX};
use symbi_crypto::{Provider, SigningKey, VerifyingKey};
use symbi_testkit::SeededEntropy;
use symbi_types::{AgentId, LabelSet};

#[test]
fn ct1_the_runtimes_key_vouches_for_the_keys_that_an_agent_signs_with() {
    let runtime = SigningKey::from_seed(Provider::AwsLc, &[1; 32]);
    let entropy = Arc::new(SeededEntropy::new(3));
    let bus =
        Bus::with_authority(BusOptions::default(), entropy.clone(), Provider::Ring, runtime.clone()).unwrap();
    let [agent, other] = [AgentId::random(&*entropy), AgentId::random(&*entropy)];
    bus.register(agent).unwrap();
    bus.register(other).unwrap();
    let certificate = bus.certificate(agent, NOW).unwrap();
    let key = VerifyingKey::new(runtime.public()).unwrap();
    assert_eq!((certificate.agent, certificate.verify(&key, NOW)), (agent, Ok(())));
    assert_eq!((bus.authority(), bus.verify_certificate(&certificate, NOW)), (key, Ok(())));
    assert_eq!(certificate.signing, bus.public_key(agent, NOW).unwrap());
    assert_eq!(bus.certificate(agent, NOW).unwrap(), certificate, "made once");
    assert_ne!(bus.certificate(other, NOW).unwrap().serial, certificate.serial);
    let stranger = Bus::new(BusOptions::default(), entropy, Provider::AwsLc);
    assert_eq!(stranger.verify_certificate(&certificate, NOW), Err(CertificateError::Forged));
}

#[test]
fn au1_who_is_revoked_sends_nothing_and_what_it_had_sent_is_refused() {
    let town = Town::new(3, BusOptions::default());
    town.send(0, 1, b"before").unwrap();
    let certificate = town.bus.certificate(town.agents[0], NOW).unwrap();
    assert_eq!(town.bus.revoke(town.agents[0], NOW), Ok(certificate.serial));
    assert_eq!(town.bus.verify_certificate(&certificate, NOW), Err(CertificateError::Revoked));
    let received = town.bus.receive_many(town.agents[1], 9, NOW).unwrap();
    assert_eq!((received.opened.len(), received.refused[0].reason), (0, Refusal::Revoked));
    for refused in [town.send(0, 1, b"x"), town.send(1, 0, b"x")] {
        assert_eq!(refused.unwrap_err().code(), "bus.revoked");
    }
    let none = LabelSet::default();
    let sent =
        town.bus.send_batch(&[town.outgoing(0, 2, b"x", &none), town.outgoing(1, 2, b"x", &none)], NOW);
    assert_eq!((sent[0].as_ref().unwrap_err().code(), sent[1].is_ok()), ("bus.revoked", true));
    assert_eq!(town.bus.revoke(town.agents[0], NOW).unwrap_err().code(), "bus.revoked");
    let fresh = town.bus.rotate(town.agents[0], NOW).unwrap();
    assert_ne!((fresh.signing, fresh.serial), (certificate.signing, certificate.serial));
    town.send(0, 1, b"again").unwrap();
    assert_eq!(town.read(1)[0].payload, b"again");
}

#[test]
fn au2_after_a_rotation_the_keys_are_others_and_what_was_sent_before_is_read() {
    let town = Town::new(2, BusOptions::default());
    town.send(0, 1, b"before").unwrap();
    town.send(1, 0, b"to the old key").unwrap();
    let old = town.bus.certificate(town.agents[0], NOW).unwrap();
    let new = town.bus.rotate(town.agents[0], NOW).unwrap();
    assert_ne!((old.signing, old.agreement), (new.signing, new.agreement));
    town.send(0, 1, b"after").unwrap();
    let opened = town.read(1);
    assert_eq!(opened.iter().map(|one| one.payload.to_vec()).collect::<Vec<_>>(), [&b"before"[..], b"after"]);
    let [before, after] = [0, 1].map(|at| opened[at].message.header());
    assert_eq!((before.signer, after.signer), (old.signing.key_id(), new.signing.key_id()));
    assert_ne!(before.epoch, after.epoch);
    assert_eq!(town.read(0)[0].payload, b"to the old key");
}

#[test]
fn a_certificate_is_renewed_when_its_time_is_over_and_vouches_for_what_was_made_in_it() {
    let options = BusOptions { certificate_lifetime_us: 1_000, ..BusOptions::default() };
    let town = Town::new(2, options);
    let none = LabelSet::default();
    let send = |now_us: u64| {
        let outgoing: Outgoing<'_> = town.outgoing(0, 1, b"x", &none);
        town.bus.seal_and_deliver(&outgoing, now_us).unwrap();
    };
    send(NOW + 1_000);
    let first = town.bus.certificate(town.agents[0], NOW + 1_000).unwrap();
    send(NOW + 2_001);
    let second = town.bus.certificate(town.agents[0], NOW + 2_001).unwrap();
    assert_eq!(first.signing, second.signing, "the same keys");
    assert_ne!(first.serial, second.serial);
    send(NOW - SKEW_US_MAX); // a clock that was set back: renewed as well
    let received = town.bus.receive_many(town.agents[1], 9, NOW + 2_001).unwrap();
    assert_eq!((received.opened.len(), received.refused.len()), (3, 0), "read after the first was over");
}

#[test]
fn c4_neither_keys_nor_secrets_nor_payloads_are_printed() {
    let town = Town::new(2, BusOptions::default());
    town.send(0, 1, b"canary").unwrap();
    let identity = symbi_bus::Identity::random(Provider::AwsLc, &SeededEntropy::new(9));
    let topic: symbi_bus::Topic = "a".parse().unwrap();
    let keys = town.bus.topic_keys(&topic);
    let opened = town.read(1);
    let shown = format!("{:?} {identity:?} {keys:?} {opened:?}", town.bus);
    let mut seed = [0u8; 32];
    symbi_types::Entropy::fill(&SeededEntropy::new(9), &mut seed);
    assert!(!shown.contains("canary") && !shown.contains(&format!("{:?}", b"canary")), "{shown}");
    assert!(
        !shown.contains(&format!("{seed:?}"))
            && !shown.contains(&format!("{:02x}{:02x}{:02x}", seed[0], seed[1], seed[2]))
    );
    let long_lists =
        shown.split('[').filter(|part| 16 < part.split(']').next().unwrap_or("").split(',').count());
    let public =
        ["epoch", "stream"].map(|name| shown.matches(&format!("{name}: [")).count()).iter().sum::<usize>();
    assert_eq!(
        long_lists.count() + opened.len(),
        public,
        "only the header's public names are bytes: {shown}"
    );
}

#[test]
fn au3_each_certificate_that_is_made_is_told_once() {
    let town = Town::new(2, BusOptions::default());
    let told = Arc::new(std::sync::Mutex::new(Vec::new()));
    let book = Arc::clone(&told);
    town.bus.on_certified(Arc::new(move |certificate| book.lock().unwrap().push(certificate.clone())));
    town.send(0, 1, b"x").unwrap();
    town.send(0, 1, b"y").unwrap();
    let rotated = town.bus.rotate(town.agents[0], NOW).unwrap();
    let mut known: Vec<_> = town.bus.certificates().into_iter().map(|(one, _)| one.serial).collect();
    let serials: Vec<_> = told.lock().unwrap().iter().map(|one| one.serial).collect();
    assert_eq!(
        (serials.len(), serials[2]),
        (3, rotated.serial),
        "of the two who were needed, and the new one"
    );
    known.sort_unstable();
    let mut wanted = vec![serials[1], serials[2]];
    wanted.sort_unstable();
    let receivers = told.lock().unwrap()[1].agent == town.agents[1];
    assert!(known == wanted || !receivers, "what is shown is what was told last of each");
}

#[test]
fn au4_the_key_that_vouches_is_exchanged_under_everybody_and_nothing_on_its_way_is_lost() {
    let town = Town::new(3, BusOptions::default());
    town.send(0, 1, b"before").unwrap();
    let before = town.bus.certificate(town.agents[0], NOW).unwrap();
    town.bus.revoke(town.agents[2], NOW).unwrap();
    let old = town.bus.authority();
    let next = SigningKey::from_seed(Provider::AwsLc, &[77; 32]);
    assert_eq!(town.bus.rotate_authority(next.clone(), NOW + 10), Ok(2), "who was revoked gets none");
    let key = VerifyingKey::new(next.public()).unwrap();
    assert_eq!((town.bus.authority() == key, town.bus.authority() == old), (true, false));
    let after = town.bus.certificate(town.agents[0], NOW + 10).unwrap();
    assert_eq!((after.signing, after.agreement), (before.signing, before.agreement), "the agent's keys stay");
    assert_eq!((after.issuer, after.verify(&key, NOW + 10)), (next.key_id(), Ok(())));
    town.send(0, 1, b"after").unwrap();
    let said: Vec<_> = town.read(1).iter().map(|one| one.payload.to_vec()).collect();
    assert_eq!(said, [&b"before"[..], b"after"]);
    assert_eq!(town.send(2, 1, b"x").unwrap_err().code(), "bus.revoked");
    assert_eq!(town.bus.verify_certificate(&before, NOW + 10), Ok(()), "made before the exchange");
    let fresh = Bus::new(BusOptions::default(), town.entropy.clone(), Provider::AwsLc);
    fresh.register(town.agents[0]).unwrap();
    fresh.rotate_authority(next, NOW).unwrap();
    let foreign = fresh.certificate(town.agents[0], NOW).unwrap();
    assert_eq!(town.bus.verify_certificate(&foreign, NOW), Ok(()), "one key, one runtime");
    town.bus.rotate_authority(SigningKey::from_seed(Provider::AwsLc, &[78; 32]), NOW + 20).unwrap();
    fresh.rotate(town.agents[0], NOW + 21).unwrap();
    let late = fresh.certificate(town.agents[0], NOW + 21).unwrap();
    assert_eq!(
        town.bus.verify_certificate(&late, NOW + 21),
        Err(CertificateError::Forged),
        "made by a former key"
    );
}

#[test]
fn au1_a_revocation_is_of_the_key_and_not_of_its_last_certificate() {
    let town = Town::new(2, BusOptions::default());
    town.send(0, 1, b"under the first certificate").unwrap();
    let first = town.bus.certificate(town.agents[0], NOW).unwrap();
    town.bus.rotate_authority(SigningKey::from_seed(Provider::AwsLc, &[77; 32]), NOW).unwrap();
    let second = town.bus.certificate(town.agents[0], NOW).unwrap();
    assert_eq!((first.signing == second.signing, first.serial == second.serial), (true, false));
    town.bus.revoke(town.agents[0], NOW).unwrap();
    let received = town.bus.receive_many(town.agents[1], 9, NOW).unwrap();
    assert_eq!((received.opened.len(), received.refused[0].reason), (0, Refusal::Revoked));
    for certificate in [first, second] {
        assert_eq!(town.bus.verify_certificate(&certificate, NOW), Err(CertificateError::Revoked));
    }
}
