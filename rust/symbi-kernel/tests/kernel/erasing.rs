//! ER5, ER7: forgetting a person against holding one, and what a trial says against what is done.

use std::sync::Arc;

use symbi_kernel::{
    Durable, Erasure, Guarantee, HoldChange, Kernel, OperatorError, Outcome, Passage, Payload, Principal,
    Priority, Recipient, RefusalCode, SendOptions,
};
use symbi_types::{AgentId, LabelSet, Part};

use crate::supervise::{supervised, thrice};
use crate::world::*;

/// Turns that a thread is given to come as far as it can; more than it needs.
const TURNS: usize = 20_000;

/// Records that are on disk, or wait for it.
fn written(kernel: &Kernel) -> u64 {
    kernel.durable() + kernel.records_waiting() as u64
}

/// Until a record was added, or nobody will add one.
fn until_written(kernel: &Kernel, before: u64) {
    for _ in 0..TURNS {
        if written(kernel) > before {
            return;
        }
        std::thread::yield_now();
    }
}

type Erased = Result<Vec<Erasure>, OperatorError>;

/// Both at once, while the disk stands still: the second begins when the first has been decided and recorded.
fn at_once(world: &World, kernel: &Arc<Kernel>, hold_first: bool) -> (Result<u64, OperatorError>, Erased) {
    let hold = || kernel.change_hold(OPERATOR, "jane", &HoldChange::Add("a case".to_owned()));
    let erase = || kernel.erase_subject(OPERATOR, "jane");
    let stalled = world.stall();
    std::thread::scope(|scope| {
        let before = written(kernel);
        if hold_first {
            let held = scope.spawn(hold);
            until_written(kernel, before);
            let before = written(kernel);
            let erased = scope.spawn(erase);
            until_written(kernel, before);
            drop(stalled);
            (held.join().unwrap(), erased.join().unwrap())
        } else {
            let erased = scope.spawn(erase);
            until_written(kernel, before);
            let before = written(kernel);
            let held = scope.spawn(hold);
            until_written(kernel, before);
            drop(stalled);
            (held.join().unwrap(), erased.join().unwrap())
        }
    })
}

#[test]
fn er7_of_a_hold_and_an_erasure_at_once_one_is_first_and_what_is_held_is_not_erased() {
    let mut world = World::open_to_all().on_stalling_disk();
    let kernel = world.kernel();
    let jane = kernel.labels(&["subject:jane"]).unwrap();
    let known = kernel.pseudonym_of("jane").unwrap().unwrap();
    let (held, erased) = at_once(&world, &kernel, true);
    held.unwrap();
    let Err(OperatorError::Agent(refused)) = erased else { panic!("ER7: it is held") };
    assert_eq!(refusal::<()>(Err(refused)).code, RefusalCode::Denied, "ER7");
    assert_eq!(kernel.holds()[0].pseudonym, known);
    assert_eq!(kernel.labels(&["subject:jane"]).unwrap(), jane, "ER7: her key is there");
    kernel.change_hold(OPERATOR, "jane", &HoldChange::Remove).unwrap();
    let (held, erased) = at_once(&world, &kernel, false);
    assert_eq!(erased.unwrap()[0].pseudonym, known);
    held.unwrap(); // of what may come: nothing is known of her any more
    let holds = kernel.holds();
    assert!(holds.len() == 1 && holds[0].pseudonym != known, "ER7: nobody who was erased is said to be held");
    assert_eq!(kernel.pseudonym_of("jane").unwrap().as_ref(), Some(&holds[0].pseudonym));
}

fn part(says: &str, labels: &LabelSet) -> Payload {
    Payload::Parts(vec![Part { text: says.to_owned(), labels: labels.clone(), source: None }])
}

/// Something of these persons in every place that may hold something.
fn plant(kernel: &Arc<Kernel>, labels: &LabelSet) -> (AgentId, AgentId) {
    let (from, to) = (agent(kernel, "from"), agent(kernel, "to"));
    let reader = Recipient::Agent(to);
    let once = SendOptions { guarantee: Guarantee::AtLeastOnce, ..SendOptions::default() };
    kernel.send_with(from, &reader, part("handed out", labels), &once).unwrap();
    kernel.receive_many(to, 9).unwrap();
    kernel.send_with(from, &reader, part("unread", labels), &once).unwrap();
    kernel.send(from, &reader, part("unread, once at most", labels), None, false).unwrap();
    let begun = kernel.begin_durable(from, &reader, part("kept", labels), &SendOptions::default());
    let Ok(Durable::Begun(begun)) = begun else { panic!("begun") };
    kernel.wait_durable(begun.intent_seq(), SOON).unwrap();
    kernel.deliver_durable(*begun).unwrap();
    let writer = agent(kernel, "writer");
    let (_, seq) = kernel.write_labelled(writer, "of her", "an address", &[], labels).unwrap();
    kernel.wait_durable(seq, SOON).unwrap();
    let passage = Passage { labels: labels.clone(), ..passage("no document names it") };
    kernel.ingest(writer, "loose", vec![passage]).unwrap();
    let one = supervised(kernel, "supervised", thrice());
    tool(kernel, "look");
    kernel.begin_attempt(Principal::Host, one, b"{}", labels, Priority::NORMAL, None).unwrap();
    let permit = ask(kernel, one, "look").unwrap();
    take(kernel, &permit);
    permit.settle_with(&Outcome::Done, Some(b"a result of hers".to_vec())).unwrap();
    tool(kernel, "ask");
    assert_eq!(refusal(ask(kernel, one, "ask")).code, RefusalCode::NeedsApproval);
    (to, one)
}

#[test]
fn er5_a_trial_says_what_the_erasure_will_do_place_by_place_and_does_none_of_it() {
    let rules = "permit(principal, action, resource) unless { resource == Tool::\"ask\" };
         @obligation(\"approval\") permit(principal, action == Action::\"tool.call\", resource == Tool::\"ask\");";
    let mut world = World::with(Some(policies(rules, &[])));
    let kernel = world.kernel();
    let jane = kernel.labels(&["subject:jane"]).unwrap();
    let john = kernel.labels(&["subject:john"]).unwrap();
    plant(&kernel, &john);
    plant(&kernel, &jane);
    plant(&kernel, &jane.union(&john));
    let (of_john, of_jane) = (kernel.try_erasure("john").unwrap(), kernel.try_erasure("jane").unwrap());
    let again = kernel.try_erasure("jane").unwrap();
    assert_eq!(of_jane[0].places, again[0].places, "a trial changes nothing");
    for place in ["tasks", "mailboxes", "deliveries", "approvals", "contents", "knowledge", "documents"] {
        assert!(
            of_jane[0].places.get(place).is_some_and(|count| *count > 0),
            "{place}: {:?}",
            of_jane[0].places
        );
    }
    let erased = kernel.erase_subject(OPERATOR, "jane").unwrap();
    assert_eq!(erased[0].places, of_jane[0].places, "ER5");
    assert_eq!(erased[0].agents, of_jane[0].agents);
    settle_disk(&kernel, agent(&kernel, "last"));
    let dead = world.of_type("message.dead");
    assert_eq!(dead.len() as u64, of_jane[0].places["deliveries"], "K155: one record each");
    assert!(of_john[0].places["mailboxes"] > kernel.try_erasure("john").unwrap()[0].places["mailboxes"]);
    let nothing = kernel.try_erasure("jane");
    assert!(nothing.is_err(), "nothing is known of her any more");
}
