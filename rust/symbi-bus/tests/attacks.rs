//! Messages that lie. Each kind is refused by its own reason (hardening goals M1 to M3).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;

use std::collections::{BTreeMap, HashSet};

use common::{NOW, Town, labels};
use symbi_bus::{
    BusOptions, Identity, LIFETIME_US_MAX, Outgoing, Refusal, Reply, SKEW_US_MAX, SecureMessage,
};
use symbi_crypto::{AgreementKey, Provider, SigningKey};
use symbi_types::AgentId;

const SENDER: std::ops::Range<usize> = 20..36;
const RECIPIENT: std::ops::Range<usize> = 36..52;
const SIGNER: std::ops::Range<usize> = 68..84;
/// The key's name and the salt of the sender's own key under it.
const EPOCH: std::ops::Range<usize> = 84..132;
const FIXED: usize = 164;

/// What one agent sent another, taken off the way unread: its bytes.
fn captured(town: &Town, from: usize, to: usize) -> Vec<u8> {
    let labels = labels(&["phi"]);
    town.bus.seal_and_deliver(&town.outgoing(from, to, b"pay 10", &labels), NOW).unwrap();
    let mut unread = town.read(to);
    assert_eq!(unread.len(), 1);
    unread.remove(0).message.as_bytes().to_vec()
}

fn decode(bytes: &[u8]) -> SecureMessage {
    SecureMessage::decode(bytes).unwrap()
}

/// Signs the envelope anew, as its own sender or as anybody.
fn sign(bytes: &mut [u8], key: &SigningKey) {
    let end = bytes.len() - 64;
    let signed = [b"symbi/msg/v1\0", &bytes[..end]].concat();
    bytes[end..].copy_from_slice(&key.sign(&signed));
}

fn signing(seed: u8) -> SigningKey {
    SigningKey::from_seed(Provider::AwsLc, &[seed; 32])
}

/// A bus on which agent 0 has keys that the test knows, as an attacker has who stole them.
fn town_with_known_sender() -> (Town, SigningKey) {
    let mut town = Town::new(3, BusOptions::default());
    let agent = AgentId::random(&*town.entropy);
    let identity = Identity::new(signing(9), AgreementKey::from_seed(&[9; 32]).unwrap()).unwrap();
    town.bus.register_as(agent, identity, NOW).unwrap();
    town.agents[0] = agent;
    (town, signing(9))
}

#[test]
fn m1_every_changed_byte_of_an_envelope_is_refused() {
    let town = Town::new(2, BusOptions::default());
    let good = captured(&town, 0, 1);
    let mut reasons: BTreeMap<&str, u32> = BTreeMap::new();
    for at in 0..good.len() {
        for flip in 1..=255u8 {
            let mut bad = good.clone();
            bad[at] ^= flip;
            let reason = match SecureMessage::decode(&bad) {
                Err(reason) => reason,
                Ok(message) => {
                    assert_eq!(message.as_bytes(), bad, "E1: one spelling");
                    town.refusal(1, message).expect("M1: refused")
                }
            };
            assert_ne!(reason, Refusal::Replayed, "byte {at}: found before it is asked whether it is new");
            *reasons.entry(reason.code()).or_default() += 1;
        }
    }
    for wanted in [
        "tampered",
        "forged",
        "malformed",
        "unknown_version",
        "unknown_suite",
        "wrong_recipient",
        "unknown_epoch",
    ] {
        assert!(reasons.contains_key(format!("bus.{wanted}").as_str()), "{wanted}: {reasons:?}");
    }
}

#[test]
fn m1_cut_and_lengthened_envelopes_are_no_envelopes() {
    let town = Town::new(2, BusOptions::default());
    let good = captured(&town, 0, 1);
    for length in 0..good.len() {
        assert_eq!(SecureMessage::decode(&good[..length]), Err(Refusal::Malformed), "{length}");
    }
    let longer = [good.as_slice(), &[0]].concat();
    assert_eq!(SecureMessage::decode(&longer), Err(Refusal::Malformed));
}

#[test]
fn e1_labels_that_are_not_sorted_or_stand_twice_are_no_envelope() {
    let town = Town::new(2, BusOptions::default());
    let labels = labels(&["a", "b"]);
    town.bus.seal_and_deliver(&town.outgoing(0, 1, b"", &labels), NOW).unwrap();
    let good = town.read(1).remove(0).message.as_bytes().to_vec();
    assert_eq!(&good[FIXED..FIXED + 4], b"\x01a\x01b");
    for wrong in [b"\x01b\x01a", b"\x01a\x01a", b"\x01A\x01b", b"\x02a\x01b", b"\x01a\x00b", b"\x01a\xff\xff"]
    {
        let mut bad = good.clone();
        bad[FIXED..FIXED + 4].copy_from_slice(wrong);
        assert_eq!(SecureMessage::decode(&bad), Err(Refusal::Malformed), "{wrong:?}");
    }
}

#[test]
fn m2_a_message_is_handed_out_once_to_one() {
    let town = Town::new(3, BusOptions::default());
    let bytes = captured(&town, 0, 1);
    assert_eq!(town.refusal(1, decode(&bytes)), Some(Refusal::Replayed));
    assert_eq!(town.refusal(2, decode(&bytes)), Some(Refusal::WrongRecipient), "to a second recipient");
    assert_eq!(town.refusal(0, decode(&bytes)), Some(Refusal::WrongRecipient), "back to its sender");
}

#[test]
fn m2_two_copies_in_one_batch_are_one_message() {
    let town = Town::new(2, BusOptions::default());
    captured(&town, 0, 1);
    town.send(0, 1, b"once").unwrap();
    let fresh = town.bus.unregister(town.agents[1]).unwrap().remove(0); // unread, as a thief on the way has it
    let town = Town::new(2, BusOptions::default()); // the same seed: the same identities, fresh windows
    captured(&town, 0, 1);
    town.send(0, 1, b"once").unwrap();
    town.bus.deliver(town.agents[1], fresh.clone()).unwrap();
    let received = town.bus.receive_many(town.agents[1], 9, NOW).unwrap();
    assert_eq!(received.opened.len(), 1);
    assert_eq!(received.refused[0].reason, Refusal::Replayed);
    assert_eq!(received.refused[0].message, fresh.id());
}

#[test]
fn m2_another_agents_name_on_a_message_is_refused() {
    let (town, stolen) = town_with_known_sender();
    captured(&town, 1, 2); // 1 has a session with 2
    let mut bytes = captured(&town, 0, 2);
    bytes[SENDER].copy_from_slice(town.agents[1].as_bytes());
    assert_eq!(town.refusal(2, decode(&bytes)), Some(Refusal::UnknownEpoch), "the epoch is of another pair");
    let other = captured(&town, 1, 2);
    bytes[EPOCH].copy_from_slice(&other[EPOCH]);
    sign(&mut bytes, &stolen);
    assert_eq!(
        town.refusal(2, decode(&bytes)),
        Some(Refusal::Forged),
        "the signer's key is not the sender's"
    );
    bytes[SIGNER].copy_from_slice(&other[SIGNER]);
    sign(&mut bytes, &stolen);
    assert_eq!(town.refusal(2, decode(&bytes)), Some(Refusal::Tampered), "nor is the seal");
}

#[test]
fn m2_a_sealed_message_without_the_senders_signature_is_forged() {
    let (town, _) = town_with_known_sender();
    let mut bytes = captured(&town, 0, 1);
    sign(&mut bytes, &signing(10));
    assert_eq!(town.refusal(1, decode(&bytes)), Some(Refusal::Forged));
}

#[test]
fn m2_a_signed_message_that_is_not_what_was_sealed_is_refused() {
    let (town, own) = town_with_known_sender();
    let good = captured(&town, 0, 1);
    for at in [144, 152, FIXED + 1, good.len() - 70] {
        let mut bytes = good.clone(); // a time, the lifetime, a label, the seal
        bytes[at] ^= 1;
        sign(&mut bytes, &own);
        assert_eq!(town.refusal(1, decode(&bytes)), Some(Refusal::Tampered), "{at}");
    }
}

#[test]
fn m2_a_message_is_not_passed_on_or_reflected() {
    let (town, own) = town_with_known_sender();
    for (from, to) in [(0, 2), (2, 1), (1, 0), (0, 1)] {
        captured(&town, from, to);
    }
    let mut onward = captured(&town, 0, 1);
    onward[RECIPIENT].copy_from_slice(town.agents[2].as_bytes());
    sign(&mut onward, &own);
    assert_eq!(town.refusal(2, decode(&onward)), Some(Refusal::UnknownEpoch));
    let epoch = captured(&town, 0, 2)[EPOCH].to_vec();
    onward[EPOCH].copy_from_slice(&epoch);
    sign(&mut onward, &own);
    assert_eq!(town.refusal(2, decode(&onward)), Some(Refusal::Tampered), "another pair has another key");
    let mut back = captured(&town, 0, 1);
    let other_way = captured(&town, 1, 0);
    for part in [SENDER, RECIPIENT, SIGNER, EPOCH] {
        back[part.clone()].copy_from_slice(&other_way[part]);
    }
    assert_eq!(town.refusal(0, decode(&back)), Some(Refusal::Tampered), "another direction has another key");
}

#[test]
fn m2_time_is_checked_on_both_sides_with_a_bounded_skew() {
    let cases = [
        (NOW, None),
        (NOW + 10, None),
        (NOW + 11, Some(Refusal::Expired)),
        (NOW - SKEW_US_MAX, None),
        (NOW - SKEW_US_MAX - 1, Some(Refusal::Future)),
        (0, Some(Refusal::Future)),
        (u64::MAX, Some(Refusal::Expired)),
    ];
    for (now_us, wanted) in cases {
        let town = Town::new(2, BusOptions::default());
        let none = labels(&[]);
        let outgoing = Outgoing { lifetime_us: Some(10), ..town.outgoing(0, 1, b"x", &none) };
        town.bus.seal_and_deliver(&outgoing, NOW).unwrap();
        let received = town.bus.receive_many(town.agents[1], 9, now_us).unwrap();
        assert_eq!(received.refused.first().map(|refused| refused.reason), wanted, "{now_us}");
        assert_eq!(received.opened.len(), usize::from(wanted.is_none()));
    }
    const { assert!(SKEW_US_MAX < LIFETIME_US_MAX) };
}

#[test]
fn m2_another_version_or_suite_is_refused_and_none_is_negotiated() {
    let (town, own) = town_with_known_sender();
    let good = captured(&town, 0, 1);
    for (at, values) in [(0, [0u8, 2, 255]), (1, [0, 2, 255])] {
        for value in values {
            let mut bad = good.clone();
            bad[at] = value;
            sign(&mut bad, &own);
            let wanted = if at == 0 { Refusal::UnknownVersion } else { Refusal::UnknownSuite };
            assert_eq!(SecureMessage::decode(&bad), Err(wanted));
        }
    }
}

#[test]
fn m2_what_was_sent_before_a_restart_is_of_an_unknown_epoch() {
    let identity =
        |seed: u8| Identity::new(signing(seed), AgreementKey::from_seed(&[seed; 32]).unwrap()).unwrap();
    let mut agents = Vec::new();
    let mut old = Vec::new();
    for start in 0..2 {
        let town = Town::seeded(0, BusOptions::default(), 100 + start);
        if agents.is_empty() {
            agents = (0..2).map(|_| AgentId::random(&*town.entropy)).collect();
        }
        for (agent, seed) in agents.iter().zip(1..) {
            town.bus.register_as(*agent, identity(seed), NOW).unwrap();
        }
        let town = Town { agents: agents.clone(), ..town };
        let fresh = captured(&town, 0, 1);
        if start == 1 {
            assert_eq!(town.refusal(1, decode(&old)), Some(Refusal::UnknownEpoch));
        }
        old = fresh;
    }
}

#[test]
fn a_reply_that_does_not_hold_leaves_the_request_waiting() {
    let town = Town::new(2, BusOptions::default());
    let request = town.ask(0, 1, b"question").unwrap();
    let other = town.ask(0, 1, b"other").unwrap();
    town.answer(1, 0, other, b"x").unwrap();
    let Ok(Reply::Opened(opened)) = town.bus.take_reply(town.agents[0], other, NOW) else {
        panic!("a reply")
    };
    let mut bytes = opened.message.as_bytes().to_vec();
    bytes[52..68].copy_from_slice(request.as_bytes()); // as if it answered the other question
    town.bus.deliver(town.agents[0], decode(&bytes)).unwrap();
    let Ok(Reply::Refused(refused)) = town.bus.take_reply(town.agents[0], request, NOW) else {
        panic!("refused")
    };
    assert_eq!(refused.reason, Refusal::Tampered);
    town.answer(1, 0, request, b"answer").unwrap();
    assert!(matches!(town.bus.take_reply(town.agents[0], request, NOW), Ok(Reply::Opened(_))));
}

#[test]
fn good_messages_in_a_batch_with_bad_ones_are_handed_out() {
    let town = Town::new(2, BusOptions::default());
    let old = captured(&town, 0, 1);
    for number in 0..20u8 {
        if number % 3 == 0 {
            let mut bad = old.clone();
            let at = bad.len() - 1 - usize::from(number);
            bad[at] ^= 1;
            town.bus.deliver(town.agents[1], decode(&bad)).unwrap();
        }
        town.send(0, 1, &[number]).unwrap();
    }
    let received = town.bus.receive_many(town.agents[1], 99, NOW).unwrap();
    let payloads: Vec<u8> = received.opened.into_iter().flat_map(|opened| opened.payload.to_vec()).collect();
    assert_eq!(payloads, (0..20).collect::<Vec<u8>>());
    assert!(received.refused.iter().all(|refused| refused.reason == Refusal::Forged));
    assert_eq!(received.refused.len(), 7);
}

#[test]
fn m3_no_nonce_is_used_twice_under_one_key_over_many_messages_epochs_and_restarts() {
    let mut seen = HashSet::new();
    let mut epochs = HashSet::new();
    for start in 0..8 {
        let options =
            BusOptions { messages_per_key_max: 100, mailbox_depth_max: 64, ..BusOptions::default() };
        let town = Town::seeded(3, options, 1_000 + start);
        for round in 0..25 {
            for (from, to) in [(0, 1), (1, 0), (0, 2), (2, 2)] {
                for _ in 0..10 {
                    town.send(from, to, b"x").unwrap();
                }
                if round % 3 == 0 {
                    continue; // unread messages of the epoch before stay readable
                }
                for opened in town.read(to) {
                    let header = opened.message.header();
                    assert!((1..=100).contains(&header.counter));
                    epochs.insert(header.stream);
                    assert!(seen.insert((header.stream, header.counter)), "B3");
                }
            }
        }
        seen.extend((0..3).flat_map(|agent| town.read(agent)).map(|opened| {
            let header = opened.message.header();
            epochs.insert(header.stream);
            (header.stream, header.counter)
        }));
    }
    assert_eq!(seen.len(), 8 * 25 * 4 * 10, "every message was read, each under its own nonce");
    assert_eq!(epochs.len(), 8 * 4 * 3, "250 messages a direction: three keys");
}

#[test]
fn an_agents_new_identity_gets_new_keys() {
    let town = Town::new(2, BusOptions::default());
    let before = captured(&town, 0, 1);
    town.bus.unregister(town.agents[0]).unwrap();
    town.bus.register(town.agents[0]).unwrap();
    let after = captured(&town, 0, 1);
    assert_ne!(before[EPOCH], after[EPOCH]);
    assert_ne!(before[SIGNER], after[SIGNER]);
    assert_eq!(town.refusal(1, decode(&before)), Some(Refusal::UnknownEpoch));
}
