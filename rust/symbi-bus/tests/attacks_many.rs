//! Attacks on what is sealed for many or signed with many: batches and topics; and nonces over starts and copies
//! (hardening goals M1 to M4).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use common::{NOW, Town, labels};
use proptest::prelude::*;
use symbi_bus::{
    Bus, BusOptions, ContentType, Identity, Outgoing, Publication, Refusal, SecureMessage, Topic, TopicKeys,
};
use symbi_crypto::{AgreementKey, Provider, SigningKey};
use symbi_testkit::SeededEntropy;
use symbi_types::{AgentId, LabelSet};

const FLAGS: usize = 2;
const EPOCH: std::ops::Range<usize> = 84..100;
const FIXED: usize = 164;

fn signing() -> SigningKey {
    SigningKey::from_seed(Provider::AwsLc, &[9; 32])
}

/// A bus on which agent 0 has keys that the test knows, as an attacker has who stole them.
fn town() -> Town {
    let mut town = Town::new(3, BusOptions { mailbox_depth_max: 4_096, ..BusOptions::default() });
    let agent = AgentId::random(&*town.entropy);
    let identity = Identity::new(signing(), AgreementKey::from_seed(&[9; 32]).unwrap()).unwrap();
    town.bus.register_as(agent, identity, NOW).unwrap();
    town.agents[0] = agent;
    town
}

/// A batch from 0 to 1, taken off the way: its messages' bytes.
fn captured_batch(town: &Town, count: usize) -> Vec<Vec<u8>> {
    let labels = labels(&["phi"]);
    let outgoing = vec![town.outgoing(0, 1, b"pay 10", &labels); count];
    assert!(town.bus.send_batch(&outgoing, NOW).iter().all(Result::is_ok));
    town.read(1).into_iter().map(|opened| opened.message.as_bytes().to_vec()).collect()
}

fn publish(town: &Town, topic: &Topic, to: &[usize], payload: &[u8]) {
    let recipients: Vec<AgentId> = to.iter().map(|at| town.agents[*at]).collect();
    let none = LabelSet::default();
    let publication = Publication {
        sender: town.agents[0],
        topic,
        recipients: &recipients,
        id: None,
        payload,
        content_type: ContentType::Bytes,
        labels: &none,
        lifetime_us: None,
    };
    town.bus.publish(&publication, NOW).unwrap();
}

fn topic_of(town: &Town, name: &str, members: &[usize]) -> (Topic, Arc<TopicKeys>) {
    let topic: Topic = name.parse().unwrap();
    let keys = town.bus.topic_keys(&topic);
    for member in members {
        keys.join(town.agents[*member]);
    }
    (topic, keys)
}

/// Why agent `to` refuses these bytes; it must.
fn refusal(town: &Town, to: usize, bytes: &[u8]) -> Refusal {
    match SecureMessage::decode(bytes) {
        Err(reason) => reason,
        Ok(message) => {
            assert_eq!(message.as_bytes(), bytes, "E1: one spelling");
            town.refusal(to, message).expect("refused")
        }
    }
}

/// `SYMBI_LONG=1`: every value of every byte, and a million changes of two bytes. Otherwise nine values of every byte.
#[test]
fn m1_every_changed_byte_of_a_message_of_a_batch_and_of_a_topic_is_refused() {
    let town = town();
    let (topic, _) = topic_of(&town, "clinic.alerts", &[1]);
    publish(&town, &topic, &[1], b"alarm");
    let published = town.read(1)[0].message.as_bytes().to_vec();
    let batch = captured_batch(&town, 11);
    let mut reasons: BTreeMap<&str, u32> = BTreeMap::new();
    let is_long = std::env::var_os("SYMBI_LONG").is_some();
    for good in [&published, &batch[0], &batch[10]] {
        assert_eq!(refusal(&town, 1, good), Refusal::Replayed, "whole, but for its number");
        for at in 0..good.len() {
            for flip in (1..=255u8).filter(|flip| is_long || flip.is_power_of_two() || *flip == 255) {
                let mut bad = good.clone();
                bad[at] ^= flip;
                let reason = refusal(&town, 1, &bad);
                assert_ne!(reason, Refusal::Replayed, "byte {at}");
                *reasons.entry(reason.code()).or_default() += 1;
            }
        }
    }
    let random = SeededEntropy::new(5);
    for _ in 0..if is_long { 1_000_000 } else { 1_000 } {
        let mut drawn = [0u8; 6];
        symbi_types::Entropy::fill(&random, &mut drawn);
        let mut bad = [&published, &batch[0], &batch[10]][usize::from(drawn[0] % 3)].clone();
        for (at, flip) in [(&drawn[1..3], drawn[3]), (&drawn[3..5], drawn[5])] {
            let at = usize::from(u16::from_be_bytes([at[0], at[1]])) % bad.len();
            bad[at] ^= flip | 1;
        }
        if ![&published, &batch[0], &batch[10]].contains(&&bad) {
            assert_ne!(refusal(&town, 1, &bad), Refusal::Replayed);
        }
    }
    for wanted in
        ["tampered", "forged", "malformed", "unknown_epoch", "not_member", "unknown_version", "unknown_suite"]
    {
        assert!(reasons.contains_key(format!("bus.{wanted}").as_str()), "{wanted}: {reasons:?}");
    }
}

#[test]
fn m2_a_proof_of_another_message_place_size_or_batch_is_refused() {
    let town = town();
    let batch = captured_batch(&town, 8);
    let other = captured_batch(&town, 8);
    let tail = 64 + 2 + 3 * 32;
    let with_tail = |body: &[u8], of: &[u8]| [&body[..body.len() - tail], &of[of.len() - tail..]].concat();
    assert_eq!(refusal(&town, 1, &with_tail(&batch[0], &batch[1])), Refusal::Forged, "its neighbour's place");
    assert_eq!(refusal(&town, 1, &with_tail(&batch[0], &other[0])), Refusal::Forged, "another batch's proof");
    let mut larger = batch[0].clone();
    let at = larger.len() - tail + 65;
    for size in [1u8, 4, 6, 9, 255] {
        larger[at] = size - 1;
        let reason = refusal(&town, 1, &larger);
        assert!(matches!(reason, Refusal::Forged | Refusal::Malformed), "a batch of {size}: {reason:?}");
    }
    larger[at] = 7;
    larger[at - 1] = 8;
    assert_eq!(refusal(&town, 1, &larger), Refusal::Malformed, "no such place");
}

#[test]
fn m2_a_signature_for_a_batch_is_none_for_a_message_and_the_other_way_round() {
    let town = town();
    let batch = captured_batch(&town, 1);
    let mut alone = batch[0][..batch[0].len() - 2].to_vec();
    alone[FLAGS] &= !4;
    assert_eq!(refusal(&town, 1, &alone), Refusal::Tampered, "the flag is under the seal");
    town.send(0, 1, b"alone").unwrap();
    let single = town.read(1)[0].message.as_bytes().to_vec();
    let mut joined = [&single[..], &[0, 0]].concat();
    joined[FLAGS] |= 4;
    assert_eq!(refusal(&town, 1, &joined), Refusal::Tampered);
    // Signed anew by who stole the key, each for the other purpose: the domains differ, and the seal holds the flag.
    let end = single.len() - 64;
    let wrong = signing().sign(&[b"symbi/msg-batch/v1\0", &single[..end]].concat());
    let resigned = [&single[..end], &wrong].concat();
    assert_eq!(refusal(&town, 1, &resigned), Refusal::Forged);
}

#[test]
fn m2_the_culprit_among_many_is_named_and_the_others_are_handed_out() {
    let town = town();
    let stream_of_ours: Vec<Vec<u8>> = (0..3)
        .map(|_| {
            town.send(0, 1, b"old").unwrap();
            town.read(1)[0].message.as_bytes().to_vec()
        })
        .collect();
    let labels = labels(&[]);
    for mut bad in stream_of_ours {
        let at = bad.len() - 1;
        bad[at] ^= 1;
        let outgoing = vec![town.outgoing(0, 1, b"good", &labels); 150];
        assert!(town.bus.send_each(&outgoing[..100], NOW).iter().all(Result::is_ok));
        town.bus.deliver(town.agents[1], SecureMessage::decode(&bad).unwrap()).unwrap();
        assert!(town.bus.send_batch(&outgoing[100..], NOW).iter().all(Result::is_ok));
        let received = town.bus.receive_many(town.agents[1], usize::MAX, NOW).unwrap();
        assert_eq!((received.opened.len(), received.refused.len()), (150, 1));
        let wanted = SecureMessage::decode(&bad).unwrap().id();
        assert_eq!((received.refused[0].message, received.refused[0].reason), (wanted, Refusal::Forged));
    }
}

/// The equation over many cannot see a small part of R with certainty; so what came from elsewhere is never put in it.
#[test]
fn m4_a_signature_that_only_a_lax_verifier_takes_is_refused_among_many_every_time() {
    use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT as B, EIGHT_TORSION};
    use curve25519_dalek::scalar::{Scalar, clamp_integer};
    let town = town();
    let digest = |parts: &[&[u8]]| -> [u8; 64] {
        let mut context = ring::digest::Context::new(&ring::digest::SHA512);
        parts.iter().for_each(|part| context.update(part));
        context.finish().as_ref().try_into().unwrap()
    };
    let expanded = digest(&[&[9; 32]]);
    let secret = Scalar::from_bytes_mod_order(clamp_integer(expanded[..32].try_into().unwrap()));
    let key = (B * secret).compress().0;
    assert_eq!(key, signing().public().0);
    let none = labels(&[]);
    let good = vec![town.outgoing(0, 1, b"good", &none); 16];
    for (round, torsion) in EIGHT_TORSION.iter().skip(1).cycle().take(28).enumerate() {
        town.send(0, 1, b"x").unwrap();
        let mut bytes = town.read(1)[0].message.as_bytes().to_vec();
        let end = bytes.len() - 64;
        let statement = [b"symbi/msg/v1\0", &bytes[..end]].concat();
        let nonce = Scalar::from(1_000 + round as u64);
        let r = (B * nonce + torsion).compress().0;
        let s = nonce + Scalar::from_bytes_mod_order_wide(&digest(&[&r, &key, &statement])) * secret;
        bytes[end..end + 32].copy_from_slice(&r);
        bytes[end + 32..].copy_from_slice(s.as_bytes());
        assert!(town.bus.send_each(&good, NOW).iter().all(Result::is_ok));
        town.bus.deliver(town.agents[1], SecureMessage::decode(&bytes).unwrap()).unwrap();
        let received = town.bus.receive_many(town.agents[1], 99, NOW).unwrap();
        assert_eq!((received.opened.len(), received.refused.len()), (16, 1), "round {round}");
        assert_eq!(received.refused[0].reason, Refusal::Forged);
    }
}

#[test]
fn m2_a_message_of_a_topic_is_none_of_another_topic_epoch_or_agent() {
    let town = town();
    let (first, keys) = topic_of(&town, "a.one", &[1, 2]);
    let (second, other) = topic_of(&town, "a.two", &[1]);
    publish(&town, &first, &[1], b"x");
    publish(&town, &second, &[1], b"x");
    let opened = town.read(1);
    let [of_first, of_second] = [0, 1].map(|at| opened[at].message.as_bytes().to_vec());
    let mut moved = of_first.clone();
    moved[FIXED..FIXED + 5].copy_from_slice(b"a.two");
    assert_eq!(refusal(&town, 1, &moved), Refusal::UnknownEpoch, "of another topic's key");
    moved[84..132].copy_from_slice(&of_second[84..132]);
    assert_eq!(refusal(&town, 1, &moved), Refusal::Tampered);
    assert_eq!(refusal(&town, 2, &of_second), Refusal::NotMember);
    assert_eq!(
        town.refusal(2, opened[0].message.clone()),
        None,
        "a member it was not laid before may read it, once"
    );
    assert_eq!(refusal(&town, 2, &of_first), Refusal::Replayed);
    let before = keys.epoch();
    keys.leave(town.agents[2]);
    publish(&town, &first, &[1], b"after");
    let mut back = town.read(1)[0].message.as_bytes().to_vec();
    back[EPOCH].copy_from_slice(&before);
    assert_eq!(refusal(&town, 1, &back), Refusal::UnknownEpoch, "the former epoch is gone");
    assert_eq!(refusal(&town, 1, &of_first), Refusal::UnknownEpoch);
    assert_eq!(other.epochs_kept(), 1);
    // A direct message is none of a topic's, nor the other way round: what it is stands under the seal.
    town.send(0, 1, b"direct").unwrap();
    let direct = town.read(1)[0].message.as_bytes().to_vec();
    let mut crossed = direct.clone();
    crossed[FLAGS] |= 2;
    assert_eq!(refusal(&town, 1, &crossed), Refusal::Malformed);
}

/// `SYMBI_LONG=1`: ten million messages, sixteen senders, a hundred starts. Otherwise a share of it.
#[test]
fn m3_no_key_and_nonce_meet_twice_over_senders_starts_and_copies_of_the_keys() {
    let (starts, rounds) = if std::env::var_os("SYMBI_LONG").is_some() { (100, 400) } else { (10, 4) };
    let identity = |seed: u8| {
        let agreement = AgreementKey::from_seed(&[seed + 100; 32]).unwrap();
        Identity::new(SigningKey::from_seed(Provider::AwsLc, &[seed; 32]), agreement).unwrap()
    };
    let first = SeededEntropy::new(1);
    let agents: Vec<AgentId> = (0..17).map(|_| AgentId::random(&first)).collect();
    let none = LabelSet::default();
    let mut streams: HashSet<[u8; 32]> = HashSet::new();
    let mut count = 0u64;
    for start in 0..starts {
        // Every start, and every copy of the data directory that is started, has the same keys and other randomness.
        let entropy = Arc::new(SeededEntropy::new(1_000 + start));
        let options = BusOptions {
            mailbox_depth_max: 20_000,
            mailbox_bytes_max: 64 << 20,
            messages_per_key_max: 500,
            ..BusOptions::default()
        };
        let bus = Bus::new(options, entropy, Provider::AwsLc);
        for (agent, seed) in agents.iter().zip(1..) {
            bus.register_as(*agent, identity(seed), NOW).unwrap();
        }
        let topic: Topic = "all".parse().unwrap();
        let keys = bus.topic_keys(&topic);
        keys.join(agents[16]);
        let mut numbers: BTreeMap<[u8; 32], u64> = BTreeMap::new();
        for round in 0..rounds {
            for sender in &agents[..16] {
                let one = Outgoing {
                    sender: *sender,
                    recipient: agents[16],
                    id: None,
                    payload: b"x",
                    content_type: ContentType::Bytes,
                    labels: &none,
                    in_reply_to: None,
                    expects_reply: false,
                    lifetime_us: None,
                };
                assert!(bus.send_batch(&vec![one.clone(); 15], NOW).iter().all(Result::is_ok));
                let publication = Publication {
                    sender: *sender,
                    topic: &topic,
                    recipients: &agents[16..],
                    id: None,
                    payload: b"x",
                    content_type: ContentType::Bytes,
                    labels: &none,
                    lifetime_us: None,
                };
                bus.publish(&publication, NOW).unwrap();
            }
            for opened in bus.receive_many(agents[16], usize::MAX, NOW).unwrap().opened {
                let header = opened.message.header();
                let last = numbers.entry(header.stream).or_default();
                assert_eq!(header.counter, *last + 1, "S1, B3: each number once, in order");
                *last = header.counter;
                count += 1;
            }
            if round % 5 == 4 {
                keys.leave(agents[16]);
                keys.join(agents[16]);
            }
        }
        for stream in numbers.into_keys() {
            assert!(streams.insert(stream), "B3: a salt is drawn once");
        }
    }
    assert_eq!(count, starts * rounds * 16 * 16);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn e1_bytes_of_any_kind_decode_to_what_encodes_to_them_or_not_at_all(
        kind in 0..3usize,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        use std::sync::OnceLock;
        static GOOD: OnceLock<[Vec<u8>; 3]> = OnceLock::new();
        let good = GOOD.get_or_init(|| {
            let town = town();
            let (topic, _) = topic_of(&town, "a.b", &[1]);
            publish(&town, &topic, &[1], b"payload");
            let published = town.read(1)[0].message.as_bytes().to_vec();
            let batch = captured_batch(&town, 5).remove(4);
            town.send(0, 1, b"payload").unwrap();
            [published, batch, town.read(1)[0].message.as_bytes().to_vec()]
        });
        let mut bytes = good[kind].clone();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(message) = SecureMessage::decode(&bytes) {
            prop_assert_eq!(message.as_bytes(), &bytes[..]);
            let header = message.header();
            prop_assert_eq!(header.in_batch, message.inclusion().is_some());
            prop_assert_eq!(header.topic().is_some(), header.recipient().is_none());
        }
    }
}
