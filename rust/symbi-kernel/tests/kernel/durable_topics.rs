//! K207, K208: what was published and is kept; ER1: for whom.

use std::sync::Arc;

use symbi_bus::BusError;
use symbi_kernel::{
    AgentError, DURABLE_BYTES_MAX, DurablePublication, Kernel, MessageError, MessageId, OpenedSeal, Payload,
    Received, RefusalCode, SendOptions, Word,
};
use symbi_types::{AgentId, Part};

use crate::world::*;

fn begin(
    kernel: &Arc<Kernel>,
    from: AgentId,
    says: &str,
    id: Option<MessageId>,
) -> Result<DurablePublication, MessageError> {
    let options = SendOptions { id, ..SendOptions::default() };
    kernel.begin_durable_publish(from, "orders.eu", Payload::Bytes(says.as_bytes().to_vec()), &options)
}

fn publish(kernel: &Arc<Kernel>, from: AgentId, says: &str, id: Option<MessageId>) -> MessageId {
    match begin(kernel, from, says, id).unwrap() {
        DurablePublication::Begun(begun) => {
            kernel.wait_durable(begun.intent_seq(), SOON).unwrap();
            kernel.deliver_durable_publish(*begun).unwrap().id
        }
        DurablePublication::Nobody(id) => id,
    }
}

fn said(received: &[Received]) -> Vec<String> {
    let of = |payload: &Payload| match payload {
        Payload::Bytes(bytes) => String::from_utf8(bytes.clone()).unwrap(),
        Payload::Parts(_) => String::new(),
    };
    received.iter().map(|one| of(&one.payload)).collect()
}

fn finish(kernel: &Kernel, agent: AgentId, mailbox: AgentId, ids: &[MessageId]) {
    let seq = kernel.acknowledge(agent, mailbox, ids).unwrap().unwrap();
    kernel.wait_durable(seq, SOON).unwrap();
}

#[test]
fn k207_what_was_published_and_kept_outlives_the_runtime_for_each_who_was_to_hear_it() {
    for snapshot_records in [symbi_kernel::SNAPSHOT_RECORDS, 10] {
        let mut world = World::open_to_all();
        world.snapshot_records = snapshot_records;
        let kernel = world.kernel();
        let from = agent(&kernel, "from");
        let [near, far] = ["near", "far"].map(|name| agent(&kernel, name));
        let [mine, theirs] = [(near, "orders.*"), (far, "orders.>")]
            .map(|(agent, pattern)| kernel.subscribe(agent, pattern).unwrap().0);
        let first = publish(&kernel, from, "first", None);
        world.clock.advance_us(1);
        let second = publish(&kernel, from, "second", None);
        let heard = kernel.receive_many(mine, 9).unwrap();
        assert_eq!((said(&heard), heard[0].id), (vec!["first".to_owned(), "second".to_owned()], first));
        assert_eq!((heard[0].topic.as_deref(), heard[0].attempt), (Some("orders.eu"), 1));
        finish(&kernel, near, mine, &[first]);
        assert_eq!(said(&kernel.receive_many(theirs, 1).unwrap()), ["first"], "handed out, not finished");
        if snapshot_records == 10 {
            for _ in 0..40 {
                world.clock.advance_us(1);
                finish(
                    &kernel,
                    near,
                    mine,
                    &[publish(&kernel, from, "much else", None)].map(|id| {
                        kernel.receive_many(mine, 9).unwrap();
                        id
                    }),
                );
            }
        }
        let (kernel, _image) = world.crashed();
        assert_eq!(kernel.opened().unknown, 0);
        let [near, other] = ["near", "other"].map(|name| agent(&kernel, name));
        let (wrong, _) = kernel.subscribe(near, "orders.>").unwrap();
        let (strange, _) = kernel.subscribe(other, "orders.*").unwrap();
        assert!(kernel.receive_many(wrong, 9).unwrap().is_empty(), "of another pattern");
        assert!(kernel.receive_many(strange, 9).unwrap().is_empty(), "of another name");
        assert!(kernel.receive_many(near, 9).unwrap().is_empty(), "not its own mail");
        let (mine, _) = kernel.subscribe(near, "orders.*").unwrap();
        let again = kernel.receive_many(mine, 9).unwrap();
        assert_eq!(
            (said(&again), again[0].id, again[0].attempt),
            (vec!["second".to_owned()], second, 1),
            "K207"
        );
        assert_eq!((again[0].topic.as_deref(), again[0].sender_name.as_str()), (Some("orders.eu"), "from"));
        finish(&kernel, near, mine, &[second]);
        let far = agent(&kernel, "far");
        let (theirs, _) = kernel.subscribe(far, "orders.>").unwrap();
        assert_eq!(said(&kernel.receive_many(theirs, 2).unwrap()), ["first", "second"], "K207");
        kernel.close().unwrap();
    }
}

#[test]
fn k207_a_subscription_that_ends_leaves_what_is_unfinished_to_the_next_of_its_kind() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let (from, to) = (agent(&kernel, "from"), agent(&kernel, "to"));
    let (first, _) = kernel.subscribe(to, "orders.*").unwrap();
    let id = publish(&kernel, from, "kept", None);
    assert_eq!(said(&kernel.receive_many(first, 9).unwrap()), ["kept"]);
    kernel.unsubscribe(to, first).unwrap();
    assert!(kernel.dead_letters().0.is_empty() && kernel.letters_open() == 1);
    let (second, _) = kernel.subscribe(to, "orders.*").unwrap();
    assert_eq!(said(&kernel.receive_many(second, 9).unwrap()), ["kept"]);
    finish(&kernel, to, second, &[id]);
    assert_eq!(kernel.letters_open(), 0);
    // Under its id it is known: in this opening, and after it.
    publish(&kernel, from, "kept", Some(id));
    assert!(kernel.receive_many(second, 9).unwrap().is_empty());
    let (kernel, _image) = world.crashed();
    let (from, to) = (agent(&kernel, "from"), agent(&kernel, "to"));
    let (third, _) = kernel.subscribe(to, "orders.*").unwrap();
    publish(&kernel, from, "kept", Some(id));
    assert!(kernel.receive_many(third, 9).unwrap().is_empty(), "K167");
    assert_eq!(
        said(&{
            publish(&kernel, from, "new", None);
            kernel.receive_many(third, 9).unwrap()
        }),
        ["new"]
    );
}

#[test]
fn k207_a_publication_that_was_recorded_and_not_delivered_is_delivered_after_the_crash() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let (from, to) = (agent(&kernel, "from"), agent(&kernel, "to"));
    kernel.subscribe(to, "orders.*").unwrap();
    let Ok(DurablePublication::Begun(begun)) = begin(&kernel, from, "between", None) else { panic!("begun") };
    kernel.wait_durable(begun.intent_seq(), SOON).unwrap();
    let (kernel, _image) = world.crashed();
    let to = agent(&kernel, "to");
    let (mailbox, _) = kernel.subscribe(to, "orders.*").unwrap();
    assert_eq!(said(&kernel.receive_many(mailbox, 9).unwrap()), ["between"]);
}

#[test]
fn k208_a_subscription_without_room_keeps_a_publication_from_all_until_it_has_some() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let (from, near, slow) = (agent(&kernel, "from"), agent(&kernel, "near"), agent(&kernel, "slow"));
    let (quick, _) = kernel.subscribe(near, "orders.>").unwrap();
    let (full, _) = kernel.subscribe(slow, "orders.*").unwrap();
    for _ in 0..64 {
        publish(&kernel, from, "x", None);
        let ids: Vec<MessageId> = kernel.receive_many(quick, 9).unwrap().iter().map(|one| one.id).collect();
        finish(&kernel, near, quick, &ids);
    }
    let before = kernel.letters_open();
    let Err(MessageError::Bus(BusError::MailboxFull { agent, .. })) = begin(&kernel, from, "late", None)
    else {
        panic!("K208")
    };
    assert_eq!((agent, kernel.letters_open()), (full, before));
    assert!(kernel.receive_many(quick, 9).unwrap().is_empty(), "K208: all or nobody");
    kernel.receive_many(full, 9).unwrap();
    assert_eq!(kernel.drain_rooms(), [full], "K153");
    publish(&kernel, from, "late", None);
    assert_eq!(said(&kernel.receive_many(quick, 9).unwrap()), ["late"]);
}

#[test]
fn what_is_published_and_kept_is_decided_bounded_and_known_to_nobody_without_subscribers() {
    let rules = format!(
        "{OPEN}\nforbid(principal, action == Action::\"message.subscribe\", resource) when {{ principal is Agent && principal.name == \"nosy\" && resource == Topic::\"orders.eu\" }};"
    );
    let mut world = World::with(Some(policies(&rules, &[])));
    let kernel = world.kernel();
    let (from, nosy) = (agent(&kernel, "from"), agent(&kernel, "nosy"));
    let (heard, _) = kernel.subscribe(nosy, "orders.>").unwrap();
    publish(&kernel, from, "x", None);
    assert!(kernel.receive_many(heard, 9).unwrap().is_empty() && kernel.letters_open() == 0, "K157");
    let large = "x".repeat(DURABLE_BYTES_MAX + 1);
    assert!(matches!(
        begin(&kernel, from, &large, None),
        Err(MessageError::Bus(BusError::PayloadTooLarge { .. }))
    ));
    assert_eq!(kernel.operations_in_flight(), 0);
}

#[test]
fn er1_a_letter_of_a_persons_data_is_sealed_for_the_person_and_unreadable_once_that_is_erased() {
    let mut world = World::open_to_all();
    let kernel = world.kernel();
    let (from, to) = (agent(&kernel, "from"), agent(&kernel, "to"));
    let (heard, _) = kernel.subscribe(to, "orders.*").unwrap();
    let jane = kernel.labels(&["subject:jane"]).unwrap();
    let part = Part { text: "the address of jane".to_owned(), labels: jane, source: None };
    let payload = Payload::Parts(vec![part]);
    let begun = kernel.begin_durable_publish(from, "orders.eu", payload, &SendOptions::default()).unwrap();
    let DurablePublication::Begun(begun) = begun else { panic!("somebody hears it") };
    kernel.wait_durable(begun.intent_seq(), SOON).unwrap();
    kernel.deliver_durable_publish(*begun).unwrap();
    let intents = world.of_type("operation.intent").into_iter();
    let mut letters =
        intents.filter_map(|record| details(&record).get("letter")?.as_str().map(str::to_owned));
    let letter = letters.next_back().unwrap();
    assert!(kernel.unseal(&letter).is_some(), "while she is known it is read");
    kernel.erase_subject(OPERATOR, "jane").unwrap();
    assert_eq!(kernel.open_sealed(&letter), OpenedSeal::Erased, "ER1");
    assert!(kernel.receive_many(heard, 9).unwrap().is_empty() && kernel.letters_open() == 0, "ER5");
    let (kernel, _image) = world.crashed();
    assert_eq!(kernel.open_sealed(&letter), OpenedSeal::Erased, "ER1: by no later opening either");
    let to = agent(&kernel, "to");
    let (heard, _) = kernel.subscribe(to, "orders.*").unwrap();
    assert!(kernel.receive_many(heard, 9).unwrap().is_empty(), "ER5");
}

#[test]
fn k109_a_publication_that_is_kept_waits_for_persons_and_goes_out_once_they_have_agreed() {
    // The same rule for the publication and for each way that it goes: persons agree once, to the whole.
    let rules = "permit(principal, action, resource) unless { action in [Action::\"message.publish\", Action::\"message.send\", Action::\"message.subscribe\"] };
         @id(\"ask\") @obligation(\"approval\")
         permit(principal, action in [Action::\"message.publish\", Action::\"message.send\"], resource);
         @id(\"hear\") permit(principal, action == Action::\"message.subscribe\", resource);";
    let mut world = World::with(Some(policies(rules, &[])));
    let kernel = world.kernel();
    let (from, to) = (agent(&kernel, "from"), agent(&kernel, "to"));
    let (heard, _) = kernel.subscribe(to, "orders.*").unwrap();
    let Err(MessageError::Agent(AgentError::Refused(refused))) = begin(&kernel, from, "all of it", None)
    else {
        panic!("a person is asked")
    };
    assert_eq!(refused.code, RefusalCode::NeedsApproval, "{refused}");
    let id = refused.approval.unwrap();
    let shown = String::from_utf8(kernel.approval_arguments(id).unwrap()).unwrap();
    assert_eq!(shown, "{\"text\":\"all of it\"}", "K175");
    kernel.say(OPERATOR, "ann", id, &Word::Approve).unwrap();
    publish(&kernel, from, "all of it", None);
    assert_eq!(said(&kernel.receive_many(heard, 9).unwrap()), ["all of it"]);
    assert!(begin(&kernel, from, "all of it", None).is_err(), "K105: once");
}
