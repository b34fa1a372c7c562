//! K240, K241: what the trail keeps and was given up is there again after a crash, until somebody settles it; and what becomes of
//! it when a person is erased.

use std::sync::Arc;

use symbi_bus::DeadReason;
use symbi_kernel::{
    DeliveryOptions, Durable, DurablePublication, Guarantee, Kernel, MessageId, Payload, Recipient,
    SendOptions,
};
use symbi_types::{AgentId, LabelSet, Part};

use crate::world::*;

fn world(snapshot_records: u64) -> World {
    let mut world = World { snapshot_records, ..World::open_to_all() };
    world.messaging.deliveries = DeliveryOptions { attempts_max: 1, ..DeliveryOptions::default() };
    world
}

/// One that never happens here, and one that is there after a few records.
const SNAPSHOTS: [u64; 2] = [symbi_kernel::SNAPSHOT_RECORDS, 10];

fn part(says: &str, labels: &LabelSet) -> Payload {
    Payload::Parts(vec![Part { text: says.to_owned(), labels: labels.clone(), source: None }])
}

fn keep(kernel: &Arc<Kernel>, from: AgentId, to: &str, payload: Payload) -> MessageId {
    let to = Recipient::Named(to.to_owned());
    match kernel.begin_durable(from, &to, payload, &SendOptions::default()).unwrap() {
        Durable::Begun(begun) => {
            kernel.wait_durable(begun.intent_seq(), SOON).unwrap();
            kernel.deliver_durable(*begun).unwrap().id
        }
        Durable::Repeated(id) => id,
    }
}

fn publish(kernel: &Arc<Kernel>, from: AgentId, payload: Payload) -> MessageId {
    match kernel.begin_durable_publish(from, "orders.eu", payload, &SendOptions::default()).unwrap() {
        DurablePublication::Begun(begun) => {
            kernel.wait_durable(begun.intent_seq(), SOON).unwrap();
            kernel.deliver_durable_publish(*begun).unwrap().id
        }
        DurablePublication::Nobody(id) => id,
    }
}

/// Handed out, and given back once too often.
fn give_up(kernel: &Kernel, agent: AgentId, mailbox: AgentId) {
    for one in kernel.receive_many(mailbox, 9).unwrap() {
        kernel.give_back(agent, mailbox, one.id).unwrap();
    }
    kernel.pass_deliveries();
}

/// Past the next snapshot, where there is one.
fn go_on(world: &World, kernel: &Arc<Kernel>, from: AgentId) {
    for _ in 0..40 {
        world.clock.advance_us(1);
        settle_disk(kernel, from);
    }
}

fn dead(kernel: &Kernel) -> Vec<(MessageId, Option<String>, DeadReason, u32)> {
    let letters = kernel.dead_letters().0.into_iter();
    letters.map(|one| (one.id, one.recipient_name, one.reason, one.attempts)).collect()
}

fn said(kernel: &Kernel, mailbox: AgentId) -> Vec<(String, u32)> {
    let text = |payload| match payload {
        Payload::Parts(parts) => parts.into_iter().map(|part| part.text).collect::<String>(),
        Payload::Bytes(_) => String::new(),
    };
    kernel.receive_many(mailbox, 9).unwrap().into_iter().map(|one| (text(one.payload), one.attempt)).collect()
}

#[test]
fn k240_what_was_kept_and_given_up_is_a_dead_letter_after_a_crash_and_another_until_it_is_settled() {
    for snapshot_records in SNAPSHOTS {
        let mut world = world(snapshot_records);
        let kernel = world.kernel();
        let (from, to) = (agent(&kernel, "from"), agent(&kernel, "to"));
        let none = LabelSet::default();
        let thrown = keep(&kernel, from, "to", part("thrown", &none));
        world.clock.advance_us(1);
        let stays = keep(&kernel, from, "to", part("stays", &none));
        give_up(&kernel, to, to);
        world.clock.advance_us(1);
        let late = keep(&kernel, from, "to", part("late", &none));
        world.clock.advance_us(3_600_000_001);
        kernel.pass_deliveries(); // never handed out, and its time is over
        let all = [
            (thrown, Some("to".to_owned()), DeadReason::Attempts, 1),
            (stays, Some("to".to_owned()), DeadReason::Attempts, 1),
            (late, Some("to".to_owned()), DeadReason::Expired, 0),
        ];
        assert_eq!(dead(&kernel), all);
        assert_eq!(kernel.letters_open(), 0);
        kernel.discard(OPERATOR, thrown, None).unwrap();
        go_on(&world, &kernel, from);
        let (kernel, _image) = world.crashed();
        assert_eq!(dead(&kernel), all[1..], "K240");
        assert_eq!(kernel.dead_letters().0[0].sent.as_ref().unwrap().1, "from");
        let to = agent(&kernel, "to");
        assert!(kernel.receive_many(to, 9).unwrap().is_empty(), "K240: given up is not handed out");
        kernel.close().unwrap();
    }
}

#[test]
fn k241_what_was_put_back_after_a_crash_goes_to_the_next_of_the_name_and_outlives_another_crash() {
    for snapshot_records in SNAPSHOTS {
        let mut world = world(snapshot_records);
        let kernel = world.kernel();
        let (from, to) = (agent(&kernel, "from"), agent(&kernel, "to"));
        let (heard, _) = kernel.subscribe(to, "orders.*").unwrap();
        let none = LabelSet::default();
        let sent = keep(&kernel, from, "to", part("sent", &none));
        let published = publish(&kernel, from, part("published", &none));
        give_up(&kernel, to, to);
        give_up(&kernel, to, heard);
        settle_disk(&kernel, from);
        let (kernel, image) = world.crashed();
        let from = agent(&kernel, "from");
        kernel.revive(OPERATOR, published, None).unwrap(); // nobody of the name is there: it waits
        assert!(kernel.revive(OPERATOR, published, None).is_err(), "K206: once");
        let to = agent(&kernel, "to");
        kernel.revive(OPERATOR, sent, None).unwrap();
        assert!(dead(&kernel).is_empty());
        assert_eq!(said(&kernel, to), [("sent".to_owned(), 1)], "K241");
        go_on(&world, &kernel, from);
        let (kernel, _again) = world.crashed_at(image.path());
        assert!(dead(&kernel).is_empty(), "K241");
        let to = agent(&kernel, "to");
        assert_eq!(said(&kernel, to), [("sent".to_owned(), 1)], "K241: not acknowledged before the crash");
        let (heard, _) = kernel.subscribe(to, "orders.*").unwrap();
        assert_eq!(said(&kernel, heard), [("published".to_owned(), 1)], "K241");
        kernel.acknowledge(to, to, &[sent]).unwrap();
        kernel.acknowledge(to, heard, &[published]).unwrap();
        assert_eq!(kernel.letters_open(), 0);
    }
}

#[test]
fn er5_erasing_a_person_takes_kept_and_dead_letters_of_that_person_over_a_crash_too() {
    for snapshot_records in SNAPSHOTS {
        for erased_after_the_crash in [false, true] {
            let (mut world, mut images) = (world(snapshot_records), Vec::new());
            let kernel = world.kernel();
            let (from, to) = (agent(&kernel, "from"), agent(&kernel, "to"));
            let (heard, _) = kernel.subscribe(to, "orders.*").unwrap();
            let jane = kernel.labels(&["subject:jane"]).unwrap();
            let john = kernel.labels(&["subject:john"]).unwrap();
            let other = keep(&kernel, from, "to", part("of john", &john));
            keep(&kernel, from, "to", part("of jane, dead", &jane));
            publish(&kernel, from, part("of jane, published and dead", &jane));
            give_up(&kernel, to, to);
            give_up(&kernel, to, heard);
            let once = SendOptions { guarantee: Guarantee::AtLeastOnce, ..SendOptions::default() };
            kernel.send_with(from, &Recipient::Agent(to), part("of jane, not kept", &jane), &once).unwrap();
            give_up(&kernel, to, to);
            keep(&kernel, from, "to", part("of jane, unread", &jane));
            assert_eq!((dead(&kernel).len(), kernel.letters_open()), (4, 1));
            go_on(&world, &kernel, from);
            let (kernel, data, found) = if erased_after_the_crash {
                let (kernel, image) = world.crashed();
                assert_eq!((dead(&kernel).len(), kernel.letters_open()), (3, 1), "what was not kept is gone");
                let data = image.path().to_owned();
                images.push(image);
                (kernel, data, 3)
            } else {
                (kernel, world.data(), 4)
            };
            let erased = kernel.erase_subject(OPERATOR, "jane").unwrap();
            assert_eq!(erased[0].places["deliveries"], found);
            assert_eq!((dead(&kernel).len(), kernel.letters_open()), (1, 0), "of John");
            let (kernel, _image) = world.crashed_at(&data);
            assert_eq!(dead(&kernel).iter().map(|one| one.0).collect::<Vec<_>>(), [other], "ER5");
            assert_eq!(kernel.letters_open(), 0, "ER5");
            let to = agent(&kernel, "to");
            assert!(kernel.receive_many(to, 9).unwrap().is_empty(), "ER5");
            let (heard, _) = kernel.subscribe(to, "orders.*").unwrap();
            assert!(kernel.receive_many(heard, 9).unwrap().is_empty(), "ER5");
            kernel.revive(OPERATOR, other, None).unwrap();
            assert_eq!(said(&kernel, to), [("of john".to_owned(), 1)]);
        }
    }
}
