//! Many messages at once: signed together, signed one by one, and one message for everybody on a topic.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;

use common::{NOW, Town, labels};
use symbi_bus::{
    BusOptions, ContentType, Opened, Outgoing, Publication, Refusal, SecureMessage, Sent, Topic,
};
use symbi_types::{AgentId, LabelSet, MessageId};

fn deep() -> BusOptions {
    BusOptions { mailbox_depth_max: 10_000, mailbox_bytes_max: 64 << 20, ..BusOptions::default() }
}

fn numbers(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|number| number.to_be_bytes().to_vec()).collect()
}

fn payloads(opened: &[Opened]) -> Vec<Vec<u8>> {
    opened.iter().map(|opened| opened.payload.to_vec()).collect()
}

#[test]
fn s2_a_batch_of_every_size_arrives_whole_in_order_each_with_its_proof() {
    let none = LabelSet::default();
    for count in [1usize, 2, 3, 64, 255, 256, 257, 600] {
        let town = Town::new(2, deep());
        let said = numbers(count);
        let outgoing: Vec<Outgoing<'_>> = said.iter().map(|one| town.outgoing(0, 1, one, &none)).collect();
        let sent = town.bus.send_batch(&outgoing, NOW);
        let opened = town.read(1);
        assert_eq!(payloads(&opened), said);
        assert_eq!(town.bus.unread(town.agents[1]).unwrap(), (0, 0), "M1: what was promised is given back");
        let signatures: std::collections::HashSet<[u8; 64]> =
            opened.iter().map(|opened| *opened.message.signature()).collect();
        assert_eq!(signatures.len(), count.div_ceil(256));
        for (at, (opened, sent)) in opened.iter().zip(&sent).enumerate() {
            let Sent { id, leaf } = *sent.as_ref().unwrap();
            assert_eq!((opened.message.id(), opened.message.leaf()), (id, leaf));
            let inclusion = opened.message.inclusion().unwrap();
            assert_eq!((inclusion.index, inclusion.size), (at % 256, 256.min(count - at / 256 * 256)));
            let again = SecureMessage::decode(opened.message.as_bytes()).unwrap();
            assert_eq!((&again, again.leaf(), again.inclusion()), (&opened.message, leaf, Some(inclusion)));
        }
    }
}

#[test]
fn messages_signed_one_by_one_on_two_threads_arrive_in_order() {
    let none = LabelSet::default();
    for count in [1usize, 31, 32, 500] {
        let town = Town::new(2, deep());
        let said = numbers(count);
        let outgoing: Vec<Outgoing<'_>> = said.iter().map(|one| town.outgoing(0, 1, one, &none)).collect();
        assert!(town.bus.send_each(&outgoing, NOW).iter().all(Result::is_ok));
        let opened = town.read(1);
        assert_eq!(payloads(&opened), said);
        let key = town.bus.public_key(town.agents[0], NOW).unwrap();
        for opened in &opened {
            let bytes = opened.message.as_bytes();
            let signed = [b"symbi/msg/v1\0", &bytes[..bytes.len() - 64]].concat();
            assert_eq!(key.verify(&signed, opened.message.signature()), Ok(()));
        }
    }
}

#[test]
fn b4_what_one_message_of_a_batch_is_refused_for_does_not_touch_the_others() {
    let town = Town::new(3, BusOptions { mailbox_depth_max: 2, ..BusOptions::default() });
    let none = LabelSet::default();
    let nobody = AgentId::random(&*town.entropy);
    let given = MessageId::random(&*town.entropy);
    let outgoing = [
        Outgoing { id: Some(given), ..town.outgoing(0, 1, b"1", &none) },
        town.outgoing(0, 1, b"2", &none),
        town.outgoing(0, 1, b"3", &none),
        Outgoing { recipient: nobody, ..town.outgoing(0, 1, b"4", &none) },
        Outgoing { lifetime_us: Some(0), ..town.outgoing(0, 2, b"5", &none) },
        town.outgoing(0, 2, b"6", &none),
        town.outgoing(1, 2, b"another sender's", &none),
    ];
    let sent = town.bus.send_batch(&outgoing, NOW);
    let codes: Vec<&str> =
        sent.iter().map(|one| one.as_ref().map_or_else(|error| error.code(), |_| "")).collect();
    assert_eq!(codes, ["", "", "bus.mailbox_full", "bus.unknown_agent", "bus.lifetime", "", ""]);
    assert_eq!(sent[0].as_ref().unwrap().id, given);
    assert_eq!(payloads(&town.read(1)), [b"1", b"2"]);
    let opened = town.read(2);
    assert_eq!(payloads(&opened), [&b"6"[..], b"another sender's"]);
    assert_eq!(opened[0].message.inclusion().unwrap().size, 3, "only what was sealed is in the tree");
    assert_eq!(opened[1].message.inclusion().unwrap().size, 1, "of another signer");
}

#[test]
fn what_is_published_is_sealed_once_and_opened_by_every_member() {
    let town = Town::new(4, BusOptions::default());
    let topic: Topic = "clinic.alerts".parse().unwrap();
    let keys = town.bus.topic_keys(&topic);
    let labels = labels(&["phi"]);
    assert!(keys.join(town.agents[1]) && keys.join(town.agents[2]) && !keys.join(town.agents[2]));
    let publication = Publication {
        sender: town.agents[0],
        topic: &topic,
        recipients: &town.agents[1..],
        id: None,
        payload: b"alarm",
        content_type: ContentType::Text,
        labels: &labels,
        lifetime_us: None,
    };
    let published = town.bus.publish(&publication, NOW).unwrap();
    assert_eq!(published.laid, [Ok(()), Ok(()), Ok(())]);
    for member in [1, 2] {
        let opened = town.read(member);
        assert_eq!(opened[0].payload, b"alarm");
        let header = opened[0].message.header();
        assert_eq!((header.id, header.topic(), header.recipient()), (published.sent.id, Some(&topic), None));
        assert_eq!((header.content_type, &header.labels), (ContentType::Text, &labels));
        assert_eq!(SecureMessage::decode(opened[0].message.as_bytes()).as_ref(), Ok(&opened[0].message));
        assert_eq!(town.refusal(member, opened[0].message.clone()), Some(Refusal::Replayed));
    }
    let received = town.bus.receive_many(town.agents[3], 9, NOW).unwrap();
    assert_eq!(received.refused[0].reason, Refusal::NotMember);
}

#[test]
fn tk1_who_leaves_a_topic_opens_nothing_any_more_and_who_stays_everything() {
    let town = Town::new(3, BusOptions::default());
    let topic: Topic = "a".parse().unwrap();
    let keys = town.bus.topic_keys(&topic);
    let none = LabelSet::default();
    let publish = |payload: &[u8]| {
        let publication = Publication {
            sender: town.agents[0],
            topic: &topic,
            recipients: &town.agents[1..],
            id: None,
            payload,
            content_type: ContentType::Bytes,
            labels: &none,
            lifetime_us: None,
        };
        town.bus.publish(&publication, NOW).unwrap();
    };
    let reasons = |agent: usize| -> Vec<Refusal> {
        let received = town.bus.receive_many(town.agents[agent], 9, NOW).unwrap();
        received.refused.iter().map(|refused| refused.reason).collect()
    };
    keys.join(town.agents[1]);
    keys.join(town.agents[2]);
    let first = keys.epoch();
    publish(b"before");
    assert!(keys.leave(town.agents[2]) && !keys.leave(town.agents[2]));
    assert_ne!(keys.epoch(), first, "a new epoch");
    publish(b"after");
    assert_eq!(keys.epochs_kept(), 2, "TK2: the first is needed");
    assert_eq!(payloads(&town.read(1)), [&b"before"[..], b"after"]);
    assert_eq!(reasons(2), [Refusal::NotMember; 2]);
    assert_eq!(keys.epochs_kept(), 1, "TK2: and now it is not");
    keys.join(town.agents[2]);
    publish(b"again");
    assert_eq!(payloads(&town.read(2)), [b"again"]);
    assert_eq!(payloads(&town.read(1)), [b"again"]);
    let epoch = keys.epoch();
    assert!(keys.leave(town.agents[1]));
    let fresh = keys.epoch();
    assert_ne!(fresh, epoch);
    keys.join(town.agents[1]);
    assert!(keys.leave(town.agents[1]));
    assert_eq!(keys.epoch(), fresh, "nothing was sealed under it: it is nobody's");
}

#[test]
fn what_cannot_be_recorded_is_not_delivered_and_leaves_nothing_behind() {
    let town = Town::new(2, BusOptions::default());
    let none = LabelSet::default();
    let question = Outgoing { expects_reply: true, ..town.outgoing(0, 1, b"?", &none) };
    let refused = town.bus.seal_record_deliver(&question, NOW, |_| Err("full"));
    assert!(matches!(refused, Err(symbi_bus::SendError::Record("full"))));
    let batch = [question.clone(), question.clone()];
    let named = std::cell::RefCell::new(Vec::new());
    let refused = town.bus.send_batch_recorded(&batch, NOW, |messages| {
        named.borrow_mut().extend(messages.iter().map(SecureMessage::leaf));
        Err("full")
    });
    assert_eq!((refused, named.take().len()), (Err("full"), 2));
    let topic: Topic = "a".parse().unwrap();
    let publication = Publication {
        sender: town.agents[0],
        topic: &topic,
        recipients: &town.agents,
        id: None,
        payload: b"x",
        content_type: ContentType::Bytes,
        labels: &none,
        lifetime_us: None,
    };
    assert!(town.bus.publish_recorded(&publication, NOW, |_| Err("full")).is_err());
    let counts = town.bus.counts();
    assert_eq!((counts.messages, counts.requests), (0, 0));
    assert_eq!(town.bus.unread(town.agents[1]).unwrap(), (0, 0));
    let sent = town.bus.send_each_recorded(&batch, NOW, |messages| {
        named.borrow_mut().extend(messages.iter().map(SecureMessage::leaf));
        Ok::<(), &str>(())
    });
    let leaves: Vec<[u8; 32]> = sent.unwrap().into_iter().map(|sent| sent.unwrap().leaf).collect();
    assert_eq!(leaves, named.take());
    let counters: Vec<u64> = town.read(1).iter().map(|opened| opened.message.header().counter).collect();
    assert_eq!(counters, [4, 5], "S1: what was sealed for nothing has used up its number");
}
