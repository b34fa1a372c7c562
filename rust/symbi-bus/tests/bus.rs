//! What the bus promises its users, one sentence a test.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use common::{NOW, Town, labels};
use symbi_bus::{
    Bus, BusError, BusOptions, ContentType, Identity, LIFETIME_US_MAX, Outgoing, PAYLOAD_BYTES_MAX, Reply,
    SecureMessage,
};
use symbi_crypto::Provider;
use symbi_types::{AgentId, Entropy, LabelSet, MessageId, SystemEntropy};

fn small(depth: usize, bytes: usize) -> BusOptions {
    BusOptions { mailbox_depth_max: depth, mailbox_bytes_max: bytes, ..BusOptions::default() }
}

#[test]
fn b1_a_message_arrives_whole_with_sender_labels_and_times() {
    let town = Town::new(2, BusOptions::default());
    let labels = labels(&["phi", "clinic"]);
    let outgoing = Outgoing { lifetime_us: Some(5), ..town.outgoing(0, 1, b"hello", &labels) };
    let id = town.bus.seal_and_deliver(&outgoing, NOW).unwrap().id;
    let opened = town.read(1);
    let [opened] = &opened[..] else { panic!("{opened:?}") };
    assert_eq!(opened.payload, b"hello");
    let header = opened.message.header();
    assert_eq!((header.id, header.sender, header.recipient()), (id, town.agents[0], Some(town.agents[1])));
    assert_eq!((&header.labels, header.in_reply_to), (&labels, None));
    assert_eq!((header.created_us, header.expires_us, header.counter), (NOW, NOW + 5, 1));
    assert_eq!(header.signer, town.bus.public_key(town.agents[0], NOW).unwrap().key_id());
    assert!(!opened.message.as_bytes().windows(5).any(|window| window == b"hello"), "sealed");
    assert!(town.read(1).is_empty(), "B2");
}

#[test]
fn b5_a_signature_can_be_checked_by_anyone_who_has_the_public_key() {
    let town = Town::new(2, BusOptions::default());
    town.send(0, 1, b"hello").unwrap();
    let message = town.read(1).remove(0).message;
    let bytes = message.as_bytes();
    let signed = [b"symbi/msg/v1\0", &bytes[..bytes.len() - 64]].concat();
    let key = town.bus.public_key(town.agents[0], NOW).unwrap();
    assert_eq!(key.verify(&signed, message.signature()), Ok(()));
}

#[test]
fn messages_of_one_sender_come_in_order_and_in_pieces_of_the_limit() {
    let town = Town::new(3, BusOptions::default());
    for number in 0..10u8 {
        town.send(usize::from(number % 2), 2, &[number]).unwrap();
    }
    let mut seen = Vec::new();
    for wanted in [4, 4, 2, 0] {
        let received = town.bus.receive_many(town.agents[2], 4, NOW).unwrap();
        assert_eq!(received.opened.len(), wanted);
        seen.extend(received.opened.into_iter().flat_map(|opened| opened.payload.to_vec()));
    }
    assert_eq!(seen, (0..10).collect::<Vec<u8>>());
}

#[test]
fn b4_b5_a_full_mailbox_refuses_and_loses_nothing() {
    let town = Town::new(2, small(2, 1 << 20));
    town.send(0, 1, b"1").unwrap();
    town.send(0, 1, b"2").unwrap();
    let refused = town.send(0, 1, b"3").unwrap_err();
    assert!(matches!(refused, BusError::MailboxFull { messages: 2, .. }), "{refused}");
    assert_eq!(refused.code(), "bus.mailbox_full");
    assert_eq!(town.bus.receive_many(town.agents[1], 1, NOW).unwrap().opened[0].payload, b"1");
    town.send(0, 1, b"4").unwrap();
    let rest: Vec<_> = town.read(1).into_iter().map(|opened| opened.payload.to_vec()).collect();
    assert_eq!(rest, [b"2", b"4"]);
}

#[test]
fn b5_bytes_are_bounded_too_and_given_back() {
    let town = Town::new(2, small(100, 10_000));
    let payload = vec![0; 4_700];
    town.send(0, 1, &payload).unwrap();
    town.send(0, 1, &payload).unwrap();
    assert!(matches!(
        town.send(0, 1, &[0; 400]),
        Err(BusError::MailboxFull { messages: 2, bytes: 9_888, .. })
    ));
    assert_eq!(town.bus.unread(town.agents[1]).unwrap(), (2, 9_888));
    assert_eq!(town.read(1).len(), 2);
    assert_eq!(town.bus.unread(town.agents[1]).unwrap(), (0, 0));
    let refused = town.send(0, 1, &[0; 10_000]).unwrap_err();
    assert_eq!(refused.code(), "bus.payload_too_large");
}

#[test]
fn a_reply_comes_to_the_one_who_asked_and_to_nobody_else() {
    let town = Town::new(3, BusOptions::default());
    let request = town.ask(0, 1, b"question").unwrap();
    assert_eq!(town.bus.take_reply(town.agents[0], request, NOW), Ok(Reply::Pending));
    assert_eq!(town.read(1)[0].message.id(), request);
    town.answer(2, 0, request, b"a stranger's").unwrap();
    assert_eq!(town.bus.take_reply(town.agents[0], request, NOW), Ok(Reply::Pending), "M2");
    town.answer(1, 0, request, b"answer").unwrap();
    town.answer(1, 0, request, b"second").unwrap();
    let Ok(Reply::Opened(opened)) = town.bus.take_reply(town.agents[0], request, NOW) else {
        panic!("a reply")
    };
    assert_eq!((&opened.payload[..], opened.message.header().in_reply_to), (&b"answer"[..], Some(request)));
    let none = Err(BusError::NoSuchRequest { request });
    assert_eq!(town.bus.take_reply(town.agents[0], request, NOW), none);
    let others: Vec<_> = town.read(0).into_iter().map(|opened| opened.payload.to_vec()).collect();
    assert_eq!(others, [&b"a stranger's"[..], b"second"], "messages like others");
}

#[test]
fn m3_a_reply_reaches_an_agent_whose_mailbox_is_full() {
    let town = Town::new(2, small(1, 1 << 20));
    let request = town.ask(0, 1, b"question").unwrap();
    town.send(1, 0, b"fills it").unwrap();
    town.answer(1, 0, request, b"answer").unwrap();
    assert!(matches!(town.answer(1, 0, request, b"again"), Err(BusError::MailboxFull { .. })));
    assert!(matches!(town.bus.take_reply(town.agents[0], request, NOW), Ok(Reply::Opened(_))));
}

#[test]
fn m3_the_bytes_of_replies_are_bounded_apart_and_given_back() {
    let town = Town::new(2, small(4, 10_000));
    let answer = vec![0; 4_700];
    let ask = || town.ask(0, 1, b"question").unwrap();
    let requests = [ask(), ask(), ask()];
    for request in &requests {
        town.answer(1, 0, *request, &answer).unwrap();
    }
    assert_eq!(
        town.bus.unread(town.agents[0]).unwrap().0,
        1,
        "the third had no room there: a message like others"
    );
    for request in &requests[..2] {
        assert!(matches!(town.bus.take_reply(town.agents[0], *request, NOW), Ok(Reply::Opened(_))));
    }
    town.answer(1, 0, requests[2], &answer).unwrap();
    assert!(matches!(town.bus.take_reply(town.agents[0], requests[2], NOW), Ok(Reply::Opened(_))));
}

#[test]
fn a_reply_that_waits_while_thousands_are_read_is_no_replay() {
    let town = Town::new(2, BusOptions::default());
    let request = town.ask(0, 1, b"question").unwrap();
    town.answer(1, 0, request, b"answer").unwrap();
    for _ in 0..3 {
        for _ in 0..1_000 {
            town.send(1, 0, b"x").unwrap();
        }
        assert_eq!(town.read(0).len(), 1_000);
    }
    assert!(matches!(town.bus.take_reply(town.agents[0], request, NOW), Ok(Reply::Opened(_))));
}

#[test]
fn a_request_that_is_forgotten_names_the_answer_that_is_lost() {
    let town = Town::new(2, BusOptions::default());
    let [early, late] = [town.ask(0, 1, b"a").unwrap(), town.ask(0, 1, b"b").unwrap()];
    let answer = town.answer(1, 0, early, b"answer").unwrap();
    assert_eq!(town.bus.forget_reply(town.agents[0], early), Ok(Some(answer)));
    assert_eq!(town.bus.forget_reply(town.agents[0], late), Ok(None));
    town.answer(1, 0, late, b"too late").unwrap();
    assert_eq!(town.read(0)[0].payload, b"too late");
}

#[test]
fn replies_waited_for_are_bounded_and_a_refused_request_waits_for_none() {
    let town = Town::new(3, small(2, 1 << 20));
    let first = town.ask(0, 1, b"1").unwrap();
    town.ask(0, 1, b"2").unwrap();
    assert_eq!(town.ask(0, 2, b"3").unwrap_err().code(), "bus.too_many_requests");
    town.bus.forget_reply(town.agents[0], first).unwrap();
    assert_eq!(town.ask(0, 1, b"4").unwrap_err().code(), "bus.mailbox_full");
    assert!(town.ask(0, 2, b"5").is_ok(), "the refused one gave its place back");
}

#[test]
fn the_hook_names_an_agent_once_until_it_has_read_everything() {
    let town = Town::new(3, BusOptions::default());
    let named: Arc<Mutex<Vec<AgentId>>> = Arc::default();
    let sink = Arc::clone(&named);
    town.bus.on_ready(Arc::new(move |agent| sink.lock().unwrap().push(agent)));
    let take = || std::mem::take(&mut *named.lock().unwrap());
    town.send(0, 1, b"1").unwrap();
    town.send(2, 1, b"2").unwrap();
    assert_eq!(take(), [town.agents[1]]);
    assert_eq!(town.read(1).len(), 2);
    let request = town.ask(1, 0, b"3").unwrap();
    assert_eq!(take(), [town.agents[0]]);
    town.send(2, 1, b"4").unwrap();
    town.answer(0, 1, request, b"5").unwrap();
    assert_eq!(take(), [town.agents[1], town.agents[1]], "for the message, and for the reply");
}

#[test]
fn what_an_agent_sent_before_it_left_is_still_read_and_what_it_had_not_read_is_named() {
    let town = Town::new(2, BusOptions::default());
    town.send(0, 1, b"last words").unwrap();
    let lost = town.send(1, 0, b"unread").unwrap();
    let unread = town.bus.unregister(town.agents[0]).unwrap();
    assert_eq!(unread.iter().map(|message| message.id()).collect::<Vec<_>>(), [lost]);
    assert_eq!(town.read(1)[0].payload, b"last words");
    for gone in [town.send(1, 0, b"x"), town.send(0, 1, b"x")] {
        assert_eq!(gone, Err(BusError::UnknownAgent { agent: town.agents[0] }));
    }
    assert_eq!(town.bus.unregister(town.agents[0]).unwrap_err().code(), "bus.unknown_agent");
    assert_eq!(town.bus.agents(), 1);
}

#[test]
fn an_agent_is_registered_once_and_may_bring_its_identity() {
    let town = Town::new(1, BusOptions::default());
    let agent = AgentId::random(&SystemEntropy);
    let identity = Identity::random(Provider::Ring, &SystemEntropy);
    let key = identity.public();
    town.bus.register_as(agent, identity, NOW).unwrap();
    assert_eq!(town.bus.public_key(agent, NOW), Ok(key));
    assert_eq!(town.bus.register(agent), Err(BusError::AlreadyRegistered { agent }));
}

#[test]
fn bounds_of_payload_labels_and_lifetime_hold_at_the_limit_and_not_past_it() {
    let town = Town::new(2, small(9, 16 << 20));
    let none = LabelSet::default();
    let payload = vec![7; PAYLOAD_BYTES_MAX + 1];
    assert!(town.send(0, 1, &payload[1..]).is_ok());
    assert_eq!(town.send(0, 1, &payload).unwrap_err().code(), "bus.payload_too_large");
    let many: LabelSet = (0..65).map(|at| format!("l{at:063}").parse().unwrap()).collect();
    let most: LabelSet = many.iter().take(64).cloned().collect();
    assert!(town.bus.seal_and_deliver(&town.outgoing(0, 1, b"", &most), NOW).is_ok());
    let refused = town.bus.seal_and_deliver(&town.outgoing(0, 1, b"", &many), NOW).unwrap_err();
    assert_eq!(refused.code(), "bus.too_many_labels");
    for (lifetime, good) in [(0, false), (1, true), (LIFETIME_US_MAX, true), (LIFETIME_US_MAX + 1, false)] {
        let outgoing = Outgoing { lifetime_us: Some(lifetime), ..town.outgoing(0, 1, b"", &none) };
        assert_eq!(town.bus.seal_and_deliver(&outgoing, NOW).is_ok(), good, "{lifetime}");
    }
    assert_eq!(town.read(1).len(), 4);
}

#[test]
fn e2_an_envelope_reads_back_as_it_was_built() {
    let town = Town::new(2, BusOptions::default());
    let labels = labels(&["clinic", "phi"]);
    let request = MessageId::random(&*town.entropy);
    for in_reply_to in [None, Some(request)] {
        let outgoing = Outgoing { in_reply_to, ..town.outgoing(0, 1, b"payload", &labels) };
        town.bus.seal_and_deliver(&outgoing, NOW).unwrap();
        let message = town.read(1).remove(0).message;
        assert_eq!(SecureMessage::decode(message.as_bytes()), Ok(message));
    }
}

/// Counts what is asked for: every key begins with randomness.
#[derive(Default)]
struct Counting(AtomicUsize);

impl Entropy for Counting {
    fn fill(&self, buffer: &mut [u8]) {
        self.0.fetch_add(buffer.len(), Ordering::SeqCst);
        SystemEntropy.fill(buffer);
    }
}

#[test]
fn b6_an_agent_gets_keys_when_it_first_speaks_or_is_spoken_to() {
    let entropy = Arc::new(Counting::default());
    let bus = Bus::new(BusOptions::default(), entropy.clone(), Provider::AwsLc);
    let agents: Vec<AgentId> = (0..1_000).map(|_| AgentId::random(&SystemEntropy)).collect();
    for agent in &agents {
        bus.register(*agent).unwrap();
        assert!(bus.receive_many(*agent, 1, NOW).unwrap().opened.is_empty());
    }
    let drawn = || entropy.0.swap(0, Ordering::SeqCst);
    assert_eq!(drawn(), 64, "the key that vouches, and nothing for an agent");
    let none = LabelSet::default();
    let outgoing = Outgoing {
        sender: agents[0],
        recipient: agents[1],
        id: None,
        payload: b"x",
        content_type: ContentType::Bytes,
        labels: &none,
        in_reply_to: None,
        expects_reply: false,
        lifetime_us: None,
    };
    bus.seal_and_deliver(&outgoing, NOW).unwrap();
    assert_eq!(drawn(), 2 * (64 + 8) + 32 + 16, "two identities and serials, a stream, a message id");
    bus.seal_and_deliver(&outgoing, NOW).unwrap();
    assert_eq!(drawn(), 16);
}

#[test]
fn an_agent_may_write_to_itself() {
    let town = Town::new(1, BusOptions::default());
    let request = town.ask(0, 0, b"note").unwrap();
    assert_eq!(town.read(0)[0].payload, b"note");
    town.answer(0, 0, request, b"done").unwrap();
    assert!(matches!(town.bus.take_reply(town.agents[0], request, NOW), Ok(Reply::Opened(_))));
}

#[test]
fn threads_that_write_to_one_agent_lose_nothing_and_repeat_nothing() {
    let town = Town::new(5, small(10_000, 16 << 20));
    std::thread::scope(|scope| {
        for from in 0..4 {
            let town = &town;
            scope.spawn(move || {
                for number in 0..200u8 {
                    town.send(from, 4, &[from as u8, number]).unwrap();
                }
            });
        }
    });
    let mut seen: Vec<Vec<u8>> = town.read(4).into_iter().map(|opened| opened.payload.to_vec()).collect();
    seen.sort();
    let wanted: Vec<Vec<u8>> =
        (0..4u8).flat_map(|from| (0..200u8).map(move |number| vec![from, number])).collect();
    assert_eq!(seen, wanted);
}

/// `cargo nextest run --cargo-profile ci -p symbi-bus --run-ignored only --no-capture`. Reads the process's own memory,
/// so it runs alone.
#[test]
#[ignore = "a measurement, run by hand"]
fn measure_memory_of_idle_agents() {
    let resident = || -> u64 {
        let text = std::fs::read_to_string("/proc/self/statm").unwrap();
        text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4_096
    };
    let bus = Bus::new(BusOptions::default(), Arc::new(SystemEntropy), Provider::AwsLc);
    let before = resident();
    let agents: Vec<AgentId> = (0..100_000).map(|_| AgentId::random(&SystemEntropy)).collect();
    for agent in &agents {
        bus.register(*agent).unwrap();
    }
    let registered = resident();
    let none = LabelSet::default();
    for pair in agents.windows(2).take(10_000) {
        let [sender, recipient] = pair else { panic!("a pair") };
        let outgoing = Outgoing {
            sender: *sender,
            recipient: *recipient,
            id: None,
            payload: b"x",
            content_type: ContentType::Bytes,
            labels: &none,
            in_reply_to: None,
            expects_reply: false,
            lifetime_us: None,
        };
        bus.seal_and_deliver(&outgoing, NOW).unwrap();
        bus.receive_many(*recipient, 1, NOW).unwrap();
    }
    let spoken = resident();
    println!(
        "idle agent {} bytes; agent with an identity, a mailbox and one session {} bytes",
        (registered - before) / 100_000,
        (spoken - registered) / 10_000
    );
}
