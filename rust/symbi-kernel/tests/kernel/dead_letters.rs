//! K205, K206: what was given up, who sees it, who says what becomes of it.

use symbi_bus::DeadReason;
use symbi_kernel::{
    AgentError, DeliveryOptions, Guarantee, Kernel, MessageError, MessageId, Payload, Principal, Recipient,
    SendOptions,
};
use symbi_types::AgentId;

use crate::world::*;

const READERS: &str = "permit(principal, action, resource) unless { action == Action::\"message.read\" };
permit(principal == Operator::\"1000\", action == Action::\"message.read\", resource == Agent::\"to\")
unless { context.labels.contains(\"secret\") };";

fn dead(kernel: &Kernel, from: AgentId, to: AgentId, says: &str) -> MessageId {
    let options = SendOptions { guarantee: Guarantee::AtLeastOnce, ..SendOptions::default() };
    let payload = Payload::Bytes(says.as_bytes().to_vec());
    let id = kernel.send_with(from, &Recipient::Agent(to), payload, &options).unwrap().id;
    assert_eq!(kernel.receive_many(to, 1).unwrap().len(), 1);
    kernel.give_back(to, to, id).unwrap();
    kernel.pass_deliveries();
    assert_eq!(kernel.dead_letters().0.last().unwrap().id, id);
    id
}

fn world(rules: &str) -> World {
    let mut world = World::with(Some(policies(rules, &[])));
    world.messaging.deliveries = DeliveryOptions { attempts_max: 1, ..DeliveryOptions::default() };
    world
}

fn is_refused<T>(answer: &Result<T, MessageError>) -> bool {
    matches!(answer, Err(MessageError::Agent(AgentError::Refused(_))))
}

#[test]
fn k205_what_a_dead_letter_says_is_for_whom_policy_names_and_its_reading_is_recorded() {
    let mut world = world(READERS);
    let kernel = world.kernel();
    let (from, to, other) = (agent(&kernel, "from"), agent(&kernel, "to"), agent(&kernel, "other"));
    let id = dead(&kernel, from, to, "the words");
    let elsewhere = dead(&kernel, from, other, "of another");
    let secret = dead(&kernel, from, to, "AKIAIOSFODNN7ABCDEFG is the key");
    let shown = kernel.dead_letters().0;
    assert_eq!(
        (shown[0].recipient, shown[0].recipient_name.as_deref(), shown[0].reason),
        (Some(to), Some("to"), DeadReason::Attempts)
    );
    assert!(!format!("{shown:?}").contains("the words"));
    for by in [Principal::Host, Principal::Agent(to), Principal::Operator(1001)] {
        assert!(is_refused(&kernel.read_dead_letter(by, id, None)), "K205: {by}");
    }
    assert!(is_refused(&kernel.read_dead_letter(OPERATOR, elsewhere, None)), "K205: another's mail");
    assert!(is_refused(&kernel.read_dead_letter(OPERATOR, secret, None)), "K205: by its labels");
    let (payload, seq) = kernel.read_dead_letter(OPERATOR, id, Some(to)).unwrap();
    assert!(matches!(payload, symbi_kernel::Body::Bytes(bytes) if &bytes[..] == b"the words"));
    assert!(kernel.read_dead_letter(OPERATOR, id, Some(other)).is_err(), "there is none there");
    kernel.close().unwrap();
    let record = world.records().into_iter().find(|record| record.seq == seq).unwrap();
    assert!(record.details.contains("message.read") && record.details.contains(&id.to_string()));
}

#[test]
fn k206_a_letter_is_put_back_or_thrown_away_once_and_the_trail_says_by_whom() {
    let mut world = World::with(None);
    world.messaging.deliveries = DeliveryOptions { attempts_max: 1, ..DeliveryOptions::default() };
    let kernel = world.kernel();
    let (from, to) = (agent(&kernel, "from"), agent(&kernel, "to"));
    let [first, second] = ["first", "second"].map(|says| dead(&kernel, from, to, says));
    assert!(is_refused(&kernel.discard(Principal::Host, first, None)), "a person throws things away");
    assert!(is_refused(&kernel.discard(Principal::Agent(to), first, None)));
    let seq = kernel.discard(OPERATOR, first, Some(to)).unwrap();
    assert!(kernel.discard(OPERATOR, first, None).is_err(), "K206: once");
    assert!(kernel.revive(OPERATOR, first, None).is_err());
    kernel.revive(OPERATOR, second, None).unwrap();
    assert!(kernel.revive(OPERATOR, second, None).is_err(), "K206: once");
    let again = kernel.receive_many(to, 9).unwrap();
    assert_eq!((again.len(), again[0].id, again[0].attempt), (1, second, 1));
    assert!(kernel.dead_letters().0.is_empty());
    kernel.close().unwrap();
    let records = world.records();
    let thrown = records.iter().find(|record| record.seq == seq).unwrap();
    assert!(thrown.details.contains("\"discarded\"") && thrown.details.contains("operator:1000"));
    let of_second: Vec<_> = records
        .iter()
        .filter(|record| record.details.contains(&format!("\"revived\":\"{second}\"")))
        .collect();
    let actions = ["operation.resolve", "message.send"];
    assert_eq!(of_second.len(), 2);
    assert!(of_second.iter().zip(actions).all(|(record, action)| record.details.contains(action)));
}

#[test]
fn k206_what_policy_forbids_to_send_stays_a_dead_letter() {
    let mut world = world(OPEN);
    let kernel = world.kernel();
    let (from, to) = (agent(&kernel, "from"), agent(&kernel, "to"));
    let id = dead(&kernel, from, to, "x");
    let stricter =
        format!("{OPEN}\nforbid(principal, action == Action::\"message.send\", resource == Agent::\"to\");");
    kernel.load_policies(OPERATOR, &policies(&stricter, &[])).unwrap();
    assert!(is_refused(&kernel.revive(OPERATOR, id, None)));
    assert_eq!(kernel.dead_letters().0[0].id, id);
    kernel.stop_agent(OPERATOR, to, true).unwrap();
    kernel.discard(OPERATOR, id, None).unwrap(); // whose reader is gone can still be thrown away
    assert!(kernel.dead_letters().0.is_empty());
}
